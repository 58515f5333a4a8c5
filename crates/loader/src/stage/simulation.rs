//! Loaders, a broker and Kingdee in one thread on a clock of their own: deliveries, redeliveries, fresh copies and owners
//! that die, lose their connection or hand over, in whatever order the dice say, while saves are still running.
//!
//! The stage, what it knows of documents, the documents' lives and the table of failures are the real ones. The broker
//! keeps its promises: what was not settled comes again, marked, in front; one owner is given messages at a time. So does
//! the harness, of which a model small enough to be read stands here: copies are published before anything is settled,
//! and one delivery stays unsettled while the outcome of a save is not known.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use kingpost_connectors::kingdee::{
    Finish, OnChange, Rules,
    batch::{Batch as Documents, Call},
    life::{Action, Seen},
};
use kingpost_kingdee::{Catalogue, DocumentStatus, Entity, SaveAnswer};
use kingpost_model::{Abandoned, FailureRecord, Item, Lease, RecordKey, Route, StageName, Tier, WorkId};
use proptest::prelude::*;

use super::*;
use crate::standing::Moment;

const RULES: Rules = Rules { finish: Finish::Audit, on_change: OnChange::Report };
const SETTLE_MS: u64 = 240_000;
/// Documents of one batch, and batches at a time.
const ROWS: usize = 3;
const CONCURRENCY: usize = 2;
/// A run that takes more moments than this doesn't end.
const MOMENTS_MAX: u32 = 20_000;

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
    /// When something that is waited for comes.
    static WAKES: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
}

fn now_ms() -> u64 {
    NOW_MS.get()
}

fn moment() -> Moment {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let wall_ms = 1_700_000_000_000 + i64::try_from(now_ms()).unwrap();
    Moment { steady: *BEGIN + Duration::from_millis(now_ms()), wall_ms }
}

/// Ready at a moment of the simulated clock.
struct At(u64);

impl Future for At {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if now_ms() >= self.0 {
            return Poll::Ready(());
        }
        WAKES.with_borrow_mut(|wakes| wakes.insert(self.0));
        Poll::Pending
    }
}

/// Decisions from a script; when it is used up, everything goes well and at once.
#[derive(Debug)]
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0.next().map_or(0, |face| u64::from(face) % sides)
    }
}

/// Kingdee's documents by number, with their status, and saves that are still running.
#[derive(Debug)]
struct Books {
    dice: Dice,
    unique: bool,
    documents: BTreeMap<String, Vec<&'static str>>,
    running: Vec<(u64, String)>,
}

impl Books {
    /// Commits what is due.
    fn commit(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|(at, _)| *at <= now_ms());
        self.running = later;
        for (_, number) in due {
            let documents = self.documents.entry(number).or_default();
            if !self.unique || documents.is_empty() {
                documents.push("A");
            }
        }
    }

    /// A save arrives: each document is committed at its own time, or never. Returns when the answer comes, if it does.
    fn save(&mut self, numbers: &[String]) -> Option<u64> {
        let answered = self.dice.roll(4) != 3;
        let mut last = now_ms();
        for number in numbers {
            let running = self.running.iter().any(|(_, other)| other == number);
            assert!(!running, "{number} is saved while a save of it is running");
            let there = self.documents.get(number).is_some_and(|documents| !documents.is_empty());
            assert!(self.unique || !there, "{number} is saved although it is there");
            // Nothing runs longer than the settle window, and the client waits for its answer less long than that.
            let took = self.dice.roll(if answered { 90 } else { SETTLE_MS / 1_000 }) * 1_000;
            if answered || self.dice.roll(3) != 2 {
                self.running.push((now_ms() + took, number.clone()));
                last = last.max(now_ms() + took);
            }
        }
        answered.then_some(last)
    }
}

struct Kingdee(Mutex<Books>);

impl Kingdee {
    fn seen(&self, number: &str) -> Vec<Seen> {
        let mut books = self.0.lock().unwrap();
        books.commit();
        let documents = books.documents.get(number).cloned().unwrap_or_default();
        let seen = |(at, status): (usize, &str)| Seen {
            id: format!("{number}#{at}"),
            status: DocumentStatus::from(status),
            cancelled: false,
            written_s: None,
            difference: None,
        };
        documents.into_iter().enumerate().map(seen).collect()
    }

    fn roll(&self, sides: u64) -> u64 {
        self.0.lock().unwrap().dice.roll(sides)
    }

    async fn make(&self, call: &Call, documents: &mut Documents<'_>) {
        let numbers: Vec<String> = call.members.iter().map(|at| documents.number(*at).to_owned()).collect();
        let later = now_ms() + self.roll(20) * 1_000;
        match call.action {
            Action::LookUp => {
                At(later).await;
                let seen = numbers.iter().map(|number| self.seen(number)).collect();
                At(later + self.roll(20) * 1_000).await;
                documents.looked_up(call, seen);
            }
            Action::Update => unreachable!("what changed is reported"),
            Action::Save => {
                let answered = self.0.lock().unwrap().save(&numbers);
                At(answered.unwrap_or(later)).await;
                match answered {
                    Some(_) => documents.saved(call, Catalogue::builtin(), &self.saved(&numbers)),
                    None => {
                        let failure = if self.roll(2) == 1 { turned_away() } else { unanswered() };
                        documents.failed(call, &failure);
                    }
                }
            }
            Action::Submit | Action::Audit => {
                let answer = self.step(&numbers, if call.action == Action::Submit { "B" } else { "C" });
                let lost = self.roll(8) == 7;
                At(later).await;
                if lost {
                    documents.failed(call, &unanswered());
                } else {
                    documents.stepped(call, Catalogue::builtin(), &answer);
                }
            }
        }
    }

    /// The answer to a save that has run to its end.
    fn saved(&self, numbers: &[String]) -> SaveAnswer {
        let entity = |number: &String| {
            let id = self.seen(number).first().map(|seen| seen.id.clone()).unwrap();
            Entity { id, number: number.clone(), index: None }
        };
        let successes = numbers.iter().map(entity).collect();
        SaveAnswer { is_success: true, successes, errors: Vec::new(), msg_code: Some(0) }
    }

    fn step(&self, numbers: &[String], to: &'static str) -> SaveAnswer {
        let mut books = self.0.lock().unwrap();
        for number in numbers {
            if let Some(status) = books.documents.get_mut(number).and_then(|documents| documents.first_mut())
            {
                *status = to;
            }
        }
        drop(books);
        self.saved(numbers)
    }
}

fn unanswered() -> Failure {
    Failure::new(FailureKind::Unclear, "no answer").leaving_a_write_in_flight()
}

/// By a proxy, which has given the save to Kingdee before.
fn turned_away() -> Failure {
    let failure = Failure::new(FailureKind::Throttled, "503").retry_after(Duration::from_secs(5));
    failure.leaving_a_write_in_flight()
}

impl Target for Kingdee {
    fn load<'a>(
        &'a self,
        loads: &'a [Load],
        lease: &'a Lease,
    ) -> BoxFuture<'a, Vec<Result<Loaded, Failure>>> {
        Box::pin(async move {
            let begun = now_ms();
            let mut documents = Documents::new(loads, RULES);
            while let Some(call) = documents.next(Duration::from_millis(now_ms() - begun)) {
                if call.action != Action::LookUp && !lease.is_held() {
                    documents.lease_lost(&call);
                } else {
                    self.make(&call, &mut documents).await;
                }
            }
            documents.outcomes()
        })
    }
}

struct Deaf;

impl LoadObserver for Deaf {
    fn loaded(&self, _: &Loaded) {}
    fn unclear(&self) {}
    fn duplicated(&self) {}
    fn reported(&self) {}
}

impl Outbox for Deaf {
    fn put(&self, _: Route, _: Work) {}

    fn flush(&self) -> BoxFuture<'_, Result<(), Abandoned>> {
        Box::pin(async { Ok(()) })
    }
}

type Task = Pin<Box<dyn Future<Output = Vec<Verdict>>>>;

/// A loader's session: a stage that has been given messages under one lease.
struct Owner {
    stage: Arc<LoadStage>,
    lost: Arc<AtomicBool>,
    since_ms: u64,
    /// Delivered and not begun.
    held: Vec<Item>,
    tasks: Vec<(Task, Vec<Item>)>,
    /// A delivery that is kept unsettled while a save of one of these numbers may still take effect, and until when.
    kept: Option<Item>,
    doubted: BTreeMap<String, u64>,
}

struct World {
    kingdee: Arc<Kingdee>,
    queue: VecDeque<Item>,
    waiting: Vec<(u64, Work)>,
    /// The active one, and those that lost their connection while calls were running.
    owner: Owner,
    former: Vec<Owner>,
    ended: Vec<(String, bool)>,
    messages: usize,
    /// Numbers have more than one message.
    copies: bool,
    /// Nothing is begun.
    paused: bool,
    /// The harness keeps a delivery for a save without an answer. Where no number has a second message, what the retried
    /// one says of itself has to be enough.
    keeps: bool,
}

fn stage(kingdee: &Arc<Kingdee>) -> Arc<LoadStage> {
    Arc::new(LoadStage {
        target: Arc::clone(kingdee) as Arc<dyn Target>,
        claims: Arc::default(),
        unproven: Unproven::by(moment),
        cancelled: Cancelled::default(),
        settle: Duration::from_millis(SETTLE_MS),
        patience: PATIENCE,
        observer: Arc::new(Deaf),
    })
}

fn owner_of(stage: Arc<LoadStage>) -> Owner {
    Owner {
        stage,
        lost: Arc::default(),
        since_ms: now_ms(),
        held: Vec::new(),
        tasks: Vec::new(),
        kept: None,
        doubted: BTreeMap::new(),
    }
}

impl World {
    fn new(numbers: usize, (unique, copies, keeps): (bool, bool, bool), script: Vec<u8>) -> Self {
        NOW_MS.set(10 * SETTLE_MS);
        let dice = Dice(script.into_iter());
        let books = Books { dice, unique, documents: BTreeMap::new(), running: Vec::new() };
        let kingdee = Arc::new(Kingdee(Mutex::new(books)));
        let mut owner = owner_of(stage(&kingdee));
        owner.since_ms = 0;
        let mut world = World {
            kingdee,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            owner,
            former: Vec::new(),
            ended: Vec::new(),
            messages: 0,
            copies,
            paused: false,
            keeps: copies || keeps,
        };
        (0..numbers).for_each(|n| world.publish(n));
        world
    }

    fn publish(&mut self, n: usize) {
        let number = format!("RK{n}");
        let key = RecordKey::new("STK_InStock", number.as_str());
        let id = WorkId::new(format!("{number}/{}", self.messages));
        let work = Work::new(id, StageName::Load, "s", key, "{}");
        self.queue.push_back(Item { work, redelivered: false });
        self.messages += 1;
    }

    /// Everything that can happen now, then the next moment at which something can.
    fn pass(&mut self) {
        let ready = std::mem::take(&mut self.waiting);
        let (ready, waiting): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(at, _)| *at <= now_ms());
        self.waiting = waiting;
        self.queue.extend(ready.into_iter().map(|(_, work)| Item { work, redelivered: false }));
        self.deliver();
        while self.poll() {
            self.deliver();
        }
        let wake = WAKES.with_borrow_mut(std::mem::take).into_iter().find(|at| *at > now_ms());
        let due = self.waiting.iter().map(|(at, _)| *at).min();
        if let Some(next) = wake.into_iter().chain(due).min() {
            NOW_MS.set(next.max(now_ms()));
        }
        self.kingdee.0.lock().unwrap().commit();
    }

    fn deliver(&mut self) {
        let owner = &mut self.owner;
        let age = Duration::from_millis(now_ms() - owner.since_ms);
        let lease = Lease::new(Arc::clone(&owner.lost), age);
        let room = (ROWS * (CONCURRENCY + 1)).saturating_sub(owner.held.len()).min(self.queue.len());
        for item in self.queue.drain(..room) {
            owner.stage.met(&item.work, item.redelivered, &lease);
            owner.held.push(item);
        }
        // A pause of the scheme: what is delivered stays in hand.
        if self.paused {
            return;
        }
        while self.owner.tasks.len() < CONCURRENCY && !self.owner.held.is_empty() {
            let rows = ROWS.min(self.owner.held.len());
            let (items, lease): (Vec<Item>, _) = (self.owner.held.drain(..rows).collect(), lease.clone());
            let (stage, batch) = (Arc::clone(&self.owner.stage), Batch { items: items.clone(), lease });
            let task: Task = Box::pin(async move { stage.process(&batch, &Deaf).await });
            self.owner.tasks.push((task, items));
        }
    }

    /// Lets every batch go on; true when one of the active owner's has ended.
    fn poll(&mut self) -> bool {
        WAKES.with_borrow_mut(BTreeSet::clear);
        let mut context = Context::from_waker(Waker::noop());
        for former in &mut self.former {
            former.tasks.retain_mut(|(task, _)| task.as_mut().poll(&mut context).is_pending());
        }
        self.former.retain(|former| !former.tasks.is_empty());
        let mut ended = Vec::new();
        for (mut task, items) in std::mem::take(&mut self.owner.tasks) {
            match task.as_mut().poll(&mut context) {
                Poll::Ready(verdicts) => ended.push((items, verdicts)),
                Poll::Pending => self.owner.tasks.push((task, items)),
            }
        }
        let any = !ended.is_empty();
        for (items, verdicts) in ended {
            assert_eq!(items.len(), verdicts.len());
            items.iter().zip(verdicts).for_each(|(item, verdict)| self.conclude(item, verdict));
        }
        any
    }

    /// What the harness makes of a verdict.
    fn conclude(&mut self, item: &Item, verdict: Verdict) {
        let number = item.work.key.number.clone();
        self.keep(item, &verdict);
        let (after, counted, failure) = match verdict {
            Verdict::Done => return self.ended.push((number, true)),
            Verdict::Dead { .. } => return self.ended.push((number, false)),
            Verdict::Retry { after, counted, failure } => (after, counted, failure),
        };
        let wall_ms = moment().wall_ms;
        let mut next =
            item.work.after_failure(FailureRecord::of(&failure, &item.work, wall_ms, "simulated"), counted);
        if item.redelivered || failure.in_flight {
            next.unclear_since_ms = Some(wall_ms);
        }
        let delay = u64::try_from(Tier::at_least(after).delay.as_millis()).unwrap();
        self.waiting.push((now_ms() + delay, next));
    }

    /// Keeps a delivery for as long as the stage says that a save may still take effect, so that a successor is warned:
    /// of one that this owner got no answer to, of one that it waits for, and of whatever it was warned of itself.
    fn keep(&mut self, item: &Item, verdict: &Verdict) {
        let (owner, number) = (&mut self.owner, &item.work.key.number);
        let left = owner.stage.in_flight_for(&item.work);
        if matches!(verdict, Verdict::Done) {
            owner.doubted.remove(number);
        } else if !left.is_zero() {
            let until = now_ms() + u64::try_from(left.as_millis()).unwrap();
            owner.doubted.insert(number.clone(), until);
        }
        if self.keeps {
            owner.kept.get_or_insert_with(|| item.clone());
        }
        self.release();
    }

    /// Settles the delivery that is kept, once there is nothing to keep it for.
    fn release(&mut self) {
        let owner = &mut self.owner;
        owner.doubted.retain(|_, until| *until > now_ms());
        if owner.doubted.is_empty() && owner.stage.wary_for().is_zero() {
            owner.kept = None;
        }
    }

    /// The owner's connection ends: what it had not settled comes again. Its process dies with it, comes back to the
    /// queue under a new lease, or leaves it to another while its own calls still run.
    fn break_off(&mut self, how: usize) {
        self.release();
        let next = if how == 1 { Arc::clone(&self.owner.stage) } else { stage(&self.kingdee) };
        let mut former = std::mem::replace(&mut self.owner, owner_of(next));
        former.lost.store(true, Ordering::Release);
        let given = former.tasks.iter().flat_map(|(_, items)| items).chain(&former.held);
        let unsettled: Vec<Item> = former.kept.iter().chain(given).cloned().collect();
        for item in unsettled.into_iter().rev() {
            self.queue.push_front(Item { redelivered: true, ..item });
        }
        if how == 0 {
            former.tasks.clear();
        }
        self.former.push(former);
    }

    /// The owner leaves the queue to another one, if nothing of it runs and it knows of no write that may be running.
    fn step_back(&mut self) {
        self.release();
        let owner = &self.owner;
        let doubts = owner.kept.is_some() || !owner.stage.wary_for().is_zero();
        if !owner.tasks.is_empty() || (self.keeps && doubts) {
            return;
        }
        let next = stage(&self.kingdee);
        let former = std::mem::replace(&mut self.owner, owner_of(next));
        for item in former.held.into_iter().rev() {
            if item.redelivered {
                self.queue.push_front(item);
                continue;
            }
            let mut work = item.work;
            if !former.stage.in_flight_for(&work).is_zero() || !former.stage.wary_for().is_zero() {
                work.unclear_since_ms = Some(moment().wall_ms);
            }
            self.queue.push_back(Item { work, redelivered: false });
        }
    }

    fn is_idle(&self) -> bool {
        let at_rest = self.owner.tasks.is_empty() && self.owner.held.is_empty();
        self.queue.is_empty() && self.waiting.is_empty() && at_rest
    }

    /// Until everything has ended; `events` are what happens to the owners, and copies that are published.
    fn run(&mut self, events: &[u8], numbers: usize) {
        let mut events = events.iter();
        for _ in 0..MOMENTS_MAX {
            if self.is_idle() {
                return;
            }
            self.pass();
            let n = usize::from(events.next().copied().unwrap_or_default());
            self.paused = n % 5 == 4;
            match n % 12 {
                3 | 4 => self.step_back(),
                how @ 7..=9 => self.break_off(how - 7),
                10 | 11 if self.copies => self.publish(n / 12 % numbers),
                // A fresh copy at the worst moment: as the first thing that a new owner is given.
                5 | 6 if self.copies => {
                    let running =
                        self.kingdee.0.lock().unwrap().running.first().map(|(_, number)| number.clone());
                    let number = running.and_then(|number| number.strip_prefix("RK")?.parse().ok());
                    self.break_off(n / 12 % 3);
                    if n / 36 % 2 == 1 {
                        // Given what its predecessor left, it passes the queue on before it begins any of it.
                        self.paused = true;
                        self.deliver();
                        self.paused = false;
                        self.publish(number.unwrap_or_default());
                        self.step_back();
                    }
                    self.publish(number.unwrap_or_default());
                }
                _ => {}
            }
        }
        panic!("not every message ends: {:?} {:?}", self.queue, self.waiting);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No save of a number leaves while another one is running, or after one has taken effect unseen; every message
    /// ends; what ended well is there once, and audited.
    #[test]
    fn one_save_of_a_number_at_a_time_whoever_owns_it(
        numbers in 1_usize..6,
        nature in any::<(bool, bool, bool)>(),
        script in proptest::collection::vec(any::<u8>(), 0..300),
        events in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut world = World::new(numbers, nature, script);
        world.run(&events, numbers);
        // One that was kept is handed out a second time.
        prop_assert!(world.ended.len() >= world.messages);
        NOW_MS.set(now_ms() + SETTLE_MS);
        for (number, done) in &world.ended {
            let seen = world.kingdee.seen(number);
            prop_assert!(seen.len() <= 1, "{} is there {} times", number, seen.len());
            if *done {
                prop_assert_eq!(seen.first().map(|s| s.status.clone()), Some(DocumentStatus::Approved));
            }
        }
    }
}
