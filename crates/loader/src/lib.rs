#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cancelled;
mod claims;
mod plan;
mod stage;
mod standing;

pub use plan::plan;
