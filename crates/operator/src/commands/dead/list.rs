use std::{collections::HashSet, fmt::Write as _};

use clap::Args;
use comfy_table::{Cell, CellAlignment, Table};
use kingpost_broker::DeadLetter;
use kingpost_model::{FailureKind, Fault, StageName};
use serde::Serialize;

use super::read::read;
use crate::{
    clock,
    ending::{Report, Stop},
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead list
  kingpost dead list --scheme purchase-stockin --stage load
  kingpost dead list --json | jq -r 'select(.kind == \"base-data\") | .numbers[]'

Letters are read and put back; none is taken. Failures of one cause differ only in numbers and quoted names,
which are left out. --json prints one object per group and line.";

/// Columns from which on a group's place and time have columns of their own.
const WIDE: u16 = 72;

/// List dead letters by cause: how many, since when, an example, whose fault, what to do
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct List {
    /// Only this scheme; its file isn't read then
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "STAGE", value_parser = crate::commands::stage())]
    stage: Option<StageName>,
    /// Read at most so many letters of each queue
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object per group, with the numbers of all its letters
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let stages = self.stage.map_or(StageName::ALL.to_vec(), |stage| vec![stage]);
        let reading = read(session, self.scheme.as_deref(), &stages, self.limit).await?;
        let notes = reading.notes()?;
        let groups = groups(&reading.letters, session.now_ms);
        let out = if self.json {
            lines(&groups)?
        } else if groups.is_empty() && reading.cut.is_empty() {
            format!("no dead letters in {}\n", counted(reading.queues - reading.missing.len(), "queue"))
        } else {
            tables(&groups, session.width)
        };
        Ok(Report::done(out).with_notes(notes))
    }
}

/// Dead letters that one remedy mends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Group {
    scheme: String,
    #[serde(serialize_with = "word")]
    stage: StageName,
    kind: FailureKind,
    fault: Fault,
    /// What their failures have in common.
    cause: String,
    count: usize,
    /// The oldest failure, in Beijing time; nothing where the broker gave up and left no time.
    oldest: Option<String>,
    oldest_ms: Option<i64>,
    age_seconds: Option<i64>,
    /// The number of the oldest letter.
    example: String,
    /// Every number, once, in the order of the queue.
    numbers: Vec<String>,
    advice: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn word<S: serde::Serializer>(stage: &StageName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.as_str())
}

impl Group {
    fn of(letter: &DeadLetter, cause: String) -> Self {
        let failure = &letter.failure;
        Group {
            scheme: letter.work.scheme.clone(),
            stage: letter.work.stage,
            kind: failure.kind,
            fault: failure.fault,
            cause,
            count: 0,
            oldest: None,
            oldest_ms: None,
            age_seconds: None,
            example: letter.work.key.number.clone(),
            numbers: Vec::new(),
            advice: failure.kind.advice(),
        }
    }

    fn holds(&self, letter: &DeadLetter, cause: &str) -> bool {
        let (work, failure) = (&letter.work, &letter.failure);
        (&*self.scheme, self.stage, self.kind, self.fault, &*self.cause)
            == (&*work.scheme, work.stage, failure.kind, failure.fault, cause)
    }

    fn add(&mut self, letter: &DeadLetter) {
        self.count += 1;
        // 0 stands for a time that isn't known.
        let at_ms = Some(letter.failure.at_ms).filter(|at_ms| *at_ms > 0);
        if let Some(at_ms) = at_ms
            && self.oldest_ms.is_none_or(|oldest| at_ms < oldest)
        {
            self.oldest_ms = Some(at_ms);
            self.example.clone_from(&letter.work.key.number);
        }
        self.numbers.push(letter.work.key.number.clone());
    }

    fn finish(&mut self, now_ms: i64) {
        self.oldest = self.oldest_ms.and_then(clock::rfc3339);
        self.age_seconds = self.oldest_ms.map(|oldest| now_ms.saturating_sub(oldest).max(0) / 1_000);
        let mut seen = HashSet::new();
        self.numbers.retain(|number| seen.insert(number.clone()));
    }
}

/// Groups letters by scheme, stage, kind, fault and cause: in the order of schemes and stages, the largest first.
fn groups(letters: &[DeadLetter], now_ms: i64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for letter in letters {
        let cause = letter.failure.cause();
        let at = match groups.iter().position(|group| group.holds(letter, &cause)) {
            Some(at) => at,
            None => {
                groups.push(Group::of(letter, cause));
                groups.len() - 1
            }
        };
        groups[at].add(letter);
    }
    groups.iter_mut().for_each(|group| group.finish(now_ms));
    groups.sort_by(|a, b| {
        let place = |group: &Group| (group.scheme.clone(), group.stage);
        place(a).cmp(&place(b)).then(b.count.cmp(&a.count)).then(a.oldest_ms.cmp(&b.oldest_ms))
    });
    groups
}

fn lines(groups: &[Group]) -> Result<String, Stop> {
    let mut out = String::new();
    for group in groups {
        let line = serde_json::to_string(group).map_err(|error| Stop::bug(error.to_string()))?;
        out.push_str(&line);
        out.push('\n');
    }
    Ok(out)
}

fn tables(groups: &[Group], width: u16) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for groups in groups.chunk_by(|a, b| a.scheme == b.scheme) {
        let letters = counted(groups.iter().map(|group| group.count).sum(), "dead letter");
        let scheme = groups.first().map_or("", |group| group.scheme.as_str());
        // Writing to a String can't fail.
        let _ = writeln!(out, "{}: {letters}, {}\n", plain(scheme), counted(groups.len(), "cause"));
        out.push_str(&terminal::lines(&table(groups, width)));
        out.push('\n');
    }
    out.push_str("`kingpost dead show NUMBER` tells everything about one of them.\n");
    out
}

/// In a narrow terminal everything but the count stands in one column, since columns of a few letters can't be read.
fn table(groups: &[Group], width: u16) -> Table {
    let mut table = terminal::table(width, true);
    let wide = width >= WIDE;
    if wide {
        table.set_header(["count", "where", "oldest, example", "cause, and what to do"]);
    } else {
        table.set_header(["count", "cause, and what to do"]);
    }
    for group in groups {
        let count = Cell::new(group.count).set_alignment(CellAlignment::Right);
        let place = format!("{}\n{}\nfault: {}", group.stage, group.kind, group.fault.as_str());
        let oldest = match (group.oldest_ms, group.age_seconds) {
            (Some(ms), Some(age)) => format!("{}\n{} ago", clock::beijing(ms), clock::age(age * 1_000)),
            _ => "time unknown".to_owned(),
        };
        let oldest = plain(&format!("{oldest}\n{}", group.example));
        let cause = plain(&format!("{}\n-> {}", group.cause, group.advice));
        if wide {
            table.add_row([count, Cell::new(place), Cell::new(oldest), Cell::new(cause)]);
        } else {
            let place = place.replace('\n', ", ");
            table.add_row([count, Cell::new(format!("{cause}\n{place}\n{oldest}"))]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use kingpost_model::Failure;

    use super::super::show::tests::letter;
    use super::*;

    const NOW_MS: i64 = 1_767_200_400_000;
    const HOUR_MS: i64 = 3_600_000;

    fn base_data(number: &str, material: &str, hours_ago: i64) -> DeadLetter {
        let failure =
            Failure::new(FailureKind::BaseData, format!("物料[{material}]不存在或未审核,请检查基础资料"));
        letter(StageName::Load, number, failure, NOW_MS - hours_ago * HOUR_MS)
    }

    fn sample() -> Vec<DeadLetter> {
        let malformed = Failure::new(FailureKind::Malformed, "not a readable document at 1:1");
        let conflict = Failure::new(FailureKind::Conflict, "RK9 is there with other lines");
        vec![
            letter(StageName::Load, "RK9", conflict, NOW_MS - HOUR_MS),
            base_data("RK1", "SP-1", 2),
            base_data("RK2", "SP-2", 30),
            base_data("RK1", "SP-7", 1),
            letter(StageName::Transform, "RK5", malformed, 0),
        ]
    }

    #[test]
    fn letters_of_one_cause_are_one_group_with_all_numbers() {
        let groups = groups(&sample(), NOW_MS);
        let shape: Vec<_> = groups.iter().map(|g| (g.stage.as_str(), g.kind.as_str(), g.count)).collect();
        let expected = [("transform", "malformed", 1), ("load", "base-data", 3), ("load", "conflict", 1)];
        assert_eq!(shape, expected, "stages in flow order, the largest group first");
        assert_eq!(groups[1].numbers, ["RK1", "RK2"]);
        assert_eq!(groups[1].example, "RK2", "the oldest letter is the example");
        assert_eq!(groups[1].age_seconds, Some(30 * 3_600));
        assert_eq!(groups[1].oldest.as_deref(), Some("2025-12-30T19:00:00+08:00"));
    }

    #[test]
    fn another_stage_scheme_kind_or_fault_is_another_group() {
        let mut letters = vec![base_data("RK1", "SP-1", 1); 4];
        letters[1].work.stage = StageName::Transform;
        letters[2].work.scheme = "another".into();
        letters[3].failure.fault = Fault::Us;
        assert_eq!(groups(&letters, NOW_MS).len(), 4);
    }

    #[test]
    fn a_time_that_is_unknown_is_not_the_oldest() {
        let mut letters = vec![base_data("RK1", "SP-1", 1), base_data("RK2", "SP-1", 5)];
        letters[1].failure.at_ms = 0;
        let group = &groups(&letters, NOW_MS)[0];
        assert_eq!((group.example.as_str(), group.age_seconds), ("RK1", Some(3_600)));
        letters.remove(0);
        assert_eq!(groups(&letters, NOW_MS)[0].oldest, None);
        assert!(tables(&groups(&letters, NOW_MS), 80).contains("time unknown"));
    }

    #[test]
    fn a_line_of_json_holds_the_whole_group() {
        let text = lines(&groups(&sample(), NOW_MS)).unwrap();
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 3);
        let group = &objects[1];
        assert_eq!(group["scheme"], "purchase-stockin");
        assert_eq!(group["stage"], "load");
        assert_eq!(group["kind"], "base-data");
        assert_eq!(group["fault"], "data");
        assert_eq!(group["count"], 3);
        assert_eq!(group["numbers"], serde_json::json!(["RK1", "RK2"]));
        assert_eq!(group["oldest_ms"], NOW_MS - 30 * HOUR_MS);
        assert_eq!(group["advice"], FailureKind::BaseData.advice());
        assert!(objects[0]["oldest_ms"].is_null());
    }

    #[test]
    fn a_table_tells_count_age_example_fault_cause_and_remedy() {
        let text = tables(&groups(&sample(), NOW_MS), 160);
        assert!(text.starts_with("purchase-stockin: 5 dead letters, 3 causes\n"), "{text}");
        for part in ["2025-12-30 19:00:00", "1 d 6 h ago", "RK2", "fault: data", "物料[…]不存在或未审核"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.contains(FailureKind::BaseData.advice()), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let columns = |line: &str| line.chars().map(|c| if c >= '\u{2e80}' { 2 } else { 1 }).sum::<usize>();
        let groups = groups(&sample(), NOW_MS);
        for width in [20_u16, 40, 60, 72, 80, 100, 140, 200] {
            let text = tables(&groups, width);
            let rows = text.lines().filter(|line| line.contains('|') || line.contains("-+-"));
            let widest = rows.map(columns).max().unwrap_or_default();
            assert!(widest > 0 && widest <= usize::from(width), "{widest} columns of {width}:\n{text}");
            assert!(text.contains("RK9") && text.contains("base-data"), "{width}:\n{text}");
        }
    }
}
