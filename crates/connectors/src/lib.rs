#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod kingdee;
mod probe;
mod registry;
pub mod wdt;
mod windows;

pub use kingdee::{Looker, Present};
pub use probe::{
    BaseData, FormField, FormPart, Numbers, SourceDenial, SourceProbe, Standing, TargetDenial, TargetProbe,
};
pub use registry::{
    CANCELLED, CHANGED, Calls, DUPLICATE, NoCalls, TIMED_OUT, books, longest_write, looker, source,
    source_probe, target, target_probe, widest_window,
};
pub use windows::{Pace, Patience, Unread, WindowReader};
