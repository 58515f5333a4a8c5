//! The sandbox from outside: over its sockets, with signatures computed here a second time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod admin;
mod client;
mod faults;
mod kingdee;
mod living;
mod process;
mod wdt;
