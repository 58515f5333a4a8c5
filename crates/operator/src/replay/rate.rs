//! A limit of messages per second, shared by everything that a command sends.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// A token bucket that holds a tenth of a second.
pub(crate) struct Rate {
    /// Messages per second; none means without a limit.
    per_second: Option<u32>,
    /// When the next message may go.
    next: Mutex<Instant>,
}

impl Rate {
    /// A limit; 0 is none.
    pub(crate) fn new(per_second: u32) -> Self {
        Rate { per_second: Some(per_second).filter(|rate| *rate > 0), next: Mutex::new(Instant::now()) }
    }

    /// How many messages make a good group.
    pub(crate) fn group(&self) -> usize {
        self.per_second.map_or(512, |rate| (rate as usize / 10).clamp(1, 512))
    }

    /// Waits until so many messages may go.
    pub(crate) async fn take(&self, messages: usize) {
        let Some(rate) = self.per_second else { return };
        let share = Duration::from_secs_f64(messages as f64 / f64::from(rate));
        let start = {
            let mut next = self.next.lock().await;
            let start = (*next).max(Instant::now());
            *next = start + share;
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_holds_over_all_who_share_it() {
        let rate = std::sync::Arc::new(Rate::new(200));
        let began = Instant::now();
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let rate = std::sync::Arc::clone(&rate);
                tokio::spawn(async move {
                    for _ in 0..5 {
                        rate.take(5).await;
                    }
                })
            })
            .collect();
        for taker in takers {
            taker.await.unwrap();
        }
        // 100 messages, of which the first group goes at once.
        assert!(began.elapsed() >= Duration::from_millis(474), "{:?}", began.elapsed());
        let began = Instant::now();
        Rate::new(0).take(1_000_000).await;
        assert!(began.elapsed() < Duration::from_millis(200));
    }
}
