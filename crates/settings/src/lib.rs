#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod amqp;
#[cfg(kingpost_bugs)]
mod bug;
mod environment;
mod exit;
mod kingdee;
mod management;
mod problem;
mod program;
mod push;
mod reader;
mod secret;
mod table;
mod traces;
mod warning;
mod wdt;

pub use amqp::AmqpUrl;
#[cfg(kingpost_bugs)]
pub use bug::{BUGS, bug};
pub use environment::Environment;
pub use exit::Exit;
pub use kingdee::{KingdeeAuth, KingdeeSettings, kingdee};
pub use management::ManagementSettings;
pub use problem::{Problem, Problems, both};
pub use program::{
    CommonSettings, ExtractorSettings, JournalSettings, LoaderSettings, LogFormat, OperatorSettings,
    TransformerSettings, WorkerSettings, extractor, http_addr, loader, operator, schemes_dir, transformer,
};
pub use push::{PushSettings, PushToken};
pub use secrecy::{ExposeSecret, SecretString};
pub use secret::SecretSource;
pub use table::{Program, SETTINGS, Setting, SettingDefault, markdown_table, setting};
pub use traces::{TraceSampler, TraceSettings};
pub use warning::{Warning, warnings};
pub use wdt::{QimenSettings, QimenSignMethod, WdtSettings, WdtTransport, wdt};
