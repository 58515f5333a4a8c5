use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static ABS: Function = Function {
    name: "abs",
    signature: "abs(x: decimal) -> decimal",
    doc: "The value without its sign.",
    examples: &[Example { expression: "abs(num)", document: r#"{"num":"-3.50"}"#, gives: Ok("3.5") }],
    takes: &[Takes::Value(Type::Decimal)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Decimal),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    Ok(Value::Decimal(arguments.decimal(0)?.abs()))
}
