use std::path::Path;

use kingpost_model::{
    Document, JournalAction, JournalFailure, JournalWriter, LoadedHow, RecordKey, StageName, Work, WorkId,
};

use super::*;
use crate::commands::trace::{
    gather::stories,
    story::{Acted, Lying},
};

const SCHEME: &str = "purchase-stockin";
/// 2026-11-23 08:00:00 in Beijing.
const START_MS: i64 = 1_795_392_000_000;
const NOW_MS: i64 = START_MS + 3_600_000;

fn writer() -> JournalWriter {
    JournalWriter { worker: "kingpost-loader/0.1.0".into(), host: "demo-host".into() }
}

fn work(stage: StageName) -> Work {
    let key = RecordKey::new("STK_InStock", if stage == StageName::Load { "CGRK1" } else { "RK1" });
    let mut work = Work::new(WorkId::new("RK1-3f9a1c"), stage, SCHEME, key, "{}");
    if stage == StageName::Load {
        work.source_number = Some("RK1".into());
        work.write_key = Some("CG2404210003".into());
    }
    work
}

fn failure(kind: &str, text: &str) -> JournalFailure {
    JournalFailure { kind: kind.into(), fault: "data".into(), text: text.into(), ..Default::default() }
}

/// So many seconds after the start.
fn at(seconds: i64) -> i64 {
    START_MS + seconds * 1_000
}

/// Read and mapped, as every document is at first.
fn begun() -> Vec<JournalEvent> {
    let window = "2026-11-23T07:00:00+08:00..2026-11-23T08:00:00+08:00";
    let mut order = work(StageName::Transform);
    order.modified_ms = Some(START_MS - 1_200_000);
    let extracted = writer().handed_on(&order, Some(window), at(0));
    let mapped = writer().handed_on(&work(StageName::Load), None, at(1));
    extracted.into_iter().chain(mapped).collect()
}

fn loading(attempt: u32, step: JournalStep, seconds: i64) -> JournalEvent {
    let mut work = work(StageName::Load);
    work.attempt = attempt;
    writer().event(&work, step, at(seconds))
}

fn loaded(seconds: i64) -> JournalEvent {
    let step = JournalStep::Loaded {
        target_number: "CGRK1".into(),
        target_id: "100001".into(),
        how: LoadedHow::Posted,
    };
    loading(1, step, seconds)
}

fn letter() -> Lying {
    Lying {
        queue: "load.purchase-stockin.dead".into(),
        id: "RK1-3f9a1c".into(),
        number: "CGRK1".into(),
        source_number: Some("RK1".into()),
        write_key: Some("CG2404210003".into()),
        scheme: SCHEME.into(),
        stage: "load".into(),
        at_ms: Some(at(30)),
        attempt: 1,
        kind: "base-data".into(),
        text: "物料“SP-9”不存在".into(),
        advice: kingpost_model::FailureKind::BaseData.advice(),
    }
}

fn document() -> Present {
    Present {
        number: "CGRK1".into(),
        id: "100001".into(),
        status: "C audited".into(),
        finished: true,
        cancelled: false,
        created: Some("2026-11-23T08:00:10".into()),
        modified: Some("2026-11-23T08:00:12".into()),
    }
}

/// One story of events and letters, with what Kingdee says.
fn story(events: Vec<JournalEvent>, letters: Vec<Lying>, present: Vec<Present>) -> Story {
    let mut stories = stories("RK1", &[], events, letters);
    assert!(stories.len() <= 1, "{stories:?}");
    let story = stories.pop().unwrap_or_else(|| Story {
        scheme: SCHEME.into(),
        number: "RK1".into(),
        ..Story::default()
    });
    Story { present: Some(Ok(present)), ..story }
}

fn dead() -> JournalEvent {
    loading(1, JournalStep::Dead { failure: failure("base-data", "物料“SP-9”不存在") }, 30)
}

/// What comes after the beginning.
fn chain(more: Vec<JournalEvent>) -> Vec<JournalEvent> {
    begun().into_iter().chain(more).collect()
}

fn one(story: Story) -> Findings {
    Findings { stories: vec![story], ..Findings::default() }
}

fn samples() -> Vec<(&'static str, Findings)> {
    let mut samples = usual();
    samples.extend(unusual());
    samples
}

fn usual() -> Vec<(&'static str, Findings)> {
    let by = JournalAction { action: "20261123-001500-3f9a1c".into(), actor: "ops@demo-host".into() };
    let acted = Acted {
        at_ms: at(899),
        action: by.action.clone(),
        actor: by.actor.clone(),
        command: "dead replay".into(),
        reason: "material created".into(),
    };
    let retried = |tier: &str, after_ms| {
        let failure = failure("transient", "单据正在被其他用户操作");
        let retry = loading(1, JournalStep::Retry { tier: tier.into(), after_ms, failure }, 20);
        let depths = vec![("load.purchase-stockin".to_owned(), Some(7)), ("wait.2h".to_owned(), Some(3))];
        one(Story { depths, ..story(chain(vec![retry]), vec![], vec![]) })
    };
    let filtered = writer().event(&work(StageName::Transform), JournalStep::Filtered, at(1));
    let replayed = loading(1, JournalStep::Replayed(by), 900);
    let replayed = story(chain(vec![dead(), replayed, loaded(910)]), vec![], vec![document()]);
    let mut sent = work(StageName::Transform);
    sent.modified_ms = Some(START_MS - 1_200_000);
    let pushed = writer().pushed(&sent, at(0));
    let never = Findings {
        unasked: vec!["the source: add --source".to_owned()],
        reaches_back_ms: Some(at(-86_400)),
        ..one(story(vec![], vec![], vec![]))
    };
    vec![
        ("loaded", one(story(chain(vec![loaded(10)]), vec![], vec![document()]))),
        ("pushed", one(story(vec![pushed], vec![], vec![]))),
        ("dead", one(story(chain(vec![dead()]), vec![letter()], vec![]))),
        ("retried", retried("2h", 7_200_000)),
        ("came-back", retried("5s", 5_000)),
        ("filtered", one(story(vec![begun().remove(0), filtered], vec![], vec![]))),
        ("never-seen", never),
        ("replayed", one(Story { actions: vec![acted], ..replayed })),
    ]
}

fn unusual() -> Vec<(&'static str, Findings)> {
    let later = br#"{"at_ms":1795392002000,"scheme":"purchase-stockin","stage":"load","number":"CGRK1",
        "source_number":"RK1","step":"weighed","kilograms":"2.50"}"#;
    let later = JournalEvent::read(later).unwrap();
    let saved = Present { status: "A saved".into(), finished: false, ..document() };
    let order = Document {
        number: Some("RK1".into()),
        modified_ms: Some(START_MS),
        cancelled: false,
        body: "{}".into(),
    };
    let half_way = story(chain(vec![dead()]), vec![letter()], vec![saved]);
    let unasked = "Kingdee: KINGDEE_URL missing or wrong".to_owned();
    let by_journal = story(chain(vec![loaded(10)]), vec![], vec![]);
    let not_asked = Findings {
        unasked: vec![unasked.clone()],
        ..one(Story { present: Some(Err(unasked)), ..by_journal.clone() })
    };
    vec![
        ("unknown-step", one(story(chain(vec![later, loaded(10)]), vec![], vec![document()]))),
        ("half-way", one(Story { source: Some(Ok(Fetched::Found(order))), ..half_way })),
        ("deleted", one(by_journal)),
        ("twice", one(story(chain(vec![loaded(10)]), vec![], vec![document(), document()]))),
        ("not-asked", not_asked),
    ]
}

#[test]
fn each_fate_is_told_as_agreed() {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    for (name, findings) in samples() {
        let state = conclude::of(&findings.stories[0], NOW_MS).state;
        let told = format!("{}exit {}\n", text(&findings, NOW_MS), i32::from(!state.is_there()));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/trace/{name}.txt"));
        if update {
            std::fs::write(&path, &told).unwrap();
        }
        let agreed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(told, agreed, "{name}; `UPDATE=1 cargo test -p kingpost-operator` writes it anew");
    }
}

#[test]
fn programs_get_an_object_a_line_and_the_conclusion_last() {
    for (name, findings) in samples() {
        let objects: Vec<Value> =
            lines(&findings, NOW_MS).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events = objects.iter().filter(|object| object["what"] == "event").count();
        assert_eq!(events, findings.stories[0].events.len(), "{name}");
        let last = objects.last().unwrap();
        assert_eq!(last["what"], "conclusion", "{name}");
        assert_eq!(last["text"], conclude::of(&findings.stories[0], NOW_MS).text.as_str(), "{name}");
    }
}

#[test]
fn documents_that_share_a_purchase_order_are_told_apart() {
    let mut other = work(StageName::Load);
    other.key.number = "CGRK2".into();
    other.source_number = Some("RK2".into());
    let other = writer().event(&other, JournalStep::HandedBack, at(3));
    let stories = stories("CG2404210003", &[], vec![loaded(10), other], vec![]);
    let numbers: Vec<_> = stories.iter().map(|story| (story.number.as_str(), story.number_there())).collect();
    assert_eq!(numbers, [("RK1", "CGRK1"), ("RK2", "CGRK2")]);
}
