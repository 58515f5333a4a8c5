use rust_decimal::RoundingStrategy;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type, Value};

pub(super) static ROUND: Function = Function {
    name: "round",
    signature: "round(x: decimal, places?: decimal) -> decimal",
    doc: "Rounds to a number of decimal places (0 if not given); halves go away from zero (四舍五入).",
    examples: &[
        Example { expression: "round(x, 2)", document: r#"{"x":"2.345"}"#, gives: Ok("2.35") },
        Example { expression: "round(x)", document: r#"{"x":"-2.5"}"#, gives: Ok("-3") },
        Example {
            expression: "round(x, 1.5)",
            document: r#"{"x":1}"#,
            gives: Err("1.5 is not a whole number from 0 to 28"),
        },
    ],
    takes: &[Takes::Value(Type::Decimal), Takes::Value(Type::Decimal)],
    optional: 1,
    repeats: false,
    gives: Gives::Value(Type::Decimal),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let value = arguments.decimal(0)?;
    let places = if arguments.len() > 1 { arguments.whole(1, 0, 28)? } else { 0 };
    let places = u32::try_from(places).unwrap_or_default();
    Ok(Value::Decimal(value.round_dp_with_strategy(places, RoundingStrategy::MidpointAwayFromZero)))
}
