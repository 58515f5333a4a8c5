use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type};

pub(super) static BOOL: Function = Function {
    name: "bool",
    signature: "bool(x) -> bool",
    doc: "Reads true, false, 1, 0 or their text.",
    examples: &[
        Example { expression: "defect | bool", document: r#"{"defect":"1"}"#, gives: Ok("true") },
        Example { expression: "defect | bool", document: r#"{"defect":false}"#, gives: Ok("false") },
        Example {
            expression: "defect | bool",
            document: r#"{"defect":"yes"}"#,
            gives: Err("defect is 'yes', not true, false, 1 or 0"),
        },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Converted(Type::Bool),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    arguments.convert(0, Type::Bool)
}
