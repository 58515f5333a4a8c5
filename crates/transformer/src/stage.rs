//! The transformer as a stage: a source document in, a target model out.

use std::sync::{Arc, Mutex, PoisonError};

use kingpost_mapping::{Mapping, Outcome, Rejection, Scratch};
use kingpost_model::{
    Batch, BoxFuture, Failure, FailureKind, FieldProblem, Item, Origin, Outbox, RecordKey, Route, Stage,
    StageName, Verdict, Work, decide,
};

/// The largest model that is published; RabbitMQ 4 refuses a message of 16 MiB.
const MODEL_BYTES_MAX: usize = 15 * 1024 * 1024;

/// Maps the documents of one scheme.
pub struct TransformStage {
    scheme: String,
    document: String,
    shards: u32,
    mapping: Arc<Mapping>,
    scratch: Mutex<Scratch>,
}

impl TransformStage {
    /// A stage for a scheme: its name, the target's document type, its shards and its mapping. The mapping's first
    /// output is the document's number in the target, its second the write key.
    pub fn new(
        scheme: impl Into<String>,
        document: impl Into<String>,
        shards: u32,
        mapping: Arc<Mapping>,
    ) -> Self {
        let scratch = Mutex::new(Scratch::default());
        TransformStage { scheme: scheme.into(), document: document.into(), shards, mapping, scratch }
    }

    fn transform(&self, item: &Item, scratch: &mut Scratch) -> Result<Option<(Route, Work)>, Failure> {
        let work = &item.work;
        // Mapped models are about 1.4 times their documents.
        let mut model = Vec::with_capacity(work.body.len() * 3 / 2);
        let mut outputs = match self.mapping.apply(&work.body, scratch, &mut model) {
            Ok(Outcome::Mapped { outputs }) => outputs.into_iter(),
            Ok(Outcome::Filtered) => return Ok(None),
            Err(rejection) => return Err(rejected(rejection, work.cancelled)),
        };
        if model.len() > MODEL_BYTES_MAX {
            let text = format!("the model has {} bytes, too many for a message", model.len());
            return Err(Failure::new(FailureKind::Unmappable, text));
        }
        let Some(number) = outputs.next().flatten() else {
            let text = "the model has no number; the scheme's target.key must never be empty";
            return Err(Failure::new(FailureKind::Unmappable, text));
        };
        let write_key = outputs.next().flatten();
        let route = Route::load(&*self.scheme, &number, self.shards);
        let source_number = (work.key.number != number).then(|| work.key.number.clone());
        let key = RecordKey::new(&*self.document, number);
        let mut next = Work::new(work.id.clone(), StageName::Load, &*self.scheme, key, model);
        next.source_number = source_number;
        next.write_key = write_key;
        next.origin = work.origin;
        // A redelivered order may have been transformed before, so its model may be on its way already.
        next.verify = work.verify || item.redelivered;
        next.cancelled = work.cancelled;
        next.modified_ms = work.modified_ms;
        next.extracted_ms = work.extracted_ms;
        next.reply_to.clone_from(&work.reply_to);
        next.traceparent.clone_from(&work.traceparent);
        next.tracestate.clone_from(&work.tracestate);
        if work.origin == Origin::Replay {
            // Whoever looks at it when it dies again wants to know why it died at first.
            next.first_failure.clone_from(&work.first_failure);
        }
        next.headers.clone_from(&work.headers);
        Ok(Some((route, next)))
    }
}

impl Stage for TransformStage {
    fn process<'a>(&'a self, batch: &'a Batch, outbox: &'a dyn Outbox) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let verdicts = batch.items.iter().map(|item| match self.transform(item, &mut scratch) {
                Ok(Some((route, work))) => {
                    outbox.put(route, work);
                    Verdict::Done
                }
                Ok(None) => {
                    outbox.report(&item.work, kingpost_model::Outcome::Filtered);
                    Verdict::Done
                }
                Err(failure) => decide(failure, item.work.attempt),
            });
            verdicts.collect()
        })
    }
}

/// A document that can't be mapped. Of one that was cancelled in the source nothing is posted, but whether it stands in the
/// target under its number is not known either.
fn rejected(rejection: Rejection, cancelled: bool) -> Failure {
    let failure = unmapped(rejection);
    if !cancelled {
        return failure;
    }
    let text = format!(
        "cancelled in the source, and {}, so it can't be looked up in the target; search the target for it, delete or \
         reverse what stands there, then discard this letter",
        failure.text
    );
    Failure { text, ..failure }
}

fn unmapped(rejection: Rejection) -> Failure {
    match rejection {
        Rejection::Malformed { message, line, column } => Failure::new(
            FailureKind::Malformed,
            format!("not a readable document at {line}:{column}: {message}"),
        ),
        Rejection::Unmappable(problems) => {
            let text = match problems.len() {
                1 => "one field can't be mapped".to_owned(),
                n => format!("{n} fields can't be mapped"),
            };
            let problems = problems.into_iter().map(|p| FieldProblem {
                field: p.field,
                rule: p.rule,
                inputs: p.inputs.into_iter().map(|input| input.path).collect(),
                message: without_values(&p.message),
            });
            Failure::new(FailureKind::Unmappable, text).with_problems(problems.collect())
        }
    }
}

/// A message without what it quotes of the document: it travels in headers, where anybody who may list queues reads it,
/// and the value itself is in the body.
fn without_values(message: &str) -> String {
    match (message.find('\''), message.rfind('\'')) {
        // From the first quote to the last, because a value may hold quotes of its own.
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &message[..=first], &message[last..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kingpost_model::WorkId;

    use super::*;

    /// The purchase order of an order may be filled in later: both versions have one owner all the same.
    #[test]
    fn versions_of_one_document_go_to_one_shard_whatever_their_purchase_order() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes");
        let schemes = kingpost_scheme::load_dir(&root).unwrap();
        let mapping = Arc::clone(&schemes[0].mapping);
        let stage = TransformStage::new("s", "STK_InStock", 8, mapping);
        let order =
            std::fs::read_to_string(root.join("purchase-stockin/cases/price-before-tax/input.json")).unwrap();
        assert!(order.contains("CG2404210003"));
        let mut shards = std::collections::BTreeSet::new();
        for purchase_no in ["CG1", "CG2", "CG3", "CG4", "CG5"] {
            let key = RecordKey::new("order", "RK1");
            let body = order.replace("CG2404210003", purchase_no);
            let work = Work::new(WorkId::new("1"), StageName::Transform, "s", key, body);
            let item = Item { work, redelivered: false };
            let mut scratch = stage.scratch.lock().unwrap();
            let (route, work) = stage.transform(&item, &mut scratch).unwrap().unwrap();
            assert_eq!(work.write_key.as_deref(), Some(purchase_no));
            shards.insert(route.shard);
        }
        assert_eq!(shards.len(), 1, "{shards:?}");
    }

    #[test]
    fn a_replayed_order_keeps_why_it_died_at_first() {
        let schemes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes");
        let body = std::fs::read(schemes.join("purchase-stockin/cases/qimen/input.json")).unwrap();
        let scheme = kingpost_scheme::load_dir(&schemes).unwrap().remove(0);
        let stage = TransformStage::new(&*scheme.name, "STK_InStock", 1, Arc::clone(&scheme.mapping));
        let key = RecordKey::new("STK_InStock", "RK1");
        let work = Work::new(WorkId::new("w"), StageName::Transform, &*scheme.name, key, body);
        let failure = Failure::new(FailureKind::BaseData, "no such material");
        let record = kingpost_model::FailureRecord::of(&failure, &work, 1, "w/1");
        for (origin, kept) in [(Origin::Replay, true), (Origin::Live, false)] {
            let mut work = work.after_failure(record.clone(), false);
            work.origin = origin;
            let item = Item { work, redelivered: false };
            let (_, next) = stage.transform(&item, &mut Scratch::default()).unwrap().unwrap();
            assert_eq!(next.first_failure.is_some(), kept, "{origin:?}");
        }
    }

    #[test]
    fn a_cancelled_order_stays_one_and_says_so_when_it_can_not_be_mapped() {
        let schemes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes");
        let body = std::fs::read(schemes.join("purchase-stockin/cases/qimen/input.json")).unwrap();
        let scheme = kingpost_scheme::load_dir(&schemes).unwrap().remove(0);
        let stage = TransformStage::new(&*scheme.name, "STK_InStock", 1, Arc::clone(&scheme.mapping));
        let transform = |body: Vec<u8>, cancelled: bool| {
            let key = RecordKey::new("STK_InStock", "RK1");
            let mut work = Work::new(WorkId::new("w"), StageName::Transform, &*scheme.name, key, body);
            work.cancelled = cancelled;
            stage.transform(&Item { work, redelivered: false }, &mut Scratch::default())
        };
        for cancelled in [true, false] {
            let (_, next) = transform(body.clone(), cancelled).unwrap().unwrap();
            assert_eq!(next.cancelled, cancelled);
            let failure = transform(b"{}".to_vec(), cancelled).unwrap_err();
            assert_eq!(failure.text.starts_with("cancelled in the source"), cancelled, "{failure}");
            assert_eq!((failure.kind, failure.problems.is_empty()), (FailureKind::Unmappable, false));
        }
    }

    #[test]
    fn a_message_in_a_header_quotes_nothing_of_the_document() {
        for (message, kept) in [
            ("details_list[1].num is 'O'Neill', not a decimal", "details_list[1].num is '…', not a decimal"),
            ("table supplier has no row for '张三'", "table supplier has no row for '…'"),
            ("check_time is empty", "check_time is empty"),
            ("it doesn't add up", "it doesn't add up"),
        ] {
            assert_eq!(without_values(message), kept);
        }
    }
}
