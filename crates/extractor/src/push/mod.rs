//! Takes documents that a sender pushes. A document is accepted when the broker has confirmed its message, so whatever
//! is in doubt may be sent again: equal documents have equal ids, and each is looked up in the target before it is
//! posted.

mod answer;
mod request;
mod server;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use kingpost_broker::{Destination, Outbound, Posting};
use kingpost_model::{Abandoned, BoxFuture, RecordKey, Route, Source, StageName, TraceContext, Work};
use kingpost_settings::{ExposeSecret as _, PushSettings, PushToken};
use kingpost_telemetry::{PushMetrics, traces::WorkSpan};
use kingpost_worker::{Background, BackgroundContext};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::{debug, error, info, warn};

use self::answer::{Answer, Fate, Line};
use crate::ledger::version_id;

pub(crate) use self::server::listen;

/// Requests whose documents are read or not confirmed yet; each may hold a whole body in memory.
const IN_FLIGHT: usize = 32;
/// How long a sender may take for a body.
const BODY_WITHIN: Duration = Duration::from_secs(20);
/// How long the broker may take to confirm; beyond, a sender is told that it isn't known.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// When a sender may ask again after the broker was away, in seconds.
const BROKER_AWAY_S: u64 = 5;
/// When a sender may ask again after too many asked at once, in seconds.
const BUSY_S: u64 = 1;

/// What is told of a path or a scheme that isn't there; which ones are is nobody's business.
const NOT_FOUND: &str =
    "nothing is here; documents go to POST /v1/schemes/<scheme>/documents of a known scheme";

/// A scheme that documents are taken for.
pub(crate) struct Intake {
    pub(crate) scheme: String,
    /// The target's document type, the first half of every key.
    pub(crate) document: String,
    pub(crate) source: Arc<dyn Source>,
}

/// Where accepted documents go.
trait Outlet: Send + Sync {
    fn is_open(&self) -> bool;
    fn publish(&self, postings: Vec<Posting>) -> BoxFuture<'static, Result<(), Abandoned>>;
}

impl Outlet for Outbound {
    fn is_open(&self) -> bool {
        Outbound::is_open(self)
    }

    fn publish(&self, postings: Vec<Posting>) -> BoxFuture<'static, Result<(), Abandoned>> {
        let outbound = self.clone();
        Box::pin(async move { Outbound::publish(&outbound, postings).await })
    }
}

/// Takes documents at an address until the worker stops.
pub(crate) fn receiving(listener: TcpListener, settings: PushSettings, intakes: Vec<Intake>) -> Background {
    Box::new(move |context: BackgroundContext| {
        Box::pin(async move {
            let address = listener.local_addr().unwrap_or(settings.addr);
            info!(%address, "documents are taken by push");
            if !address.ip().is_loopback() {
                warn!(
                    %address,
                    "PUSH_ADDR is reached from other machines: token and documents travel unencrypted unless a proxy \
                     with TLS stands before it"
                );
            }
            let outlet = Arc::new(context.broker.outbound());
            let desk = Desk::new(settings.token, settings.max_bytes, intakes, outlet, context.metrics.push());
            // Held any longer, it would keep the connections from being closed in order.
            drop(context.broker);
            server::run(listener, router(Arc::new(desk)), context.stop).await;
        })
    })
}

/// Answers requests.
struct Desk {
    token: PushToken,
    max_bytes: usize,
    intakes: BTreeMap<String, Arc<Intake>>,
    outlet: Arc<dyn Outlet>,
    metrics: PushMetrics,
    places: Arc<Semaphore>,
    /// That the token can't be read was said, and needn't be for every request.
    complained: AtomicBool,
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/schemes/{scheme}/documents", post(receive))
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_path)
        .with_state(desk)
}

async fn receive(
    State(desk): State<Arc<Desk>>,
    scheme: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let scheme = scheme.map(|Path(scheme)| scheme).unwrap_or_default();
    let answer = desk.take(&scheme, request).await.unwrap_or_else(|answer| answer);
    desk.tell(answer, begun)
}

async fn wrong_method(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    let text = "documents are taken by POST";
    desk.turn_away(&headers, Answer::invalid(StatusCode::METHOD_NOT_ALLOWED, text))
}

async fn wrong_path(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    desk.turn_away(&headers, Answer::invalid(StatusCode::NOT_FOUND, NOT_FOUND))
}

impl Desk {
    fn new(
        token: PushToken,
        max_bytes: usize,
        intakes: Vec<Intake>,
        outlet: Arc<dyn Outlet>,
        metrics: PushMetrics,
    ) -> Self {
        let intakes = intakes.into_iter().map(|intake| (intake.scheme.clone(), Arc::new(intake))).collect();
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        Desk { token, max_bytes, intakes, outlet, metrics, places, complained: AtomicBool::new(false) }
    }

    fn tell(&self, answer: Answer, begun: Instant) -> Response {
        debug!(status = answer.status().as_u16(), outcome = answer.outcome(), "a pushed request is answered");
        self.metrics.request(answer.outcome(), begun.elapsed());
        answer.into_response()
    }

    fn turn_away(&self, headers: &HeaderMap, answer: Answer) -> Response {
        let begun = Instant::now();
        self.tell(self.admit(headers).err().unwrap_or(answer), begun)
    }

    /// Lets in who knows the token.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Answer> {
        match self.token.current() {
            Ok(token) => {
                self.complained.store(false, Ordering::Relaxed);
                let known = request::presents(headers, token.expose_secret());
                if known { Ok(()) } else { Err(Answer::unauthorized()) }
            }
            Err(problem) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    error!(%problem, "nobody can push documents");
                }
                let text = "the receiver can't read its own token; its operator finds the reason in the log";
                Err(Answer::unavailable(text, BROKER_AWAY_S))
            }
        }
    }

    /// Whoever asks is asked for the token first, and nothing is read before that.
    async fn take(&self, scheme: &str, request: Request) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        self.admit(&head.headers)?;
        let Some(intake) = self.intakes.get(scheme) else {
            return Err(Answer::invalid(StatusCode::NOT_FOUND, NOT_FOUND));
        };
        request::check(&head.headers, self.max_bytes)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Answer::unavailable("too many requests at once; nothing of this one was taken", BUSY_S)
        })?;
        self.look_for_the_broker()?;
        let body = match timeout(BODY_WITHIN, request::read(body, self.max_bytes)).await {
            Ok(read) => read?,
            Err(_) => {
                let text = format!("the body didn't arrive within {} s", BODY_WITHIN.as_secs());
                return Err(Answer::invalid(StatusCode::REQUEST_TIMEOUT, text));
            }
        };
        let span = WorkSpan::of_push(request::trace(&head.headers), scheme);
        let batch = self.batch(intake, body, span.context().clone()).await?;
        self.hand_over(scheme, batch, place).await
    }

    fn look_for_the_broker(&self) -> Result<(), Answer> {
        match self.outlet.is_open() {
            true => Ok(()),
            false => {
                let text = "RabbitMQ takes nothing at the moment; nothing of this request was taken";
                Err(Answer::unavailable(text, BROKER_AWAY_S))
            }
        }
    }

    /// Reads the documents of a body, beside the thread that talks to the broker: a large one takes a while.
    async fn batch(&self, intake: &Arc<Intake>, body: Bytes, trace: TraceContext) -> Result<Batch, Answer> {
        let intake = Arc::clone(intake);
        let reading = tokio::task::spawn_blocking(move || {
            let documents = request::documents(&body)?;
            Ok(Batch::of(&intake, documents, &trace))
        });
        let text = "the documents could not be read just now; nothing of this request was taken";
        reading.await.unwrap_or_else(|_| Err(Answer::unavailable(text, BROKER_AWAY_S)))
    }

    /// Publishes what can be taken, and waits for the broker's word.
    async fn hand_over(
        &self,
        scheme: &str,
        batch: Batch,
        place: OwnedSemaphorePermit,
    ) -> Result<Answer, Answer> {
        let Batch { mut lines, postings } = batch;
        if !postings.is_empty() {
            self.look_for_the_broker()?;
            let publishing = self.outlet.publish(postings);
            // The place is given back when the broker has the documents, and not when the sender has lost patience: what
            // waits for a broker is limited too.
            let confirmed = tokio::spawn(async move {
                let _place = place;
                publishing.await
            });
            if !matches!(timeout(CONFIRM_WITHIN, confirmed).await, Ok(Ok(Ok(())))) {
                lines.iter_mut().for_each(Line::doubt);
            }
        }
        for fate in Fate::ALL {
            let count = lines.iter().filter(|line| line.fate == fate).count();
            if count > 0 {
                self.metrics.documents(scheme, fate.as_str(), count);
            }
        }
        Ok(Answer::of(&lines, BROKER_AWAY_S))
    }
}

/// What one request becomes.
struct Batch {
    lines: Vec<Line>,
    postings: Vec<Posting>,
}

impl Batch {
    fn of(intake: &Intake, documents: Vec<Bytes>, trace: &TraceContext) -> Batch {
        let mut batch = Batch { lines: Vec::new(), postings: Vec::new() };
        let mut seen = HashSet::new();
        for body in documents {
            let document = match intake.source.read(body) {
                Ok(document) => document,
                Err(failure) => {
                    batch.lines.push(Line::refused(failure.text));
                    continue;
                }
            };
            let id = version_id(&intake.scheme, &document);
            let number = document.number.unwrap_or_else(|| id.as_str().to_owned());
            let fresh = seen.insert(id.clone());
            let fate = if fresh { Fate::Accepted } else { Fate::Duplicate };
            batch.lines.push(Line::taken(fate, &number, id.as_str()));
            if !fresh {
                continue;
            }
            let key = RecordKey::new(&*intake.document, number);
            let mut work = Work::new(id, StageName::Transform, &*intake.scheme, key, document.body);
            // A sender may send again, and the schedule reads the document as well.
            work.verify = true;
            work.modified_ms = document.modified_ms;
            // Nobody knows when the sender read it; what is known is that it was the newest at its time of change. So an old
            // version that is pushed late never overwrites a newer draft.
            work.extracted_ms = document.modified_ms;
            work.cancelled = document.cancelled;
            work.set_trace(trace);
            let route = Route::new(StageName::Transform, &*intake.scheme);
            batch.postings.push(Posting { destination: Destination::Work(route), work });
        }
        batch
    }
}
