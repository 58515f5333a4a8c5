use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static CONTAINS: Function = Function {
    name: "contains",
    signature: "contains(x: text, other: text) -> bool",
    doc: "True if the other text is anywhere in the text.",
    examples: &[Example {
        expression: "contains(name, '示例')",
        document: r#"{"name":"杭州示例食品"}"#,
        gives: Ok("true"),
    }],
    takes: &[Takes::Value(Type::Text), Takes::Value(Type::Text)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Bool),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    Ok(Value::Bool(arguments.text(0)?.contains(arguments.text(1)?.as_ref())))
}
