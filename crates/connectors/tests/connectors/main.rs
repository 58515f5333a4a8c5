//! The Kingdee target against a small Kingdee made here, which shares no code with the sandbox.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

mod doubts;
mod fake;
mod fetch;
mod ledger;
mod lives;
mod loading;
mod methods;
mod steps;
