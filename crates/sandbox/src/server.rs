//! The listener, the routes, and the place where a scripted fault meets a request.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::admin;
use crate::beijing;
use crate::cli::Options;
use crate::faults::{Action, Asked, Faults, Strike, When};
use crate::gzip;
use crate::http::{Connection, Manner, Reply, Request};
use crate::json::Json;
use crate::kingdee::{self, Bend, Sessions, Store, answer::Problem};
use crate::ledger::{Ledger, System};
use crate::orders::{Book, Edit, Live, Plan, Sorting};
use crate::wdt::{self, Transport, answer::Refusal};

/// Time before the present at which generated orders end, so that a scheme with a lag sees them all at once.
const DEFAULT_AGE_SECONDS: i64 = 600;
/// How often a living source moves on.
const LIVE_TICK: Duration = Duration::from_millis(100);

/// A running sandbox. Dropping it closes every connection and forgets everything.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let sandbox = kingpost_sandbox::Sandbox::start(kingpost_sandbox::Options::default()).await.unwrap();
/// assert!(sandbox.url().starts_with("http://127.0.0.1:"));
/// # });
/// ```
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Sandbox {
    /// Generates the orders, listens, and writes the port and settings files where they are asked for.
    ///
    /// # Errors
    /// Options that contradict each other, an address that can't be bound, a file that can't be written.
    pub async fn start(options: Options) -> anyhow::Result<Sandbox> {
        anyhow::ensure!(
            options.unpostable <= options.orders,
            "--unpostable {} is more than --orders {}",
            options.unpostable,
            options.orders
        );
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.with_context(|| format!("can't listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        for (path, content) in [
            (&shared.options.port_file, address.to_string()),
            (&shared.options.env_file, shared.options.environment(address)),
        ] {
            if let Some(path) = path {
                write_atomically(path, &content)
                    .with_context(|| format!("can't write {}", path.display()))?;
            }
        }
        let task = tokio::spawn(async move {
            tokio::join!(accept(listener, Arc::clone(&shared)), live(&shared));
        });
        Ok(Sandbox { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until SIGINT or SIGTERM. Both are caught from the call on, not only from the first poll.
    ///
    /// # Errors
    /// The signal handlers can't be installed.
    pub fn run_until_signalled(self) -> anyhow::Result<impl Future<Output = ()>> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            drop(self);
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What every connection works on.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) book: Mutex<Book>,
    pub(crate) kingdee: Mutex<Store>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) limits: Mutex<wdt::Limits>,
    /// Locked before the book.
    pub(crate) live: Mutex<Option<Live>>,
    /// Told whenever rules are cleared.
    pub(crate) cleared: Notify,
    /// Seconds that the fake servers' clocks are ahead of ours.
    pub(crate) skew: AtomicI64,
    /// Seconds that the times at which Kingdee writes are ahead of those clocks.
    pub(crate) kingdee_skew: AtomicI64,
}

impl Shared {
    fn new(options: Options) -> Shared {
        let earliest = || Timestamp::now().as_second() - options.spread - DEFAULT_AGE_SECONDS;
        let from = options.from.map_or_else(earliest, Timestamp::as_second);
        let unfinished = options.unfinished.unwrap_or(options.orders / 50);
        let counts = [options.orders, options.unpostable, unfinished];
        let sorting = Sorting { by: options.order, shuffle_ties: options.shuffle_ties };
        let plan = Plan::new(options.seed, from, options.spread, counts);
        Shared {
            book: Mutex::new(Book::new(plan, sorting)),
            live: Mutex::new(options.live.clone().map(Live::new)),
            kingdee: Mutex::default(),
            sessions: Mutex::default(),
            ledger: Mutex::default(),
            faults: Mutex::default(),
            limits: Mutex::new(wdt::Limits::new(&options)),
            cleared: Notify::new(),
            skew: AtomicI64::new(0),
            kingdee_skew: AtomicI64::new(0),
            options,
        }
    }

    /// The epoch second on the fake servers' clocks.
    pub(crate) fn now(&self) -> i64 {
        Timestamp::now().as_second().saturating_add(self.skew.load(Ordering::Relaxed))
    }

    /// The second that Kingdee writes into a document now.
    pub(crate) fn written(&self) -> i64 {
        self.now().saturating_add(self.kingdee_skew.load(Ordering::Relaxed))
    }

    /// Waits until a rule is cleared.
    async fn until_cleared(&self, rule: u64) {
        let cleared = self.cleared.notified();
        tokio::pin!(cleared);
        loop {
            // Registered before the look, so that no clearing falls between.
            cleared.as_mut().enable();
            if !locked(&self.faults).is_armed(rule) {
                return;
            }
            cleared.as_mut().await;
            cleared.set(self.cleared.notified());
        }
    }
}

/// Locks; a panic elsewhere must not take the other requests down with it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request to one of the two systems.
enum Call {
    Wdt(wdt::Call),
    Kingdee(kingdee::Call),
}

/// A request on its way: shared, because a zombie commit outlives its connection.
struct Job {
    request: Request,
    call: Call,
    id: u64,
}

/// What is sent, and whether it is the answer that the work deserved.
struct Sent {
    reply: Reply,
    manner: Manner,
    honest: bool,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        // A failed accept is the client's broken handshake or a full file table; neither ends the sandbox.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(Arc::clone(&shared), stream));
        } else {
            sleep(Duration::from_millis(10)).await;
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Lets the source live, while it is told to.
async fn live(shared: &Shared) {
    let mut ticks = tokio::time::interval(LIVE_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        let passed = last.elapsed();
        last = Instant::now();
        if let Some(live) = locked(&shared.live).as_mut() {
            live.step(&mut locked(&shared.book), passed.as_secs_f64(), shared.now());
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let mut connection = Connection::new(stream);
    while let Ok(Some(request)) = connection.read_request().await {
        let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match answer(&shared, &mut connection, request).await {
            Ok(true) if !last => {}
            _ => return,
        }
    }
}

/// Answers one request; true when the connection may serve another.
async fn answer(
    shared: &Arc<Shared>,
    connection: &mut Connection,
    request: Request,
) -> std::io::Result<bool> {
    let call = match request.path() {
        "/router/qm" | "/router/qmtest" => Call::Wdt(wdt::read(Transport::Qimen, &request)),
        "/openapi" => Call::Wdt(wdt::read(Transport::Direct, &request)),
        _ => match kingdee::read(&request) {
            Some(call) => Call::Kingdee(call),
            None => return connection.write(&admin::answer(shared, &request), Manner::Whole).await,
        },
    };
    let (system, operation, keys, page) = match &call {
        Call::Wdt(call) => (System::Wdt, call.method.clone(), call.keys.clone(), call.page),
        Call::Kingdee(call) => (System::Kingdee, call.operation.clone(), kingdee_keys(shared, call), None),
    };
    let id = locked(&shared.ledger).begin(system, &operation, &keys);
    let asked = Asked { system, operation: &operation, keys: &keys, page };
    let fault = locked(&shared.faults).take(&asked);
    let job = Arc::new(Job { request, call, id });
    let sent = match &fault {
        Some(strike) => {
            locked(&shared.ledger).fault(id, strike.action.kind());
            perform_with(shared, &job, strike).await
        }
        None => honest(perform(shared, &job, Twist::default()).await),
    };
    let stayed = !connection.client_has_left();
    let mut reply = sent.reply;
    reply.headers.push(("date".to_owned(), beijing::http_date(shared.now())));
    let written = connection.write(&reply, sent.manner).await;
    let arrived = written.is_ok() && stayed && matches!(sent.manner, Manner::Whole | Manner::Drip { .. });
    locked(&shared.ledger).end(id, arrived && sent.honest);
    written
}

/// Every document number that a call names, those behind its ids included.
fn kingdee_keys(shared: &Shared, call: &kingdee::Call) -> Vec<String> {
    let mut keys = call.named_numbers();
    let store = locked(&shared.kingdee);
    keys.extend(call.ids().iter().filter_map(|id| store.number_of(id.parse().ok()?)));
    keys
}

/// How a fault bends the work itself.
#[derive(Clone, Copy, Debug, Default)]
struct Twist {
    save: Bend,
    page: wdt::Bend,
}

/// Does the work of a request and notes what it came to.
async fn perform(shared: &Shared, job: &Job, twist: Twist) -> Reply {
    let (reply, note) = match &job.call {
        Call::Wdt(call) => {
            let running = wdt::Limits::enter(&shared.limits);
            sleep(Duration::from_millis(shared.options.wdt_latency)).await;
            let clock = (shared.now(), job.id);
            let run = || wdt::run(call, &mut locked(&shared.book), &shared.options, clock, twist.page);
            match running.and_then(|_running| run()) {
                Ok(answer) => (answer.reply(call.transport, job.id), "ok".to_owned()),
                Err(refusal) => (refusal.reply(call.transport, job.id), refusal.note()),
            }
        }
        Call::Kingdee(call) => {
            sleep(Duration::from_millis(shared.options.kingdee_latency)).await;
            let check_gap = twist.save.check_gap.max(Duration::from_millis(shared.options.check_gap));
            let bend = Bend { check_gap, ..twist.save };
            let outcome = kingdee::run(shared, &job.request, call, job.id, bend).await;
            (outcome.reply, outcome.note)
        }
    };
    locked(&shared.ledger).outcome(job.id, &note);
    reply
}

/// Lets a fault strike: before the work, instead of it, in it, or after it.
async fn perform_with(shared: &Arc<Shared>, job: &Arc<Job>, strike: &Strike) -> Sent {
    let before = |when: When| when == When::Before;
    match &strike.action {
        Action::Delay { ms, when } if before(*when) => {
            sleep(Duration::from_millis(*ms)).await;
            honest(perform(shared, job, Twist::default()).await)
        }
        Action::Drop { when, reset } if before(*when) => silent(Manner::Drop { reset: *reset }),
        Action::Hang { when } if before(*when) => silent(Manner::Silence),
        Action::Hold { when } if before(*when) => {
            shared.until_cleared(strike.rule).await;
            honest(perform(shared, job, Twist::default()).await)
        }
        action @ Action::Status { when, .. } if before(*when) => spoiled(status(action), Manner::Whole),
        Action::ResponseError { when, message } if before(*when) => {
            spoiled(exception(message.as_deref()), Manner::Whole)
        }
        Action::SessionLost => {
            locked(&shared.sessions).end_all();
            refused(shared, job, &Sessions::lost())
        }
        Action::Conflict => {
            let text = "“example-user”使用业务单据：“采购订单”业务操作-“[反写-采购订单-CG0000000001]”冲突，请稍候再使用";
            refused(shared, job, &Problem::whole(13, text))
        }
        Action::CallLimit => refused(shared, job, &Problem::whole(14, "接口调用次数达到上限，请稍后重试")),
        Action::Refuse { msg_code, message } => {
            refused(shared, job, &Problem::whole(*msg_code, message.as_str()))
        }
        Action::LoginPage => spoiled(kingdee::answer::login_page(), Manner::Whole),
        action @ Action::Zombie { ms, code, .. } => {
            let (shared, job, ms, rule) = (Arc::clone(shared), Arc::clone(job), *ms, strike.rule);
            tokio::spawn(async move {
                match ms {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => shared.until_cleared(rule).await,
                }
                perform(&shared, &job, Twist::default()).await;
            });
            match code {
                Some(_) => spoiled(status(action), Manner::Whole),
                None => silent(Manner::Drop { reset: false }),
            }
        }
        Action::RateLimit => denied(shared, job, &Refusal::rate_limit(), false),
        Action::Ban { seconds, classic, .. } => denied(shared, job, &Refusal::ban(*seconds), *classic),
        Action::IspError => denied(shared, job, &Refusal::isp_error(), false),
        Action::WdtError { status, message } => {
            denied(shared, job, &Refusal::status(*status, message.as_str()), false)
        }
        _ => perform_then(shared, job, strike).await,
    }
}

/// The faults that strike while or after the work is done.
async fn perform_then(shared: &Shared, job: &Job, strike: &Strike) -> Sent {
    let action = &strike.action;
    let twist = match action {
        Action::CheckGap { ms } => {
            let save = Bend { check_gap: Duration::from_millis(*ms), ..Bend::default() };
            Twist { save, ..Twist::default() }
        }
        Action::AllOrNothing => {
            Twist { save: Bend { all_or_nothing: true, ..Bend::default() }, ..Twist::default() }
        }
        Action::WrongTotal { add } => bent(wdt::Bend { add_total: *add, ..wdt::Bend::default() }),
        Action::NoTotal => bent(wdt::Bend { no_total: true, ..wdt::Bend::default() }),
        Action::PageShift { add } => bent(wdt::Bend { add_page: *add, ..wdt::Bend::default() }),
        Action::Edit { what, numbers, pick } => {
            edit(shared, job, (*what, *pick), numbers);
            Twist::default()
        }
        _ => Twist::default(),
    };
    let reply = perform(shared, job, twist).await;
    match action {
        Action::Delay { ms, .. } => {
            sleep(Duration::from_millis(*ms)).await;
            honest(reply)
        }
        Action::Drop { reset, .. } => silent(Manner::Drop { reset: *reset }),
        Action::Hang { .. } => silent(Manner::Silence),
        Action::Hold { .. } => {
            shared.until_cleared(strike.rule).await;
            honest(reply)
        }
        Action::Status { .. } => spoiled(status(action), Manner::Whole),
        Action::ResponseError { message, .. } => spoiled(exception(message.as_deref()), Manner::Whole),
        Action::HalfBody { reset } => spoiled(reply, Manner::Half { reset: *reset }),
        Action::EndlessHead => spoiled(reply, Manner::EndlessHead),
        Action::GzipBomb { mib } => spoiled(bomb(*mib), Manner::Whole),
        Action::WrongIndex { add } => spoiled(with_index_off(reply, *add), Manner::Whole),
        Action::Blind => spoiled(Reply::json("[]"), Manner::Whole),
        Action::WrongLength => spoiled(reply, Manner::WrongLength),
        Action::InvalidJson => {
            let mut broken = reply;
            let half = broken.body.len() / 2;
            broken.body.truncate(half);
            broken.body.extend_from_slice(b"\xe2\x80\xa6<<");
            spoiled(broken, Manner::Whole)
        }
        Action::SlowAnswer { ms } => {
            Sent { reply, manner: Manner::Drip { over: Duration::from_millis(*ms) }, honest: true }
        }
        _ => honest(reply),
    }
}

fn bent(page: wdt::Bend) -> Twist {
    Twist { page, ..Twist::default() }
}

/// Lets something happen to orders right before a query is answered.
fn edit(shared: &Shared, job: &Job, (what, pick): (Edit, u32), numbers: &[String]) {
    let (mut book, now) = (locked(&shared.book), shared.now());
    for number in numbers {
        book.edit_number(number, what, now);
    }
    if let Call::Wdt(call) = &job.call
        && let Some(criteria) = &call.criteria
    {
        book.edit_among(criteria, (what, pick), now, job.id);
    }
}

fn honest(reply: Reply) -> Sent {
    Sent { reply, manner: Manner::Whole, honest: true }
}

fn spoiled(reply: Reply, manner: Manner) -> Sent {
    Sent { reply, manner, honest: false }
}

fn silent(manner: Manner) -> Sent {
    spoiled(Reply::text(200, ""), manner)
}

/// A refusal of Kingdee's in the shape of the operation; a plain server error to a WDT call.
fn refused(shared: &Shared, job: &Job, problem: &Problem) -> Sent {
    locked(&shared.ledger).outcome(job.id, &problem.note());
    match &job.call {
        Call::Kingdee(call) => honest(kingdee::refuse(call, problem).reply),
        Call::Wdt(_) => spoiled(error_page(500), Manner::Whole),
    }
}

/// A refusal of WDT's or TOP's; a plain server error to a Kingdee call.
fn denied(shared: &Shared, job: &Job, refusal: &Refusal, classic: bool) -> Sent {
    locked(&shared.ledger).outcome(job.id, &refusal.note());
    match &job.call {
        Call::Wdt(_) if classic => honest(refusal.classic_reply(job.id)),
        Call::Wdt(call) => honest(refusal.reply(call.transport, job.id)),
        Call::Kingdee(_) => spoiled(error_page(500), Manner::Whole),
    }
}

/// The page of a status, with the headers that the action asks for.
fn status(action: &Action) -> Reply {
    let (code, retry_after, location) = match action {
        Action::Status { code, retry_after, location, .. } => (*code, retry_after, location.clone()),
        Action::Zombie { code: Some(code), retry_after, .. } => (*code, retry_after, None),
        _ => return error_page(500),
    };
    let mut page = error_page(code);
    let headers = [("retry-after", retry_after.map(|s| s.to_string())), ("location", location)];
    page.headers.extend(headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    page
}

fn bomb(mib: u32) -> Reply {
    let mut reply = Reply::json("");
    reply.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
    reply.body = gzip::blanks(mib);
    reply
}

/// The same answer with every `DIndex` off by that much.
fn with_index_off(mut reply: Reply, add: i64) -> Reply {
    let read = std::str::from_utf8(&reply.body).ok().and_then(|text| Json::parse(text).ok());
    if let Some(mut body) = read {
        body.shift("DIndex", add);
        reply.body = body.to_string().into_bytes();
    }
    reply
}

fn exception(message: Option<&str>) -> Reply {
    kingdee::answer::exception(message.unwrap_or("时间已到。在操作完成之前超时时间已过或服务器未响应。"))
}

fn error_page(code: u16) -> Reply {
    Reply::html(code, &format!("<html><head><title>{code}</title></head><body><h1>{code}</h1></body></html>"))
}

/// Writes beside the file and renames, so that a reader never sees half of it.
fn write_atomically(path: &Path, content: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}
