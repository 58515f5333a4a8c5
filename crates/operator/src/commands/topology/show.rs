use clap::Args;
use comfy_table::{Cell, CellAlignment};
use kingpost_broker::{JOURNAL, QueueDepth, RESUME_EXCHANGE, Topology, UNROUTABLE};
use kingpost_model::{DEAD_EXCHANGE, REPLY_EXCHANGE, RETRY_TIERS, Route, StageName, WORK_EXCHANGE};
use serde::Serialize;
use serde_json::json;

use crate::{
    ending::{Report, Stop, both},
    session::Session,
    terminal,
};

const AFTER_HELP: &str = "\
`ready` counts the messages that no worker has in hand. --json prints one object per exchange or queue and line;
a queue that isn't there has `declared` false.";

/// Show the queues and exchanges of the schemes, with depth and consumers
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Show {
    /// Print one JSON object per exchange or queue
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let (schemes, settings) = both(session.schemes(), session.settings())?;
        let inspector = session.inspector(settings).await?;
        let mut queues = queues(schemes.iter().map(|scheme| (scheme.name.as_str(), scheme.target.shards)));
        for queue in &mut queues {
            queue.depth = inspector.depth(&queue.name).await?;
        }
        inspector.close().await;
        let report = Report::done(if self.json { lines(&queues) } else { tables(&queues, session.width) });
        if queues.iter().all(|queue| queue.depth.is_none()) {
            let text = "none of the queues is there: no worker has started yet and `kingpost topology apply` was not run, \
                        or AMQP_URL names another virtual host";
            return Err(Stop::failed(text));
        }
        Ok(report)
    }
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Purpose {
    /// Work of a stage.
    Work,
    /// Dead letters of a stage.
    Dead,
    /// The last confirmed end of a scheme's windows.
    Cursor,
    /// What people ask of a scheme's scheduler.
    Instructions,
    /// How the last comparison of both books ended.
    Reconcile,
    /// By its consumers the loaders of a sharded scheme are counted.
    RollCall,
    /// A retry delay.
    Wait,
    /// What came back to a queue that is gone.
    Unroutable,
    /// What happened to each document.
    Journal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Queue {
    name: String,
    scheme: Option<String>,
    purpose: Purpose,
    /// Nothing when it isn't there.
    depth: Option<QueueDepth>,
}

impl Queue {
    fn new(name: impl Into<String>, scheme: Option<&str>, purpose: Purpose) -> Self {
        Queue { name: name.into(), scheme: scheme.map(str::to_owned), purpose, depth: None }
    }

    /// What a person should see at a glance.
    fn remark(&self) -> &'static str {
        match (self.purpose, self.depth) {
            (Purpose::Journal, None) => "no journal is kept",
            (Purpose::Journal, Some(_)) => "see `kingpost trace`",
            (_, None) => "not there",
            (Purpose::Work, Some(depth)) if depth.consumers == 0 => "no worker consumes it",
            (Purpose::Dead, Some(depth)) if depth.ready > 0 => "see `kingpost dead list`",
            (Purpose::Unroutable, Some(depth)) if depth.ready > 0 => "came back to a queue that is gone",
            (Purpose::RollCall, Some(_)) => "one consumer per loader, never a message",
            (Purpose::Instructions, Some(depth)) if depth.ready > 0 => {
                "no extractor leads that would read them"
            }
            (Purpose::Reconcile, Some(depth)) if depth.ready > 0 => {
                "a result that no extractor has noted yet"
            }
            (Purpose::Cursor, Some(depth)) if depth.ready == 0 => "no window has been cut yet",
            _ => "",
        }
    }
}

/// Every queue of some schemes, given as name and shards, and the shared ones.
fn queues<'a>(schemes: impl Iterator<Item = (&'a str, u32)>) -> Vec<Queue> {
    let mut queues = Vec::new();
    for (name, shards) in schemes {
        let of = |queue: String, purpose| Queue::new(queue, Some(name), purpose);
        for stage in StageName::ALL {
            let routes = Route::all(stage, name, shards);
            queues.extend(routes.iter().map(|route| of(route.queue(), Purpose::Work)));
            queues.push(of(Route::new(stage, name).dead_queue(), Purpose::Dead));
        }
        if shards > 1 {
            queues.push(of(Topology::roll_call_queue(name), Purpose::RollCall));
        }
        queues.push(of(Topology::cursor_queue(name), Purpose::Cursor));
        queues.push(of(Topology::instructions_queue(name), Purpose::Instructions));
        queues.push(of(Topology::reconcile_queue(name), Purpose::Reconcile));
    }
    queues.extend(RETRY_TIERS.map(|tier| Queue::new(tier.queue, None, Purpose::Wait)));
    queues.push(Queue::new(UNROUTABLE, None, Purpose::Unroutable));
    queues.push(Queue::new(JOURNAL, None, Purpose::Journal));
    queues
}

/// Name, type and what it carries.
fn exchanges() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut exchanges = vec![
        (WORK_EXCHANGE, "direct", "work, to the queue that the routing key names"),
        (DEAD_EXCHANGE, "direct", "dead letters, to the queue that the routing key names"),
        (RESUME_EXCHANGE, "direct", "what has waited, back to its own queue"),
        (REPLY_EXCHANGE, "direct", "what became of a message, to whoever asked for it"),
        (UNROUTABLE, "fanout", "what has no queue to come back to"),
    ];
    exchanges.extend(RETRY_TIERS.map(|tier| (tier.queue, "fanout", "what is tried again after that time")));
    exchanges
}

fn lines(queues: &[Queue]) -> String {
    let exchanges = exchanges();
    let exchanges = exchanges
        .iter()
        .map(|(name, kind, carries)| json!({ "exchange": name, "type": kind, "carries": carries }));
    let queues = queues.iter().map(|queue| {
        json!({
            "queue": queue.name,
            "scheme": queue.scheme,
            "purpose": queue.purpose,
            "declared": queue.depth.is_some(),
            "ready": queue.depth.map(|depth| depth.ready),
            "consumers": queue.depth.map(|depth| depth.consumers),
        })
    });
    exchanges.chain(queues).map(|object| format!("{object}\n")).collect()
}

fn tables(queues: &[Queue], width: u16) -> String {
    let mut table = terminal::table(width, false);
    table.set_header(["queue", "ready", "consumers", "remark"]);
    for queue in queues {
        let number = |count: Option<u32>| {
            let text = count.map_or("-".to_owned(), |count| count.to_string());
            Cell::new(text).set_alignment(CellAlignment::Right)
        };
        table.add_row([
            Cell::new(&queue.name),
            number(queue.depth.map(|depth| depth.ready)),
            number(queue.depth.map(|depth| depth.consumers)),
            Cell::new(queue.remark()),
        ]);
    }
    let mut out = terminal::lines(&table);
    let mut table = terminal::table(width, false);
    table.set_header(["exchange", "type", "carries"]);
    for (name, kind, carries) in exchanges() {
        table.add_row([name, kind, carries]);
    }
    out.push('\n');
    out.push_str(&terminal::lines(&table));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Queue> {
        let mut queues = queues([("a", 1), ("b", 2)].into_iter());
        for queue in &mut queues {
            queue.depth = Some(QueueDepth { ready: 7, consumers: 0 });
        }
        queues
    }

    #[test]
    fn every_queue_of_every_scheme_and_shard_is_there_once() {
        let names: Vec<String> = sample().into_iter().map(|queue| queue.name).collect();
        let of_b = ["extract.b", "extract.b.dead", "transform.b", "transform.b.dead", "load.b.0", "load.b.1"];
        assert!(of_b.iter().all(|name| names.iter().filter(|own| own == name).count() == 1), "{names:?}");
        assert!(names.contains(&"cursor.a".to_owned()) && names.contains(&"load.a".to_owned()));
        assert!(names.contains(&"loaders.b".to_owned()) && !names.contains(&"loaders.a".to_owned()));
        assert_eq!(names.len(), 9 + 11 + RETRY_TIERS.len() + 2);
    }

    #[test]
    fn what_needs_a_person_is_said_beside_the_queue() {
        let mut queues = sample();
        let remark = |queues: &[Queue], name: &str| {
            queues.iter().find(|queue| queue.name == name).map(|queue| queue.remark().to_owned())
        };
        assert_eq!(remark(&queues, "load.a").as_deref(), Some("no worker consumes it"));
        assert_eq!(remark(&queues, "load.a.dead").as_deref(), Some("see `kingpost dead list`"));
        assert_eq!(remark(&queues, "wait.5s").as_deref(), Some(""));
        queues[0].depth = None;
        assert_eq!(queues[0].remark(), "not there");
    }

    #[test]
    fn a_line_of_json_is_one_exchange_or_queue() {
        let mut queues = sample();
        queues[1].depth = None;
        let text = lines(&queues);
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), exchanges().len() + queues.len());
        let queue = |name: &str| objects.iter().find(|object| object["queue"] == name).unwrap();
        let (work, dead) = (queue("extract.a"), queue("extract.a.dead"));
        assert_eq!(
            (&work["ready"], &work["consumers"], &work["purpose"]),
            (&7.into(), &0.into(), &"work".into())
        );
        assert_eq!((&dead["declared"], dead["ready"].is_null()), (&false.into(), true));
    }

    #[test]
    fn the_tables_keep_to_the_terminal() {
        for width in [50_u16, 80, 120] {
            let text = tables(&sample(), width);
            assert!(text.lines().all(|line| line.len() <= usize::from(width)), "{width}:\n{text}");
        }
        let text = tables(&sample(), 100);
        assert!(text.contains("kingpost.work") && text.contains("transform.a.dead"), "{text}");
    }
}
