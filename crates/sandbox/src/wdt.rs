//! The fake WDT: Qimen's `/router/qm` and the direct `/openapi`, both strict about what they are asked.

pub(crate) mod answer;
mod query;
mod sign;

pub(crate) use query::{Bend, Call, Transport, read, run};
