use jiff::Span;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Fault, Type, Value};

pub(super) static ADD_DAYS: Function = Function {
    name: "add_days",
    signature: "add_days(x: time or date, days: decimal) -> date",
    doc: "The day that many days later; earlier if negative.",
    examples: &[Example {
        expression: "add_days(expire_date, -365)",
        document: r#"{"expire_date":"2025-04-18 00:00:00"}"#,
        gives: Ok(r#""2024-04-18""#),
    }],
    takes: &[Takes::Value(Type::Any), Takes::Value(Type::Decimal)],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Date),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let day = arguments.time(0)?.date();
    let days = arguments.whole(1, -100_000, 100_000)?;
    match day.checked_add(Span::new().days(days)) {
        Ok(day) if day.year() > 0 => Ok(Value::Date(day)),
        _ => Err(Fault::wrong(format!("{day} and {days} days is outside the calendar"))),
    }
}
