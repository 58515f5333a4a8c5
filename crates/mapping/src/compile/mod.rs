//! From a spec to a mapping: names resolved, types checked, every mistake collected.

mod check;
mod model;
mod names;
mod resolve;

use jiff::tz::Offset;

use crate::document::PlanBuilder;
use crate::evaluate::{Expr, Type};
use crate::language::{Mistake, Template, parse_expression, parse_template};
use crate::mapping::{Mapping, OutputRule};
use crate::problem::SpecProblem;
use crate::spec::{Position, Spec, Table, Text};
use crate::write::{Form, Rule};

/// Compiles a spec, or lists everything that is wrong with it.
pub(crate) fn compile(spec: &Spec) -> Result<Mapping, Vec<SpecProblem>> {
    let mut compiler = Compiler::new(spec);
    compiler.tables();
    let filter = spec.filter.as_ref().and_then(|text| compiler.filter(text));
    let steps = compiler.model();
    let outputs = compiler.outputs();
    if Offset::from_seconds(spec.utc_offset_seconds).is_err() {
        let what = format!("offset of {} seconds from UTC doesn't exist", spec.utc_offset_seconds);
        compiler.problem(Position::default(), what, "Beijing time is 28800");
    }
    if !compiler.plan.fits() {
        compiler.problem(Position::default(), "mapping uses more than 65534 fields", "split it");
    }
    if !compiler.problems.is_empty() {
        compiler.problems.sort();
        compiler.problems.dedup();
        return Err(compiler.problems);
    }
    Ok(Mapping {
        plan: compiler.plan.build(),
        tables: compiler.tables,
        offset_seconds: spec.utc_offset_seconds,
        filter,
        steps,
        caches: compiler.caches,
        outputs,
    })
}

/// What is known while a spec is compiled.
struct Compiler<'s> {
    spec: &'s Spec,
    plan: PlanBuilder,
    tables: Vec<(Box<str>, Table)>,
    caches: u16,
    problems: Vec<SpecProblem>,
}

/// An expression with its type.
struct Typed {
    expr: Expr,
    kind: Type,
    /// Where it stands in its text.
    at: usize,
}

/// Where a text stands.
#[derive(Clone, Copy)]
struct Context<'c> {
    /// The field's path in the model, `[]` standing for the line.
    field: &'c str,
    text: &'c Text,
    /// The source array whose lines the text is evaluated over.
    each: Option<&'c str>,
    /// Inside the argument of `sum` or `count`, where lines are named by their array.
    gathers: bool,
}

impl<'s> Compiler<'s> {
    fn new(spec: &'s Spec) -> Self {
        Self { spec, plan: PlanBuilder::default(), tables: Vec::new(), caches: 0, problems: Vec::new() }
    }

    fn problem(&mut self, at: Position, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(SpecProblem { at, what: what.into(), remedy: remedy.into() });
    }

    /// Reports a mistake at an offset in a text.
    fn mistake(&mut self, cx: Context<'_>, mistake: Mistake) {
        let what = match cx.each {
            Some(array) => format!("{} (each {array}): {}", cx.field, mistake.what),
            None => format!("{}: {}", cx.field, mistake.what),
        };
        self.problem(position(cx.text, mistake.offset), what, mistake.remedy);
    }

    fn complain(
        &mut self,
        cx: Context<'_>,
        offset: usize,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.mistake(cx, Mistake::new(offset, what, remedy));
    }

    fn tables(&mut self) {
        let mut tables: Vec<_> = self.spec.tables.iter().collect();
        tables.sort_by_key(|(name, _)| *name);
        for (name, table) in tables {
            let ragged = |row: &Vec<String>| row.len() != table.columns.len();
            let mut keys: Vec<&str> =
                table.rows.iter().filter(|(_, row)| ragged(row)).map(|(key, _)| key.as_str()).collect();
            keys.extend(table.fallback.as_ref().filter(|row| ragged(row)).map(|_| "*"));
            keys.sort_unstable();
            if let Some(key) = keys.first() {
                let what = format!("table {name}: row '{key}' has not one answer per column");
                self.problem(Position::default(), what, format!("give it {} answers", table.columns.len()));
            }
            self.tables.push((name.as_str().into(), table.clone()));
        }
    }

    fn filter(&mut self, text: &'s Text) -> Option<Rule> {
        let cx = Context { field: "filter", text, each: None, gathers: false };
        let (Form::Single(expr), kind) = self.bare(cx)? else {
            self.complain(cx, 0, "filter is a text", "make it one expression that is true or false");
            return None;
        };
        let truth = self.coerce(Typed { expr, kind, at: 0 }, Type::Bool, "the filter", cx)?;
        Some(Rule {
            form: Form::Single(truth),
            field: "filter".into(),
            source: text.text.as_str().into(),
            cache: None,
        })
    }

    fn outputs(&mut self) -> Vec<OutputRule> {
        let mut outputs: Vec<OutputRule> = Vec::new();
        for output in &self.spec.outputs {
            let field = format!("outputs.{}", output.name);
            let cx = Context { field: &field, text: &output.rule, each: None, gathers: false };
            if outputs.iter().any(|known| *known.rule.field == *field) {
                self.complain(cx, 0, "name is given twice", "name each output once");
            }
            let Some((form, _)) = self.bare(cx) else { continue };
            let rule = Rule {
                form,
                field: field.as_str().into(),
                source: output.rule.text.as_str().into(),
                cache: None,
            };
            outputs.push(OutputRule { rule, optional: output.optional });
        }
        outputs
    }

    /// A text that is an expression even without braces: as a constant it would say the same of every document.
    fn bare(&mut self, cx: Context<'_>) -> Option<(Form, Type)> {
        let text = cx.text.text.as_str();
        let is_marked = text.contains("{{") || text.trim_start().starts_with('=');
        let template =
            if is_marked { parse_template(text) } else { parse_expression(text, 0).map(Template::Single) };
        match template {
            Ok(template) => self.form(template, cx),
            Err(mistake) => {
                self.mistake(cx, mistake);
                None
            }
        }
    }
}

/// The place of an offset in a text; columns are exact on the text's first line.
fn position(text: &Text, offset: usize) -> Position {
    if text.at == Position::default() {
        return text.at;
    }
    let before = text.text.get(..offset).unwrap_or(&text.text);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    match before.rsplit_once('\n') {
        None => Position {
            line: text.at.line,
            column: text.at.column.saturating_add(count(before.chars().count())),
        },
        Some((lines, _)) => {
            Position { line: text.at.line.saturating_add(count(lines.matches('\n').count() + 1)), column: 0 }
        }
    }
}
