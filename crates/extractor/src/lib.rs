#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod account;
mod agenda;
mod cursor;
mod hearsay;
mod lead;
mod ledger;
mod patience;
mod plan;
mod push;
mod schedule;
mod stage;
mod window;

pub use account::{Account, AccountObserver};
pub use plan::plan;
pub use stage::{ExtractStage, WindowObserver};
