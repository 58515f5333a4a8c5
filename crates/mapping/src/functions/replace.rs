use std::borrow::Cow;

use super::{Arguments, Example, Function, Gives, Takes, made};
use crate::evaluate::{Evaluated, Fault, Type, Value};

pub(super) static REPLACE: Function = Function {
    name: "replace",
    signature: "replace(x: text, from: text, to: text) -> text",
    doc: "Every occurrence of one text by another. Nothing left is as good as empty.",
    examples: &[
        Example {
            expression: "replace(code, '-', '')",
            document: r#"{"code":"A-1-2"}"#,
            gives: Ok(r#""A12""#),
        },
        Example {
            expression: "replace(code, '-', '')",
            document: r#"{"code":"-"}"#,
            gives: Err("replace leaves nothing"),
        },
    ],
    takes: &[Takes::Value(Type::Text), Takes::Value(Type::Text), Takes::Value(Type::Text)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let (text, from, to) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    if from.is_empty() {
        return Err(Fault::wrong("replace has nothing to look for: its second text is ''"));
    }
    if !text.contains(from.as_ref()) {
        return Ok(Value::Text(text));
    }
    made(Cow::Owned(text.replace(from.as_ref(), &to)), "replace")
}
