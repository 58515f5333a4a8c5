//! Why something is missing: it is a dead letter, its window is one, or it may be on its way.

use std::{collections::HashMap, ops::ControlFlow};

use jiff::Timestamp;
use kingpost_broker::{BrokerConfig, Inspector, JournalReader, Letter};
use kingpost_model::{JournalEvent, JournalStep, RETRY_TIERS, Route, StageName, Window};
use kingpost_scheme::Scheme;

use super::{Finding, Verdict};
use crate::{
    clock,
    ending::Stop,
    terminal::{counted, cut},
};

/// Numbers that the broker is asked to sort out; each makes its request longer.
const FILTERS: usize = 100;
/// Columns of a letter's reason.
const REASON: u16 = 200;
/// How long a worker has a message in hand at most, in milliseconds: RabbitMQ takes it back after 30 minutes
/// (`consumer_timeout`).
const IN_HAND_MS: i64 = 30 * 60_000;

/// What the queues tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explained {
    /// Messages on their way, of windows, orders and models.
    pub(crate) waiting: [u32; 3],
    /// Messages in retry tiers, of all schemes.
    pub(crate) retrying: u32,
    /// What should be known besides, whole lines.
    pub(crate) notes: String,
}

impl Explained {
    /// Everything that may still change the answer.
    pub(crate) fn moving(&self) -> u32 {
        self.waiting.iter().fold(self.retrying, |sum, depth| sum.saturating_add(*depth))
    }
}

/// Marks what is missing with what explains it.
///
/// # Errors
/// The broker can't be asked.
pub(crate) async fn explain(
    broker: &BrokerConfig,
    scheme: &Scheme,
    due_ms: i64,
    verdicts: &mut [Verdict],
) -> Result<Explained, Stop> {
    let inspector = Inspector::open(broker).await?;
    let mut explained = Explained::default();
    for (stage, waiting) in StageName::ALL.into_iter().zip(0..) {
        let dead = Route::new(stage, &*scheme.name).dead_queue();
        scan(&inspector, &dead, verdicts, &mut explained).await?;
        for route in Route::all(stage, &scheme.name, scheme.target.shards) {
            let depth = inspector.depth(&route.queue()).await?.map_or(0, |depth| depth.ready);
            if let Some(sum) = explained.waiting.get_mut::<usize>(waiting) {
                *sum = sum.saturating_add(depth);
            }
        }
    }
    for tier in RETRY_TIERS {
        let depth = inspector.depth(tier.queue).await?.map_or(0, |depth| depth.ready);
        explained.retrying = explained.retrying.saturating_add(depth);
    }
    inspector.close().await;
    not_due(due_ms, verdicts);
    let [_, orders, models] = explained.waiting;
    whereabouts(broker, orders > 0 || models > 0, verdicts).await?;
    Ok(explained)
}

/// Whether what was last seen like this can still be somewhere: in a queue, a retry tier or a worker's hand. A message
/// that is in none of them any more is lost, and nothing of it is ever heard again.
fn can_be_on_its_way(event: &JournalEvent, is_queued: bool, now_ms: i64) -> bool {
    let waits_ms = match &event.step {
        step if step.is_end() => return false,
        JournalStep::Retry { after_ms, .. } => i64::try_from(*after_ms).unwrap_or(i64::MAX),
        _ => 0,
    };
    is_queued || now_ms.saturating_sub(event.at_ms) <= waits_ms.saturating_add(IN_HAND_MS)
}

/// Marks what the journal last saw on its way. A broker without a journal tells nothing of single documents.
async fn whereabouts(broker: &BrokerConfig, is_queued: bool, verdicts: &mut [Verdict]) -> Result<(), Stop> {
    let missing = || verdicts.iter().filter(|verdict| verdict.finding == Finding::Missing);
    let Some(since_ms) = missing().map(|verdict| verdict.modified_ms.unwrap_or(0)).min() else {
        return Ok(());
    };
    let mut numbers: Vec<&str> = missing().flat_map(|v| [v.number.as_str(), v.source.as_str()]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let Some(journal) = JournalReader::open(broker).await? else { return Ok(()) };
    let mut last: HashMap<String, JournalEvent> = HashMap::new();
    // The broker passes over other numbers one filter value each, so many of them are sorted out here instead.
    let filter: &[&str] = if numbers.len() <= FILTERS { &numbers } else { &[] };
    let keep = |event: JournalEvent| {
        if numbers.binary_search(&event.number.as_str()).is_ok() {
            last.insert(event.number.clone(), event);
        }
    };
    journal.scan(since_ms, filter, keep).await?;
    journal.close().await;
    let now_ms = Timestamp::now().as_millisecond();
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.finding == Finding::Missing) {
        let seen = [&verdict.number, &verdict.source].into_iter().filter_map(|number| last.get(number));
        let Some(event) = seen.max_by_key(|event| event.at_ms).filter(|event| !event.step.is_end()) else {
            continue;
        };
        let is_waiting = can_be_on_its_way(event, is_queued, now_ms);
        let since =
            if is_waiting { "not at an end since" } else { "lost since: it is in no queue and in no hand" };
        verdict.detail = format!(
            "{} by the {} stage at {}, and {since}",
            event.step.as_str(),
            event.stage,
            clock::beijing(event.at_ms)
        );
        if is_waiting {
            verdict.finding = Finding::Waiting;
        }
    }
    Ok(())
}

/// What was changed so lately that no worker need have read it.
pub(crate) fn not_due(due_ms: i64, verdicts: &mut [Verdict]) {
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.finding == Finding::Missing) {
        if verdict.modified_ms.is_some_and(|ms| ms >= due_ms) {
            verdict.finding = Finding::NotDue;
        }
    }
}

async fn scan(
    inspector: &Inspector,
    queue: &str,
    verdicts: &mut [Verdict],
    explained: &mut Explained,
) -> Result<(), Stop> {
    let mut by_number: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, verdict) in verdicts.iter().enumerate() {
        for number in [&verdict.number, &verdict.source] {
            let places = by_number.entry(number.clone()).or_default();
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
    }
    let scanned = inspector
        .scan(queue, usize::MAX, |letter| {
            if letter.work.stage == StageName::Extract {
                let window: Option<Window> = serde_json::from_slice(&letter.work.body).ok();
                let covers = |verdict: &&mut Verdict| {
                    let second = verdict.modified_ms.map(|ms| ms.div_euclid(1_000));
                    window.zip(second).is_some_and(|(w, s)| w.from_s <= s && s <= w.to_s)
                };
                verdicts.iter_mut().filter(covers).for_each(|verdict| mark(verdict, &letter));
            } else {
                let numbers = [Some(&letter.work.key.number), letter.work.source_number.as_ref()];
                for at in numbers.into_iter().flatten().filter_map(|number| by_number.get(number)).flatten() {
                    if let Some(verdict) = verdicts.get_mut(*at) {
                        mark(verdict, &letter);
                    }
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
    if !scanned.there {
        explained.notes.push_str(&format!(
            "note: the queue {queue} is not there; no worker has declared it yet, or AMQP_URL names another virtual host\n"
        ));
    } else if scanned.readers > 0 || scanned.read < scanned.held {
        let letters = counted(scanned.held.saturating_sub(scanned.read), "letter");
        explained.notes.push_str(&format!(
            "note: somebody else is reading {queue}; {letters} of it may be out of sight, so that what is missing may be \
             dead\n"
        ));
    }
    Ok(())
}

/// Notes a letter at what it explains; of what is there it only says that there is one.
fn mark(verdict: &mut Verdict, letter: &Letter) {
    let failure = &letter.failure;
    let what = match letter.work.stage {
        StageName::Extract => format!("the window {} is a dead letter", letter.work.key.number),
        stage => format!("a dead letter of {stage}"),
    };
    let words = format!("{what}, {}: {}", failure.kind, cut(failure.text.trim(), REASON));
    match verdict.finding {
        Finding::Missing => {
            verdict.finding = Finding::Dead;
            verdict.detail = format!("{words} -> {}", failure.kind.advice());
        }
        Finding::Different | Finding::Cancelled | Finding::Twice | Finding::OtherPeriod
            if letter.work.stage != StageName::Extract && !verdict.detail.contains(&words) =>
        {
            verdict.detail.push_str(&format!("; {words}"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn event(step: serde_json::Value, age_ms: i64) -> JournalEvent {
        let mut event = json!({
            "at_ms": NOW - age_ms, "scheme": "s", "stage": "transform", "document": "purchase-stockin", "number": "RK1",
            "work_id": "01890a5d-ac96-774b-bcce-b302099a8057", "origin": "extract", "attempt": 1,
            "worker": "kingpost-transformer/0.1.0", "host": "h",
        });
        let (event_map, step) = (event.as_object_mut().unwrap(), step.as_object().unwrap());
        event_map.extend(step.clone());
        serde_json::from_value(event).unwrap()
    }

    fn mapped(age_ms: i64) -> JournalEvent {
        event(json!({ "step": "mapped", "target_number": "RK1" }), age_ms)
    }

    #[test]
    fn what_is_in_no_queue_is_lost_once_no_worker_can_have_it_in_hand() {
        assert!(can_be_on_its_way(&mapped(HOUR / 3), false, NOW));
        assert!(!can_be_on_its_way(&mapped(HOUR), false, NOW));
        assert!(
            can_be_on_its_way(&mapped(20 * 24 * HOUR), true, NOW),
            "a queue that stands still keeps its place"
        );
    }

    #[test]
    fn what_waits_for_another_try_has_its_pause_besides() {
        let failure = json!({ "kind": "transient", "text": "t" });
        let retry = |age_ms| {
            event(json!({ "step": "retry", "tier": "2h", "after_ms": 2 * HOUR, "failure": failure }), age_ms)
        };
        assert!(can_be_on_its_way(&retry(2 * HOUR + HOUR / 3), false, NOW));
        assert!(
            !can_be_on_its_way(&retry(3 * HOUR), false, NOW),
            "another one's message in a tier is not this one"
        );
    }
}
