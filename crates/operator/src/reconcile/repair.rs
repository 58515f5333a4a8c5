//! Sending what is missing: a plan that a person can read says which numbers, and each is asked for in both systems once
//! more before anything is published.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use kingpost_broker::{
    AuditLetter, BrokerConfig, Custody, Destination, Inspector, MAX_BODY_BYTES, Parcel, Posting,
};
use kingpost_model::{Document, Failure, FailureKind, Fetched, Origin, RecordKey, Route, StageName, Work};
use kingpost_scheme::Scheme;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Finding, Progress, Systems, Verdict,
    read::{Mapper, unreadable},
    verdict::Made,
};
use crate::{
    act::{Action, Actor, now_ms},
    commands::dead::version_id,
    ending::Stop,
    sealed::Sealed,
};

/// The layout of the file; another one is refused.
const VERSION: u32 = 1;
/// Documents that are looked up, read and published together.
const GROUP: usize = 100;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Its id, which stands in the audit trail.
    pub(crate) repair: String,
    pub(crate) version: u32,
    /// When it was made, in RFC 3339.
    pub(crate) created: String,
    pub(crate) created_by: String,
    pub(crate) scheme: String,
    /// The period, its last day not included.
    pub(crate) from: String,
    pub(crate) to: String,
    /// Host, port and virtual host of the RabbitMQ that it is meant for.
    pub(crate) broker: String,
    /// SHA-256 over the whole plan, with nothing in the place of this.
    pub(crate) digest: String,
    pub(crate) documents: Vec<Entry>,
}

/// One missing document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Its number in the target.
    pub(crate) number: String,
    /// Its number in the source.
    pub(crate) source: String,
    /// When the source had changed it, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) modified_ms: Option<i64>,
}

impl Plan {
    /// What of these verdicts is missing.
    pub(crate) fn entries(verdicts: &[Verdict]) -> Vec<Entry> {
        let missing = verdicts.iter().filter(|verdict| verdict.finding == Finding::Missing);
        let entry = |verdict: &Verdict| Entry {
            number: verdict.number.clone(),
            source: verdict.source.clone(),
            modified_ms: verdict.modified_ms,
        };
        missing.map(entry).collect()
    }

    /// A plan that is still to be sealed.
    pub(crate) fn new(id: String, actor: &Actor, scheme: &str, days: [String; 2], broker: String) -> Self {
        let [from, to] = days;
        Plan {
            repair: id,
            version: VERSION,
            created: crate::clock::rfc3339(now_ms()).unwrap_or_default(),
            created_by: actor.name(),
            scheme: scheme.to_owned(),
            from,
            to,
            broker,
            digest: String::new(),
            documents: Vec::new(),
        }
    }
}

impl Sealed for Plan {
    type Entry = Entry;
    const VERSION: u32 = VERSION;
    const WHAT: &'static str = "repair plan";

    fn version(&self) -> u32 {
        self.version
    }

    fn digest(&mut self) -> &mut String {
        &mut self.digest
    }

    fn entries(&mut self) -> &mut Vec<Entry> {
        &mut self.documents
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Repaired {
    /// Numbers that were sent.
    pub(crate) sent: Vec<String>,
    /// Numbers that were not, each with the reason.
    pub(crate) left: Vec<(String, String)>,
    /// What is wrong with the audit trail, whole lines.
    pub(crate) trail: String,
}

/// Who carries a plan out, where and why.
pub(crate) struct Order<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) scheme: &'a Scheme,
    pub(crate) systems: &'a Systems,
    pub(crate) broker: &'a BrokerConfig,
    pub(crate) actor: &'a Actor,
    pub(crate) reason: &'a str,
}

/// Sends what is still missing.
///
/// # Errors
/// Nothing was sent: a system can't be asked, or the audit trail or the queue can't be written. What fails later is told
/// with what was sent before.
pub(crate) async fn carry_out(order: &Order<'_>, progress: &Progress) -> Result<Repaired, Stop> {
    let Order { plan, scheme, .. } = order;
    let dead = dead_numbers(order.broker, &scheme.name, &plan.documents).await?;
    let custody = Custody::take(order.broker, StageName::Transform, &scheme.name).await?;
    let mut repaired = Repaired::default();
    let journal = order.systems.journal;
    let begun = Action::begin((order.broker, journal), order.actor, "reconcile repair", |event| {
        event.reason = order.reason.to_owned();
        event.queues = vec![Route::new(StageName::Transform, &*scheme.name).queue()];
        event.count = plan.documents.len() as u64;
        event.plan = Some(plan.repair.clone());
        event.digest = Some(plan.digest.clone());
        event.details = serde_json::json!({"scheme": scheme.name, "from": plan.from, "to": plan.to});
    })
    .await;
    let mut action = match begun {
        Ok(action) => action,
        Err(stop) => {
            custody.release().await;
            return Err(stop);
        }
    };
    let mut ended = Ok(());
    for group in plan.documents.chunks(GROUP) {
        ended = send(order, group, &dead, &custody, &mut action, &mut repaired, progress).await;
        if ended.is_err() {
            break;
        }
    }
    progress.end();
    let outcomes = BTreeMap::from([
        ("sent".to_owned(), repaired.sent.len() as u64),
        ("left".to_owned(), repaired.left.len() as u64),
    ]);
    repaired.trail = action.end(outcomes).await;
    custody.release().await;
    match ended {
        Err(stop) if repaired.sent.is_empty() => Err(stop),
        Err(stop) => {
            repaired.left.push(("(the rest)".to_owned(), format!("broken off: {}", stop.text)));
            Ok(repaired)
        }
        Ok(()) => Ok(repaired),
    }
}

/// Looks a group up in both systems and publishes what is still missing.
async fn send(
    order: &Order<'_>,
    group: &[Entry],
    dead: &HashMap<String, StageName>,
    custody: &Custody,
    action: &mut Action,
    repaired: &mut Repaired,
    progress: &Progress,
) -> Result<(), Stop> {
    let Order { scheme, systems, .. } = order;
    let told = |failure: &Failure, pause| progress.waits(failure, pause);
    let numbers: Vec<String> = group.iter().map(|entry| entry.number.clone()).collect();
    let found = systems.patience.ask(&told, async || systems.books.find(&numbers).await).await;
    let found = found.map_err(|failure| unreadable("Kingdee", &failure))?;
    let mut mapper = Mapper::new(scheme)?;
    let mut works = Vec::new();
    for entry in group {
        let there = found.iter().find(|booked| booked.number == entry.number);
        let reason = match (there, dead.get(&entry.number).or_else(|| dead.get(&entry.source))) {
            (Some(booked), _) => Some(format!("it is in Kingdee now (FID {})", booked.id)),
            (_, Some(stage)) => Some(format!(
                "it is a dead letter of {stage}: kingpost dead replay {} --reason '…'",
                entry.number
            )),
            (None, None) => None,
        };
        if let Some(reason) = reason {
            repaired.left.push((entry.number.clone(), reason));
            continue;
        }
        let since_s =
            entry.modified_ms.map_or(scheme.source.window.start.as_second(), |ms| ms.div_euclid(1_000));
        let call = async || {
            systems.pace.turn().await;
            systems.source.fetch(&entry.source, since_s).await
        };
        // A version is as old as the question: what is written in Kingdee while it is answered is newer.
        let asked_ms = now_ms();
        let fetched = systems.patience.ask(&told, call).await;
        match order_work(scheme, &mut mapper, entry, asked_ms, fetched)? {
            Ok(work) => works.push(work),
            Err(reason) => repaired.left.push((entry.number.clone(), reason)),
        }
        progress.show(|| format!("repair: {} sent, {} read", repaired.sent.len(), works.len()));
    }
    if works.is_empty() {
        return Ok(());
    }
    let letters = works.iter().map(|(_, work)| AuditLetter {
        id: work.id.as_str().to_owned(),
        key: work.key.number.clone(),
        sha256: hex::encode(Sha256::digest(&work.body)),
    });
    let letters: Vec<AuditLetter> = letters.collect();
    action.note(|event| event.letters = letters).await;
    let (numbers, works): (Vec<String>, Vec<Work>) = works.into_iter().unzip();
    let parcel = |work: Work| {
        let destination = Destination::Work(Route::new(work.stage, &*work.scheme));
        Parcel::from(Posting { destination, work })
    };
    let refusals = custody.publish(works.into_iter().map(parcel).collect()).await?;
    for (number, refusal) in numbers.into_iter().zip(refusals) {
        match refusal {
            None => repaired.sent.push(number),
            Some(reason) => repaired.left.push((number, reason)),
        }
    }
    Ok(())
}

/// The order behind an entry as work for the transformer, marked to be looked up before it is posted; the inner error says
/// why there is none.
fn order_work(
    scheme: &Scheme,
    mapper: &mut Mapper<'_>,
    entry: &Entry,
    asked_ms: i64,
    fetched: Result<Fetched, Failure>,
) -> Result<Result<(String, Work), String>, Stop> {
    let document: Document = match fetched {
        Ok(Fetched::Found(document)) => document,
        Ok(Fetched::LeftOut(reason)) => {
            return Ok(Err(format!("the source has it, but it is not posted: {reason}")));
        }
        Ok(Fetched::Absent) => return Ok(Err("the source has it no more".to_owned())),
        Err(failure) if failure.kind == FailureKind::Refused => return Ok(Err(failure.text)),
        Err(failure) => return Err(unreadable("the source", &failure)),
    };
    let made = mapper.order(&document);
    match made.made {
        Made::Filtered => return Ok(Err("the scheme's filter leaves it out now".to_owned())),
        Made::Cancelled => return Ok(Err("it is cancelled in the source now".to_owned())),
        Made::Unmappable(problems) => return Ok(Err(format!("it can't be mapped now: {problems}"))),
        Made::Model(_) if made.number != entry.number => {
            return Ok(Err(format!("it would become {} now", made.number)));
        }
        Made::Model(_) => {}
    }
    if document.body.len() > MAX_BODY_BYTES {
        return Ok(Err(format!("it has {} bytes, a message holds {MAX_BODY_BYTES}", document.body.len())));
    }
    let id = version_id(&scheme.name, &entry.source, &document.body);
    let key = RecordKey::new(&*scheme.target.form, &*entry.source);
    let mut work = Work::new(id, StageName::Transform, &*scheme.name, key, document.body);
    work.origin = Origin::Backfill;
    work.verify = true;
    work.modified_ms = document.modified_ms;
    work.extracted_ms = Some(asked_ms);
    Ok(Ok((entry.number.clone(), work)))
}

/// Which of some documents are dead letters, and of which stage.
async fn dead_numbers(
    broker: &BrokerConfig,
    scheme: &str,
    entries: &[Entry],
) -> Result<HashMap<String, StageName>, Stop> {
    let wanted: std::collections::HashSet<&str> =
        entries.iter().flat_map(|entry| [entry.number.as_str(), entry.source.as_str()]).collect();
    let mut dead = HashMap::new();
    let inspector = Inspector::open(broker).await?;
    for stage in [StageName::Transform, StageName::Load] {
        let queue = Route::new(stage, scheme).dead_queue();
        let each = |letter: kingpost_broker::Letter| {
            let numbers = [Some(letter.work.key.number), letter.work.source_number];
            let ours = numbers.into_iter().flatten().filter(|number| wanted.contains(number.as_str()));
            dead.extend(ours.map(|number| (number, stage)));
            ControlFlow::Continue(())
        };
        let scanned = inspector.scan(&queue, usize::MAX, each).await?;
        if scanned.readers > 0 || scanned.read < scanned.held {
            let text = format!(
                "somebody else is reading {queue}, so that it can't be told what of the plan is a dead letter; nothing was \
                 sent; try again in a moment"
            );
            return Err(Stop::failed(text));
        }
    }
    inspector.close().await;
    Ok(dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_file_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repair.json");
        let days = ["2026-11-01".to_owned(), "2026-12-01".to_owned()];
        let mut plan = Plan::new("20261201-1".into(), &Actor::default(), "s", days, "mq".into());
        let entry =
            |n: u32| Entry { number: format!("RK{n}"), source: format!("RK{n}"), modified_ms: Some(1) };
        plan.documents = vec![entry(1), entry(2)];
        plan.write(&path).unwrap();
        assert_eq!(Plan::read(&path).unwrap(), plan);
        assert!(plan.write(&path).is_err(), "a plan is never overwritten");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("\"number\"")).count(), 2, "{text}");
        std::fs::write(&path, text.replacen("RK2", "RK9", 1)).unwrap();
        let error = Plan::read(&path).unwrap_err();
        assert!(error.text.contains("the digest differs"), "{}", error.text);
    }
}
