use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use jiff::civil::{Date, DateTime};
use rust_decimal::Decimal;

use super::decimal::{self, NotDecimal};
use super::expression::Place;
use super::time;
use crate::document::escape::{write_inside, write_string};

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// A source field that no shape declares: converted where a type is asked for.
    Any,
    Text,
    Decimal,
    Bool,
    /// A point in time.
    Time,
    /// A day.
    Date,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "undeclared",
            Self::Text => "text",
            Self::Decimal => "a decimal",
            Self::Bool => "true or false",
            Self::Time => "a time",
            Self::Date => "a date",
        })
    }
}

/// What an expression yields.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    /// A JSON number whose characters are kept because nothing was calculated.
    Digits(&'a str),
    Decimal(Decimal),
    Bool(bool),
    Time(DateTime),
    Date(Date),
}

/// Why an expression yields no value.
#[derive(Clone, Debug)]
pub(crate) enum Fault<'a> {
    /// A source field is absent, null, or blank; with the index of its line.
    Empty { place: &'a Place, line: Option<usize> },
    /// An array is absent or has no lines.
    NoLines(&'a str),
    /// A function was left with nothing but blanks.
    Blank(&'static str),
    /// A mistake in the data.
    Wrong(Box<str>),
}

/// The outcome of an expression.
pub(crate) type Evaluated<'a> = Result<Value<'a>, Fault<'a>>;

impl Fault<'_> {
    /// A mistake in the data.
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Fault::Wrong(message.into().into_boxed_str())
    }

    /// True if there is nothing, which a default or an optional field may make good.
    pub(crate) fn is_nothing(&self) -> bool {
        !matches!(self, Fault::Wrong(_))
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty { place, line } => write!(f, "{} is empty", place.path(*line)),
            Fault::NoLines(array) => write!(f, "{array} has no lines"),
            Fault::Blank(function) => write!(f, "{function} leaves nothing"),
            Fault::Wrong(message) => f.write_str(message),
        }
    }
}

impl<'a> Value<'a> {
    /// The same in another type; the error completes the sentence "it …".
    pub(crate) fn convert(self, wanted: Type, offset_seconds: i32) -> Result<Self, String> {
        match (wanted, self) {
            (Type::Any, value) => Ok(value),
            (Type::Text, value) => Ok(Value::Text(value.into_text())),
            (Type::Decimal, value) => value.into_decimal(),
            (Type::Bool, value) => value.into_bool(),
            (Type::Time, value) => value.into_time(offset_seconds).map(Value::Time),
            (Type::Date, value) => value.into_time(offset_seconds).map(|time| Value::Date(time.date())),
        }
    }

    /// As text: digits and words as they are, times as `yyyy-MM-dd HH:mm:ss`, dates as `yyyy-MM-dd`.
    pub(crate) fn into_text(self) -> Cow<'a, str> {
        match self {
            Value::Text(text) => text,
            Value::Digits(digits) => Cow::Borrowed(digits),
            Value::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Value::Decimal(_) | Value::Time(_) | Value::Date(_) => {
                let mut out = Vec::new();
                self.write_inside(&mut out);
                Cow::Owned(String::from_utf8(out).unwrap_or_default())
            }
        }
    }

    /// Which comes first; both were checked to be of one type.
    pub(crate) fn compare(&self, other: &Value<'a>) -> Result<Ordering, Fault<'a>> {
        Ok(match (self, other) {
            (Value::Text(left), Value::Text(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (Value::Time(left), Value::Time(right)) => left.cmp(right),
            (Value::Date(left), Value::Date(right)) => left.cmp(right),
            _ => self.as_decimal()?.cmp(&other.as_decimal()?),
        })
    }

    /// The decimal of a value that has been converted to one.
    pub(crate) fn as_decimal(&self) -> Result<Decimal, Fault<'a>> {
        match self {
            Value::Decimal(value) => Ok(*value),
            Value::Digits(digits) => {
                decimal::parse(digits).map_err(|why| Fault::wrong(not_decimal(digits, why)))
            }
            other => Err(Fault::wrong(format!("{} is not a decimal", other.shown()))),
        }
    }

    fn into_decimal(self) -> Result<Self, String> {
        match self {
            Value::Decimal(_) => Ok(self),
            Value::Digits(digits) if decimal::is_plain(digits) => Ok(self),
            Value::Digits(digits) => match decimal::parse(digits) {
                Ok(_) => Ok(self),
                Err(why) => Err(not_decimal(digits, why)),
            },
            Value::Text(Cow::Borrowed(text)) if decimal::is_plain(text.trim()) => {
                Ok(Value::Digits(text.trim()))
            }
            Value::Text(text) => {
                decimal::parse(text.trim()).map(Value::Decimal).map_err(|why| not_decimal(&text, why))
            }
            other => Err(format!("is {}, not a decimal", other.shown())),
        }
    }

    fn into_bool(self) -> Result<Self, String> {
        let written = match &self {
            Value::Bool(_) => return Ok(self),
            Value::Text(text) => text.trim(),
            Value::Digits(digits) => digits,
            _ => "",
        };
        match written {
            "1" => Ok(Value::Bool(true)),
            "0" => Ok(Value::Bool(false)),
            word if word.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            word if word.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            _ => Err(format!("is {}, not true, false, 1 or 0", self.shown())),
        }
    }

    fn into_time(self, offset_seconds: i32) -> Result<DateTime, String> {
        let written = match &self {
            Value::Time(time) => return Ok(*time),
            Value::Date(date) => return Ok(date.to_datetime(jiff::civil::Time::midnight())),
            Value::Text(text) => text.trim(),
            Value::Digits(digits) => digits,
            _ => "",
        };
        time::parse(written, offset_seconds).ok_or_else(|| {
            let forms = "yyyy-MM-dd HH:mm:ss, yyyy-MM-dd, epoch milliseconds or epoch seconds";
            format!("is {}, not a time ({forms})", self.shown())
        })
    }

    /// Appends the value as JSON.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => write_string(text, out),
            Value::Time(_) | Value::Date(_) => {
                out.push(b'"');
                self.write_inside(out);
                out.push(b'"');
            }
            _ => self.write_inside(out),
        }
    }

    /// Appends the value as the inside of a JSON string.
    pub(crate) fn write_inside(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => write_inside(text, out),
            Value::Digits(digits) => out.extend_from_slice(digits.as_bytes()),
            Value::Decimal(value) => decimal::write(*value, out),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Time(time) => time::write_time(*time, out),
            Value::Date(date) => time::write_date(*date, out),
        }
    }

    /// For messages: texts in quotes, long ones cut.
    pub(crate) fn shown(&self) -> String {
        match self {
            Value::Text(text) => format!("'{}'", cut(text)),
            other => cut(&other.clone().into_text()).into_owned(),
        }
    }
}

fn not_decimal(text: &str, why: NotDecimal) -> String {
    match why {
        NotDecimal::Shape => format!("is '{}', not a decimal", cut(text)),
        NotDecimal::TooLong => format!("is {}, which has more than 28 digits", cut(text)),
    }
}

/// At most 60 characters of a text.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
    }
}
