//! What is found when one number is looked at in both books. Pure: the same documents, the same verdict.

use kingpost_connectors::kingdee::{Booked, Content, Days};
use kingpost_scheme::Finish;
use serde::{Deserialize, Serialize};

use super::sort::Keyed;

/// What the source has under one number, as the scheme would post it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Its number in Kingdee; where it can't be told, that in the source.
    pub(crate) number: String,
    /// Its number in the source.
    pub(crate) source: String,
    /// When the source last changed it, in milliseconds since the epoch.
    pub(crate) modified_ms: Option<i64>,
    /// What the scheme makes of it.
    pub(crate) made: Made,
}

/// What a scheme makes of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Made {
    /// A document of this content.
    Model(Box<Content>),
    /// Nothing: the filter leaves it alone.
    Filtered,
    /// Nothing: it was cancelled in the source.
    Cancelled,
    /// A dead letter, for these problems.
    Unmappable(String),
}

impl Keyed for Order {
    fn key(&self) -> &str {
        &self.number
    }
}

impl Keyed for Booked {
    fn key(&self) -> &str {
        &self.number
    }
}

/// One word for what is found under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Finding {
    Matched,
    Different,
    Twice,
    Cancelled,
    OtherPeriod,
    Missing,
    Dead,
    Unmappable,
    Extra,
    Unasked,
    Waiting,
    NotDue,
    Filtered,
    Foreign,
}

impl Finding {
    /// Every word, in the order in which they are told.
    pub(crate) const ALL: [Finding; 14] = [
        Finding::Matched,
        Finding::Different,
        Finding::Twice,
        Finding::Cancelled,
        Finding::OtherPeriod,
        Finding::Missing,
        Finding::Dead,
        Finding::Unmappable,
        Finding::Extra,
        Finding::Unasked,
        Finding::Waiting,
        Finding::NotDue,
        Finding::Filtered,
        Finding::Foreign,
    ];

    /// The word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Finding::Matched => "matched",
            Finding::Different => "different",
            Finding::Twice => "twice",
            Finding::Cancelled => "cancelled",
            Finding::OtherPeriod => "other-period",
            Finding::Missing => "missing",
            Finding::Dead => "dead",
            Finding::Unmappable => "unmappable",
            Finding::Extra => "extra",
            Finding::Unasked => "unasked",
            Finding::Waiting => "waiting",
            Finding::NotDue => "not-due",
            Finding::Filtered => "filtered",
            Finding::Foreign => "foreign",
        }
    }

    /// The finding of a word; nothing for one that isn't known.
    pub(crate) fn of(word: &str) -> Option<Finding> {
        Finding::ALL.into_iter().find(|finding| finding.as_str() == word)
    }

    /// Whether the books differ when there is one of these.
    pub(crate) const fn differs(self) -> bool {
        match self {
            Finding::Different
            | Finding::Twice
            | Finding::Cancelled
            | Finding::OtherPeriod
            | Finding::Missing
            | Finding::Dead
            | Finding::Unmappable
            | Finding::Extra
            | Finding::Unasked => true,
            Finding::Matched | Finding::Waiting | Finding::NotDue | Finding::Filtered | Finding::Foreign => {
                false
            }
        }
    }

    /// What it means and what to do.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Finding::Matched => "both books say the same",
            Finding::Different => "correct the side that is wrong; nothing is overwritten by itself",
            Finding::Twice => {
                "two valid documents have one number: keep one, and delete or cancel the others in Kingdee"
            }
            Finding::Cancelled => {
                "void in Kingdee and valid in the source: enter it again there, or cancel it in the source"
            }
            Finding::OtherPeriod => {
                "the business dates lie in different periods: correct one of them, or carry it over"
            }
            Finding::Missing => {
                "not in Kingdee and nothing explains it: reconcile with --repair FILE sends it"
            }
            Finding::Dead => "mend the cause, then kingpost dead replay NUMBER --reason '…'",
            Finding::Unmappable => "complete it in the source, or mend the scheme or its tables",
            Finding::Extra => "in Kingdee without an order behind it: find out who entered it and why",
            Finding::Unasked => {
                "in Kingdee, and the source wasn't asked for it: see the reason; --ask N asks for more"
            }
            Finding::Waiting => "on its way: run this again later",
            Finding::NotDue => "changed so lately that it need not be there yet: run this again later",
            Finding::Filtered => "the scheme's filter leaves it out; nothing to do",
            Finding::Foreign => {
                "numbers of other kinds, as those typed by hand; --only-prefix and --all-numbers choose"
            }
        }
    }
}

/// What was found under one number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) number: String,
    /// The number in the source; empty where nothing is known of it there.
    pub(crate) source: String,
    pub(crate) modified_ms: Option<i64>,
    pub(crate) finding: Finding,
    /// What exactly, for a person.
    pub(crate) detail: String,
    /// What is to be there.
    pub(crate) ours: Option<Box<Content>>,
    /// What is there, without what is void unless there is nothing else.
    pub(crate) theirs: Vec<Booked>,
}

impl Keyed for Verdict {
    fn key(&self) -> &str {
        &self.number
    }
}

/// What both books are judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) days: Days,
    pub(crate) finish: Finish,
}

/// What the source says of one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has these orders.
    Has(Vec<Order>),
    /// It has one that is not among what is read.
    LeftOut(String),
    /// It has none.
    Absent,
    /// It was not asked, for this reason.
    Unasked(String),
}

impl Rules {
    /// Whether a document's date lies in the period; one without a date is taken to.
    pub(crate) fn holds(&self, content: &Content) -> bool {
        let day = content.date.as_deref().and_then(|day| day.parse().ok());
        day.is_none_or(|day| self.days.from <= day && day < self.days.to)
    }

    /// What is found under a number; nothing when there is nothing to be said in this period.
    pub(crate) fn judge(&self, number: &str, known: Known, booked: Vec<Booked>) -> Option<Verdict> {
        let (live, void): (Vec<Booked>, Vec<Booked>) =
            booked.into_iter().partition(|booked| !booked.cancelled);
        let mut verdict = Verdict {
            number: number.to_owned(),
            source: String::new(),
            modified_ms: None,
            finding: Finding::Matched,
            detail: String::new(),
            ours: None,
            theirs: Vec::new(),
        };
        let orders = match known {
            Known::Has(orders) => newest(orders),
            Known::LeftOut(_) | Known::Absent | Known::Unasked(_) if live.is_empty() => return None,
            Known::LeftOut(reason) => return self.without_order(verdict, live, Finding::Extra, reason),
            Known::Absent => {
                return self.without_order(
                    verdict,
                    live,
                    Finding::Extra,
                    "the source has no such order".into(),
                );
            }
            Known::Unasked(reason) => return self.without_order(verdict, live, Finding::Unasked, reason),
        };
        let first = orders.first()?;
        verdict.source.clone_from(&first.source);
        verdict.modified_ms = first.modified_ms;
        if let [_, second, ..] = orders.as_slice() {
            verdict.detail =
                format!("the orders {} and {} both become {number}", first.source, second.source);
            verdict.finding = Finding::Different;
            verdict.theirs = live;
            return Some(verdict);
        }
        let content = match &first.made {
            Made::Model(content) => content,
            Made::Cancelled if live.is_empty() => return None,
            Made::Cancelled => {
                let reason = "its order was cancelled in the source".to_owned();
                return self.without_order(verdict, live, Finding::Extra, reason);
            }
            Made::Filtered if live.is_empty() => {
                verdict.finding = Finding::Filtered;
                return self.changed_within(&verdict).then_some(verdict);
            }
            Made::Filtered => {
                let reason = "the scheme's filter leaves its order out".to_owned();
                return self.without_order(verdict, live, Finding::Extra, reason);
            }
            Made::Unmappable(problems) => {
                verdict.finding = Finding::Unmappable;
                verdict.detail.clone_from(problems);
                let relevant = match live.as_slice() {
                    [] => self.changed_within(&verdict),
                    some => some.iter().any(|booked| self.holds(&booked.content)),
                };
                verdict.theirs = live;
                return relevant.then_some(verdict);
            }
        };
        verdict.ours = Some(content.clone());
        self.compared(verdict, content, live, void)
    }

    /// A document of Kingdee's that no order stands behind.
    fn without_order(
        &self,
        verdict: Verdict,
        live: Vec<Booked>,
        finding: Finding,
        detail: String,
    ) -> Option<Verdict> {
        let relevant = live.iter().any(|booked| self.holds(&booked.content));
        let detail = match live.as_slice() {
            [_, _, ..] => format!("{detail}; {} documents: {}", live.len(), ids(&live)),
            _ => detail,
        };
        relevant.then_some(Verdict { finding, detail, theirs: live, ..verdict })
    }

    fn compared(
        &self,
        mut verdict: Verdict,
        content: &Content,
        live: Vec<Booked>,
        void: Vec<Booked>,
    ) -> Option<Verdict> {
        let due = self.holds(content);
        let there = live.iter().any(|booked| self.holds(&booked.content));
        if !due && !there {
            return None;
        }
        (verdict.finding, verdict.detail) = match live.as_slice() {
            [] if void.is_empty() => (Finding::Missing, String::new()),
            [] => (Finding::Cancelled, format!("{} void in Kingdee", ids(&void))),
            [one] if due != there => {
                let date = |content: &Content| content.date.clone().unwrap_or_else(|| "none".to_owned());
                let text = format!("date {} there, {} here", date(&one.content), date(content));
                (Finding::OtherPeriod, text)
            }
            [one] => {
                let found = [content.difference(&one.content), self.unfinished(one)];
                let found: Vec<String> = found.into_iter().flatten().collect();
                let finding = if found.is_empty() { Finding::Matched } else { Finding::Different };
                (finding, found.join("; "))
            }
            several => (Finding::Twice, format!("{} documents: {}", several.len(), ids(several))),
        };
        verdict.theirs = if live.is_empty() { void } else { live };
        Some(verdict)
    }

    /// How a document's state differs from what the scheme asks for.
    fn unfinished(&self, booked: &Booked) -> Option<String> {
        let (wanted, enough): (_, &[&str]) = match self.finish {
            Finish::Save => ("saved", &["A", "B", "C", "D"]),
            Finish::Submit => ("submitted", &["B", "C"]),
            Finish::Audit => ("audited", &["C"]),
        };
        let is = match booked.status.as_str() {
            "Z" => "a draft (暂存)",
            "A" => "only saved (创建)",
            "B" => "only submitted (审核中)",
            "C" => "audited (已审核)",
            "D" => "opened again (重新审核)",
            other => other,
        };
        let short = !enough.contains(&booked.status.as_str());
        short.then(|| format!("status: {is} there, to be {wanted} here"))
    }

    /// An order without a model has no business date; the day of its last change stands for it.
    fn changed_within(&self, verdict: &Verdict) -> bool {
        let day = verdict.modified_ms.and_then(super::day_of);
        day.is_none_or(|day| self.days.from <= day && day < self.days.to)
    }
}

fn ids(booked: &[Booked]) -> String {
    let ids: Vec<String> = booked.iter().map(|booked| format!("FID {}", booked.id)).collect();
    ids.join(", ")
}

/// The newest version of each order; of equal ones the one that was read last.
fn newest(orders: Vec<Order>) -> Vec<Order> {
    let mut newest: Vec<Order> = Vec::new();
    for order in orders {
        match newest.iter_mut().find(|known| known.source == order.source) {
            Some(known) if known.modified_ms > order.modified_ms => {}
            Some(known) => *known = order,
            None => newest.push(order),
        }
    }
    newest
}
