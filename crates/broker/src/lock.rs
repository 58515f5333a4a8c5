//! A right that one process at a time holds: an exclusive queue, lost with its connection.

use std::time::Duration;

use lapin::{
    Channel, Connection, ErrorKind,
    options::QueueDeclareOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    topology::short,
};

/// Where locks are taken, each on a connection of its own.
#[derive(Clone, Debug)]
pub struct Locks {
    config: BrokerConfig,
}

impl Locks {
    pub(crate) fn new(config: BrokerConfig) -> Self {
        Locks { config }
    }

    /// Tries to take a lock; nothing while another process holds it. The user needs configure permission on the name.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be asked or refuses.
    pub async fn take(&self, name: &str) -> Result<Option<Lock>, ConnectError> {
        let connection = open(&self.config, Role::Lock).await?;
        let take = async {
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let options =
                QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
            match channel.queue_declare(short(name)?, options, FieldTable::default()).await {
                Ok(_) => Ok(Some(channel)),
                Err(error) if is_locked(&error) => Ok(None),
                Err(error) => Err(ConnectError::of(&error)),
            }
        };
        let taken = tokio::time::timeout(self.config.connect_timeout, take).await;
        let lock = Lock { connection, channel: None, timeout: self.config.settle_timeout };
        match taken.unwrap_or_else(|_| Err(ConnectError::Absent("RabbitMQ does not answer".to_owned()))) {
            Ok(Some(channel)) => Ok(Some(Lock { channel: Some(channel), ..lock })),
            other => {
                lock.release().await;
                other.map(|_| None)
            }
        }
    }
}

/// A lock that is held for as long as its connection lives.
#[derive(Debug)]
pub struct Lock {
    connection: Connection,
    channel: Option<Channel>,
    timeout: Duration,
}

impl Lock {
    /// True while the connection, and with it the lock, is held.
    pub fn is_held(&self) -> bool {
        self.connection.status().connected()
            && self.channel.as_ref().is_some_and(|channel| channel.status().connected())
    }

    /// Gives the lock back.
    pub async fn release(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.close(200, "given back".into())).await;
    }
}

fn is_locked(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e)
        if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}
