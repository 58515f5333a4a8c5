use std::borrow::Cow;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static TRIM: Function = Function {
    name: "trim",
    signature: "trim(x: text) -> text",
    doc: "Without the blanks at both ends, full-width ones included.",
    examples: &[Example { expression: "trim(name)", document: r#"{"name":"LL "}"#, gives: Ok(r#""LL""#) }],
    takes: &[Takes::Value(Type::Text)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    Ok(Value::Text(match arguments.text(0)? {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }))
}
