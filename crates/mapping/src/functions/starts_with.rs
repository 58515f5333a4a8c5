use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static STARTS_WITH: Function = Function {
    name: "starts_with",
    signature: "starts_with(x: text, other: text) -> bool",
    doc: "True if the text begins with the other.",
    examples: &[Example {
        expression: "starts_with(order_no, 'RK')",
        document: r#"{"order_no":"RK2023"}"#,
        gives: Ok("true"),
    }],
    takes: &[Takes::Value(Type::Text), Takes::Value(Type::Text)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Bool),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    Ok(Value::Bool(arguments.text(0)?.starts_with(arguments.text(1)?.as_ref())))
}
