use std::borrow::Cow;

use super::{Arguments, Example, Function, Gives, Takes, made};
use crate::evaluate::{Evaluated, Type};

pub(super) static SUBSTR: Function = Function {
    name: "substr",
    signature: "substr(x: text, start: decimal, length?: decimal) -> text",
    doc: "Characters from start on, which counts from 1; the rest if no length is given. Nothing left is as good as empty.",
    examples: &[
        Example {
            expression: "substr(code, 3)", document: r#"{"code":"杭州SH01"}"#, gives: Ok(r#""SH01""#)
        },
        Example {
            expression: "substr(code, 1, 2)",
            document: r#"{"code":"杭州SH01"}"#,
            gives: Ok(r#""杭州""#),
        },
        Example {
            expression: "substr(code, 9)",
            document: r#"{"code":"SH01"}"#,
            gives: Err("substr leaves nothing"),
        },
    ],
    takes: &[Takes::Value(Type::Text), Takes::Value(Type::Decimal), Takes::Value(Type::Decimal)],
    optional: 1,
    repeats: false,
    gives: Gives::Value(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let text = arguments.text(0)?;
    let start = usize::try_from(arguments.whole(1, 1, 1_000_000)? - 1).unwrap_or_default();
    let length = if arguments.len() > 2 { arguments.whole(2, 0, 1_000_000)? } else { 1_000_000 };
    let length = usize::try_from(length).unwrap_or_default();
    let offset = |count: usize, text: &str| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    let first = offset(start, &text);
    let last = first + offset(length, text.get(first..).unwrap_or_default());
    made(
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(first..last).unwrap_or_default()),
            Cow::Owned(text) => Cow::Owned(text.get(first..last).unwrap_or_default().to_owned()),
        },
        "substr",
    )
}
