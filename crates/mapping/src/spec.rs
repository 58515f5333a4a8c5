//! What a mapping is compiled from: the model as its author wrote it, with the place of every piece.

use std::collections::{BTreeMap, HashMap};

use rust_decimal::Decimal;

/// A place in a scheme file; lines and columns count from 1, 0 means "unknown".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// A piece of text with its place: a template, an expression, a path or a constant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The text as written.
    pub text: String,
    /// Where it begins.
    pub at: Position,
}

/// One node of the target model, in the author's key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A JSON object.
    Object(Vec<Field>),
    /// A literal JSON array of fixed length.
    Array(Vec<Node>),
    /// One object per element of a source array.
    Each {
        /// The source array's name.
        array: Text,
        /// The fields of each element.
        item: Vec<Field>,
    },
    /// A constant text, a template (`{{ … }}` inside) or an expression (leading `= `).
    Text(Text),
    /// A constant number, digits as written.
    Number(String),
    /// A constant boolean.
    Bool(bool),
    /// A constant null.
    Null,
}

/// One field of an object in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The JSON key.
    pub key: String,
    /// Left out, instead of reported, when something in it resolves to nothing.
    pub optional: bool,
    /// Off fields are compiled and checked like all others, but never written.
    pub enabled: bool,
    /// Where the key stands.
    pub at: Position,
    /// What is written.
    pub value: Node,
}

/// The declared type of a source field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text; numbers are accepted and keep their digits.
    Text,
    /// A decimal, as a JSON number or as text.
    Decimal,
    /// A point in time: epoch milliseconds or seconds (number or text), `yyyy-MM-dd HH:mm:ss` or `yyyy-MM-dd`.
    Time,
    /// true, false, 0, 1 or their text.
    Bool,
}

/// The fields a source document is declared to have; a name that isn't here is a mistake found at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Scalar fields of the header.
    pub header: BTreeMap<String, Kind>,
    /// Arrays of the header, each with the scalar fields of its elements.
    pub arrays: BTreeMap<String, BTreeMap<String, Kind>>,
}

/// A constant of the scheme that expressions may use as `settings.<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Text.
    Text(String),
    /// A decimal.
    Decimal(Decimal),
    /// A boolean.
    Bool(bool),
}

/// A look-up table: the first column is the key, the others are answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Names of the answer columns, in order.
    pub columns: Vec<String>,
    /// Key to answers; each row has one text per column.
    pub rows: HashMap<String, Vec<String>>,
    /// Answers for a key that has no row of its own, if the table gives them (key `*`).
    pub fallback: Option<Vec<String>>,
}

/// Everything a mapping is compiled from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The fields of the target document, in wire order.
    pub model: Vec<Field>,
    /// A boolean expression; a document for which it is false is not for this scheme.
    pub filter: Option<Text>,
    /// Side results per document by name (business key, write key), evaluated with the model.
    pub outputs: Vec<Output>,
    /// The declared source fields; without it a name inside `each` is looked for in the line, then in the header.
    pub shape: Option<Shape>,
    /// Constants.
    pub settings: BTreeMap<String, Setting>,
    /// Look-up tables by name.
    pub tables: BTreeMap<String, Table>,
    /// Offset of the source's clock from UTC in seconds; WDT and Kingdee both keep Beijing time, 28800.
    pub utc_offset_seconds: i32,
}

/// A side result: an expression over the header whose text is handed out beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// A template or expression.
    pub rule: Text,
    /// Nothing is allowed.
    pub optional: bool,
}
