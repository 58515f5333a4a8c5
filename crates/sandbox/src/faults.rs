//! Faults that a test scripts while the sandbox runs.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ledger::System;
use crate::orders::Edit;

/// Whether a fault strikes before the work of a request is done, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    Before,
    After,
}

/// What happens to a request. The JSON form names it in `kind`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Wait, then go on.
    Delay { ms: u64, when: When },
    /// Close the connection without a byte; `reset` sends a TCP reset.
    Drop {
        when: When,
        #[serde(default)]
        reset: bool,
    },
    /// Never answer; the connection stays open until the client leaves it.
    Hang { when: When },
    /// Wait until the rule is cleared, then go on.
    Hold { when: When },
    /// That status code with an HTML page, with `Retry-After` in seconds or a `Location` where given.
    Status {
        code: u16,
        when: When,
        #[serde(default)]
        retry_after: Option<u64>,
        #[serde(default)]
        location: Option<String>,
    },
    /// Do the work, send half of the answer, close; `reset` sends a TCP reset.
    HalfBody {
        #[serde(default)]
        reset: bool,
    },
    /// Do the work, send a content-length that is too short.
    WrongLength,
    /// Do the work, answer text that is no JSON.
    InvalidJson,
    /// Do the work, answer so many MiB of blanks in a small gzip body.
    GzipBomb { mib: u32 },
    /// Do the work, send header lines until the client leaves.
    EndlessHead,
    /// HTTP 200 with `response_error:` and a server exception.
    ResponseError {
        when: When,
        #[serde(default)]
        message: Option<String>,
    },
    /// End every session and answer that it is lost; nothing is done.
    SessionLost,
    /// Network-control conflict, MsgCode 13; nothing is done.
    Conflict,
    /// Call limit, MsgCode 14; nothing is done.
    CallLimit,
    /// Any refusal of Kingdee's; nothing is done.
    Refuse { msg_code: i64, message: String },
    /// HTTP 200 with the HTML page of a login; nothing is done.
    LoginPage,
    /// Do the work, send the answer in small pieces over that time.
    SlowAnswer { ms: u64 },
    /// Close the connection at once, or answer that status code as `Status` does, and do the work that much later, or once the
    /// rule is cleared.
    Zombie {
        #[serde(default)]
        ms: Option<u64>,
        #[serde(default)]
        code: Option<u16>,
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Sleep between Kingdee's uniqueness check and its insert.
    CheckGap { ms: u64 },
    /// Save all documents of a call or none; an answer to none names only those that are refused.
    AllOrNothing,
    /// Do the work, answer with every `DIndex` off by that much.
    WrongIndex { add: i64 },
    /// Answer a query without any row, as a replica does that lags behind.
    Blind,
    /// WDT's per-minute limit, status 100.
    RateLimit,
    /// TOP's ban, code 7, with its seconds; `classic` answers under `error_response`, `hold` refuses whatever
    /// the rule matches until the seconds are over.
    Ban {
        seconds: u64,
        #[serde(default)]
        classic: bool,
        #[serde(default)]
        hold: bool,
    },
    /// A fault of TOP's own, code 15 with an `isp.` sub code.
    IspError,
    /// Any business error of WDT's.
    WdtError { status: i64, message: String },
    /// Answer rightly, but with that much added to `total_count`.
    WrongTotal { add: i64 },
    /// Answer rightly, but without `total_count`.
    NoTotal,
    /// Answer the page that many behind the one that was asked for.
    PageShift { add: i64 },
    /// Let something happen to these orders, or to so many of those that the query finds, then answer rightly.
    Edit {
        what: Edit,
        #[serde(default)]
        numbers: Vec<String>,
        #[serde(default)]
        pick: u32,
    },
}

impl Action {
    /// The word that `kind` holds.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Action::Delay { .. } => "delay",
            Action::Drop { .. } => "drop",
            Action::Hang { .. } => "hang",
            Action::Status { .. } => "status",
            Action::Hold { .. } => "hold",
            Action::HalfBody { .. } => "half_body",
            Action::WrongLength => "wrong_length",
            Action::InvalidJson => "invalid_json",
            Action::GzipBomb { .. } => "gzip_bomb",
            Action::EndlessHead => "endless_head",
            Action::ResponseError { .. } => "response_error",
            Action::SessionLost => "session_lost",
            Action::Conflict => "conflict",
            Action::CallLimit => "call_limit",
            Action::Refuse { .. } => "refuse",
            Action::LoginPage => "login_page",
            Action::SlowAnswer { .. } => "slow_answer",
            Action::Zombie { .. } => "zombie",
            Action::CheckGap { .. } => "check_gap",
            Action::AllOrNothing => "all_or_nothing",
            Action::WrongIndex { .. } => "wrong_index",
            Action::Blind => "blind",
            Action::RateLimit => "rate_limit",
            Action::Ban { .. } => "ban",
            Action::IspError => "isp_error",
            Action::WdtError { .. } => "wdt_error",
            Action::WrongTotal { .. } => "wrong_total",
            Action::NoTotal => "no_total",
            Action::PageShift { .. } => "page_shift",
            Action::Edit { .. } => "edit",
        }
    }
}

/// Which requests meet a fault, and how often.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// `wdt` or `kingdee`; left out, both.
    #[serde(default)]
    pub(crate) system: Option<String>,
    /// A Kingdee operation or a WDT method, in any case; left out, every one.
    #[serde(default)]
    pub(crate) operation: Option<String>,
    /// A document number that the request names.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// The page that a WDT query asks for, counted from 0 through either gateway.
    #[serde(default)]
    pub(crate) page: Option<i64>,
    /// Lets that many matching requests pass first.
    #[serde(default)]
    pub(crate) skip: u64,
    /// Of the rest, strikes every so many.
    #[serde(default = "one")]
    pub(crate) every: u64,
    /// How many times it strikes; left out, once; null, until it is cleared.
    #[serde(default = "once")]
    pub(crate) count: Option<u64>,
    pub(crate) action: Action,
}

fn one() -> u64 {
    1
}

fn once() -> Option<u64> {
    Some(1)
}

/// What a rule can tell of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) system: System,
    pub(crate) operation: &'a str,
    pub(crate) keys: &'a [String],
    /// The page of a WDT query, counted from 0.
    pub(crate) page: Option<i64>,
}

/// A fault that strikes a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strike {
    pub(crate) action: Action,
    /// The rule that it comes from.
    pub(crate) rule: u64,
}

/// A rule at work.
#[derive(Debug, Serialize)]
pub(crate) struct Armed {
    pub(crate) id: u64,
    #[serde(flatten)]
    rule: Rule,
    /// How many requests have matched.
    seen: u64,
    /// How many of them it struck.
    struck: u64,
    /// When a ban that holds is over.
    #[serde(skip)]
    until: Option<Instant>,
}

/// All rules, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    last_id: u64,
}

impl Faults {
    /// Arms a rule and gives back its id. Errors say which member is unusable.
    pub(crate) fn arm(&mut self, rule: Rule) -> Result<u64, String> {
        if rule.every == 0 {
            return Err("every must be at least 1".to_owned());
        }
        if let Some(system) = rule.system.as_deref().filter(|system| !["wdt", "kingdee"].contains(system)) {
            return Err(format!("system {system:?} is neither wdt nor kingdee"));
        }
        self.last_id += 1;
        self.armed.push(Armed { id: self.last_id, rule, seen: 0, struck: 0, until: None });
        Ok(self.last_id)
    }

    /// The rules, spent ones included.
    pub(crate) fn list(&self) -> &[Armed] {
        &self.armed
    }

    /// Clears one rule, or all; gives back how many went.
    pub(crate) fn clear(&mut self, id: Option<u64>) -> usize {
        let before = self.armed.len();
        self.armed.retain(|armed| id.is_some_and(|id| id != armed.id));
        before - self.armed.len()
    }

    /// The action that a request meets: of the first rule that matches and is due.
    pub(crate) fn take(&mut self, asked: &Asked<'_>) -> Option<Strike> {
        let mut armed = self.armed.iter_mut();
        armed.find_map(|armed| Some(Strike { action: armed.strike(asked)?, rule: armed.id }))
    }

    /// Whether a rule is still there, spent or not.
    pub(crate) fn is_armed(&self, id: u64) -> bool {
        self.armed.iter().any(|armed| armed.id == id)
    }
}

impl Armed {
    fn strike(&mut self, asked: &Asked<'_>) -> Option<Action> {
        let Rule { skip, every, count, ref action, .. } = self.rule;
        if !self.rule.matches(asked) {
            return None;
        }
        let left = self.until.and_then(|until| until.checked_duration_since(Instant::now()));
        if let (Some(left), Action::Ban { classic, .. }) = (left, action) {
            self.seen += 1;
            self.struck += 1;
            return Some(Action::Ban { seconds: left.as_secs() + 1, classic: *classic, hold: true });
        }
        if count.is_some_and(|count| self.struck >= count) {
            return None;
        }
        self.seen += 1;
        if self.seen <= skip || !(self.seen - skip - 1).is_multiple_of(every) {
            return None;
        }
        self.struck += 1;
        if let Action::Ban { seconds, hold: true, .. } = action {
            self.until = Instant::now().checked_add(Duration::from_secs(*seconds));
        }
        Some(action.clone())
    }
}

impl Rule {
    fn matches(&self, asked: &Asked<'_>) -> bool {
        self.system.as_deref().is_none_or(|name| name == asked.system.name())
            && self.operation.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(asked.operation))
            && self.key.as_ref().is_none_or(|key| asked.keys.contains(key))
            && self.page.is_none_or(|page| asked.page == Some(page))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Action, Asked, Faults, Rule};
    use crate::ledger::System;

    fn rule(text: &str) -> Rule {
        serde_json::from_str(text).unwrap()
    }

    fn take(faults: &mut Faults) -> Option<Action> {
        asked(faults, System::Wdt, "x", &[])
    }

    fn asked(faults: &mut Faults, system: System, operation: &str, keys: &[String]) -> Option<Action> {
        faults.take(&Asked { system, operation, keys, page: None }).map(|strike| strike.action)
    }

    #[test]
    fn a_rule_strikes_what_it_names_and_only_as_often() {
        let mut faults = Faults::default();
        let text = r#"{"system":"kingdee","operation":"BatchSave","key":"RK1","skip":1,"every":2,"count":2,
            "action":{"kind":"drop","when":"after"}}"#;
        faults.arm(rule(text)).unwrap();
        let keys = ["RK1".to_owned()];
        assert_eq!(asked(&mut faults, System::Wdt, "BatchSave", &keys), None);
        assert_eq!(asked(&mut faults, System::Kingdee, "Submit", &keys), None);
        assert_eq!(asked(&mut faults, System::Kingdee, "BatchSave", &[]), None);
        let strikes: Vec<bool> =
            (0..6).map(|_| asked(&mut faults, System::Kingdee, "batchsave", &keys).is_some()).collect();
        assert_eq!(strikes, [false, true, false, true, false, false]);
    }

    #[test]
    fn a_ban_that_holds_refuses_until_its_seconds_are_over() {
        let mut faults = Faults::default();
        faults.arm(rule(r#"{"action":{"kind":"ban","seconds":3600,"hold":true}}"#)).unwrap();
        let first = take(&mut faults);
        assert_eq!(first, Some(Action::Ban { seconds: 3600, classic: false, hold: true }));
        let Some(Action::Ban { seconds, .. }) = take(&mut faults) else { panic!("no ban") };
        assert!((3500..=3600).contains(&seconds), "{seconds}");
        faults.armed[0].until = Instant::now().checked_sub(Duration::from_millis(1));
        assert_eq!(take(&mut faults), None);
    }

    #[test]
    fn null_counts_for_ever_and_unknown_members_are_refused() {
        let mut faults = Faults::default();
        faults.arm(rule(r#"{"count":null,"action":{"kind":"half_body"}}"#)).unwrap();
        assert!((0..50).all(|_| take(&mut faults) == Some(Action::HalfBody { reset: false })));
        assert_eq!(faults.clear(None), 1);
        assert!(serde_json::from_str::<Rule>(r#"{"cuont":1,"action":{"kind":"half_body"}}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"action":{"kind":"drop","when":"later"}}"#).is_err());
        assert!(faults.arm(rule(r#"{"system":"k3","action":{"kind":"half_body"}}"#)).is_err());
    }
}
