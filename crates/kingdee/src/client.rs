use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kingpost_outbound::{Delivery, HttpClient, HttpOptions, HttpSetupError, Request, Response, redact};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;

use crate::answer::{Cell, SaveAnswer};
use crate::body::{Answer, BodyFault, decode, excerpt};
use crate::catalogue::{Catalogue, Class};
use crate::clock::{Clock, SystemClock, ahead_during, server_ahead};
use crate::config::{Auth, ConfigError, KingdeeConfig};
use crate::error::{KingdeeError, LoginClass, UnknownCause};
use crate::lookup::{Found, LookUp};
use crate::request::{self, BillQuery, SaveOption, call_timeout};
use crate::session::{self, Session, Shared};
use crate::sign;

const DOCUMENTS: &str = "Kingdee.BOS.WebApi.ServicesStub.DynamicFormService.";
const SESSIONS: &str = "Kingdee.BOS.WebApi.ServicesStub.AuthService.";

/// For every call that changes nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that a proxy is obeyed when it asks to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// A clock difference from which on it is named as a possible cause, in seconds.
const NOTABLE_SKEW: u64 = 60;

/// A client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Problems of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Problems of certificates or the TLS stack.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
}

/// Client of one account set. Clones share connections and session.
///
/// A write is sent once, whatever happens. A read is repeated once, after a new login, when the session was lost.
#[derive(Clone)]
pub struct KingdeeClient(Arc<Inner>);

struct Inner {
    http: HttpClient,
    base: String,
    config: KingdeeConfig,
    clock: Arc<dyn Clock>,
    shared: Shared,
    /// Seconds by which the server was ahead of us; [`UNSEEN`] before its first answer.
    ahead: AtomicI64,
    /// Everything that must not come back out of a server's text.
    secrets: Vec<SecretString>,
}

const UNSEEN: i64 = i64::MIN;

/// A client with a session at hand. Its writes go out on that session and no other: they never log in first, and if
/// the server has forgotten the session meanwhile they fail with [`KingdeeError::Session`].
pub struct Ready {
    client: KingdeeClient,
    session: Arc<Session>,
}

impl Ready {
    /// [`KingdeeClient::batch_save`] without a login before it.
    ///
    /// # Errors
    /// As there.
    pub async fn batch_save(
        &self,
        form: &str,
        options: &[SaveOption],
        models: &[Bytes],
    ) -> Result<SaveAnswer, KingdeeError> {
        self.write("BatchSave", request::batch_save(form, options, models)?, models.len()).await
    }

    /// [`KingdeeClient::submit`] without a login before it.
    ///
    /// # Errors
    /// As there.
    pub async fn submit(&self, form: &str, ids: &[&str]) -> Result<SaveAnswer, KingdeeError> {
        self.write("Submit", request::submit(form, ids)?, ids.len()).await
    }

    /// [`KingdeeClient::audit`] without a login before it.
    ///
    /// # Errors
    /// As there.
    pub async fn audit(&self, form: &str, ids: &[&str]) -> Result<SaveAnswer, KingdeeError> {
        self.write("Audit", request::audit(form, ids)?, ids.len()).await
    }

    async fn write(&self, method: &str, body: Bytes, documents: usize) -> Result<SaveAnswer, KingdeeError> {
        match self.call(method, body, call_timeout(documents), true).await? {
            Answer::Status { answer, .. } => Ok(answer),
            Answer::Rows(_) => Err(KingdeeError::Unexpected {
                write: true,
                text: format!("{method}: rows in the place of a status"),
            }),
        }
    }

    async fn call(
        &self,
        method: &str,
        body: Bytes,
        timeout: Duration,
        write: bool,
    ) -> Result<Answer, KingdeeError> {
        let result = self.client.exchange(method, body, timeout, write, &self.session).await;
        match &result {
            Ok(_) => self.session.prove(),
            Err(KingdeeError::Session { .. }) => self.client.0.shared.drop_session(&self.session).await,
            Err(_) => {}
        }
        result
    }
}

impl KingdeeClient {
    /// A client on the system's clock; connects nowhere yet.
    ///
    /// # Errors
    /// [`SetupError`] with every problem of the configuration, or that of the certificate file.
    pub fn new(config: KingdeeConfig) -> Result<Self, SetupError> {
        Self::with_clock(config, Arc::new(SystemClock))
    }

    /// [`new`](Self::new) with a clock of one's own, which requests are signed with.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(config: KingdeeConfig, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let base = config.check()?;
        let http =
            HttpClient::new(&HttpOptions { ca_file: config.ca_file.clone(), ..HttpOptions::default() })?;
        let client_secret = sign::client_secret(&config.app_id);
        if client_secret.expose_secret().is_empty() && config.auth == Auth::SignHeaders {
            tracing::warn!(
                "the application id has no tail of 32 characters: gateways will refuse its signature"
            );
        }
        let tail = config.app_id.split_once('_').map_or_else(SecretString::default, |(_, tail)| tail.into());
        let secrets = vec![config.app_secret.clone(), client_secret, tail];
        let (shared, ahead) = (Shared::default(), AtomicI64::new(UNSEEN));
        Ok(Self(Arc::new(Inner { http, base, config, clock, shared, ahead, secrets })))
    }

    /// Has the server's own certificate (DER) told with its first answer, and whenever it is another one.
    pub fn on_peer_certificate(&self, tell: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.0.http.on_peer_certificate(tell);
    }

    /// Saves documents of one form. Not atomic: judge the answer with
    /// [`per_document`](crate::classify::per_document). Takes at most [`call_timeout`].
    ///
    /// `models` are JSON objects that go out as they are, byte for byte; `options` go in front of them, in order.
    ///
    /// # Errors
    /// [`KingdeeError`]; when its `look_up_first` is true, look the documents up before posting them again.
    pub async fn batch_save(
        &self,
        form: &str,
        options: &[SaveOption],
        models: &[Bytes],
    ) -> Result<SaveAnswer, KingdeeError> {
        let body = request::batch_save(form, options, models)?;
        self.ready().await?.write("BatchSave", body, models.len()).await
    }

    /// Submits saved documents (`Z`, `A`, `D`) by their `FID`s. Not atomic.
    ///
    /// # Errors
    /// [`KingdeeError`]; when its `look_up_first` is true, read the documents' status before going on.
    pub async fn submit(&self, form: &str, ids: &[&str]) -> Result<SaveAnswer, KingdeeError> {
        let body = request::submit(form, ids)?;
        self.ready().await?.write("Submit", body, ids.len()).await
    }

    /// Audits submitted documents (`B`) by their `FID`s. Not atomic. One inside a workflow is refused.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn audit(&self, form: &str, ids: &[&str]) -> Result<SaveAnswer, KingdeeError> {
        let body = request::audit(form, ids)?;
        self.ready().await?.write("Audit", body, ids.len()).await
    }

    /// Logs in and changes the organisation if that is needed, which may take minutes, so that a write can follow at
    /// once: whoever must ask something right before it (may I still write?) asks between the two. With header signing
    /// there is nothing to do.
    ///
    /// # Errors
    /// [`KingdeeError`] of the login; nothing was written.
    pub async fn ready(&self) -> Result<Ready, KingdeeError> {
        let now = self.0.clock.unix_seconds();
        let session = self.0.shared.get(now, async || self.begin().await).await?;
        Ok(Ready { client: self.clone(), session })
    }

    /// Rows of a query, each with as many cells as fields were asked for.
    ///
    /// # Errors
    /// [`KingdeeError`]; `Refused` when the server objects to the query.
    pub async fn execute_bill_query(&self, query: &BillQuery) -> Result<Vec<Vec<Cell>>, KingdeeError> {
        match self.read("ExecuteBillQuery", query.body()?).await? {
            Answer::Rows(rows) => match rows.iter().find(|row| row.len() != query.fields.len()) {
                None => Ok(rows),
                Some(row) => Err(KingdeeError::Unexpected {
                    write: false,
                    text: format!(
                        "a row of {} cells for {} fields in {}",
                        row.len(),
                        query.fields.len(),
                        query.form
                    ),
                }),
            },
            Answer::Status { answer, .. } if answer.is_success => Err(KingdeeError::Unexpected {
                write: false,
                text: format!("a status in the place of rows of {}", query.form),
            }),
            Answer::Status { answer, .. } => Err(KingdeeError::Refused(Box::new(answer))),
        }
    }

    /// Which documents with these keys exist; in no promised order, and more than one for a key is possible.
    ///
    /// # Errors
    /// As [`execute_bill_query`](Self::execute_bill_query); `Invalid` for a key with characters that have no place
    /// in a filter. An error proves nothing about any document.
    pub async fn look_up(&self, what: &LookUp, keys: &[&str]) -> Result<Vec<Found>, KingdeeError> {
        let mut found = Vec::new();
        for query in what.queries(keys)? {
            found.extend(what.found(self.execute_bill_query(&query).await?)?);
        }
        Ok(found)
    }

    /// The whole document with this number, as JSON in the server's own names.
    ///
    /// # Errors
    /// [`KingdeeError`]; `Refused` when there is none or the user may not see it.
    pub async fn view(&self, form: &str, number: &str) -> Result<Box<RawValue>, KingdeeError> {
        let (result, _) = self.granted("View", request::view(form, number)?).await?;
        self.present(result, "View", "Result")
    }

    /// Metadata of a form (`NeedReturnData`), as JSON. Slow on the server: keep it.
    ///
    /// # Errors
    /// [`KingdeeError`]; `Refused` when there is no such form.
    pub async fn query_business_info(&self, form: &str) -> Result<Box<RawValue>, KingdeeError> {
        let (_, return_data) = self.granted("QueryBusinessInfo", request::business_info(form)?).await?;
        self.present(return_data, "QueryBusinessInfo", "NeedReturnData")
    }

    /// Seconds by which the server's clock was ahead of ours at its last answer (negative: behind), refusals included;
    /// `None` before that. What the call itself may have taken is not counted.
    #[must_use]
    pub fn server_ahead(&self) -> Option<i64> {
        Some(self.0.ahead.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNSEEN)
    }

    /// Ends the session, which holds memory on the server. Without one it does nothing.
    ///
    /// # Errors
    /// [`KingdeeError`] when there was no whole answer with status 200; the session is forgotten all the same.
    pub async fn logout(&self) -> Result<(), KingdeeError> {
        let Some(session) = self.0.shared.take().await.filter(|session| !session.headers().is_empty()) else {
            return Ok(());
        };
        let body = Bytes::from_static(br#"{"parameters":[]}"#);
        let response = self.post(&service(SESSIONS, "Logout"), body, READ_TIMEOUT, false, &session).await?;
        if matches!(response.status, 200 | 206) {
            return Ok(());
        }
        let text = "logout".to_owned();
        Err(KingdeeError::Unknown { cause: UnknownCause::Status(response.status), write: false, text })
    }

    async fn read(&self, method: &str, body: Bytes) -> Result<Answer, KingdeeError> {
        match self.call(method, body.clone()).await {
            Err(KingdeeError::Session { after_login: false, .. }) => self.call(method, body).await,
            result => result,
        }
    }

    async fn granted(
        &self,
        method: &str,
        body: Bytes,
    ) -> Result<(Option<Box<RawValue>>, Option<Box<RawValue>>), KingdeeError> {
        match self.read(method, body).await? {
            Answer::Status { answer, result, return_data } if answer.is_success => Ok((result, return_data)),
            Answer::Status { answer, .. } => Err(KingdeeError::Refused(Box::new(answer))),
            Answer::Rows(_) => Err(KingdeeError::Unexpected {
                write: false,
                text: format!("{method}: rows in the place of a status"),
            }),
        }
    }

    fn present(
        &self,
        member: Option<Box<RawValue>>,
        method: &str,
        name: &str,
    ) -> Result<Box<RawValue>, KingdeeError> {
        member.filter(|value| value.get() != "null").ok_or_else(|| KingdeeError::Unexpected {
            write: false,
            text: format!("{method}: success without {name}"),
        })
    }

    async fn call(&self, method: &str, body: Bytes) -> Result<Answer, KingdeeError> {
        self.ready().await?.call(method, body, READ_TIMEOUT, false).await
    }

    async fn exchange(
        &self,
        method: &str,
        body: Bytes,
        timeout: Duration,
        write: bool,
        session: &Session,
    ) -> Result<Answer, KingdeeError> {
        let response = self.post(&service(DOCUMENTS, method), body, timeout, write, session).await?;
        let clean = |text: String| self.clean(&format!("{method}: {text}"), session);
        let lost = |text: String, after_login: bool, answered: bool| KingdeeError::Session {
            after_login,
            answered,
            text: format!("{}{}", clean(text), self.skew(&response)),
        };
        if let Some(retry_after) = turned_away(&response) {
            let text =
                format!("http status {}: {}", response.status, String::from_utf8_lossy(&response.body));
            return Err(KingdeeError::Busy { retry_after, text: clean(text) });
        }
        match decode(response.status, &response.body) {
            Ok(Answer::Status { answer, .. }) if is_session_loss(&answer) => {
                Err(lost(answer.to_string(), !session.is_proven(), true))
            }
            // The code of a lost session with a text that names a fault of the configuration.
            Ok(Answer::Status { answer, .. }) if is_stranger(&answer) => {
                Err(lost(answer.to_string(), true, true))
            }
            Ok(answer) => Ok(answer),
            Err(BodyFault::Session { answered, text }) => Err(lost(text, !session.is_proven(), answered)),
            Err(BodyFault::Unknown(cause, text)) => {
                Err(KingdeeError::Unknown { cause, write, text: clean(text) })
            }
            Err(BodyFault::Unexpected(text)) => Err(KingdeeError::Unexpected { write, text: clean(text) }),
        }
    }

    async fn post(
        &self,
        service: &str,
        body: Bytes,
        timeout: Duration,
        write: bool,
        session: &Session,
    ) -> Result<Response, KingdeeError> {
        let inner = &self.0;
        let url = format!("{}/{service}", inner.base);
        let mut headers = match inner.config.auth {
            Auth::SignHeaders => sign::headers(&inner.config, &url, inner.clock.unix_seconds()),
            Auth::LoginBySign => session.headers(),
        };
        headers.push(("Accept-Charset".to_owned(), "utf-8".to_owned()));
        let request = Request {
            url,
            query_is_secret: false,
            headers,
            content_type: "application/json",
            body,
            timeout: Some(timeout),
        };
        let before = inner.clock.unix_seconds();
        let answer = inner.http.post(request).await;
        let date = answer.as_ref().ok().and_then(|answer| answer.date.as_deref());
        if let Some(ahead) = ahead_during(date, before, inner.clock.unix_seconds()) {
            inner.ahead.store(ahead, Ordering::Relaxed);
        }
        answer.map_err(|error| match error.delivery {
            Delivery::NotSent => KingdeeError::NotSent { timeout: error.timeout, text: error.text },
            Delivery::Unknown => {
                let cause = if error.timeout { UnknownCause::TimedOut } else { UnknownCause::Transport };
                KingdeeError::Unknown { cause, write, text: error.text }
            }
        })
    }

    async fn begin(&self) -> Result<Session, KingdeeError> {
        if self.0.config.auth == Auth::SignHeaders {
            return Ok(Session::stateless());
        }
        let result = self.login().await;
        if let Err(KingdeeError::LoginRefused(refusal)) = &result {
            tracing::error!(result_type = refusal.result_type, message = refusal.message, "login refused");
        }
        result
    }

    async fn login(&self) -> Result<Session, KingdeeError> {
        let inner = &self.0;
        let body = session::login_body(&inner.config, inner.clock.unix_seconds());
        let anonymous = Session::stateless();
        let response = self
            .post(&service(SESSIONS, "LoginBySign"), body.into(), READ_TIMEOUT, false, &anonymous)
            .await
            .map_err(unsent)?;
        let (session, warning) = session::logged_in(&response).map_err(|error| match error {
            KingdeeError::LoginRefused(mut refusal) => {
                refusal.message =
                    format!("{}{}", self.clean(&refusal.message, &anonymous), self.skew(&response));
                KingdeeError::LoginRefused(refusal)
            }
            KingdeeError::NotSent { timeout, text } => {
                KingdeeError::NotSent { timeout, text: self.clean(&text, &anonymous) }
            }
            other => other,
        })?;
        if let Some(warning) = warning {
            tracing::warn!(message = self.clean(&warning, &session), "login succeeded with a warning");
        }
        if inner.config.org_num != "0" {
            self.switch_org(&session).await?;
        }
        tracing::info!(user = inner.config.username, "logged in");
        Ok(session)
    }

    /// A session starts in the user's default organisation; without the switch documents would go there.
    async fn switch_org(&self, session: &Session) -> Result<(), KingdeeError> {
        let org = &self.0.config.org_num;
        let refused =
            |text: String| session::refused(None, LoginClass::Config, &format!("organisation {org}: {text}"));
        let body = request::switch_org(org)?;
        match self.exchange("SwitchOrg", body, READ_TIMEOUT, false, session).await {
            Ok(Answer::Status { answer, .. }) if answer.is_success => Ok(()),
            Ok(Answer::Status { answer, .. }) => Err(refused(self.clean(&answer.to_string(), session))),
            Ok(Answer::Rows(_)) => Err(refused("rows in the place of a status".to_owned())),
            Err(KingdeeError::Session { text, .. } | KingdeeError::Unexpected { text, .. }) => {
                Err(refused(text))
            }
            Err(error) => Err(unsent(error)),
        }
    }

    /// Names and logs a clock difference, a common cause of refused signatures.
    fn skew(&self, response: &Response) -> String {
        let Some(ahead) = server_ahead(response.date.as_deref(), self.0.clock.unix_seconds()) else {
            return String::new();
        };
        tracing::warn!(
            server_ahead_seconds = ahead,
            "credentials refused; clock difference by the Date header"
        );
        if ahead.unsigned_abs() < NOTABLE_SKEW {
            return String::new();
        }
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        format!("; the server's clock is {} s {side} ours: set ours by NTP", ahead.unsigned_abs())
    }

    fn clean(&self, text: &str, session: &Session) -> String {
        let secrets: Vec<&SecretString> = self.0.secrets.iter().chain(session.secrets()).collect();
        excerpt(&redact(text, &secrets))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("client", &self.client).finish_non_exhaustive()
    }
}

impl fmt::Debug for KingdeeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KingdeeClient").field("config", &self.0.config).finish_non_exhaustive()
    }
}

fn service(prefix: &str, method: &str) -> String {
    format!("{prefix}{method}.common.kdsvc")
}

/// A failure on the way to a session: the call that needed it was not made.
fn unsent(error: KingdeeError) -> KingdeeError {
    match error {
        KingdeeError::Unknown { cause, text, .. } => KingdeeError::NotSent {
            timeout: cause == UnknownCause::TimedOut,
            text: format!("login without answer ({cause}): {text}"),
        },
        other => other,
    }
}

/// Whether an answer says that its request was not handled, and for how long nothing should be asked. A 503 says so
/// only where it names a time: a bare one may stand for a server that went on after its proxy had given up.
fn turned_away(response: &Response) -> Option<Option<Duration>> {
    let seconds = response.header("retry-after").and_then(|text| text.trim().parse::<u64>().ok());
    let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    match response.status {
        429 => Some(wait),
        503 => wait.map(Some),
        _ => None,
    }
}

fn is_session_loss(answer: &SaveAnswer) -> bool {
    !answer.is_success
        && answer.successes.is_empty()
        && Catalogue::builtin().rule(answer.msg_code, &answer.errors).class == Class::SessionLost
}

fn is_stranger(answer: &SaveAnswer) -> bool {
    !answer.is_success && answer.successes.is_empty() && answer.msg_code == Some(1)
}
