use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Fault};

pub(super) static ONE_OF: Function = Function {
    name: "one_of",
    signature: "one_of(x, a, b, …) -> same as x",
    doc: "The value itself if it is one of the others, else a problem.",
    examples: &[
        Example { expression: "one_of(tax, 0, 9, 13)", document: r#"{"tax":"13.0"}"#, gives: Ok("13.0") },
        Example {
            expression: "one_of(status, '80', '90')",
            document: r#"{"status":"70"}"#,
            gives: Err("'70' is not one of '80', '90'"),
        },
    ],
    takes: &[Takes::Comparable, Takes::Comparable],
    optional: 0,
    repeats: true,
    gives: Gives::Same,
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let value = arguments.value(0)?;
    for index in 1..arguments.len() {
        if value.compare(&arguments.value(index)?)?.is_eq() {
            return Ok(value);
        }
    }
    // Written out only now: nearly every value is one of them, and the list is long.
    let mut others = Vec::new();
    for index in 1..arguments.len() {
        others.push(arguments.value(index)?.shown());
    }
    Err(Fault::wrong(format!("{} is not one of {}", value.shown(), others.join(", "))))
}
