//! What the management API shows of queues: their arguments, and the policies that touch them.

use std::collections::BTreeMap;

use kingpost_broker::JOURNAL;
use serde_json::Value;

use super::Judgement;
use crate::{management::QueueInfo, terminal::counted};

/// Less would cut off a loader that holds deliveries while it pauses, in milliseconds.
const CONSUMER_TIMEOUT_MS: i64 = 15 * 60_000;
/// Deliveries that a queue which is read and put back has to stand.
const MANY: i64 = 1_000_000;
/// Deliveries that a queue of work has to stand: each lost connection counts for all in hand.
const SOME: i64 = 100;

type Queues = BTreeMap<String, QueueInfo>;

/// Compares the arguments of every queue with those that this release declares. A queue that isn't there is another check's.
pub(super) fn arguments(declared: &[(String, BTreeMap<String, Value>)], queues: &Queues) -> Judgement {
    let mut differences = Vec::new();
    let mut compared = 0;
    for (name, wanted) in declared {
        let Some(queue) = queues.get(name) else { continue };
        compared += 1;
        for (argument, value) in wanted {
            match queue.arguments.get(argument) {
                Some(found) if found == value => {}
                Some(found) => {
                    differences.push(format!("`{argument}` of {name} is {found} there and {value} here"))
                }
                None => differences.push(format!("`{argument}` of {name} isn't set there and {value} here")),
            }
        }
        for (argument, found) in
            queue.arguments.iter().filter(|(argument, _)| !wanted.contains_key(*argument))
        {
            differences.push(format!("`{argument}` of {name} is {found} there and isn't set here"));
        }
    }
    if differences.is_empty() {
        return Judgement::ok(format!("{} as this release declares them", counted(compared, "queue")));
    }
    Judgement::failed(differences.join("; "), DIFFERS)
}

pub(super) const DIFFERS: &str = "arguments can't be changed on a queue that exists: let it run empty, stop the workers, delete it, \
     and run `kingpost topology apply`; or give this installation a virtual host of its own";

/// Judges the policies and operator policies that touch our queues.
pub(super) fn policies(declared: &[(String, BTreeMap<String, Value>)], queues: &Queues) -> Judgement {
    let (mut harmful, mut odd, mut touched) = (Vec::new(), Vec::new(), 0);
    for (name, _) in declared {
        let Some(queue) = queues.get(name) else { continue };
        let Value::Object(definition) = &queue.effective_policy_definition else { continue };
        if definition.is_empty() {
            continue;
        }
        touched += 1;
        let by: Vec<&str> =
            [&queue.policy, &queue.operator_policy].into_iter().flatten().map(String::as_str).collect();
        let by = by.join(" and ");
        for (key, value) in definition {
            match effect(name, key, value) {
                Effect::None => {}
                Effect::Odd(why) => odd.push(format!("`{key}: {value}` on {name} (policy {by}): {why}")),
                Effect::Harm(why) => harmful.push(format!("`{key}: {value}` on {name} (policy {by}): {why}")),
            }
        }
    }
    let remedy = "narrow the pattern of the policy, so that it doesn't match these queues; each carries its own arguments";
    if !harmful.is_empty() {
        harmful.append(&mut odd);
        return Judgement::failed(harmful.join("; "), remedy);
    }
    if !odd.is_empty() {
        return Judgement::warning(odd.join("; "), remedy);
    }
    match touched {
        0 => Judgement::ok("no policy touches these queues"),
        count => {
            Judgement::ok(format!("policies touch {}, none in a way that matters", counted(count, "queue")))
        }
    }
}

/// What a key of a policy does to a queue of ours.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    None,
    Odd(&'static str),
    Harm(&'static str),
}

fn effect(queue: &str, key: &str, value: &Value) -> Effect {
    let number = value.as_i64();
    let kept = queue.ends_with(".dead") || queue == "kingpost.unroutable";
    let waits = queue.starts_with("wait.");
    let single = queue.starts_with("cursor.");
    match key {
        _ if queue == JOURNAL => Effect::None,
        "expires" => Effect::Harm("the queue is deleted with its messages when nobody uses it"),
        "message-ttl" if waits => Effect::Odd("what is tried again may come back sooner than its tier says"),
        "message-ttl" if single => Effect::Harm("the cursor is lost when nothing moves it for so long"),
        "message-ttl" => Effect::Harm("messages leave the queue unread"),
        "max-length" if single && number.is_some_and(|most| most >= 1) => Effect::None,
        "max-length" | "max-length-bytes" if kept || single => {
            Effect::Harm("when it is full the oldest are dropped")
        }
        "max-length" | "max-length-bytes" => Effect::Odd("when it is full the stage before it waits"),
        "delivery-limit" if waits || number.is_none_or(|limit| limit >= MANY) => Effect::None,
        "delivery-limit" if kept || single || queue.starts_with("instructions.") => {
            Effect::Harm("it is read and put back, and would be dropped after so many looks")
        }
        "delivery-limit" if number.is_some_and(|limit| limit < SOME) => Effect::Odd(
            "each lost connection counts for every message in hand, which would be dead letters soon",
        ),
        "consumer-timeout" if number.is_some_and(|limit| limit < CONSUMER_TIMEOUT_MS) => {
            Effect::Harm("below 15 minutes it cuts off a loader that holds deliveries while it pauses")
        }
        // An argument of the queue comes before a policy.
        "dead-letter-exchange" | "dead-letter-routing-key" if kept => {
            Effect::Odd("what a person rejects or drops there would go on somewhere else")
        }
        _ => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Verdict;

    fn declared() -> Vec<(String, BTreeMap<String, Value>)> {
        let limit = |limit: i64| BTreeMap::from([("x-delivery-limit".to_owned(), json!(limit))]);
        [("load.s", 1_000), ("load.s.dead", 1_000_000_000), ("wait.5s", 7), ("cursor.s", 7)]
            .map(|(name, most)| (name.to_owned(), limit(most)))
            .into()
    }

    fn queues(change: impl Fn(&mut QueueInfo)) -> Queues {
        let queue = |(name, arguments): (String, BTreeMap<String, Value>)| {
            let arguments = arguments.into_iter().collect();
            let mut queue = QueueInfo { name: name.clone(), arguments, ..QueueInfo::default() };
            change(&mut queue);
            (name, queue)
        };
        declared().into_iter().map(queue).collect()
    }

    #[test]
    fn every_difference_of_arguments_is_told() {
        assert_eq!(arguments(&declared(), &queues(|_| ())).verdict, Verdict::Ok);
        let changed = queues(|queue| match queue.name.as_str() {
            "load.s" => drop(queue.arguments.insert("x-delivery-limit".into(), json!(20))),
            "cursor.s" => queue.arguments.clear(),
            "wait.5s" => drop(queue.arguments.insert("x-max-length".into(), json!(5))),
            _ => {}
        });
        let judgement = arguments(&declared(), &changed);
        assert_eq!(judgement.verdict, Verdict::Failed);
        for words in
            ["of load.s is 20 there and 1000 here", "of cursor.s isn't set", "`x-max-length` of wait.5s is 5"]
        {
            assert!(judgement.seen.contains(words), "{words}: {}", judgement.seen);
        }
        assert!(judgement.remedy.contains("delete it"));
    }

    #[test]
    fn policies_are_judged_by_what_they_do_to_each_kind_of_queue() {
        for (name, key, value, expected) in [
            ("load.s", "message-ttl", json!(60_000), Verdict::Failed),
            ("wait.5s", "message-ttl", json!(1_000), Verdict::Warning),
            ("load.s", "expires", json!(60_000), Verdict::Failed),
            ("load.s", "max-length", json!(10), Verdict::Warning),
            ("load.s.dead", "max-length", json!(10), Verdict::Failed),
            ("cursor.s", "max-length", json!(1_000), Verdict::Ok),
            ("load.s.dead", "delivery-limit", json!(20), Verdict::Failed),
            ("load.s", "delivery-limit", json!(20), Verdict::Warning),
            ("load.s", "consumer-timeout", json!(60_000), Verdict::Failed),
            ("load.s", "queue-leader-locator", json!("balanced"), Verdict::Ok),
        ] {
            let touched = queues(|queue| {
                if queue.name == name {
                    queue.policy = Some("p".to_owned());
                    queue.effective_policy_definition = json!({ key: value });
                }
            });
            let judgement = policies(&declared(), &touched);
            assert_eq!(judgement.verdict, expected, "{name} {key}: {judgement:?}");
            assert_eq!(judgement.seen.contains("policy p"), expected != Verdict::Ok, "{judgement:?}");
        }
        assert_eq!(policies(&declared(), &queues(|_| ())).verdict, Verdict::Ok);
    }
}
