use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type};

pub(super) static IF: Function = Function {
    name: "if",
    signature: "if(condition: bool, a, b) -> same as a and b",
    doc: "a if the condition holds, else b; only that one is evaluated.",
    examples: &[
        Example {
            expression: "if(defect, 'KCZT08_SYS', 'KCZT01_SYS')",
            document: r#"{"defect":false}"#,
            gives: Ok(r#""KCZT01_SYS""#),
        },
        Example { expression: "if(defect, 1, 0)", document: "{}", gives: Err("defect is empty") },
    ],
    takes: &[Takes::Value(Type::Bool), Takes::Same, Takes::Same],
    optional: 0,
    repeats: false,
    gives: Gives::Same,
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    arguments.value(if arguments.truth(0)? { 1 } else { 2 })
}
