use winnow::Result;
use winnow::ascii::{digit1, multispace0};
use winnow::combinator::{alt, delimited, opt, repeat};
use winnow::error::ContextError;
use winnow::prelude::*;
use winnow::token::{literal, one_of, take_till, take_while};

use super::Mistake;

/// One token and where it begins and ends, in bytes of the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: TokenKind<'a>,
}

/// The tokens of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind<'a> {
    Name(&'a str),
    Text(String),
    Decimal(&'a str),
    Symbol(&'static str),
    /// `}}`, the end of an expression in a template.
    Close,
}

/// Cuts `text` from `from` on into tokens, up to and including `}}` if there is one.
///
/// The second value is where the tokens end.
pub(crate) fn tokens(text: &str, from: usize) -> Result<(Vec<Token<'_>>, usize), Mistake> {
    let mut rest = text.get(from..).unwrap_or_default();
    let mut found = Vec::new();
    loop {
        let _: Result<&str> = multispace0.parse_next(&mut rest);
        let start = text.len() - rest.len();
        if rest.is_empty() {
            return Ok((found, start));
        }
        let Ok(kind) = token(&mut rest) else { return Err(unreadable(rest, start)) };
        let end = text.len() - rest.len();
        if let TokenKind::Decimal(_) = kind
            && rest.starts_with(is_name)
        {
            return Err(Mistake::new(start, "name begins with a digit", "begin names with a letter or `_`"));
        }
        let closes = kind == TokenKind::Close;
        found.push(Token { start, end, kind });
        if closes {
            return Ok((found, end));
        }
    }
}

fn token<'a>(input: &mut &'a str) -> Result<TokenKind<'a>> {
    alt((
        name.map(TokenKind::Name),
        decimal.map(TokenKind::Decimal),
        quoted('\'').map(TokenKind::Text),
        quoted('"').map(TokenKind::Text),
        "}}".value(TokenKind::Close),
        symbol.map(TokenKind::Symbol),
    ))
    .parse_next(input)
}

fn name<'a>(input: &mut &'a str) -> Result<&'a str> {
    (one_of(begins_name), take_while(0.., is_name)).take().parse_next(input)
}

fn decimal<'a>(input: &mut &'a str) -> Result<&'a str> {
    (digit1, opt(('.', digit1))).take().parse_next(input)
}

/// A text between `quote`s; a doubled quote stands for itself.
fn quoted<'a>(quote: char) -> impl Parser<&'a str, String, ContextError> {
    move |input: &mut &'a str| {
        let piece = delimited(quote, take_till(0.., quote), quote);
        let pieces: Vec<&str> = repeat(1.., piece).parse_next(input)?;
        Ok(pieces.join(quote.encode_utf8(&mut [0; 4])))
    }
}

fn symbol(input: &mut &str) -> Result<&'static str> {
    // Longer signs stand first, so that `<=` isn't read as `<`.
    let found = SYMBOLS.iter().copied().find(|sign| input.starts_with(sign)).ok_or_else(ContextError::new)?;
    literal(found).value(found).parse_next(input)
}

const SYMBOLS: [&str; 16] =
    ["==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", ".", "|"];

fn begins_name(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Names the likely slip behind a character no token begins with.
fn unreadable(rest: &str, start: usize) -> Mistake {
    let Some(first) = rest.chars().next() else {
        return Mistake::new(start, "expression ends too early", "complete it");
    };
    match first {
        '\'' | '"' => {
            Mistake::new(start, format!("text after {first} has no end"), format!("close it with {first}"))
        }
        '=' => Mistake::new(start, "`=` is no comparison", "write `==`"),
        '!' => Mistake::new(start, "`!` is no operator", "write `not`"),
        '&' => Mistake::new(
            start,
            "`&` is no operator",
            "write `and`, or put texts side by side: `{{ a }}{{ b }}`",
        ),
        '{' => Mistake::new(start, "`{` inside an expression", "write names without braces"),
        '‘' | '’' | '“' | '”' => {
            Mistake::new(start, format!("`{first}` is a typographic quote"), "write a plain ' or \"")
        }
        '（' | '）' | '，' | '｜' => {
            Mistake::new(start, format!("`{first}` is a full-width character"), "write its half-width form")
        }
        _ => Mistake::new(start, format!("`{first}` has no meaning here"), "remove it, or quote it as text"),
    }
}
