use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type};

pub(super) static DATETIME: Function = Function {
    name: "datetime",
    signature: "datetime(x) -> datetime",
    doc: "A point in time, written yyyy-MM-dd HH:mm:ss. Reads what date reads; a day alone is its midnight.",
    examples: &[
        Example {
            expression: "check_time | datetime",
            document: r#"{"check_time":1676964121000}"#,
            gives: Ok(r#""2023-02-21 15:22:01""#),
        },
        Example {
            expression: "day | datetime",
            document: r#"{"day":"2026-08-01"}"#,
            gives: Ok(r#""2026-08-01 00:00:00""#),
        },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Converted(Type::Time),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    arguments.convert(0, Type::Time)
}
