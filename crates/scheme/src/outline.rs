//! The fields that a model writes, and what they are looked up in: enough to compare a scheme with the target it writes to.

use std::collections::BTreeMap;

use kingpost_mapping::spec::{Field, Node, Table};
use kingpost_mapping::table_uses;

/// A field that the model writes, when it isn't left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelField {
    /// The keys that lead to it from the root, as `FInStockEntry`, `FStockId`, `FNumber`.
    pub path: Vec<String>,
    /// Its line in the scheme file.
    pub line: u32,
    /// Every answer that it may take out of a table, a row each; blank answers are left out.
    pub answers: Vec<TableAnswer>,
}

/// One answer of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableAnswer {
    /// The table's name.
    pub table: String,
    /// The row's key; `*` for the row of all others.
    pub key: String,
    /// The column.
    pub column: String,
    /// The answer.
    pub value: String,
}

/// Every field that is switched on and holds a value of its own.
pub(crate) fn outline(model: &[Field], tables: &BTreeMap<String, Table>) -> Vec<ModelField> {
    let mut fields = Vec::new();
    walk(model, &mut Vec::new(), tables, &mut fields);
    fields
}

fn walk(
    model: &[Field],
    path: &mut Vec<String>,
    tables: &BTreeMap<String, Table>,
    fields: &mut Vec<ModelField>,
) {
    for field in model.iter().filter(|field| field.enabled) {
        path.push(field.key.clone());
        value(&field.value, field.at.line, path, tables, fields);
        path.pop();
    }
}

fn value(
    node: &Node,
    line: u32,
    path: &mut Vec<String>,
    tables: &BTreeMap<String, Table>,
    fields: &mut Vec<ModelField>,
) {
    match node {
        Node::Object(inner) | Node::Each { item: inner, .. } => walk(inner, path, tables, fields),
        Node::Array(items) => items.iter().for_each(|item| value(item, line, path, tables, fields)),
        Node::Text(text) => {
            let answers = table_uses(&text.text).iter().flat_map(|used| answers(used, tables)).collect();
            fields.push(ModelField { path: path.clone(), line, answers });
        }
        Node::Number(_) | Node::Bool(_) | Node::Null => {
            fields.push(ModelField { path: path.clone(), line, answers: Vec::new() });
        }
    }
}

fn answers((table, column): &(String, String), tables: &BTreeMap<String, Table>) -> Vec<TableAnswer> {
    let Some(found) = tables.get(table) else { return Vec::new() };
    let Some(at) = found.columns.iter().position(|name| name == column) else { return Vec::new() };
    let rows = found.rows.iter().map(|(key, row)| (key.as_str(), row));
    let rows = rows.chain(found.fallback.iter().map(|row| ("*", row)));
    let mut answers: Vec<TableAnswer> = rows
        .filter_map(|(key, row)| Some((key, row.get(at)?.trim())))
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| TableAnswer {
            table: table.clone(),
            key: key.to_owned(),
            column: column.clone(),
            value: value.to_owned(),
        })
        .collect();
    answers.sort();
    answers
}
