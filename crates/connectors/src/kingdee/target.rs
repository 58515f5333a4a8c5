//! Loading documents: look up what may be there, save what is absent, finish what is not finished.

use std::{sync::Arc, time::Instant};

use kingpost_kingdee::{DocumentStatus, KingdeeClient, KingdeeError, SaveOption, UnknownCause};
use kingpost_model::{BoxFuture, Failure, FailureKind, Lease, Load, Loaded, LoadedHow, Standing, Target};

use super::forms::{self, Form};
use crate::Calls;

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
