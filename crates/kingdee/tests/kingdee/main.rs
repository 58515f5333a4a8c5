//! Tests of the client by the vendor's documented behaviour, against servers made here.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

mod calls;
mod catalogue;
mod classify;
mod config;
mod login;
mod lookup;
mod outcomes;
mod secrets;
mod server;
mod signing;
