//! From letters to a plan.

use std::collections::{BTreeMap, HashMap};

use kingpost_broker::Letter;
use kingpost_model::{FailureKind, Fault, Route, StageName};

use super::{
    REPLAY_HEADER,
    plan::{Cause, Entry, Plan},
};
use crate::{clock::failed_at, ending::Stop};

/// Numbers of a cause that a plan shows.
const SAMPLES: usize = 5;

/// Over how many queues each scheme spreads its loading.
pub(crate) type Shards = BTreeMap<String, u32>;

/// What tells one cause from another: queue, kind, whose fault, and what the failures have in common.
type CauseKey = (String, FailureKind, Fault, String);

/// Gathers the letters of a plan.
pub(crate) struct Planner {
    shards: Shards,
    from_source: bool,
    causes: Vec<Cause>,
    known: HashMap<CauseKey, usize>,
    letters: Vec<Entry>,
    /// Windows among letters whose orders are to be read again.
    windows: usize,
    /// A letter that has nowhere to go.
    homeless: Option<String>,
}

impl Planner {
    /// With `from_source` the orders behind the letters are read again, and go to the transformers.
    pub(crate) fn new(shards: Shards, from_source: bool) -> Self {
        let (causes, known, letters) = (Vec::new(), HashMap::new(), Vec::new());
        Planner { shards, from_source, causes, known, letters, windows: 0, homeless: None }
    }

    /// Adds a letter; letters come in the order of their queues.
    pub(crate) fn add(&mut self, letter: &Letter) {
        let failure = &letter.failure;
        let (stage, scheme) = place(letter);
        if self.from_source && stage == StageName::Extract {
            self.windows += 1;
            return;
        }
        let route = if self.from_source {
            Some(Route::new(StageName::Transform, &*scheme))
        } else {
            destination(letter, stage, &scheme, &self.shards)
        };
        let Some(route) = route else {
            self.homeless.get_or_insert(scheme);
            return;
        };
        let cause = failure.cause();
        let key = (letter.queue.clone(), failure.kind, failure.fault, cause.clone());
        let index = *self.known.entry(key).or_insert_with(|| {
            self.causes.push(Cause {
                scheme,
                stage: stage.as_str().to_owned(),
                queue: letter.queue.clone(),
                kind: failure.kind,
                fault: failure.fault,
                cause,
                count: 0,
                samples: Vec::new(),
                goes_to: Vec::new(),
                first: failure.kind.advice().to_owned(),
            });
            self.causes.len() - 1
        });
        let number = &letter.work.key.number;
        if let Some(cause) = self.causes.get_mut(index) {
            cause.count += 1;
            if cause.samples.len() < SAMPLES && !cause.samples.contains(number) {
                cause.samples.push(number.clone());
            }
            let queue = route.queue();
            if !cause.goes_to.contains(&queue) {
                cause.goes_to.push(queue);
            }
        }
        let identity = letter.identity();
        self.letters.push(Entry {
            cause: index,
            number: number.clone(),
            source_number: letter.work.source_number.clone(),
            id: identity.id,
            sha256: identity.sha256,
            replay: letter.header(REPLAY_HEADER).map(str::to_owned),
            failed_ms: failed_at(letter),
        });
    }

    /// How many letters it holds.
    pub(crate) fn count(&self) -> usize {
        self.letters.len() + self.windows
    }

    /// The plan.
    pub(crate) fn finish(
        mut self,
        id: String,
        created_ms: i64,
        created_by: String,
        selected_by: String,
    ) -> Result<Plan, Stop> {
        if let Some(scheme) = self.homeless {
            return Err(Stop::failed(format!(
                "SCHEMES_DIR has no scheme `{scheme}`, whose file says over how many queues its loading is spread; \
                 without it a letter could be sent to a queue that nobody reads"
            )));
        }
        if self.windows > 0 {
            return Err(Stop::usage(
                "windows of time are among the letters, and no source has such an order; add --stage transform or \
                 --stage load, and replay the windows as they are",
            ));
        }
        self.causes.iter_mut().for_each(|cause| cause.goes_to.sort());
        let mut plan = Plan::new(id, created_ms, created_by, selected_by, self.causes, self.letters);
        plan.from_source = self.from_source;
        Ok(plan)
    }
}

/// Stage and scheme of the queue that a letter lies in, whatever its headers say.
fn place(letter: &Letter) -> (StageName, String) {
    let scheme = letter.queue.split('.').nth(1).unwrap_or_default();
    (letter.work.stage, scheme.to_owned())
}

/// Where a letter goes; nothing when its scheme isn't known and that matters.
pub(super) fn destination(letter: &Letter, stage: StageName, scheme: &str, shards: &Shards) -> Option<Route> {
    match stage {
        StageName::Load => Some(Route::load(scheme, &letter.work.key.number, *shards.get(scheme)?)),
        StageName::Extract | StageName::Transform => Some(Route::new(stage, scheme)),
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureRecord, RecordKey, Work, WorkId};

    use super::*;

    fn letter(stage: StageName, number: &str, text: &str) -> Letter {
        let key = RecordKey::new("STK_InStock", number);
        let work = Work::new(WorkId::new(format!("s-{number}")), stage, "s", key, number.to_owned());
        let record = FailureRecord::of(&Failure::new(FailureKind::BaseData, text), &work, 1, "w/1");
        Letter::of(&work.after_failure(record, false), 1)
    }

    #[test]
    fn letters_of_one_cause_stand_together_and_keep_their_order() {
        let mut planner = Planner::new([("s".to_owned(), 4)].into(), false);
        for (number, text) in [("RK3", "物料[A]不存在"), ("RK1", "供应商[G]已禁用"), ("RK2", "物料[B]不存在")]
        {
            planner.add(&letter(StageName::Load, number, text));
        }
        planner.add(&letter(StageName::Transform, "RK9", "物料[B]不存在"));
        let plan = planner.finish("p".into(), 1, "ops".into(), "--all".into()).unwrap();
        let counts: Vec<_> = plan.causes.iter().map(|cause| (cause.count, cause.samples.join(" "))).collect();
        assert_eq!(counts, [(2, "RK3 RK2".to_owned()), (1, "RK1".to_owned()), (1, "RK9".to_owned())]);
        let numbers: Vec<_> = plan.letters.iter().map(|entry| entry.number.as_str()).collect();
        assert_eq!(numbers, ["RK3", "RK1", "RK2", "RK9"]);
        assert!(plan.causes[0].goes_to.iter().all(|queue| queue.starts_with("load.s.")), "{:?}", plan.causes);
        assert_eq!(plan.causes[2].goes_to, ["transform.s"]);
        assert_eq!(plan.queues().len(), 2);
    }

    #[test]
    fn a_window_has_no_order_that_could_be_read_again() {
        let mut planner = Planner::new([("s".to_owned(), 1)].into(), true);
        planner.add(&letter(StageName::Load, "RK1", "x"));
        planner.add(&letter(StageName::Extract, "w", "x"));
        let stop = planner.finish("p".into(), 1, "ops".into(), String::new()).unwrap_err();
        assert!(stop.exit.code() == 2 && stop.text.contains("--stage load"), "{}", stop.text);
    }

    #[test]
    fn a_scheme_that_is_not_there_is_refused_before_anything_is_planned() {
        let mut planner = Planner::new(Shards::new(), false);
        planner.add(&letter(StageName::Load, "RK1", "x"));
        let stop = planner.finish("p".into(), 1, "ops".into(), String::new()).unwrap_err();
        assert!(stop.text.contains("no scheme `s`"), "{}", stop.text);
        let mut planner = Planner::new(Shards::new(), false);
        planner.add(&letter(StageName::Transform, "RK1", "x"));
        assert!(planner.finish("p".into(), 1, "ops".into(), String::new()).is_ok());
    }
}
