//! Tests of the client against raw TCP and TLS servers on this machine.

mod answers;
mod delivery;
mod server;
mod tls;
