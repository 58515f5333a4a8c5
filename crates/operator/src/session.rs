//! What every command is given: the variables it was started with, the time, the width to write in, and through them the
//! schemes and the broker.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kingpost_broker::{BrokerConfig, Inspector, JournalKeep};
use kingpost_scheme::{Scheme, load_dir};
use kingpost_settings::{CommonSettings, Environment, operator, schemes_dir};

use crate::{ending::Stop, management::Management, terminal};

/// A person waits: a broker that is there answers a connection well within this.
const CONNECT: Duration = Duration::from_secs(8);
/// The same for one question.
const ANSWER: Duration = Duration::from_secs(15);

/// Program and version, as in the headers of messages and in the broker's list of connections.
pub(crate) const WORKER: &str = concat!("kingpost/", env!("CARGO_PKG_VERSION"));

pub(crate) struct Session {
    pub(crate) environment: Environment,
    /// Milliseconds since the epoch, the same through the whole command.
    pub(crate) now_ms: i64,
    /// Columns of the terminal.
    pub(crate) width: u16,
}

impl Session {
    pub(crate) fn of_process() -> Self {
        Session {
            environment: Environment::process(),
            now_ms: Timestamp::now().as_millisecond(),
            width: terminal::width(),
        }
    }

    /// The folder of the schemes: the one that was given, or that of `SCHEMES_DIR`.
    pub(crate) fn schemes_dir(&self, given: Option<&Path>) -> Result<PathBuf, Stop> {
        match given {
            Some(folder) => Ok(folder.to_owned()),
            None => schemes_dir(&self.environment).map_err(|problems| Stop::settings(&problems)),
        }
    }

    /// Every scheme of `SCHEMES_DIR`.
    pub(crate) fn schemes(&self) -> Result<Vec<Scheme>, Stop> {
        load_dir(&self.schemes_dir(None)?).map_err(|problems| Stop::settings(&problems))
    }

    /// The settings of a command that calls no ERP.
    pub(crate) fn settings(&self) -> Result<CommonSettings, Stop> {
        match operator(&self.environment, &[]) {
            Ok(settings) => Ok(settings.common),
            Err(problems) => Err(Stop::settings(&problems)),
        }
    }

    /// RabbitMQ's management API; nothing where it isn't given.
    pub(crate) fn management(&self) -> Result<Option<Management>, Stop> {
        let settings = operator(&self.environment, &[]).map_err(|problems| Stop::settings(&problems))?;
        settings.management.map(|settings| Management::new(&settings)).transpose().map_err(Stop::failed)
    }

    /// How the broker is reached.
    pub(crate) fn broker(&self, settings: &CommonSettings) -> BrokerConfig {
        let url = settings.amqp_url.clone();
        let source = move || url.current().map_err(|problem| problem.to_string());
        let mut config = BrokerConfig::new(Arc::new(source), WORKER);
        config.ca_file.clone_from(&settings.amqp_ca_file);
        config.connect_timeout = CONNECT;
        config.confirm_timeout = ANSWER;
        config
    }

    /// How much of the journal is kept; nothing when it is off.
    pub(crate) fn journal(settings: &CommonSettings) -> Option<JournalKeep> {
        let journal = &settings.journal;
        journal.on.then_some(JournalKeep { max_age: journal.max_age, max_bytes: journal.max_bytes })
    }

    /// A connection to the broker that only looks.
    pub(crate) async fn inspector(&self, settings: CommonSettings) -> Result<Inspector, Stop> {
        Ok(Inspector::open(&self.broker(&settings)).await?)
    }
}
