//! The one table from a failure to what happens next.

use std::{fmt::Write as _, time::Duration};

use crate::{Failure, FailureKind};

/// One retry delay; each has a queue of its own, because a shared queue delivers in the order of arrival and a
/// long delay at its head would hold back the short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The name of its exchange and queue.
    pub queue: &'static str,
    /// The delay.
    pub delay: Duration,
}

/// The retry tiers, shortest first. A burst that failed together comes back together: the delay is the queue's own, and
/// one per message would only block behind its head; the pace of whoever receives it takes the edge off.
pub const RETRY_TIERS: [Tier; 5] = [
    Tier { queue: "wait.5s", delay: Duration::from_secs(5) },
    Tier { queue: "wait.30s", delay: Duration::from_secs(30) },
    Tier { queue: "wait.3m", delay: Duration::from_secs(180) },
    Tier { queue: "wait.20m", delay: Duration::from_secs(1_200) },
    Tier { queue: "wait.2h", delay: Duration::from_secs(7_200) },
];

impl Tier {
    /// The word for it in metrics, logs and tables, such as `30s`.
    pub fn name(&self) -> &'static str {
        self.queue.trim_start_matches("wait.")
    }

    /// The shortest tier that waits at least that long, or the longest there is.
    pub fn at_least(after: Duration) -> Tier {
        let [.., longest] = RETRY_TIERS;
        RETRY_TIERS.into_iter().find(|tier| tier.delay >= after).unwrap_or(longest)
    }
}

/// What happens to one item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing is left to do.
    Done,
    /// Try again.
    Retry {
        /// After at least this long.
        after: Duration,
        /// Whether the try counts as an attempt.
        counted: bool,
        /// Why.
        failure: Failure,
    },
    /// Put it in the dead-letter queue until a person has mended the cause.
    Dead {
        /// Why.
        failure: Failure,
    },
}

const fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// How a kind is retried: the delays after the first, second, … counted try; when they are used up the work is dead.
const fn delays(kind: FailureKind) -> &'static [Duration] {
    const NEVER: &[Duration] = &[];
    const LOOK_UPS: &[Duration] =
        &[seconds(5), seconds(30), seconds(180), seconds(180), seconds(180), seconds(1_200), seconds(1_200)];
    const CLIMB: &[Duration] = &[seconds(5), seconds(30), seconds(180), seconds(1_200), seconds(7_200)];
    const WINDOW: &[Duration] = &[seconds(30), seconds(180), seconds(1_200), seconds(1_200)];
    const BRIEF: &[Duration] = &[seconds(5), seconds(30), seconds(180)];
    const OUTAGE: &[Duration] = &[seconds(30)];
    match kind {
        FailureKind::Malformed
        | FailureKind::Unmappable
        | FailureKind::BaseData
        | FailureKind::Refused
        | FailureKind::Conflict => NEVER,
        FailureKind::Unclear => LOOK_UPS,
        FailureKind::Transient => CLIMB,
        FailureKind::Incomplete => WINDOW,
        FailureKind::Internal => BRIEF,
        FailureKind::Throttled | FailureKind::Unavailable | FailureKind::Configuration => OUTAGE,
    }
}

/// Decides what happens to work that failed on its `attempt`-th counted try (from 1).
///
/// Data errors die at once; passing obstacles climb the tiers; an outage or a wrong configuration says nothing
/// about the document, so it is waited out, not counted, and never kills it. Neither is it counted when a document was
/// only looked up, because a write of somebody else may still be running.
pub fn decide(failure: Failure, attempt: u32) -> Verdict {
    let delays = delays(failure.kind);
    let waits = failure.kind == FailureKind::Unclear && !failure.in_flight;
    let counted = !failure.kind.is_outage() && !waits;
    let step = if counted { usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX) } else { 0 };
    match delays.get(step) {
        Some(delay) => {
            let after = failure.retry_after.unwrap_or(*delay);
            Verdict::Retry { after, counted, failure }
        }
        None => Verdict::Dead { failure },
    }
}

/// The table as Markdown, for the runbook and for people.
pub fn failure_table() -> String {
    let mut table =
        String::from("| kind | usual fault | what happens | what to do |\n| --- | --- | --- | --- |\n");
    for kind in FailureKind::ALL {
        let delays: Vec<String> = delays(kind).iter().map(|d| Tier::at_least(*d).name().to_owned()).collect();
        let happens = if delays.is_empty() {
            "dead letter at once".to_owned()
        } else if kind.is_outage() {
            format!("tried again every {}, not counted, never dead", delays.join(", "))
        } else {
            let waits = if kind == FailureKind::Unclear {
                "; while it only waits for somebody else's write it is looked up every 30s, not counted"
            } else {
                ""
            };
            format!("tried again after {}, then dead letter{waits}", delays.join(", "))
        };
        let fault = kind.usual_fault().as_str();
        // Writing to a String can't fail.
        let _ = writeln!(table, "| `{kind}` | {fault} | {happens} | {} |", kind.advice());
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = FailureKind> {
        proptest::sample::select(FailureKind::ALL.to_vec())
    }

    #[test]
    fn a_delay_takes_the_shortest_tier_that_is_long_enough() {
        assert_eq!(Tier::at_least(Duration::ZERO).queue, "wait.5s");
        assert_eq!(Tier::at_least(seconds(6)).queue, "wait.30s");
        assert_eq!(Tier::at_least(seconds(1_200)).queue, "wait.20m");
        assert_eq!(Tier::at_least(seconds(90_000)).queue, "wait.2h");
    }

    #[test]
    fn a_ban_is_waited_out_for_as_long_as_it_lasts() {
        let failure = Failure::new(FailureKind::Throttled, "limit").retry_after(seconds(600));
        let Verdict::Retry { after, counted: false, .. } = decide(failure, 1) else { panic!("must wait") };
        assert_eq!(after, seconds(600));
    }

    proptest! {
        #[test]
        fn only_evidence_about_the_document_kills_it(kind in kind(), attempt in 0_u32..1_000) {
            let verdict = decide(Failure::new(kind, "x"), attempt);
            if kind.is_outage() {
                let waits = matches!(verdict, Verdict::Retry { counted: false, .. });
                prop_assert!(waits);
            }
        }

        #[test]
        fn counted_retries_end(kind in kind()) {
            let last = decide(Failure::new(kind, "x").leaving_a_write_in_flight(), 1_000);
            let dead = matches!(last, Verdict::Dead { .. });
            prop_assert!(kind.is_outage() || dead);
        }
    }

    #[test]
    fn waiting_for_somebody_elses_write_is_no_attempt() {
        let failure = Failure::new(FailureKind::Unclear, "not found yet");
        assert!(matches!(decide(failure.clone(), 1_000), Verdict::Retry { counted: false, .. }));
        assert!(matches!(decide(failure.leaving_a_write_in_flight(), 1_000), Verdict::Dead { .. }));
    }

    #[test]
    fn data_errors_die_on_the_first_try() {
        for kind in
            [FailureKind::Unmappable, FailureKind::BaseData, FailureKind::Refused, FailureKind::Conflict]
        {
            assert!(matches!(decide(Failure::new(kind, "x"), 1), Verdict::Dead { .. }), "{kind}");
        }
    }

    /// Every kind by attempt: the queue it waits in, with `=` where the try isn't counted, or `dead`.
    const VERDICTS: &str = "\
malformed        dead   dead   dead   dead   dead   dead   dead   dead
unmappable       dead   dead   dead   dead   dead   dead   dead   dead
base-data        dead   dead   dead   dead   dead   dead   dead   dead
refused          dead   dead   dead   dead   dead   dead   dead   dead
conflict         dead   dead   dead   dead   dead   dead   dead   dead
unclear          5s     30s    3m     3m     3m     20m    20m    dead
unclear, waits   5s=    5s=    5s=    5s=    5s=    5s=    5s=    5s=
transient        5s     30s    3m     20m    2h     dead   dead   dead
throttled        30s=   30s=   30s=   30s=   30s=   30s=   30s=   30s=
unavailable      30s=   30s=   30s=   30s=   30s=   30s=   30s=   30s=
configuration    30s=   30s=   30s=   30s=   30s=   30s=   30s=   30s=
incomplete       30s    3m     20m    20m    dead   dead   dead   dead
internal         5s     30s    3m     dead   dead   dead   dead   dead
";

    #[test]
    fn each_kind_has_its_verdict_at_each_attempt() {
        let verdict = |failure: &Failure, attempt| match decide(failure.clone(), attempt) {
            Verdict::Done => "done".to_owned(),
            Verdict::Dead { .. } => "dead".to_owned(),
            Verdict::Retry { after, counted, .. } => {
                let tier = Tier::at_least(after).queue.trim_start_matches("wait.");
                format!("{tier}{}", if counted { "" } else { "=" })
            }
        };
        let mut found = String::new();
        for kind in FailureKind::ALL {
            let failure = Failure::new(kind, "x");
            let mut rows = vec![(kind.as_str().to_owned(), failure.clone().leaving_a_write_in_flight())];
            // A write in flight makes a difference to one kind alone.
            for attempt in 1..=8 {
                let sent = verdict(&failure.clone().leaving_a_write_in_flight(), attempt);
                if sent != verdict(&failure, attempt) {
                    rows.insert(1, (format!("{kind}, waits"), failure.clone()));
                    break;
                }
            }
            for (name, failure) in rows {
                let cells: Vec<String> =
                    (1..=8).map(|attempt| format!("{:<6}", verdict(&failure, attempt))).collect();
                found.push_str(format!("{name:<16} {}", cells.join(" ")).trim_end());
                found.push('\n');
            }
        }
        assert_eq!(found, VERDICTS);
    }

    #[test]
    fn the_table_has_a_row_for_every_kind() {
        let table = failure_table();
        assert_eq!(table.lines().count(), 2 + FailureKind::ALL.len());
        assert!(
            table.contains(
                "| `transient` | target | tried again after 5s, 30s, 3m, 20m, 2h, then dead letter |"
            )
        );
        assert!(table.contains("then dead letter; while it only waits for somebody else's write"));
    }
}
