#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answer;
mod body;
pub mod catalogue;
pub mod classify;
mod client;
mod clock;
mod config;
mod error;
pub mod filter;
mod lookup;
mod request;
mod session;
pub mod sign;

pub use answer::{Cell, Entity, FieldError, SaveAnswer};
pub use catalogue::{Catalogue, Class, Row, Ruling, Unconditional};
pub use client::{KingdeeClient, Ready, SetupError};
pub use clock::{Clock, SystemClock};
pub use config::{Auth, ConfigError, KingdeeConfig};
pub use error::{KingdeeError, LoginClass, LoginRefusal, UnknownCause};
pub use lookup::{DocumentStatus, Found, LookUp};
pub use request::{BillQuery, SaveOption, call_timeout, safe_save_options};
