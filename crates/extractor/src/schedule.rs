//! Cutting windows: one extractor leads, and the cursor moves only behind confirmed windows.

use std::{sync::Arc, time::Duration};

use kingpost_broker::{Broker, ConnectError, Leadership};
use kingpost_model::{Origin, Route, StageName};
use kingpost_worker::now_ms;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    cursor::{self, Cutting},
    window::window_work,
};

/// Windows that may wait in the queue before no more are cut; a year of history must not flood the broker.
const WAITING_MAX: u32 = 200;
/// Windows per move of the cursor.
const CUT_MAX: usize = 50;
/// Pause before another extractor asks for the lead again.
const STANDBY: Duration = Duration::from_secs(3);
/// Pause while enough windows are waiting.
const ENOUGH: Duration = Duration::from_secs(1);

/// When and how windows of a scheme are cut.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) scheme: String,
    pub(crate) cutting: Cutting,
    /// Windows end this far in the past, because rows still arrive at the edge of now.
    pub(crate) lag_s: i64,
    /// How often a window is cut that is not full.
    pub(crate) every: Duration,
}

/// Told how far behind the cursor is.
pub(crate) trait CursorObserver: Send + Sync {
    fn lag(&self, scheme: &str, seconds: i64);
}

/// Leads whenever it can, until stopped.
pub(crate) async fn run(
    broker: Arc<Broker>,
    schedule: Schedule,
    observer: Arc<dyn CursorObserver>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let leadership = tokio::select! {
            () = stop.cancelled() => break,
            leadership = broker.lead(&schedule.scheme) => leadership,
        };
        match leadership {
            Ok(Some(mut leadership)) => {
                info!(scheme = schedule.scheme, "this extractor cuts the windows");
                let end = tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    end = lead(&mut leadership, &schedule, &*observer) => end,
                };
                leadership.resign().await;
                if let Err(text) = end {
                    warn!(scheme = schedule.scheme, error = text, "windows are not cut any more by this extractor");
                }
            }
            Ok(None) => {}
            Err(ConnectError::Refused(text) | ConnectError::Absent(text)) => {
                warn!(scheme = schedule.scheme, error = text, "can't ask for the lead in cutting windows");
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(STANDBY) => {}
        }
    }
}

async fn lead(leadership: &mut Leadership, schedule: &Schedule, observer: &dyn CursorObserver) -> Result<(), String> {
    let stored = leadership.cursor().await.map_err(|e| e.to_string())?;
    let mut cursor = match stored {
        Some(body) => match cursor::read(&schedule.scheme, &body) {
            Ok(second) => second,
            Err(text) => {
                error!(scheme = schedule.scheme, "{text}");
                return Err(text);
            }
        },
        None => schedule.cutting.start_s,
    };
    let queue = Route::new(StageName::Extract, &schedule.scheme).queue();
    while leadership.is_held() {
        let now_s = now_ms().div_euclid(1_000);
        observer.lag(&schedule.scheme, now_s.saturating_sub(cursor));
        let end = now_s - schedule.lag_s;
        let pause = if end <= cursor {
            schedule.every
        } else if leadership.depth(&queue).await.map_err(|e| e.to_string())? >= WAITING_MAX {
            ENOUGH
        } else {
            let (windows, next) = cursor::cut(cursor, end, schedule.cutting, CUT_MAX);
            let works = windows.iter().map(|w| window_work(&schedule.scheme, *w, Origin::Live));
            let works = works.collect::<Result<Vec<_>, _>>().map_err(|f| f.to_string())?;
            let moved = leadership.advance(works, cursor::write(&schedule.scheme, next).into()).await;
            moved.map_err(|e| e.to_string())?;
            cursor = next;
            if cursor < end { Duration::ZERO } else { schedule.every }
        };
        tokio::time::sleep(pause).await;
    }
    Err("the connection that held the lead is gone".to_owned())
}
