//! What an expression means: values, and how a compiled expression yields one.

pub(crate) mod decimal;
mod expression;
pub(crate) mod time;
mod value;

pub(crate) use expression::{Constant, Expr, Place, Run, Scope, kind_type};
pub(crate) use value::{Evaluated, Fault, Type, Value, cut};
