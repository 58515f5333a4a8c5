//! The journal: what happened to each document at each stage, in a stream that nothing depends on.
//!
//! Whoever works never waits for it. Events go into a bounded buffer; one task of its own, on a connection of its own,
//! passes them on. The connection is not the publisher's, because a stream that is slow would hold its connection back.

mod queue;
mod read;
mod task;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kingpost_model::JournalEvent;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::connection::{BrokerConfig, Observer};

pub use read::{JournalReader, JournalScan};

/// The stream that holds the journal, and the fanout exchange that it is bound to.
pub const JOURNAL: &str = "journal";

/// Events that wait for the broker at most; with the longest failure texts they have some 20 MB.
pub(crate) const BUFFER: usize = 10_000;

/// How much of the journal is kept. The broker lets go of whole segments, so it may keep somewhat more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalKeep {
    /// How long.
    pub max_age: Duration,
    /// How many bytes.
    pub max_bytes: u64,
}

impl Default for JournalKeep {
    fn default() -> Self {
        JournalKeep { max_age: Duration::from_secs(30 * 86_400), max_bytes: 5_000_000_000 }
    }
}

/// The way to write events; cheap to clone. What can't be written is dropped, counted, and holds nobody back.
#[derive(Clone, Default)]
pub struct Journal {
    shared: Option<Arc<Shared>>,
}

/// What writers and the task share.
struct Shared {
    buffer: Mutex<VecDeque<JournalEvent>>,
    more: Notify,
    stop: CancellationToken,
    /// Events that the task has taken out of the buffer, and whose confirm it waits for.
    in_hand: AtomicUsize,
    observer: Arc<dyn Observer>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// A journal that keeps nothing and costs nothing.
    pub const fn off() -> Self {
        Journal { shared: None }
    }

    /// Starts the task that passes events on. It connects when there is something to pass on; it makes the stream where it
    /// doesn't exist, and leaves one alone that exists with other arguments.
    pub fn start(config: BrokerConfig, keep: JournalKeep, observer: Arc<dyn Observer>) -> Self {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            more: Notify::new(),
            stop: CancellationToken::new(),
            in_hand: AtomicUsize::new(0),
            observer,
            task: Mutex::default(),
        });
        let task = tokio::spawn(task::run(Arc::clone(&shared), config, keep));
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Journal { shared: Some(shared) }
    }

    /// Whether anything is kept; without it an event need not be made.
    pub const fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Hands an event over, and returns at once. When the buffer is full the oldest event is dropped: the newest says where
    /// a document is.
    pub fn write(&self, event: JournalEvent) {
        let Some(shared) = &self.shared else { return };
        let mut buffer = shared.buffer();
        let full = buffer.len() >= BUFFER;
        if full {
            buffer.pop_front();
        }
        buffer.push_back(event);
        drop(buffer);
        if full {
            shared.observer.journal_dropped(1);
        }
        shared.more.notify_one();
    }

    /// Passes on what is in the buffer, as far as that succeeds within the deadline, and ends the task.
    pub async fn close(&self, deadline: Duration) {
        let Some(shared) = &self.shared else { return };
        shared.stop.cancel();
        let task = shared.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(deadline, &mut task).await.is_err()
        {
            task.abort();
            let _ = task.await;
        }
        let left = std::mem::take(&mut *shared.buffer()).len() + shared.in_hand.swap(0, Ordering::Relaxed);
        if left > 0 {
            shared.observer.journal_dropped(left);
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, VecDeque<JournalEvent>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
