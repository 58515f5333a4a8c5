#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answer;
mod classify;
mod client;
mod config;
mod error;
mod json;
mod methods;
mod request;
mod sign;
pub mod values;

pub use answer::{Page, Row};
pub use client::Client;
pub use config::{ConfigError, ConfigProblem, QimenConfig, Transport, WdtConfig};
pub use error::{Class, Origin, WdtError};
pub use methods::{ByNumber, Method};
pub use request::Query;
pub use sign::{SignMethod, UnknownWord, bare_method, direct_sign, top_sign, wdt_sign};
pub use values::flexible_time;
