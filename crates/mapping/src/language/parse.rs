use rust_decimal::Decimal;

use super::Mistake;
use super::token::{Token, TokenKind};
use crate::evaluate::decimal;

/// How deep an expression may be nested; nothing a person writes comes near.
const DEEPEST: usize = 60;

/// One node of an expression and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ast {
    pub(crate) at: usize,
    pub(crate) tree: Tree,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// `name` or `array.name`.
    Path(Vec<String>),
    Text(String),
    Decimal(Decimal),
    Bool(bool),
    Not(Box<Ast>),
    Minus(Box<Ast>),
    Binary(Operator, Box<Ast>, Box<Ast>),
    Call {
        name: String,
        arguments: Vec<Ast>,
    },
}

/// What stands between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// As it is written.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// How tightly it binds; `not` stands between `and` and the comparisons.
    fn power(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Add | Self::Subtract => 5,
            Self::Multiply | Self::Divide | Self::Remainder => 6,
            _ => COMPARISON,
        }
    }

    fn of(kind: &TokenKind<'_>) -> Option<Self> {
        let sign = match kind {
            TokenKind::Symbol(sign) => sign,
            TokenKind::Name(name) => name,
            _ => return None,
        };
        ALL.into_iter().find(|operator| operator.sign() == *sign)
    }
}

const COMPARISON: u8 = 4;
const NOT: u8 = 3;

const ALL: [Operator; 13] = [
    Operator::Or,
    Operator::And,
    Operator::Equal,
    Operator::Unequal,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::Add,
    Operator::Subtract,
    Operator::Multiply,
    Operator::Divide,
    Operator::Remainder,
];

/// Makes the tree of an expression that ends at `end`.
pub(super) fn parse_tokens(tokens: &[Token<'_>], end: usize) -> Result<Ast, Mistake> {
    let mut parser = Parser { tokens, next: 0, end, depth: 0 };
    let ast = parser.pipe()?;
    match parser.tokens.get(parser.next) {
        None => Ok(ast),
        Some(token) => Err(parser.unexpected(token)),
    }
}

struct Parser<'t, 'a> {
    tokens: &'t [Token<'a>],
    next: usize,
    end: usize,
    depth: usize,
}

impl<'t, 'a> Parser<'t, 'a> {
    fn peek(&self) -> Option<&'t TokenKind<'a>> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |token| token.start)
    }

    fn pass(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == Some(&TokenKind::Symbol(symbol));
        self.next += usize::from(found);
        found
    }

    /// A whole expression: operators first, then the pipes, which bind least.
    fn pipe(&mut self) -> Result<Ast, Mistake> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Mistake::new(self.at(), "expression is nested too deep", "write it simpler"));
        }
        let mut ast = self.binary(0)?;
        while self.pass("|") {
            let at = self.at();
            let Some(TokenKind::Name(name)) = self.peek() else {
                return Err(Mistake::new(at, "no function after `|`", "name one, as in `x | decimal`"));
            };
            self.next += 1;
            let mut arguments = vec![ast];
            if self.pass("(") {
                self.arguments(&mut arguments)?;
            }
            if let Some(operator) = self.peek().and_then(Operator::of) {
                let remedy = format!("write `(x | {name}) {} …`", operator.sign());
                return Err(Mistake::new(self.at(), "operator after a pipe", remedy));
            }
            ast = Ast { at, tree: Tree::Call { name: (*name).to_owned(), arguments } };
        }
        self.depth -= 1;
        Ok(ast)
    }

    fn binary(&mut self, weakest: u8) -> Result<Ast, Mistake> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Mistake::new(self.at(), "expression is nested too deep", "write it simpler"));
        }
        let mut left = self.unary()?;
        while let Some(operator) = self.peek().and_then(Operator::of) {
            let power = operator.power();
            if power <= weakest {
                break;
            }
            let at = self.at();
            self.next += 1;
            let right = self.binary(power)?;
            left = Ast { at, tree: Tree::Binary(operator, Box::new(left), Box::new(right)) };
            let chained = self.peek().and_then(Operator::of).is_some_and(|next| next.power() == COMPARISON);
            if power == COMPARISON && chained {
                return Err(Mistake::new(self.at(), "two comparisons in a row", "join them with `and`"));
            }
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Ast, Mistake> {
        let at = self.at();
        if self.peek() == Some(&TokenKind::Name("not")) {
            self.next += 1;
            return Ok(Ast { at, tree: Tree::Not(Box::new(self.binary(NOT)?)) });
        }
        if self.pass("-") {
            // Above every operator: a sign belongs to its operand alone.
            return Ok(Ast { at, tree: Tree::Minus(Box::new(self.binary(u8::MAX)?)) });
        }
        self.operand()
    }

    fn operand(&mut self) -> Result<Ast, Mistake> {
        let Some(token) = self.tokens.get(self.next) else {
            return Err(Mistake::new(self.end, "value is missing", "complete the expression"));
        };
        let at = token.start;
        self.next += 1;
        let tree = match &token.kind {
            TokenKind::Text(text) => Tree::Text(text.clone()),
            TokenKind::Decimal(digits) => Tree::Decimal(decimal::parse(digits).map_err(|_| {
                Mistake::new(at, format!("`{digits}` has more than 28 digits"), "write it with fewer digits")
            })?),
            TokenKind::Name("true") => Tree::Bool(true),
            TokenKind::Name("false") => Tree::Bool(false),
            TokenKind::Name(name @ ("and" | "or")) => {
                return Err(Mistake::new(
                    at,
                    format!("`{name}` without a left side"),
                    "complete the expression",
                ));
            }
            TokenKind::Name(name) if self.pass("(") => {
                let mut arguments = Vec::new();
                self.arguments(&mut arguments)?;
                Tree::Call { name: (*name).to_owned(), arguments }
            }
            TokenKind::Name(name) => Tree::Path(self.path(name)?),
            TokenKind::Symbol("(") => {
                let inner = self.pipe()?;
                if !self.pass(")") {
                    return Err(Mistake::new(at, "`(` is never closed", "close it with `)`"));
                }
                inner.tree
            }
            _ => return Err(self.unexpected(token)),
        };
        Ok(Ast { at, tree })
    }

    fn path(&mut self, first: &str) -> Result<Vec<String>, Mistake> {
        let mut names = vec![first.to_owned()];
        while self.pass(".") {
            let Some(TokenKind::Name(name)) = self.peek() else {
                return Err(Mistake::new(
                    self.at(),
                    "no name after `.`",
                    "name the field, as in `header.remark`",
                ));
            };
            names.push((*name).to_owned());
            self.next += 1;
        }
        Ok(names)
    }

    /// The arguments after an opening parenthesis, with the closing one.
    fn arguments(&mut self, into: &mut Vec<Ast>) -> Result<(), Mistake> {
        if self.pass(")") {
            return Ok(());
        }
        loop {
            into.push(self.pipe()?);
            if self.pass(")") {
                return Ok(());
            }
            if !self.pass(",") {
                return Err(Mistake::new(
                    self.at(),
                    "arguments don't end",
                    "separate them by `,` and close with `)`",
                ));
            }
        }
    }

    fn unexpected(&self, token: &Token<'_>) -> Mistake {
        let what = match &token.kind {
            TokenKind::Name(name) => format!("`{name}` is not expected here"),
            TokenKind::Text(text) => format!("text '{text}' is not expected here"),
            TokenKind::Decimal(digits) => format!("`{digits}` is not expected here"),
            TokenKind::Symbol(sign) => format!("`{sign}` is not expected here"),
            TokenKind::Close => "`}}` is not expected here".to_owned(),
        };
        Mistake::new(token.start, what, "put an operator between two values, and a value on each side of one")
    }
}
