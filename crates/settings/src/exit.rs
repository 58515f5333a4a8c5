//! What a program's exit code means.

use std::process::ExitCode;

/// The exit codes of every Kingpost program. A broker or an ERP that is merely down is waited for and never ends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: done, or stopped as asked after a clean drain.
    Done,
    /// 1: the command ran and failed; its output says at what.
    Failed,
    /// 2: the command line itself is wrong.
    Usage,
    /// 64: a setting or a scheme is invalid; every problem has been listed.
    Settings,
    /// 69: a needed service refuses us for good, such as a broker that rejects the credentials.
    Refused,
    /// 70: a bug of ours.
    Bug,
}

impl Exit {
    /// Every code, in rising order.
    pub const ALL: [Exit; 6] =
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::Settings, Exit::Refused, Exit::Bug];

    /// The number the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Settings => 64,
            Exit::Refused => 69,
            Exit::Bug => 70,
        }
    }

    /// A short meaning, for the README and for help texts.
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "wrong usage",
            Exit::Settings => "settings or scheme invalid",
            Exit::Refused => "a needed service refuses us for good",
            Exit::Bug => "a bug of ours",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
