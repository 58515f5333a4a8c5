#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod kingdee;
mod registry;
pub mod wdt;
mod windows;

pub use kingdee::{Looker, Present};
pub use registry::{
    CANCELLED, CHANGED, Calls, DUPLICATE, NoCalls, TIMED_OUT, books, longest_write, looker, source, target,
    widest_window,
};
pub use windows::{Pace, Patience, Unread, WindowReader};
