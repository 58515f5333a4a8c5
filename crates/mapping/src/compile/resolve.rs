//! Paths: which field, array, setting or table a name stands for.

use super::names::remedy;
use super::{Compiler, Context, Typed};
use crate::evaluate::{Constant, Expr, Place, Scope, Type, kind_type};
use crate::language::{Ast, Tree};
use crate::spec::{Kind, Setting, Shape};

impl Compiler<'_> {
    /// The field or setting a path stands for.
    pub(super) fn path(&mut self, names: &[String], at: usize, cx: Context<'_>) -> Option<Typed> {
        match names {
            [name] => self.bare_name(name, at, cx),
            [scope, name] if scope == "settings" => self.setting(name, at, cx),
            [scope, name] if scope == "header" => self.header_field(name, at, cx),
            [array, name] if cx.gathers || cx.each == Some(array.as_str()) => {
                self.line_field(array, name, at, cx)
            }
            [array, name] => {
                self.foreign_array(array, name, at, cx);
                None
            }
            _ => {
                let what = format!("`{}` has more than two parts", names.join("."));
                self.complain(cx, at, what, "fields of the header and of one array's lines can be used");
                None
            }
        }
    }

    fn bare_name(&mut self, name: &str, at: usize, cx: Context<'_>) -> Option<Typed> {
        if matches!(name, "null" | "none" | "nil") {
            self.complain(
                cx,
                at,
                format!("there is no `{name}`"),
                "write is_empty(x), exists(x) or default(x, …)",
            );
            return None;
        }
        let Some(array) = cx.each else { return self.header_field(name, at, cx) };
        if cx.gathers {
            let remedy =
                format!("write `{array}.{name}` for each line's or `header.{name}` for the header's");
            self.complain(cx, at, format!("`{name}` is ambiguous inside an argument over lines"), remedy);
            return None;
        }
        let spec = self.spec;
        let Some(shape) = &spec.shape else {
            let number = self.plan.array(array);
            let line = self.plan.line_slot(number, name);
            let header = self.plan.header_slot(name);
            return Some(field(name, Scope::LineOrHeader { line, header, array: array.into() }, None, at));
        };
        if shape.arrays.get(array).is_some_and(|fields| fields.contains_key(name)) {
            return self.line_field(array, name, at, cx);
        }
        if shape.header.contains_key(name) {
            return self.header_field(name, at, cx);
        }
        // An unknown array has been reported where it is named.
        shape.arrays.get(array)?;
        let known = shape.arrays.get(array).into_iter().flat_map(|fields| fields.keys());
        let remedy = remedy(name, known.chain(shape.header.keys()).map(String::as_str));
        self.unknown_field(
            shape,
            name,
            &format!("neither {array} nor the header has a field"),
            remedy,
            at,
            cx,
        );
        None
    }

    fn header_field(&mut self, name: &str, at: usize, cx: Context<'_>) -> Option<Typed> {
        let kind = match &self.spec.shape {
            None => None,
            Some(shape) => match shape.header.get(name) {
                Some(kind) => Some(*kind),
                None => {
                    let holder = shape.arrays.iter().find(|(_, fields)| fields.contains_key(name));
                    let remedy = match holder {
                        Some((array, _)) => format!(
                            "the lines of {array} have it: use it inside `each: {array}` or in sum({array}.{name})"
                        ),
                        None => remedy(name, shape.header.keys().map(String::as_str)),
                    };
                    self.unknown_field(shape, name, "the header has no field", remedy, at, cx);
                    return None;
                }
            },
        };
        let slot = self.plan.header_slot(name);
        Some(field(name, Scope::Header { slot }, kind, at))
    }

    fn unknown_field(
        &mut self,
        shape: &Shape,
        name: &str,
        where_not: &str,
        remedy: String,
        at: usize,
        cx: Context<'_>,
    ) {
        if shape.arrays.contains_key(name) {
            let remedy = format!("use its fields inside `each: {name}`, or count({name})");
            self.complain(cx, at, format!("`{name}` is an array, not a single value"), remedy);
        } else {
            self.complain(cx, at, format!("{where_not} `{name}`"), remedy);
        }
    }

    fn line_field(&mut self, array: &str, name: &str, at: usize, cx: Context<'_>) -> Option<Typed> {
        if cx.each == Some(array)
            && self.spec.shape.as_ref().is_some_and(|shape| !shape.arrays.contains_key(array))
        {
            return None;
        }
        let number = self.source_array(array, at, cx)?;
        let kind = match self.spec.shape.as_ref().and_then(|shape| shape.arrays.get(array)) {
            None => None,
            Some(fields) => match fields.get(name) {
                Some(kind) => Some(*kind),
                None => {
                    let remedy = remedy(name, fields.keys().map(String::as_str));
                    self.complain(cx, at, format!("{array} has no field `{name}`"), remedy);
                    return None;
                }
            },
        };
        let slot = self.plan.line_slot(number, name);
        Some(field(name, Scope::Line { slot, array: array.into() }, kind, at))
    }

    /// The number of a source array, if the source has it.
    pub(super) fn source_array(&mut self, name: &str, at: usize, cx: Context<'_>) -> Option<u16> {
        if let Some(shape) = &self.spec.shape
            && !shape.arrays.contains_key(name)
        {
            let remedy = remedy(name, shape.arrays.keys().map(String::as_str));
            self.complain(cx, at, format!("the source has no array `{name}`"), remedy);
            return None;
        }
        Some(self.plan.array(name))
    }

    fn foreign_array(&mut self, array: &str, name: &str, at: usize, cx: Context<'_>) {
        let arrays = self.spec.shape.as_ref().map(|shape| &shape.arrays);
        let is_array = arrays.is_none_or(|arrays| arrays.contains_key(array));
        let (what, remedy) = match cx.each {
            Some(each) if is_array && arrays.is_some() => (
                format!("`{array}.{name}` is of another array than {each}"),
                format!("use fields of {each}, or sum({array}.{name}) over all lines"),
            ),
            Some(each) => {
                let known = ["header", "settings", each];
                (
                    format!("`{array}` is not the array `{each}` this stands in"),
                    remedy(array, known.into_iter()),
                )
            }
            None if is_array => (
                format!("`{array}.{name}` stands outside of `each: {array}`"),
                format!("use it inside `each: {array}` or in sum({array}.{name})"),
            ),
            None => {
                let known = arrays.into_iter().flat_map(|arrays| arrays.keys().map(String::as_str));
                (
                    format!("the source has no array `{array}`"),
                    remedy(array, known.chain(["header", "settings"])),
                )
            }
        };
        self.complain(cx, at, what, remedy);
    }

    fn setting(&mut self, name: &str, at: usize, cx: Context<'_>) -> Option<Typed> {
        let (constant, kind) = match self.spec.settings.get(name) {
            Some(Setting::Text(text)) => (Constant::Text(text.as_str().into()), Type::Text),
            Some(Setting::Decimal(value)) => (Constant::Decimal(*value), Type::Decimal),
            Some(Setting::Bool(value)) => (Constant::Bool(*value), Type::Bool),
            None => {
                let remedy = remedy(name, self.spec.settings.keys().map(String::as_str));
                self.complain(cx, at, format!("there is no setting `{name}`"), remedy);
                return None;
            }
        };
        Some(Typed { expr: Expr::Constant(constant), kind, at })
    }

    /// The table a literal names.
    pub(super) fn table(&mut self, ast: &Ast, cx: Context<'_>) -> Option<u16> {
        let Tree::Text(name) = &ast.tree else {
            self.complain(
                cx,
                ast.at,
                "name of a table is not a literal text",
                "write it in quotes: table('stock', …)",
            );
            return None;
        };
        // Numbers of tables and columns are 16 bits wide.
        let found = self.tables.iter().take(65_535).position(|(known, _)| **known == **name);
        if found.is_none() {
            let remedy = remedy(name, self.tables.iter().map(|(name, _)| &**name));
            self.complain(cx, ast.at, format!("there is no table `{name}`"), remedy);
        }
        found.and_then(|index| u16::try_from(index).ok())
    }

    /// The column of a table a literal names.
    pub(super) fn column(&mut self, table: u16, ast: &Ast, cx: Context<'_>) -> Option<u16> {
        let Tree::Text(name) = &ast.tree else {
            self.complain(cx, ast.at, "name of a column is not a literal text", "write it in quotes");
            return None;
        };
        let (table_name, table) = self.tables.get(usize::from(table))?;
        let found = table.columns.iter().take(65_535).position(|known| known == name);
        if found.is_none() {
            let remedy = remedy(name, table.columns.iter().map(String::as_str));
            let what = format!("table {table_name} has no column `{name}`");
            self.complain(cx, ast.at, what, remedy);
        }
        found.and_then(|index| u16::try_from(index).ok())
    }
}

fn field(name: &str, scope: Scope, kind: Option<Kind>, at: usize) -> Typed {
    let place = Place { name: name.into(), scope, kind };
    Typed { expr: Expr::Field(place), kind: kind.map_or(Type::Any, kind_type), at }
}
