//! Loading documents: makes the calls that are due and hands their answers to the documents' lives.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use kingpost_kingdee::{Catalogue, KingdeeClient, KingdeeError, Ready, SaveOption, UnknownCause};
use kingpost_model::{BoxFuture, Failure, FailureKind, Lease, Load, Loaded, Target};
use serde_json::value::RawValue;

use super::{
    batch::{Batch, Call},
    failures,
    forms::Form,
    identity,
    life::{Action, Rules},
    look_up::unfit,
};
use crate::Calls;

/// What documents of one scheme are posted as.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// Form id, as `STK_InStock`.
    pub form: String,
    /// How far a document is taken, and what becomes of one that is there with another content.
    pub rules: Rules,
    /// Save options, siblings of `Model`, in wire order.
    pub options: Vec<SaveOption>,
    /// What its refusals mean.
    pub texts: Catalogue,
}

/// One form of one Kingdee account.
pub struct KingdeeTarget {
    pub(super) client: KingdeeClient,
    pub(super) spec: TargetSpec,
    pub(super) form: Option<&'static Form>,
    /// Those of an update.
    overwriting: Vec<SaveOption>,
    calls: Arc<dyn Calls>,
}

/// Why a write was not made.
enum Unready {
    LeaseLost,
    Failed(Failure),
}

impl KingdeeTarget {
    /// A target of a client.
    pub fn new(client: KingdeeClient, spec: TargetSpec, calls: Arc<dyn Calls>) -> Self {
        let form = Form::find(&spec.form);
        let overwriting = overwriting(&spec.options);
        KingdeeTarget { client, spec, form, overwriting, calls }
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
    async fn ready(&self, lease: &Lease) -> Result<Ready, Unready> {
        #[cfg(kingpost_bugs)]
        let lease = &if kingpost_settings::bug("posts-without-lease") {
            Lease::new(std::sync::Arc::default(), lease.age)
        } else {
            lease.clone()
        };
        if !lease.is_held() {
            return Err(Unready::LeaseLost);
        }
        let started = Instant::now();
        let ready = self.client.ready().await.map_err(|error| {
            self.calls.call("kingdee", "login", outcome(&error), started.elapsed());
            // Nothing of the write itself was sent.
            Unready::Failed(Failure { in_flight: false, ..failures::writing(&self.spec.texts, &error) })
        })?;
        if lease.is_held() { Ok(ready) } else { Err(Unready::LeaseLost) }
    }

    async fn write(&self, call: &Call, loads: &[Load], lease: &Lease, batch: &mut Batch<'_>) {
        let ready = match self.ready(lease).await {
            Ok(ready) => ready,
            Err(Unready::LeaseLost) => return batch.lease_lost(call),
            Err(Unready::Failed(failure)) => return batch.failed(call, &failure),
        };
        let (form, texts) = (self.spec.form.as_str(), &self.spec.texts);
        let models = || -> Vec<Bytes> {
            call.members.iter().filter_map(|at| loads.get(*at)).map(|load| load.model.clone()).collect()
        };
        let changed = match call.action {
            Action::Update => {
                let each = call.members.iter().zip(models());
                each.map(|(at, model)| identity::with_id(&model, batch.id(*at))).collect()
            }
            _ => Ok(Vec::new()),
        };
        let changed: Vec<Bytes> = match changed {
            Ok(changed) => changed,
            Err(text) => return batch.failed(call, &Failure::new(FailureKind::Internal, text)),
        };
        let ids: Vec<String> = call.members.iter().map(|at| batch.id(*at).to_owned()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let answer = match call.action {
            Action::Submit => self.timed("submit", ready.submit(form, &ids)).await,
            Action::Audit => self.timed("audit", ready.audit(form, &ids)).await,
            Action::Update => self.timed("update", ready.batch_save(form, &self.overwriting, &changed)).await,
            Action::Save | Action::LookUp => {
                self.timed("save", ready.batch_save(form, &self.spec.options, &models())).await
            }
        };
        match (answer, call.action) {
            (Ok(answer), Action::Submit | Action::Audit) => batch.stepped(call, texts, &answer),
            (Ok(answer), Action::Update) => batch.updated(call, texts, &answer),
            (Ok(answer), Action::Save | Action::LookUp) => batch.saved(call, texts, &answer),
            (Err(error), _) => batch.failed(call, &failures::writing(texts, &error)),
        }
    }
}

/// The options of a save that replaces a document. Our lines carry no entry ids, so that all are new to Kingdee: with
/// `IsDeleteEntry` off it would keep the old ones beside them. And fields named in `NeedUpDateFields` would be the only ones to
/// change.
fn overwriting(options: &[SaveOption]) -> Vec<SaveOption> {
    let set = |(name, value): &SaveOption| {
        let json = match name.to_ascii_lowercase().as_str() {
            "isdeleteentry" => "true",
            "needupdatefields" => "[]",
            _ => return (name.clone(), value.clone()),
        };
        let value = RawValue::from_string(json.to_owned()).unwrap_or_else(|_| value.clone());
        (name.clone(), value)
    };
    options.iter().map(set).collect()
}

pub(super) fn outcome(error: &KingdeeError) -> &'static str {
    match error {
        KingdeeError::NotSent { .. } => "not-sent",
        KingdeeError::Unknown { cause: UnknownCause::TimedOut, .. } => "timed-out",
        KingdeeError::Unknown { .. } => "no-answer",
        KingdeeError::Unexpected { .. } => "unreadable",
        KingdeeError::Busy { .. } => "throttled",
        KingdeeError::Session { .. } | KingdeeError::LoginRefused(_) => "not-logged-in",
        KingdeeError::Refused(_) | KingdeeError::Invalid { .. } => "refused",
    }
}

impl Target for KingdeeTarget {
    fn load<'a>(
        &'a self,
        documents: &'a [Load],
        lease: &'a Lease,
    ) -> BoxFuture<'a, Vec<Result<Loaded, Failure>>> {
        Box::pin(async move {
            let begun = Instant::now();
            let mut batch = Batch::new(documents, self.spec.rules);
            for (at, load) in documents.iter().enumerate() {
                if let Some(failure) = unfit(load) {
                    batch.refuse(at, failure);
                }
            }
            while let Some(call) = batch.next(begun.elapsed()) {
                match call.action {
                    Action::LookUp => self.find(&call, documents, &mut batch).await,
                    Action::Update | Action::Save | Action::Submit | Action::Audit => {
                        self.write(&call, documents, lease, &mut batch).await;
                    }
                }
            }
            batch.outcomes()
        })
    }
}

#[cfg(test)]
mod tests {
    use kingpost_kingdee::safe_save_options;

    use super::*;

    #[test]
    fn an_update_replaces_every_line_and_every_field() {
        let options = overwriting(&safe_save_options());
        let value = |name: &str| options.iter().find(|(known, _)| known == name).unwrap().1.get();
        assert_eq!((value("IsDeleteEntry"), value("NeedUpDateFields")), ("true", "[]"));
        assert_eq!(options.len(), safe_save_options().len());
        assert_eq!(value("ValidateFlag"), "true");
    }
}
