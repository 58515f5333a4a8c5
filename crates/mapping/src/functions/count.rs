use rust_decimal::Decimal;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static COUNT: Function = Function {
    name: "count",
    signature: "count(array) -> decimal",
    doc: "How many lines an array has. No lines are as good as empty.",
    examples: &[
        Example {
            expression: "count(details_list)",
            document: r#"{"details_list":[{},{}]}"#,
            gives: Ok("2"),
        },
        Example {
            expression: "count(details_list) | default(0)",
            document: r#"{"details_list":[]}"#,
            gives: Ok("0"),
        },
    ],
    takes: &[Takes::Array],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Decimal),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    Ok(Value::Decimal(Decimal::from(arguments.lines(0)?.0.count())))
}
