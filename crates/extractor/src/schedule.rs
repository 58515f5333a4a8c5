//! Cutting windows: one extractor leads, and the cursor moves only behind confirmed windows.

use std::time::Duration;

use kingpost_model::{Origin, Route, StageName, Window, Work};
use kingpost_worker::now_ms;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    cursor::{self, Cursor, Cutting, Round},
    lead::{Election, Lead},
    window::window_work,
};

/// Windows that may wait in the queue before no more are cut; a year of history must not flood the broker.
const WAITING_MAX: u32 = 200;
/// Windows per move of the cursor.
const CUT_MAX: usize = 50;
/// Pause before another extractor asks for the lead again.
const STANDBY: Duration = Duration::from_secs(3);
/// Pause before a cursor that can't be read is looked at again; a person has to act first.
const STANDSTILL: Duration = Duration::from_secs(30);
/// Pause while enough windows are waiting.
const ENOUGH: Duration = Duration::from_secs(1);

/// When and how windows of a scheme are cut.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) scheme: String,
    pub(crate) cutting: Cutting,
    /// How often a window is cut that is not full.
    pub(crate) every: Duration,
}

/// Told how far behind the cursor is.
pub(crate) trait CursorObserver: Send + Sync {
    fn lag(&self, seconds: i64);
}

/// Why windows are not cut any more.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The right is gone, or the broker doesn't answer.
    Lost(String),
    /// The cursor can't be read: nothing is cut until a person has acted.
    Unreadable(String),
}

/// Leads whenever it can, until stopped.
pub(crate) async fn run<E: Election>(
    election: &E,
    schedule: &Schedule,
    observer: &dyn CursorObserver,
    stop: &CancellationToken,
) {
    let scheme = schedule.scheme.as_str();
    while !stop.is_cancelled() {
        let asked = tokio::select! {
            () = stop.cancelled() => break,
            asked = election.ask(scheme) => asked,
        };
        let mut pause = STANDBY;
        match asked {
            Ok(Some(mut leadership)) => {
                info!(scheme, "this extractor cuts the windows");
                let end = tokio::select! {
                    () = stop.cancelled() => None,
                    end = lead(&mut leadership, schedule, observer) => Some(end),
                };
                leadership.resign().await;
                match end {
                    Some(End::Lost(error)) => {
                        warn!(scheme, error, "windows are not cut any more by this extractor");
                    }
                    Some(End::Unreadable(text)) => {
                        error!(scheme, "no windows are cut: {text}");
                        pause = STANDSTILL;
                    }
                    None => {}
                }
            }
            Ok(None) => {}
            Err(error) => warn!(scheme, error, "can't ask for the lead in cutting windows"),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Cuts windows as long as the right is held.
async fn lead(leadership: &mut impl Lead, schedule: &Schedule, observer: &dyn CursorObserver) -> End {
    let scheme = schedule.scheme.as_str();
    let mut cursor = match leadership.cursor().await {
        Ok(None) => Cursor::new(schedule.cutting.start_s),
        Ok(Some(body)) => match Cursor::read(scheme, &body) {
            Ok(cursor) => cursor,
            Err(text) => {
                // Nobody knows how far it was; the worst is what an alert should see.
                observer.lag(now_s().saturating_sub(schedule.cutting.start_s));
                return End::Unreadable(text);
            }
        },
        Err(text) => return End::Lost(text),
    };
    // The leader before may have died between its windows and its cursor.
    let mut inherited = true;
    while leadership.is_held() {
        let now_s = now_s();
        observer.lag(now_s.saturating_sub(cursor.at_s));
        let pause = match cursor::round(cursor, now_s, schedule.cutting, CUT_MAX) {
            Round::Wait => schedule.every,
            Round::Astray(text) => {
                error!(scheme, "no windows are cut: {text}");
                schedule.every.max(STANDSTILL)
            }
            Round::Cut(windows, next) => {
                match advance(leadership, schedule, windows, next, inherited).await {
                    Ok(false) => ENOUGH,
                    Ok(true) => {
                        if next.at_s < cursor.at_s {
                            warn!(
                                scheme,
                                "the clock went back: windows are cut again; read the time for which it was wrong again"
                            );
                        }
                        (cursor, inherited) = (next, false);
                        // Another round at once where more is left to cut; none is left once the windows reach the lag.
                        match cursor::round(cursor, now_s, schedule.cutting, CUT_MAX) {
                            Round::Cut(..) => Duration::ZERO,
                            _ => schedule.every,
                        }
                    }
                    Err(text) => return End::Lost(text),
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
    End::Lost("the connection that held the lead is gone".to_owned())
}

/// Publishes windows and moves the cursor; false when enough windows wait already.
async fn advance(
    leadership: &mut impl Lead,
    schedule: &Schedule,
    windows: Vec<Window>,
    next: Cursor,
    inherited: bool,
) -> Result<bool, String> {
    let scheme = schedule.scheme.as_str();
    if leadership.depth(&Route::new(StageName::Extract, scheme).queue()).await? >= WAITING_MAX {
        return Ok(false);
    }
    let mut works: Vec<Work> = Vec::with_capacity(windows.len());
    for window in windows {
        let mut work = window_work(scheme, window, Origin::Live).map_err(|failure| failure.to_string())?;
        work.verify = inherited;
        works.push(work);
    }
    leadership.advance(works, next.write(scheme).into()).await?;
    Ok(true)
}

fn now_s() -> i64 {
    now_ms().div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;

    /// What all leaders have seen and done.
    #[derive(Default)]
    struct Seen {
        asked: Vec<Instant>,
        cut: Vec<Vec<bool>>,
        cursor: Option<Bytes>,
        depth: u32,
        rounds: usize,
        lag: i64,
    }

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<Seen>>);

    impl Fake {
        fn at(cursor: &[u8]) -> Self {
            let fake = Fake::default();
            fake.0.lock().unwrap().cursor = Some(Bytes::copy_from_slice(cursor));
            fake
        }
    }

    impl Election for Fake {
        type Lead = Fake;

        async fn ask(&self, _: &str) -> Result<Option<Fake>, String> {
            self.0.lock().unwrap().asked.push(Instant::now());
            Ok(Some(self.clone()))
        }
    }

    impl Lead for Fake {
        /// Each leader loses its connection after a hundred rounds.
        fn is_held(&self) -> bool {
            let mut seen = self.0.lock().unwrap();
            seen.rounds += 1;
            !seen.rounds.is_multiple_of(100)
        }

        async fn cursor(&mut self) -> Result<Option<Bytes>, String> {
            Ok(self.0.lock().unwrap().cursor.clone())
        }

        async fn depth(&self, _: &str) -> Result<u32, String> {
            Ok(self.0.lock().unwrap().depth)
        }

        async fn advance(&mut self, windows: Vec<Work>, cursor: Bytes) -> Result<(), String> {
            let mut seen = self.0.lock().unwrap();
            seen.cut.push(windows.iter().map(|w| w.verify).collect());
            seen.cursor = Some(cursor);
            Ok(())
        }

        async fn resign(self) {}
    }

    impl CursorObserver for Fake {
        fn lag(&self, seconds: i64) {
            self.0.lock().unwrap().lag = seconds;
        }
    }

    fn schedule(start_s: i64) -> Schedule {
        let cutting = Cutting { width_s: 3_600, overlap_s: 60, start_s, lag_s: 300 };
        Schedule { scheme: "s".to_owned(), cutting, every: Duration::from_secs(60) }
    }

    /// Runs for ten minutes of paused time.
    async fn ten_minutes(fake: &Fake, schedule: &Schedule) {
        let stop = CancellationToken::new();
        let running = run(fake, schedule, fake, &stop);
        assert!(tokio::time::timeout(Duration::from_secs(600), running).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_cursor_stands_still_and_is_tried_again_at_leisure() {
        let fake = Fake::at(b"not a cursor");
        let schedule = schedule(0);
        assert!(
            matches!(lead(&mut fake.clone(), &schedule, &fake).await, End::Unreadable(text) if text.contains("cursor.s"))
        );
        ten_minutes(&fake, &schedule).await;
        let seen = fake.0.lock().unwrap();
        assert!((15..=25).contains(&seen.asked.len()), "{}", seen.asked.len());
        assert!(seen.cut.is_empty());
        assert_eq!(seen.cursor.as_deref(), Some(b"not a cursor".as_slice()));
        assert!(seen.lag > 1_000_000, "an alert on the lag must see it: {}", seen.lag);
    }

    #[tokio::test(start_paused = true)]
    async fn windows_behind_a_new_leaders_cursor_are_verified_because_the_last_one_may_have_cut_them() {
        let fake = Fake::default();
        // A hundred and twenty full windows, and one that grows.
        ten_minutes(&fake, &schedule(now_s() - 300 - 120 * 3_600)).await;
        let seen = fake.0.lock().unwrap();
        assert_eq!(seen.cut.iter().map(Vec::len).take(2).collect::<Vec<_>>(), [50, 50]);
        assert_eq!(seen.cut.iter().map(Vec::len).sum::<usize>() / 10, 12);
        assert!(seen.cut[0].iter().all(|verify| *verify));
        assert!(seen.cut[1..].iter().flatten().all(|verify| !*verify));
    }

    #[tokio::test(start_paused = true)]
    async fn no_windows_are_added_to_a_queue_that_holds_enough() {
        let fake = Fake::default();
        fake.0.lock().unwrap().depth = WAITING_MAX;
        ten_minutes(&fake, &schedule(now_s() - 86_400)).await;
        let seen = fake.0.lock().unwrap();
        assert!(seen.cut.is_empty() && seen.cursor.is_none());
        assert!((100..=700).contains(&seen.rounds), "{}", seen.rounds);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cursor_far_ahead_of_the_clock_is_looked_at_every_minute() {
        let ahead = Cursor::new(now_s() + 30 * 86_400).write("s");
        let fake = Fake::at(&ahead);
        ten_minutes(&fake, &schedule(0)).await;
        let seen = fake.0.lock().unwrap();
        assert!(seen.cut.is_empty());
        assert!(seen.rounds <= 12, "{}", seen.rounds);
    }
}
