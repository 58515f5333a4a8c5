use std::fmt;
use std::time::Duration;

use crate::answer::SaveAnswer;
use crate::catalogue::{Catalogue, Class};

/// Why a call has no answer that decides something, sorted by what the caller knows about the request.
///
/// The client never repeats a write. After [`look_up_first`](KingdeeError::look_up_first) errors the caller has
/// to look the documents up before it posts again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KingdeeError {
    /// Nothing of this call reached the server (its login may have).
    #[error("not sent: {text}")]
    NotSent {
        /// A deadline of ours ended it.
        timeout: bool,
        /// What happened and where, without secrets.
        text: String,
    },
    /// The request may have been executed, wholly or in part.
    #[error("outcome unknown ({cause}): {text}")]
    Unknown {
        /// The evidence.
        cause: UnknownCause,
        /// The call was a write.
        write: bool,
        /// What happened or the beginning of the body, without secrets.
        text: String,
    },
    /// Turned away, and not handled by whoever says so: HTTP 429 (RFC 6585), or 503 with the seconds to wait (RFC 9110, 15.6.4). What
    /// stands before the server says so, and Kingdee itself has another word for it (MsgCode 14).
    #[error("turned away: {text}")]
    Busy {
        /// How long it asks to be left alone, an hour at most.
        retry_after: Option<Duration>,
        /// The status and the beginning of the body, without secrets.
        text: String,
    },
    /// The server does not know us (any more): MsgCode 1, a text that says so, HTTP 401, or the way to a login
    /// page. The session has been dropped; the next call logs in again.
    #[error("session lost: {text}")]
    Session {
        /// No call has worked since the last login (with header signing: since the last loss), so that the cause
        /// is the configuration: account set, application, allowed users, IP list, or clock.
        after_login: bool,
        /// Kingdee says so itself, in an answer to this very call; else it is a 401, a redirect or a login page, which may
        /// come from what stands before it.
        answered: bool,
        /// The server's words, and the clock skew where it is large.
        text: String,
    },
    /// Login was refused; the call itself was not sent.
    #[error("{0}")]
    LoginRefused(LoginRefusal),
    /// A query, view or metadata call was refused with a parsed answer.
    #[error("refused: {0}")]
    Refused(Box<SaveAnswer>),
    /// Well-formed JSON of a shape that no known answer has.
    #[error("unexpected answer: {text}")]
    Unexpected {
        /// The call was a write, whose outcome is therefore unknown.
        write: bool,
        /// What was expected, and the beginning of the body.
        text: String,
    },
    /// The call can't be made from these arguments; nothing was sent.
    #[error("invalid request: {text}")]
    Invalid {
        /// Which argument, what is wrong, remedy.
        text: String,
    },
}

impl KingdeeError {
    /// True when the server may have executed the request, so that the documents have to be looked up before
    /// anything is posted again. A lost session counts, since that nothing was executed then is not documented, and so does
    /// what was turned away ([`is_turned_away`](KingdeeError::is_turned_away)).
    #[must_use]
    pub fn look_up_first(&self) -> bool {
        match self {
            Self::Unknown { write, .. } | Self::Unexpected { write, .. } => *write,
            Self::Session { .. } | Self::Busy { .. } => true,
            Self::NotSent { .. } | Self::LoginRefused(_) | Self::Refused(_) | Self::Invalid { .. } => false,
        }
    }

    /// True when what stands before Kingdee has answered in its place: nobody knows how often a proxy had tried the request
    /// before, on a server that may go on with it. So a write may still take effect after a look-up that doesn't find it. An
    /// answer of Kingdee's own, a refusal as well, ends its request: what that did, a look-up shows.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Session { answered: false, .. })
    }

    /// What to do about it, by the same classes as answers.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class_by(Catalogue::builtin())
    }

    /// [`class`](KingdeeError::class) with a table of one's own.
    #[must_use]
    pub fn class_by(&self, catalogue: &Catalogue) -> Class {
        let unclear = |write: bool| if write { Class::Unclear } else { Class::Transient };
        match self {
            Self::NotSent { .. } => Class::Transient,
            Self::Busy { .. } => Class::Throttled,
            Self::Unknown { cause: UnknownCause::Status(500) | UnknownCause::ResponseError, write, text } => {
                // A fault in our request or configuration will not pass by waiting.
                match catalogue.by_text(text).map(|ruling| ruling.class) {
                    Some(Class::Config) => Class::Config,
                    _ => unclear(*write),
                }
            }
            Self::Unknown { write, .. } | Self::Unexpected { write, .. } => unclear(*write),
            Self::Session { after_login, .. } => {
                if *after_login {
                    Class::Config
                } else {
                    Class::SessionLost
                }
            }
            Self::LoginRefused(refusal) => match refusal.class {
                LoginClass::Transient => Class::Transient,
                LoginClass::Success | LoginClass::SuccessWithWarning | LoginClass::Config => Class::Config,
            },
            Self::Refused(answer) => catalogue.rule(answer.msg_code, &answer.errors).class,
            Self::Invalid { .. } => Class::Config,
        }
    }
}

/// Evidence behind [`KingdeeError::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCause {
    /// No whole answer before the deadline.
    TimedOut,
    /// The connection broke, or the body was cut off, too large or badly compressed.
    Transport,
    /// An HTTP status other than 200, 206 and 401.
    Status(u16),
    /// A page in the place of an answer, from a proxy or during maintenance.
    Html,
    /// `response_error:`, an exception inside the server.
    ResponseError,
    /// No body, or `null`.
    Empty,
    /// A body that is no JSON, or ends inside it.
    NotJson,
}

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("time-out"),
            Self::Transport => f.write_str("broken transport"),
            Self::Status(status) => write!(f, "http status {status}"),
            Self::Html => f.write_str("html page"),
            Self::ResponseError => f.write_str("server exception"),
            Self::Empty => f.write_str("empty body"),
            Self::NotJson => f.write_str("no whole json"),
        }
    }
}

/// What a `LoginResultType` means (official WebAPI manual, login chapter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginClass {
    /// 1.
    Success,
    /// −2, −4 or −5 with a session: usable, worth a log line.
    SuccessWithWarning,
    /// −1 with a message about connections or load: try again later.
    Transient,
    /// Everything else: a person has to act; repeated tries may lock the account.
    Config,
}

/// A login that gave no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRefusal {
    /// `LoginResultType`, if the answer had one.
    pub result_type: Option<i64>,
    /// What it means.
    pub class: LoginClass,
    /// `Message` and `MessageCode`, or the beginning of the answer.
    pub message: String,
}

impl fmt::Display for LoginRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self
            .result_type
            .map_or_else(|| "without result type".to_owned(), |kind| format!("result {kind}"));
        let remedy = match self.class {
            LoginClass::Transient => "try again later",
            _ => "check account set, user, application id and secret, and the application's allowed users",
        };
        write!(f, "login refused ({kind}): {}: {remedy}", self.message)
    }
}
