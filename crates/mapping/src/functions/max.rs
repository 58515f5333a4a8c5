use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static MAX: Function = Function {
    name: "max",
    signature: "max(a: decimal, b: decimal, …) -> decimal",
    doc: "The largest of its arguments.",
    examples: &[Example { expression: "max(a, b, 2)", document: r#"{"a":"1.5","b":10}"#, gives: Ok("10") }],
    takes: &[Takes::Value(Type::Decimal), Takes::Value(Type::Decimal)],
    optional: 0,
    repeats: true,
    gives: Gives::Value(Type::Decimal),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let mut found = arguments.decimal(0)?;
    for index in 1..arguments.len() {
        found = found.max(arguments.decimal(index)?);
    }
    Ok(Value::Decimal(found))
}
