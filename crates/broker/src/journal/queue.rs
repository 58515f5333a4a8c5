//! The stream itself: made where it is missing, left alone where it is otherwise.

use std::time::Duration;

use lapin::{Connection, ExchangeKind};
use tracing::info;

use super::{JOURNAL, JournalKeep};
use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    setup::{Answer, Difference, Hand, PartReport, Question, REMEDY},
    stream::{Offset, Stream},
    topology::{Part, int, table, text},
};

/// Largest segment. Only whole segments are let go of, so retention is as fine as this.
const SEGMENT_MAX: u64 = 100_000_000;
/// Smallest segment.
const SEGMENT_MIN: u64 = 1_000_000;
/// Size of the filter that a broker from 3.13 on keeps of each chunk: the largest there is, because a chunk has many numbers.
const FILTER_BYTES: i64 = 255;

impl JournalKeep {
    /// What is declared, in an order in which it can be.
    pub(super) fn parts(&self) -> [Part; 3] {
        let segment = (self.max_bytes / 10).clamp(SEGMENT_MIN, SEGMENT_MAX);
        let number = |n: u64| int(i64::try_from(n).unwrap_or(i64::MAX));
        let arguments = [
            ("x-queue-type", text("stream")),
            ("x-max-age", text(&age(self.max_age))),
            ("x-max-length-bytes", number(self.max_bytes)),
            ("x-stream-max-segment-size-bytes", number(segment)),
            ("x-stream-filter-size-bytes", int(FILTER_BYTES)),
        ];
        [
            Part::exchange(JOURNAL, ExchangeKind::Fanout),
            Part::Queue { name: JOURNAL.to_owned(), arguments: table(&arguments) },
            Part::binding(JOURNAL, JOURNAL, ""),
        ]
    }

    /// Makes what isn't there yet and compares what is. A dry run makes nothing.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached, has no streams, or refuses the connection.
    pub async fn apply(&self, config: &BrokerConfig, dry_run: bool) -> Result<Vec<PartReport>, ConnectError> {
        let connection = open(config, Role::Inspect).await?;
        let mut hand = Hand::new(&connection);
        let applying = async {
            let mut reports = Vec::new();
            for part in self.parts() {
                let state = hand.apply(&part, dry_run).await?;
                reports.push(PartReport { what: part.what(), name: part.name(), state });
            }
            Ok(reports)
        };
        let silent =
            || ConnectError::Absent("RabbitMQ stopped answering while the journal was declared".to_owned());
        let reports =
            tokio::time::timeout(config.confirm_timeout, applying).await.unwrap_or_else(|_| Err(silent()))?;
        let _ = tokio::time::timeout(config.settle_timeout, connection.close(200, "declared".into())).await;
        Ok(reports)
    }
}

/// An age as the broker reads it, in the largest unit without a rest, so that one age is always written in one way.
fn age(age: Duration) -> String {
    let seconds = age.as_secs().max(1);
    let units = [(86_400, 'D'), (3_600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

/// Sees to it that the stream is there. `told` remembers that the difference of one that exists has been said.
///
/// # Errors
/// [`ConnectError`] when it isn't there and can't be made, or when the queue of this name is no stream.
pub(super) async fn ensure(
    connection: &Connection,
    keep: &JournalKeep,
    timeout: Duration,
    told: &mut bool,
) -> Result<(), ConnectError> {
    let mut hand = Hand::new(connection);
    let mut doubtful = false;
    for part in keep.parts() {
        match hand.ask(&part, Question::Declare).await? {
            Answer::Yes => {}
            Answer::Differs(words) => {
                let difference = Difference::read(&words);
                if !matches!(part, Part::Queue { .. }) {
                    return Err(ConnectError::Refused(format!(
                        "the {} `{JOURNAL}` exists with other arguments: {difference}; it belongs to something else",
                        part.what()
                    )));
                }
                doubtful = true;
                if !std::mem::replace(told, true) {
                    info!(
                        "the journal exists with other arguments than the settings say, and stays as it is: {difference} \
                         (RabbitMQ names the first difference only); to change it, set a policy, or delete the stream \
                         with its events"
                    );
                }
            }
            Answer::Denied(_) => {
                look(&mut hand, keep).await?;
                doubtful = true;
                break;
            }
            Answer::NotFound => {
                return Err(ConnectError::Absent(format!(
                    "the {} `{}` lost one of its ends",
                    part.what(),
                    part.name()
                )));
            }
        }
    }
    if doubtful { is_stream(connection, timeout).await } else { Ok(()) }
}

/// Who may not declare looks.
async fn look(hand: &mut Hand<'_>, keep: &JournalKeep) -> Result<(), ConnectError> {
    for part in keep.parts() {
        match hand.ask(&part, Question::Look).await? {
            // Where one may not even look, publishing tells.
            Answer::Yes | Answer::Denied(_) => {}
            Answer::NotFound => {
                return Err(ConnectError::Refused(format!(
                    "the {} `{JOURNAL}` is missing, and this user may not declare it; {REMEDY}",
                    part.what()
                )));
            }
            Answer::Differs(words) => {
                return Err(ConnectError::Refused(Difference::read(&words).to_string()));
            }
        }
    }
    Ok(())
}

/// A queue of this name that somebody else has made for something else must not be filled.
async fn is_stream(connection: &Connection, timeout: Duration) -> Result<(), ConnectError> {
    match (Stream { connection, queue: JOURNAL, timeout }).follow(Offset::Next, &[]).await {
        Ok(Some(follower)) => {
            follower.close().await;
            Ok(())
        }
        Ok(None) => Err(ConnectError::Refused(format!(
            "the queue `{JOURNAL}` exists and is no stream; delete it or rename it if it isn't in use"
        ))),
        // Who may not read can't be told.
        Err(ConnectError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_written_in_one_way_only() {
        let written = [2_592_000, 86_400, 5_400, 3_600, 61, 0].map(|s| age(Duration::from_secs(s)));
        assert_eq!(written, ["30D", "1D", "90m", "1h", "61s", "1s"]);
    }

    #[test]
    fn segments_are_small_enough_for_the_retention() {
        let [_, queue, _] = JournalKeep { max_bytes: 20_000_000, ..JournalKeep::default() }.parts();
        let Part::Queue { arguments, .. } = queue else { panic!("{queue:?}") };
        assert_eq!(arguments.inner().get("x-stream-max-segment-size-bytes"), Some(&int(2_000_000)));
        assert_eq!(arguments.inner().get("x-max-age"), Some(&text("30D")));
    }
}
