//! Looking at every queue of the schemes.

use std::{collections::BTreeMap, ops::ControlFlow};

use jiff::Timestamp;
use kingpost_broker::{BrokerConfig, Inspector, QueueDepth, UNROUTABLE};
use kingpost_model::{Agenda, RETRY_TIERS, Route, StageName};
use kingpost_scheme::Scheme;

use super::super::dead::{Filter, Group, Groups, Places};
use crate::{
    ending::Stop,
    schedule::{Cut, agenda},
};

/// Dead letters of one queue that are grouped by cause; more are only counted, because reading takes time.
const LETTERS_MAX: u32 = 2_000;

/// What is seen at one look.
pub(super) struct Seen {
    pub(super) at_ms: i64,
    pub(super) schemes: Vec<OfScheme>,
    /// What waits to be tried again, by tier.
    pub(super) tiers: Vec<(&'static str, u32)>,
    /// What came back to a queue that is gone.
    pub(super) unroutable: u32,
}

/// One scheme.
#[derive(Clone)]
pub(super) struct OfScheme {
    pub(super) name: String,
    pub(super) cut: Cut,
    pub(super) agenda: Option<Agenda>,
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
}

/// Looks again and again, and reads dead letters only when their number has changed.
pub(super) struct Reader<'a> {
    inspector: &'a Inspector,
    broker: BrokerConfig,
    schemes: Vec<(String, Cut, u32)>,
    /// The causes of a queue that held so many letters.
    known: BTreeMap<String, (u32, Vec<Group>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(inspector: &'a Inspector, broker: BrokerConfig, schemes: &[Scheme]) -> Self {
        let schemes = schemes
            .iter()
            .map(|scheme| (scheme.name.clone(), Cut::of(&scheme.source.window), scheme.target.shards))
            .collect();
        Reader { inspector, broker, schemes, known: BTreeMap::new() }
    }

    pub(super) async fn look(&mut self) -> Result<Seen, Stop> {
        let mut schemes = Vec::new();
        for (name, cut, shards) in self.schemes.clone() {
            schemes.push(self.scheme(name, cut, shards).await?);
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
        Ok(Seen { at_ms: Timestamp::now().as_millisecond(), schemes, tiers, unroutable })
    }

    async fn scheme(&mut self, name: String, cut: Cut, shards: u32) -> Result<OfScheme, Stop> {
        let agenda = agenda(self.inspector, &name).await?;
        let (mut stages, mut causes) = (Vec::new(), Vec::new());
        for stage in StageName::ALL {
            let mut work: Option<QueueDepth> = None;
            for route in Route::all(stage, &name, shards) {
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
            stages.push(OfStage { stage, work, dead });
        }
        causes.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(OfScheme { name, cut, agenda, stages, causes })
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
