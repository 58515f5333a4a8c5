use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type};

pub(super) static DATE: Function = Function {
    name: "date",
    signature: "date(x) -> date",
    doc: "The day of a time, written yyyy-MM-dd. Reads epoch milliseconds (12 or 13 digits), epoch seconds (10 digits), yyyy-MM-dd HH:mm:ss and yyyy-MM-dd; epochs are taken to the source's clock.",
    examples: &[
        Example {
            expression: "check_time | date",
            document: r#"{"check_time":"1676964121000"}"#,
            gives: Ok(r#""2023-02-21""#),
        },
        Example {
            expression: "check_time | date",
            document: r#"{"check_time":"2026-08-01 23:59:59"}"#,
            gives: Ok(r#""2026-08-01""#),
        },
        Example {
            expression: "check_time | date",
            document: r#"{"check_time":"2026/08/01"}"#,
            gives: Err(
                "check_time is '2026/08/01', not a time (yyyy-MM-dd HH:mm:ss, yyyy-MM-dd, epoch milliseconds or epoch seconds)",
            ),
        },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Converted(Type::Date),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    arguments.convert(0, Type::Date)
}
