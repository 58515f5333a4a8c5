//! Reading windows completely, for whoever only looks: page by page back to front, counted against the source's count.
//!
//! The extractor has a reader of its own, which publishes page by page, hands halves on as messages and ends with its
//! lease. This one keeps nothing and publishes nothing; what both go by is the same: a document that changes while its
//! window is read leaves it, and everything behind it moves one place towards pages that are still to be read. Whether a
//! window was read whole both ask of [`Passes`].

use std::time::Duration;

use kingpost_model::{Counted, Document, Failure, FailureKind, Page, Pass, Passes, Source, Window};
use tokio::{sync::Mutex, time::Instant};

/// A window of more pages than this is halved before it is read, so that a failure costs little.
const PAGES: u32 = 20;
/// Pages that are read of a single second, which can't be halved.
const SECOND_PAGES: u32 = 2_000;

/// How long what passes is waited for.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Pause after a limit that doesn't say how long it lasts: limits are counted by the minute.
    pub limit: Duration,
    /// How often in a row a limit is waited out.
    pub limits: u32,
    /// Pauses after passing trouble, one after the other; then the call has failed.
    pub passing: Vec<Duration>,
    /// Longest wait that a system may ask for.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = [1, 2, 5, 10, 30, 60].map(Duration::from_secs);
        Patience {
            limit: Duration::from_secs(65),
            limits: 30,
            passing: seconds.into(),
            longest: Duration::from_secs(1_800),
        }
    }
}

impl Patience {
    /// Makes a call, and makes it again when a limit or passing trouble is over; `told` hears of every wait.
    ///
    /// # Errors
    /// The failure of the last try, when it lasts or is none that passes.
    pub async fn ask<T>(
        &self,
        told: &(dyn Fn(&Failure, Duration) + Sync),
        mut call: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (mut limits, mut troubles) = (0, 0);
        loop {
            let failure = match call().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let asked = failure.retry_after.unwrap_or_default();
            let pause = match failure.kind {
                FailureKind::Throttled => {
                    limits += 1;
                    (limits <= self.limits).then(|| failure.retry_after.unwrap_or(self.limit))
                }
                FailureKind::Transient | FailureKind::Unavailable | FailureKind::Unclear => {
                    troubles += 1;
                    self.passing.get(troubles - 1).map(|pause| asked.max(*pause))
                }
                _ => None,
            };
            let Some(pause) = pause.filter(|pause| *pause <= self.longest) else { return Err(failure) };
            told(&failure, pause);
            tokio::time::sleep(pause).await;
        }
    }
}

/// So many calls a minute at most, evenly spread, because the workers live off the same account.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// A pace of calls per minute; 0 is no limit.
    pub fn per_minute(calls: u32) -> Self {
        let every = Duration::from_secs(60).checked_div(calls).unwrap_or_default();
        Pace { every, next: Mutex::new(None) }
    }

    /// Waits until the next call is due.
    pub async fn turn(&self) {
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let due = next.unwrap_or(now).max(now);
        *next = Some(due + self.every);
        tokio::time::sleep_until(due).await;
    }
}

/// Why the reading of a window ended before its end.
#[derive(Debug)]
pub enum Unread<E> {
    /// The source failed, or the window can't be read completely.
    Source(Failure),
    /// Whoever takes the documents can't take more.
    Taker(E),
}

/// Reads windows of one source.
pub struct WindowReader<'a> {
    /// Where the documents are.
    pub source: &'a dyn Source,
    /// How long what passes is waited for.
    pub patience: &'a Patience,
    /// How often the source is asked.
    pub pace: &'a Pace,
    /// Hears of every wait.
    pub told: &'a (dyn Fn(&Failure, Duration) + Sync),
}

enum Over {
    Read(Pass),
    TooWide(Failure),
}

impl WindowReader<'_> {
    /// Hands every document of a window to `each`; one that moves meanwhile, or lies in both halves of a window, is handed
    /// over more than once, perhaps in two versions.
    ///
    /// # Errors
    /// [`Unread`]; what was handed over until then is not all.
    pub async fn read<E>(
        &self,
        window: Window,
        each: &mut (dyn FnMut(Document) -> Result<(), E> + Send),
    ) -> Result<(), Unread<E>> {
        let mut waiting = vec![window];
        while let Some(window) = waiting.pop() {
            let Err(failure) = self.whole(window, each).await? else { continue };
            match window.halves() {
                // The older half first: what changes meanwhile moves into what is still to be read.
                Some([left, right]) => waiting.extend([right, left]),
                None => return Err(Unread::Source(failure)),
            }
        }
        Ok(())
    }

    /// Reads a window, and again when it gave fewer documents than the source counts; the inner error is for a window
    /// that has to be halved.
    async fn whole<E>(
        &self,
        window: Window,
        each: &mut (dyn FnMut(Document) -> Result<(), E> + Send),
    ) -> Result<Result<(), Failure>, Unread<E>> {
        let mut passes = Passes::new(window);
        loop {
            let pass = match self.pass(window, &passes, each).await? {
                Over::TooWide(failure) => return Ok(Err(failure)),
                Over::Read(pass) => pass,
            };
            match passes.end(pass) {
                Counted::Whole(_) => return Ok(Ok(())),
                Counted::Again | Counted::Miscounted { .. } => {}
                Counted::Short(failure) => return Ok(Err(failure)),
            }
        }
    }

    async fn pass<E>(
        &self,
        window: Window,
        passes: &Passes,
        each: &mut (dyn FnMut(Document) -> Result<(), E> + Send),
    ) -> Result<Over, Unread<E>> {
        let first = match self.page(window, 0).await {
            Ok(page) => page,
            Err(failure) if failure.kind == FailureKind::Incomplete => return Ok(Over::TooWide(failure)),
            Err(failure) => return Err(Unread::Source(failure)),
        };
        let size = u64::from(self.source.page_size().max(1));
        // Without a count that is believed, the end is looked for.
        let pages = match passes.believed(&first) {
            Some(total) => total.div_ceil(size).max(1),
            None => match self.count_pages(window, &first).await {
                Ok(pages) => pages,
                Err(failure) if failure.kind == FailureKind::Incomplete => return Ok(Over::TooWide(failure)),
                Err(failure) => return Err(Unread::Source(failure)),
            },
        };
        let most = most_pages(window);
        if pages > u64::from(most) {
            let text = format!("{window} holds {pages} pages where {most} are read at a time");
            return Ok(Over::TooWide(Failure::new(FailureKind::Incomplete, text)));
        }
        let mut pass = Pass::default();
        let mut only = (pages == 1).then_some(first);
        for number in (0..u32::try_from(pages).unwrap_or(u32::MAX)).rev() {
            let page = match only.take() {
                Some(page) => page,
                None => self.page(window, number).await.map_err(Unread::Source)?,
            };
            passes.count(&mut pass, &page);
            for document in page.documents {
                pass.seen.insert(document.number.clone().unwrap_or_else(|| hash_of(&document)));
                each(document).map_err(Unread::Taker)?;
            }
        }
        Ok(Over::Read(pass))
    }

    /// Reads forward until a page is empty; a short page may stand in the middle.
    async fn count_pages(&self, window: Window, first: &Page) -> Result<u64, Failure> {
        let most = most_pages(window);
        let mut before = first.documents.clone();
        let mut pages = 1;
        while !before.is_empty() {
            let next = self.page(window, pages).await?.documents;
            if next.is_empty() {
                break;
            }
            if next == before {
                let text = format!("the source answers {window} with the same documents for every page");
                return Err(Failure::new(FailureKind::Refused, text));
            }
            pages += 1;
            if pages > most {
                let text = format!("no end of {window} was found in {most} pages");
                return Err(Failure::new(FailureKind::Incomplete, text));
            }
            before = next;
        }
        Ok(u64::from(pages))
    }

    async fn page(&self, window: Window, number: u32) -> Result<Page, Failure> {
        let call = async || {
            self.pace.turn().await;
            self.source.page(window, number).await
        };
        self.patience.ask(self.told, call).await
    }
}

/// What a document without a number is told apart by.
fn hash_of(document: &Document) -> String {
    String::from_utf8_lossy(&document.body).into_owned()
}

const fn most_pages(window: Window) -> u32 {
    if window.width_s() > 1 { PAGES } else { SECOND_PAGES }
}
