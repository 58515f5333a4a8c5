//! Types: every operator and function gets what it can work with, or the author hears why not.

use super::names::remedy;
use super::{Compiler, Context, Typed};
use crate::evaluate::{Constant, Expr, Type, time};
use crate::functions::{self, Function, Gives, Takes};
use crate::language::{Ast, Operator, Tree};

impl Compiler<'_> {
    /// Compiles an expression; mistakes are reported, and leave nothing.
    pub(super) fn expression(&mut self, ast: &Ast, cx: Context<'_>) -> Option<Typed> {
        let at = ast.at;
        let typed = |expr, kind| Some(Typed { expr, kind, at });
        match &ast.tree {
            Tree::Path(names) => self.path(names, at, cx),
            Tree::Text(text) => typed(Expr::Constant(Constant::Text(text.as_str().into())), Type::Text),
            Tree::Decimal(value) => typed(Expr::Constant(Constant::Decimal(*value)), Type::Decimal),
            Tree::Bool(value) => typed(Expr::Constant(Constant::Bool(*value)), Type::Bool),
            Tree::Not(inner) => {
                let inner = self.operand(inner, Type::Bool, "`not`", cx)?;
                typed(Expr::Not(Box::new(inner)), Type::Bool)
            }
            Tree::Minus(inner) => {
                let inner = self.operand(inner, Type::Decimal, "`-`", cx)?;
                typed(Expr::Minus(Box::new(inner)), Type::Decimal)
            }
            Tree::Binary(operator, left, right) => self.binary(*operator, left, right, at, cx),
            Tree::Call { name, arguments } => self.call(name, arguments, at, cx),
        }
    }

    fn operand(&mut self, ast: &Ast, wanted: Type, user: &str, cx: Context<'_>) -> Option<Expr> {
        let typed = self.expression(ast, cx)?;
        self.coerce(typed, wanted, user, cx)
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Ast,
        right: &Ast,
        at: usize,
        cx: Context<'_>,
    ) -> Option<Typed> {
        let user = format!("`{}`", operator.sign());
        let wanted = match operator {
            Operator::And | Operator::Or => Type::Bool,
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => Type::Decimal,
            _ => return self.comparison(operator, left, right, at, cx),
        };
        let left = self.operand(left, wanted, &user, cx);
        let right = self.operand(right, wanted, &user, cx);
        let (left, right) = (Box::new(left?), Box::new(right?));
        let expr = match operator {
            Operator::And => Expr::And(left, right),
            Operator::Or => Expr::Or(left, right),
            _ => Expr::Arithmetic(operator, left, right),
        };
        Some(Typed { expr, kind: wanted, at })
    }

    fn comparison(
        &mut self,
        operator: Operator,
        left: &Ast,
        right: &Ast,
        at: usize,
        cx: Context<'_>,
    ) -> Option<Typed> {
        let left = self.expression(left, cx);
        let right = self.expression(right, cx);
        let sides = vec![left?, right?];
        if let Some(blank) = sides.iter().find(|side| is_blank_literal(&side.expr)) {
            self.complain(cx, blank.at, "nothing equals an empty text", "write is_empty(x) or exists(x)");
            return None;
        }
        let user = format!("`{}`", operator.sign());
        let (kind, mut sides) = self.unify(sides, &user, true, at, cx)?;
        let has_order = matches!(kind, Type::Decimal | Type::Time | Type::Date);
        if !has_order && !matches!(operator, Operator::Equal | Operator::Unequal) {
            let what = format!("{user} compares {kind}, which has no order");
            self.complain(cx, at, what, "convert both sides, as in `(a | decimal) < (b | decimal)`");
            return None;
        }
        let (right, left) = (sides.pop()?, sides.pop()?);
        Some(Typed {
            expr: Expr::Compare(operator, Box::new(left), Box::new(right), kind),
            kind: Type::Bool,
            at,
        })
    }

    /// Makes an expression one of the wanted type.
    pub(super) fn coerce(&mut self, typed: Typed, wanted: Type, user: &str, cx: Context<'_>) -> Option<Expr> {
        if wanted == Type::Any || typed.kind == wanted {
            return Some(typed.expr);
        }
        if typed.kind == Type::Any {
            return Some(Expr::Convert(wanted, Box::new(typed.expr)));
        }
        if let Expr::Constant(Constant::Text(text)) = &typed.expr
            && matches!(wanted, Type::Time | Type::Date)
        {
            let Some(constant) = self.moment(text, wanted) else {
                let what = format!("'{text}' is not {wanted}");
                self.complain(cx, typed.at, what, "write it as 'yyyy-MM-dd' or 'yyyy-MM-dd HH:mm:ss'");
                return None;
            };
            return Some(Expr::Constant(constant));
        }
        let what = format!("{user} needs {wanted}, but this is {}", typed.kind);
        let remedy = match (&typed.expr, wanted) {
            (Expr::Constant(Constant::Decimal(value)), Type::Text) => format!("write '{value}'"),
            (Expr::Constant(Constant::Text(text)), Type::Decimal) => format!("write {text} without quotes"),
            (_, Type::Decimal) => "convert it: `(x | decimal)`".to_owned(),
            (_, Type::Text) => "convert it: `(x | text)`".to_owned(),
            (_, Type::Bool) => "compare it with something, or convert it: `(x | bool)`".to_owned(),
            (_, Type::Time) => "convert it: `(x | datetime)`".to_owned(),
            _ => "convert it: `(x | date)`".to_owned(),
        };
        self.complain(cx, typed.at, what, remedy);
        None
    }

    fn moment(&self, text: &str, wanted: Type) -> Option<Constant> {
        let time = time::parse(text, self.spec.utc_offset_seconds)?;
        match wanted {
            Type::Date if text.len() > 10 => None,
            Type::Date => Some(Constant::Date(time.date())),
            _ => Some(Constant::Time(time)),
        }
    }

    /// Brings values to one type: that of the first whose type is known, literal texts last.
    fn unify(
        &mut self,
        values: Vec<Typed>,
        user: &str,
        must_know: bool,
        at: usize,
        cx: Context<'_>,
    ) -> Option<(Type, Vec<Expr>)> {
        let is_literal = |value: &Typed| matches!(value.expr, Expr::Constant(Constant::Text(_)));
        let known = |value: &&Typed| value.kind != Type::Any;
        let leader = values
            .iter()
            .filter(known)
            .find(|value| !is_literal(value))
            .or_else(|| values.iter().find(known));
        let kind = leader.map_or(Type::Any, |value| value.kind);
        if kind == Type::Any && must_know {
            let remedy =
                "say what they are, as in `(a | text) == (b | text)` or with decimal, date, datetime";
            self.complain(cx, at, format!("{user} compares values of unknown type"), remedy);
            return None;
        }
        let unified: Vec<Option<Expr>> =
            values.into_iter().map(|value| self.coerce(value, kind, user, cx)).collect();
        Some((kind, unified.into_iter().collect::<Option<_>>()?))
    }

    fn call(&mut self, name: &str, arguments: &[Ast], at: usize, cx: Context<'_>) -> Option<Typed> {
        let Some(function) = functions::find(name) else {
            let remedy = remedy(name, functions::all().iter().map(|function| function.name));
            self.complain(cx, at, format!("there is no function `{name}`"), remedy);
            return None;
        };
        let least = function.takes.len() - function.optional;
        if arguments.len() < least || (arguments.len() > function.takes.len() && !function.repeats) {
            let what = match arguments.len() {
                1 => format!("{name} is given 1 argument"),
                count => format!("{name} is given {count} arguments"),
            };
            self.complain(
                cx,
                at,
                what,
                format!("it is {}; `x | f(y)` counts as f(x, y)", function.signature),
            );
            return None;
        }
        if let (Gives::Converted(kind), [argument]) = (function.gives, arguments) {
            let typed = self.expression(argument, cx)?;
            let expr =
                if typed.kind == kind { typed.expr } else { Expr::Convert(kind, Box::new(typed.expr)) };
            return Some(Typed { expr, kind, at });
        }
        let (expressions, same) = self.arguments(function, arguments, at, cx)?;
        let kind = match function.gives {
            Gives::Value(kind) | Gives::Converted(kind) => kind,
            Gives::Same => same,
        };
        Some(Typed { expr: Expr::Call(function, expressions.into()), kind, at })
    }

    /// Compiles the arguments of a call; the type is that of the arguments that must be alike.
    fn arguments(
        &mut self,
        function: &'static Function,
        arguments: &[Ast],
        at: usize,
        cx: Context<'_>,
    ) -> Option<(Vec<Expr>, Type)> {
        let mut alike = Vec::new();
        let mut must_know = false;
        let mut table = None;
        let mut compiled: Vec<Option<Expr>> = Vec::new();
        for (index, argument) in arguments.iter().enumerate() {
            let takes = function.takes.get(index).or(function.takes.last())?;
            let expr = match takes {
                Takes::Value(wanted) => self.operand(argument, *wanted, function.name, cx),
                Takes::Same | Takes::Comparable => {
                    must_know |= *takes == Takes::Comparable;
                    alike.push((index, self.expression(argument, cx)));
                    None
                }
                Takes::Table => {
                    table = self.table(argument, cx);
                    table.map(Expr::Table)
                }
                Takes::Column => table.and_then(|table| self.column(table, argument, cx)).map(Expr::Column),
                Takes::Array => self.whole_array(argument, cx),
                Takes::Lines => self.over_lines(argument, function.name, cx),
            };
            compiled.push(expr);
        }
        let (indexes, alike): (Vec<usize>, Vec<Option<Typed>>) = alike.into_iter().unzip();
        let alike: Vec<Typed> = alike.into_iter().collect::<Option<_>>()?;
        let (kind, alike) = if alike.is_empty() {
            (Type::Any, Vec::new())
        } else {
            self.unify(alike, function.name, must_know, at, cx)?
        };
        for (index, expr) in indexes.into_iter().zip(alike) {
            if let Some(place) = compiled.get_mut(index) {
                *place = Some(expr);
            }
        }
        Some((compiled.into_iter().collect::<Option<_>>()?, kind))
    }

    fn whole_array(&mut self, ast: &Ast, cx: Context<'_>) -> Option<Expr> {
        let Tree::Path(names) = &ast.tree else {
            self.complain(cx, ast.at, "this is no array", "name one, as in count(details_list)");
            return None;
        };
        let [name] = names.as_slice() else {
            let what = format!("`{}` is no array", names.join("."));
            self.complain(cx, ast.at, what, "name the array alone, as in count(details_list)");
            return None;
        };
        let array = self.source_array(name, ast.at, cx)?;
        Some(Expr::Lines { array, name: name.as_str().into(), item: None })
    }

    fn over_lines(&mut self, ast: &Ast, user: &str, cx: Context<'_>) -> Option<Expr> {
        if cx.gathers {
            self.complain(cx, ast.at, format!("{user} stands inside another one"), "use one at a time");
            return None;
        }
        let item = self.operand(ast, Type::Decimal, user, Context { gathers: true, ..cx })?;
        let mut arrays = Vec::new();
        named_arrays(ast, &mut arrays);
        arrays.dedup();
        match arrays.as_slice() {
            [name] => {
                let array = self.source_array(name, ast.at, cx)?;
                Some(Expr::Lines { array, name: (*name).into(), item: Some(Box::new(item)) })
            }
            [] => {
                self.complain(cx, ast.at, format!("{user} is given no array"), "write sum(details_list.num)");
                None
            }
            _ => {
                let what = format!("{user} runs over two arrays, {}", arrays.join(" and "));
                self.complain(cx, ast.at, what, "use fields of one array");
                None
            }
        }
    }
}

/// The arrays that the paths of an expression name.
fn named_arrays<'t>(ast: &'t Ast, into: &mut Vec<&'t str>) {
    match &ast.tree {
        Tree::Path(names) => match names.as_slice() {
            [array, _] if array != "header" && array != "settings" && !into.contains(&array.as_str()) => {
                into.push(array);
            }
            _ => {}
        },
        Tree::Not(inner) | Tree::Minus(inner) => named_arrays(inner, into),
        Tree::Binary(_, left, right) => {
            named_arrays(left, into);
            named_arrays(right, into);
        }
        Tree::Call { arguments, .. } => arguments.iter().for_each(|argument| named_arrays(argument, into)),
        Tree::Text(_) | Tree::Decimal(_) | Tree::Bool(_) => {}
    }
}

fn is_blank_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Constant(Constant::Text(text)) if text.trim().is_empty())
}
