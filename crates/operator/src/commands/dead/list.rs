use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    ops::ControlFlow,
};

use clap::Args;
use comfy_table::{Cell, CellAlignment, Table};
use kingpost_broker::Letter;
use kingpost_model::{FailureKind, Fault, StageName};
use kingpost_settings::Exit;
use serde::Serialize;
use serde_json::json;

use super::{
    filter::{Filter, cause_code, failed_at},
    read::Places,
};
use crate::{
    clock,
    ending::{Report, Stop},
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead list
  kingpost dead list --scheme purchase-stockin --stage load --older-than 2h
  kingpost dead list --text SP-1001 --letters
  kingpost dead list --json | jq -r 'select(.kind == \"base-data\") | [.code, .count, .cause] | @tsv'

Letters are read and put back; none is taken. Failures of one cause differ only in numbers and quoted names,
which are left out; its code stands for it on a command line. --json prints one object per cause, with --letters
one per letter, and line.";

/// Columns from which on a group's place and time have columns of their own.
const WIDE: u16 = 72;
/// Causes that a table shows of one scheme; more can't be read any more.
const ROWS: usize = 40;
/// Numbers that are kept of one cause.
const SAMPLES: usize = 5;

/// List dead letters by cause: how many, since when, examples, whose fault, what to do
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct List {
    /// Look at so many letters of each queue at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// List every letter by itself, in the order of the queue
    #[arg(long)]
    letters: bool,
    /// Print one JSON object per cause or letter
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let places = Places::of(session, &self.filter)?;
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let (mut groups, mut count) = (Groups::default(), 0_usize);
        let mut out = std::io::stdout().lock();
        let each = |letter: Letter| {
            count += 1;
            if !self.letters {
                groups.add(&letter);
                return ControlFlow::Continue(());
            }
            let line = match self.json {
                true => object(&letter).to_string(),
                false => row(&letter, session.now_ms, session.width),
            };
            // A reader that went away, such as `head`, has seen enough.
            match writeln!(out, "{line}") {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let reading = Box::pin(places.scan(&self.filter, session.now_ms, limit, each)).await?;
        let mut notes = reading.notes()?;
        let groups = groups.finish(session.now_ms);
        let nothing = count == 0 && reading.is_whole();
        let out = if self.letters {
            notes.push_str(&format!("{}\n", counted(count, "dead letter")));
            String::new()
        } else if self.json {
            lines(&groups)?
        } else if nothing && reading.looked > 0 {
            format!(
                "none of {} is meant by {}\n",
                counted(reading.looked, "dead letter"),
                self.filter.describe()
            )
        } else if nothing {
            format!("no dead letters in {}\n", counted(reading.there(), "queue"))
        } else if count == 0 {
            "no dead letters are in sight\n".to_owned()
        } else {
            tables(&groups, session.width)
        };
        // A script that counts must not take for few what it was not shown.
        let exit = if reading.is_hidden() { Exit::Failed } else { Exit::Done };
        Ok(Report { out, notes, exit })
    }
}

/// Dead letters that one remedy mends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct Group {
    pub(in crate::commands) scheme: String,
    #[serde(serialize_with = "word")]
    pub(in crate::commands) stage: StageName,
    pub(in crate::commands) kind: FailureKind,
    fault: Fault,
    /// Stands for kind and cause on a command line.
    pub(in crate::commands) code: String,
    /// What their failures have in common.
    pub(in crate::commands) cause: String,
    /// Letters.
    pub(in crate::commands) count: usize,
    /// Different numbers among them: an order that is read twice, in overlapping windows, dies twice.
    orders: usize,
    /// The oldest failure, in Beijing time; nothing where nobody knows the time.
    oldest: Option<String>,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    /// Of the oldest failure.
    age_seconds: Option<i64>,
    /// The number of the oldest letter.
    pub(in crate::commands) example: String,
    /// The first numbers, each once, in the order of the queue.
    samples: Vec<String>,
    advice: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn word<S: serde::Serializer>(stage: &StageName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.as_str())
}

impl Group {
    fn of(letter: &Letter, cause: String) -> Self {
        let failure = &letter.failure;
        Group {
            scheme: letter.work.scheme.clone(),
            stage: letter.work.stage,
            kind: failure.kind,
            fault: failure.fault,
            code: cause_code(failure.kind, &cause),
            cause,
            count: 0,
            orders: 0,
            oldest: None,
            oldest_ms: None,
            newest_ms: None,
            age_seconds: None,
            example: letter.work.key.number.clone(),
            samples: Vec::new(),
            advice: failure.kind.advice(),
        }
    }

    fn add(&mut self, letter: &Letter) {
        self.count += 1;
        let number = &letter.work.key.number;
        if let Some(at_ms) = failed_at(letter) {
            if self.oldest_ms.is_none_or(|oldest| at_ms < oldest) {
                self.oldest_ms = Some(at_ms);
                self.example.clone_from(number);
            }
            self.newest_ms = self.newest_ms.max(Some(at_ms));
        }
        if self.samples.len() < SAMPLES && !self.samples.contains(number) {
            self.samples.push(number.clone());
        }
    }
}

/// What tells groups apart.
type Place = (String, StageName, FailureKind, Fault, String);

/// Letters by scheme, stage, kind, fault and cause; of a letter no more than the hash of its number is held.
#[derive(Default)]
pub(in crate::commands) struct Groups {
    groups: Vec<Group>,
    places: HashMap<Place, usize>,
    /// Groups and hashes of numbers that were met.
    met: HashSet<(usize, u64)>,
    hasher: RandomState,
}

impl Groups {
    pub(in crate::commands) fn add(&mut self, letter: &Letter) {
        let (work, failure) = (&letter.work, &letter.failure);
        let cause = failure.cause();
        let place = (work.scheme.clone(), work.stage, failure.kind, failure.fault, cause.clone());
        let at = *self.places.entry(place).or_insert_with(|| {
            self.groups.push(Group::of(letter, cause));
            self.groups.len() - 1
        });
        self.groups[at].add(letter);
        if self.met.insert((at, self.hasher.hash_one(&work.key.number))) {
            self.groups[at].orders += 1;
        }
    }

    /// In the order of schemes and stages, the largest first.
    pub(in crate::commands) fn finish(self, now_ms: i64) -> Vec<Group> {
        let mut groups = self.groups;
        for group in &mut groups {
            group.oldest = group.oldest_ms.and_then(clock::rfc3339);
            group.age_seconds = group.oldest_ms.map(|oldest| now_ms.saturating_sub(oldest).max(0) / 1_000);
        }
        groups.sort_by(|a, b| {
            let place = |group: &Group| (group.scheme.clone(), group.stage);
            place(a).cmp(&place(b)).then(b.count.cmp(&a.count)).then(a.oldest_ms.cmp(&b.oldest_ms))
        });
        groups
    }
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

/// One letter on one line, without its body.
fn object(letter: &Letter) -> serde_json::Value {
    let (work, failure) = (&letter.work, &letter.failure);
    let cause = failure.cause();
    json!({
        "scheme": work.scheme,
        "stage": work.stage.as_str(),
        "number": work.key.number,
        "source_number": work.source_number,
        "id": work.id.as_str(),
        "kind": failure.kind,
        "fault": failure.fault,
        "code": cause_code(failure.kind, &cause),
        "cause": cause,
        "text": failure.text,
        "attempt": work.attempt,
        "failed": failed_at(letter).and_then(clock::rfc3339),
        "failed_ms": failed_at(letter),
        "body_bytes": work.body.len(),
    })
}

/// The same for people, cut to the width of the terminal.
fn row(letter: &Letter, now_ms: i64, width: u16) -> String {
    let (work, failure) = (&letter.work, &letter.failure);
    let age = failed_at(letter).map_or_else(|| "?".to_owned(), |ms| clock::age(now_ms.saturating_sub(ms)));
    let first = failure.problems.first();
    let text = first.map_or_else(|| failure.text.clone(), |p| format!("{}: {}", p.field, p.message));
    let place = format!("{}/{}", work.stage, failure.kind);
    let line = format!("{:<18} {place:<20} {age:>10}  {text}", work.key.number);
    terminal::cut(&plain(&line).replace('\n', " "), width)
}

fn tables(groups: &[Group], width: u16) -> String {
    let mut out = String::new();
    for groups in groups.chunk_by(|a, b| a.scheme == b.scheme) {
        let letters = counted(groups.iter().map(|group| group.count).sum(), "dead letter");
        let scheme = groups.first().map_or("", |group| group.scheme.as_str());
        // Writing to a String can't fail.
        let _ = writeln!(out, "{}: {letters}, {}\n", plain(scheme), counted(groups.len(), "cause"));
        let (shown, rest) = groups.split_at(groups.len().min(ROWS));
        out.push_str(&terminal::lines(&table(shown, width)));
        if !rest.is_empty() {
            let letters = counted(rest.iter().map(|group| group.count).sum(), "letter");
            let causes = counted(rest.len(), "further cause");
            let _ = writeln!(out, "and {causes} with {letters}; --json lists them all");
        }
        out.push('\n');
    }
    if let Some(group) = groups.first() {
        let example = super::show::shell(&plain(&group.example));
        out.push_str(&next(
            &[
                (format!("kingpost dead show {example}"), "everything about one of them"),
                (format!("kingpost dead list --letters --cause {}", group.code), "the letters of one cause"),
                (
                    format!("kingpost dead plan --cause {} --out plan.json", group.code),
                    "what sending them again would do",
                ),
            ],
            width,
        ));
    }
    out
}

/// Commands with what they are for, beside each other where there is room.
pub(super) fn next(commands: &[(String, &str)], width: u16) -> String {
    let longest = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let mut out = String::from("next:\n");
    for (command, meaning) in commands {
        // Writing to a String can't fail.
        let _ = if longest + meaning.len() + 6 <= usize::from(width) {
            writeln!(out, "  {command:<longest$}  {meaning}")
        } else {
            writeln!(out, "  {command}\n      {meaning}")
        };
    }
    out
}

/// In a narrow terminal everything but the count stands in one column, since columns of a few letters can't be read.
fn table(groups: &[Group], width: u16) -> Table {
    let mut table = terminal::table(width, true);
    let wide = width >= WIDE;
    if wide {
        table.set_header(["count", "where, code", "oldest, example", "cause, and what to do"]);
    } else {
        table.set_header(["count", "cause, and what to do"]);
    }
    for group in groups {
        let count = Cell::new(group.count).set_alignment(CellAlignment::Right);
        let place =
            format!("{}\n{}\nfault: {}\n{}", group.stage, group.kind, group.fault.as_str(), group.code);
        let oldest = match (group.oldest_ms, group.age_seconds) {
            (Some(ms), Some(age)) => format!("{}\n{} ago", clock::beijing(ms), clock::age(age * 1_000)),
            _ => "time unknown".to_owned(),
        };
        let copies = match group.count == group.orders {
            true => String::new(),
            false => format!("\n(copies: {})", counted(group.orders, "order")),
        };
        let oldest = plain(&format!("{oldest}\n{}{copies}", group.example));
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

    use super::{super::show::tests::letter, *};

    const NOW_MS: i64 = 1_767_200_400_000;
    const HOUR_MS: i64 = 3_600_000;

    fn base_data(number: &str, material: &str, hours_ago: i64) -> Letter {
        let failure =
            Failure::new(FailureKind::BaseData, format!("物料[{material}]不存在或未审核,请检查基础资料"));
        letter(StageName::Load, number, failure, NOW_MS - hours_ago * HOUR_MS)
    }

    fn groups(letters: &[Letter]) -> Vec<Group> {
        let mut groups = Groups::default();
        letters.iter().for_each(|letter| groups.add(letter));
        groups.finish(NOW_MS)
    }

    fn sample() -> Vec<Letter> {
        let malformed = Failure::new(FailureKind::Malformed, "not a readable document at 1:1");
        let conflict = Failure::new(FailureKind::Conflict, "RK9 is there with other lines");
        let mut unknown = letter(StageName::Transform, "RK5", malformed, 0);
        unknown.published_s = None;
        vec![
            letter(StageName::Load, "RK9", conflict, NOW_MS - HOUR_MS),
            base_data("RK1", "SP-1", 2),
            base_data("RK2", "SP-2", 30),
            base_data("RK1", "SP-7", 1),
            unknown,
        ]
    }

    #[test]
    fn letters_of_one_cause_are_one_group_with_samples() {
        let groups = groups(&sample());
        let shape: Vec<_> = groups.iter().map(|g| (g.stage.as_str(), g.kind.as_str(), g.count)).collect();
        let expected = [("transform", "malformed", 1), ("load", "base-data", 3), ("load", "conflict", 1)];
        assert_eq!(shape, expected, "stages in flow order, the largest group first");
        assert_eq!(groups[1].samples, ["RK1", "RK2"]);
        assert_eq!(groups[1].orders, 2, "RK1 died twice");
        assert_eq!(groups[1].example, "RK2", "the oldest letter is the example");
        assert_eq!(groups[1].age_seconds, Some(30 * 3_600));
        assert_eq!(groups[1].newest_ms, Some(NOW_MS - HOUR_MS));
        assert_eq!(groups[1].oldest.as_deref(), Some("2025-12-30T19:00:00+08:00"));
        assert_eq!(groups[1].code, cause_code(FailureKind::BaseData, "物料[…]不存在或未审核,请检查基础资料"));
    }

    #[test]
    fn a_group_is_no_larger_for_a_hundred_thousand_letters() {
        let mut groups = Groups::default();
        for n in 0..100_000 {
            groups.add(&base_data(&format!("RK{n}"), &format!("SP-{n}"), 1));
        }
        let groups = groups.finish(NOW_MS);
        assert_eq!((groups.len(), groups[0].count, groups[0].samples.len()), (1, 100_000, SAMPLES));
        assert_eq!(groups[0].orders, 100_000);
    }

    #[test]
    fn another_stage_scheme_kind_or_fault_is_another_group() {
        let mut letters = vec![base_data("RK1", "SP-1", 1); 4];
        letters[1].work.stage = StageName::Transform;
        letters[2].work.scheme = "another".into();
        letters[3].failure.fault = Fault::Us;
        assert_eq!(groups(&letters).len(), 4);
    }

    #[test]
    fn a_time_that_is_unknown_is_not_the_oldest() {
        let mut letters = vec![base_data("RK1", "SP-1", 1), base_data("RK2", "SP-1", 5)];
        letters[1].failure.at_ms = 0;
        letters[1].published_s = None;
        let group = &groups(&letters)[0];
        assert_eq!((group.example.as_str(), group.age_seconds), ("RK1", Some(3_600)));
        letters.remove(0);
        assert_eq!(groups(&letters)[0].oldest, None);
        assert!(tables(&groups(&letters), 80).contains("time unknown"));
    }

    #[test]
    fn a_line_of_json_holds_the_whole_group() {
        let text = lines(&groups(&sample())).unwrap();
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 3);
        let group = &objects[1];
        assert_eq!(group["scheme"], "purchase-stockin");
        assert_eq!(group["stage"], "load");
        assert_eq!(group["kind"], "base-data");
        assert_eq!(group["fault"], "data");
        assert_eq!((&group["count"], &group["orders"]), (&json!(3), &json!(2)));
        assert_eq!(group["samples"], json!(["RK1", "RK2"]));
        assert_eq!(group["oldest_ms"], NOW_MS - 30 * HOUR_MS);
        assert_eq!(group["advice"], FailureKind::BaseData.advice());
        assert!(objects[0]["oldest_ms"].is_null());
    }

    #[test]
    fn a_number_that_a_shell_would_read_otherwise_is_quoted_where_it_is_to_be_typed() {
        let text = tables(&groups(&[base_data("RK 1", "SP-1", 1)]), 160);
        assert!(text.contains("kingpost dead show 'RK 1'"), "{text}");
    }

    #[test]
    fn a_table_tells_count_age_example_fault_cause_remedy_and_the_next_commands() {
        let groups = groups(&sample());
        let text = tables(&groups, 160);
        assert!(text.starts_with("purchase-stockin: 5 dead letters, 3 causes\n"), "{text}");
        for part in [
            "2025-12-30 19:00:00",
            "1 d 6 h ago",
            "(copies: 2 orders)",
            "RK2",
            "fault: data",
            "物料[…]不存在或未审核",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.contains(FailureKind::BaseData.advice()), "{text}");
        assert!(text.contains(&format!("--cause {}", groups[0].code)), "{text}");
    }

    fn columns(line: &str) -> usize {
        line.chars().map(|c| if c >= '\u{2e80}' { 2 } else { 1 }).sum()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let groups = groups(&sample());
        for width in [20_u16, 40, 60, 72, 80, 100, 140, 200] {
            let text = tables(&groups, width);
            let rows = text.lines().filter(|line| line.contains('|') || line.contains("-+-"));
            let widest = rows.map(columns).max().unwrap_or_default();
            assert!(widest > 0 && widest <= usize::from(width), "{widest} columns of {width}:\n{text}");
            assert!(text.contains("RK9") && text.contains("base-data"), "{width}:\n{text}");
            let row = row(&base_data("RK1", "SP-1", 2), NOW_MS, width);
            assert!(columns(&row) <= usize::from(width), "{width}: {row}");
        }
    }

    #[test]
    fn more_causes_than_can_be_read_are_counted() {
        let letters: Vec<Letter> = ('a'..='z')
            .flat_map(|a| ['x', 'y'].map(|b| (a, b)))
            .map(|(a, b)| {
                letter(StageName::Load, "RK1", Failure::new(FailureKind::Refused, format!("{a}{b}")), 1)
            })
            .collect();
        let text = tables(&groups(&letters), 100);
        assert!(text.contains("and 12 further causes with 12 letters"), "{text}");
    }

    #[test]
    fn a_letter_by_itself_is_an_object_without_its_body() {
        let object = object(&base_data("RK1", "SP-1", 2));
        assert_eq!((object["number"].as_str(), object["kind"].as_str()), (Some("RK1"), Some("base-data")));
        assert!(object.get("body").is_none() && object["code"].as_str().is_some_and(|code| code.len() == 8));
    }
}
