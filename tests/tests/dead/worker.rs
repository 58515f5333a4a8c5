//! A loader without an ERP: it remembers what it was given, and reports as real ones do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use kingpost_broker::{Broker, BrokerConfig, Destination, LaneSpec, NoObserver, Posting, Receipt, Topology};
use kingpost_model::{
    Failure, FailureKind, FailureRecord, LoadedHow, Origin, Outcome, Report, Route, StageName, Work,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{SCHEME, SOON};

/// What a document meets: nothing when it is posted, else why it is dead again.
pub(crate) type Judge = Arc<dyn Fn(&Work) -> Option<Failure> + Send + Sync>;

/// A stand-in for the loader.
pub(crate) struct Loader {
    posted: Arc<Mutex<BTreeMap<String, usize>>>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Loader {
    pub(crate) async fn start(url: &str, judge: Judge) -> Result<Self> {
        let (posted, stop) = (Arc::default(), CancellationToken::new());
        let config = BrokerConfig::for_url(url, "kingpost-test-loader/1");
        let topology = Topology::new([(SCHEME, 1)]);
        let broker = Broker::start(config, topology, Arc::new(NoObserver), &stop).await?;
        let task = tokio::spawn(work(broker, judge, Arc::clone(&posted), stop.clone()));
        Ok(Loader { posted, stop, task })
    }

    /// How often each number was posted; one that was posted before is only found.
    pub(crate) fn posted(&self) -> BTreeMap<String, usize> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await?
    }
}

async fn work(
    broker: Broker,
    judge: Judge,
    posted: Arc<Mutex<BTreeMap<String, usize>>>,
    stop: CancellationToken,
) -> Result<()> {
    let route = Route::new(StageName::Load, SCHEME);
    let (subscription, mut inboxes) =
        broker.subscribe(vec![LaneSpec { route: route.clone(), prefetch: 200 }]);
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => break,
            delivery = inboxes[0].recv() => delivery,
        };
        let Some(first) = first else { break };
        let mut batch = vec![first];
        inboxes[0].take_ready(200, &mut batch);
        let (mut postings, mut receipts) = (Vec::new(), Vec::new());
        for delivery in batch {
            let work = delivery.work;
            assert!(work.verify && work.origin == Origin::Replay, "{work:?} would be posted without a look");
            assert_eq!(work.attempt, 1);
            let outcome = match judge(&work) {
                Some(failure) => {
                    let record = FailureRecord::of(&failure, &work, 1_790_000_001_000, "w");
                    let again = work.after_failure(record.clone(), false);
                    postings.push(Posting { destination: Destination::Dead(route.clone()), work: again });
                    Outcome::Dead { failure: record }
                }
                None => post(&posted, &work),
            };
            if let Some(queue) = work.reply_to.clone() {
                let report = Report::of(&work, outcome, 1, "kingpost-test-loader/1");
                let told = Work { body: serde_json::to_vec(&report)?.into(), ..work };
                postings.push(Posting { destination: Destination::Report(queue, route.clone()), work: told });
            }
            receipts.push(delivery.receipt);
        }
        broker.outbound().publish(postings).await?;
        Receipt::acknowledge(receipts);
    }
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

/// Posts once per number, whatever comes twice.
fn post(posted: &Mutex<BTreeMap<String, usize>>, work: &Work) -> Outcome {
    let mut posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = posted.entry(work.key.number.clone()).or_default();
    *seen += 1;
    let how = if *seen == 1 { LoadedHow::Posted } else { LoadedHow::AlreadyThere };
    Outcome::Loaded { number: work.key.number.clone(), id: "7".into(), how }
}

/// Everything is posted.
pub(crate) fn all_well() -> Judge {
    Arc::new(|_| None)
}

/// Everything of a prefix fails again as it did.
pub(crate) fn failing(prefix: &'static str) -> Judge {
    Arc::new(move |work| {
        work.key.number.starts_with(prefix).then(|| Failure::new(FailureKind::BaseData, "物料[SP-9]不存在"))
    })
}
