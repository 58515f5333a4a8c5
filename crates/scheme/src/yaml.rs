//! A YAML file as a tree that knows where every piece stands and keeps keys and digits as written.

use kingpost_mapping::spec::Position;
use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::problem::Findings;

/// How deep a file may be nested; a model of an ERP document needs five.
const DEEPEST: usize = 32;

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Where it begins, quotes included.
    pub(crate) at: Position,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Map(Vec<Entry>),
    List(Vec<Tree>),
    Scalar(Scalar),
}

/// A key with its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Tree,
}

/// A single value.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Where the text itself begins.
    pub(crate) at: Position,
    /// Not in quotes and no block, so that `true` and `20` mean what they look like.
    plain: bool,
}

/// What a single value means, by the rules of JSON: `no`, `010` and `1_000` are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    Nothing,
    Bool(bool),
    Number(&'a str),
    Text(&'a str),
}

impl Scalar {
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        match self.text.as_str() {
            text if !self.plain => Meaning::Text(text),
            "" | "~" | "null" => Meaning::Nothing,
            "true" => Meaning::Bool(true),
            "false" => Meaning::Bool(false),
            text if is_number(text) => Meaning::Number(text),
            text => Meaning::Text(text),
        }
    }

    /// Nothing was written at all, not even `null`.
    pub(crate) fn is_missing(&self) -> bool {
        self.plain && self.text.is_empty()
    }
}

impl Tree {
    /// The word for it in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Map(_) => "a mapping",
            Value::List(_) => "a list",
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Nothing => "nothing",
                Meaning::Bool(_) => "true or false",
                Meaning::Number(_) => "a number",
                Meaning::Text(_) => "a text",
            },
        }
    }
}

/// A JSON number.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

/// Reads a file's only document. What can't be read is noted; `None` when nothing is left to look at.
pub(crate) fn parse(text: &str, findings: &mut Findings) -> Option<Tree> {
    let options = granit_parser::options! { emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, findings };
    match reader.document() {
        Ok(tree) => tree,
        Err(error) => {
            let remedy = if text.contains('\t') && error.info().contains("tab") {
                "indent with blanks"
            } else {
                "mend it here or on the line before; a text that holds `: ` or ` #`, or begins with `{`, `[`, `*`, `&`, \
                 `!`, `%`, `@` or a quote, needs quotes around it"
            };
            findings.note(position(*error.marker()), format!("this is no YAML: {}", error.info()), remedy);
            None
        }
    }
}

struct Reader<'t, 'f> {
    parser: Parser<'t, StrInput<'t>>,
    findings: &'f mut Findings,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), ScanError> {
        let end = || Ok((Event::StreamEnd, Span::empty(Marker::new(0, 0, 0))));
        self.parser.next_event().unwrap_or_else(end)
    }

    fn document(&mut self) -> Result<Option<Tree>, ScanError> {
        let mut first = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(first),
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event if first.is_none() => first = Some(self.tree(event, span, 0)?),
                _ => {
                    let at = position(span.start);
                    self.findings.note(
                        at,
                        "a second document in one file",
                        "give every scheme a file of its own",
                    );
                    return Ok(first);
                }
            }
        }
    }

    fn tree(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Tree, ScanError> {
        if depth > DEEPEST {
            return Err(ScanError::new(span.start, format!("nested deeper than {DEEPEST} levels")));
        }
        let at = position(span.start);
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_property(anchor, tag.as_deref(), at);
                let plain = style == ScalarStyle::Plain;
                let quote = u32::from(matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted));
                let begins = Position { column: at.column + quote, ..at };
                // The parser calls a value that isn't there `~`, as if that had been written.
                let written = !plain || span.start.index() < span.end.index();
                let text = if written { text.into_owned() } else { String::new() };
                Value::Scalar(Scalar { text, at: begins, plain })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_property(anchor, tag.as_deref(), at);
                Value::List(self.list(depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_property(anchor, tag.as_deref(), at);
                Value::Map(self.map(depth)?)
            }
            _ => {
                self.findings.note(
                    at,
                    "an alias",
                    "write the value out here, or make it a constant under `settings`",
                );
                let text = String::from("null");
                Value::Scalar(Scalar { text, at, plain: true })
            }
        };
        Ok(Tree { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Tree>, ScanError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(items),
                (event, span) => items.push(self.tree(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, ScanError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(entries);
            }
            let key = self.tree(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.tree(event, span, depth + 1)?;
            let at = key.at;
            let Value::Scalar(Scalar { text: key, .. }) = key.value else {
                self.findings.note(
                    at,
                    format!("{} where a key should stand", key.kind()),
                    "put quotes around a text that begins with a brace: \"{{ order_no }}\"",
                );
                continue;
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let what = format!("key `{key}` is given twice, first on line {}", first.at.line);
                self.findings.note(at, what, "keep one of the two");
            } else {
                entries.push(Entry { key, at, value });
            }
        }
    }

    fn refuse_property(&mut self, anchor: usize, tag: Option<&Tag>, at: Position) {
        if anchor != 0 {
            let remedy = "remove `&…`; make a value that is used twice a constant under `settings`";
            self.findings.note(at, "an anchor", remedy);
        }
        if let Some(tag) = tag {
            let remedy = "remove it; a text in quotes is a text, everything else is what it looks like";
            self.findings.note(at, format!("the tag `{}`", tag.original()), remedy);
        }
    }
}

fn position(marker: Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
}
