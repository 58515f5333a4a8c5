//! The right to cut windows, as the schedule uses it.

use std::sync::Once;

use bytes::Bytes;
use kingpost_broker::{Broker, ConnectError, Leadership, QueueDepth};
use kingpost_model::Work;
use tracing::warn;

/// Gives the right to cut the windows of a scheme to one extractor at a time.
pub(crate) trait Election: Sync {
    type Lead: Lead;

    /// The right, or nothing while another extractor has it.
    fn ask(&self, scheme: &str) -> impl Future<Output = Result<Option<Self::Lead>, String>> + Send;
}

/// The right to cut the windows of one scheme, and its cursor; an error ends it.
pub(crate) trait Lead: Send + Sync {
    fn is_held(&self) -> bool;
    /// The last confirmed cursor.
    fn cursor(&mut self) -> impl Future<Output = Result<Option<Bytes>, String>> + Send;
    /// What a queue holds; nothing when it isn't there, or the broker won't say.
    fn depth(&self, queue: &str) -> impl Future<Output = Result<Option<QueueDepth>, String>> + Send;
    /// The next instruction of a person, in hand until it is settled.
    fn instruction(&mut self) -> impl Future<Output = Result<Option<Bytes>, String>> + Send;
    /// Settles the instruction in hand.
    fn instructed(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// How a comparison of both books ended, in hand until it is noted.
    fn result(&mut self) -> impl Future<Output = Result<Option<Bytes>, String>> + Send;
    /// Settles the result in hand.
    fn noted(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// Publishes windows and, once all are confirmed, the cursor behind them.
    fn advance(
        &mut self,
        windows: Vec<Work>,
        cursor: Bytes,
    ) -> impl Future<Output = Result<(), String>> + Send;
    fn resign(self) -> impl Future<Output = ()> + Send;
}

impl Election for Broker {
    type Lead = Leadership;

    async fn ask(&self, scheme: &str) -> Result<Option<Leadership>, String> {
        self.lead(scheme).await.map_err(|e| e.to_string())
    }
}

impl Lead for Leadership {
    fn is_held(&self) -> bool {
        Leadership::is_held(self)
    }

    async fn cursor(&mut self) -> Result<Option<Bytes>, String> {
        Leadership::cursor(self).await.map_err(|e| e.to_string())
    }

    async fn depth(&self, queue: &str) -> Result<Option<QueueDepth>, String> {
        match Leadership::depth(self, queue).await {
            Ok(depth) => Ok(depth),
            // 4.2.6 and 4.3.0 want a right to configure for this question; without an answer work goes on.
            Err(ConnectError::Refused(text)) => {
                static TOLD: Once = Once::new();
                TOLD.call_once(|| {
                    warn!(
                        text,
                        "how much waits can't be asked, so history and backfills are cut without regard to it; give the \
                         extractor's user a right to these queues"
                    );
                });
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn instruction(&mut self) -> Result<Option<Bytes>, String> {
        Leadership::instruction(self).await.map_err(|e| e.to_string())
    }

    async fn instructed(&mut self) -> Result<(), String> {
        Leadership::instructed(self).await.map_err(|e| e.to_string())
    }

    async fn result(&mut self) -> Result<Option<Bytes>, String> {
        Leadership::result(self).await.map_err(|e| e.to_string())
    }

    async fn noted(&mut self) -> Result<(), String> {
        Leadership::noted(self).await.map_err(|e| e.to_string())
    }

    async fn advance(&mut self, windows: Vec<Work>, cursor: Bytes) -> Result<(), String> {
        Leadership::advance(self, windows, cursor).await.map_err(|e| e.to_string())
    }

    async fn resign(self) {
        Leadership::resign(self).await;
    }
}
