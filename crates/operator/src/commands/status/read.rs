//! Looking at every queue of the schemes.

use std::{collections::BTreeMap, ops::ControlFlow};

use jiff::Timestamp;
use kingpost_broker::{BrokerConfig, Inspector, JournalReader, QueueDepth, UNROUTABLE};
use kingpost_model::{JournalStep, RETRY_TIERS, Route, StageName};
use kingpost_scheme::Scheme;

use super::super::dead::{Filter, Group, Groups, Places};
use crate::{
    ending::Stop,
    management::Management,
    schedule::{Cut, Looked, look},
};

/// Dead letters of one queue that are grouped by cause; more are only counted, because reading takes time.
const LETTERS_MAX: u32 = 2_000;
/// Over how long a rate is taken, in milliseconds.
const RATE_MS: i64 = 300_000;

/// What is seen at one look.
pub(super) struct Seen {
    pub(super) at_ms: i64,
    pub(super) schemes: Vec<OfScheme>,
    /// What waits to be tried again, by tier.
    pub(super) tiers: Vec<(&'static str, u32)>,
    /// What came back to a queue that is gone.
    pub(super) unroutable: u32,
    /// Why it isn't known what is in flight, where it isn't.
    pub(super) unseen: Option<String>,
}

const NOT_ASKED: &str = "AMQP doesn't tell it; set MANAGEMENT_URL to RabbitMQ's management API, with a user that has the tag `monitoring`";

/// One scheme.
#[derive(Clone)]
pub(super) struct OfScheme {
    pub(super) name: String,
    pub(super) cut: Cut,
    pub(super) looked: Looked,
    pub(super) stages: Vec<OfStage>,
    /// By cause, the most frequent first; where there are too many letters to be read, nothing.
    pub(super) causes: Vec<Group>,
}

/// One stage of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfStage {
    pub(super) stage: StageName,
    /// All its queues together; nothing when there is none.
    pub(super) work: Option<QueueDepth>,
    pub(super) dead: Option<u32>,
    /// Messages that workers have in hand; nothing where it isn't known.
    pub(super) in_flight: Option<u64>,
    /// Works that were done or died in the last five minutes, by the journal; nothing where there is no journal.
    pub(super) ended: Option<u64>,
}

impl OfStage {
    /// Works a minute.
    pub(super) fn per_minute(&self) -> Option<u64> {
        self.ended.map(|ended| ended.div_ceil(RATE_MS.unsigned_abs() / 60_000))
    }

    /// Minutes until what waits is done at the present rate; nothing where nothing waits or nothing moves.
    pub(super) fn minutes_to_drain(&self) -> Option<u64> {
        let waiting = u64::from(self.work?.ready);
        let per_minute = self.per_minute()?;
        (waiting > 0 && per_minute > 0).then(|| waiting.div_ceil(per_minute))
    }
}

/// Looks again and again, and reads dead letters only when their number has changed.
pub(super) struct Reader<'a> {
    inspector: &'a Inspector,
    broker: BrokerConfig,
    /// With the virtual host.
    management: Option<(Management, String)>,
    schemes: Vec<(String, Cut, u32)>,
    /// The causes of a queue that held so many letters.
    known: BTreeMap<String, (u32, Vec<Group>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        inspector: &'a Inspector,
        broker: BrokerConfig,
        management: Option<(Management, String)>,
        schemes: &[Scheme],
    ) -> Self {
        let schemes = schemes
            .iter()
            .map(|scheme| (scheme.name.clone(), Cut::of(&scheme.source.window), scheme.target.shards))
            .collect();
        Reader { inspector, broker, management, schemes, known: BTreeMap::new() }
    }

    pub(super) async fn look(&mut self) -> Result<Seen, Stop> {
        let mut schemes = Vec::new();
        let ended = self.ended().await;
        let in_flight = self.in_flight().await;
        for (name, cut, shards) in self.schemes.clone() {
            let mut scheme = self.scheme(name, cut, shards, in_flight.as_ref().ok()).await?;
            if let Some(ended) = &ended {
                for stage in &mut scheme.stages {
                    let key = (scheme.name.clone(), stage.stage.as_str().to_owned());
                    stage.ended = Some(ended.get(&key).copied().unwrap_or(0));
                }
            }
            schemes.push(scheme);
        }
        let mut tiers = Vec::new();
        for tier in RETRY_TIERS {
            let ready = self.inspector.depth(tier.queue).await?.map_or(0, |depth| depth.ready);
            tiers.push((tier.queue.trim_start_matches("wait."), ready));
        }
        let unroutable = self.inspector.depth(UNROUTABLE).await?.map_or(0, |depth| depth.ready);
        let nothing = schemes.iter().all(|scheme| scheme.stages.iter().all(|stage| stage.work.is_none()));
        if nothing {
            let text = "none of the queues is there: no worker has started yet and `kingpost topology apply` was not run, \
                        or AMQP_URL names another virtual host";
            return Err(Stop::failed(text));
        }
        let (at_ms, unseen) = (Timestamp::now().as_millisecond(), in_flight.err());
        Ok(Seen { at_ms, schemes, tiers, unroutable, unseen })
    }

    /// What consumers have in hand, by queue; or why that isn't known.
    async fn in_flight(&self) -> Result<BTreeMap<String, u64>, String> {
        let (management, vhost) = self.management.as_ref().ok_or(NOT_ASKED)?;
        let queues = management.queues(vhost).await?;
        let held =
            queues.into_iter().filter_map(|(name, queue)| Some((name, queue.messages_unacknowledged?)));
        Ok(held.collect())
    }

    /// What ended in the last minutes, by scheme and stage; nothing where there is no journal, which nothing depends on.
    async fn ended(&self) -> Option<BTreeMap<(String, String), u64>> {
        let since_ms = Timestamp::now().as_millisecond() - RATE_MS;
        let journal = JournalReader::open(&self.broker).await.ok().flatten()?;
        let mut ended = BTreeMap::new();
        let read = journal
            .scan(since_ms, &[], |event| {
                let is_end = matches!(
                    event.step,
                    JournalStep::WindowRead { .. }
                        | JournalStep::WindowSplit { .. }
                        | JournalStep::Mapped { .. }
                        | JournalStep::Filtered
                        | JournalStep::Loaded { .. }
                        | JournalStep::Dead { .. }
                );
                if is_end && event.at_ms >= since_ms {
                    *ended.entry((event.scheme, event.stage)).or_insert(0) += 1;
                }
            })
            .await;
        journal.close().await;
        read.ok().map(|_| ended)
    }

    async fn scheme(
        &mut self,
        name: String,
        cut: Cut,
        shards: u32,
        held: Option<&BTreeMap<String, u64>>,
    ) -> Result<OfScheme, Stop> {
        let looked = look(self.inspector, &name).await?;
        let (mut stages, mut causes) = (Vec::new(), Vec::new());
        for stage in StageName::ALL {
            let (mut work, mut in_flight): (Option<QueueDepth>, Option<u64>) = (None, None);
            for route in Route::all(stage, &name, shards) {
                if let Some(held) = held.and_then(|held| held.get(&route.queue())) {
                    *in_flight.get_or_insert(0) += held;
                }
                if let Some(depth) = self.inspector.depth(&route.queue()).await? {
                    let sum = work.get_or_insert(QueueDepth { ready: 0, consumers: 0 });
                    sum.ready += depth.ready;
                    // Every loader consumes every shard.
                    sum.consumers = sum.consumers.max(depth.consumers);
                }
            }
            let queue = Route::new(stage, &*name).dead_queue();
            let dead = self.inspector.depth(&queue).await?.map(|depth| depth.ready);
            causes.extend(self.causes(&queue, stage, &name, dead.unwrap_or(0)).await?);
            stages.push(OfStage { stage, work, dead, in_flight, ended: None });
        }
        causes.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(OfScheme { name, cut, looked, stages, causes })
    }

    async fn causes(
        &mut self,
        queue: &str,
        stage: StageName,
        scheme: &str,
        held: u32,
    ) -> Result<Vec<Group>, Stop> {
        if held == 0 || held > LETTERS_MAX {
            return Ok(Vec::new());
        }
        if let Some((_, groups)) = self.known.get(queue).filter(|(known, _)| *known == held) {
            return Ok(groups.clone());
        }
        let queues = vec![(stage, scheme.to_owned())];
        let places = Places { queues, broker: self.broker.clone(), journal: None };
        let mut groups = Groups::default();
        let now_ms = Timestamp::now().as_millisecond();
        places
            .scan(&Filter::default(), now_ms, usize::MAX, |letter| {
                groups.add(&letter);
                ControlFlow::Continue(())
            })
            .await?;
        let groups = groups.finish(now_ms);
        self.known.insert(queue.to_owned(), (held, groups.clone()));
        Ok(groups)
    }
}
