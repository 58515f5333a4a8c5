//! The client against the published vectors and against small servers that know nothing of it.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod answers;
mod properties;
mod requests;
mod secrets;
mod server;
mod settings;
mod vectors;
