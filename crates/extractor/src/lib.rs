#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cursor;
mod plan;
mod schedule;
mod stage;
mod window;

pub use plan::plan;
