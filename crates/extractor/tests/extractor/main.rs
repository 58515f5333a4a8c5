//! The extractor's stage over a source and an outbox in memory, in paused time.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail its test")]

mod halves;
mod house;
mod living;
mod oversized;
mod paging;
mod patience;
