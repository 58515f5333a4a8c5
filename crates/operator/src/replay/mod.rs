//! Sending dead letters again: a plan freezes which, a ladder of canary steps says how many at a time, custody moves them
//! without losing one, and the workers' reports tell what became of each.

mod ladder;
mod lane;
mod ledger;
mod plan;
mod progress;
mod rate;
mod run;
mod select;

use kingpost_broker::{Destination, Letter, Posting};
use kingpost_model::{BoxFuture, Origin, Route};

pub(crate) use ladder::{Rules, Why};
pub(crate) use lane::LaneEnd;
pub(crate) use ledger::Fate;
pub(crate) use plan::{Cause, Plan};
pub(crate) use run::{Ended, Order, run};
pub(crate) use select::{Planner, Shards};

/// The header that names the plan which sent a message again.
pub(crate) const REPLAY_HEADER: &str = "kingpost-replay";
/// The header that says which letter of the plan it is.
const ENTRY_HEADER: &str = "kingpost-replay-entry";

/// Makes the work behind a letter anew, from what the source has now.
pub(crate) trait Remake: Send + Sync {
    /// Work to be sent instead of the letter's own, reporting to a queue.
    ///
    /// # Errors
    /// Why there is none, for a person; the letter stays then.
    fn remake<'a>(&'a self, letter: &'a Letter, reply_to: &'a str) -> BoxFuture<'a, Result<Posting, Unmade>>;
}

/// Why there is nothing to be sent instead of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmade {
    /// For a person.
    pub(crate) text: String,
    /// The source failed, and would fail for other letters as well.
    pub(crate) source_failed: bool,
}

impl Unmade {
    /// It is a matter of this order alone.
    pub(crate) fn of_order(text: String) -> Self {
        Unmade { text, source_failed: false }
    }
}

/// The copy of a letter that is sent again: same id, same body, its whole history, looked up before it is posted, counted
/// anew, and reporting to the plan.
fn copy(letter: &Letter, route: Route, plan: &str, replies: &str, entry: usize) -> Posting {
    let mut work = letter.work.clone();
    work.attempt = 1;
    work.origin = Origin::Replay;
    work.verify = true;
    work.reply_to = Some(replies.to_owned());
    marked(Posting { destination: Destination::Work(route), work }, plan, entry)
}

/// Marks a message with its plan and its place in it.
fn marked(mut posting: Posting, plan: &str, entry: usize) -> Posting {
    let headers = &mut posting.work.headers;
    headers.retain(|(name, _)| name != REPLAY_HEADER && name != ENTRY_HEADER);
    // First, because there is room for so many foreign headers only.
    headers.insert(0, (REPLAY_HEADER.to_owned(), plan.to_owned()));
    headers.insert(1, (ENTRY_HEADER.to_owned(), entry.to_string()));
    posting
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureKind, FailureRecord, RecordKey, StageName, Work, WorkId};

    use super::*;

    #[test]
    fn a_copy_keeps_identity_and_history_and_starts_its_count_anew() {
        let key = RecordKey::new("STK_InStock", "RK1");
        let mut work = Work::new(WorkId::new("s-RK1"), StageName::Load, "s", key, "{\"a\":1.00}");
        work.write_key = Some("CG2404210003".into());
        work.attempt = 6;
        work.unclear_since_ms = Some(9);
        work.headers = vec![("ticket".into(), "T-1".into()), (REPLAY_HEADER.into(), "an-older-plan".into())];
        let failure = Failure::new(FailureKind::Unclear, "no answer");
        let record = FailureRecord::of(&failure, &work, 5, "w/1");
        let letter = Letter::of(&work.after_failure(record, true), 1);
        let shards = [("s".to_owned(), 8)].into();
        let route = select::destination(&letter, StageName::Load, "s", &shards).unwrap();
        let posting = copy(&letter, route, "p-1", "replay.p-1", 4);
        assert_eq!(posting.destination, Destination::Work(Route::load("s", "RK1", 8)));
        let copy = posting.work;
        assert_eq!((copy.attempt, copy.origin, copy.verify), (1, Origin::Replay, true));
        assert_eq!((&copy.id, &copy.body), (&letter.work.id, &letter.work.body));
        assert_eq!(copy.unclear_since_ms, Some(9));
        assert_eq!(
            (&copy.first_failure, &copy.last_failure),
            (&letter.work.first_failure, &letter.work.last_failure)
        );
        assert_eq!(copy.reply_to.as_deref(), Some("replay.p-1"));
        let headers: Vec<_> = copy.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(headers, ["kingpost-replay=p-1", "kingpost-replay-entry=4", "ticket=T-1"]);
    }
}
