#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod kingdee;
mod registry;
pub mod wdt;

pub use kingdee::{Looker, Present};
pub use registry::{Calls, DUPLICATE, NoCalls, TIMED_OUT, longest_write, looker, source, target};
