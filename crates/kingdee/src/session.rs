//! `LoginBySign`: its request, what its answer means, and the one session that all calls share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kingpost_outbound::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::answer::{integer, truth};
use crate::body::{Answer, BodyFault, decode};
use crate::config::KingdeeConfig;
use crate::error::{KingdeeError, LoginClass, LoginRefusal, UnknownCause};
use crate::sign;

/// Seconds for which a refusal that only a person can mend is answered from memory, because repeated tries may
/// lock the account.
const REFUSAL_HOLDS: u64 = 60;

const SESSION_COOKIE: &str = "kdservice-sessionid";
const ASP_COOKIE: &str = "ASP.NET_SessionId";

/// What calls carry to be recognised; with header signing nothing, but whether a call has ever worked is kept.
pub(crate) struct Session {
    cookies: Vec<(String, SecretString)>,
    proven: AtomicBool,
}

impl Session {
    /// For header signing.
    pub(crate) fn stateless() -> Self {
        Self { cookies: Vec::new(), proven: AtomicBool::new(false) }
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let Some((_, id)) = self.cookies.iter().find(|(name, _)| name == SESSION_COOKIE) else {
            return Vec::new();
        };
        let pairs: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect();
        vec![
            (SESSION_COOKIE.to_owned(), id.expose_secret().to_owned()),
            ("Cookie".to_owned(), pairs.join("; ")),
        ]
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        self.cookies.iter().map(|(_, value)| value)
    }
}

/// The session in use. The lock is held during a login, so that callers who need one wait for the same.
#[derive(Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    current: Option<Arc<Session>>,
    refused: Option<(u64, LoginRefusal)>,
}

impl Shared {
    /// The current session, or one from `login`, which runs at most once at a time.
    pub(crate) async fn get<F>(&self, now: u64, login: F) -> Result<Arc<Session>, KingdeeError>
    where
        F: AsyncFnOnce() -> Result<Session, KingdeeError>,
    {
        let mut state = self.0.lock().await;
        if let Some(session) = &state.current {
            return Ok(session.clone());
        }
        if let Some((at, refusal)) = &state.refused
            && now.abs_diff(*at) < REFUSAL_HOLDS
        {
            return Err(KingdeeError::LoginRefused(refusal.clone()));
        }
        match login().await {
            Ok(session) => {
                let session = Arc::new(session);
                *state = State { current: Some(session.clone()), refused: None };
                Ok(session)
            }
            Err(error) => {
                if let KingdeeError::LoginRefused(refusal) = &error
                    && refusal.class == LoginClass::Config
                {
                    state.refused = Some((now, refusal.clone()));
                }
                Err(error)
            }
        }
    }

    /// Forgets `lost`, unless another caller has replaced it already.
    pub(crate) async fn drop_session(&self, lost: &Arc<Session>) {
        let mut state = self.0.lock().await;
        if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, lost)) {
            state.current = None;
        }
    }

    pub(crate) async fn take(&self) -> Option<Arc<Session>> {
        self.0.lock().await.current.take()
    }
}

/// Body of `LoginBySign`, signed for `seconds`.
pub(crate) fn login_body(config: &KingdeeConfig, seconds: u64) -> String {
    let sign = sign::login(config, seconds);
    serde_json::json!({"parameters": [
        config.acct_id, config.username, config.app_id, seconds.to_string(), sign, config.lcid,
    ]})
    .to_string()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LoginReply<'a> {
    #[serde(borrow)]
    login_result_type: Option<&'a RawValue>,
    message: Option<String>,
    message_code: Option<String>,
    #[serde(rename = "KDSVCSessionId")]
    session_id: Option<String>,
    #[serde(borrow, rename = "IsSuccessByAPI")]
    is_success_by_api: Option<&'a RawValue>,
}

/// The session of a login's answer. What keeps a login from being answered is [`KingdeeError::NotSent`]: the call
/// behind it was not made.
///
/// Beside the session stands the server's warning, if it gave one. No text of this function is free of secrets.
pub(crate) fn logged_in(response: &Response) -> Result<(Session, Option<String>), KingdeeError> {
    let cookies = cookies(response);
    let unwrapped: Option<String> = serde_json::from_slice(&response.body).ok();
    let body = unwrapped.as_deref().map_or(response.body.as_ref(), str::as_bytes);
    let reply = match serde_json::from_slice::<LoginReply<'_>>(body) {
        Ok(reply) if matches!(response.status, 200 | 206) && reply.login_result_type.is_some() => reply,
        _ => return Err(unreadable(response)),
    };
    let result_type = reply.login_result_type.and_then(integer);
    let message = [reply.message, reply.message_code].into_iter().flatten().collect::<Vec<_>>().join(" / ");
    let from_cookie = cookies.iter().find(|(name, _)| name == SESSION_COOKIE).map(|(_, value)| value.clone());
    let session_id = reply.session_id.filter(|id| is_header_safe(id)).or(from_cookie);
    let is_success_by_api = reply.is_success_by_api.is_some_and(truth);
    let class = login_class(result_type, session_id.is_some(), is_success_by_api, &message);
    match (class, session_id) {
        (LoginClass::Success | LoginClass::SuccessWithWarning, Some(id)) => {
            let mut kept = vec![(SESSION_COOKIE.to_owned(), SecretString::from(id))];
            kept.extend(
                cookies
                    .into_iter()
                    .filter(|(name, _)| name == ASP_COOKIE)
                    .map(|(name, value)| (name, SecretString::from(value))),
            );
            let warning = (class == LoginClass::SuccessWithWarning).then_some(message);
            Ok((Session { cookies: kept, proven: AtomicBool::new(false) }, warning))
        }
        (class, _) => {
            let class = if class == LoginClass::Transient { class } else { LoginClass::Config };
            Err(refused(result_type, class, &message))
        }
    }
}

pub(crate) fn refused(result_type: Option<i64>, class: LoginClass, message: &str) -> KingdeeError {
    KingdeeError::LoginRefused(LoginRefusal { result_type, class, message: message.to_owned() })
}

/// Class of a `LoginResultType`, from the login chapter of the official manual.
fn login_class(
    result_type: Option<i64>,
    has_session: bool,
    is_success_by_api: bool,
    message: &str,
) -> LoginClass {
    match result_type {
        Some(1) => LoginClass::Success,
        Some(-2 | -4) if has_session => LoginClass::SuccessWithWarning,
        Some(-5) if has_session || is_success_by_api => LoginClass::SuccessWithWarning,
        Some(-1) => {
            let lower = message.to_lowercase();
            let passing = ["连接", "超时", "繁忙", "服务器忙", "connect", "timeout", "timed out", "busy"];
            if passing.iter().any(|word| lower.contains(word)) {
                LoginClass::Transient
            } else {
                LoginClass::Config
            }
        }
        _ => LoginClass::Config,
    }
}

fn unreadable(response: &Response) -> KingdeeError {
    match decode(response.status, &response.body) {
        Ok(Answer::Status { answer, .. }) => refused(None, LoginClass::Config, &answer.to_string()),
        Ok(Answer::Rows(_)) => refused(None, LoginClass::Config, "rows in the place of a login answer"),
        Err(BodyFault::Session { text, .. } | BodyFault::Unexpected(text)) => {
            refused(None, LoginClass::Config, &text)
        }
        Err(BodyFault::Unknown(UnknownCause::Status(status @ (403 | 404)), text)) => {
            refused(None, LoginClass::Config, &format!("http status {status}, check the address: {text}"))
        }
        Err(BodyFault::Unknown(cause, text)) => {
            KingdeeError::NotSent { timeout: false, text: format!("login without answer ({cause}): {text}") }
        }
    }
}

/// Names and values of the cookies; attributes after the first `;` are left out.
fn cookies(response: &Response) -> Vec<(String, String)> {
    response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .filter_map(|(_, cookie)| cookie.split(';').next()?.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .filter(|(_, value)| is_header_safe(value))
        .collect()
}

fn is_header_safe(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_login_result_type_has_its_class() {
        use LoginClass::{Config, Success, SuccessWithWarning, Transient};
        for (result_type, has_session, by_api, message, class) in [
            (Some(1), true, true, "", Success),
            (Some(0), false, false, "密码错误", Config),
            (Some(-1), false, false, "登录失败", Config),
            (Some(-1), false, false, "数据库连接失败", Transient),
            (Some(-1), false, false, "Server BUSY", Transient),
            (Some(-2), true, false, "", SuccessWithWarning),
            (Some(-2), false, true, "", Config),
            (Some(-3), true, true, "", Config),
            (Some(-4), true, false, "", SuccessWithWarning),
            (Some(-4), false, false, "", Config),
            (Some(-5), false, true, "", SuccessWithWarning),
            (Some(-5), true, false, "", SuccessWithWarning),
            (Some(-5), false, false, "", Config),
            (Some(-6), false, false, "", Config),
            (Some(-7), false, false, "", Config),
            (Some(42), true, true, "", Config),
            (None, true, true, "", Config),
        ] {
            assert_eq!(
                login_class(result_type, has_session, by_api, message),
                class,
                "{result_type:?} {message}"
            );
        }
    }
}
