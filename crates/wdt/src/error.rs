use std::fmt;
use std::time::Duration;

use kingpost_outbound::TransportError;

/// What a failed call means for the caller. A failed page fails its window: none of these is "no data".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No usable answer: not connected, time-out, half an answer, an HTTP status other than 2xx, no JSON.
    Transport,
    /// Refused for calling too often.
    Throttled {
        /// Length of the ban where the answer tells it, one second added.
        wait: Option<Duration>,
    },
    /// Trouble on the other side that may pass; to be tried again a bounded number of times.
    Retryable,
    /// The interval is longer than the method allows; a shorter one may be asked for.
    WindowTooWide,
    /// The criteria match too much; a shorter interval may be asked for.
    TooBroad,
    /// The timestamp is refused. Every call carries a new one, so a second try is worth while, a third is not.
    Clock,
    /// Wrong or missing credentials, permissions or addresses: every call will fail until a person has mended it.
    Configuration,
    /// The same call will fail again.
    Permanent,
    /// The answer says that all is well and can't be read; rows may be in it.
    Malformed,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport => f.write_str("no usable answer"),
            Self::Throttled { wait: Some(wait) } => write!(f, "throttled for {} s", wait.as_secs()),
            Self::Throttled { wait: None } => f.write_str("throttled"),
            Self::Retryable => f.write_str("trouble that may pass"),
            Self::WindowTooWide => f.write_str("window too wide"),
            Self::TooBroad => f.write_str("criteria too broad"),
            Self::Clock => f.write_str("clocks differ"),
            Self::Configuration => f.write_str("configuration refused"),
            Self::Permanent => f.write_str("refused"),
            Self::Malformed => f.write_str("unreadable answer"),
        }
    }
}

/// Who said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This client, before anything was sent.
    Request,
    /// The network or an HTTP server without a word of WDT or the gateway; `code` is the HTTP status if there is one.
    Http,
    /// The Taobao gateway; `code` and `sub_code` are its own.
    Gateway,
    /// WDT; `code` is its `status`, or its `code` where it sends no status.
    Business,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Http => "http",
            Self::Gateway => "gateway",
            Self::Business => "answer",
        }
    }
}

/// A call that brought no page. Holds no secret and no part of a query string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WdtError {
    /// What it means.
    pub class: Class,
    /// Who said so.
    pub origin: Origin,
    /// Code as sent, of which kind `origin` says.
    pub code: Option<String>,
    /// The gateway's sub code, such as `isv.invalid-parameter`.
    pub sub_code: Option<String>,
    /// The other side's words, secrets redacted and long ones cut, or ours where it had none.
    pub text: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl WdtError {
    pub(crate) fn refused_request(text: String) -> Self {
        Self {
            class: Class::Permanent,
            origin: Origin::Request,
            code: None,
            sub_code: None,
            text,
            advice: "correct the scheme or the caller, nothing was sent",
        }
    }

    pub(crate) fn transport(error: TransportError) -> Self {
        let advice =
            "check that the gateway is up and reachable; the call changes nothing and can be repeated";
        Self::http(None, error.text, advice)
    }

    pub(crate) fn http(code: Option<String>, text: String, advice: &'static str) -> Self {
        Self { class: Class::Transport, origin: Origin::Http, code, sub_code: None, text, advice }
    }

    pub(crate) fn malformed(text: String) -> Self {
        Self {
            class: Class::Malformed,
            origin: Origin::Business,
            code: None,
            sub_code: None,
            text,
            advice: "look at the answer with another tool; a proxy or a new version may have changed its shape",
        }
    }
}

impl fmt::Display for WdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wdt {}: {}", self.origin.as_str(), self.class)?;
        match (&self.code, &self.sub_code) {
            (Some(code), Some(sub_code)) => write!(f, " (code {code}, {sub_code})")?,
            (Some(code), None) => write!(f, " (code {code})")?,
            (None, Some(sub_code)) => write!(f, " ({sub_code})")?,
            (None, None) => {}
        }
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        write!(f, ": {}", self.advice)
    }
}

impl std::error::Error for WdtError {}
