//! The model: from its nodes to the steps that write it.

use super::{Compiler, Context, Typed};
use crate::document::escape::write_string;
use crate::document::json::{RawKind, Scanner};
use crate::evaluate::{Expr, Type};
use crate::language::{Part, Template, parse_template};
use crate::spec::{Field, Node, Position, Text};
use crate::write::{Each, Form, Piece, Rule, Step};

/// How deep a model may be nested.
const DEEPEST: usize = 60;

/// Steps in the making; literal JSON is gathered so that it is written in one piece.
#[derive(Default)]
struct Steps {
    done: Vec<Step>,
    literal: Vec<u8>,
}

impl Steps {
    fn push(&mut self, step: Step) {
        self.flush();
        self.done.push(step);
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.done.push(Step::Literal(std::mem::take(&mut self.literal).into()));
        }
    }

    fn finish(mut self) -> Box<[Step]> {
        self.flush();
        self.done.into()
    }
}

/// Where in the model a node stands.
#[derive(Clone, Copy)]
struct Spot<'c> {
    /// The path so far.
    path: &'c str,
    at: Position,
    each: Option<&'c str>,
    depth: usize,
}

impl Spot<'_> {
    fn context<'c>(&'c self, text: &'c Text) -> Context<'c> {
        Context { field: self.path, text, each: self.each, gathers: false }
    }
}

impl Compiler<'_> {
    pub(super) fn model(&mut self) -> Box<[Step]> {
        if self.spec.model.is_empty() {
            self.problem(
                Position::default(),
                "model has no fields",
                "list the target's fields under `model`",
            );
        }
        let spot = Spot { path: "", at: Position::default(), each: None, depth: 0 };
        let mut steps = Steps::default();
        self.object(&self.spec.model, spot, &mut steps);
        steps.finish()
    }

    fn object(&mut self, fields: &[Field], spot: Spot<'_>, steps: &mut Steps) {
        steps.literal.push(b'{');
        let mut keys: Vec<&str> = Vec::new();
        // Some field before the next has surely been written; none can have been.
        let (mut written, mut first) = (false, true);
        for field in fields {
            let path =
                if spot.path.is_empty() { field.key.clone() } else { format!("{}.{}", spot.path, field.key) };
            // Two rules for one key are a choice between switches; only what is written may not be written twice.
            if field.enabled && keys.contains(&field.key.as_str()) {
                self.problem(field.at, format!("{path} stands twice in one object"), "keep one of them");
            }
            if field.key.trim().is_empty() {
                self.problem(field.at, format!("{path} has an empty key"), "name the field");
            }
            if field.enabled {
                keys.push(&field.key);
            }
            let inner = Spot { path: &path, at: field.at, ..spot };
            if !field.enabled {
                self.node(&field.value, inner, &mut Steps::default());
                continue;
            }
            let mut optional = Steps::default();
            let target = if field.optional { &mut optional } else { &mut *steps };
            if written {
                target.literal.push(b',');
            } else if !first {
                target.push(Step::Comma);
            }
            write_string(&field.key, &mut target.literal);
            target.literal.push(b':');
            self.node(&field.value, inner, target);
            if field.optional {
                let drop_empty = matches!(&field.value, Node::Object(fields) if !fields.is_empty());
                steps.push(Step::Optional { steps: optional.finish(), drop_empty });
            }
            written |= !field.optional;
            first = false;
        }
        steps.literal.push(b'}');
    }

    fn node(&mut self, node: &Node, spot: Spot<'_>, steps: &mut Steps) {
        if spot.depth > DEEPEST {
            let what = format!("{} is nested too deep", spot.path);
            self.problem(spot.at, what, format!("{DEEPEST} levels are the limit"));
            return;
        }
        let inner = Spot { depth: spot.depth + 1, ..spot };
        match node {
            Node::Object(fields) => self.object(fields, inner, steps),
            Node::Array(items) => {
                steps.literal.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        steps.literal.push(b',');
                    }
                    let path = format!("{}[{}]", spot.path, index + 1);
                    self.node(item, Spot { path: &path, ..inner }, steps);
                }
                steps.literal.push(b']');
            }
            Node::Each { array, item } => self.each(array, item, inner, steps),
            Node::Text(text) => self.text(text, spot, steps),
            Node::Number(digits) => self.number(digits, spot, steps),
            Node::Bool(value) => steps.literal.extend_from_slice(if *value { b"true" } else { b"false" }),
            Node::Null => steps.literal.extend_from_slice(b"null"),
        }
    }

    fn each(&mut self, array: &Text, item: &[Field], spot: Spot<'_>, steps: &mut Steps) {
        let cx = spot.context(array);
        if spot.each.is_some() {
            self.complain(cx, 0, "`each` inside an `each`", "only arrays of the header can be walked over");
            return;
        }
        let name = array.text.trim();
        if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_alphanumeric()) {
            let what = format!("`each: {name}` names no array");
            self.complain(cx, 0, what, "write the source array's bare name, as in `each: details_list`");
            return;
        }
        let number = self.source_array(name, 0, cx);
        let path = format!("{}[]", spot.path);
        let mut inner = Steps::default();
        self.object(item, Spot { path: &path, each: Some(name), ..spot }, &mut inner);
        let Some(number) = number else { return };
        steps.push(Step::Each(Box::new(Each {
            array: number,
            name: name.into(),
            field: spot.path.into(),
            steps: inner.finish(),
        })));
    }

    fn number(&mut self, digits: &str, spot: Spot<'_>, steps: &mut Steps) {
        if is_json_number(digits) {
            steps.literal.extend_from_slice(digits.as_bytes());
        } else {
            let what = format!("{}: `{digits}` is not a JSON number", spot.path);
            self.problem(spot.at, what, "write plain digits, or quote it as text");
        }
    }

    fn text(&mut self, text: &Text, spot: Spot<'_>, steps: &mut Steps) {
        let cx = spot.context(text);
        let template = match parse_template(&text.text) {
            Ok(Template::Constant(constant)) => return write_string(&constant, &mut steps.literal),
            Ok(template) => template,
            Err(mistake) => return self.mistake(cx, mistake),
        };
        let Some((form, _)) = self.form(template, cx) else { return };
        let is_kept = spot.each.is_some() && self.caches < u16::MAX && is_of_header(&form);
        let cache = is_kept.then_some(self.caches);
        self.caches += u16::from(is_kept);
        let rule = Rule { form, field: spot.path.into(), source: text.text.as_str().into(), cache };
        steps.push(Step::Rule(Box::new(rule)));
    }

    /// Compiles a template with the type of what it writes.
    pub(super) fn form(&mut self, template: Template, cx: Context<'_>) -> Option<(Form, Type)> {
        match template {
            Template::Constant(text) => Some((Form::Mixed([Piece::Text(text.into())].into()), Type::Text)),
            Template::Single(ast) => {
                let Typed { expr, kind, .. } = self.expression(&ast, cx)?;
                Some((Form::Single(expr), kind))
            }
            Template::Mixed(parts) => {
                let mut pieces = Vec::new();
                for part in parts {
                    pieces.push(match part {
                        Part::Text(text) => Some(Piece::Text(text.into())),
                        Part::Expression(ast) => {
                            self.expression(&ast, cx).map(|typed| Piece::Expression(typed.expr))
                        }
                    });
                }
                let pieces: Vec<Piece> = pieces.into_iter().collect::<Option<_>>()?;
                Some((Form::Mixed(pieces.into()), Type::Text))
            }
        }
    }
}

/// True if every line of a document gets the same from this.
fn is_of_header(form: &Form) -> bool {
    let mut all = true;
    form.visit(&mut |expression| {
        if let Expr::Field(place) = expression {
            all &= place.is_of_header();
        }
    });
    all
}

fn is_json_number(digits: &str) -> bool {
    let scan = |mut scanner: Scanner<'_>| scanner.value(0).map(|raw| (raw, scanner.offset()));
    match Scanner::new(digits).and_then(scan) {
        Ok((raw, end)) => raw.kind == RawKind::Number && raw.start == 0 && end == digits.len(),
        Err(_) => false,
    }
}
