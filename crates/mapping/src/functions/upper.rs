use std::borrow::Cow;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static UPPER: Function = Function {
    name: "upper",
    signature: "upper(x: text) -> text",
    doc: "In upper case.",
    examples: &[Example {
        expression: "upper(spec_no)",
        document: r#"{"spec_no":"Sp-1a"}"#,
        gives: Ok(r#""SP-1A""#),
    }],
    takes: &[Takes::Value(Type::Text)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    Ok(Value::Text(Cow::Owned(arguments.text(0)?.to_uppercase())))
}
