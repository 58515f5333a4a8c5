//! The part of Kingdee's `FilterString` that integrations use, as a parser and an evaluator.
//!
//! Comparisons (`=`, `<>`, `!=`, `<`, `<=`, `>`, `>=`), `in`, `not in`, `like`, `is [not] null`, `and`, `or`,
//! `not`, parentheses. Text stands in single quotes, a quote in it is doubled.

use std::cmp::Ordering;

use super::model::decimal;

/// A parsed filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Compare { field: String, operator: Operator, value: String },
    In { field: String, values: Vec<String> },
    Like { field: String, pattern: String },
    Null { field: String },
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Parses a filter; blank text has none. Errors name what was expected and where.
pub(super) fn parse(text: &str) -> Result<Option<Expr>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.any()?;
    match parser.tokens.get(parser.at) {
        None => Ok(Some(expr)),
        Some(token) => Err(format!("过滤条件在 {token:?} 处有多余内容")),
    }
}

impl Expr {
    /// Whether a row passes; `value` gives the text of a field, nothing for an empty one.
    pub(super) fn holds(&self, value: &dyn Fn(&str) -> Option<String>) -> bool {
        match self {
            Expr::And(all) => all.iter().all(|expr| expr.holds(value)),
            Expr::Or(any) => any.iter().any(|expr| expr.holds(value)),
            Expr::Not(expr) => !expr.holds(value),
            Expr::Null { field } => value(field).is_none_or(|text| text.is_empty()),
            Expr::In { field, values } => value(field)
                .is_some_and(|text| values.iter().any(|value| compare(&text, value) == Ordering::Equal)),
            Expr::Like { field, pattern } => value(field).is_some_and(|text| like(&text, pattern)),
            Expr::Compare { field, operator, value: other } => {
                let ordering = compare(&value(field).unwrap_or_default(), other);
                match operator {
                    Operator::Equal => ordering == Ordering::Equal,
                    Operator::Unequal => ordering != Ordering::Equal,
                    Operator::Less => ordering == Ordering::Less,
                    Operator::AtMost => ordering != Ordering::Greater,
                    Operator::Greater => ordering == Ordering::Greater,
                    Operator::AtLeast => ordering != Ordering::Less,
                }
            }
        }
    }

    /// Every field that the filter names.
    pub(super) fn fields(&self) -> Vec<&str> {
        match self {
            Expr::And(all) | Expr::Or(all) => all.iter().flat_map(Expr::fields).collect(),
            Expr::Not(expr) => expr.fields(),
            Expr::Compare { field, .. }
            | Expr::In { field, .. }
            | Expr::Like { field, .. }
            | Expr::Null { field } => vec![field],
        }
    }

    /// The values that this field must have one of, where the filter says so outright.
    pub(super) fn candidates(&self, name: &str) -> Option<Vec<&str>> {
        match self {
            Expr::Compare { field, operator: Operator::Equal, value } if field.eq_ignore_ascii_case(name) => {
                Some(vec![value])
            }
            Expr::In { field, values } if field.eq_ignore_ascii_case(name) => {
                Some(values.iter().map(String::as_str).collect())
            }
            Expr::And(all) => all.iter().find_map(|expr| expr.candidates(name)),
            _ => None,
        }
    }
}

/// Numbers by value, times with `T` or a blank alike, everything else as text.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    match (decimal(left), decimal(right)) {
        // Leading zeros make a code: 007 is not 7.
        (Some(one), Some(other)) if !is_code(left) && !is_code(right) => one.cmp(&other),
        _ => left.replace('T', " ").cmp(&right.replace('T', " ")),
    }
}

fn is_code(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && !text.starts_with("0.")
}

fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut at, mut in_pattern) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some('%') => {
                retry = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(wanted) if *wanted == '_' || *wanted == text[at] => {
                at += 1;
                in_pattern += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    in_pattern = star + 1;
                    at = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|wanted| *wanted == '%')
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        let next = characters.get(at + 1).copied().unwrap_or(' ');
        if c.is_whitespace() {
            at += 1;
        } else if c == '\'' || (matches!(c, 'N' | 'n') && next == '\'') {
            let (value, end) = quoted(&characters, at + usize::from(c != '\''))?;
            tokens.push(Token::Text(value));
            at = end;
        } else if matches!((c, next), ('<', '>' | '=') | ('>', '=') | ('!', '=')) {
            tokens.push(Token::Sign([c, next].iter().collect()));
            at += 2;
        } else if "=<>(),".contains(c) {
            tokens.push(Token::Sign(c.to_string()));
            at += 1;
        } else if is_word(c) {
            let word: String = characters[at..].iter().copied().take_while(|c| is_word(*c)).collect();
            at += word.chars().count();
            tokens.push(Token::Word(word));
        } else {
            return Err(format!("过滤条件第{}个字符“{c}”无法识别", at + 1));
        }
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+')
}

fn quoted(characters: &[char], start: usize) -> Result<(String, usize), String> {
    let mut value = String::new();
    let mut at = start + 1;
    loop {
        match (characters.get(at), characters.get(at + 1)) {
            (Some('\''), Some('\'')) => {
                value.push('\'');
                at += 2;
            }
            (Some('\''), _) => return Ok((value, at + 1)),
            (Some(c), _) => {
                value.push(*c);
                at += 1;
            }
            (None, _) => return Err("过滤条件中的引号没有闭合".to_owned()),
        }
    }
}

const MAX_DEPTH: usize = 64;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Expr, String> {
        let mut parts = vec![self.all()?];
        while self.word("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    fn all(&mut self) -> Result<Expr, String> {
        let mut parts = vec![self.one()?];
        while self.word("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    fn one(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("过滤条件嵌套过深".to_owned());
        }
        let expr = if self.word("not") {
            Expr::Not(Box::new(self.one()?))
        } else if self.sign("(") {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn condition(&mut self) -> Result<Expr, String> {
        let Some(Token::Word(field)) = self.next() else { return Err(self.wanted("字段")) };
        if self.word("is") {
            let negated = self.word("not");
            return match self.word("null") {
                true => Ok(negate(negated, Expr::Null { field })),
                false => Err(self.wanted("null")),
            };
        }
        let negated = self.word("not");
        if self.word("in") {
            self.expect("(")?;
            let mut values = vec![self.literal()?];
            while self.sign(",") {
                values.push(self.literal()?);
            }
            self.expect(")")?;
            return Ok(negate(negated, Expr::In { field, values }));
        }
        if self.word("like") {
            let pattern = self.literal()?;
            return Ok(negate(negated, Expr::Like { field, pattern }));
        }
        let operator = match self.next() {
            Some(Token::Sign(sign)) if !negated => match sign.as_str() {
                "=" => Operator::Equal,
                "<>" | "!=" => Operator::Unequal,
                "<" => Operator::Less,
                "<=" => Operator::AtMost,
                ">" => Operator::Greater,
                ">=" => Operator::AtLeast,
                _ => return Err(self.wanted("比较符")),
            },
            _ => return Err(self.wanted("比较符")),
        };
        let value = self.literal()?;
        Ok(Expr::Compare { field, operator, value })
    }

    fn literal(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Text(text)) => Ok(text),
            Some(Token::Word(word)) if decimal(&word).is_some() => Ok(word),
            _ => Err(self.wanted("值")),
        }
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn word(&mut self, word: &str) -> bool {
        let hit = matches!(self.tokens.get(self.at), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(hit);
        hit
    }

    fn sign(&mut self, sign: &str) -> bool {
        let hit = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if s == sign);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(self.wanted(sign)) }
    }

    fn wanted(&self, what: &str) -> String {
        format!("过滤条件第{}个词处应为{what}", self.at)
    }
}

fn negate(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn holds(filter: &str) -> bool {
        let value = |field: &str| match field {
            "FBillNo" => Some("RK1'2".to_owned()),
            "FID" => Some("102493".to_owned()),
            "FRealQty" => Some("10.50".to_owned()),
            "FDate" => Some("2026-08-01T00:00:00".to_owned()),
            "FStatus" => Some("C".to_owned()),
            _ => None,
        };
        parse(filter).unwrap().unwrap().holds(&value)
    }

    #[test]
    fn filters_mean_what_sql_means() {
        for filter in [
            "FBillNo = 'RK1''2'",
            "FBillNo in ('x', N'RK1''2') and FStatus='C'",
            "FID=102493 OR FStatus = 'A'",
            "(FID = 1 or FRealQty >= 10.5) and not (FStatus = 'A')",
            "FDate >= '2026-08-01 00:00:00' and FDate < '2026-08-02'",
            "FBillNo like 'RK%2' and FBillNo not like '%3'",
            "FNote is null and FID is not null and FStatus not in ('A','B')",
            "FRealQty < 11 and FRealQty != 9",
            "FStatus='A' or FStatus='B' and FID=1 or FID=102493",
        ] {
            assert!(holds(filter), "{filter}");
        }
        for filter in ["FBillNo='RK1'", "FID<>102493", "FRealQty>10.5", "FBillNo like '_2'", "FID is null"] {
            assert!(!holds(filter), "{filter}");
        }
    }

    #[test]
    fn broken_filters_are_refused() {
        for filter in
            ["FID", "FID=", "FID='1", "FID=1 FID=2", "(FID=1", "FID in ()", "FID in ('1'", "FID ; 1", "and"]
        {
            assert!(parse(filter).is_err(), "{filter}");
        }
        assert!(parse(&"(".repeat(100_000)).is_err());
        assert_eq!(parse("  "), Ok(None));
    }

    #[test]
    fn numbers_that_a_filter_insists_on_are_found() {
        let expr = parse("FStatus='A' and FBillNo in ('1','2')").unwrap().unwrap();
        assert_eq!(expr.candidates("fbillno"), Some(vec!["1", "2"]));
        assert_eq!(parse("FBillNo='1' or FID=2").unwrap().unwrap().candidates("FBillNo"), None);
    }
}
