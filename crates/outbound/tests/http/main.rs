//! Tests of the client against raw TCP and TLS servers on this machine.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

mod answers;
mod delivery;
mod server;
mod tls;
