//! Loading documents: look up what may be there, save what is absent, finish what is not finished.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kingpost_kingdee::{DocumentStatus, KingdeeClient, KingdeeError, Ready, SaveOption, UnknownCause};
use kingpost_model::{BoxFuture, Failure, FailureKind, Lease, Load, Loaded, LoadedHow, Standing, Target};

use super::{
    failures,
    forms::{self, Form},
};
use crate::{Calls, TIMED_OUT};

/// How far a document is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Saved.
    Save,
    /// Saved and submitted.
    Submit,
    /// Saved, submitted and audited.
    Audit,
}

/// What documents of one scheme are posted as.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// Form id, as `STK_InStock`.
    pub form: String,
    /// How far a document is taken.
    pub finish: Finish,
    /// Save options, siblings of `Model`, in wire order.
    pub options: Vec<SaveOption>,
}

/// One form of one Kingdee account.
pub struct KingdeeTarget {
    pub(super) client: KingdeeClient,
    pub(super) spec: TargetSpec,
    pub(super) form: Option<&'static Form>,
    calls: Arc<dyn Calls>,
}

/// A document that exists, and how it came to.
#[derive(Clone, Debug)]
pub(super) struct Existing {
    pub(super) id: String,
    pub(super) status: DocumentStatus,
    pub(super) how: LoadedHow,
}

/// What has become of a document so far.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// To be posted.
    Absent,
    /// It exists; steps may be left.
    There(Existing),
    /// It failed.
    Failed(Failure),
}

/// One document on its way.
pub(super) struct Job<'a> {
    pub(super) load: &'a Load,
    pub(super) progress: Progress,
}

impl Job<'_> {
    pub(super) fn fail(&mut self, failure: Failure) {
        self.progress = Progress::Failed(failure);
    }

    pub(super) fn there(&mut self, id: String, status: DocumentStatus, how: LoadedHow) {
        self.progress = Progress::There(Existing { id, status, how });
    }
}

/// How long documents of one batch are tried one by one before the rest has to come again: 50 that take half a minute
/// each would outlast the broker's patience with its consumer (30 minutes).
const ONE_BY_ONE_MAX: Duration = Duration::from_secs(120);

/// What is tried one by one ends with the first sign that Kingdee doesn't work, or when it takes too long.
pub(super) struct OneByOne {
    until: Instant,
    ended: Option<Failure>,
}

impl OneByOne {
    pub(super) fn begin() -> Self {
        OneByOne { until: Instant::now() + ONE_BY_ONE_MAX, ended: None }
    }

    /// What becomes of the next document instead of a try, once it has ended.
    pub(super) fn ended(&self) -> Option<Failure> {
        if self.ended.is_none() && Instant::now() >= self.until {
            let text = "not tried: documents that have to be tried alone take too long; it comes again";
            return Some(Failure::new(FailureKind::Unavailable, text));
        }
        self.ended.clone()
    }

    /// Learns from a document that was tried.
    pub(super) fn learn(&mut self, job: &Job<'_>) {
        let Progress::Failed(failure) = &job.progress else { return };
        let hangs = failure.in_flight && failure.code.as_deref() == Some(TIMED_OUT);
        if hangs || failure.kind.is_outage() {
            let kind = if hangs { FailureKind::Unavailable } else { failure.kind };
            let mut next = Failure::new(kind, format!("not tried after another document: {}", failure.text));
            next.retry_after = failure.retry_after;
            self.ended = Some(next);
        }
    }
}

impl KingdeeTarget {
    /// A target of a client.
    pub fn new(client: KingdeeClient, spec: TargetSpec, calls: Arc<dyn Calls>) -> Self {
        let form = forms::find(&spec.form);
        KingdeeTarget { client, spec, form, calls }
    }

    /// Runs a call and reports how long it took and how it ended.
    pub(super) async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, KingdeeError>> + Send,
    ) -> Result<T, KingdeeError> {
        let started = Instant::now();
        let result = call.await;
        let outcome = result.as_ref().map_or_else(outcome, |_| "ok");
        self.calls.call("kingdee", operation, outcome, started.elapsed());
        result
    }

    /// Makes a write possible at once: a login, which may take minutes, comes before the last look at the lease.
    pub(super) async fn ready(&self, lease: &Lease) -> Result<Ready, Failure> {
        if !lease.is_held() {
            return Err(lease_lost());
        }
        let started = Instant::now();
        let ready = self.client.ready().await.map_err(|error| {
            self.calls.call("kingdee", "login", outcome(&error), started.elapsed());
            failures::writing(&error)
        })?;
        if lease.is_held() { Ok(ready) } else { Err(lease_lost()) }
    }

    /// True when nothing is left to do at this status.
    pub(super) fn is_finished(&self, status: &DocumentStatus) -> bool {
        match self.spec.finish {
            Finish::Save => true,
            Finish::Submit => matches!(status, DocumentStatus::Submitted | DocumentStatus::Approved),
            Finish::Audit => *status == DocumentStatus::Approved,
        }
    }
}

fn outcome(error: &KingdeeError) -> &'static str {
    match error {
        KingdeeError::NotSent { .. } => "not-sent",
        KingdeeError::Unknown { cause: UnknownCause::TimedOut, .. } => "timed-out",
        KingdeeError::Unknown { .. } => "no-answer",
        KingdeeError::Unexpected { .. } => "unreadable",
        KingdeeError::Session { .. } | KingdeeError::LoginRefused(_) => "not-logged-in",
        KingdeeError::Refused(_) | KingdeeError::Invalid { .. } => "refused",
    }
}

/// What a loader that lost its connection reports; it is never carried out, since its deliveries are lost as well.
pub(super) fn lease_lost() -> Failure {
    Failure::new(
        FailureKind::Transient,
        "this loader lost its connection to the broker and posts nothing more",
    )
}

impl Target for KingdeeTarget {
    fn load<'a>(
        &'a self,
        documents: &'a [Load],
        lease: &'a Lease,
    ) -> BoxFuture<'a, Vec<Result<Loaded, Failure>>> {
        Box::pin(async move {
            let mut jobs: Vec<Job<'a>> =
                documents.iter().map(|load| Job { load, progress: Progress::Absent }).collect();
            self.check_keys(&mut jobs);
            let mut known: Vec<&mut Job<'a>> = jobs
                .iter_mut()
                .filter(|job| {
                    matches!(job.progress, Progress::Absent) && job.load.standing != Standing::Fresh
                })
                .collect();
            self.find(&mut known).await;
            self.save(&mut jobs, lease).await;
            self.finish(&mut jobs, lease).await;
            jobs.into_iter().map(outcome_of).collect()
        })
    }
}

fn outcome_of(job: Job<'_>) -> Result<Loaded, Failure> {
    match job.progress {
        Progress::There(there) => {
            Ok(Loaded { number: job.load.number.clone(), id: there.id, how: there.how })
        }
        Progress::Failed(failure) => Err(failure),
        Progress::Absent => Err(lease_lost()),
    }
}
