//! A strict JSON scanner that remembers where values stand instead of copying them (RFC 8259).

use std::borrow::Cow;

/// How deep objects and arrays may stand in each other; the limit serde_json has, so that both accept the same.
const DEEPEST: u8 = 127;

/// What kind of JSON value a [`Raw`] points at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RawKind {
    /// The key isn't there.
    #[default]
    Absent,
    Null,
    /// A string without escapes: its inside can be used as it is.
    Plain,
    /// A string with at least one escape.
    Escaped,
    Number,
    True,
    False,
    Object,
    Array,
}

/// Where one JSON value stands in its text, quotes and brackets included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Raw {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) kind: RawKind,
}

impl Raw {
    /// The JSON of this value.
    pub(crate) fn json<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// What stands between the quotes of a string, escapes as they are.
    pub(crate) fn inside<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start as usize + 1..(self.end as usize).saturating_sub(1)).unwrap_or_default()
    }
}

/// What is wrong with a JSON text, and where: an offset in bytes.
#[derive(Debug)]
pub(crate) struct Malformation {
    pub(crate) message: Cow<'static, str>,
    pub(crate) offset: usize,
}

/// The answer of a scan; the error is boxed so that the answer stays as small as a [`Raw`].
pub(crate) type Scanned<T> = Result<T, Box<Malformation>>;

/// Walks over one JSON text.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `text`; offsets are kept in 32 bits, so longer texts are refused.
    pub(crate) fn new(text: &'a str) -> Scanned<Self> {
        if u32::try_from(text.len()).is_err() {
            return Err(malformed("document is larger than 4 GiB", 0));
        }
        Ok(Self { bytes: text.as_bytes(), at: 0 })
    }

    /// Where the scanner stands, in bytes.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The next byte that isn't blank, without passing it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Passes `byte`, after blanks, if it is next.
    #[inline]
    pub(crate) fn pass(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte) || self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Passes `expected` if the text goes on with exactly these bytes.
    #[inline]
    pub(crate) fn pass_all(&mut self, expected: &[u8]) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(expected));
        self.at += if found { expected.len() } else { 0 };
        found
    }

    /// The complaint that something else than `message` says was found here.
    pub(crate) fn fail<T>(&self, message: &'static str) -> Scanned<T> {
        let message = match self.bytes.get(self.at) {
            Some(_) => message,
            None if self.bytes.trim_ascii().is_empty() => "document is empty",
            None => "document ends in the middle of a value",
        };
        Err(malformed(message, self.at))
    }

    /// Nothing but blanks may follow.
    pub(crate) fn end(&mut self) -> Scanned<()> {
        if self.peek().is_some() { self.fail("something follows the end of the document") } else { Ok(()) }
    }

    /// Scans one key and its colon; the raw key includes its quotes.
    pub(crate) fn key(&mut self) -> Scanned<Raw> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a key in double quotes");
        }
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    /// Passes the colon after a key.
    #[inline]
    pub(crate) fn colon(&mut self) -> Scanned<()> {
        if self.pass(b':') { Ok(()) } else { self.fail("expected ':' after a key") }
    }

    /// Scans a whole value of any kind that stands inside `depth` others.
    pub(crate) fn value(&mut self, depth: u8) -> Scanned<Raw> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", RawKind::True),
            Some(b'f') => self.word(b"false", RawKind::False),
            Some(b'n') => self.word(b"null", RawKind::Null),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            _ => self.fail("expected a JSON value"),
        }
    }

    /// Refuses a value that stands too deep.
    pub(crate) fn descend(&self, depth: u8) -> Scanned<u8> {
        if depth >= DEEPEST {
            return Err(malformed("values are nested deeper than 127 levels", self.at));
        }
        Ok(depth + 1)
    }

    fn object(&mut self, depth: u8) -> Scanned<Raw> {
        let start = self.at;
        let inner = self.descend(depth)?;
        self.at += 1;
        if !self.pass(b'}') {
            loop {
                self.key()?;
                self.value(inner)?;
                if self.pass(b',') {
                    continue;
                }
                if self.pass(b'}') {
                    break;
                }
                return self.fail("expected ',' or '}' in an object");
            }
        }
        Ok(self.raw(start, RawKind::Object))
    }

    fn array(&mut self, depth: u8) -> Scanned<Raw> {
        let start = self.at;
        let inner = self.descend(depth)?;
        self.at += 1;
        if !self.pass(b']') {
            loop {
                self.value(inner)?;
                if self.pass(b',') {
                    continue;
                }
                if self.pass(b']') {
                    break;
                }
                return self.fail("expected ',' or ']' in an array");
            }
        }
        Ok(self.raw(start, RawKind::Array))
    }

    #[inline]
    fn raw(&self, start: usize, kind: RawKind) -> Raw {
        // Scanner::new refused texts whose offsets would be cut here.
        Raw { start: start as u32, end: self.at as u32, kind }
    }

    fn word(&mut self, word: &'static [u8], kind: RawKind) -> Scanned<Raw> {
        let start = self.at;
        if self.pass_all(word) {
            Ok(self.raw(start, kind))
        } else {
            self.fail("expected true, false or null")
        }
    }

    #[inline]
    fn number(&mut self) -> Scanned<Raw> {
        let start = self.at;
        let mut at = start + usize::from(self.bytes.get(start) == Some(&b'-'));
        match self.bytes.get(at) {
            Some(b'0') => at += 1,
            Some(b'1'..=b'9') => at = self.digits(at),
            _ => return self.fail("expected a digit after '-'"),
        }
        if self.bytes.get(at) == Some(&b'.') {
            let fraction = at + 1;
            at = self.digits(fraction);
            if at == fraction {
                self.at = at;
                return self.fail("expected a digit after the decimal point");
            }
        }
        if matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            let exponent = at + 1 + usize::from(matches!(self.bytes.get(at + 1), Some(b'+' | b'-')));
            at = self.digits(exponent);
            if at == exponent {
                self.at = at;
                return self.fail("expected a digit in the exponent");
            }
        }
        self.at = at;
        Ok(self.raw(start, RawKind::Number))
    }

    #[inline]
    fn digits(&self, mut at: usize) -> usize {
        while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    }

    /// Scans a string whose opening quote is next.
    #[inline]
    fn string(&mut self) -> Scanned<Raw> {
        let start = self.at;
        let mut kind = RawKind::Plain;
        let mut at = special(self.bytes, start + 1);
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(self.raw(start, kind));
                }
                Some(b'\\') => {
                    kind = RawKind::Escaped;
                    self.at = at;
                    at = special(self.bytes, self.escape()?);
                }
                Some(_) => {
                    self.at = at;
                    return self.fail("control character in a string");
                }
                None => {
                    self.at = at;
                    return self.fail("string has no end");
                }
            }
        }
    }

    /// Checks the escape at the scanner and says where it ends.
    #[cold]
    fn escape(&self) -> Scanned<usize> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(self.at + 2),
            Some(b'u') => match self.unit(self.at) {
                Some(0xD800..=0xDBFF) => match self.unit(self.at + 6) {
                    Some(0xDC00..=0xDFFF) => Ok(self.at + 12),
                    _ => self.fail("half of a surrogate pair in a string"),
                },
                Some(0xDC00..=0xDFFF) => self.fail("half of a surrogate pair in a string"),
                Some(_) => Ok(self.at + 6),
                None => self.fail("expected four hexadecimal digits after \\u"),
            },
            _ => self.fail("unknown escape in a string"),
        }
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let escape = self.bytes.get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + (digit as char).to_digit(16)?))
    }
}

/// Turns the inside of a scanned string into its text, appended to `out`.
pub(crate) fn unescape(inside: &str, out: &mut String) {
    let mut rest = inside;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escape.chars();
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let (unit, tail) = unit(chars.as_str());
                let (code, tail) = match unit {
                    0xD800..=0xDBFF => {
                        let (low, tail) = self::unit(tail.get(2..).unwrap_or_default());
                        (0x10000 + ((unit & 0x3FF) << 10) + (low & 0x3FF), tail)
                    }
                    _ => (unit, tail),
                };
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = tail;
                continue;
            }
            Some(other) => out.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

fn unit(text: &str) -> (u32, &str) {
    let (digits, tail) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xFFFD), tail)
}

fn malformed(message: &'static str, offset: usize) -> Box<Malformation> {
    Box::new(Malformation { message: Cow::Borrowed(message), offset })
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The first byte from `at` on that a JSON string can't hold as it is: a quote, a backslash or a control character.
#[inline]
pub(crate) fn special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * 0x22);
        let backslash = word ^ (ONES * 0x5C);
        // Borrows run upwards only, so the lowest bit that is set is exact.
        let found = ((quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word))
            & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte != b'"' && byte != b'\\' && byte >= 0x20) {
        at += 1;
    }
    at
}
