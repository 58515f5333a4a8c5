//! A source and an outbox in memory, and the queue of windows between them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kingpost_extractor::{Account as Limited, AccountObserver, ExtractStage, WindowObserver};
use kingpost_model::{
    Abandoned, Batch, BoxFuture, Document, Failure, FailureKind, Item, Lease, Outbox, Page, Pulse, RecordKey,
    Route, Source, Stage, StageName, Verdict, Window, Work, WorkId,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A second of 2026, where test windows begin.
pub(crate) const T: i64 = 1_767_196_800;

/// A call of the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Counted from 0 over all windows.
    pub(crate) index: usize,
    pub(crate) window: Window,
    pub(crate) page: u32,
    pub(crate) at: Instant,
}

/// Lets paused time pass; it takes none.
pub(crate) async fn pass(length: Duration) {
    assert!(tokio::time::timeout(length, std::future::pending::<()>()).await.is_err());
}

/// What the source does with a call.
pub(crate) enum Act {
    Honest,
    /// Answers honestly, but after a while, and counts or doesn't.
    After(Duration, bool),
    Fail(Failure),
    Page(Page),
    /// Answers honestly, but with this count.
    Total(Option<u64>),
}

type Behave = Box<dyn Fn(&Call, &mut Vec<Document>) -> Act + Send + Sync>;

/// A source with documents on a shelf, in a stable order.
pub(crate) struct Shelf {
    size: u32,
    documents: Mutex<Vec<Document>>,
    calls: Mutex<Vec<Call>>,
    behave: Behave,
}

impl Shelf {
    pub(crate) fn new(
        size: u32,
        documents: Vec<Document>,
        behave: impl Fn(&Call, &mut Vec<Document>) -> Act + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (documents, calls) = (Mutex::new(documents), Mutex::default());
        Arc::new(Shelf { size, documents, calls, behave: Box::new(behave) })
    }

    pub(crate) fn honest(size: u32, documents: Vec<Document>) -> Arc<Self> {
        Shelf::new(size, documents, |_, _| Act::Honest)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn pages(&self) -> Vec<u32> {
        self.calls().iter().map(|call| call.page).collect()
    }

    pub(crate) fn numbers(&self) -> BTreeSet<String> {
        self.documents.lock().unwrap().iter().filter_map(|d| d.number.clone()).collect()
    }
}

/// The page of a window, with the count of the whole window.
fn honest(documents: &[Document], window: Window, page: u32, size: u32) -> Page {
    let inside = |d: &&Document| {
        d.modified_ms.is_none_or(|ms| (window.from_s..window.to_s).contains(&ms.div_euclid(1_000)))
    };
    let all: Vec<_> = documents.iter().filter(inside).cloned().collect();
    let total = Some(all.len() as u64);
    let skip = usize::try_from(u64::from(page) * u64::from(size)).unwrap();
    Page { documents: all.into_iter().skip(skip).take(size as usize).collect(), total }
}

impl Source for Shelf {
    fn page_size(&self) -> u32 {
        self.size
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        Box::pin(async move {
            let (act, honest) = {
                let mut calls = self.calls.lock().unwrap();
                let call = Call { index: calls.len(), window, page, at: Instant::now() };
                calls.push(call);
                let mut documents = self.documents.lock().unwrap();
                let act = (self.behave)(&call, &mut documents);
                (act, honest(&documents, window, page, self.size))
            };
            match act {
                Act::Honest => Ok(honest),
                Act::After(pause, counts) => {
                    pass(pause).await;
                    Ok(Page { total: honest.total.filter(|_| counts), ..honest })
                }
                Act::Fail(failure) => Err(failure),
                Act::Page(page) => Ok(page),
                Act::Total(total) => Ok(Page { total, ..honest }),
            }
        })
    }
}

/// An outbox that confirms at once, or never.
#[derive(Default)]
pub(crate) struct Tray {
    waiting: Mutex<Vec<Work>>,
    pub(crate) confirmed: Mutex<Vec<Work>>,
    pub(crate) stuck: AtomicBool,
}

impl Outbox for Tray {
    fn put(&self, route: Route, work: Work) {
        assert_eq!((route.stage, route.scheme.as_str()), (work.stage, work.scheme.as_str()));
        self.waiting.lock().unwrap().push(work);
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Abandoned>> {
        Box::pin(async {
            if self.stuck.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let mut waiting = self.waiting.lock().unwrap();
            self.confirmed.lock().unwrap().append(&mut waiting);
            Ok(())
        })
    }
}

struct Quiet;

impl WindowObserver for Quiet {
    fn read(&self, _: usize) {}
    fn split(&self) {}
    fn failed(&self) {}
}

impl AccountObserver for Quiet {
    fn limit_met(&self) {}
    fn changed(&self, _: Option<f64>, _: Option<Duration>) {}
}

/// The pulse of a connection, which beats until it is stopped.
#[derive(Debug, Default)]
pub(crate) struct Heart(pub(crate) AtomicBool);

impl Pulse for Heart {
    fn beats(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// One extractor with its source, its lease and its outbox.
pub(crate) struct House {
    pub(crate) outbox: Tray,
    pub(crate) lost: Arc<AtomicBool>,
    pub(crate) heart: Arc<Heart>,
    pub(crate) ending: CancellationToken,
    source: Arc<Shelf>,
    account: Arc<Limited>,
}

impl House {
    pub(crate) fn new(source: &Arc<Shelf>) -> Self {
        House {
            outbox: Tray::default(),
            lost: Arc::default(),
            heart: Arc::default(),
            ending: CancellationToken::new(),
            source: Arc::clone(source),
            account: Limited::new("wdt", "default", ["http://wdt.example", "sid"], Arc::new(Quiet)),
        }
    }

    /// Lets the stage judge one window message, and flushes as the harness does.
    pub(crate) async fn judge(&self, work: Work) -> Verdict {
        let stage = ExtractStage {
            scheme: "s".to_owned(),
            document: "STK_InStock".to_owned(),
            source: Arc::clone(&self.source) as Arc<dyn Source>,
            account: Arc::clone(&self.account),
            observer: Arc::new(Quiet),
            ending: self.ending.clone(),
        };
        let items = vec![Item { work, redelivered: false }];
        let lease = Lease::new(Arc::clone(&self.lost), Duration::ZERO);
        let batch = Batch { items, lease: lease.with_pulse(Arc::clone(&self.heart) as Arc<dyn Pulse>) };
        let mut verdicts = stage.process(&batch, &self.outbox).await;
        assert_eq!(verdicts.len(), 1);
        verdicts.remove(0)
    }

    pub(crate) fn documents(&self) -> Vec<Work> {
        self.of(StageName::Transform)
    }

    pub(crate) fn windows(&self) -> Vec<Work> {
        self.of(StageName::Extract)
    }

    pub(crate) fn numbers(&self) -> Vec<String> {
        self.documents().into_iter().map(|work| work.key.number).collect()
    }

    fn of(&self, stage: StageName) -> Vec<Work> {
        let confirmed = self.outbox.confirmed.lock().unwrap();
        confirmed.iter().filter(|work| work.stage == stage).cloned().collect()
    }
}

/// What became of a window and of everything that it was split into.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) documents: Vec<Work>,
    /// Failures after which a window was tried again.
    pub(crate) tried_again: Vec<Failure>,
    pub(crate) dead: Vec<(Window, Failure)>,
    /// How long each window took.
    pub(crate) took: Vec<Duration>,
}

impl Account {
    pub(crate) fn numbers(&self) -> BTreeSet<String> {
        self.documents.iter().map(|work| work.key.number.clone()).collect()
    }
}

/// Plays the queue: judges a window, its halves and its retries until nothing is left.
pub(crate) async fn play(source: &Arc<Shelf>, window: Window) -> Account {
    let house = House::new(source);
    let mut account = Account::default();
    let mut queue = VecDeque::from([window_work(window)]);
    for _ in 0..20_000 {
        let Some(mut work) = queue.pop_front() else { break };
        let begun = Instant::now();
        let verdict = house.judge(work.clone()).await;
        account.took.push(begun.elapsed());
        match verdict {
            Verdict::Done => {}
            Verdict::Retry { after, counted, failure } => {
                pass(after).await;
                account.tried_again.push(failure);
                work.attempt += u32::from(counted);
                work.verify = true;
                queue.push_back(work);
            }
            Verdict::Dead { failure } => {
                account.dead.push((serde_json::from_slice(&work.body).unwrap(), failure))
            }
        }
        queue.extend(house.windows());
        account.documents.extend(house.documents());
        house.outbox.confirmed.lock().unwrap().clear();
    }
    assert!(queue.is_empty(), "windows are handed on without end");
    account
}

pub(crate) fn window_work(window: Window) -> Work {
    let key = RecordKey::new("window", window.to_string());
    let body = serde_json::to_vec(&window).unwrap();
    Work::new(WorkId::new("w"), StageName::Extract, "s", key, body)
}

/// An hour from [`T`] on; nothing before it was ever read.
pub(crate) const fn hour() -> Window {
    Window::new(T, T + 3_600)
}

pub(crate) fn document(number: &str, modified_s: i64, body: &str) -> Document {
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    Document {
        number: Some(number.to_owned()),
        modified_ms: Some(modified_s * 1_000),
        cancelled: false,
        body,
    }
}

/// Documents spread evenly over the hour, each in a second of its own for as long as there are enough seconds.
pub(crate) fn documents(count: usize) -> Vec<Document> {
    let at = |i: usize| T + 1 + i64::try_from(i * 3_598 / count.max(1)).unwrap();
    (0..count)
        .map(|i| document(&format!("RK{i:05}"), at(i), &format!("{{\"order_no\":\"RK{i:05}\"}}")))
        .collect()
}

pub(crate) fn fails(kind: FailureKind) -> Failure {
    Failure::new(kind, "as the test wants it")
}

/// The failure of a verdict that is not `Done`, and whether the window is dead.
pub(crate) fn failure(verdict: Verdict) -> (Failure, bool) {
    match verdict {
        Verdict::Done => panic!("the window was settled as done"),
        Verdict::Retry { failure, .. } => (failure, false),
        Verdict::Dead { failure } => (failure, true),
    }
}
