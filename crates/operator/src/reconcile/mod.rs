//! Comparing both books: what the source has, as the scheme would post it, with what Kingdee has, number by number.
//!
//! Each side is read as it comes and sorted here, outside of memory, because the source sorts nothing and Kingdee's database
//! sorts by rules of its own. What the two sorted sequences don't agree in is asked for once more, by number.

mod explain;
mod merge;
mod naming;
mod progress;
mod read;
pub(crate) mod repair;
mod resolve;
mod run;
mod sort;
#[cfg(test)]
pub(crate) mod tests;
mod totals;
mod verdict;

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::Offset,
};
use kingpost_connectors::kingdee::{BookPage, Booked, Days, KingdeeBooks, Place};
use kingpost_model::{BoxFuture, Failure};

pub(crate) use explain::Explained;
pub(crate) use naming::Scope;
pub(crate) use progress::Progress;
pub(crate) use run::{Ended, Request, Systems, run};
pub(crate) use sort::{RUN_BYTES, Sorted};
pub(crate) use totals::{Basis, By, Group, Side, Totals};
pub(crate) use verdict::{Finding, Rules, Verdict};

/// What a target has in its books.
pub(crate) trait Books: Send + Sync {
    /// Some documents of a period.
    fn page<'a>(&'a self, days: Days, from: Option<&'a Place>) -> BoxFuture<'a, Result<BookPage, Failure>>;

    /// The documents of some numbers.
    fn find<'a>(&'a self, numbers: &'a [String]) -> BoxFuture<'a, Result<Vec<Booked>, Failure>>;
}

impl Books for KingdeeBooks {
    fn page<'a>(&'a self, days: Days, from: Option<&'a Place>) -> BoxFuture<'a, Result<BookPage, Failure>> {
        Box::pin(self.page(days, from))
    }

    fn find<'a>(&'a self, numbers: &'a [String]) -> BoxFuture<'a, Result<Vec<Booked>, Failure>> {
        Box::pin(self.find(numbers))
    }
}

/// Both systems keep Beijing time.
const BEIJING: Offset = Offset::constant(8);

/// The day of a point in time.
fn day_of(ms: i64) -> Option<Date> {
    Timestamp::from_millisecond(ms).ok().map(|time| BEIJING.to_datetime(time).date())
}

/// The first second of a day, in seconds since the epoch.
pub(crate) fn second_of(day: Date) -> i64 {
    BEIJING.to_timestamp(day.to_datetime(Time::midnight())).map_or(i64::MAX, Timestamp::as_second)
}

/// What a number begins with, before its first digit: what tells kinds of documents apart.
pub(crate) fn prefix(number: &str) -> &str {
    number.find(|c: char| c.is_ascii_digit()).map_or(number, |at| &number[..at])
}
