//! The functions of the language, one file each; [`all`] is the register and [`reference()`] the manual.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::civil::DateTime;
use rust_decimal::Decimal;

use crate::document::Lines;
use crate::evaluate::{Evaluated, Expr, Fault, Run, Type, Value};
use crate::spec::Table;

mod abs;
mod add_days;
mod boolean;
mod coalesce;
mod concat;
mod contains;
mod count;
mod date;
mod datetime;
mod decimal;
mod default;
mod ends_with;
mod exists;
mod r#if;
mod is_empty;
mod lower;
mod max;
mod min;
mod one_of;
mod replace;
mod round;
mod round_even;
mod starts_with;
mod substr;
mod sum;
mod table;
mod text;
mod trim;
mod upper;

/// A function of the language with everything there is to say about it.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Names and types, as in `round(x: decimal, digits?: decimal) -> decimal`.
    pub signature: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// Calls with what they give; all are executed as tests.
    pub examples: &'static [Example],
    pub(crate) takes: &'static [Takes],
    /// How many arguments may be left out from the end.
    pub(crate) optional: usize,
    /// The last parameter may be repeated.
    pub(crate) repeats: bool,
    pub(crate) gives: Gives,
    pub(crate) call: Call,
}

/// An expression over a document and what it gives.
#[derive(Debug)]
pub struct Example {
    /// The expression.
    pub expression: &'static str,
    /// The source document, JSON.
    pub document: &'static str,
    /// The JSON written, or the message of the problem.
    pub gives: Result<&'static str, &'static str>,
}

/// How a function is evaluated; arguments are evaluated when it asks for them.
pub(crate) type Call = for<'r, 'a> fn(&Arguments<'r, 'a>) -> Evaluated<'a>;

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A value of this type; undeclared fields are converted, [`Type::Any`] takes everything.
    Value(Type),
    /// Of one type with all other arguments that say so.
    Same,
    /// The same, and the type must be known because values are compared.
    Comparable,
    /// The name of a table, as a literal.
    Table,
    /// A column of that table, as a literal.
    Column,
    /// An array of the source.
    Array,
    /// A decimal expression over the lines of an array.
    Lines,
}

/// What a function yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    /// A value of this type.
    Value(Type),
    /// Its argument in this type.
    Converted(Type),
    /// What its [`Takes::Same`] or [`Takes::Comparable`] arguments are.
    Same,
}

/// The arguments of one call.
pub(crate) struct Arguments<'r, 'a> {
    pub(crate) run: &'r Run<'a>,
    pub(crate) expressions: &'a [Expr],
}

impl<'a> Arguments<'_, 'a> {
    pub(crate) fn len(&self) -> usize {
        self.expressions.len()
    }

    fn expression(&self, index: usize) -> Result<&'a Expr, Fault<'a>> {
        self.expressions.get(index).ok_or_else(|| Fault::wrong("an argument is missing"))
    }

    pub(crate) fn value(&self, index: usize) -> Evaluated<'a> {
        self.expression(index)?.evaluate(self.run)
    }

    pub(crate) fn text(&self, index: usize) -> Result<Cow<'a, str>, Fault<'a>> {
        Ok(self.value(index)?.into_text())
    }

    pub(crate) fn decimal(&self, index: usize) -> Result<Decimal, Fault<'a>> {
        self.expression(index)?.number(self.run)
    }

    pub(crate) fn truth(&self, index: usize) -> Result<bool, Fault<'a>> {
        self.expression(index)?.truth(self.run)
    }

    /// An argument in another type.
    pub(crate) fn convert(&self, index: usize, wanted: Type) -> Evaluated<'a> {
        let expression = self.expression(index)?;
        expression.converted(expression.evaluate(self.run)?, wanted, self.run)
    }

    pub(crate) fn time(&self, index: usize) -> Result<DateTime, Fault<'a>> {
        match self.convert(index, Type::Time)? {
            Value::Time(time) => Ok(time),
            other => Err(Fault::wrong(format!("{} is not a time", other.shown()))),
        }
    }

    /// The table and the column a `table` call names, with the table's name.
    pub(crate) fn table(&self) -> Result<(&'a str, &'a Table, usize), Fault<'a>> {
        match (self.expression(1)?, self.expression(2)?) {
            (Expr::Table(table), Expr::Column(column)) => match self.run.tables.get(usize::from(*table)) {
                Some((name, table)) => Ok((name, table, usize::from(*column))),
                None => Err(Fault::wrong("the table is missing")),
            },
            _ => Err(Fault::wrong("the table is missing")),
        }
    }

    /// A whole number between `low` and `high`.
    pub(crate) fn whole(&self, index: usize, low: i64, high: i64) -> Result<i64, Fault<'a>> {
        let value = self.decimal(index)?;
        let whole = i64::try_from(value).ok().filter(|_| value.is_integer());
        whole
            .filter(|whole| (low..=high).contains(whole))
            .ok_or_else(|| Fault::wrong(format!("{value} is not a whole number from {low} to {high}")))
    }

    /// The lines of an array argument, with the expression to evaluate over each.
    pub(crate) fn lines(&self, index: usize) -> Result<(&'a Lines, Option<&'a Expr>), Fault<'a>> {
        let Expr::Lines { array, name, item } = self.expression(index)? else {
            return Err(Fault::wrong("an array is missing"));
        };
        let Some(lines) = self.run.arrays.get(usize::from(*array)) else { return Err(Fault::NoLines(name)) };
        crate::write::usable(lines, self.run.document, name)?;
        Ok((lines, item.as_deref()))
    }
}

/// Text that a function made: nothing but blanks is nothing.
pub(crate) fn made<'a>(text: Cow<'a, str>, function: &'static str) -> Evaluated<'a> {
    if text.trim().is_empty() { Err(Fault::Blank(function)) } else { Ok(Value::Text(text)) }
}

/// Every function, by name.
pub fn all() -> &'static [&'static Function] {
    &FUNCTIONS
}

static FUNCTIONS: [&Function; 29] = [
    &abs::ABS,
    &add_days::ADD_DAYS,
    &boolean::BOOL,
    &coalesce::COALESCE,
    &concat::CONCAT,
    &contains::CONTAINS,
    &count::COUNT,
    &date::DATE,
    &datetime::DATETIME,
    &decimal::DECIMAL,
    &default::DEFAULT,
    &ends_with::ENDS_WITH,
    &exists::EXISTS,
    &r#if::IF,
    &is_empty::IS_EMPTY,
    &lower::LOWER,
    &max::MAX,
    &min::MIN,
    &one_of::ONE_OF,
    &replace::REPLACE,
    &round::ROUND,
    &round_even::ROUND_EVEN,
    &starts_with::STARTS_WITH,
    &substr::SUBSTR,
    &sum::SUM,
    &table::TABLE,
    &text::TEXT,
    &trim::TRIM,
    &upper::UPPER,
];

/// The function of a name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().copied().find(|function| function.name == name)
}

/// The manual of all functions as a Markdown table.
pub fn reference() -> String {
    let mut page = String::from("| function | what it does | example | gives |\n|---|---|---|---|\n");
    for function in all() {
        for (index, example) in function.examples.iter().enumerate() {
            let (signature, doc) = if index == 0 { (function.signature, function.doc) } else { ("", "") };
            let signature = if signature.is_empty() { String::new() } else { format!("`{signature}`") };
            let gives = match example.gives {
                Ok(json) => format!("`{json}`"),
                Err(message) => format!("problem: {message}"),
            };
            let row = [
                signature,
                doc.to_owned(),
                format!("`{}` over `{}`", example.expression, example.document),
                gives,
            ];
            let row = row.map(|cell| cell.replace('|', "\\|"));
            // Writing to a String can't fail.
            let _ = writeln!(page, "| {} |", row.join(" | "));
        }
    }
    page
}
