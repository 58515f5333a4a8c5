use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::civil::{Date, DateTime};
use rust_decimal::Decimal;

use super::decimal::{self, NoResult};
use super::value::{Evaluated, Fault, Type, Value};
use crate::document::json::{Raw, RawKind, unescape};
use crate::document::{Cells, Lines};
use crate::functions::{Arguments, Function};
use crate::language::Operator;
use crate::spec::{Kind, Table};

/// A source field, resolved to its slot.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: Box<str>,
    pub(crate) scope: Scope,
    pub(crate) kind: Option<Kind>,
}

/// Where a field is looked for.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    Header {
        slot: u16,
    },
    Line {
        slot: u16,
        array: Box<str>,
    },
    /// In the line if the line has the key, else in the header.
    LineOrHeader {
        line: u16,
        header: u16,
        array: Box<str>,
    },
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) enum Expr {
    Field(Place),
    Constant(Constant),
    Convert(Type, Box<Expr>),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Arithmetic(Operator, Box<Expr>, Box<Expr>),
    /// Two values of one type.
    Compare(Operator, Box<Expr>, Box<Expr>, Type),
    Call(&'static Function, Box<[Expr]>),
    /// The table a `table` call names.
    Table(u16),
    /// The answer column a `table` call names.
    Column(u16),
    /// An expression over every line of an array, for `sum` and `count`.
    Lines {
        array: u16,
        name: Box<str>,
        item: Option<Box<Expr>>,
    },
}

/// A value written in the expression itself.
#[derive(Clone, Debug)]
pub(crate) enum Constant {
    Text(Box<str>),
    Decimal(Decimal),
    Bool(bool),
    Time(DateTime),
    Date(Date),
}

/// The document an expression is evaluated over.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) document: &'a str,
    pub(crate) header: Cells<'a>,
    pub(crate) arrays: &'a [Lines],
    pub(crate) tables: &'a [(Box<str>, Table)],
    pub(crate) offset_seconds: i32,
    pub(crate) line: Option<Line<'a>>,
}

/// The line an expression stands in.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) index: usize,
    pub(crate) cells: Cells<'a>,
}

impl<'a> Run<'a> {
    /// The same document at one line of an array.
    pub(crate) fn at_line(&self, lines: &'a Lines, index: usize) -> Run<'a> {
        Run { line: Some(Line { index, cells: lines.line(self.document, index) }), ..*self }
    }

    /// What stands in a place, whatever it is.
    #[inline]
    pub(crate) fn raw(&self, place: &Place) -> (Raw, &'a str) {
        let line = self.line.as_ref().map(|line| line.cells);
        let (cells, slot) = match (&place.scope, line) {
            (Scope::Line { slot, .. }, Some(cells)) => (cells, *slot),
            (Scope::LineOrHeader { line, .. }, Some(cells)) if cells.get(*line).kind != RawKind::Absent => {
                (cells, *line)
            }
            (Scope::Header { slot } | Scope::Line { slot, .. }, _) => (self.header, *slot),
            (Scope::LineOrHeader { header, .. }, _) => (self.header, *header),
        };
        (cells.get(slot), cells.text)
    }

    /// The index of the line a place was read from, if it was read from one.
    pub(crate) fn line_of(&self, place: &Place) -> Option<usize> {
        let line = self.line.as_ref()?;
        match &place.scope {
            Scope::Header { .. } => None,
            Scope::Line { .. } => Some(line.index),
            Scope::LineOrHeader { line: slot, header, .. } => {
                let absent = |raw: Raw| raw.kind == RawKind::Absent;
                let nowhere = absent(line.cells.get(*slot)) && absent(self.header.get(*header));
                (nowhere || !absent(line.cells.get(*slot))).then_some(line.index)
            }
        }
    }

    /// What stands in a place, if it is a single value and not nothing.
    #[inline]
    pub(crate) fn scalar(&self, place: &'a Place) -> Result<(Raw, &'a str), Fault<'a>> {
        let (raw, text) = self.raw(place);
        match raw.kind {
            RawKind::Plain | RawKind::Escaped if is_blank(raw, text) => Err(self.empty(place)),
            RawKind::Absent | RawKind::Null => Err(self.empty(place)),
            RawKind::Object | RawKind::Array => {
                let what = if raw.kind == RawKind::Object { "an object" } else { "an array" };
                Err(Fault::wrong(format!(
                    "{} is {what}, not a single value",
                    place.path(self.line_of(place))
                )))
            }
            _ => Ok((raw, text)),
        }
    }

    #[inline]
    fn empty(&self, place: &'a Place) -> Fault<'a> {
        Fault::Empty { place, line: self.line_of(place) }
    }
}

impl Place {
    /// The path as a person would look for it; lines count from 1: `details_list[3].tax_price`.
    pub(crate) fn path(&self, line: Option<usize>) -> String {
        match (&self.scope, line) {
            (Scope::Line { array, .. } | Scope::LineOrHeader { array, .. }, Some(line)) => {
                format!("{array}[{}].{}", line + 1, self.name)
            }
            (Scope::Line { array, .. }, None) => format!("{array}[].{}", self.name),
            _ => self.name.to_string(),
        }
    }

    /// True if every line of a document finds the same value here.
    pub(crate) fn is_of_header(&self) -> bool {
        matches!(self.scope, Scope::Header { .. })
    }
}

/// True for a string of blanks only; the full-width blank counts.
#[inline]
fn is_blank(raw: Raw, text: &str) -> bool {
    let inside = raw.inside(text);
    match inside.as_bytes().first() {
        // Blanks outside of ASCII begin with bytes below 0xE4; most Chinese characters don't.
        Some(b'!'..=b'[' | b']'..=b'~' | 0xE4..) => false,
        None => true,
        _ if raw.kind == RawKind::Plain => inside.trim().is_empty(),
        _ => {
            let mut decoded = String::new();
            unescape(inside, &mut decoded);
            decoded.trim().is_empty()
        }
    }
}

/// The value of a scanned scalar in its own JSON type.
#[inline]
fn natural<'a>(raw: Raw, text: &'a str) -> Value<'a> {
    match raw.kind {
        RawKind::Plain => Value::Text(Cow::Borrowed(raw.inside(text))),
        RawKind::Number => Value::Digits(raw.json(text)),
        RawKind::True | RawKind::False => Value::Bool(raw.kind == RawKind::True),
        _ => {
            let mut decoded = String::new();
            unescape(raw.inside(text), &mut decoded);
            Value::Text(Cow::Owned(decoded))
        }
    }
}

impl Expr {
    /// The value over one document.
    pub(crate) fn evaluate<'a>(&'a self, run: &Run<'a>) -> Evaluated<'a> {
        match self {
            Expr::Field(place) => {
                let (raw, text) = run.scalar(place)?;
                let wanted = place.kind.map_or(Type::Any, kind_type);
                self.converted(natural(raw, text), wanted, run)
            }
            Expr::Constant(constant) => Ok(constant.value()),
            Expr::Convert(wanted, inner) => {
                let value = inner.evaluate(run)?;
                inner.converted(value, *wanted, run)
            }
            Expr::Not(inner) => Ok(Value::Bool(!inner.truth(run)?)),
            Expr::Minus(inner) => Ok(Value::Decimal(-inner.number(run)?)),
            Expr::And(left, right) => Ok(Value::Bool(left.truth(run)? && right.truth(run)?)),
            Expr::Or(left, right) => Ok(Value::Bool(left.truth(run)? || right.truth(run)?)),
            Expr::Arithmetic(..) => self.number(run).map(Value::Decimal),
            Expr::Compare(operator, left, right, Type::Decimal) => {
                let order = left.number(run)?.cmp(&right.number(run)?);
                Ok(Value::Bool(holds(*operator, order)))
            }
            Expr::Compare(operator, left, right, _) => {
                let order = left.evaluate(run)?.compare(&right.evaluate(run)?)?;
                Ok(Value::Bool(holds(*operator, order)))
            }
            Expr::Call(function, arguments) => (function.call)(&Arguments { run, expressions: arguments }),
            Expr::Table(_) | Expr::Column(_) | Expr::Lines { .. } => {
                Err(Fault::wrong("this is no value by itself"))
            }
        }
    }

    /// The field whose characters this expression yields, and the type it yields them in.
    #[inline]
    pub(crate) fn copied(&self) -> Option<(&Place, Type)> {
        match self {
            Expr::Field(place) => Some((place, place.kind.map_or(Type::Any, kind_type))),
            Expr::Convert(wanted, inner) => match &**inner {
                Expr::Field(place) if place.kind.is_none() => Some((place, *wanted)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of an expression that was checked to be a decimal.
    pub(crate) fn number<'a>(&'a self, run: &Run<'a>) -> Result<Decimal, Fault<'a>> {
        match self {
            Expr::Constant(Constant::Decimal(value)) => return Ok(*value),
            Expr::Arithmetic(operator, left, right) => {
                return calculate(*operator, left.number(run)?, right.number(run)?);
            }
            _ => {}
        }
        if let Some((place, Type::Decimal)) = self.copied() {
            let (raw, text) = run.scalar(place)?;
            let digits = match raw.kind {
                RawKind::Plain => raw.inside(text),
                RawKind::Number => raw.json(text),
                _ => "",
            };
            // Anything unusual goes the long way, which also words the problem.
            if let Some(value) = decimal::parse_short(digits) {
                return Ok(value);
            }
        }
        self.evaluate(run)?.as_decimal()
    }

    /// The value of an expression that was checked to be true or false.
    pub(crate) fn truth<'a>(&'a self, run: &Run<'a>) -> Result<bool, Fault<'a>> {
        match self.evaluate(run)? {
            Value::Bool(value) => Ok(value),
            other => Err(Fault::wrong(format!("{} is not true or false", other.shown()))),
        }
    }

    /// `value`, which this expression yielded, in another type.
    #[inline]
    pub(crate) fn converted<'a>(&'a self, value: Value<'a>, wanted: Type, run: &Run<'a>) -> Evaluated<'a> {
        value.convert(wanted, run.offset_seconds).map_err(|problem| {
            let subject = match self {
                Expr::Field(place) => place.path(run.line_of(place)),
                _ => "the value".to_owned(),
            };
            Fault::wrong(format!("{subject} {problem}"))
        })
    }

    /// Every source field and array in this expression, in reading order.
    pub(crate) fn visit<'e>(&'e self, see: &mut dyn FnMut(&'e Expr)) {
        see(self);
        match self {
            Expr::Convert(_, inner) | Expr::Not(inner) | Expr::Minus(inner) => inner.visit(see),
            Expr::And(left, right)
            | Expr::Or(left, right)
            | Expr::Arithmetic(_, left, right)
            | Expr::Compare(_, left, right, _) => {
                left.visit(see);
                right.visit(see);
            }
            Expr::Call(_, arguments) => arguments.iter().for_each(|argument| argument.visit(see)),
            Expr::Field(_) | Expr::Constant(_) | Expr::Table(_) | Expr::Column(_) | Expr::Lines { .. } => {}
        }
    }
}

impl Constant {
    fn value(&self) -> Value<'_> {
        match self {
            Constant::Text(text) => Value::Text(Cow::Borrowed(text)),
            Constant::Decimal(value) => Value::Decimal(*value),
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Time(time) => Value::Time(*time),
            Constant::Date(date) => Value::Date(*date),
        }
    }
}

/// The type a declared field has.
pub(crate) fn kind_type(kind: Kind) -> Type {
    match kind {
        Kind::Text => Type::Text,
        Kind::Decimal => Type::Decimal,
        Kind::Time => Type::Time,
        Kind::Bool => Type::Bool,
    }
}

fn calculate<'a>(operator: Operator, left: Decimal, right: Decimal) -> Result<Decimal, Fault<'a>> {
    let result = match operator {
        Operator::Add => decimal::add(left, right),
        Operator::Subtract => decimal::add(left, -right),
        Operator::Multiply => decimal::multiply(left, right),
        Operator::Divide => decimal::divide(left, right),
        _ => decimal::remainder(left, right),
    };
    result.map_err(|why| {
        let sign = operator.sign();
        Fault::wrong(match why {
            NoResult::Zero => format!("{left} {sign} {right} divides by zero"),
            NoResult::TooLong => format!("{left} {sign} {right} has more than 28 digits; round before"),
        })
    })
}

fn holds(operator: Operator, order: Ordering) -> bool {
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::Unequal => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    }
}
