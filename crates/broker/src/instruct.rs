//! Telling a scheme's scheduler what to do, or what became of a comparison.

use kingpost_model::{Instruction, Reconciled, RecordKey, StageName, WORK_EXCHANGE, Work, WorkId};
use lapin::{
    Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    topology::{Topology, short},
    wire,
};

/// Puts an instruction into the queue of a scheme's scheduler, where it stays until an extractor leads; false when there
/// is no such queue.
///
/// # Errors
/// [`ConnectError`] when the broker doesn't confirm it; it may have arrived all the same when the connection ended
/// meanwhile, and its id makes a second one harmless.
pub async fn instruct(
    config: &BrokerConfig,
    scheme: &str,
    instruction: &Instruction,
) -> Result<bool, ConnectError> {
    let queue = Topology::instructions_queue(scheme);
    let body = serde_json::to_vec(instruction).map_err(|e| ConnectError::Refused(e.to_string()))?;
    let id = WorkId::new(format!("instruction-{}", instruction.id));
    let key = RecordKey::new("instruction", instruction.id.as_str());
    put(config, &queue, &Work::new(id, StageName::Extract, scheme, key, body)).await
}

/// Puts the result of a comparison of both books into the queue of its scheme, in the place of one that nobody has noted
/// yet; false when there is no such queue.
///
/// # Errors
/// [`ConnectError`] when the broker doesn't confirm it; it may have arrived all the same.
pub async fn tell_result(config: &BrokerConfig, result: &Reconciled) -> Result<bool, ConnectError> {
    let scheme = result.scheme.as_str();
    let id = WorkId::new(format!("reconcile-{scheme}-{}", result.finished_s));
    let key = RecordKey::new("reconcile", scheme);
    let work = Work::new(id, StageName::Extract, scheme, key, result.write());
    put(config, &Topology::reconcile_queue(scheme), &work).await
}

/// Puts one message into a queue; false when there is no such queue.
async fn put(config: &BrokerConfig, queue: &str, work: &Work) -> Result<bool, ConnectError> {
    let app = ShortString::try_new(config.name.as_str()).unwrap_or_default();
    let connection = open(config, Role::Publish).await?;
    let publish = async {
        let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        let select = channel.confirm_select(ConfirmSelectOptions::default()).await;
        select.map_err(|e| ConnectError::of(&e))?;
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = wire::properties(work, queue, &app, 0);
        let sent =
            channel.basic_publish(WORK_EXCHANGE.into(), short(queue)?, options, &work.body, properties).await;
        match sent.map_err(|e| ConnectError::of(&e))?.await.map_err(|e| ConnectError::of(&e))? {
            Confirmation::Ack(None) => Ok(true),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Ok(false),
            _ => Err(ConnectError::Absent(format!("the queue `{queue}` refused the message"))),
        }
    };
    let published = tokio::time::timeout(config.confirm_timeout, publish).await;
    let _ = tokio::time::timeout(config.settle_timeout, connection.close(200, "told".into())).await;
    published.unwrap_or_else(|_| Err(ConnectError::Absent("the broker did not confirm in time".to_owned())))
}
