//! Several extractors of one account, which hear each other in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Lets paused time pass; it takes none.
async fn pass(length: Duration) {
    assert!(tokio::time::timeout(length, std::future::pending::<()>()).await.is_err());
}

const fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[derive(Default)]
struct Seen {
    limits: AtomicUsize,
    closed: AtomicUsize,
}

impl AccountObserver for Seen {
    fn limit_met(&self) {
        self.limits.fetch_add(1, Ordering::Relaxed);
    }

    fn changed(&self, _: Option<f64>, closed_for: Option<Duration>) {
        self.closed.store(usize::from(closed_for.is_some()), Ordering::Relaxed);
    }
}

fn account(seen: &Arc<Seen>) -> Arc<Account> {
    let observer = Arc::clone(seen) as Arc<dyn AccountObserver>;
    Account::new("wdt", "default", ["http://wdt.example", "example-sid"], observer)
}

/// Where they hear each other, and one holds the right to probe.
#[derive(Default)]
struct Hall {
    accounts: Mutex<Vec<Arc<Account>>>,
    held: Mutex<bool>,
}

struct Seat {
    hall: Arc<Hall>,
    number: usize,
}

struct Key(Arc<Hall>);

impl Right for Key {
    fn give_back(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(self) })
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap() = false;
    }
}

impl Company for Seat {
    fn tell<'a>(&'a self, _: &'a Account, word: Word) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let all = self.hall.accounts.lock().unwrap().clone();
            for (number, account) in all.iter().enumerate() {
                if number != self.number {
                    account.hear(&word).await;
                }
            }
        })
    }

    fn turn<'a>(&'a self, _: &'a Account) -> BoxFuture<'a, Turn> {
        Box::pin(async {
            // As long as a connection takes.
            pass(Duration::from_millis(20)).await;
            let taken = std::mem::replace(&mut *self.hall.held.lock().unwrap(), true);
            if taken { Turn::Theirs } else { Turn::Ours(Box::new(Key(Arc::clone(&self.hall)))) }
        })
    }
}

fn company(count: usize) -> (Vec<Arc<Account>>, Arc<Seen>) {
    let (hall, seen) = (Arc::new(Hall::default()), Arc::<Seen>::default());
    for number in 0..count {
        let account = account(&seen);
        account.join(Some(Arc::new(Seat { hall: Arc::clone(&hall), number })));
        hall.accounts.lock().unwrap().push(account);
    }
    let accounts = hall.accounts.lock().unwrap().clone();
    (accounts, seen)
}

/// A source that is closed between two times, and what was asked of it.
struct Banned {
    begun: Instant,
    closed: std::ops::Range<Duration>,
    /// How long it says that it is closed, or not.
    tells: bool,
    calls: Mutex<Vec<(Duration, Duration, bool)>>,
}

impl Banned {
    fn new(closed: std::ops::Range<Duration>, tells: bool) -> Arc<Self> {
        Arc::new(Banned { begun: Instant::now(), closed, tells, calls: Mutex::default() })
    }

    /// Answers after 200 ms as it was when it was asked.
    async fn call(&self) -> Result<(), Failure> {
        let at = self.begun.elapsed();
        pass(Duration::from_millis(200)).await;
        let open = !self.closed.contains(&at);
        self.calls.lock().unwrap().push((at, self.begun.elapsed(), open));
        let refused = Failure::new(FailureKind::Throttled, "limit");
        match open {
            true => Ok(()),
            false if self.tells => Err(refused.retry_after(self.closed.end - at)),
            false => Err(refused),
        }
    }

    /// When calls began and ended and whether they were answered, by when they began.
    fn calls(&self) -> Vec<(Duration, Duration, bool)> {
        let mut calls = self.calls.lock().unwrap().clone();
        calls.sort_unstable();
        calls
    }
}

/// An extractor that calls until it was answered so often, and gives its window back where it has to.
async fn caller(account: Arc<Account>, source: Arc<Banned>, mut answers: u32) {
    while answers > 0 {
        match account.admit(Instant::now() + seconds(600)).await {
            Ok(admission) => {
                let answer = source.call().await;
                admission.end(&answer).await;
                answers -= u32::from(answer.is_ok());
            }
            Err(refusal) => pass(refusal.retry_after.unwrap()).await,
        }
    }
}

async fn all_call(accounts: &[Arc<Account>], source: &Arc<Banned>, answers: u32) {
    let callers: Vec<_> = accounts
        .iter()
        .map(|account| tokio::spawn(caller(Arc::clone(account), Arc::clone(source), answers)))
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_ban_of_hours_is_met_once_and_its_end_is_probed_by_one() {
    let (accounts, seen) = company(3);
    let end = seconds(31_062);
    let source = Banned::new(seconds(1)..end, true);
    all_call(&accounts, &source, 30).await;
    let calls = source.calls();
    let refused: Vec<_> = calls.iter().filter(|call| !call.2).collect();
    assert!(refused.len() <= 3, "only what was under way when the ban began: {refused:?}");
    assert!(refused.iter().all(|call| call.0 < seconds(2)), "{refused:?}");
    assert_eq!(seen.limits.load(Ordering::Relaxed), refused.len());
    let mut after = calls.iter().filter(|call| call.0 >= end);
    let probe = after.next().unwrap();
    assert!(probe.0 < end + seconds(1), "the account is used again soon after the ban: {probe:?}");
    assert!(
        after.all(|call| call.0 >= probe.1),
        "somebody else called before the probe was answered: {calls:?}"
    );
    assert_eq!(seen.closed.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_does_not_say_how_long_it_lasts_is_probed_by_one_and_left_alone_longer() {
    let (accounts, _) = company(3);
    let source = Banned::new(seconds(0)..seconds(900), false);
    all_call(&accounts, &source, 2).await;
    let calls = source.calls();
    let refused: Vec<u64> = calls.iter().filter(|call| !call.2).map(|call| call.0.as_secs()).collect();
    // Three met it together; then one at a time, after 65 s, 2, 5 and 10 minutes.
    assert_eq!(refused.len(), 6, "{refused:?}");
    for (probe, expected) in refused[3..].iter().zip([65, 185, 485]) {
        assert!(probe.abs_diff(expected) <= 3, "{refused:?}");
    }
    let (first, next) = (calls[6], calls[7]);
    assert!(first.2 && next.0 >= first.1, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_dies_leaves_the_right_to_the_next() {
    let (accounts, _) = company(2);
    let [one, other] = accounts.as_slice() else { panic!("two") };
    let limit: Result<(), _> = Err(Failure::new(FailureKind::Throttled, "limit").retry_after(seconds(10)));
    one.admit(Instant::now() + seconds(600)).await.unwrap().end(&limit).await;
    pass(seconds(10)).await;
    let probe = one.admit(Instant::now() + seconds(600)).await.unwrap();
    assert!(probe.ticket.probe && probe.right.is_some());
    let (next, ()) = tokio::join!(other.admit(Instant::now() + seconds(600)), async {
        pass(seconds(60)).await;
        drop(probe);
    });
    let next = next.unwrap();
    assert!(next.ticket.probe && next.right.is_some(), "it may only probe");
    next.end(&Ok::<_, Failure>(())).await;
    let free = one.admit(Instant::now() + seconds(600)).await.unwrap();
    assert!(!free.ticket.probe, "it has heard that the account is open");
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_an_answer_proves_nothing() {
    let (accounts, _) = company(1);
    let limit: Result<(), _> = Err(Failure::new(FailureKind::Throttled, "limit").retry_after(seconds(10)));
    let latest = || Instant::now() + seconds(600);
    accounts[0].admit(latest()).await.unwrap().end(&limit).await;
    for _ in 0..3 {
        let probe = accounts[0].admit(latest()).await.unwrap();
        assert!(probe.ticket.probe);
        probe.end(&Err::<(), _>(Failure::new(FailureKind::Unavailable, "down"))).await;
    }
    let probe = accounts[0].admit(latest()).await.unwrap();
    probe.end(&Err::<(), _>(Failure::new(FailureKind::Refused, "another matter"))).await;
    assert!(!accounts[0].admit(latest()).await.unwrap().ticket.probe, "an answer is an answer");
}

#[tokio::test(start_paused = true)]
async fn alone_the_windows_of_one_process_still_send_one_probe() {
    let account = account(&Arc::default());
    let source = Banned::new(seconds(0)..seconds(20), true);
    all_call(&[Arc::clone(&account), Arc::clone(&account), account], &source, 2).await;
    let calls = source.calls();
    assert_eq!(calls.iter().filter(|call| !call.2).count(), 3, "{calls:?}");
    assert!(calls[4].0 >= calls[3].1, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_is_not_held_through_a_long_ban_and_no_call_is_made() {
    let (accounts, _) = company(2);
    let limit: Result<(), _> = Err(Failure::new(FailureKind::Throttled, "limit").retry_after(seconds(3_600)));
    accounts[0].admit(Instant::now() + seconds(600)).await.unwrap().end(&limit).await;
    pass(seconds(600)).await;
    for account in &accounts {
        let begun = Instant::now();
        let refusal = account.admit(Instant::now() + seconds(100_000)).await.err().unwrap();
        assert_eq!((refusal.kind, refusal.retry_after), (FailureKind::Throttled, Some(seconds(3_000))));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_told_what_the_others_know() {
    let (accounts, _) = company(2);
    let [one, late] = accounts.as_slice() else { panic!("two") };
    let limit: Result<(), _> = Err(Failure::new(FailureKind::Throttled, "limit").retry_after(seconds(3_600)));
    let hall = one.company().unwrap();
    one.join(None);
    one.admit(Instant::now() + seconds(600)).await.unwrap().end(&limit).await;
    one.join(Some(hall));
    late.hush(Some(Instant::now() + seconds(3)));
    let asked = async {
        pass(seconds(1)).await;
        late.tell(Word::Asks).await;
        late.hush(None);
    };
    let (refusal, ()) = tokio::join!(late.admit(Instant::now() + seconds(600)), asked);
    assert_eq!(refusal.err().unwrap().retry_after, Some(seconds(3_599)));
    assert_eq!(late.gate().per_minute(), one.gate().per_minute());
}

#[test]
fn accounts_of_one_name_are_told_apart_and_nothing_of_them_is_told() {
    let seen = Arc::<Seen>::default();
    let key = |url, sid| {
        Account::new("wdt", "north", [url, sid], Arc::clone(&seen) as Arc<dyn AccountObserver>).key()
    };
    let one = key("http://wdt.example/router/qm", "sid-1");
    assert_eq!(one, key("http://wdt.example/router/qm/", "sid-1"));
    assert_ne!(one, key("http://wdt.example/router/qm", "sid-2"));
    assert_ne!(one, key("http://other.example/router/qm", "sid-1"));
    assert!(one.starts_with("wdt.north.") && !one.contains("sid") && !one.contains("example"), "{one}");
}

#[test]
fn words_are_written_as_they_are_read() {
    for word in [
        Word::Closed { for_ms: 1, met: true, times: 2 },
        Word::Open,
        Word::Asks,
        Word::Paced { per_minute: 42.5, once: Some(60.0) },
        Word::Paced { per_minute: 42.5, once: None },
    ] {
        let text = serde_json::to_string(&word).unwrap();
        assert_eq!(serde_json::from_str::<Word>(&text).unwrap(), word, "{text}");
    }
}
