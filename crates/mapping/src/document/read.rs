use std::borrow::Cow;

use super::json::{Malformation, Raw, RawKind, Scanned, Scanner, unescape};
use super::{ArrayPlan, Keys, NO_SLOT, Plan};

/// The slots of one document; kept between documents so that reading allocates nothing once it has grown.
#[derive(Debug, Default)]
pub(crate) struct Source {
    header: Vec<Raw>,
    arrays: Vec<Lines>,
    decoded: String,
}

/// The elements of one source array.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The array's own value.
    raw: Raw,
    cells: Vec<Raw>,
    count: usize,
    width: usize,
    /// Elements that are no objects, by index.
    strays: Vec<usize>,
    /// The array's text when the document holds it as JSON inside a string.
    embedded: String,
    is_embedded: bool,
    order: Vec<Expected>,
}

/// A key as the first line wrote it; the next line most likely writes the same at the same turn.
#[derive(Clone, Copy, Debug)]
struct Expected {
    key: Raw,
    slot: u16,
}

/// The slots of the header or of one line, with the text they point into.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    pub(crate) text: &'a str,
    cells: &'a [Raw],
}

impl Cells<'_> {
    /// What stands in a slot.
    #[inline]
    pub(crate) fn get(&self, slot: u16) -> Raw {
        self.cells.get(usize::from(slot)).copied().unwrap_or_default()
    }
}

impl Source {
    /// The header's slots.
    pub(crate) fn header<'a>(&'a self, text: &'a str) -> Cells<'a> {
        Cells { text, cells: &self.header }
    }

    /// The lines of every wanted array, in the plan's order.
    pub(crate) fn arrays(&self) -> &[Lines] {
        &self.arrays
    }

    fn reset(&mut self, plan: &Plan) {
        self.header.clear();
        self.header.resize(plan.header.width(), Raw::default());
        self.arrays.resize_with(plan.arrays.len(), Lines::default);
        for (lines, array) in self.arrays.iter_mut().zip(&plan.arrays) {
            lines.clear(array.keys.width());
        }
    }
}

impl Lines {
    /// The array's own value as it stands in the document.
    pub(crate) fn raw(&self) -> Raw {
        self.raw
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// True if the array was held as JSON text.
    pub(crate) fn is_array(&self) -> bool {
        self.raw.kind == RawKind::Array || self.is_embedded
    }

    /// Indexes of the elements that are no objects.
    pub(crate) fn strays(&self) -> &[usize] {
        &self.strays
    }

    /// The slots of one line.
    #[inline]
    pub(crate) fn line<'a>(&'a self, document: &'a str, index: usize) -> Cells<'a> {
        let text = if self.is_embedded { self.embedded.as_str() } else { document };
        let start = index * self.width;
        Cells { text, cells: self.cells.get(start..start + self.width).unwrap_or_default() }
    }

    fn clear(&mut self, width: usize) {
        self.raw = Raw::default();
        self.cells.clear();
        self.count = 0;
        self.width = width;
        self.strays.clear();
        self.embedded.clear();
        self.is_embedded = false;
        self.order.clear();
    }
}

/// Fills the slots of `source` from a document.
pub(crate) fn read(plan: &Plan, document: &str, source: &mut Source) -> Scanned<()> {
    source.reset(plan);
    let mut scanner = Scanner::new(document)?;
    if !scanner.pass(b'{') {
        return scanner.fail("expected an object: the document is not a JSON object");
    }
    if !scanner.pass(b'}') {
        loop {
            header_field(plan, document, source, &mut scanner)?;
            if scanner.pass(b',') {
                continue;
            }
            if scanner.pass(b'}') {
                break;
            }
            return scanner.fail("expected ',' or '}' in an object");
        }
    }
    scanner.end()
}

fn header_field(plan: &Plan, document: &str, source: &mut Source, scanner: &mut Scanner<'_>) -> Scanned<()> {
    let key = scanner.key()?;
    let slot = slot_of(&plan.header, document, key, &mut source.decoded);
    if slot == NO_SLOT {
        scanner.value(1)?;
        return Ok(());
    }
    refuse_twice(&source.header, slot, &plan.header, key)?;
    let array = usize::from(plan.header.array(slot));
    let raw = match (plan.arrays.get(array), source.arrays.get_mut(array)) {
        (Some(array), Some(lines)) => read_lines(array, document, lines, scanner, &mut source.decoded)?,
        _ => scanner.value(1)?,
    };
    if let Some(cell) = source.header.get_mut(usize::from(slot)) {
        *cell = raw;
    }
    Ok(())
}

fn read_lines(
    array: &ArrayPlan,
    document: &str,
    lines: &mut Lines,
    scanner: &mut Scanner<'_>,
    decoded: &mut String,
) -> Scanned<Raw> {
    if scanner.peek() == Some(b'[') {
        let start = scanner.offset();
        elements(array, document, lines, scanner, decoded, 1)?;
        lines.raw = Raw { start: start as u32, end: scanner.offset() as u32, kind: RawKind::Array };
        return Ok(lines.raw);
    }
    lines.raw = scanner.value(1)?;
    let inside = match lines.raw.kind {
        RawKind::Plain | RawKind::Escaped => lines.raw.inside(document),
        _ => return Ok(lines.raw),
    };
    let mut embedded = std::mem::take(&mut lines.embedded);
    unescape(inside, &mut embedded);
    if embedded.trim_start().starts_with('[') {
        lines.is_embedded = true;
        read_embedded(array, &embedded, lines, decoded).map_err(|inner| {
            let message = format!("{} holds text that isn't JSON: {}", array.name, inner.message);
            Box::new(Malformation { message: Cow::Owned(message), offset: lines.raw.start as usize })
        })?;
    }
    lines.embedded = embedded;
    Ok(lines.raw)
}

fn read_embedded(array: &ArrayPlan, text: &str, lines: &mut Lines, decoded: &mut String) -> Scanned<()> {
    let mut scanner = Scanner::new(text)?;
    scanner.peek();
    elements(array, text, lines, &mut scanner, decoded, 0)?;
    scanner.end()
}

/// Reads the elements of an array whose bracket is next and which stands inside `depth` others.
fn elements(
    array: &ArrayPlan,
    text: &str,
    lines: &mut Lines,
    scanner: &mut Scanner<'_>,
    decoded: &mut String,
    depth: u8,
) -> Scanned<()> {
    scanner.pass(b'[');
    if scanner.pass(b']') {
        return Ok(());
    }
    loop {
        let start = lines.cells.len();
        lines.cells.resize(start + lines.width, Raw::default());
        if scanner.pass(b'{') {
            let cells = lines.cells.get_mut(start..).unwrap_or_default();
            line(&array.keys, text, cells, &mut lines.order, scanner, decoded, depth + 2)?;
        } else {
            scanner.value(depth + 1)?;
            lines.strays.push(lines.count);
        }
        lines.count += 1;
        if scanner.pass(b',') {
            continue;
        }
        if scanner.pass(b']') {
            return Ok(());
        }
        return scanner.fail("expected ',' or ']' in an array");
    }
}

/// Reads one line whose opening brace was passed.
fn line(
    keys: &Keys,
    text: &str,
    cells: &mut [Raw],
    order: &mut Vec<Expected>,
    scanner: &mut Scanner<'_>,
    decoded: &mut String,
    depth: u8,
) -> Scanned<()> {
    if scanner.pass(b'}') {
        return Ok(());
    }
    let learns = order.is_empty();
    let mut turn = 0;
    loop {
        let expected = order.get(turn).copied();
        turn += 1;
        let (key, slot) = match expected {
            Some(Expected { key, slot }) if scanner.pass_all(key.json(text).as_bytes()) => {
                scanner.colon()?;
                (key, slot)
            }
            _ => {
                let key = scanner.key()?;
                let slot = slot_of(keys, text, key, decoded);
                if learns {
                    order.push(Expected { key, slot });
                }
                (key, slot)
            }
        };
        if slot == NO_SLOT {
            scanner.value(depth)?;
        } else {
            refuse_twice(cells, slot, keys, key)?;
            let raw = scanner.value(depth)?;
            if let Some(cell) = cells.get_mut(usize::from(slot)) {
                *cell = raw;
            }
        }
        if scanner.pass(b',') {
            scanner.peek();
            continue;
        }
        if scanner.pass(b'}') {
            return Ok(());
        }
        return scanner.fail("expected ',' or '}' in an object");
    }
}

#[inline]
fn slot_of(keys: &Keys, text: &str, key: Raw, decoded: &mut String) -> u16 {
    if key.kind == RawKind::Plain {
        return keys.slot(key.inside(text).as_bytes());
    }
    decoded.clear();
    unescape(key.inside(text), decoded);
    keys.slot(decoded.as_bytes())
}

/// A key given twice has two values, and either choice could be the wrong one.
#[inline]
fn refuse_twice(cells: &[Raw], slot: u16, keys: &Keys, key: Raw) -> Scanned<()> {
    match cells.get(usize::from(slot)) {
        Some(cell) if cell.kind != RawKind::Absent => {
            let message = format!("key `{}` stands twice in one object", keys.name(slot));
            Err(Box::new(Malformation { message: Cow::Owned(message), offset: key.start as usize }))
        }
        _ => Ok(()),
    }
}
