//! The loader as a stage: models in, documents in the target.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    cancelled::Cancelled,
    claims::{Claims, keys_of, rounds},
    standing::Unproven,
};
use kingpost_connectors::{CANCELLED, CHANGED, DUPLICATE, TIMED_OUT};
use kingpost_model::{
    Batch, BoxFuture, Failure, FailureKind, Item, Lease, Load, Loaded, LoadedHow, Outbox, Outcome, Stage,
    Target, Verdict, Work, decide,
};
use tracing::{error, info};

/// No round begins later than this after its batch, because 20 documents of one purchase order are 20 rounds, one after
/// the other. With the longest round after it a batch stays well below the broker's patience with its consumer (30
/// minutes).
pub(crate) const PATIENCE: Duration = Duration::from_secs(480);

/// Below this, the settle window itself is the delay before the next look-up.
const SHORT_SETTLE: Duration = Duration::from_secs(60);
/// How often a document is looked up that only waits for its settle window.
const WAIT_AGAIN: Duration = Duration::from_secs(30);

/// Told how documents came to be in the target.
pub(crate) trait LoadObserver: Send + Sync {
    fn loaded(&self, loaded: &Loaded);
    fn unclear(&self);
    /// More than one document of one number was found.
    fn duplicated(&self);
    /// A document that changed or was cancelled in the source became a dead letter.
    fn reported(&self);
}

/// Loads the models of one scheme.
pub(crate) struct LoadStage {
    pub(crate) target: Arc<dyn Target>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) unproven: Unproven,
    pub(crate) cancelled: Cancelled,
    pub(crate) settle: Duration,
    /// [`PATIENCE`].
    pub(crate) patience: Duration,
    pub(crate) observer: Arc<dyn LoadObserver>,
}

impl Stage for LoadStage {
    fn process<'a>(&'a self, batch: &'a Batch, outbox: &'a dyn Outbox) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let begun = self.unproven.now();
            let until = begun.steady + self.patience;
            for Item { work, redelivered } in &batch.items {
                self.unproven.learn(work, *redelivered, &batch.lease, self.settle, begun);
                self.cancelled.learn(work, begun.steady);
            }
            let mut verdicts: Vec<Option<Verdict>> = batch.items.iter().map(|_| None).collect();
            let mut ended = None;
            for round in rounds(&batch.items) {
                if ended.is_none() {
                    ended = self.round(batch, outbox, &round, until, &mut verdicts).await;
                }
            }
            // No verdict: the round was not tried.
            let reason =
                ended.unwrap_or_else(|| Failure::new(FailureKind::Internal, "the loader gave no verdict"));
            let attempts = batch.items.iter().map(|item| item.work.attempt);
            let left = |(verdict, attempt): (Option<Verdict>, u32)| {
                verdict.unwrap_or_else(|| decide(reason.clone(), attempt))
            };
            verdicts.into_iter().zip(attempts).map(left).collect()
        })
    }

    fn met(&self, work: &Work, redelivered: bool, lease: &Lease) {
        self.unproven.learn(work, redelivered, lease, self.settle, self.unproven.now());
    }

    fn in_flight_for(&self, work: &Work) -> Duration {
        self.unproven.key_for(&work.key.number, self.unproven.now())
    }

    fn wary_for(&self) -> Duration {
        self.unproven.everything_for(self.unproven.now())
    }
}

impl LoadStage {
    /// Loads one round and returns why no further one is worth trying, if that is so.
    async fn round(
        &self,
        batch: &Batch,
        outbox: &dyn Outbox,
        round: &[usize],
        until: Instant,
        verdicts: &mut [Option<Verdict>],
    ) -> Option<Failure> {
        let items: Vec<_> = round.iter().filter_map(|index| batch.items.get(*index)).collect();
        let _claim = self.claims.claim(items.iter().flat_map(|item| keys_of(item)).collect()).await;
        // Asked only now: the claim may have been waited for as long as another batch took.
        let now = self.unproven.now();
        if now.steady >= until {
            let text = "not tried: the batch took too long before its turn; it comes again";
            return Some(Failure::new(FailureKind::Unavailable, text).retry_after(Duration::ZERO));
        }
        // Judged only now: meanwhile the same key may have ended without evidence.
        let loads: Vec<Load> = items
            .iter()
            .map(|item| Load {
                number: item.work.key.number.clone(),
                model: item.work.body.clone(),
                standing: self.unproven.standing(item, self.settle, now),
                extracted_ms: item.work.extracted_ms,
                cancelled: self.cancelled.holds(&item.work),
            })
            .collect();
        let outcomes = self.target.load(&loads, &batch.lease).await;
        let mut ended = None;
        for (((index, item), load), outcome) in round.iter().zip(&items).zip(&loads).zip(outcomes) {
            let verdict = match outcome {
                Ok(loaded) => {
                    self.observer.loaded(&loaded);
                    let Loaded { number, id, how, difference } = loaded;
                    if matches!(how, LoadedHow::Posted | LoadedHow::Updated) {
                        self.unproven.posted(&load.number, self.settle, self.unproven.now());
                    }
                    if let Some(difference) = difference {
                        let (key, scheme) = (item.work.key.to_string(), item.work.scheme.as_str());
                        let (trace_id, span_id) = item.work.trace_ids();
                        info!(
                            record.key = key,
                            scheme, trace_id, span_id, "left as it is in the target (id {id}): {difference}"
                        );
                    }
                    outbox.report(&item.work, Outcome::Loaded { number, id, how });
                    Verdict::Done
                }
                Err(failure) => {
                    ended = ended.or_else(|| not_tried_after(&failure));
                    self.failed(failure, &item.work)
                }
            };
            if let Some(slot) = verdicts.get_mut(*index) {
                *slot = Some(verdict);
            }
        }
        ended
    }

    fn failed(&self, mut failure: Failure, work: &Work) -> Verdict {
        if failure.code.as_deref() == Some(DUPLICATE) {
            self.observer.duplicated();
            let (key, scheme, text) = (work.key.to_string(), work.scheme.as_str(), failure.text.as_str());
            let (trace_id, span_id) = work.trace_ids();
            error!(
                record.key = key,
                scheme, trace_id, span_id, "the target has a document twice, its key is stopped: {text}"
            );
        }
        if [CHANGED, CANCELLED].iter().any(|code| failure.code.as_deref() == Some(code)) {
            self.observer.reported();
        }
        if failure.saved {
            self.unproven.posted(&work.key.number, self.settle, self.unproven.now());
        }
        if failure.in_flight {
            self.unproven.unclear(&work.key.number, self.settle, self.unproven.now());
        }
        if failure.kind == FailureKind::Unclear {
            self.observer.unclear();
            // A short settle window needs no long tier, and a mere wait for it isn't counted, so it climbs none.
            let longest = if failure.in_flight { SHORT_SETTLE } else { WAIT_AGAIN };
            let short = failure.retry_after.unwrap_or(self.settle).min(self.settle);
            if short < SHORT_SETTLE || !failure.in_flight {
                failure.retry_after = Some(short.min(longest));
            }
        }
        decide(failure, work.attempt)
    }
}

/// What the rounds after a failure get instead of a try, when it says that the target doesn't work: the same kind where
/// that is an outage, and unavailable where a write timed out, since the next would hang as well. No attempt is counted.
fn not_tried_after(failure: &Failure) -> Option<Failure> {
    let hangs = failure.code.as_deref() == Some(TIMED_OUT);
    let kind = match failure.kind {
        kind if kind.is_outage() => kind,
        _ if hangs => FailureKind::Unavailable,
        _ => return None,
    };
    let mut next = Failure::new(kind, format!("not tried after another document: {}", failure.text));
    next.fault = failure.fault;
    next.retry_after = failure.retry_after.filter(|_| kind == failure.kind);
    Some(next)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
