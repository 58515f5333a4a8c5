#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod kingdee;
mod registry;
pub mod wdt;

pub use registry::{CANCELLED, CHANGED, Calls, DUPLICATE, NoCalls, TIMED_OUT, longest_write, source, target};
