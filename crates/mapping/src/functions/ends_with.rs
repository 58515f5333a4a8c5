use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static ENDS_WITH: Function = Function {
    name: "ends_with",
    signature: "ends_with(x: text, other: text) -> bool",
    doc: "True if the text ends with the other.",
    examples: &[Example {
        expression: "ends_with(order_no, '23')",
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
    Ok(Value::Bool(arguments.text(0)?.ends_with(arguments.text(1)?.as_ref())))
}
