//! The HTTP server for senders. They are other people's programs, so everything has an end: heads, connections, their
//! number.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kingpost_settings::Problem;
use kingpost_telemetry::bind_problem;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

/// Connections at once; more wait in the system's own queue.
const CONNECTIONS: usize = 256;
/// How long the head of a request may take, and a connection be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The largest head.
const HEAD_BYTES: usize = 64 * 1024;
/// How long a connection lives, so that one whose peer reads nothing ends too.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// How long a request may take from its head on.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// How long connections may take to end after the last answer; a sender that reads nothing would keep its own for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Pause after a connection couldn't be taken, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Listens at an address.
///
/// # Errors
/// A problem of `PUSH_ADDR`: it is taken, or can't be listened on.
pub(crate) fn listen(addr: SocketAddr) -> Result<StdListener, Problem> {
    let listening = StdListener::bind(addr).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listening.map_err(|error| bind_problem("PUSH_ADDR", addr, &error))
}

/// Serves until the stop, then takes no connection any more and waits for the requests in hand, which end by themselves.
pub(super) async fn run(listener: StdListener, app: Router, in_hand: TaskTracker, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "no documents can be pushed: the socket can't be used"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, app.clone(), stop.clone(), place));
                }
                Err(error) => {
                    warn!(%error, "a connection of a sender could not be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    drop(listener);
    in_hand.close();
    in_hand.wait().await;
    let last = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_WORDS, last).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, app: Router, stop: CancellationToken, _place: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let mut settings = http1::Builder::new();
    settings.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
    let connection = settings.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    tokio::pin!(connection);
    // How a connection ends is its sender's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(REQUEST_WITHIN, connection).await;
}
