//! The permissions that the documentation names are enough.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use e2e::lab::{Node, shared_broker};
use kingpost_broker::{
    AuditEvent, AuditPhase, AuditTrail, Broker, ConnectError, Custody, Destination, JournalKeep,
    JournalReader, NoObserver, Posting, Replies, Role, Topology, UserRights, tell_result,
};
use kingpost_model::{JournalStep, JournalWriter, Reconciled, StageName, Tier};
use tokio_util::sync::CancellationToken;

use crate::{Counts, QUIET, SCHEME, SOON, browse, config, lane, postings, route, start, take, vhost, work};

const DOCUMENTATION: &str = include_str!("../../../docs/rabbitmq.md");

/// The pattern of names that the documentation gives for a shell variable.
fn documented(variable: &str) -> Result<&'static str> {
    let line = DOCUMENTATION.lines().find_map(|line| line.trim().strip_prefix(&format!("{variable}='")));
    line.and_then(|rest| rest.strip_suffix('\''))
        .with_context(|| format!("docs/rabbitmq.md names no {variable}"))
}

fn patterns(user: &UserRights) -> [&'static str; 3] {
    [user.configure, user.write, user.read]
}

/// A user with these permissions in the vhost of a URL; returns the URL with which it connects.
pub(crate) async fn user(
    node: &Node,
    url: &str,
    name: &str,
    [configure, write, read]: [&str; 3],
) -> Result<String> {
    let user = format!("{name}-{}", std::process::id());
    node.ctl(&["add_user", &user, "no-secret"]).await?;
    node.ctl(&["set_permissions", "--vhost", vhost(url)?, &user, configure, write, read]).await?;
    Ok(url.replace("guest:guest", &format!("{user}:no-secret")))
}

/// Declares everything, as somebody with the right to do so does beforehand.
async fn declare_all(admin: &str) -> Result<()> {
    Topology::new([(SCHEME, 1)]).apply(&config(admin), false).await?;
    JournalKeep::default().apply(&config(admin), false).await?;
    Ok(())
}

/// Hears of limits, and takes the right to probe.
async fn share_limits(broker: &Broker) -> Result<()> {
    let (voice, mut ear) = broker.notices().await?;
    voice.tell("a notice".into()).await?;
    assert_eq!(tokio::time::timeout(SOON, ear.hear()).await.context("nothing is heard")??, "a notice");
    ear.close().await;
    let lock =
        broker.locks().take("prober.wdt.default.0").await?.context("nobody probes, and yet we may not")?;
    lock.release().await;
    Ok(())
}

/// Sends one message to each place that a stage may send to.
async fn send_everywhere(broker: &Broker, stage: StageName) -> Result<()> {
    let places = [
        Destination::Work(route(stage)),
        Destination::Wait(Tier::at_least(SOON), route(stage)),
        Destination::Dead(route(stage)),
        Destination::Report("replay.nobody".to_owned(), route(stage)),
    ];
    let group = places.map(|destination| Posting { destination, work: work(stage, 9) });
    let sending = tokio::time::timeout(SOON, broker.outbound().publish(group.into())).await;
    sending.context("never confirmed")??;
    Ok(())
}

fn compared(scheme: &str) -> Reconciled {
    let (scheme, documents) = (scheme.to_owned(), [("matched".to_owned(), 1)].into());
    Reconciled { scheme, from_s: 0, to_s: 86_400, finished_s: 90_000, agrees: true, documents }
}

/// Leads a scheme: reads and moves its cursor.
async fn lead(broker: &Broker) -> Result<()> {
    lead_with(broker, None).await
}

/// The same, and finds the result of a comparison that was told.
async fn lead_with(broker: &Broker, told: Option<&Reconciled>) -> Result<()> {
    let mut leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    assert_eq!(leader.result().await?.map(|body| body.to_vec()), told.map(Reconciled::write));
    leader.noted().await?;
    leader.advance(vec![work(StageName::Extract, 1)], "cursor".into()).await?;
    leader.cursor().await?.context("no cursor")?;
    assert_eq!(leader.depth("extract.orders").await?.map(|depth| depth.ready), Some(1));
    leader.resign().await;
    Ok(())
}

#[tokio::test]
async fn one_user_with_the_documented_permissions_can_do_all_that_the_workers_do() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("broker-permissions").await?;
    let url = user(node, &admin, "worker", [documented("NAMES")?; 3]).await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    lead(&broker).await?;
    share_limits(&broker).await?;
    for stage in [StageName::Extract, StageName::Transform, StageName::Load] {
        send_everywhere(&broker, stage).await?;
        let (subscription, mut inboxes) = broker.subscribe(lane(stage, 10));
        take(&mut inboxes[0], 1).await?;
        subscription.close(SOON).await;
    }
    assert!(broker.stranded(&CancellationToken::new()).await?.is_empty());
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn each_stage_can_do_its_part_with_the_documented_permissions() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("broker-stages").await?;
    declare_all(&admin).await?;
    let own = patterns(UserRights::named("kingpost-operator").context("no such user")?);
    let operator = config(&user(node, &admin, "reader", own).await?);
    let told = compared(SCHEME);
    assert!(tell_result(&operator, &told).await?);
    for stage in [StageName::Extract, StageName::Transform, StageName::Load] {
        let url = user(node, &admin, stage.as_str(), patterns(UserRights::of(stage))).await?;
        let counts = Arc::new(Counts::default());
        let broker = start(&url, counts.observer()).await.with_context(|| format!("{stage}"))?;
        if stage == StageName::Extract {
            lead_with(&broker, Some(&told)).await?;
            share_limits(&broker).await?;
        }
        send_everywhere(&broker, stage).await.with_context(|| format!("{stage}"))?;
        let journal = broker.journal(Some(JournalKeep::default()));
        journal.write(JournalWriter::default().event(&work(stage, 1), JournalStep::Filtered, 1));
        journal.close(SOON).await;
        let (subscription, mut inboxes) = broker.subscribe(lane(stage, 10));
        take(&mut inboxes[0], 1).await.with_context(|| format!("{stage}"))?;
        // That it may not look, where it may not, costs nobody a session.
        while tokio::time::timeout(QUIET, inboxes[0].recv()).await.is_ok_and(|more| more.is_some()) {}
        assert_eq!(counts.rebuilt_as(Role::Consume), [""; 0], "{stage}");
        subscription.close(SOON).await;
        broker.close(SOON).await;
    }
    let reader = JournalReader::open(&operator).await?.context("no journal")?;
    let mut stages = Vec::new();
    reader.scan(0, &[], |event| stages.push(event.stage)).await?;
    reader.close().await;
    assert_eq!(stages, ["extract", "transform", "load"]);
    Ok(())
}

#[tokio::test]
async fn an_operator_can_act_on_dead_letters_with_the_documented_permissions() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("broker-operator").await?;
    declare_all(&admin).await?;
    let broker = start(&admin, Arc::new(NoObserver)).await?;
    send_everywhere(&broker, StageName::Load).await?;
    broker.close(SOON).await;
    let own = patterns(UserRights::named("kingpost-operator").context("no such user")?);
    let theirs = config(&user(node, &admin, "operator", own).await?);
    assert_eq!(browse(&theirs, "load.orders.dead").await?.len(), 1);
    let replies = Replies::open(&theirs, "replay.test", Duration::from_secs(60)).await?;
    let trail = AuditTrail::open(&theirs).await?;
    trail.record(&AuditEvent::new("a-1", 1, "somebody@host", "dead replay", AuditPhase::Begun)).await?;
    let custody = Custody::take(&theirs, StageName::Load, SCHEME).await?;
    let mut round = custody.round().await?;
    let held = round.next().await?.context("no dead letter")?;
    let mut copy = held.letter.work.clone();
    copy.reply_to = Some(replies.name().to_owned());
    let destination = Destination::Work(route(StageName::Load));
    let moved = round.move_to(vec![(held, vec![Posting { destination, work: copy }.into()])]).await?;
    assert!(moved.iter().all(|moved| moved.refused.is_none()), "{moved:?}");
    round.close().await?;
    custody.release().await;
    let mut events = 0;
    trail.read(0, |_| events += 1).await?;
    assert_eq!(events, 1);
    trail.close().await;
    Ok(())
}

#[tokio::test]
async fn who_may_not_share_limits_is_refused_at_once() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("broker-deaf").await?;
    declare_all(&admin).await?;
    // What an extractor was given before there were notices.
    let before = [r"^scheduler\..+$", UserRights::of(StageName::Load).write, r"^(extract|cursor)\..+$"];
    let broker = start(&user(node, &admin, "deaf", before).await?, Arc::new(NoObserver)).await?;
    assert!(matches!(broker.notices().await, Err(ConnectError::Refused(_))));
    assert!(matches!(broker.locks().take("prober.wdt.default.0").await, Err(ConnectError::Refused(_))));
    // The queue of results came later still: it is there with a result, and can't be seen.
    assert!(tell_result(&config(&admin), &compared(SCHEME)).await?);
    lead(&broker).await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_user_with_the_rights_of_before_declares_all_but_the_queue_of_results() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("broker-before").await?;
    let before = documented("NAMES")?.replace("|reconcile", "");
    assert_ne!(before, documented("NAMES")?);
    let broker = start(&user(node, &admin, "before", [&before; 3]).await?, Arc::new(NoObserver)).await?;
    lead(&broker).await?;
    for stage in [StageName::Extract, StageName::Transform, StageName::Load] {
        send_everywhere(&broker, stage).await?;
    }
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_may_not_declare_waits_for_what_is_missing() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("broker-powerless").await?;
    let url = user(node, &admin, "powerless", patterns(UserRights::of(StageName::Transform))).await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 10));
    let outbound = broker.outbound();
    let publishing =
        tokio::spawn(async move { outbound.publish(postings(StageName::Transform, 0..5)).await });
    let early = tokio::time::timeout(QUIET, inboxes[0].recv()).await;
    assert!(early.is_err() && !publishing.is_finished(), "there is no queue yet");
    declare_all(&admin).await?;
    tokio::time::timeout(SOON, publishing).await.context("publishing didn't go on")???;
    assert_eq!(take(&mut inboxes[0], 5).await?.len(), 5);
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}
