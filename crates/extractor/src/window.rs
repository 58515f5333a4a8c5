//! Reading one window completely.

use std::collections::HashSet;

use kingpost_model::{
    Counted, Document, Failure, FailureKind, Lease, Origin, Outbox, Page, Pass, Passes, RecordKey, Route,
    Source, StageName, Window, Work, WorkId,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    account::Account,
    ledger::{Ledger, Sender},
    patience::{Interrupted, Patience},
};

/// A window of more pages than this is split before it is read, so that a failure costs little and a limit of 60
/// calls a minute is met within one window's time.
const PAGES: u32 = 20;
/// Pages that are read of a single second, which can't be split.
const SECOND_PAGES: u32 = 2_000;

/// What is extracted, and for whom.
pub(crate) struct Reading<'a> {
    pub(crate) source: &'a dyn Source,
    /// Whose limits every call of the source is counted by.
    pub(crate) account: &'a Account,
    pub(crate) outbox: &'a dyn Outbox,
    pub(crate) lease: &'a Lease,
    /// The worker is told to stop: nothing is waited for any more.
    pub(crate) ending: &'a CancellationToken,
    pub(crate) sender: Sender<'a>,
    /// Milliseconds since the epoch.
    pub(crate) clock: fn() -> i64,
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

/// Why the reading ended without either.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// As the failure says.
    Failed(Failure),
    /// The right to act is gone or in doubt, or the worker stops.
    Abandoned,
}

impl Reading<'_> {
    /// Reads a window from its last page to its first and publishes page by page.
    ///
    /// # Errors
    /// [`Stopped::Failed`] when the source fails or the window can't be read completely; of kind malformed when all of
    /// it is published but documents that no message can hold.
    pub(crate) async fn read(&self, window: Window) -> Result<Read, Stopped> {
        let patience = Patience::new((self.source, self.account), self.outbox, self.lease, self.ending);
        let mut ledger = Ledger::default();
        match self.passes(window, &patience, &mut ledger).await {
            Ok(documents) => match ledger.oversized(window) {
                Some(failure) => Err(Stopped::Failed(failure)),
                None => Ok(Read::Complete { documents }),
            },
            Err(Interrupted::TooWide(failure)) => self.split(window, failure, &patience, &ledger).await,
            // With nothing published, halves would fare no better than the whole once the outage is over.
            Err(Interrupted::Late(failure)) if failure.kind.is_outage() && !ledger.is_begun() => {
                Err(Stopped::Failed(failure))
            }
            Err(Interrupted::Late(failure)) => self.split(window, failure, &patience, &ledger).await,
            Err(Interrupted::Failed(failure)) => Err(Stopped::Failed(failure)),
            Err(Interrupted::Abandoned) => Err(Stopped::Abandoned),
        }
    }

    /// Reads the window, and again when it gave fewer documents than the source counts.
    async fn passes(
        &self,
        window: Window,
        patience: &Patience<'_>,
        ledger: &mut Ledger,
    ) -> Result<usize, Interrupted> {
        let mut passes = Passes::new(window);
        loop {
            let pass = self.pass(window, patience, ledger, &passes).await?;
            match passes.end(pass) {
                Counted::Whole(documents) => return Ok(documents),
                Counted::Again => {}
                Counted::Miscounted { found, counted } => {
                    warn!(%window, found, counted, "the source counts fewer documents than it shows");
                }
                Counted::Short(failure) => return Err(Interrupted::TooWide(failure)),
            }
        }
    }

    /// Hands a window on as two halves; a single second can't be halved and fails.
    async fn split(
        &self,
        window: Window,
        mut failure: Failure,
        patience: &Patience<'_>,
        ledger: &Ledger,
    ) -> Result<Read, Stopped> {
        let Some(halves) = window.halves() else {
            failure.problems.extend(ledger.problems());
            return Err(Stopped::Failed(failure));
        };
        for half in shared(halves) {
            let mut work =
                window_work(self.sender.scheme, half, self.sender.origin).map_err(Stopped::Failed)?;
            // What the whole has published comes again in its halves.
            if let Some(trace) = self.sender.trace {
                work.set_trace(trace);
            }
            work.verify = self.sender.verify || ledger.is_begun();
            self.outbox.put(Route::new(StageName::Extract, self.sender.scheme), work);
        }
        match patience.flush().await {
            Ok(()) => Ok(Read::Split),
            Err(Interrupted::Abandoned) => Err(Stopped::Abandoned),
            Err(
                Interrupted::Failed(failure) | Interrupted::TooWide(failure) | Interrupted::Late(failure),
            ) => Err(Stopped::Failed(failure)),
        }
    }

    /// One pass from the last page to the first, strictly one page after another: a document that changes meanwhile
    /// leaves the window, and everything behind it moves one place towards pages that are still to be read. A count that
    /// isn't believed is not asked for the last page either.
    async fn pass(
        &self,
        window: Window,
        patience: &Patience<'_>,
        ledger: &mut Ledger,
        passes: &Passes,
    ) -> Result<Pass, Interrupted> {
        // A document is as old as the question: it may have changed while the answer was on its way.
        let mut asked_ms = (self.clock)();
        let first = patience.page(window, 0).await?;
        let last = match passes.believed(&first) {
            Some(total) => last_of(window, total, patience.page_size())?,
            None => find_last(window, &first, patience).await?,
        };
        let mut pass = Pass::default();
        let mut only = (last == 0).then_some(first);
        for number in (0..=last).rev() {
            let page = match only.take() {
                Some(page) => page,
                None => {
                    asked_ms = (self.clock)();
                    patience.page(window, number).await?
                }
            };
            passes.count(&mut pass, &page);
            self.publish(window, page.documents, asked_ms, ledger, &mut pass.seen);
            patience.flush().await?;
        }
        Ok(pass)
    }

    fn publish(
        &self,
        window: Window,
        mut documents: Vec<Document>,
        asked_ms: i64,
        ledger: &mut Ledger,
        seen: &mut HashSet<String>,
    ) {
        // Of two versions of one document, the newer one has to come last.
        documents.sort_by_key(|document| document.modified_ms);
        for document in documents {
            if let Some((route, work)) = ledger.take(self.sender, window, document, seen, asked_ms) {
                self.outbox.put(route, work);
            }
        }
    }
}

/// A window as work for the extractors.
///
/// # Errors
/// A [`Failure`] of kind internal when the window can't be written.
pub(crate) fn window_work(scheme: &str, window: Window, origin: Origin) -> Result<Work, Failure> {
    let body = serde_json::to_vec(&window).map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))?;
    let name = window.to_string();
    let id = WorkId::new(format!("{scheme}-{name}"));
    let mut work = Work::new(id, StageName::Extract, scheme, RecordKey::new("window", name), body);
    work.origin = origin;
    Ok(work)
}

/// Halves of which the second knows that the second in which the first ends may be in both.
fn shared([left, mut right]: [Window; 2]) -> [Window; 2] {
    right.fresh_from_s = right.fresh_from_s.max(right.from_s);
    [left, right]
}

/// The last page of a window whose documents are counted.
fn last_of(window: Window, total: u64, size: u32) -> Result<u32, Interrupted> {
    let pages = total.div_ceil(u64::from(size)).max(1);
    let most = most_pages(window);
    if pages > u64::from(most) {
        let text = format!("{window} holds {total} documents, {pages} pages where {most} are read at a time");
        return Err(Interrupted::TooWide(Failure::new(FailureKind::Incomplete, text)));
    }
    Ok(u32::try_from(pages - 1).unwrap_or(u32::MAX))
}

/// Reads forward, publishing nothing, until a page is empty; a short page may stand in the middle.
async fn find_last(window: Window, first: &Page, patience: &Patience<'_>) -> Result<u32, Interrupted> {
    let most = most_pages(window);
    let mut before = first.documents.clone();
    let mut last = 0;
    while !before.is_empty() {
        let next = patience.page(window, last + 1).await?.documents;
        if next.is_empty() {
            break;
        }
        if next == before {
            let text = format!(
                "the source answers with the same documents for page {last} and for the next one of {window}, counting \
                 from 0: it doesn't page; check the method's paging parameters"
            );
            return Err(Failure::new(FailureKind::Incomplete, text).into());
        }
        last += 1;
        if last >= most {
            let text =
                format!("no end of {window} was found in {most} pages, and the source doesn't count them");
            return Err(Interrupted::TooWide(Failure::new(FailureKind::Incomplete, text)));
        }
        before = next;
    }
    Ok(last)
}

const fn most_pages(window: Window) -> u32 {
    if window.width_s() > 1 { PAGES } else { SECOND_PAGES }
}
