//! Browsing and holding dead letters.

use std::{ops::ControlFlow, time::Instant};

use anyhow::{Context, Result};
use kingpost_broker::{
    Custody, CustodyError, Destination, Inspector, Letter, Parcel, Posting, Replies, Round,
};
use kingpost_model::{Route, StageName};

use crate::{SCHEME, SOON, bury, config, dead, dead_queue, depth, started};

fn number(n: usize) -> String {
    format!("RK{n:07}")
}

async fn scanned(url: &str, limit: usize) -> Result<Vec<String>> {
    let inspector = Inspector::open(&config(url)).await?;
    let mut numbers = Vec::new();
    let scan = inspector
        .scan(&dead_queue(), limit, |letter| {
            numbers.push(letter.work.key.number);
            ControlFlow::Continue(())
        })
        .await?;
    assert_eq!(scan.read, numbers.len());
    inspector.close().await;
    Ok(numbers)
}

async fn take(url: &str) -> Result<Custody, CustodyError> {
    Custody::take(&config(url), StageName::Load, SCHEME).await
}

async fn rest(round: &mut Round<'_>) -> Result<Vec<String>> {
    let mut numbers = Vec::new();
    while let Some(held) = round.next().await? {
        numbers.push(held.letter.work.key.number.clone());
    }
    Ok(numbers)
}

#[tokio::test]
async fn twenty_thousand_letters_are_seen_once_each_in_order_however_often_they_are_read() -> Result<()> {
    let (url, broker) = started("dead-scan").await?;
    bury(&broker, (0..20_000).map(|n| dead(&number(n), "物料[A]不存在"))).await?;
    let expected: Vec<_> = (0..20_000).map(number).collect();
    for _ in 0..2 {
        assert!(
            scanned(&url, usize::MAX).await? == expected,
            "some are missing, twice there or out of order"
        );
    }
    assert!(scanned(&url, 5_000).await? == expected[..5_000]);
    let custody = take(&url).await?;
    let mut round = custody.round().await?;
    assert_eq!(round.mark(), 20_000);
    // A quorum queue puts what was read in part behind what was returned before.
    let mut seen = rest(&mut round).await?;
    seen.sort();
    assert!(seen == expected, "{} letters, or one twice", seen.len());
    round.close().await?;
    custody.release().await;
    assert_eq!(depth(&url, &dead_queue()).await?, 20_000);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn only_one_may_act_on_the_letters_of_a_stage_and_the_next_may_when_it_ends() -> Result<()> {
    let (url, broker) = started("dead-lock").await?;
    let first = take(&url).await?;
    let refused = take(&url).await.err().context("the second was let in")?;
    assert_eq!(refused, CustodyError::Taken { stage: StageName::Load, scheme: SCHEME.into() });
    assert!(refused.to_string().contains("another kingpost dead command is at work"), "{refused}");
    // Other stages are other letters.
    let other = Custody::take(&config(&url), StageName::Transform, SCHEME).await?;
    other.release().await;
    first.release().await;
    take(&url).await?.release().await;
    let missing = Custody::take(&config(&url), StageName::Load, "no-such-scheme").await.err();
    assert_eq!(missing, Some(CustodyError::Missing("load.no-such-scheme.dead".into())));
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn letters_are_moved_removed_or_left_and_what_no_queue_takes_stays() -> Result<()> {
    let (url, broker) = started("dead-moves").await?;
    bury(&broker, (0..6).map(|n| dead(&number(n), "x"))).await?;
    let custody = take(&url).await?;
    let mut round = custody.round().await?;
    let (mut moves, mut removed) = (Vec::new(), Vec::new());
    let copy = |letter: &Letter, scheme: &str| {
        let destination = Destination::Work(Route::new(StageName::Load, scheme));
        Parcel::from(Posting { destination, work: letter.work.clone() })
    };
    while let Some(held) = round.next().await? {
        match held.letter.work.key.number.as_str() {
            "RK0000001" => removed.push(held),
            "RK0000002" => {
                // One of its two copies finds no queue: the letter stays.
                let copies = vec![copy(&held.letter, SCHEME), copy(&held.letter, "no-such-scheme")];
                moves.push((held, copies));
            }
            "RK0000003" => round.leave(held),
            _ => {
                let copies = vec![copy(&held.letter, SCHEME)];
                moves.push((held, copies));
            }
        }
    }
    // It dies while the round runs: it belongs to the next one.
    bury(&broker, [dead(&number(9), "late")]).await?;
    let moved = round.move_to(moves).await?;
    round.remove(removed).await?;
    let refused: Vec<_> = moved.iter().filter_map(|moved| moved.refused.as_deref()).collect();
    assert!(matches!(refused.as_slice(), [why] if why.contains("load.no-such-scheme")), "{refused:?}");
    assert!(round.next().await?.is_none());
    round.close().await?;
    let mut next = custody.round().await?;
    let mut left = rest(&mut next).await?;
    left.sort();
    assert_eq!(left, ["RK0000002", "RK0000003", "RK0000009"]);
    next.close().await?;
    assert_eq!(depth(&url, &format!("load.{SCHEME}")).await?, 4);
    custody.release().await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_letter_that_was_written_to_a_file_comes_back_as_it_was() -> Result<()> {
    let (url, broker) = started("dead-lossless").await?;
    let mut work = dead("RK采购1", "物料[A]不存在");
    work.headers = vec![("ticket".into(), "T-1".into())];
    work.body = "{ \"n\" : 1.2300,\"t\":\"\\u0041\" }\r\n".into();
    bury(&broker, [work]).await?;
    let custody = take(&url).await?;
    let mut round = custody.round().await?;
    let held = round.next().await?.context("no letter")?;
    let line = held.letter.to_json().to_string();
    let before = held.letter.clone();
    round.remove(vec![held]).await?;
    round.close().await?;
    assert_eq!(custody.depth().await?, 0);
    let letter = Letter::from_json(&serde_json::from_str(&line)?)?;
    assert_eq!(custody.publish(vec![letter.into()]).await?, [None]);
    let mut round = custody.round().await?;
    let after = round.next().await?.context("it did not come back")?.letter;
    assert_eq!(after.to_json(), before.to_json());
    assert_eq!((after.work, after.failure), (before.work, before.failure));
    drop(round);
    custody.release().await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_is_told_and_the_letters_are_still_there() -> Result<()> {
    let node = e2e::lab::shared_broker().await?;
    let (url, broker) = started("dead-lost").await?;
    bury(&broker, (0..10).map(|n| dead(&number(n), "x"))).await?;
    let custody = take(&url).await?;
    let mut round = custody.round().await?;
    let held = round.next().await?.context("no letter")?;
    let vhost = url.rsplit('/').next().context("no vhost in the URL")?;
    node.ctl(&["close_all_connections", "--vhost", vhost, "test"]).await?;
    let error = match round.remove(vec![held]).await {
        Err(error) => error,
        Ok(()) => round.close().await.err().context("a lost acknowledgement was taken for done")?,
    };
    assert!(matches!(error, CustodyError::Lost { .. }), "{error}");
    assert!(!custody.is_held());
    e2e::lab::wait_until(SOON, "the letters to be back", async || {
        depth(&url, &dead_queue()).await.is_ok_and(|depth| depth == 10)
    })
    .await?;
    take(&url).await?.release().await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn what_was_reported_is_read_again_by_whoever_comes_back() -> Result<()> {
    let (url, broker) = started("dead-replies").await?;
    for _ in 0..2 {
        let replies =
            Replies::open(&config(&url), "replay.test-1", std::time::Duration::from_secs(3_600)).await?;
        if depth(&url, replies.name()).await? == 0 {
            let route = Route::new(StageName::Load, SCHEME);
            let postings = (0..3_000).map(|n| Posting {
                destination: Destination::Report(replies.name().to_owned(), route.clone()),
                work: dead(&number(n), "x"),
            });
            broker.outbound().publish(postings.collect()).await?;
        }
        let (seen, began) = (std::cell::Cell::new(0), Instant::now());
        let done = tokio::sync::Notify::new();
        let read = replies.read(
            |reply| {
                assert!(reply.headers.iter().any(|(name, _)| name == "kingpost-key"));
                seen.set(seen.get() + 1);
            },
            || done.notify_one(),
        );
        tokio::select! {
            _ = read => anyhow::bail!("the reading ended"),
            () = done.notified() => {}
        }
        assert_eq!(seen.get(), 3_000);
        assert!(began.elapsed() < SOON);
    }
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn every_acknowledgement_counts_however_many_there_are_at_once() -> Result<()> {
    // The channel of a quorum queue keeps some back and forgets them when it is closed too soon.
    let (url, broker) = started("dead-acks").await?;
    bury(&broker, (0..3_000).map(|n| dead(&number(n), "x"))).await?;
    let custody = take(&url).await?;
    for left in [2_000, 1_000, 0] {
        let mut round = custody.round().await?;
        let (mut taken, mut n) = (Vec::new(), 0);
        while let Some(held) = round.next().await? {
            n += 1;
            // Scattered over the queue, so that no single command covers them.
            if (left == 0 || n % 2 == 0) && taken.len() < 1_000 {
                taken.push(held);
            }
        }
        round.remove(taken).await?;
        round.close().await?;
        assert_eq!(custody.depth().await?, left);
    }
    custody.release().await;
    broker.close(SOON).await;
    Ok(())
}
