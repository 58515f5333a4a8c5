//! Whole-pipeline tests, architecture tests and the lab they stand on.
#![forbid(unsafe_code)]

pub mod lab;
