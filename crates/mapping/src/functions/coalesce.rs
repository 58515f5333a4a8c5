use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::Evaluated;

pub(super) static COALESCE: Function = Function {
    name: "coalesce",
    signature: "coalesce(a, b, …) -> same as its arguments",
    doc: "The first argument that isn't empty.",
    examples: &[
        Example {
            expression: "coalesce(outer_no, order_no)",
            document: r#"{"outer_no":"","order_no":"RK1"}"#,
            gives: Ok(r#""RK1""#),
        },
        Example {
            expression: "coalesce(outer_no, order_no)",
            document: r#"{"outer_no":""}"#,
            gives: Err("order_no is empty"),
        },
    ],
    takes: &[Takes::Same, Takes::Same],
    optional: 0,
    repeats: true,
    gives: Gives::Same,
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let last = arguments.len().saturating_sub(1);
    for index in 0..last {
        match arguments.value(index) {
            Err(fault) if fault.is_nothing() => {}
            found => return found,
        }
    }
    arguments.value(last)
}
