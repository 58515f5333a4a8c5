//! The pulse of a consuming connection: how long ago the broker answered on it.
//!
//! A broker gives a silent connection up, and hands what was delivered over it to somebody else. Whoever was frozen, or
//! is cut off, learns of it late: the client library's own thread may not have run either, and an answer of the other
//! system that came meanwhile lies ready to be acted on. So a lease is held only while an answer of the broker is younger
//! than one heartbeat. RabbitMQ's connection gives up two to three heartbeats after the last byte that it heard
//! (`rabbit_heartbeat`), and an answer proves that it heard us after we asked; so a write that was let pass is on its way
//! before anybody else can be given the same message, even if connecting takes another heartbeat.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kingpost_model::Pulse;
use lapin::{Connection, options::BasicQosOptions};

/// Questions per heartbeat: three may come late before the lease isn't held any more.
const PER_HEARTBEAT: u32 = 4;

/// When the broker was last asked something that it has answered.
#[derive(Debug)]
pub(crate) struct Answered {
    since: Instant,
    after_ms: AtomicU64,
    /// How old an answer may be; nothing on a connection without heartbeats, which no broker gives up for its silence.
    patience: Option<Duration>,
}

impl Answered {
    /// A connection that was opened just now, with the heartbeat that was agreed on, in seconds.
    pub(crate) fn now(heartbeat_s: u16) -> Self {
        let patience = (heartbeat_s > 0).then(|| Duration::from_secs(heartbeat_s.into()));
        Answered { since: Instant::now(), after_ms: AtomicU64::new(0), patience }
    }

    fn asked(&self, at: Instant) {
        let after = at.saturating_duration_since(self.since).as_millis();
        self.after_ms.fetch_max(u64::try_from(after).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let last = self.since + Duration::from_millis(self.after_ms.load(Ordering::Acquire));
        self.patience.is_none_or(|patience| now.saturating_duration_since(last) < patience)
    }
}

impl Pulse for Answered {
    fn beats(&self) -> bool {
        self.is_fresh(Instant::now())
    }
}

/// Asks the broker again and again, and returns when it can't be asked any more. Setting the prefetch of a channel that consumes
/// nothing changes nothing and needs no permission, unlike asking for a queue.
pub(crate) async fn feel(connection: Arc<Connection>, answered: Arc<Answered>) {
    let Some(patience) = answered.patience else { return std::future::pending().await };
    let Ok(channel) = connection.create_channel().await else { return };
    let mut tick = tokio::time::interval(patience / PER_HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let asked = Instant::now();
        if channel.basic_qos(1, BasicQosOptions::default()).await.is_err() {
            return;
        }
        answered.asked(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_from_when_it_was_asked_for_and_for_one_heartbeat() {
        let answered = Answered::now(10);
        let at = |seconds| answered.since + Duration::from_secs(seconds);
        assert!(answered.is_fresh(at(9)) && !answered.is_fresh(at(10)));
        answered.asked(at(7));
        answered.asked(at(3));
        assert!(answered.is_fresh(at(16)) && !answered.is_fresh(at(17)));
    }

    #[test]
    fn without_heartbeats_nobody_is_given_up() {
        let answered = Answered::now(0);
        assert!(answered.is_fresh(answered.since + Duration::from_secs(1_000_000)));
    }
}
