use std::borrow::Cow;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static CONCAT: Function = Function {
    name: "concat",
    signature: "concat(a, b, …) -> text",
    doc: "Its arguments side by side, as text.",
    examples: &[Example {
        expression: "concat(warehouse_no, '-', status)",
        document: r#"{"warehouse_no":"SH01","status":80}"#,
        gives: Ok(r#""SH01-80""#),
    }],
    takes: &[Takes::Value(Type::Any), Takes::Value(Type::Any)],
    optional: 0,
    repeats: true,
    gives: Gives::Value(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let mut joined = String::new();
    for index in 0..arguments.len() {
        joined.push_str(&arguments.text(index)?);
    }
    Ok(Value::Text(Cow::Owned(joined)))
}
