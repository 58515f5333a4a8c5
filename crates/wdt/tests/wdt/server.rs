//! A server on a free port that notes what arrives and answers what it was told to.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use kingpost_wdt::{Client, QimenConfig, SignMethod, Transport, WdtConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) type Pairs = Vec<(String, String)>;

/// One request as it arrived, decoded by a form parser that is not the client's.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: Pairs,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn form(&self) -> Pairs {
        decode(&self.body)
    }
}

pub(crate) fn decode(text: &str) -> Pairs {
    let uri: Uri = format!("/?{text}").parse().unwrap();
    Query::<Pairs>::try_from_uri(&uri).unwrap().0
}

pub(crate) fn value<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = pairs.iter().filter(|(have, _)| have == name);
    let value = found.next().unwrap_or_else(|| panic!("{name} is missing"));
    assert!(found.next().is_none(), "{name} is there twice");
    &value.1
}

pub(crate) fn names(pairs: &[(String, String)]) -> Vec<&str> {
    pairs.iter().map(|(name, _)| name.as_str()).collect()
}

/// What to answer.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// Puts the query and the body of the request in the place of `{echo}`.
    pub(crate) echo: bool,
}

pub(crate) fn json(body: &str) -> Reply {
    Reply {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.to_owned(),
        echo: false,
    }
}

pub(crate) struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let app = Router::new().fallback(handle).with_state((reply, Arc::clone(&seen)));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn config(&self, transport: Transport) -> WdtConfig {
        config(&self.address, transport)
    }

    pub(crate) fn client(&self, transport: Transport) -> Client {
        Client::new(self.config(transport)).unwrap()
    }
}

async fn handle(
    State((reply, seen)): State<(Reply, Arc<Mutex<Vec<Seen>>>)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let raw = uri.query().unwrap_or_default().to_owned();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let text = if reply.echo {
        let echo: Vec<String> =
            decode(&raw).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        reply.body.replace("{echo}", &format!("{raw} {body} {}", echo.join(" ")).replace('"', ""))
    } else {
        reply.body.clone()
    };
    let content_type = headers.get(header::CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
    seen.lock().unwrap().push(Seen { path: uri.path().to_owned(), query: decode(&raw), content_type, body });
    let mut answer = HeaderMap::new();
    for (name, value) in &reply.headers {
        answer.insert(*name, value.parse().unwrap());
    }
    (StatusCode::from_u16(reply.status).unwrap(), answer, text)
}

/// A server that reads a request, writes these bytes, and hangs up, or keeps the connection open for good.
pub(crate) async fn raw_server(answer: &'static str, hang_up: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 16 * 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            if !hang_up {
                kept.push(stream);
            }
        }
    });
    address
}

/// The account of the vectors: WDT secret `secret`, salt `salt`, gateway secret `topsecret`.
pub(crate) fn config(address: &str, transport: Transport) -> WdtConfig {
    let path = match transport {
        Transport::Qimen => "router/qm",
        Transport::Direct => "openapi",
    };
    WdtConfig {
        url: format!("{address}/{path}"),
        transport,
        sid: "demo_sid".to_owned(),
        app_key: "demo_key".to_owned(),
        app_secret: "secret:salt".into(),
        qimen: Some(QimenConfig {
            app_key: "23000000".to_owned(),
            app_secret: "topsecret".into(),
            target_app_key: "21363512".to_owned(),
            sign_method: SignMethod::Md5,
        }),
        ca_file: None,
    }
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn pairs(list: &[(&str, &str)]) -> Pairs {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
