use crate::compile::compile;
use crate::document::{Plan, Source, read};
use crate::evaluate::Run;
use crate::problem::{Rejection, SpecProblem};
use crate::spec::{Spec, Table};
use crate::write::{Cache, Rule, Step, Writer};

/// A mapping, compiled once and used for any number of documents, by any number of threads.
#[derive(Debug)]
pub struct Mapping {
    pub(crate) plan: Plan,
    pub(crate) tables: Vec<(Box<str>, Table)>,
    pub(crate) offset_seconds: i32,
    pub(crate) filter: Option<Rule>,
    pub(crate) steps: Box<[Step]>,
    pub(crate) caches: u16,
    pub(crate) outputs: Vec<OutputRule>,
}

/// A side result.
#[derive(Debug)]
pub(crate) struct OutputRule {
    pub(crate) rule: Rule,
    pub(crate) optional: bool,
}

/// Room for one document's work; reuse it, and applying a mapping allocates next to nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    source: Source,
    cache: Cache,
}

impl Scratch {
    /// Empty room, which grows with the documents.
    pub fn new() -> Self {
        Self::default()
    }
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The filter says that this document is not for this scheme; nothing was written.
    Filtered,
    /// The model was written.
    Mapped {
        /// The side results in the order of [`Spec::outputs`]; `None` where an optional one is nothing.
        outputs: Vec<Option<String>>,
    },
}

impl Mapping {
    /// Checks a mapping and turns it into what [`Mapping::apply`] executes.
    ///
    /// # Errors
    ///
    /// All mistakes, in the order of their places.
    pub fn compile(spec: &Spec) -> Result<Self, Vec<SpecProblem>> {
        compile(spec)
    }

    /// Appends the model of `document`, one JSON object, to `out`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Malformed`] if the bytes are no JSON object, [`Rejection::Unmappable`] with every field that has
    /// no value. `out` is then as it was.
    pub fn apply(
        &self,
        document: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Rejection> {
        let text = std::str::from_utf8(document)
            .map_err(|error| malformed(document, error.valid_up_to(), "document is not UTF-8".to_owned()))?;
        read(&self.plan, text, &mut scratch.source)
            .map_err(|found| malformed(document, found.offset, found.message.into_owned()))?;
        scratch.cache.reset(self.caches);
        let run = Run {
            document: text,
            header: scratch.source.header(text),
            arrays: scratch.source.arrays(),
            tables: &self.tables,
            offset_seconds: self.offset_seconds,
            line: None,
        };
        let start = out.len();
        let mut writer = Writer { out, cache: &mut scratch.cache, problems: Vec::new(), forgives: false };
        if let Some(rule) = &self.filter {
            match rule.form.truth(&run) {
                Ok(true) => {}
                Ok(false) => return Ok(Outcome::Filtered),
                Err(fault) => {
                    writer.report(rule, &fault, &run);
                }
            }
        }
        writer.write(&self.steps, &run);
        let outputs = self.outputs.iter().map(|output| output.evaluate(&run, &mut writer)).collect();
        if writer.problems.is_empty() {
            return Ok(Outcome::Mapped { outputs });
        }
        let problems = writer.problems;
        out.truncate(start);
        Err(Rejection::Unmappable(problems))
    }
}

impl OutputRule {
    fn evaluate<'a>(&'a self, run: &Run<'a>, writer: &mut Writer<'_>) -> Option<String> {
        match self.rule.form.text(run) {
            Ok(text) => return Some(text),
            Err(fault) if self.optional && fault.is_nothing() => {}
            Err(fault) => {
                writer.report(&self.rule, &fault, run);
            }
        }
        None
    }
}

#[cold]
fn malformed(document: &[u8], offset: usize, message: String) -> Rejection {
    let before = document.get(..offset).unwrap_or(document);
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count();
    let line = before.iter().filter(|&&byte| byte == b'\n').count();
    Rejection::Malformed { message, line: count(line), column: count(column) }
}
