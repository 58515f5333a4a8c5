//! The text of the language: templates, tokens, and the tree of an expression.

mod parse;
mod tables;
mod template;
mod token;

pub(crate) use parse::{Ast, Operator, Tree};
pub use tables::table_uses;
pub(crate) use template::{Part, Template, parse_expression, parse_template};

/// What is wrong with a text, at an offset in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) offset: usize,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Mistake {
    pub(crate) fn new(offset: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { offset, what: what.into(), remedy: remedy.into() }
    }
}
