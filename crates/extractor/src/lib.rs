#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agenda;
mod cursor;
mod lead;
mod ledger;
mod patience;
mod plan;
mod schedule;
mod stage;
mod window;

pub use plan::plan;
pub use stage::{ExtractStage, WindowObserver};
