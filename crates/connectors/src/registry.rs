//! Which connector a scheme's system names.

use std::time::Duration;

/// Told of every call to another system, for metrics.
pub trait Calls: Send + Sync + 'static {
    /// A call of an operation of a system ended; the outcome is one of few words.
    fn call(&self, system: &'static str, operation: &'static str, outcome: &'static str, took: Duration);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCalls;

impl Calls for NoCalls {
    fn call(&self, _: &'static str, _: &'static str, _: &'static str, _: Duration) {}
}

pub fn source() {}
pub fn target() {}
