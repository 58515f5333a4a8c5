use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type};

pub(super) static TEXT: Function = Function {
    name: "text",
    signature: "text(x) -> text",
    doc: "Turns any value into text; numbers keep their digits.",
    examples: &[
        Example { expression: "status | text", document: r#"{"status":80}"#, gives: Ok(r#""80""#) },
        Example {
            expression: "check_time | date | text",
            document: r#"{"check_time":"2026-08-01 10:00:00"}"#,
            gives: Ok(r#""2026-08-01""#),
        },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Converted(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    arguments.convert(0, Type::Text)
}
