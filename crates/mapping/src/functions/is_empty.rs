use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static IS_EMPTY: Function = Function {
    name: "is_empty",
    signature: "is_empty(x) -> bool",
    doc: "True if x is absent, null, empty or blank.",
    examples: &[
        Example { expression: "is_empty(batch_no)", document: r#"{"batch_no":""}"#, gives: Ok("true") },
        Example { expression: "is_empty(batch_no)", document: r#"{"batch_no":0}"#, gives: Ok("false") },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Bool),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    match arguments.value(0) {
        Ok(_) => Ok(Value::Bool(false)),
        Err(fault) if fault.is_nothing() => Ok(Value::Bool(true)),
        Err(fault) => Err(fault),
    }
}
