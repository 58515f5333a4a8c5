use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kingpost_model::{Abandoned, Item, Lease, RecordKey, Route, StageName, Standing, Work, WorkId};

use super::*;

type Outcome = Result<Loaded, Failure>;

/// A target that answers each document from a function and keeps the rounds it was given.
struct Fake<F> {
    answer: F,
    rounds: Mutex<Vec<Vec<Load>>>,
}

impl<F: Fn(&Load, usize) -> Outcome + Send + Sync> Target for Fake<F> {
    fn load<'a>(&'a self, documents: &'a [Load], _: &'a Lease) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut rounds = self.rounds.lock().unwrap();
            rounds.push(documents.to_vec());
            documents.iter().map(|load| (self.answer)(load, rounds.len())).collect()
        })
    }
}

/// How often it was told of an unclear outcome, of a duplicate, and of a document that changed.
#[derive(Default)]
struct Told(AtomicUsize, AtomicUsize, AtomicUsize);

impl LoadObserver for Told {
    fn loaded(&self, _: &Loaded) {}

    fn unclear(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn duplicated(&self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }

    fn reported(&self) {
        self.2.fetch_add(1, Ordering::SeqCst);
    }
}

struct NoOutbox;

impl Outbox for NoOutbox {
    fn put(&self, _: Route, _: Work) {}

    fn flush(&self) -> BoxFuture<'_, Result<(), Abandoned>> {
        Box::pin(async { Ok(()) })
    }
}

fn item(number: &str) -> Item {
    let key = RecordKey::new("STK_InStock", number);
    let mut work = Work::new(WorkId::new(number), StageName::Load, "s", key, "{}");
    work.write_key = Some("CG1".to_owned());
    Item { work, redelivered: false }
}

fn batch(items: Vec<Item>) -> Batch {
    Batch { items, lease: Lease::new(Arc::new(AtomicBool::new(false)), Duration::from_secs(999)) }
}

fn done(load: &Load) -> Outcome {
    Ok(Loaded { number: load.number.clone(), id: "1".to_owned(), how: LoadedHow::Posted, difference: None })
}

/// Documents of one purchase order, one round each; returns the verdicts and what each round was given.
async fn run(
    documents: usize,
    patience: Duration,
    answer: impl Fn(&Load, usize) -> Outcome + Send + Sync + 'static,
) -> (Vec<Verdict>, Vec<Vec<Load>>) {
    let fake = Arc::new(Fake { answer, rounds: Mutex::default() });
    let stage = LoadStage {
        target: Arc::clone(&fake) as Arc<dyn Target>,
        claims: Arc::default(),
        unproven: Unproven::default(),
        cancelled: Cancelled::default(),
        settle: Duration::from_secs(240),
        patience,
        observer: Arc::new(Told::default()),
    };
    let batch = batch((0..documents).map(|n| item(&format!("RK{n}"))).collect());
    let verdicts = stage.process(&batch, &NoOutbox).await;
    let rounds = fake.rounds.lock().unwrap().clone();
    (verdicts, rounds)
}

fn waits(verdict: &Verdict) -> (FailureKind, bool, u64) {
    let Verdict::Retry { after, counted, failure } = verdict else { panic!("{verdict:?}") };
    (failure.kind, *counted, after.as_secs())
}

#[tokio::test]
async fn documents_of_one_purchase_order_go_one_after_the_other() {
    let (verdicts, rounds) = run(20, PATIENCE, |load, _| done(load)).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Done));
    assert_eq!(rounds.len(), 20);
}

#[tokio::test]
async fn after_an_outage_no_further_round_is_tried() {
    for kind in [FailureKind::Unavailable, FailureKind::Configuration, FailureKind::Throttled] {
        let (verdicts, rounds) = run(20, PATIENCE, move |load, round| match round {
            1 => done(load),
            _ => Err(Failure::new(kind, "the target is down")),
        })
        .await;
        assert_eq!(rounds.len(), 2, "{kind}");
        assert_eq!(verdicts[0], Verdict::Done);
        assert!(verdicts[1..].iter().all(|verdict| waits(verdict) == (kind, false, 30)), "{verdicts:?}");
    }
}

#[tokio::test]
async fn a_ban_holds_for_what_was_not_tried_too() {
    let ban =
        |_: &Load, _| Err(Failure::new(FailureKind::Throttled, "ban").retry_after(Duration::from_secs(600)));
    let (verdicts, rounds) = run(3, PATIENCE, ban).await;
    assert_eq!(rounds.len(), 1);
    assert!(verdicts.iter().all(|verdict| waits(verdict) == (FailureKind::Throttled, false, 600)));
}

#[tokio::test]
async fn after_a_write_that_timed_out_no_further_round_is_tried() {
    let (verdicts, rounds) = run(20, PATIENCE, |_, _| {
        let failure = Failure::new(FailureKind::Unclear, "no answer").leaving_a_write_in_flight();
        Err(failure.with_code(TIMED_OUT).retry_after(Duration::from_secs(77)))
    })
    .await;
    assert_eq!(rounds.len(), 1);
    assert_eq!(waits(&verdicts[0]), (FailureKind::Unclear, true, 77));
    assert!(verdicts[1..].iter().all(|verdict| waits(verdict) == (FailureKind::Unavailable, false, 30)));
}

#[tokio::test]
async fn a_document_that_fails_by_itself_holds_nobody_back() {
    for kind in [FailureKind::Refused, FailureKind::Transient, FailureKind::Unclear, FailureKind::Conflict] {
        let (verdicts, rounds) = run(4, PATIENCE, move |load, round| match round {
            1 => Err(Failure::new(kind, "this one").leaving_a_write_in_flight()),
            _ => done(load),
        })
        .await;
        assert_eq!(rounds.len(), 4, "{kind}");
        assert!(verdicts[1..].iter().all(|verdict| *verdict == Verdict::Done));
    }
}

#[tokio::test]
async fn a_batch_that_takes_too_long_gives_the_rest_back_uncounted_and_at_once() {
    let patience = Duration::from_millis(30);
    let begun = Instant::now();
    let (verdicts, rounds) = run(5, patience, move |load, _| {
        while begun.elapsed() <= 2 * patience {
            std::hint::spin_loop();
        }
        done(load)
    })
    .await;
    assert_eq!(rounds.len(), 1);
    assert_eq!(verdicts[0], Verdict::Done);
    assert!(verdicts[1..].iter().all(|verdict| waits(verdict) == (FailureKind::Unavailable, false, 0)));
}

#[tokio::test]
async fn a_write_without_evidence_makes_its_key_unproven_for_every_copy() {
    let fake = Arc::new(Fake {
        answer: |_: &Load, _: usize| -> Outcome {
            Err(Failure::new(FailureKind::Unclear, "no answer").leaving_a_write_in_flight())
        },
        rounds: Mutex::default(),
    });
    let told = Arc::new(Told::default());
    let stage = LoadStage {
        target: Arc::clone(&fake) as Arc<dyn Target>,
        claims: Arc::default(),
        unproven: Unproven::default(),
        cancelled: Cancelled::default(),
        settle: Duration::from_secs(5),
        patience: PATIENCE,
        observer: Arc::clone(&told) as Arc<dyn LoadObserver>,
    };
    let verdicts = stage.process(&batch(vec![item("RK1"), item("RK1")]), &NoOutbox).await;
    let standings: Vec<Standing> =
        fake.rounds.lock().unwrap().iter().map(|round| round[0].standing).collect();
    assert_eq!(standings, [Standing::Verify, Standing::Unproven]);
    assert_eq!(waits(&verdicts[0]), (FailureKind::Unclear, true, 5), "a short window needs no long tier");
    assert_eq!(told.0.load(Ordering::SeqCst), 2);
    assert!(stage.in_flight_for(&item("RK1").work) > Duration::ZERO, "whoever takes it over has to know");
    assert_eq!((stage.in_flight_for(&item("RK2").work), stage.wary_for()), (Duration::ZERO, Duration::ZERO));
}

#[tokio::test]
async fn a_document_that_was_saved_and_not_submitted_may_not_show_yet_either() {
    let fake = Arc::new(Fake {
        answer: |_: &Load, _: usize| -> Outcome {
            Err(Failure { saved: true, ..Failure::new(FailureKind::Transient, "locked") })
        },
        rounds: Mutex::default(),
    });
    let stage = LoadStage {
        target: Arc::clone(&fake) as Arc<dyn Target>,
        claims: Arc::default(),
        unproven: Unproven::default(),
        cancelled: Cancelled::default(),
        settle: Duration::from_secs(240),
        patience: PATIENCE,
        observer: Arc::new(Told::default()),
    };
    stage.process(&batch(vec![item("RK1"), item("RK1")]), &NoOutbox).await;
    let standings: Vec<Standing> =
        fake.rounds.lock().unwrap().iter().map(|round| round[0].standing).collect();
    assert_eq!(standings, [Standing::Verify, Standing::Unproven]);
    assert_eq!(stage.in_flight_for(&item("RK1").work), Duration::ZERO, "nothing of it is running");
}

#[tokio::test]
async fn a_duplicate_raises_an_alarm_and_stops_its_key_alone() {
    let fake = Arc::new(Fake {
        answer: |load: &Load, _: usize| -> Outcome {
            let twice = Failure::new(FailureKind::Conflict, "2 documents hold this number (ids 1, 2)");
            if load.number == "RK1" { Err(twice.with_code(DUPLICATE)) } else { done(load) }
        },
        rounds: Mutex::default(),
    });
    let told = Arc::new(Told::default());
    let stage = LoadStage {
        target: fake,
        claims: Arc::default(),
        unproven: Unproven::default(),
        cancelled: Cancelled::default(),
        settle: Duration::from_secs(240),
        patience: PATIENCE,
        observer: Arc::clone(&told) as Arc<dyn LoadObserver>,
    };
    let verdicts = stage.process(&batch(vec![item("RK1"), item("RK2")]), &NoOutbox).await;
    assert!(matches!(&verdicts[0], Verdict::Dead { failure } if failure.text.contains("ids 1, 2")));
    assert_eq!(verdicts[1], Verdict::Done);
    assert_eq!((told.0.load(Ordering::SeqCst), told.1.load(Ordering::SeqCst)), (0, 1));
}

fn of(number: &str, modified_ms: i64, cancelled: bool) -> Item {
    let mut item = item(number);
    (item.work.modified_ms, item.work.cancelled) = (Some(modified_ms), cancelled);
    item.work.extracted_ms = Some(modified_ms + 7);
    item
}

#[tokio::test]
async fn a_version_from_before_a_cancellation_is_not_posted_after_it() {
    let fake = Arc::new(Fake { answer: |load: &Load, _| done(load), rounds: Mutex::default() });
    let stage = LoadStage {
        target: Arc::clone(&fake) as Arc<dyn Target>,
        claims: Arc::default(),
        unproven: Unproven::default(),
        cancelled: Cancelled::default(),
        settle: Duration::from_secs(240),
        patience: PATIENCE,
        observer: Arc::new(Told::default()),
    };
    let first = batch(vec![of("RK1", 100, false), of("RK1", 200, true)]);
    stage.process(&first, &NoOutbox).await;
    let second = batch(vec![of("RK1", 100, false), of("RK1", 300, false), of("RK2", 100, false)]);
    stage.process(&second, &NoOutbox).await;
    let rounds = fake.rounds.lock().unwrap();
    let cancelled: Vec<_> = rounds
        .iter()
        .flatten()
        .map(|load| (load.number.as_str(), load.cancelled, load.extracted_ms))
        .collect();
    assert_eq!(
        cancelled,
        [
            ("RK1", true, Some(107)),
            ("RK1", true, Some(207)),
            ("RK1", true, Some(107)),
            ("RK1", false, Some(307)),
            ("RK2", false, Some(107))
        ]
    );
}

#[tokio::test]
async fn what_changed_and_became_a_dead_letter_is_counted() {
    let told = Arc::new(Told::default());
    for code in [CHANGED, CANCELLED, DUPLICATE, "MsgCode 11"] {
        let answer =
            move |_: &Load, _| Err(Failure::new(FailureKind::Conflict, "it differs").with_code(code));
        let stage = LoadStage {
            target: Arc::new(Fake { answer, rounds: Mutex::default() }),
            claims: Arc::default(),
            unproven: Unproven::default(),
            cancelled: Cancelled::default(),
            settle: Duration::from_secs(240),
            patience: PATIENCE,
            observer: Arc::clone(&told) as Arc<dyn LoadObserver>,
        };
        stage.process(&batch(vec![item("RK1")]), &NoOutbox).await;
    }
    assert_eq!((told.2.load(Ordering::SeqCst), told.1.load(Ordering::SeqCst)), (2, 1));
}
