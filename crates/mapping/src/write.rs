//! The compiled model and how it is written over one document.

use std::ops::Range;

use crate::document::Lines;
use crate::document::escape::write_inside;
use crate::document::json::{Raw, RawKind};
use crate::evaluate::{Expr, Fault, Run, Type, cut, decimal};
use crate::problem::{FieldProblem, Input};

/// One step of writing a model.
#[derive(Debug)]
pub(crate) enum Step {
    /// JSON that is the same for every document.
    Literal(Box<[u8]>),
    /// A comma, unless the object has just begun.
    Comma,
    Rule(Box<Rule>),
    /// A field that is left out if something in it is nothing.
    Optional {
        steps: Box<[Step]>,
        drop_empty: bool,
    },
    Each(Box<Each>),
}

/// An array of the model, one object per line of a source array.
#[derive(Debug)]
pub(crate) struct Each {
    pub(crate) array: u16,
    pub(crate) name: Box<str>,
    pub(crate) field: Box<str>,
    pub(crate) steps: Box<[Step]>,
}

/// An expression or template with its place in the model.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) form: Form,
    /// The field's path, `[]` standing for the line.
    pub(crate) field: Box<str>,
    /// As the author wrote it.
    pub(crate) source: Box<str>,
    /// Where its JSON is kept if every line yields the same.
    pub(crate) cache: Option<u16>,
}

/// What a rule writes.
#[derive(Debug)]
pub(crate) enum Form {
    /// One value of its own type.
    Single(Expr),
    /// One text.
    Mixed(Box<[Piece]>),
}

/// A piece of a mixed text.
#[derive(Debug)]
pub(crate) enum Piece {
    Text(Box<str>),
    Expression(Expr),
}

/// What rules that don't depend on the line have yielded for the document at hand.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: Vec<Kept>,
    json: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
enum Kept {
    #[default]
    Unknown,
    Json(Range<usize>),
    /// It has no value, and that was reported if it had to be.
    Failed(Wrote),
}

impl Cache {
    /// Forgets the last document.
    pub(crate) fn reset(&mut self, entries: u16) {
        self.entries.clear();
        self.entries.resize(usize::from(entries), Kept::Unknown);
        self.json.clear();
    }
}

/// Writes a model and collects what is wrong with it.
pub(crate) struct Writer<'o> {
    pub(crate) out: &'o mut Vec<u8>,
    pub(crate) cache: &'o mut Cache,
    pub(crate) problems: Vec<FieldProblem>,
    /// Inside an optional field: what is nothing is left out with it, and is no problem.
    pub(crate) forgives: bool,
}

impl Writer<'_> {
    /// Writes all steps; false if something in them is nothing.
    pub(crate) fn write<'a>(&mut self, steps: &'a [Step], run: &Run<'a>) -> bool {
        let mut complete = true;
        for step in steps {
            match step {
                Step::Literal(json) => self.out.extend_from_slice(json),
                Step::Rule(rule) => complete &= self.rule(rule, run),
                Step::Comma => {
                    if self.out.last() != Some(&b'{') {
                        self.out.push(b',');
                    }
                }
                Step::Optional { steps, drop_empty } => self.optional(steps, *drop_empty, run),
                Step::Each(each) => complete &= self.each(each, run),
            }
        }
        complete
    }

    fn optional<'a>(&mut self, steps: &'a [Step], drop_empty: bool, run: &Run<'a>) {
        let start = self.out.len();
        let outer = std::mem::replace(&mut self.forgives, true);
        let complete = self.write(steps, run);
        self.forgives = outer;
        if !complete || (drop_empty && self.out.ends_with(b":{}")) {
            self.out.truncate(start);
        }
    }

    fn each<'a>(&mut self, each: &'a Each, run: &Run<'a>) -> bool {
        let usable = match run.arrays.get(usize::from(each.array)) {
            Some(lines) => usable(lines, run.document, &each.name).map(|()| lines),
            None => Err(Fault::NoLines(&each.name)),
        };
        let lines = match usable {
            Ok(lines) => lines,
            Err(fault) if fault.is_nothing() && self.forgives => return false,
            Err(fault) => {
                self.problems.push(FieldProblem {
                    field: each.field.to_string(),
                    rule: format!("each: {}", each.name),
                    inputs: Vec::new(),
                    message: fault.to_string(),
                });
                return true;
            }
        };
        // A line that lacks something never makes the whole array go missing.
        let outer = std::mem::replace(&mut self.forgives, false);
        self.out.push(b'[');
        for index in 0..lines.count() {
            if index > 0 {
                self.out.push(b',');
            }
            self.write(&each.steps, &run.at_line(lines, index));
        }
        self.out.push(b']');
        self.forgives = outer;
        true
    }

    /// Writes a rule's value; false if it is nothing and an optional field around it is left out for that.
    fn rule<'a>(&mut self, rule: &'a Rule, run: &Run<'a>) -> bool {
        let Some(cache) = rule.cache else { return self.fresh(rule, run) != Wrote::Nothing };
        let entry = usize::from(cache);
        match self.cache.entries.get(entry) {
            Some(Kept::Json(range)) => {
                self.out.extend_from_slice(self.cache.json.get(range.clone()).unwrap_or_default());
                return true;
            }
            Some(Kept::Failed(wrote)) => return *wrote != Wrote::Nothing,
            _ => {}
        }
        let start = self.out.len();
        let wrote = self.fresh(rule, run);
        let kept = if wrote == Wrote::Value {
            let from = self.cache.json.len();
            self.cache.json.extend_from_slice(self.out.get(start..).unwrap_or_default());
            Kept::Json(from..self.cache.json.len())
        } else {
            Kept::Failed(wrote)
        };
        if let Some(place) = self.cache.entries.get_mut(entry) {
            *place = kept;
        }
        wrote != Wrote::Nothing
    }

    #[inline]
    fn fresh<'a>(&mut self, rule: &'a Rule, run: &Run<'a>) -> Wrote {
        match rule.form.write(run, self.out) {
            Ok(()) => Wrote::Value,
            Err(fault) if self.forgives && fault.is_nothing() => Wrote::Nothing,
            Err(fault) => {
                self.report(rule, &fault, run);
                Wrote::Problem
            }
        }
    }

    #[cold]
    pub(crate) fn report<'a>(&mut self, rule: &'a Rule, fault: &Fault<'a>, run: &Run<'a>) {
        let field = match &run.line {
            Some(line) => rule.field.replacen("[]", &format!("[{}]", line.index + 1), 1),
            None => rule.field.to_string(),
        };
        self.problems.push(FieldProblem {
            field,
            rule: rule.source.to_string(),
            inputs: rule.form.inputs(run),
            message: fault.to_string(),
        });
    }
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    Value,
    Nothing,
    Problem,
}

impl Form {
    #[inline]
    fn write<'a>(&'a self, run: &Run<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
        match self {
            Form::Single(expression) => write_json(expression, run, out),
            Form::Mixed(pieces) => {
                out.push(b'"');
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => write_inside(text, out),
                        Piece::Expression(expression) => write_piece(expression, run, out)?,
                    }
                }
                out.push(b'"');
                Ok(())
            }
        }
    }

    /// The value as plain text.
    pub(crate) fn text<'a>(&'a self, run: &Run<'a>) -> Result<String, Fault<'a>> {
        match self {
            Form::Single(expression) => Ok(expression.evaluate(run)?.into_text().into_owned()),
            Form::Mixed(pieces) => pieces.iter().try_fold(String::new(), |mut text, piece| {
                match piece {
                    Piece::Text(constant) => text.push_str(constant),
                    Piece::Expression(expression) => text.push_str(&expression.evaluate(run)?.into_text()),
                }
                Ok(text)
            }),
        }
    }

    /// The value of a rule that was checked to be true or false.
    pub(crate) fn truth<'a>(&'a self, run: &Run<'a>) -> Result<bool, Fault<'a>> {
        match self {
            Form::Single(expression) => expression.truth(run),
            Form::Mixed(_) => Err(Fault::wrong("a text is not true or false")),
        }
    }

    /// Shows every part of the rule's expressions.
    pub(crate) fn visit<'e>(&'e self, see: &mut dyn FnMut(&'e Expr)) {
        match self {
            Form::Single(expression) => expression.visit(see),
            Form::Mixed(pieces) => pieces.iter().for_each(|piece| {
                if let Piece::Expression(expression) = piece {
                    expression.visit(see);
                }
            }),
        }
    }

    fn inputs(&self, run: &Run<'_>) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        self.visit(&mut |expression| {
            let input = match expression {
                Expr::Field(place) => {
                    let (raw, text) = run.raw(place);
                    Input { path: place.path(run.line_of(place)), value: shown(raw, text) }
                }
                Expr::Lines { array, name, .. } => {
                    let count = run.arrays.get(usize::from(*array)).map_or(0, Lines::count);
                    Input { path: name.to_string(), value: format!("{count} lines") }
                }
                _ => return,
            };
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        });
        inputs
    }
}

/// Writes an expression's value, copying a field's characters where its type is written just so.
#[inline]
fn write_json<'a>(expression: &'a Expr, run: &Run<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    if let Some((place, kind)) = expression.copied() {
        let (raw, text) = run.scalar(place)?;
        let digits = match (kind, raw.kind) {
            (Type::Any, _) | (Type::Text, RawKind::Plain | RawKind::Escaped) => {
                out.extend_from_slice(raw.json(text).as_bytes());
                return Ok(());
            }
            (Type::Text, RawKind::Number) => {
                out.push(b'"');
                out.extend_from_slice(raw.json(text).as_bytes());
                out.push(b'"');
                return Ok(());
            }
            (Type::Decimal, RawKind::Plain) => raw.inside(text),
            (Type::Decimal, RawKind::Number) => raw.json(text),
            _ => "",
        };
        if decimal::is_plain(digits) {
            out.extend_from_slice(digits.as_bytes());
            return Ok(());
        }
    }
    expression.evaluate(run)?.write_json(out);
    Ok(())
}

/// Writes an expression's value as part of a text.
#[inline]
fn write_piece<'a>(expression: &'a Expr, run: &Run<'a>, out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    if let Some((place, Type::Any | Type::Text)) = expression.copied() {
        let (raw, text) = run.scalar(place)?;
        let copied = match raw.kind {
            RawKind::Plain | RawKind::Escaped => raw.inside(text),
            _ => raw.json(text),
        };
        out.extend_from_slice(copied.as_bytes());
        return Ok(());
    }
    expression.evaluate(run)?.write_inside(out);
    Ok(())
}

/// Refuses what stands under an array's name if it is no array of lines.
pub(crate) fn usable<'a>(lines: &Lines, document: &str, name: &'a str) -> Result<(), Fault<'a>> {
    let raw = lines.raw();
    if !lines.is_array() {
        let is_blank = match raw.kind {
            RawKind::Absent | RawKind::Null => true,
            RawKind::Plain => raw.inside(document).trim().is_empty(),
            _ => false,
        };
        let shown = shown(raw, document);
        return Err(if is_blank {
            Fault::NoLines(name)
        } else {
            Fault::wrong(format!("{name} is {shown}, not an array of lines"))
        });
    }
    match lines.strays().first() {
        Some(stray) => Err(Fault::wrong(format!("{name}[{}] is not an object", stray + 1))),
        None if lines.count() == 0 => Err(Fault::NoLines(name)),
        None => Ok(()),
    }
}

fn shown(raw: Raw, text: &str) -> String {
    match raw.kind {
        RawKind::Absent => "absent".to_owned(),
        RawKind::Object => "an object".to_owned(),
        RawKind::Array => "an array".to_owned(),
        _ => cut(raw.json(text)).into_owned(),
    }
}
