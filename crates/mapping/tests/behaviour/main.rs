//! What the mapping language does, as cases, examples and properties.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at a mistake")]

mod cases;
mod documents;
mod functions;
mod language;
mod properties;
mod spec_json;
