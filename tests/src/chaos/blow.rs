//! The faults that can be drawn.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::dice::Dice;
use crate::lab::Way;

/// A worker process: its stage and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// `kingpost-extractor`.
    Extractor(usize),
    /// `kingpost-transformer`.
    Transformer(usize),
    /// `kingpost-loader`; the second one logs in for a session instead of signing each request.
    Loader(usize),
}

impl Post {
    /// All of a run.
    pub const ALL: [Post; 6] = [
        Post::Extractor(0),
        Post::Extractor(1),
        Post::Transformer(0),
        Post::Transformer(1),
        Post::Loader(0),
        Post::Loader(1),
    ];

    /// The name of its stage, as in `kingpost-loader`.
    pub const fn stage(self) -> &'static str {
        match self {
            Post::Extractor(_) => "extractor",
            Post::Transformer(_) => "transformer",
            Post::Loader(_) => "loader",
        }
    }

    const fn number(self) -> usize {
        match self {
            Post::Extractor(n) | Post::Transformer(n) | Post::Loader(n) => n,
        }
    }
}

impl fmt::Display for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stage(), self.number() + 1)
    }
}

/// What happens to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerBlow {
    /// SIGKILL; it is started again after the time of the event.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// `rabbitmqctl stop_app`, then `start_app`.
    StopApp,
    /// `rabbitmqctl close_all_connections`.
    CloseConnections,
    /// A memory alarm, which blocks every connection that publishes.
    MemoryAlarm,
    /// `rabbitmqctl suspend_listeners`, then `resume_listeners`: open connections go on, new ones are refused.
    SuspendListeners,
}

impl BrokerBlow {
    /// Every kind.
    pub const ALL: [BrokerBlow; 6] = [
        BrokerBlow::Kill,
        BrokerBlow::Freeze,
        BrokerBlow::StopApp,
        BrokerBlow::CloseConnections,
        BrokerBlow::MemoryAlarm,
        BrokerBlow::SuspendListeners,
    ];
}

/// A way that goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between all workers and the broker.
    Broker,
    /// Between the extractors and WDT.
    Wdt,
    /// Between the loaders and Kingdee.
    Kingdee,
}

/// What happens on a way; sizes in bytes, rates in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Bytes arrive later, both ways.
    Latency(Duration),
    /// One direction is held back.
    Stall(Way),
    /// Both directions are held back.
    StallBoth,
    /// New connections are taken and nothing is heard of them.
    Hole,
    /// New connections are reset.
    Refuse,
    /// All connections are reset.
    Reset,
    /// One connection is reset in the middle of what it carries.
    Cut(Way, u32),
    /// Bytes arrive in pieces.
    Slice(usize),
    /// The way is narrow.
    Narrow(u64),
}

impl Trouble {
    /// One of each kind; [`Trouble::drawn`] gives it its measure.
    pub(super) const KINDS: [Trouble; 11] = [
        Trouble::Latency(Duration::ZERO),
        Trouble::Stall(Way::ToServer),
        Trouble::Stall(Way::ToClient),
        Trouble::StallBoth,
        Trouble::Hole,
        Trouble::Refuse,
        Trouble::Reset,
        Trouble::Cut(Way::ToServer, 0),
        Trouble::Cut(Way::ToClient, 0),
        Trouble::Slice(0),
        Trouble::Narrow(0),
    ];

    /// The same trouble with its measure and how long it lasts; `longest` milliseconds for what holds bytes back.
    pub(super) fn drawn(self, dice: &mut Dice, longest: u64) -> (Self, Duration) {
        match self {
            Trouble::Latency(_) => (Trouble::Latency(dice.time(20, 300)), dice.time(2_000, 6_000)),
            Trouble::Stall(_) | Trouble::StallBoth | Trouble::Hole => (self, dice.time(500, longest)),
            Trouble::Refuse => (self, dice.time(500, 4_000)),
            Trouble::Reset => (self, Duration::ZERO),
            Trouble::Cut(way, _) => {
                let bytes = u32::try_from(dice.between(1, 20_000)).unwrap_or(1);
                (Trouble::Cut(way, bytes), dice.time(1_000, 2_000))
            }
            Trouble::Slice(_) => {
                let most = usize::try_from(dice.between(20, 200)).unwrap_or(20);
                (Trouble::Slice(most), dice.time(1_000, 4_000))
            }
            Trouble::Narrow(_) => (Trouble::Narrow(dice.between(100_000, 600_000)), dice.time(1_000, 4_000)),
        }
    }

    /// Whether what is sent into it may arrive when its sender is gone.
    #[cfg(test)]
    pub(super) const fn holds_back(self) -> bool {
        matches!(self, Trouble::Stall(_) | Trouble::StallBoth | Trouble::Hole)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let towards = |way: &Way| if *way == Way::ToServer { "what is sent" } else { "what is answered" };
        match self {
            Trouble::Latency(latency) => write!(f, "{} ms later, both ways", latency.as_millis()),
            Trouble::Stall(way) => write!(f, "{} is held back", towards(way)),
            Trouble::StallBoth => f.write_str("everything is held back"),
            Trouble::Hole => f.write_str("new connections hear nothing"),
            Trouble::Refuse => f.write_str("new connections are reset"),
            Trouble::Reset => f.write_str("all connections are reset"),
            Trouble::Cut(way, bytes) => write!(f, "{} is cut after {bytes} bytes", towards(way)),
            Trouble::Slice(most) => write!(f, "in pieces of at most {most} bytes"),
            Trouble::Narrow(rate) => write!(f, "{} kB/s", rate / 1_000),
        }
    }
}

/// What happens in an ERP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ErpBlow {
    /// Both stand still (SIGSTOP), then go on.
    Freeze,
    /// A request is never answered, and its connection is reset at the end.
    Hang {
        /// `wdt` or `kingdee`.
        system: &'static str,
        /// The operation; every one where it is empty.
        operation: &'static str,
        /// Whether its work is done all the same.
        done: bool,
    },
    /// A scripted fault of the sandbox meets the next such requests.
    Rule {
        /// `wdt` or `kingdee`.
        system: &'static str,
        /// The operation; every one where it is empty.
        operation: &'static str,
        /// The action as the sandbox takes it, in JSON; `$` stands for a drawn number of milliseconds.
        action: &'static str,
    },
}

impl ErpBlow {
    /// How much time has to be left for what the product does after it, as it should: a call limit of Kingdee's is waited
    /// out for half a minute, one of WDT's for more than a minute by every extractor, and what has piled up is read then.
    pub(super) fn needs(self) -> Duration {
        match self {
            ErpBlow::Rule { action, .. } if action.contains("call_limit") => Duration::from_secs(32),
            ErpBlow::Rule { action, .. } if action.contains("rate_limit") => Duration::from_secs(120),
            _ => Duration::ZERO,
        }
    }
}

const fn kingdee(operation: &'static str, action: &'static str) -> ErpBlow {
    ErpBlow::Rule { system: "kingdee", operation, action }
}

const fn wdt(action: &'static str) -> ErpBlow {
    ErpBlow::Rule { system: "wdt", operation: "", action }
}

const fn hang(system: &'static str, operation: &'static str, done: bool) -> ErpBlow {
    ErpBlow::Hang { system, operation, done }
}

const SAVE: &str = "BatchSave";
const QUERY: &str = "ExecuteBillQuery";

const ERP_BLOWS: &[ErpBlow] = &[
    ErpBlow::Freeze,
    hang("kingdee", SAVE, true),
    hang("kingdee", SAVE, false),
    hang("kingdee", "Audit", true),
    hang("kingdee", QUERY, true),
    hang("wdt", "", true),
    kingdee(SAVE, r#"{"kind":"drop","when":"after"}"#),
    kingdee(SAVE, r#"{"kind":"drop","when":"after","reset":true}"#),
    kingdee(SAVE, r#"{"kind":"drop","when":"before"}"#),
    kingdee(SAVE, r#"{"kind":"zombie","ms":$}"#),
    kingdee(SAVE, r#"{"kind":"zombie","ms":$}"#),
    kingdee(SAVE, r#"{"kind":"delay","ms":$,"when":"before"}"#),
    kingdee(SAVE, r#"{"kind":"delay","ms":$,"when":"after"}"#),
    kingdee(SAVE, r#"{"kind":"check_gap","ms":100}"#),
    kingdee(SAVE, r#"{"kind":"slow_answer","ms":$}"#),
    kingdee(SAVE, r#"{"kind":"status","code":500,"when":"after"}"#),
    kingdee(SAVE, r#"{"kind":"status","code":500,"when":"before"}"#),
    kingdee(SAVE, r#"{"kind":"status","code":502,"when":"after"}"#),
    kingdee(SAVE, r#"{"kind":"status","code":503,"when":"before"}"#),
    kingdee(SAVE, r#"{"kind":"status","code":504,"when":"after"}"#),
    kingdee(SAVE, r#"{"kind":"half_body"}"#),
    kingdee(SAVE, r#"{"kind":"wrong_length"}"#),
    kingdee(SAVE, r#"{"kind":"invalid_json"}"#),
    kingdee(SAVE, r#"{"kind":"login_page"}"#),
    kingdee(SAVE, r#"{"kind":"response_error","when":"after"}"#),
    kingdee(SAVE, r#"{"kind":"response_error","when":"before"}"#),
    kingdee(SAVE, r#"{"kind":"session_lost"}"#),
    kingdee(SAVE, r#"{"kind":"conflict"}"#),
    kingdee(SAVE, r#"{"kind":"call_limit"}"#),
    kingdee(SAVE, r#"{"kind":"all_or_nothing"}"#),
    kingdee("Submit", r#"{"kind":"drop","when":"after"}"#),
    kingdee("Submit", r#"{"kind":"conflict"}"#),
    kingdee("Submit", r#"{"kind":"status","code":500,"when":"after"}"#),
    kingdee("Audit", r#"{"kind":"drop","when":"after"}"#),
    kingdee("Audit", r#"{"kind":"half_body"}"#),
    kingdee("Audit", r#"{"kind":"conflict"}"#),
    kingdee("Audit", r#"{"kind":"session_lost"}"#),
    kingdee(QUERY, r#"{"kind":"drop","when":"after"}"#),
    kingdee(QUERY, r#"{"kind":"status","code":502,"when":"before"}"#),
    kingdee(QUERY, r#"{"kind":"invalid_json"}"#),
    kingdee(QUERY, r#"{"kind":"half_body"}"#),
    kingdee(QUERY, r#"{"kind":"slow_answer","ms":$}"#),
    kingdee(QUERY, r#"{"kind":"login_page"}"#),
    wdt(r#"{"kind":"drop","when":"after"}"#),
    wdt(r#"{"kind":"drop","when":"before","reset":true}"#),
    wdt(r#"{"kind":"status","code":502,"when":"before"}"#),
    wdt(r#"{"kind":"status","code":504,"when":"before"}"#),
    wdt(r#"{"kind":"half_body"}"#),
    wdt(r#"{"kind":"wrong_length"}"#),
    wdt(r#"{"kind":"invalid_json"}"#),
    wdt(r#"{"kind":"isp_error"}"#),
    wdt(r#"{"kind":"ban","seconds":2,"hold":true}"#),
    wdt(r#"{"kind":"rate_limit"}"#),
    wdt(r#"{"kind":"wrong_total","add":2}"#),
    wdt(r#"{"kind":"slow_answer","ms":$}"#),
    wdt(r#"{"kind":"delay","ms":$,"when":"before"}"#),
];

/// Everything that can happen in an ERP.
pub(super) const fn erp_blows() -> &'static [ErpBlow] {
    ERP_BLOWS
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blow {
    /// SIGKILL; a new process takes the post after the time of the event.
    Kill(Post),
    /// SIGTERM, the end of the process, and then the time of the event.
    Terminate(Post),
    /// SIGSTOP, then SIGCONT.
    Freeze(Post),
    /// The broker.
    Broker(BrokerBlow),
    /// A way through a proxy.
    Way(Place, Trouble),
    /// An ERP, with a drawn number from 0 to 999.
    Erp(ErpBlow, u64),
}

impl Blow {
    /// Longest time that a drawn `$` stands for.
    const LATE_MAX_MS: u64 = 1_500;

    /// What a blow takes beyond its time, roughly, so that a schedule's times come true on an ordinary machine.
    pub(super) fn overhead(&self) -> Duration {
        Duration::from_millis(match self {
            Blow::Terminate(_) => 1_000,
            Blow::Broker(BrokerBlow::Kill) => 6_000,
            Blow::Broker(BrokerBlow::Freeze) => 0,
            Blow::Broker(BrokerBlow::StopApp) => 8_000,
            Blow::Broker(_) => 2_000,
            _ => 0,
        })
    }

    /// The rule for the sandbox, of a blow that is one.
    pub(super) fn rule(&self) -> Option<Value> {
        let Blow::Erp(blow, drawn) = self else { return None };
        let (system, operation, action) = match *blow {
            ErpBlow::Freeze => return None,
            ErpBlow::Hang { system, operation, done } => {
                let when = if done { "after" } else { "before" };
                (system, operation, json!({"kind": "hang", "when": when}))
            }
            ErpBlow::Rule { system, operation, action } => {
                let ms = 200 + drawn * (Self::LATE_MAX_MS - 200) / 999;
                let text = action.replace('$', &ms.to_string());
                (system, operation, serde_json::from_str(&text).unwrap_or(Value::Null))
            }
        };
        let mut rule = json!({"system": system, "count": 1, "action": action});
        if !operation.is_empty() {
            rule["operation"] = operation.into();
        }
        Some(rule)
    }

    /// How long after a client may have given up the work of a request can still be done.
    #[cfg(test)]
    pub(super) fn takes_effect_late(&self) -> Duration {
        let rule = self.rule().unwrap_or_default();
        let ms = rule.pointer("/action/ms").and_then(Value::as_u64).unwrap_or(0);
        Duration::from_millis(ms)
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blow::Kill(post) => write!(f, "{post}: killed, then started again"),
            Blow::Terminate(post) => write!(f, "{post}: told to stop, then started again"),
            Blow::Freeze(post) => write!(f, "{post}: stands still"),
            Blow::Broker(blow) => f.write_str(match blow {
                BrokerBlow::Kill => "broker: killed, then started again",
                BrokerBlow::Freeze => "broker: stands still",
                BrokerBlow::StopApp => "broker: stop_app, then start_app",
                BrokerBlow::CloseConnections => "broker: closes all connections",
                BrokerBlow::MemoryAlarm => "broker: memory alarm",
                BrokerBlow::SuspendListeners => "broker: takes no new connections",
            }),
            Blow::Way(place, trouble) => {
                let place = match place {
                    Place::Broker => "the broker",
                    Place::Wdt => "WDT",
                    Place::Kingdee => "Kingdee",
                };
                write!(f, "way to {place}: {trouble}")
            }
            Blow::Erp(ErpBlow::Freeze, _) => f.write_str("both ERPs: stand still"),
            Blow::Erp(..) => {
                let rule = self.rule().unwrap_or_default();
                let part = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or("any");
                write!(f, "{} {}: {}", part("system"), part("operation"), rule["action"])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_erp_fault_is_a_rule_that_the_sandbox_can_read() {
        for blow in erp_blows().iter().filter(|blow| **blow != ErpBlow::Freeze) {
            for drawn in [0, 999] {
                let rule = Blow::Erp(*blow, drawn).rule().unwrap();
                assert!(rule.pointer("/action/kind").is_some_and(Value::is_string), "{blow:?}: {rule}");
            }
        }
    }
}
