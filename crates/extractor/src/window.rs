//! Reading one window completely.

use std::collections::{HashMap, HashSet};

use kingpost_model::{
    Abandoned, Document, Failure, FailureKind, Origin, Outbox, Page, RecordKey, Route, Source, StageName, Window, Work,
    WorkId,
};
use sha2::{Digest as _, Sha256};

/// A window that holds more documents than this is split before it is read, so that a failure costs little.
const DOCUMENTS_MAX: u64 = 5_000;
/// Pages read forward in search of the end, where the source doesn't count.
const PAGES_MAX: u32 = 2_000;
/// The largest document that is published.
const DOCUMENT_BYTES_MAX: usize = kingpost_broker::MAX_BODY_BYTES;

/// What is extracted, and for whom.
pub(crate) struct Reading<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) outbox: &'a dyn Outbox,
    pub(crate) scheme: &'a str,
    /// The target's document type, the first half of every key.
    pub(crate) document: &'a str,
    pub(crate) origin: Origin,
    /// Every document may have been seen before.
    pub(crate) verify: bool,
    pub(crate) now_ms: i64,
}

/// How the reading of a window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Everything in it is published.
    Complete {
        /// Distinct documents.
        documents: usize,
    },
    /// It was handed on as narrower windows.
    Split,
}

/// Why the reading ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    Failed(Failure),
    Abandoned,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Stopped::Failed(failure)
    }
}

impl From<Abandoned> for Stopped {
    fn from(_: Abandoned) -> Self {
        Stopped::Abandoned
    }
}

/// What one pass from the last page to the first saw.
struct Pass {
    distinct: usize,
    total: Option<u64>,
}

impl Reading<'_> {
    /// Reads a window from its last page to its first and publishes page by page.
    ///
    /// # Errors
    /// [`Stopped::Failed`] when the source fails or the window can't be read completely.
    pub(crate) async fn read(&self, window: Window) -> Result<Read, Stopped> {
        let mut published = HashMap::new();
        let mut evidence = Vec::new();
        for _ in 0..2 {
            let pass = match self.pass(window, &mut published).await {
                Err(Stopped::Failed(failure)) if failure.kind == FailureKind::Incomplete => {
                    // The source itself says that the window is too wide.
                    return self.split(window, failure).await;
                }
                pass => pass?,
            };
            let Some(pass) = pass else {
                let failure = Failure::new(FailureKind::Incomplete, "the window holds too many documents");
                return self.split(window, failure).await;
            };
            match pass.total {
                Some(total) if (pass.distinct as u64) < total => {
                    evidence.push(format!("{} of {total}", pass.distinct));
                }
                _ => return Ok(Read::Complete { documents: pass.distinct }),
            }
        }
        let failure = Failure::new(
            FailureKind::Incomplete,
            format!(
                "the window {window} was read twice and gave fewer documents than the source counts ({}); \
                 check the page base and the account's permissions in the source system",
                evidence.join(", then ")
            ),
        );
        self.split(window, failure).await
    }

    /// Hands a window on as two halves; a single second can't be halved and fails.
    async fn split(&self, window: Window, failure: Failure) -> Result<Read, Stopped> {
        let Some(halves) = window.halves() else { return Err(failure.into()) };
        for half in halves {
            self.outbox.put(
                Route::new(StageName::Extract, self.scheme),
                window_work(self.scheme, half, self.origin).map_err(Stopped::Failed)?,
            );
        }
        self.outbox.flush().await?;
        Ok(Read::Split)
    }

    /// One pass; nothing when the window holds too many documents and can be split.
    async fn pass(
        &self,
        window: Window,
        published: &mut HashMap<String, HashSet<WorkId>>,
    ) -> Result<Option<Pass>, Stopped> {
        let first = self.source.page(window, 0).await?;
        let size = u64::from(self.source.page_size().max(1));
        let last = match first.total {
            Some(0) if first.documents.is_empty() => return Ok(Some(Pass { distinct: 0, total: Some(0) })),
            Some(total) if total > DOCUMENTS_MAX && window.width_s() > 1 => return Ok(None),
            Some(total) => u32::try_from(total.max(1).div_ceil(size) - 1).unwrap_or(u32::MAX),
            None => self.find_last(window, &first).await?,
        };
        let mut seen = HashSet::new();
        let mut unnumbered = 0;
        let mut total = first.total;
        let mut only = (last == 0).then_some(first);
        for number in (0..=last).rev() {
            let page = match only.take() {
                Some(page) => page,
                None => self.source.page(window, number).await?,
            };
            if number == 0 {
                total = page.total;
            }
            for document in page.documents {
                match &document.number {
                    Some(number) => {
                        seen.insert(number.clone());
                    }
                    None => unnumbered += 1,
                }
                self.publish(window, document, published)?;
            }
            self.outbox.flush().await?;
        }
        Ok(Some(Pass { distinct: seen.len() + unnumbered, total }))
    }

    /// Reads forward, publishing nothing, until a page is short.
    async fn find_last(&self, window: Window, first: &Page) -> Result<u32, Stopped> {
        let size = usize::try_from(self.source.page_size().max(1)).unwrap_or(usize::MAX);
        let mut length = first.documents.len();
        let mut last = 0;
        while length >= size {
            if last >= PAGES_MAX {
                return Err(Failure::new(FailureKind::Incomplete, "no end of the window was found").into());
            }
            length = self.source.page(window, last + 1).await?.documents.len();
            if length > 0 {
                last += 1;
            }
        }
        Ok(last)
    }

    fn publish(
        &self,
        window: Window,
        document: Document,
        published: &mut HashMap<String, HashSet<WorkId>>,
    ) -> Result<(), Failure> {
        if document.body.len() > DOCUMENT_BYTES_MAX {
            let name = document.number.as_deref().unwrap_or("without a number");
            let text = format!("the document {name} of {window} has {} bytes, too many for a message", document.body.len());
            return Err(Failure::new(FailureKind::Malformed, text));
        }
        let id = version_id(self.scheme, &document);
        // A document without a number is told apart by its content; the transformer says what it lacks.
        let number = document.number.unwrap_or_else(|| id.as_str().to_owned());
        if !published.entry(number.clone()).or_default().insert(id.clone()) {
            return Ok(());
        }
        let known = document.modified_ms.is_some_and(|ms| ms < window.fresh_from_s.saturating_mul(1_000));
        let key = RecordKey::new(self.document, number);
        let mut work = Work::new(id, StageName::Transform, self.scheme, key, document.body);
        work.origin = self.origin;
        work.verify = self.verify || known;
        work.modified_ms = document.modified_ms;
        work.extracted_ms = Some(self.now_ms);
        self.outbox.put(Route::new(StageName::Transform, self.scheme), work);
        Ok(())
    }
}

/// The identity of one version of a document: equal bytes have equal ids, whoever reads them and when.
fn version_id(scheme: &str, document: &Document) -> WorkId {
    let mut hash = Sha256::new();
    hash.update(scheme.as_bytes());
    hash.update([0]);
    hash.update(&document.body);
    let digest = hex::encode(&hash.finalize()[..12]);
    match &document.number {
        Some(number) => WorkId::new(format!("{}-{digest}", number.chars().take(64).collect::<String>())),
        None => WorkId::new(digest),
    }
}

/// A window as work for the extractors.
///
/// # Errors
/// A [`Failure`] of kind internal when the window can't be written.
pub(crate) fn window_work(scheme: &str, window: Window, origin: Origin) -> Result<Work, Failure> {
    let body = serde_json::to_vec(&window).map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))?;
    let name = window.to_string();
    let mut work = Work::new(
        WorkId::new(format!("{scheme}-{name}")),
        StageName::Extract,
        scheme,
        RecordKey::new("window", name),
        body,
    );
    work.origin = origin;
    Ok(work)
}
