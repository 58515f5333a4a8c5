use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER, SET_COOKIE};
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, redirect, retry};

use crate::error::{Delivery, HttpSetupError, TransportError};
use crate::url::place;

/// Idle connections go before the usual 60 s of proxies, so that a write rarely meets one that is just closing.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// The manners of one client.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Name resolution, TCP and TLS together. Default 10 s.
    pub connect_timeout: Duration,
    /// From the call of [`HttpClient::post`] to the last byte of the body, unless the request has its own.
    /// Default 60 s.
    pub total_timeout: Duration,
    /// Largest accepted body in bytes, counted after decompression. Default 32 MiB.
    pub max_body_bytes: usize,
    /// PEM file with certificates to trust besides those of the system: a private CA or one self-signed server.
    pub ca_file: Option<PathBuf>,
    /// Value of the `User-Agent` header. Default `kingpost/<version>`.
    pub user_agent: String,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
            max_body_bytes: 32 * 1024 * 1024,
            ca_file: None,
            user_agent: concat!("kingpost/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A connection pool with fixed manners. Cloning shares the pool.
#[derive(Clone)]
pub struct HttpClient {
    inner: reqwest::Client,
    total_timeout: Duration,
    max_body_bytes: usize,
    peer: Arc<Peer>,
}

type Told = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Who is told of the server's certificate.
#[derive(Default)]
struct Peer {
    tell: OnceLock<Told>,
    /// The one that was seen last (DER).
    last: Mutex<Vec<u8>>,
}

impl Peer {
    fn seen(&self, answer: &reqwest::Response) {
        let Some(tell) = self.tell.get() else { return };
        let Some(der) = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate) else {
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != der {
            tell(der);
            der.clone_into(&mut last);
        }
    }
}

impl HttpClient {
    /// Makes the pool; connects nowhere yet.
    ///
    /// # Errors
    /// [`HttpSetupError`] when the certificate file is unusable or the TLS stack finds no roots to trust.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpSetupError> {
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .gzip(true)
            .tls_info(true)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_keepalive(Duration::from_secs(30))
            .user_agent(options.user_agent.as_str());
        if let Some(path) = &options.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        let inner = builder
            .build()
            .map_err(|error| HttpSetupError::Refused { reason: causes(&error.without_url()) })?;
        let HttpOptions { total_timeout, max_body_bytes, .. } = *options;
        Ok(Self { inner, total_timeout, max_body_bytes, peer: Arc::default() })
    }

    /// Has the server's own certificate (DER) told with its first answer, and whenever it is another one. Clones share who
    /// is told; a second one isn't.
    pub fn on_peer_certificate(&self, tell: impl Fn(&[u8]) + Send + Sync + 'static) {
        let _ = self.peer.tell.set(Box::new(tell));
    }

    /// Sends one POST, once, and reads the whole answer. Any status is a [`Response`], a redirect too.
    ///
    /// # Errors
    /// [`TransportError`] when there is no whole answer; its `delivery` says whether the request can have arrived.
    pub async fn post(&self, request: Request) -> Result<Response, TransportError> {
        let place = place(&request.url);
        let deadline = request.timeout.unwrap_or(self.total_timeout);
        tracing::trace!(?request, "http request");
        let started = Instant::now();
        // A deadline around the whole exchange also ends a body that drips for ever.
        let result = tokio::time::timeout(deadline, Box::pin(self.exchange(request, &place)))
            .await
            .unwrap_or_else(|_| {
                Err(TransportError {
                    delivery: Delivery::Unknown,
                    timeout: true,
                    text: format!("{place}: no whole answer within {deadline:?}"),
                })
            });
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(response) => {
                tracing::debug!(
                    place,
                    status = response.status,
                    bytes = response.body.len(),
                    elapsed_ms,
                    "http answer"
                );
            }
            Err(error) => {
                tracing::debug!(delivery = ?error.delivery, error = %error, elapsed_ms, "http no answer")
            }
        }
        result
    }

    async fn exchange(&self, request: Request, place: &str) -> Result<Response, TransportError> {
        let mut builder = self.inner.post(&request.url).header(CONTENT_TYPE, request.content_type);
        for (name, value) in &request.headers {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let mut answer = builder.body(request.body).send().await.map_err(|error| {
            let unsent = error.is_builder() || error.is_connect();
            transport(if unsent { Delivery::NotSent } else { Delivery::Unknown }, error, place)
        })?;
        self.peer.seen(&answer);
        let status = answer.status().as_u16();
        let date = text_of(answer.headers(), &DATE).next();
        let headers = kept(answer.headers());
        let mut body = BytesMut::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| transport(Delivery::Unknown, error, place))?
        {
            if body.len() + chunk.len() > self.max_body_bytes {
                return Err(TransportError {
                    delivery: Delivery::Unknown,
                    timeout: false,
                    text: format!(
                        "{place}: status {status} with a body of more than {} bytes, reading stopped: ask for less",
                        self.max_body_bytes
                    ),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, date, headers, body: body.freeze() })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("total_timeout", &self.total_timeout)
            .field("max_body_bytes", &self.max_body_bytes)
            .finish_non_exhaustive()
    }
}

/// One POST. `Debug` shows header names without values and the length of the body.
#[derive(Clone)]
pub struct Request {
    /// Absolute; sent as [`base_url`](crate::base_url) normalises it.
    pub url: String,
    /// True when the query carries a signature or key, so that not even trace logs show it.
    pub query_is_secret: bool,
    /// Sent besides `Content-Type`, `User-Agent`, `Accept` and `Accept-Encoding: gzip`.
    pub headers: Vec<(String, String)>,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Sent as it is.
    pub body: Bytes,
    /// In the place of [`HttpOptions::total_timeout`]. A value below the connect time-out makes a slow connect
    /// [`Delivery::Unknown`].
    pub timeout: Option<Duration>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let url = if self.query_is_secret { place(&self.url) } else { self.url.clone() };
        f.debug_struct("Request")
            .field("url", &url)
            .field("headers", &names)
            .field("content_type", &self.content_type)
            .field("body_bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A whole answer. `Debug` shows no cookie and no body.
#[derive(Clone)]
pub struct Response {
    /// HTTP status, 3xx to 5xx included.
    pub status: u16,
    /// The server's clock (`Date` header) as sent, RFC 9110 §6.6.1.
    pub date: Option<String>,
    /// `set-cookie` (one entry for each), `content-type` and `retry-after`, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whole body, decompressed, not decoded.
    pub body: Bytes,
}

impl Response {
    /// First value of a kept header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("date", &self.date)
            .field("content_type", &self.header("content-type"))
            .field("retry_after", &self.header("retry-after"))
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, HttpSetupError> {
    let pem = std::fs::read(path)
        .map_err(|source| HttpSetupError::CaFileUnreadable { path: path.to_owned(), source })?;
    let found = Certificate::from_pem_bundle(&pem)
        .map_err(|error| HttpSetupError::CaFileInvalid { path: path.to_owned(), reason: causes(&error) })?;
    if found.is_empty() {
        let reason = "no certificate in it".to_owned();
        return Err(HttpSetupError::CaFileInvalid { path: path.to_owned(), reason });
    }
    Ok(found)
}

fn transport(delivery: Delivery, error: reqwest::Error, place: &str) -> TransportError {
    let timeout = error.is_timeout();
    let what = match (delivery, timeout) {
        (Delivery::NotSent, true) => "not connected in time",
        (Delivery::NotSent, false) => "not sent",
        (Delivery::Unknown, _) => "sent, but no whole answer",
    };
    TransportError { delivery, timeout, text: format!("{place}: {what}: {}", causes(&error.without_url())) }
}

/// An error and what is under it; layers that repeat the one below are named once.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let layer = cause.to_string();
        if !text.contains(&layer) {
            text.push_str(": ");
            text.push_str(&layer);
        }
        next = cause.source();
    }
    text
}

fn text_of<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = String> + 'a {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    [SET_COOKIE, CONTENT_TYPE, RETRY_AFTER]
        .iter()
        .flat_map(|name| text_of(headers, name).map(|value| (name.as_str().to_owned(), value)))
        .collect()
}
