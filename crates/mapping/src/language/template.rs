use super::Mistake;
use super::parse::{Ast, parse_tokens};
use super::token::{TokenKind, tokens};

/// A text of the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Template {
    /// Written as it is.
    Constant(String),
    /// Exactly one expression, whose type is kept.
    Single(Ast),
    /// Text and expressions side by side, written as one text.
    Mixed(Vec<Part>),
}

/// A piece of a mixed text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Expression(Ast),
}

/// Reads a text of the model: a constant, `= expression`, or a template with `{{ expression }}` in it.
pub(crate) fn parse_template(text: &str) -> Result<Template, Mistake> {
    let trimmed = text.trim_start();
    if trimmed.starts_with('=') {
        return parse_expression(text, text.len() - trimmed.len() + 1).map(Template::Single);
    }
    foreign(text)?;
    let mut parts = parts(text)?;
    let is_blank = |part: &Part| matches!(part, Part::Text(text) if text.trim().is_empty());
    if parts.iter().filter(|part| !is_blank(part)).count() == 1 {
        parts.retain(|part| !is_blank(part));
        if let [Part::Expression(_)] = parts.as_slice()
            && let Some(Part::Expression(ast)) = parts.pop()
        {
            return Ok(Template::Single(ast));
        }
    }
    if parts.iter().any(|part| matches!(part, Part::Expression(_))) {
        return Ok(Template::Mixed(parts));
    }
    Ok(Template::Constant(text.to_owned()))
}

/// Reads a bare expression that begins at `from` and takes the whole rest of the text.
pub(crate) fn parse_expression(text: &str, from: usize) -> Result<Ast, Mistake> {
    let (tokens, end) = tokens(text, from)?;
    if let Some(close) = tokens.iter().find(|token| token.kind == TokenKind::Close) {
        return Err(Mistake::new(
            close.start,
            "`}}` without `{{`",
            "write the braces on both sides or on none",
        ));
    }
    parse_tokens(&tokens, end)
}

fn parts(text: &str) -> Result<Vec<Part>, Mistake> {
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let open = rest.find("{{");
        let plain = open.map_or(rest, |open| rest.get(..open).unwrap_or_default());
        if let Some(stray) = plain.find("}}") {
            return Err(Mistake::new(at + stray, "`}}` without `{{`", "open the expression with `{{`"));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain.to_owned()));
        }
        let Some(open) = open else { return Ok(parts) };
        let start = at + open;
        let (mut found, end) = tokens(text, start + 2)?;
        match found.pop() {
            Some(close) if close.kind == TokenKind::Close => {
                parts.push(Part::Expression(parse_tokens(&found, close.start)?));
            }
            _ => return Err(Mistake::new(start, "`{{` is never closed", "close the expression with `}}`")),
        }
        at = end;
    }
}

/// Refuses the formulas of other tools: as texts they would reach the target.
fn foreign(text: &str) -> Result<(), Mistake> {
    let formula = text.trim_start();
    let words = ["_function", "_findCollection", "findCollection", "_mongoQuery"];
    if words.iter().any(|word| formula.starts_with(word)) {
        return Err(Mistake::new(
            0,
            "formula of another tool",
            "rewrite it as `= expression` or with `{{ }}`",
        ));
    }
    let inside = formula.trim_end().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inside {
        Some(name) if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.|".contains(c)) => {
            Err(Mistake::new(0, "single braces make no expression", format!("write `{{{{ {name} }}}}`")))
        }
        _ => Ok(()),
    }
}
