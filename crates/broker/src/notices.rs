//! Short words that every listener of a virtual host hears: a fanout exchange, and a queue per listener that goes with its
//! connection. Whoever isn't listening misses them; nothing that must not be lost is told this way.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, Consumer,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    topology::{NOTICE_EXCHANGE, short},
};

/// A listener that doesn't keep up loses the oldest notices.
const MOST_WAITING: i64 = 1_000;

/// Tells.
#[derive(Clone, Debug)]
pub struct Voice {
    channel: Channel,
    timeout: Duration,
    _connection: Arc<Connection>,
}

impl Voice {
    /// Tells everybody who listens, and waits until each queue has it. Whoever takes a lock afterwards that is given back
    /// after this, and then hears itself, has heard this before.
    ///
    /// # Errors
    /// [`ConnectError`] when it isn't confirmed; some may have heard it then.
    pub async fn tell(&self, body: Bytes) -> Result<(), ConnectError> {
        let telling = async {
            let properties = BasicProperties::default().with_content_type("application/json".into());
            let exchange = NOTICE_EXCHANGE.into();
            let options = BasicPublishOptions::default();
            let confirm = self.channel.basic_publish(exchange, "".into(), options, &body, properties).await;
            match confirm.map_err(|e| ConnectError::of(&e))?.await.map_err(|e| ConnectError::of(&e))? {
                Confirmation::Ack(_) => Ok(()),
                _ => Err(ConnectError::Absent("the broker refused a notice".to_owned())),
            }
        };
        let silent = || ConnectError::Absent("the broker did not confirm a notice in time".to_owned());
        tokio::time::timeout(self.timeout, telling).await.unwrap_or_else(|_| Err(silent()))
    }
}

/// Hears what anybody tells, itself included, in one order.
#[derive(Debug)]
pub struct Ear {
    consumer: Consumer,
    connection: Arc<Connection>,
    timeout: Duration,
}

impl Ear {
    /// The next notice.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection ends; what is told until the next one is missed.
    pub async fn hear(&mut self) -> Result<Bytes, ConnectError> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Ok(delivery.data.into()),
            Some(Err(error)) => Err(ConnectError::of(&error)),
            None => Err(ConnectError::Absent("the queue of notices is gone".to_owned())),
        }
    }

    /// Stops listening; its voice is gone as well.
    pub async fn close(self) {
        let closing = self.connection.close(200, "heard enough".into());
        let _ = tokio::time::timeout(self.timeout, closing).await;
    }
}

/// Joins those who tell and hear, on a connection of its own.
pub(crate) async fn join(config: &BrokerConfig) -> Result<(Voice, Ear), ConnectError> {
    let connection = Arc::new(open(config, Role::Notice).await?);
    match tokio::time::timeout(config.connect_timeout, prepare(&connection)).await {
        Ok(Ok((channel, consumer))) => {
            let voice =
                Voice { channel, timeout: config.settle_timeout, _connection: Arc::clone(&connection) };
            Ok((voice, Ear { consumer, connection, timeout: config.settle_timeout }))
        }
        Ok(Err(error)) => {
            let closing = connection.close(200, "not joined".into());
            let _ = tokio::time::timeout(config.settle_timeout, closing).await;
            Err(error)
        }
        Err(_) => Err(ConnectError::Absent("RabbitMQ does not answer".to_owned())),
    }
}

async fn prepare(connection: &Connection) -> Result<(Channel, Consumer), ConnectError> {
    let of = |e: lapin::Error| ConnectError::of(&e);
    let channel = connection.create_channel().await.map_err(of)?;
    // Named by us and not by the broker, so that a permission can name it.
    let name = format!("notices.{:016x}", RandomState::new().build_hasher().finish());
    let queue = short(&name)?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MOST_WAITING));
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), options, arguments).await.map_err(of)?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind(queue.clone(), NOTICE_EXCHANGE.into(), "".into(), options, none).await;
    bound.map_err(of)?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await;
    let consumer = consumer.map_err(of)?;
    let telling = connection.create_channel().await.map_err(of)?;
    telling.confirm_select(ConfirmSelectOptions::default()).await.map_err(of)?;
    Ok((telling, consumer))
}
