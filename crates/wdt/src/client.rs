use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kingpost_outbound::{HttpClient, HttpOptions, HttpSetupError, redact};
use secrecy::SecretString;

use crate::answer::{self, Page};
use crate::config::{ConfigError, ConfigProblem, Transport, WdtConfig};
use crate::error::{Class, WdtError};
use crate::methods::Method;
use crate::request::{Account, Query};

/// A client of one WDT account. Cloning shares the connections.
#[derive(Clone)]
pub struct Client {
    account: Arc<Account>,
    config: Arc<WdtConfig>,
    http: HttpClient,
    clock: Clock,
    timeout: Option<Duration>,
    /// Seconds by which the server was ahead of us; [`UNSEEN`] before its first answer.
    ahead: Arc<AtomicI64>,
}

const UNSEEN: i64 = i64::MIN;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Longest text taken over from an answer, in characters; some gateways send whole pages in a message.
const LONGEST_TEXT: usize = 500;

impl Client {
    /// Checks `config` and prepares the connections; connects nowhere yet.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, an unusable certificate file among them.
    pub fn new(config: WdtConfig) -> Result<Self, ConfigError> {
        let mut problems = config.validate().err().map_or_else(Vec::new, |error| error.problems);
        let http =
            HttpClient::new(&HttpOptions { ca_file: config.ca_file.clone(), ..HttpOptions::default() })
                .map_err(|error| problems.push(http_problem(&error)))
                .ok();
        match (Account::new(&config), http) {
            (Some(account), Some(http)) if problems.is_empty() => Ok(Self {
                account: Arc::new(account),
                config: Arc::new(config),
                http,
                clock: Arc::new(Timestamp::now),
                timeout: None,
                ahead: Arc::new(AtomicI64::new(UNSEEN)),
            }),
            _ => Err(ConfigError { problems }),
        }
    }

    /// Has the server's own certificate (DER) told with its first answer, and whenever it is another one.
    pub fn on_peer_certificate(&self, tell: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.http.on_peer_certificate(tell);
    }

    /// Takes the time of signatures from `clock` instead of the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Ends each call after `timeout` instead of 60 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The gateway this client speaks to.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.account.transport()
    }

    /// Seconds by which the server's clock was ahead of ours at its last answer (negative: behind), refusals included;
    /// `None` before that. What the call itself may have taken is not counted.
    #[must_use]
    pub fn server_ahead(&self) -> Option<i64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNSEEN)
    }

    /// Asks for one page, once: no retry, no waiting. Every call is signed anew with the time of the clock.
    ///
    /// # Errors
    /// [`WdtError`]; nothing that went wrong is ever an empty page.
    pub async fn query(&self, query: &Query) -> Result<Page, WdtError> {
        let now = (self.clock)();
        let call = self.account.call(query, now, self.timeout).map_err(WdtError::refused_request)?;
        let response = self.http.post(call.request).await.map_err(WdtError::transport)?;
        let method = Method::find(&query.method);
        let server_time = response.date.as_deref().and_then(server_time);
        if let Some(server) = server_time {
            let ahead = ahead(server.as_second(), now.as_second(), (self.clock)().as_second());
            self.ahead.store(ahead, Ordering::Relaxed);
        }
        let page = answer::read(self.transport(), method, &response).map_err(|mut error| {
            if error.class == Class::Clock {
                error.text.extend(server_time.map(|server| skew(server, now)));
            }
            self.cleaned(error, &call.signs)
        })?;
        Ok(Page { server_time, ..page })
    }

    /// An error without anything that a server echoed of our secrets or signatures.
    fn cleaned(&self, error: WdtError, signs: &[SecretString]) -> WdtError {
        let secrets: Vec<&SecretString> = self.account.secrets.iter().chain(signs).collect();
        let clean = |text: &str| {
            let text = redact(text, &secrets);
            match text.char_indices().nth(LONGEST_TEXT) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.into_owned(),
            }
        };
        WdtError {
            text: clean(&error.text),
            code: error.code.as_deref().map(clean),
            sub_code: error.sub_code.as_deref().map(clean),
            ..error
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.config)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The time in a `Date` header.
fn server_time(date: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(date).ok()
}

/// How far a server's clock is ahead, when it read `server` at some time between two readings of ours.
fn ahead(server: i64, before: i64, after: i64) -> i64 {
    if server > after { server - after } else { (server - before).min(0) }
}

/// How far the server's clock is from the time of the call, for the person who has to set a clock.
fn skew(server: Timestamp, now: Timestamp) -> String {
    let seconds = server.as_second() - now.as_second();
    let direction = if seconds >= 0 { "ahead of" } else { "behind" };
    format!(" [the server's clock is {} s {direction} ours]", seconds.abs())
}

fn http_problem(error: &HttpSetupError) -> ConfigProblem {
    let field = match error {
        HttpSetupError::CaFileUnreadable { .. } | HttpSetupError::CaFileInvalid { .. } => "ca_file",
        HttpSetupError::Refused { .. } => "http",
    };
    ConfigProblem { field, text: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_call_is_not_taken_for_a_clock_that_differs() {
        assert_eq!(ahead(105, 100, 110), 0);
        assert_eq!(ahead(100, 100, 100), 0);
        assert_eq!(ahead(170, 100, 110), 60);
        assert_eq!(ahead(40, 100, 110), -60);
    }
}
