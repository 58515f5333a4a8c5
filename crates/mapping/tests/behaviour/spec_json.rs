//! A small JSON form of a spec, for cases.
//!
//! In the model a key that ends in `?` is optional, one that begins with `#` is off, and an object with the key `each`
//! walks over that array. A shape is `{"field": "kind", "array": {"field": "kind"}}`.

use kingpost_mapping::spec::{Field, Kind, Node, Output, Position, Setting, Shape, Spec, Table, Text};
use serde_json::{Map, Value};

/// The spec a JSON text describes.
pub(crate) fn read(json: &str) -> Spec {
    let spec: Map<String, Value> = serde_json::from_str(json).expect("spec.json is a JSON object");
    let object = |name: &str| spec.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    Spec {
        model: fields(&object("model")),
        filter: spec.get("filter").and_then(Value::as_str).map(text),
        outputs: object("outputs").iter().map(output).collect(),
        shape: spec.get("shape").and_then(Value::as_object).map(shape),
        settings: object("settings").iter().map(|(name, value)| (name.clone(), setting(value))).collect(),
        tables: object("tables").iter().map(|(name, table)| (name.clone(), self::table(table))).collect(),
        utc_offset_seconds: spec.get("utc_offset_seconds").and_then(Value::as_i64).unwrap_or(28_800) as i32,
    }
}

/// A spec whose model has the one field `x`.
pub(crate) fn of_one(rule: &str) -> Spec {
    let field = Field {
        key: "x".to_owned(),
        optional: false,
        enabled: true,
        at: Position::default(),
        value: Node::Text(text(rule)),
    };
    Spec { model: vec![field], utc_offset_seconds: 28_800, ..Spec::default() }
}

/// A text at an unknown place.
pub(crate) fn text(text: &str) -> Text {
    Text { text: text.to_owned(), at: Position::default() }
}

fn fields(object: &Map<String, Value>) -> Vec<Field> {
    let field = |(key, value): (&String, &Value)| Field {
        key: key.trim_start_matches('#').trim_end_matches('?').to_owned(),
        optional: key.ends_with('?'),
        enabled: !key.starts_with('#'),
        at: Position::default(),
        value: node(value),
    };
    object.iter().filter(|(key, _)| *key != "each").map(field).collect()
}

fn node(value: &Value) -> Node {
    match value {
        Value::Null => Node::Null,
        Value::Bool(value) => Node::Bool(*value),
        Value::Number(number) => Node::Number(number.to_string()),
        Value::String(string) => Node::Text(text(string)),
        Value::Array(items) => Node::Array(items.iter().map(node).collect()),
        Value::Object(object) => match object.get("each").and_then(Value::as_str) {
            Some(array) => Node::Each { array: text(array), item: fields(object) },
            None => Node::Object(fields(object)),
        },
    }
}

fn output((name, rule): (&String, &Value)) -> Output {
    Output {
        name: name.trim_end_matches('?').to_owned(),
        rule: text(rule.as_str().expect("an output is a text")),
        optional: name.ends_with('?'),
    }
}

fn shape(object: &Map<String, Value>) -> Shape {
    let mut shape = Shape::default();
    for (name, value) in object {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, kind)| (name.clone(), self::kind(kind))).collect();
                shape.arrays.insert(name.clone(), fields);
            }
            kind => drop(shape.header.insert(name.clone(), self::kind(kind))),
        }
    }
    shape
}

fn kind(name: &Value) -> Kind {
    match name.as_str() {
        Some("text") => Kind::Text,
        Some("decimal") => Kind::Decimal,
        Some("time") => Kind::Time,
        Some("bool") => Kind::Bool,
        other => panic!("{other:?} is no kind"),
    }
}

fn setting(value: &Value) -> Setting {
    match value {
        Value::Bool(value) => Setting::Bool(*value),
        Value::Number(number) => {
            Setting::Decimal(number.to_string().parse().expect("a setting's number is short"))
        }
        other => Setting::Text(other.as_str().expect("a setting is a scalar").to_owned()),
    }
}

fn table(value: &Value) -> Table {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().expect("columns and rows are arrays");
        items.iter().map(|item| item.as_str().expect("an answer is a text").to_owned()).collect()
    };
    let rows = value["rows"].as_object().expect("a table has rows");
    Table {
        columns: texts(&value["columns"]),
        rows: rows.iter().map(|(key, row)| (key.clone(), texts(row))).collect(),
        fallback: value.get("fallback").map(texts),
    }
}
