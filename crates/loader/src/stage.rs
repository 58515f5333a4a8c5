//! The loader as a stage: models in, documents in the target.

use std::{sync::Arc, time::Duration};

use kingpost_model::{
    Batch, BoxFuture, Failure, FailureKind, Load, Loaded, Outbox, Stage, Standing, Target, Verdict, decide,
};
use kingpost_worker::now_ms;

use crate::{
    claims::{Claims, keys_of, rounds},
    standing::Unproven,
};

/// Told how documents came to be in the target.
pub(crate) trait LoadObserver: Send + Sync {
    fn loaded(&self, loaded: &Loaded, standing: Standing);
    fn unclear(&self);
}

/// Loads the models of one scheme.
pub(crate) struct LoadStage {
    pub(crate) target: Arc<dyn Target>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) unproven: Unproven,
    pub(crate) settle: Duration,
    pub(crate) observer: Arc<dyn LoadObserver>,
}

impl Stage for LoadStage {
    fn process<'a>(&'a self, batch: &'a Batch, _: &'a dyn Outbox) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            self.unproven.learn(&batch.items, self.settle);
            let mut verdicts: Vec<Option<Verdict>> = batch.items.iter().map(|_| None).collect();
            for round in rounds(&batch.items) {
                self.round(batch, &round, &mut verdicts).await;
            }
            let missing = || Failure::new(FailureKind::Internal, "the loader gave no verdict");
            verdicts.into_iter().map(|v| v.unwrap_or_else(|| decide(missing(), 1))).collect()
        })
    }
}

impl LoadStage {
    async fn round(&self, batch: &Batch, round: &[usize], verdicts: &mut [Option<Verdict>]) {
        let items: Vec<_> = round.iter().filter_map(|index| batch.items.get(*index)).collect();
        let _claim = self.claims.claim(items.iter().flat_map(|item| keys_of(item)).collect()).await;
        // Judged only now: while the claim was waited for, the same key may have ended without evidence.
        let now = now_ms();
        let loads: Vec<Load> = items
            .iter()
            .map(|item| Load {
                number: item.work.key.number.clone(),
                model: item.work.body.clone(),
                standing: self.unproven.standing(item, &batch.lease, self.settle, now),
            })
            .collect();
        let outcomes = self.target.load(&loads, &batch.lease).await;
        for (((index, item), load), outcome) in round.iter().zip(&items).zip(&loads).zip(outcomes) {
            let verdict = match outcome {
                Ok(loaded) => {
                    self.observer.loaded(&loaded, load.standing);
                    Verdict::Done
                }
                Err(failure) => self.failed(failure, load, item.work.attempt),
            };
            if let Some(slot) = verdicts.get_mut(*index) {
                *slot = Some(verdict);
            }
        }
    }

    fn failed(&self, mut failure: Failure, load: &Load, attempt: u32) -> Verdict {
        if failure.kind == FailureKind::Unclear {
            self.observer.unclear();
            if failure.in_flight {
                self.unproven.unclear(&load.number, self.settle);
            }
            // A short settle window needs no long tier.
            let short = failure.retry_after.unwrap_or(self.settle).min(self.settle);
            if short < Duration::from_secs(60) {
                failure.retry_after = Some(short);
            }
        }
        decide(failure, attempt)
    }
}
