use std::borrow::Cow;

use super::{Arguments, Example, Function, Gives, Takes};
use crate::evaluate::{Evaluated, Fault, Type, Value};

pub(super) static TABLE: Function = Function {
    name: "table",
    signature: "table(key: text, name, column, default?: text) -> text",
    doc: "Looks the key up in a table of the scheme and gives the answer in a column. A miss or a blank answer is a problem unless a default is given; blanks around the key are ignored.",
    examples: &[
        Example {
            expression: "warehouse_no | table('stock', 'org')",
            document: r#"{"warehouse_no":"SH01"}"#,
            gives: Ok(r#""101""#),
        },
        Example {
            expression: "warehouse_no | table('stock', 'org', '100')",
            document: r#"{"warehouse_no":"X9"}"#,
            gives: Ok(r#""100""#),
        },
        Example {
            expression: "warehouse_no | table('stock', 'org')",
            document: r#"{"warehouse_no":"X9"}"#,
            gives: Err("table stock has no row for 'X9'"),
        },
    ],
    takes: &[Takes::Value(Type::Text), Takes::Table, Takes::Column, Takes::Value(Type::Text)],
    optional: 1,
    repeats: false,
    gives: Gives::Value(Type::Text),
    call,
};

fn call<'a>(arguments: &Arguments<'_, 'a>) -> Evaluated<'a> {
    let key = arguments.text(0)?;
    let (name, table, column) = arguments.table()?;
    let row = table.rows.get(key.trim()).or(table.fallback.as_ref());
    match row.and_then(|row| row.get(column)).filter(|answer| !answer.trim().is_empty()) {
        Some(answer) => Ok(Value::Text(Cow::Borrowed(answer))),
        None if arguments.len() > 3 => arguments.value(3),
        None => {
            let column = table.columns.get(column).map_or("", String::as_str);
            let what = if row.is_some() { format!("no {column}") } else { "no row".to_owned() };
            Err(Fault::wrong(format!("table {name} has {what} for '{}'", key.trim())))
        }
    }
}
