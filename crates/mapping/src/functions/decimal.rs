use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Type};

pub(super) static DECIMAL: Function = Function {
    name: "decimal",
    signature: "decimal(x) -> decimal",
    doc: "Reads a number or a text as a decimal. Blanks around it are dropped, an exponent is read; the digits stay as written until something is calculated.",
    examples: &[
        Example { expression: "num | decimal", document: r#"{"num":"100.0000"}"#, gives: Ok("100.0000") },
        Example { expression: "decimal(num) * 2", document: r#"{"num":" 1.5 "}"#, gives: Ok("3") },
        Example {
            expression: "num | decimal",
            document: r#"{"num":"1,5"}"#,
            gives: Err("num is '1,5', not a decimal"),
        },
    ],
    takes: &[Takes::Value(Type::Any)],
    optional: 0,
    repeats: false,
    gives: Gives::Converted(Type::Decimal),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    arguments.convert(0, Type::Decimal)
}
