#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod compile;
mod document;
mod evaluate;
pub mod functions;
mod language;
mod mapping;
mod problem;
pub mod spec;
mod write;

pub use language::table_uses;
pub use mapping::{Mapping, Outcome, Scratch};
pub use problem::{FieldProblem, Input, Rejection, SpecProblem};
