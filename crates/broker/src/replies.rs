//! A queue that gathers what workers report on messages that somebody sent again.
//!
//! Reports are read and never acknowledged: the queue itself remembers them until nobody has asked for days, so that
//! whoever comes back, from whichever machine, reads the whole story again.

use std::time::Duration;

use bytes::Bytes;
use kingpost_model::REPLY_EXCHANGE;
use lapin::{
    BasicProperties, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    inspect::ready,
    topology::short,
    walk::Walk,
};

/// One message of a reply queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The text headers of the message that is reported on.
    pub headers: Vec<(String, String)>,
    /// The report.
    pub body: Bytes,
}

/// A durable reply queue and a connection that reads it.
pub struct Replies {
    config: BrokerConfig,
    name: String,
    keep: Duration,
}

impl Replies {
    /// Declares the queue, bound to the exchange of replies by its own name; it goes when it was not used for `keep`.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn open(config: &BrokerConfig, name: &str, keep: Duration) -> Result<Self, ConnectError> {
        let replies = Replies { config: config.clone(), name: name.to_owned(), keep };
        let connection = replies.connect().await?;
        let _ = tokio::time::timeout(config.settle_timeout, connection.close(200, "declared".into())).await;
        Ok(replies)
    }

    /// The name of the queue, for `reply-to`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands every message to `each`, from the first one on, and then those that arrive, until it breaks off or the
    /// connection ends. Messages come again after a reconnection: what `each` makes of them must not depend on how often
    /// it sees one. `caught_up` is called once, when all that the queue held has been handed over.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection ends; call it again then.
    pub async fn read(
        &self,
        mut each: impl FnMut(Reply),
        mut caught_up: impl FnMut(),
    ) -> Result<std::convert::Infallible, ConnectError> {
        /// So many silences of an empty queue mean that all is read for now.
        const SILENCES: u32 = 3;
        const PAUSE: Duration = Duration::from_millis(100);
        let connection = self.connect().await?;
        let mut walk = Walk::new(&connection, &self.name, usize::MAX, PAUSE, self.config.confirm_timeout);
        let mut silences = 0;
        loop {
            match walk.next().await? {
                Some((delivery, _)) => {
                    silences = if silences < SILENCES { 0 } else { SILENCES };
                    let headers = text_headers(&delivery.properties);
                    each(Reply { headers, body: delivery.data.into() });
                }
                None if silences < SILENCES => {
                    // What a reader before us held comes back a moment after its end.
                    let empty = ready(&connection, &self.name).await? == Some(0);
                    silences = if empty { silences + 1 } else { 0 };
                    if silences == SILENCES {
                        caught_up();
                    }
                }
                None => {}
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let connection = open(&self.config, Role::Inspect).await?;
        let declare = async {
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let mut arguments = FieldTable::default();
            let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
            arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from("quorum")));
            arguments.insert("x-expires".into(), AMQPValue::LongLongInt(keep));
            // Reports are read and put back again and again.
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000_000));
            let (queue, key) = (short(&self.name)?, short(&self.name)?);
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let none = FieldTable::default;
            let exchange =
                channel.exchange_declare(REPLY_EXCHANGE.into(), ExchangeKind::Direct, options, none());
            exchange.await.map_err(|e| ConnectError::of(&e))?;
            let declared =
                channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await;
            declared.map_err(|e| ConnectError::of(&e))?;
            let options = QueueBindOptions::default();
            let bound = channel.queue_bind(queue, REPLY_EXCHANGE.into(), key, options, none()).await;
            bound.map_err(|e| ConnectError::of(&e))?;
            let _ = channel.close(200, "declared".into()).await;
            Ok(())
        };
        match tokio::time::timeout(self.config.connect_timeout, declare).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ConnectError::Absent("RabbitMQ does not answer".to_owned())),
        }
    }
}

/// Every header that is text.
fn text_headers(properties: &BasicProperties) -> Vec<(String, String)> {
    let headers = properties.headers().iter().flat_map(|headers| headers.inner());
    let text = headers.filter_map(|(name, value)| match value {
        AMQPValue::LongString(text) => Some((name.as_str().to_owned(), text.to_string())),
        _ => None,
    });
    text.collect()
}
