use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use kingpost_mapping::spec::Position;

/// One thing that is wrong with a scheme file or with a table it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was opened.
    pub file: PathBuf,
    /// Where in the file; line 0 when the problem is the file itself.
    pub at: Position,
    /// What is wrong, a lowercase fragment.
    pub what: String,
    /// What to do.
    pub remedy: String,
    /// The line of the file, where there is one.
    line: Option<String>,
}

/// Everything that is wrong, by file and line. Shown as one block per problem:
///
/// ```text
/// schemes/purchase-stockin.yaml:12:5: unknown key `parms`
///    |
/// 12 |   parms: { status: "80" }
///    |   ^
/// remedy: did you mean `params`?
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub(crate) fn of_file(file: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem {
            file: file.to_owned(),
            at: Position::default(),
            what: what.into(),
            remedy: remedy.into(),
            line: None,
        }
    }
}

impl Problems {
    /// In the order of files and lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl From<Vec<Problem>> for Problems {
    fn from(mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        list.dedup();
        Problems { list }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems { list: vec![problem] }
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.at.line > 0 {
            write!(f, ":{}:{}", self.at.line, self.at.column)?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(line) = &self.line {
            let number = self.at.line.to_string();
            let margin = " ".repeat(number.len());
            let (shown, before) = excerpt(line, self.at.column);
            write!(f, "\n{margin} |\n{number} | {shown}\n{margin} | {}^", " ".repeat(before))?;
        }
        write!(f, "\nremedy: {}", self.remedy)
    }
}

/// The widest line that is shown whole, in characters.
const WIDEST: usize = 110;

/// What is shown of a line, and how many terminal cells stand in it before `column`.
fn excerpt(line: &str, column: u32) -> (String, usize) {
    let column = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    let length = line.chars().count();
    let start = if length <= WIDEST || column < WIDEST - 30 { 0 } else { column - 40 };
    let mut shown = String::new();
    let mut before = 0;
    if start > 0 {
        shown.push('…');
        before += 1;
    }
    for (index, c) in line.chars().enumerate().skip(start).take(WIDEST) {
        let c = if c.is_control() { ' ' } else { c };
        if index < column {
            before += cells(c);
        }
        shown.push(c);
    }
    if start + WIDEST < length {
        shown.push('…');
    }
    (shown.trim_end().to_owned(), before)
}

/// Cells of a terminal that a character takes; Chinese characters and full-width forms take two.
fn cells(c: char) -> usize {
    let wide = matches!(u32::from(c),
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1F64F | 0x1F900..=0x1F9FF | 0x20000..=0x3FFFD);
    if wide { 2 } else { 1 }
}

/// Collects the problems of one file while it is read.
#[derive(Debug)]
pub(crate) struct Findings {
    file: PathBuf,
    lines: Vec<String>,
    found: Vec<Problem>,
}

impl Findings {
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        Findings {
            file: file.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            found: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, at: Position, what: impl Into<String>, remedy: impl Into<String>) {
        let index = usize::try_from(at.line).unwrap_or_default().checked_sub(1);
        let line = index.and_then(|index| self.lines.get(index)).cloned();
        // A line further down in a block of text is known without its column.
        let indent = line.as_deref().map_or(0, |line| line.chars().take_while(|c| c.is_whitespace()).count());
        let column = if at.column > 0 { at.column } else { u32::try_from(indent + 1).unwrap_or(1) };
        let at = Position { column, ..at };
        self.found.push(Problem {
            file: self.file.clone(),
            at,
            what: what.into(),
            remedy: remedy.into(),
            line,
        });
    }

    /// Takes over the problems of another file.
    pub(crate) fn absorb(&mut self, other: Vec<Problem>) {
        self.found.extend(other);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether something was noted between two lines.
    pub(crate) fn within(&self, lines: RangeInclusive<u32>) -> bool {
        self.found.iter().any(|problem| problem.file == self.file && lines.contains(&problem.at.line))
    }

    /// The first line from a place on that isn't blank, which is where a reader that skips blank lines really stands.
    pub(crate) fn first_written(&self, at: Position) -> Position {
        let line = usize::try_from(at.line).unwrap_or_default();
        let blank = self.lines.iter().skip(line.saturating_sub(1)).take_while(|line| line.trim().is_empty());
        Position { line: at.line.saturating_add(u32::try_from(blank.count()).unwrap_or_default()), ..at }
    }

    pub(crate) fn into_list(self) -> Vec<Problem> {
        self.found
    }
}
