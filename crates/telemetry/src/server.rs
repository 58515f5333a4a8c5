//! The HTTP server for scrapes and probes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use kingpost_settings::Problem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Health, Metrics, openmetrics};

/// How long an answer that is being sent may take to finish after the stop.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Serves `/metrics`, `/healthz` and `/readyz`, and what `extra` adds, until `stop` is cancelled. Gives the address that
/// was bound, which port 0 leaves to the system, and the task, which ends soon after the stop.
///
/// # Errors
/// The address can't be bound: a problem of `HTTP_ADDR`, found before any work is taken.
pub async fn serve(
    addr: SocketAddr,
    metrics: Metrics,
    health: Health,
    extra: Option<Router>,
    stop: CancellationToken,
) -> Result<(SocketAddr, JoinHandle<()>), ServeError> {
    let failed = |source| ServeError { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let ours = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state((metrics, health));
    // As a fallback, a route of the same path or a fallback of its own can't clash with ours.
    let app = match extra {
        Some(extra) => ours.fallback_service(extra),
        None => ours.fallback(nothing_here),
    };
    let task = tokio::spawn(async move {
        let stopping = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, app).with_graceful_shutdown(stopping).into_future();
        tokio::pin!(serving);
        tokio::select! {
            _ = &mut serving => {}
            () = stop.cancelled() => {
                let _ = tokio::time::timeout(LAST_ANSWERS, serving).await;
            }
        }
    });
    Ok((bound, task))
}

/// The server could not listen.
#[derive(Debug)]
pub struct ServeError {
    addr: SocketAddr,
    source: io::Error,
}

impl ServeError {
    /// What is wrong with `HTTP_ADDR` and what to do; ends the program as a settings error.
    pub fn problem(&self) -> Problem {
        bind_problem("HTTP_ADDR", self.addr, &self.source)
    }
}

/// What is wrong with an address that can't be listened on, and what to do; `variable` is the setting that names it.
pub fn bind_problem(variable: &str, addr: SocketAddr, error: &io::Error) -> Problem {
    let (received, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("{addr} is taken by another process"),
            format!("stop that process, or set {variable} to another port"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{addr} is no address of this machine"),
            format!("set {variable} to one of its addresses, or to 0.0.0.0 for every IPv4 address"),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{addr} may not be listened on"),
            format!("set {variable} to a port from 1024 up, or grant the right"),
        ),
        _ => (format!("{addr} can't be listened on ({error})"), format!("set {variable} to another address")),
    };
    Problem::new(variable, received, "an address and a port that are free", remedy)
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

async fn scrape(Shared((metrics, _)): Shared<(Metrics, Health)>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if openmetrics::is_preferred(&accepts.collect::<Vec<_>>().join(",")) {
        return ([(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)], metrics.render_openmetrics())
            .into_response();
    }
    match metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn alive(Shared((_, health)): Shared<(Metrics, Health)>) -> Response {
    let liveness = health.liveness();
    (status(liveness.alive), Json(liveness)).into_response()
}

async fn ready(Shared((_, health)): Shared<(Metrics, Health)>) -> Response {
    let readiness = health.readiness();
    (status(readiness.ready), Json(readiness)).into_response()
}

async fn nothing_here() -> Response {
    (StatusCode::NOT_FOUND, "nothing here; see /metrics, /healthz and /readyz\n").into_response()
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
