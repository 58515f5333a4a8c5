use rust_decimal::Decimal;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Fault, Type, Value, decimal};

pub(super) static SUM: Function = Function {
    name: "sum",
    signature: "sum(array.x) -> decimal",
    doc: "The sum over all lines of an array; x may be any decimal expression over them. No lines are as good as empty.",
    examples: &[
        Example {
            expression: "sum(details_list.num)",
            document: r#"{"details_list":[{"num":"1.5"},{"num":2}]}"#,
            gives: Ok("3.5"),
        },
        Example {
            expression: "sum(details_list.num * details_list.price)",
            document: r#"{"details_list":[{"num":2,"price":3},{"num":1,"price":"0.5"}]}"#,
            gives: Ok("6.5"),
        },
        Example {
            expression: "sum(details_list.num)",
            document: r#"{"details_list":[]}"#,
            gives: Err("details_list has no lines"),
        },
    ],
    takes: &[Takes::Lines],
    optional: 0,
    repeats: false,
    gives: Gives::Value(Type::Decimal),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let (lines, item) = arguments.lines(0)?;
    let mut total = Decimal::ZERO;
    for index in 0..lines.count() {
        let run = arguments.run.at_line(lines, index);
        let value = item.map_or(Ok(Decimal::ZERO), |item| item.number(&run))?;
        total = decimal::add(total, value)
            .map_err(|_| Fault::wrong("sum has more than 28 digits; round before"))?;
    }
    Ok(Value::Decimal(total))
}
