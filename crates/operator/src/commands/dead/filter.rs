//! Which dead letters a command is about.

use std::time::Duration;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use kingpost_broker::Letter;
use kingpost_model::{FailureKind, FailureRecord, StageName, Work};
use sha2::{Digest as _, Sha256};

use crate::clock;
pub(crate) use crate::clock::failed_at;

/// What a letter must have to be chosen; every condition that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which letters")]
pub(crate) struct Filter {
    /// Only this scheme; its file isn't read then
    #[arg(long, value_name = "NAME", value_parser = some)]
    pub(crate) scheme: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "STAGE", value_parser = crate::commands::stage())]
    pub(crate) stage: Option<StageName>,
    /// Only failures of this kind
    #[arg(long, value_name = "KIND", value_parser = kind(), hide_possible_values = true)]
    pub(crate) kind: Option<FailureKind>,
    /// Only letters with this cause: its code in `dead list`, or its text
    #[arg(long, value_name = "CAUSE", value_parser = some)]
    pub(crate) cause: Option<String>,
    /// Only these: the number in the target or in the source, or the id of the message; may be repeated
    #[arg(long = "key", value_name = "NUMBER", value_parser = some)]
    pub(crate) keys: Vec<String>,
    /// Only letters whose failure or body holds this text, in the very same letters
    #[arg(long, value_name = "TEXT", value_parser = some)]
    pub(crate) text: Option<String>,
    /// Only letters that failed longer ago than this: 90m, 2h, 3d
    #[arg(long, value_name = "AGE", value_parser = clock::span)]
    pub(crate) older_than: Option<Duration>,
    /// Only letters that failed within this time: 90m, 2h, 3d
    #[arg(long, value_name = "AGE", value_parser = clock::span)]
    pub(crate) newer_than: Option<Duration>,
}

/// A value that says something: an empty one, as of an unset variable, would be held by every letter.
pub(crate) fn some(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty, and would mean every letter".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// One of the kinds of failure, by its word.
fn kind() -> impl TypedValueParser<Value = FailureKind> {
    PossibleValuesParser::new(FailureKind::ALL.map(FailureKind::as_str)).try_map(|word| {
        FailureKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or("not the name of a kind")
    })
}

impl Filter {
    /// The letters of one number.
    pub(crate) fn of_key(number: impl Into<String>) -> Self {
        Filter { keys: vec![number.into()], ..Filter::default() }
    }

    /// The stages that can hold such letters, in flow order.
    pub(crate) fn stages(&self) -> Vec<StageName> {
        self.stage.map_or(StageName::ALL.to_vec(), |stage| vec![stage])
    }

    /// True when nothing is asked for but scheme and stage, so that everything in those queues is meant.
    pub(crate) fn is_wide(&self) -> bool {
        let places = Filter { scheme: self.scheme.clone(), stage: self.stage, ..Filter::default() };
        *self == places
    }

    /// Whether a letter is meant. `now_ms` is in milliseconds since the epoch.
    pub(crate) fn matches(&self, letter: &Letter, now_ms: i64) -> bool {
        let (work, failure) = (&letter.work, &letter.failure);
        self.scheme.as_ref().is_none_or(|scheme| *scheme == work.scheme)
            && self.stage.is_none_or(|stage| stage == work.stage)
            && self.kind.is_none_or(|kind| kind == failure.kind)
            && (self.keys.is_empty() || self.keys.iter().any(|key| names(work, key)))
            && self.is_of_age(failed_at(letter), now_ms)
            && self.cause.as_ref().is_none_or(|cause| is_cause(failure, cause))
            && self.text.as_ref().is_none_or(|text| holds(work, failure, text))
    }

    /// A letter whose time nobody knows is neither young nor old.
    fn is_of_age(&self, at_ms: Option<i64>, now_ms: i64) -> bool {
        let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let age_ms = at_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        self.older_than.is_none_or(|limit| age_ms.is_some_and(|age_ms| age_ms >= ms(limit)))
            && self.newer_than.is_none_or(|limit| age_ms.is_some_and(|age_ms| age_ms <= ms(limit)))
    }

    /// The filter in words, for a header or the audit trail.
    pub(crate) fn describe(&self) -> String {
        let mut words = Vec::new();
        let mut say = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                words.push(format!("--{name} {value}"));
            }
        };
        let span = |length: Duration| clock::age(i64::try_from(length.as_millis()).unwrap_or(i64::MAX));
        say("scheme", self.scheme.as_deref());
        say("stage", self.stage.map(StageName::as_str));
        say("kind", self.kind.map(FailureKind::as_str));
        say("cause", self.cause.as_deref());
        for key in &self.keys {
            say("key", Some(key));
        }
        say("text", self.text.as_deref());
        say("older-than", self.older_than.map(span).as_deref());
        say("newer-than", self.newer_than.map(span).as_deref());
        if words.is_empty() { "all dead letters".to_owned() } else { words.join(" ") }
    }
}

/// Whether a text names some work: its number in the target, its number in the source, or the id of its message.
pub(crate) fn names(work: &Work, text: &str) -> bool {
    work.key.number == text || work.source_number.as_deref() == Some(text) || work.id.as_str() == text
}

/// A short code for a cause, for a command line: eight hexadecimal digits that are equal for failures of one kind and cause.
pub(crate) fn cause_code(kind: FailureKind, cause: &str) -> String {
    hex::encode(&Sha256::digest(format!("{kind}\n{cause}"))[..4])
}

fn is_cause(failure: &FailureRecord, wanted: &str) -> bool {
    let cause = failure.cause();
    cause_code(failure.kind, &cause) == wanted.to_ascii_lowercase() || cause.contains(wanted)
}

fn holds(work: &Work, failure: &FailureRecord, text: &str) -> bool {
    let words = [Some(failure.text.as_str()), failure.code.as_deref()];
    let problems = failure.problems.iter().flat_map(|problem| [&*problem.field, &*problem.message]);
    words.into_iter().flatten().chain(problems).any(|own| own.contains(text))
        || work.body.windows(text.len().max(1)).any(|part| part == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kingpost_model::{Failure, FieldProblem};

    use super::{super::show::tests::letter, *};

    const NOW_MS: i64 = 1_767_200_400_000;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(arguments: &[&str]) -> Filter {
        Line::try_parse_from([&["x"], arguments].concat()).unwrap().filter
    }

    fn sample() -> Letter {
        let problem = FieldProblem {
            field: "FMaterialId".into(),
            message: "物料[SP-9]不存在".into(),
            ..FieldProblem::default()
        };
        let failure =
            Failure::new(FailureKind::BaseData, "refused").with_code("11").with_problems(vec![problem]);
        let mut letter = letter(StageName::Load, "RK1", failure, NOW_MS - 2 * 3_600_000);
        letter.work.source_number = Some("CG7".into());
        letter
    }

    #[test]
    fn every_condition_that_is_given_has_to_hold() {
        let code = cause_code(FailureKind::BaseData, "FMaterialId: 物料[…]不存在");
        for (arguments, expected) in [
            (&[][..], true),
            (&["--scheme", "purchase-stockin", "--stage", "load", "--kind", "base-data"], true),
            (&["--scheme", "another"], false),
            (&["--stage", "transform"], false),
            (&["--kind", "refused"], false),
            (&["--key", "RK1"], true),
            (&["--key", "CG7"], true),
            (&["--key", "purchase-stockin-RK1"], true),
            (&["--key", "RK"], false),
            (&["--key", "RK9", "--key", "RK1"], true),
            (&["--text", "SP-9"], true),
            (&["--text", "\"FRealQty\":12.3400"], true),
            (&["--text", "sp-9"], false),
            (&["--cause", "物料[…]不存在"], true),
            (&["--cause", &code], true),
            (&["--cause", &code.to_uppercase()], true),
            (&["--cause", "00000000"], false),
            (&["--older-than", "90m"], true),
            (&["--older-than", "3h"], false),
            (&["--newer-than", "3h"], true),
            (&["--newer-than", "90m"], false),
            (&["--key", "RK1", "--kind", "refused"], false),
        ] {
            assert_eq!(filter(arguments).matches(&sample(), NOW_MS), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_letter_of_unknown_age_is_neither_young_nor_old() {
        let mut letter = sample();
        letter.failure.at_ms = 0;
        letter.published_s = None;
        assert!(filter(&[]).matches(&letter, NOW_MS));
        assert!(!filter(&["--older-than", "1s"]).matches(&letter, NOW_MS));
        assert!(!filter(&["--newer-than", "99d"]).matches(&letter, NOW_MS));
        letter.published_s = Some(1_767_200_400 - 60);
        assert!(filter(&["--newer-than", "2m"]).matches(&letter, NOW_MS));
    }

    #[test]
    fn a_filter_without_conditions_is_wide_and_can_be_told_in_words() {
        assert!(filter(&["--scheme", "s", "--stage", "load"]).is_wide());
        assert!(!filter(&["--key", "RK1"]).is_wide());
        assert_eq!(Filter::default().describe(), "all dead letters");
        let told = filter(&["--kind", "base-data", "--older-than", "90m"]).describe();
        assert_eq!(told, "--kind base-data --older-than 1 h 30 min");
        assert_eq!(filter(&["--key", "RK1"]), Filter::of_key("RK1"));
    }

    #[test]
    fn an_age_or_a_kind_that_is_none_is_a_wrong_command_line() {
        for wrong in [["--older-than", "soon"], ["--kind", "sad"], ["--stage", "post"]].into_iter().chain(
            // What an unset variable leaves would mean every letter without a question.
            ["--cause", "--text", "--key", "--scheme"].map(|name| [name, " "]),
        ) {
            assert!(Line::try_parse_from(["x", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
        }
    }
}
