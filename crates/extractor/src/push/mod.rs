//! Takes documents that a sender pushes. A document is accepted when the broker has confirmed its message, so whatever
//! is in doubt may be sent again: equal documents have equal ids, and each is looked up in the target before it is
//! posted.

mod answer;
mod outlet;
mod request;
mod server;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use kingpost_broker::{Destination, Posting, Standing};
use kingpost_model::{RecordKey, Route, Source, StageName, TraceContext, Work};
use kingpost_settings::{ExposeSecret as _, PushSettings, PushToken, SecretString};
use kingpost_telemetry::{Health, PushMetrics, State as Condition, traces::WorkSpan};
use kingpost_worker::{Reception, ReceptionContext};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use self::{
    answer::{Answer, Fate, Line},
    outlet::Outlet,
};
use crate::ledger::version_id;

pub(crate) use self::server::listen;

/// Requests whose documents are read or not confirmed yet.
const IN_FLIGHT: usize = 32;
/// Bytes of their bodies, all together: four of the largest that `PUSH_MAX_BYTES` allows, and some smaller ones.
const BYTES_IN_FLIGHT: usize = 64 * 1024 * 1024;
/// How long a sender may take for a body.
const BODY_WITHIN: Duration = Duration::from_secs(20);
/// How long the broker may take to confirm; beyond, a sender is told that it isn't known.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// When a sender may ask again after the broker was away, in seconds.
const BROKER_AWAY_S: u64 = 5;
/// When a sender may ask again after too many asked at once, in seconds.
const BUSY_S: u64 = 1;
/// How much before the end of its grace a stopping worker answers what it still has in hand; a quarter of a short grace.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often `/readyz` is told how it stands.
const LOOK: Duration = Duration::from_millis(500);
/// The part of `/readyz`.
const COMPONENT: &str = "push";

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

/// Takes documents at an address until the worker stops; from the first moment on, since a sender that is told "later"
/// needs no patience.
pub(crate) fn receiving(listener: TcpListener, settings: PushSettings, intakes: Vec<Intake>) -> Reception {
    Box::new(move |context: ReceptionContext| {
        Box::pin(async move {
            let ReceptionContext { metrics, health, opened, stop, grace } = context;
            let address = listener.local_addr().unwrap_or(settings.addr);
            info!(%address, "documents are taken by push");
            if !address.ip().is_loopback() {
                warn!(
                    %address,
                    "PUSH_ADDR is reached from other machines: token and documents travel unencrypted unless a proxy \
                     with TLS stands before it"
                );
            }
            let ending = Ending::new(stop.clone());
            let (token, max_bytes, metrics) = (settings.token, settings.max_bytes, metrics.push());
            intakes.iter().for_each(|intake| metrics.scheme(&intake.scheme));
            let desk =
                Arc::new(Desk::new(token, max_bytes, intakes, Arc::new(opened), metrics, ending.clone()));
            let served = server::run(listener, router(Arc::clone(&desk)), ending.in_hand, stop.clone());
            let deadline = async {
                stop.cancelled().await;
                sleep(grace - LAST_ANSWERS.min(grace / 4)).await;
                ending.last_call.cancel();
            };
            // The look never ends and the deadline may come after everything is answered.
            tokio::select! {
                () = served => {}
                () = async { tokio::join!(deadline, desk.tell_health(&health)); } => {}
            }
        })
    })
}

/// The stages of a stop.
#[derive(Clone)]
struct Ending {
    /// Nothing new is taken.
    stop: CancellationToken,
    /// What is in hand is answered now, whatever is known of it.
    last_call: CancellationToken,
    /// Requests that aren't answered yet.
    in_hand: TaskTracker,
}

impl Ending {
    fn new(stop: CancellationToken) -> Self {
        Ending { stop, last_call: CancellationToken::new(), in_hand: TaskTracker::new() }
    }
}

/// Answers requests.
struct Desk {
    token: PushToken,
    max_bytes: usize,
    intakes: BTreeMap<String, Arc<Intake>>,
    outlet: Arc<dyn Outlet>,
    metrics: PushMetrics,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    ending: Ending,
    /// That the token can't be read was said, and needn't be for every request.
    complained: AtomicBool,
}

/// What one request takes up, until the broker has its documents.
struct Room {
    _place: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
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
    let _in_hand = desk.ending.in_hand.token();
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
        ending: Ending,
    ) -> Self {
        let intakes = intakes.into_iter().map(|intake| (intake.scheme.clone(), Arc::new(intake))).collect();
        Desk {
            token,
            max_bytes,
            intakes,
            outlet,
            metrics,
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            bytes: Arc::new(Semaphore::new(BYTES_IN_FLIGHT)),
            ending,
            complained: AtomicBool::new(false),
        }
    }

    /// Says in `/readyz` whether documents are taken, again and again.
    async fn tell_health(&self, health: &Health) {
        loop {
            health.set(COMPONENT, self.condition());
            sleep(LOOK).await;
        }
    }

    fn condition(&self) -> Condition {
        let reason = match self.outlet.standing() {
            _ if self.ending.stop.is_cancelled() => "the extractor stops",
            Standing::Absent => "no connection to RabbitMQ for publishing",
            Standing::Blocked => "RabbitMQ blocks publishing (memory or disk alarm)",
            Standing::Open if self.token().is_none() => "its token can't be read; the log says why",
            Standing::Open => return Condition::Ready,
        };
        Condition::NotReady(reason.to_owned())
    }

    fn tell(&self, answer: Answer, begun: Instant) -> Response {
        let answer = if self.ending.stop.is_cancelled() { answer.and_close() } else { answer };
        debug!(status = answer.status().as_u16(), outcome = answer.outcome(), "a pushed request is answered");
        self.metrics.request(answer.outcome(), begun.elapsed());
        answer.into_response()
    }

    fn turn_away(&self, headers: &HeaderMap, answer: Answer) -> Response {
        let begun = Instant::now();
        self.tell(self.admit(headers).err().unwrap_or(answer), begun)
    }

    /// The token as it is now; nothing when it can't be read, which is said once.
    fn token(&self) -> Option<SecretString> {
        match self.token.current() {
            Ok(token) => {
                self.complained.store(false, Ordering::Relaxed);
                Some(token)
            }
            Err(problem) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    error!(%problem, "nobody can push documents");
                }
                None
            }
        }
    }

    /// Lets in who knows the token.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Answer> {
        match self.token() {
            Some(token) if request::presents(headers, token.expose_secret()) => Ok(()),
            Some(_) => Err(Answer::unauthorized()),
            None => {
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
        let length = request::check(&head.headers, self.max_bytes)?;
        if self.ending.stop.is_cancelled() {
            return Err(stopping());
        }
        self.look_for_the_broker()?;
        let mut room = self.room(length)?;
        let body = self.body(body, length).await?;
        // What was kept free and isn't needed.
        drop(room.bytes.split(length.saturating_sub(body.len())));
        let span = WorkSpan::of_push(request::trace(&head.headers), scheme);
        let batch = self.batch(intake, body, span.context().clone()).await?;
        self.hand_over(scheme, batch, room).await
    }

    /// Takes up what a request with so many bytes needs.
    fn room(&self, length: usize) -> Result<Room, Answer> {
        let busy = || Answer::unavailable("too much at once; nothing of this request was taken", BUSY_S);
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(length).map_err(|_| busy())?;
        Ok(Room { _place: place, bytes })
    }

    async fn body(&self, body: Body, length: usize) -> Result<Bytes, Answer> {
        tokio::select! {
            biased;
            read = timeout(BODY_WITHIN, request::read(body, length, self.max_bytes)) => read.unwrap_or_else(|_| {
                let text = format!("the body didn't arrive within {} s", BODY_WITHIN.as_secs());
                Err(Answer::invalid(StatusCode::REQUEST_TIMEOUT, text))
            }),
            () = self.ending.last_call.cancelled() => Err(stopping()),
        }
    }

    fn look_for_the_broker(&self) -> Result<(), Answer> {
        match self.outlet.standing() {
            Standing::Open => Ok(()),
            Standing::Absent | Standing::Blocked => {
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

    /// Publishes what can be taken, and waits for the broker's word on each.
    async fn hand_over(&self, scheme: &str, batch: Batch, room: Room) -> Result<Answer, Answer> {
        let Batch { mut lines, postings } = batch;
        if !postings.is_empty() {
            self.look_for_the_broker()?;
            let confirmed = self.publish(postings, room).await;
            lines.iter_mut().for_each(|line| line.doubt(&confirmed));
        }
        for fate in Fate::ALL {
            let count = lines.iter().filter(|line| line.fate == fate).count();
            if count > 0 {
                self.metrics.documents(scheme, fate.as_str(), count);
            }
        }
        Ok(Answer::of(&lines, BROKER_AWAY_S))
    }

    /// Publishes documents; says of each whether the broker confirmed it in time.
    async fn publish(&self, postings: Vec<Posting>, room: Room) -> Vec<bool> {
        let mut confirmed = vec![false; postings.len()];
        let (telling, mut told) = mpsc::unbounded_channel();
        let publishing = self.outlet.publish(postings);
        // The room is given back when the broker has the documents, and not when the sender has lost patience: what waits
        // for a broker is limited too.
        tokio::spawn(async move {
            let _room = room;
            let waits = publishing.await.unwrap_or_default().into_iter().enumerate();
            let mut waits: FuturesUnordered<_> =
                waits.map(|(index, wait)| async move { wait.await.map(|()| index) }).collect();
            while let Some(word) = waits.next().await {
                if let Ok(index) = word {
                    // A sender that has gone doesn't listen any more.
                    let _ = telling.send(index);
                }
            }
        });
        let mut note = |index: usize| confirmed.iter_mut().skip(index).take(1).for_each(|it| *it = true);
        let hearing = async {
            while let Some(index) = told.recv().await {
                note(index);
            }
        };
        tokio::select! {
            biased;
            _ = timeout(CONFIRM_WITHIN, hearing) => {}
            () = self.ending.last_call.cancelled() => {}
        }
        confirmed
    }
}

fn stopping() -> Answer {
    Answer::unavailable("the extractor stops; nothing of this request was taken", BROKER_AWAY_S)
}

/// What one request becomes.
struct Batch {
    lines: Vec<Line>,
    postings: Vec<Posting>,
}

impl Batch {
    fn of(intake: &Intake, documents: Vec<Bytes>, trace: &TraceContext) -> Batch {
        let mut batch = Batch { lines: Vec::new(), postings: Vec::new() };
        let mut seen = HashMap::new();
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
            let (fate, message) = match seen.entry(id.clone()) {
                Entry::Occupied(before) => (Fate::Duplicate, *before.get()),
                Entry::Vacant(place) => (Fate::Accepted, *place.insert(batch.postings.len())),
            };
            batch.lines.push(Line::taken(fate, message, &number, id.as_str()));
            if fate == Fate::Duplicate {
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
