//! A hundred thousand dead letters: too slow for every day, run with
//! `cargo nextest run -p e2e --test dead --run-ignored only --no-capture size`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::{Process, wait_until};
use kingpost_broker::{Custody, Destination, Parcel, Posting};
use kingpost_model::{Route, StageName};

use crate::{SCHEME, SOON, bury, command, config, dead, dead_queue, depth, started};

const LETTERS: usize = 100_000;
/// Far below what that many bodies take.
const RESIDENT_MAX_KB: u64 = 200_000;

/// The most memory that a process held, in kilobytes, once it has ended well.
async fn peak(process: &Process) -> Result<u64> {
    let mut peak = 0;
    wait_until(Duration::from_secs(240), "the command to end", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        peak = peak.max(kb.unwrap_or(0));
        !process.is_running()
    })
    .await?;
    let status = process.wait(SOON).await?;
    ensure!(status.success(), "{}", process.log_tail());
    Ok(peak)
}

#[tokio::test]
#[ignore = "minutes, and a gigabyte of messages"]
async fn a_hundred_thousand_letters_are_browsed_planned_and_moved_in_flat_memory() -> Result<()> {
    let (url, broker) = started("dead-size").await?;
    for chunk in 0..LETTERS / 5_000 {
        let works = (chunk * 5_000..(chunk + 1) * 5_000).map(|n| {
            let mut work = dead(&format!("RK{n:07}"), "物料[SP-9]不存在");
            work.body = format!("{{\"FBillNo\":\"RK{n:07}\",\"pad\":\"{}\"}}", "x".repeat(4_000)).into();
            work
        });
        bury(&broker, works).await?;
    }
    let folder = tempfile::tempdir()?;
    for arguments in [&["dead", "list"][..], &["dead", "plan", "--all", "--out", "p.json"]] {
        let began = Instant::now();
        let peak = peak(&command(&url, folder.path(), arguments)?).await?;
        println!("{arguments:?}: {:.1} s, {} MB at most", began.elapsed().as_secs_f64(), peak / 1_000);
        ensure!(peak < RESIDENT_MAX_KB, "{arguments:?} took {peak} kB");
    }
    assert_eq!(depth(&url, &dead_queue()).await?, u32::try_from(LETTERS)?);
    let began = Instant::now();
    let custody = Custody::take(&config(&url), StageName::Load, SCHEME).await?;
    let mut round = custody.round().await?;
    let mut batch = Vec::new();
    loop {
        let held = round.next().await?;
        let over = held.is_none();
        if let Some(held) = held {
            let destination = Destination::Work(Route::new(StageName::Load, SCHEME));
            let copy = Parcel::from(Posting { destination, work: held.letter.work.clone() });
            batch.push((held, vec![copy]));
        }
        if over || batch.len() == 512 {
            let moved = round.move_to(std::mem::take(&mut batch)).await?;
            ensure!(moved.iter().all(|moved| moved.refused.is_none()), "some were refused");
        }
        if over {
            break;
        }
    }
    round.close().await?;
    println!("moved: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(custody.depth().await?, 0);
    custody.release().await;
    let queue = Route::new(StageName::Load, SCHEME).queue();
    assert_eq!(depth(&url, &queue).await?, u32::try_from(LETTERS).context("a count")?);
    broker.close(SOON).await;
    Ok(())
}
