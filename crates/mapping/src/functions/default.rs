use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::Evaluated;

pub(super) static DEFAULT: Function = Function {
    name: "default",
    signature: "default(x, y) -> same as its arguments",
    doc: "x, or y if x is empty. Mistakes in x stay problems.",
    examples: &[
        Example {
            expression: "remark | default('none')",
            document: r#"{"remark":" "}"#,
            gives: Ok(r#""none""#),
        },
        Example { expression: "tax | decimal | default(0)", document: "{}", gives: Ok("0") },
        Example {
            expression: "tax | decimal | default(0)",
            document: r#"{"tax":"?"}"#,
            gives: Err("tax is '?', not a decimal"),
        },
    ],
    takes: &[Takes::Same, Takes::Same],
    optional: 0,
    repeats: false,
    gives: Gives::Same,
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    match arguments.value(0) {
        Err(fault) if fault.is_nothing() => arguments.value(1),
        found => found,
    }
}
