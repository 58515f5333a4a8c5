use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static EXISTS: Function = Function {
    name: "exists",
    signature: "exists(x) -> bool",
    doc: "True if x is there and not null, empty or blank.",
    examples: &[
        Example {
            expression: "exists(batch_no)",
            document: r#"{"batch_no":"20240418A"}"#,
            gives: Ok("true"),
        },
        Example { expression: "exists(batch_no)", document: r#"{"batch_no":null}"#, gives: Ok("false") },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Bool),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    match arguments.value(0) {
        Ok(_) => Ok(Value::Bool(true)),
        Err(fault) if fault.is_nothing() => Ok(Value::Bool(false)),
        Err(fault) => Err(fault),
    }
}
