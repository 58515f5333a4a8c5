//! How a command ends: what it prints, and its exit code.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    process::ExitCode,
};

use kingpost_broker::{ConnectError, CustodyError};
use kingpost_settings::Exit;

use crate::terminal::plain;

/// What a command has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// What was asked for, whole lines, for standard output.
    pub(crate) out: String,
    /// What should be known besides, whole lines, for standard error.
    pub(crate) notes: String,
    pub(crate) exit: Exit,
}

impl Report {
    pub(crate) fn done(out: impl Into<String>) -> Self {
        Report { out: out.into(), notes: String::new(), exit: Exit::Done }
    }

    pub(crate) fn with_notes(self, notes: impl Into<String>) -> Self {
        Report { notes: notes.into(), ..self }
    }

    /// Prints it. A reader that went away, such as `head`, is no failure.
    pub(crate) fn print(self) -> ExitCode {
        let out = write(&mut std::io::stdout(), &self.out);
        let notes = write(&mut std::io::stderr(), &self.notes);
        match out.and(notes) {
            Ok(()) => self.exit.into(),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.exit.into(),
            Err(_) => Exit::Failed.into(),
        }
    }
}

fn write(stream: &mut dyn Write, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// Why a command could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Stop {
    /// The command ran and failed.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Stop { exit: Exit::Failed, text: text.into() }
    }

    /// The command line is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Stop { exit: Exit::Usage, text: text.into() }
    }

    /// A mistake of this program.
    pub(crate) fn bug(text: impl Into<String>) -> Self {
        Stop { exit: Exit::Bug, text: text.into() }
    }

    /// Settings or schemes are wrong.
    pub(crate) fn settings(problems: &impl Display) -> Self {
        Stop { exit: Exit::Settings, text: problems.to_string() }
    }

    /// Both reasons under the exit code of this one.
    pub(crate) fn and(self, other: Stop) -> Self {
        Stop { exit: self.exit, text: format!("{}\n\n{}", self.text, other.text) }
    }

    pub(crate) fn hint(self, hint: &str) -> Self {
        Stop { text: format!("{}\n{hint}", self.text), ..self }
    }
}

impl From<ConnectError> for Stop {
    /// A worker waits for a broker that is away; at a prompt a person waits, so it is told at once.
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(text) => Stop {
                exit: Exit::Refused,
                text: format!(
                    "{text}\nremedy: correct the user, password, virtual host or rights behind AMQP_URL"
                ),
            },
            ConnectError::Absent(text) => Stop {
                exit: Exit::Failed,
                text: format!(
                    "{text}\nremedy: start RabbitMQ, or correct the host and port in AMQP_URL; then try again"
                ),
            },
        }
    }
}

impl From<CustodyError> for Stop {
    fn from(error: CustodyError) -> Self {
        match error {
            CustodyError::Connect(error) => error.into(),
            CustodyError::Taken { .. } | CustodyError::Missing(_) | CustodyError::Lost { .. } => {
                Stop::failed(error.to_string())
            }
        }
    }
}

impl From<Stop> for Report {
    fn from(stop: Stop) -> Self {
        Report {
            out: String::new(),
            notes: format!("kingpost: {}\n", plain(stop.text.trim_end())),
            exit: stop.exit,
        }
    }
}

/// Both results, or both reasons.
pub(crate) fn both<A, B>(one: Result<A, Stop>, other: Result<B, Stop>) -> Result<(A, B), Stop> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(one), Err(other)) => Err(one.and(other)),
        (Err(stop), Ok(_)) | (Ok(_), Err(stop)) => Err(stop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_refuses_ends_with_69_and_one_that_is_away_with_1() {
        let refused =
            Stop::from(ConnectError::Refused("RabbitMQ at mq:5672 refuses us: ACCESS_REFUSED".into()));
        assert_eq!(refused.exit.code(), 69);
        let absent = Stop::from(ConnectError::Absent("RabbitMQ at mq:5672 can't be reached".into()));
        assert_eq!(absent.exit.code(), 1);
        assert!(absent.text.contains("AMQP_URL"), "{}", absent.text);
    }

    #[test]
    fn two_reasons_are_told_together() {
        let one: Result<(), Stop> = Err(Stop::settings(&"a scheme is wrong"));
        let other: Result<(), Stop> = Err(Stop::settings(&"a setting is wrong"));
        let Err(stop) = both(one, other) else { panic!("both are wrong") };
        assert_eq!(stop.text, "a scheme is wrong\n\na setting is wrong");
        assert_eq!(Report::from(stop).exit.code(), 64);
    }
}
