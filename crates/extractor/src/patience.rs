//! Asking the source for a page: what is waited out in place, and how long one window may take.

use std::time::Duration;

use kingpost_model::{Abandoned, Failure, FailureKind, Fault, Lease, Outbox, Page, Source, Window};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::account::{Account, Admission};

/// Longest reading of one window, so that it ends before anybody takes it for stuck: the watchdog has 15 minutes, and
/// the broker 30 for an unsettled delivery, of which a second one is in hand while the first is read.
const WINDOW_TIME: Duration = Duration::from_secs(600);
/// What may be added for the broker's confirms of the last page, or of the halves that a late window is split into.
const CONFIRM_TIME: Duration = Duration::from_secs(60);
/// Longest single call; a client that has no limit of its own must not use up the window's.
const CALL_TIME: Duration = Duration::from_secs(120);
/// Pauses before a page is asked for again after passing trouble; then the window is given back.
const PASSING: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// A source that asks to be left alone for longer than this is not waited for in place.
const PASSING_MAX: Duration = Duration::from_secs(30);
/// How often a pause looks whether the lease is still held.
const LOOK: Duration = Duration::from_secs(1);

/// Why reading a window was interrupted.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The window is given back, or dies, as the failure says.
    Failed(Failure),
    /// The window is too wide to be read whole; the failure is for a window that can't be narrowed.
    TooWide(Failure),
    /// The time for one window is used up.
    Late(Failure),
    /// The right to act is gone or in doubt, or the worker stops: nothing more is read or published.
    Abandoned,
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Interrupted::Failed(failure)
    }
}

impl From<Abandoned> for Interrupted {
    fn from(_: Abandoned) -> Self {
        Interrupted::Abandoned
    }
}

/// One window's calls of the source, its publishing, and its time.
pub(crate) struct Patience<'a> {
    source: &'a dyn Source,
    account: &'a Account,
    outbox: &'a dyn Outbox,
    lease: &'a Lease,
    ending: &'a CancellationToken,
    deadline: Instant,
}

impl<'a> Patience<'a> {
    /// Patience that begins now.
    pub(crate) fn new(
        (source, account): (&'a dyn Source, &'a Account),
        outbox: &'a dyn Outbox,
        lease: &'a Lease,
        ending: &'a CancellationToken,
    ) -> Self {
        Patience { source, account, outbox, lease, ending, deadline: Instant::now() + WINDOW_TIME }
    }

    /// Documents per page, at least 1.
    pub(crate) fn page_size(&self) -> u32 {
        self.source.page_size().max(1)
    }

    /// A page, asked for again in place while a limit or passing trouble allows.
    ///
    /// # Errors
    /// [`Interrupted`] by whatever is not worth waiting for, or lasts.
    pub(crate) async fn page(&self, window: Window, number: u32) -> Result<Page, Interrupted> {
        let (mut limit, mut troubles) = (None, 0);
        loop {
            self.held()?;
            let turn = self.turn().await.map_err(|interrupted| in_its_words(interrupted, limit.take()))?;
            let answer = self.call(window, number).await?;
            turn.end(&answer).await;
            let failure = match answer {
                Ok(page) => {
                    // Its documents belong to another worker when the connection was lost meanwhile.
                    self.held()?;
                    return Ok(page);
                }
                Err(failure) => failure,
            };
            let kind = failure.kind.as_str();
            let pause = match failure.kind {
                // How long it is waited for, and whether here, is a matter of the account.
                FailureKind::Throttled => {
                    info!(%window, page = number, kind, "the page is asked for again: {}", failure.text);
                    limit = Some(failure);
                    continue;
                }
                FailureKind::Transient | FailureKind::Unavailable => {
                    let asked = failure.retry_after.unwrap_or_default();
                    match PASSING.get(troubles) {
                        Some(pause) if asked <= PASSING_MAX => asked.max(*pause),
                        _ => return Err(failure.into()),
                    }
                }
                // The source says by itself that the window asks for too much.
                FailureKind::Incomplete => return Err(Interrupted::TooWide(failure)),
                _ => return Err(failure.into()),
            };
            troubles += 1;
            if Instant::now() + pause >= self.deadline {
                return Err(Interrupted::Late(failure));
            }
            let seconds = pause.as_secs_f64();
            info!(%window, page = number, kind, seconds, "the page is asked for again: {}", failure.text);
            if !self.pause(pause).await? {
                return Err(failure.into());
            }
        }
    }

    /// Waits for the account's turn; an error ends the window.
    async fn turn(&self) -> Result<Admission<'a>, Interrupted> {
        let admitting = self.account.admit(self.deadline);
        tokio::pin!(admitting);
        loop {
            tokio::select! {
                biased;
                admitted = timeout_at(Instant::now() + LOOK, &mut admitting) => match admitted {
                    Ok(admitted) => return admitted.map_err(Interrupted::Late),
                    Err(_) => self.held()?,
                },
                // A wait would otherwise use up the worker's time to drain.
                () = self.ending.cancelled() => {
                    let text = "the worker stopped while a window waited for its account";
                    return Err(Failure::new(FailureKind::Throttled, text).by(Fault::Source).into());
                }
            }
        }
    }

    /// Waits until what was put is confirmed.
    ///
    /// # Errors
    /// [`Interrupted::Abandoned`] when the lease is lost, a failure by the broker when it takes too long.
    pub(crate) async fn flush(&self) -> Result<(), Interrupted> {
        self.held()?;
        let limit = self.deadline + CONFIRM_TIME;
        let flushing = self.outbox.flush();
        tokio::pin!(flushing);
        loop {
            let look = (Instant::now() + LOOK).min(limit);
            if let Ok(flushed) = timeout_at(look, &mut flushing).await {
                return flushed.map_err(Interrupted::from);
            }
            self.held()?;
            if Instant::now() >= limit {
                let text = "the broker has not confirmed the documents of the window in time; see whether their \
                            queue is full or blocked; the window is read again";
                warn!("{text}");
                return Err(Failure::new(FailureKind::Unavailable, text).by(Fault::Broker).into());
            }
        }
    }

    /// One call; the outer error ends the window.
    async fn call(&self, window: Window, number: u32) -> Result<Result<Page, Failure>, Interrupted> {
        let late = || {
            let seconds = WINDOW_TIME.as_secs();
            let text = format!(
                "{window} was not read within {seconds} s, page {number} and those before it are missing"
            );
            Interrupted::Late(Failure::new(FailureKind::Incomplete, text))
        };
        if Instant::now() >= self.deadline {
            return Err(late());
        }
        let limit = self.deadline.min(Instant::now() + CALL_TIME);
        match timeout_at(limit, self.source.page(window, number)).await {
            Ok(answer) => Ok(answer),
            Err(_) if Instant::now() >= self.deadline => Err(late()),
            Err(_) => {
                let text = format!("the source has not answered for page {number} of {window} in time");
                Ok(Err(Failure::new(FailureKind::Unavailable, text).by(Fault::Source)))
            }
        }
    }

    fn held(&self) -> Result<(), Interrupted> {
        if self.lease.is_held() { Ok(()) } else { Err(Interrupted::Abandoned) }
    }

    /// Waits; false when the worker is told to stop meanwhile, which would otherwise use up its time to drain.
    async fn pause(&self, length: Duration) -> Result<bool, Interrupted> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.held()?;
            tokio::select! {
                () = self.ending.cancelled() => return Ok(false),
                () = sleep_until(until.min(Instant::now() + LOOK)) => {}
            }
        }
        Ok(true)
    }
}

/// The same interruption, told in the words of the source where it was a limit of its own.
fn in_its_words(interrupted: Interrupted, limit: Option<Failure>) -> Interrupted {
    match (interrupted, limit) {
        (Interrupted::Late(ours), Some(theirs)) => {
            Interrupted::Late(Failure { retry_after: ours.retry_after, ..theirs })
        }
        (Interrupted::Failed(_), Some(theirs)) => Interrupted::Failed(theirs),
        (interrupted, _) => interrupted,
    }
}
