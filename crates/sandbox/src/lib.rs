#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod admin;
mod beijing;
mod cli;
mod faults;
mod gzip;
mod http;
mod json;
mod kingdee;
mod ledger;
mod orders;
mod server;
mod wdt;

pub use cli::Options;
pub use orders::{Rates, SortBy};
pub use server::Sandbox;
