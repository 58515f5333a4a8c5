//! What the broker knows: the journal, the dead letters, the audit trail, the depths of queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use kingpost_broker::{
    AuditEvent, AuditPhase, AuditTrail, BrokerConfig, ConnectError, Inspector, JournalReader, Letter,
};
use kingpost_model::{JournalEvent, RETRY_TIERS, Route, StageName};
use kingpost_scheme::Scheme;

use super::story::{Acted, Findings, Lying, Story};
use crate::{clock, ending::Stop};

/// Everything that RabbitMQ has about a key.
///
/// # Errors
/// The broker can't be reached at all, or refuses.
pub(super) async fn gather(
    broker: &BrokerConfig,
    schemes: &[Scheme],
    key: &str,
    since_ms: i64,
) -> Result<Findings, Stop> {
    let mut findings = Findings::default();
    let inspector = Inspector::open(broker).await?;
    let mut events = match journal(broker, key, since_ms, &mut findings).await {
        Ok(events) => events,
        Err(error) => {
            findings.unasked.push(format!("the journal: {error}"));
            Vec::new()
        }
    };
    let names: BTreeSet<&str> = schemes.iter().map(|scheme| scheme.name.as_str()).collect();
    events.retain(|event| names.contains(event.scheme.as_str()));
    let letters = letters(&inspector, &names, key, &events, &mut findings).await?;
    findings.stories = stories(key, schemes, events, letters);
    match audit(broker, since_ms).await {
        Ok(trail) => attach(&trail, &mut findings.stories),
        Err(error) => findings.unasked.push(format!("the audit trail: {error}")),
    }
    for story in &mut findings.stories {
        if story.last().is_some_and(|event| !event.step.is_end()) {
            let scheme = schemes.iter().find(|scheme| scheme.name == story.scheme);
            story.depths = depths(&inspector, story, scheme.map_or(1, |s| s.target.shards)).await?;
        }
    }
    inspector.close().await;
    Ok(findings)
}

/// The events of a key, and of every number that turns out to be the same document's.
async fn journal(
    broker: &BrokerConfig,
    key: &str,
    since_ms: i64,
    findings: &mut Findings,
) -> Result<Vec<JournalEvent>, ConnectError> {
    let Some(reader) = JournalReader::open(broker).await? else {
        findings.unasked.push(
            "the journal: there is none; workers with JOURNAL=on make it with their first document, or AMQP_URL names \
             another virtual host"
                .to_owned(),
        );
        return Ok(Vec::new());
    };
    let mut events = by_number(&reader, since_ms, BTreeSet::from([key.to_owned()])).await?;
    if events.is_empty() {
        // It may be a purchase order or a message id, which the broker can't filter by.
        let mut found = BTreeSet::new();
        let scan = reader
            .scan(since_ms, &[], |event| {
                if event.concerns(key) {
                    found.extend(numbers(&event));
                }
            })
            .await?;
        findings.reaches_back_ms = scan.earliest_ms;
        if !found.is_empty() {
            events = by_number(&reader, since_ms, found).await?;
        }
    }
    reader.close().await;
    events.sort_by_key(|event| event.at_ms);
    Ok(events)
}

fn numbers(event: &JournalEvent) -> impl Iterator<Item = String> {
    [Some(event.number.as_str()), event.source_number.as_deref(), event.target_number()]
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Reads until no event names a number that wasn't looked for: a document may have another one in the target.
async fn by_number(
    reader: &JournalReader,
    since_ms: i64,
    mut known: BTreeSet<String>,
) -> Result<Vec<JournalEvent>, ConnectError> {
    loop {
        let asked: Vec<&str> = known.iter().map(String::as_str).collect();
        let mut events: Vec<JournalEvent> = Vec::new();
        let keep = |event: JournalEvent| {
            // The same event twice is one that its writer wrote again for want of a confirm.
            if !events.contains(&event) {
                events.push(event);
            }
        };
        reader.scan(since_ms, &asked, keep).await?;
        let learnt: BTreeSet<String> = events.iter().flat_map(numbers).collect();
        if learnt.is_subset(&known) {
            return Ok(events);
        }
        known.extend(learnt);
    }
}

/// The dead letters of a key, and of the numbers that the journal names with it.
async fn letters(
    inspector: &Inspector,
    schemes: &BTreeSet<&str>,
    key: &str,
    events: &[JournalEvent],
    findings: &mut Findings,
) -> Result<Vec<Lying>, Stop> {
    let mut keys: BTreeSet<String> = events.iter().flat_map(numbers).collect();
    keys.insert(key.to_owned());
    let mut letters = Vec::new();
    for scheme in schemes {
        let mut missing = 0;
        for stage in StageName::ALL {
            let queue = Route::new(stage, *scheme).dead_queue();
            let keep = |letter: Letter| {
                let lying = lying(&letter);
                if keys.iter().any(|key| lying.concerns(key)) {
                    letters.push(lying);
                }
                ControlFlow::Continue(())
            };
            let scanned = inspector.scan(&queue, usize::MAX, keep).await?;
            missing += usize::from(!scanned.there);
            if scanned.readers > 0 || scanned.read < scanned.held {
                findings.unasked.push(format!(
                    "{queue}: not seen whole, because somebody else is reading it; ask again when they are done"
                ));
            }
        }
        if missing == StageName::ALL.len() {
            findings.unasked.push(format!(
                "dead letters of {scheme}: its queues are not there; no worker has started yet, or AMQP_URL names another \
                 virtual host"
            ));
        }
    }
    Ok(letters)
}

fn lying(letter: &Letter) -> Lying {
    let (work, failure) = (&letter.work, &letter.failure);
    let mut text = failure.text.clone();
    for problem in failure.problems.iter().filter(|problem| !problem.field.is_empty()) {
        text.push_str(&format!("; {}: {}", problem.field, problem.message));
    }
    Lying {
        queue: letter.queue.clone(),
        id: work.id.as_str().to_owned(),
        number: work.key.number.clone(),
        source_number: work.source_number.clone(),
        write_key: work.write_key.clone(),
        scheme: work.scheme.clone(),
        stage: work.stage.as_str().to_owned(),
        at_ms: clock::failed_at(letter),
        attempt: work.attempt,
        kind: failure.kind.as_str().to_owned(),
        text,
        advice: failure.kind.advice(),
    }
}

/// Sorts events and letters by document; a scheme without any gets an empty story, for what other systems say.
pub(super) fn stories(
    key: &str,
    schemes: &[Scheme],
    events: Vec<JournalEvent>,
    letters: Vec<Lying>,
) -> Vec<Story> {
    let mut stories: BTreeMap<(String, String), Story> = BTreeMap::new();
    for event in events {
        let number = event.source_number().to_owned();
        let story = stories.entry((event.scheme.clone(), number)).or_default();
        let target = event.target_number().filter(|target| *target != event.source_number());
        story.target_number = target.map(str::to_owned).or(story.target_number.take());
        story.write_key = event.write_key.clone().or(story.write_key.take());
        story.is_window |= event.document == "window";
        story.events.push(event);
    }
    for letter in letters {
        let number = letter.source_number().to_owned();
        let story = stories.entry((letter.scheme.clone(), number)).or_default();
        let loads = letter.stage == StageName::Load.as_str() && letter.source_number.is_some();
        story.target_number = loads.then(|| letter.number.clone()).or(story.target_number.take());
        story.write_key = letter.write_key.clone().or(story.write_key.take());
        story.is_window |= letter.stage == StageName::Extract.as_str();
        story.letters.push(letter);
    }
    for scheme in schemes {
        if !stories.keys().any(|(name, _)| *name == scheme.name) {
            stories.entry((scheme.name.clone(), key.to_owned())).or_default();
        }
    }
    let named = stories.into_iter().map(|((scheme, number), story)| Story { scheme, number, ..story });
    named.collect()
}

async fn audit(broker: &BrokerConfig, since_ms: i64) -> Result<Vec<AuditEvent>, ConnectError> {
    let trail = AuditTrail::open(broker).await?;
    let mut events = Vec::new();
    let keep = |event: AuditEvent| {
        if event.phase == AuditPhase::Begun {
            events.push(event);
        }
    };
    trail.read(since_ms, keep).await?;
    trail.close().await;
    Ok(events)
}

/// Gives each story the actions that name it. An action on many letters has several events.
fn attach(trail: &[AuditEvent], stories: &mut [Story]) {
    for story in stories {
        for event in trail {
            let queue = format!(".{}.dead", story.scheme);
            let here = event.queues.is_empty() || event.queues.iter().any(|name| name.ends_with(&queue));
            let names = || event.letters.iter().any(|l| story.goes_by(&l.key) || story.goes_by(&l.id));
            if here && !story.actions.iter().any(|known| known.action == event.action) && names() {
                story.actions.push(Acted {
                    at_ms: event.at_ms,
                    action: event.action.clone(),
                    actor: event.actor.clone(),
                    command: event.command.clone(),
                    reason: event.reason.clone(),
                });
            }
        }
    }
}

/// The queues that a document may wait in after its last event.
async fn depths(
    inspector: &Inspector,
    story: &Story,
    shards: u32,
) -> Result<Vec<(String, Option<u32>)>, Stop> {
    let mut queues: Vec<String> = StageName::ALL
        .into_iter()
        .flat_map(|stage| Route::all(stage, &story.scheme, shards))
        .map(|route| route.queue())
        .collect();
    queues.extend(RETRY_TIERS.map(|tier| tier.queue.to_owned()));
    let mut depths = Vec::with_capacity(queues.len());
    for queue in queues {
        let depth = inspector.depth(&queue).await?;
        depths.push((queue, depth.map(|depth| depth.ready)));
    }
    Ok(depths)
}
