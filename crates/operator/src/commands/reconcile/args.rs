use std::{path::PathBuf, time::Duration};

use clap::Args;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::Offset};
use kingpost_connectors::kingdee::Days;

use crate::{act::Actor, clock, ending::Stop, reconcile::By};

const AFTER_HELP: &str = "\
Examples:
  kingpost reconcile --scheme purchase-stockin --month 2026-11
  kingpost reconcile --scheme purchase-stockin --from 2026-11-01 --to 2026-11-08 --by supplier
  kingpost reconcile --scheme purchase-stockin --last-days 1
  kingpost reconcile --scheme purchase-stockin --month 2026-11 --out november.xlsx
  kingpost reconcile --scheme purchase-stockin --month 2026-11 --repair missing.json
  kingpost reconcile --plan missing.json --reason 'November, ticket 4711'

Nothing is changed in either system. Documents are compared by number, in date, partner, stock, lines, materials,
quantities and amounts. What both readings don't agree in is asked for once more by its number.

Exit code 0 says that the books agree, 1 that they differ: there is something different, twice, cancelled,
other-period, missing, dead, unmappable, extra or unasked. What is waiting, not due, filtered or foreign is told and
is no difference. docs/reconcile.md explains each word.";

const LONG_ABOUT: &str = "\
Compare what the source has with what Kingdee has, document by document, for a period of business dates.

The period is that of Kingdee's date (FDate), in days of Beijing; its last day is not included. The source knows only when
a document was changed, so it is read from the first day on, and for --late longer than the period.";

/// Compare what the source has with what Kingdee has, document by document
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Reconcile {
    /// The scheme whose documents are compared
    #[arg(long, value_name = "NAME", required_unless_present = "plan")]
    pub(super) scheme: Option<String>,
    /// A whole month, as 2026-11
    #[arg(long, value_name = "MONTH", value_parser = month, conflicts_with_all = ["from", "to"],
        required_unless_present_any = ["plan", "from", "last_days"])]
    month: Option<Date>,
    /// The first day, as 2026-11-01
    #[arg(long, value_name = "DAY", value_parser = day, requires = "to")]
    from: Option<Date>,
    /// The first day after the period, as 2026-12-01
    #[arg(long, value_name = "DAY", value_parser = day, requires = "from")]
    to: Option<Date>,
    /// So many whole days before today: 1 is yesterday, in Beijing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=366),
        conflicts_with_all = ["month", "from", "to"])]
    last_days: Option<i32>,
    /// What the sums are grouped by
    #[arg(long, value_enum, default_value = "day")]
    pub(super) by: By,
    /// For how long after the period the source is searched for documents that were changed later
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = clock::span)]
    pub(super) late: Duration,
    /// Of documents in Kingdee alone, mind those whose numbers begin with this [default: as the orders' do]
    #[arg(long, value_name = "TEXT", value_delimiter = ',', conflicts_with = "all_numbers")]
    pub(super) only_prefix: Vec<String>,
    /// Mind every document that is in Kingdee alone
    #[arg(long)]
    pub(super) all_numbers: bool,
    /// Ask the source for so many single documents at most
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(super) ask: usize,
    /// Hold so many numbers that are in question at most
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(super) most: usize,
    /// Calls of the source per minute, which the workers have to share; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(super) rate: u32,
    /// Leave the queues alone: what is missing is not explained
    #[arg(long, conflicts_with = "repair")]
    pub(super) without_queues: bool,
    /// List so many documents of each kind; --out has all of them
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
    /// Write every document and the sums to this file: .csv, .xlsx or .json, by its ending
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Write the counts for a Prometheus node exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub(super) metrics_file: Option<PathBuf>,
    /// Print one JSON object per document, group and result, and one for the whole at the end
    #[arg(long)]
    pub(super) json: bool,
    /// Write a plan of what is missing to this file, which must not exist yet; with --yes it is carried out at once
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    pub(super) repair: Option<PathBuf>,
    /// Carry out this plan: read each document from the source again and send it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scheme", "month", "from", "to", "out", "json", "metrics_file",
        "without_queues", "last_days"])]
    pub(super) plan: Option<PathBuf>,
    /// Why, for the audit trail; needed to send something
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Don't ask; needed where there is no terminal
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) actor: Actor,
}

impl Reconcile {
    /// The period that was asked for.
    pub(super) fn days(&self, now_ms: i64) -> Result<Days, Stop> {
        let days = match (self.month, self.from, self.to) {
            (None, None, None) => match self.last_days {
                Some(count) => last(count, now_ms)?,
                None => {
                    return Err(Stop::usage(
                        "say which period: --month 2026-11, --from DAY --to DAY, or --last-days N",
                    ));
                }
            },
            (Some(from), ..) => {
                let to = from.checked_add(1.month());
                Days { from, to: to.map_err(|error| Stop::usage(error.to_string()))? }
            }
            (None, Some(from), Some(to)) => Days { from, to },
            _ => return Err(Stop::usage("--from DAY needs --to DAY")),
        };
        if days.to <= days.from {
            let text = format!(
                "the period ends ({}) before it begins ({}); --to is the first day after it",
                days.to, days.from
            );
            return Err(Stop::usage(text));
        }
        if clock::point(&days.from.to_string(), now_ms).is_ok_and(|ms| ms > now_ms) {
            return Err(Stop::usage(format!("the period begins in the future ({})", days.from)));
        }
        Ok(days)
    }
}

/// So many whole days before today, in Beijing.
fn last(count: i32, now_ms: i64) -> Result<Days, Stop> {
    let wrong = |error: jiff::Error| Stop::failed(format!("the clock of this machine is wrong: {error}"));
    let now = Timestamp::from_millisecond(now_ms).map_err(wrong)?;
    let to = Offset::constant(8).to_datetime(now).date();
    Ok(Days { from: to.checked_sub(count.days()).map_err(wrong)?, to })
}

fn day(text: &str) -> Result<Date, String> {
    let parsed = text.trim().parse::<Date>().ok().filter(|_| text.trim().len() == 10);
    parsed.ok_or_else(|| format!("`{text}` is no day; write one such as 2026-11-01"))
}

fn month(text: &str) -> Result<Date, String> {
    let first = format!("{}-01", text.trim());
    let parsed = first.parse::<Date>().ok().filter(|_| first.len() == 10);
    parsed.ok_or_else(|| format!("`{text}` is no month; write one such as 2026-11"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_days_end_before_today_in_beijing() {
        // 2026-03-01 00:30 in Beijing, where it is still February in Greenwich.
        let now_ms = clock::point("2026-02-28T16:30:00Z", 0).unwrap();
        let days = |count| last(count, now_ms).ok().map(|days| (days.from.to_string(), days.to.to_string()));
        assert_eq!(days(1), Some(("2026-02-28".to_owned(), "2026-03-01".to_owned())));
        assert_eq!(days(7), Some(("2026-02-22".to_owned(), "2026-03-01".to_owned())));
    }

    #[test]
    fn days_and_months_are_read_as_they_are_written() {
        assert_eq!(day("2026-11-01").unwrap().to_string(), "2026-11-01");
        assert_eq!(month("2026-02").unwrap().to_string(), "2026-02-01");
        for wrong in ["2026-11", "2026-13-01", "2026-02-30", "yesterday", ""] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
        for wrong in ["2026", "2026-13", "2026-11-01", "11"] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
    }
}
