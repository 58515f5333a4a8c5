//! A server that answers each request from a function and keeps what it was sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use kingpost_kingdee::{Auth, Clock, KingdeeClient, KingdeeConfig};
use tokio::net::TcpListener;

pub(crate) const NOW: u64 = 1_735_689_600;

#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Sent {
    /// The service's last word: `BatchSave`, `LoginBySign`.
    pub(crate) fn method(&self) -> &str {
        self.path.trim_end_matches(".common.kdsvc").rsplit('.').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) fn ok(body: impl Into<String>) -> Reply {
    Reply { status: 200, headers: Vec::new(), body: body.into() }
}

type Answering = Arc<dyn Fn(&Sent, usize) -> Reply + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Fake {
    url: String,
    log: Arc<Mutex<Vec<Sent>>>,
}

#[derive(Clone)]
struct Behind {
    log: Arc<Mutex<Vec<Sent>>>,
    answer: Answering,
}

impl Fake {
    /// `answer` gets each request and how many of its method came before it.
    pub(crate) async fn start(answer: impl Fn(&Sent, usize) -> Reply + Send + Sync + 'static) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let behind = Behind { log: log.clone(), answer: Arc::new(answer) };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/k3cloud/", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(behind);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, log }
    }

    pub(crate) fn config(&self, auth: Auth) -> KingdeeConfig {
        KingdeeConfig { url: self.url.clone(), auth, ..example() }
    }

    pub(crate) fn client(&self, auth: Auth) -> KingdeeClient {
        client(self.config(auth))
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn methods(&self) -> Vec<String> {
        self.sent().iter().map(|sent| sent.method().to_owned()).collect()
    }
}

async fn serve(State(behind): State<Behind>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<String> {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let sent = Sent { path: uri.path().to_owned(), headers, body };
    let before = {
        let mut log = behind.log.lock().unwrap();
        let before = log.iter().filter(|other| other.path == sent.path).count();
        log.push(sent.clone());
        before
    };
    let reply = (behind.answer)(&sent, before);
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(reply.body).unwrap()
}

struct Fixed;

impl Clock for Fixed {
    fn unix_seconds(&self) -> u64 {
        NOW
    }
}

pub(crate) fn client(config: KingdeeConfig) -> KingdeeClient {
    KingdeeClient::with_clock(config, Arc::new(Fixed)).unwrap()
}

pub(crate) fn example() -> KingdeeConfig {
    KingdeeConfig {
        url: "http://127.0.0.1:1/k3cloud".into(),
        acct_id: "60a1b2c3d4e5f6".into(),
        username: "integration".into(),
        app_id: "234567_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u".into(),
        app_secret: "0123456789abcdef0123456789abcdef".into(),
        lcid: 2052,
        org_num: "0".into(),
        auth: Auth::SignHeaders,
        ca_file: None,
    }
}

/// A whole answer of a save with one document.
pub(crate) const SAVED: &str = r#"{"Result":{"ResponseStatus":{"IsSuccess":true,"Errors":[],"SuccessEntitys":[{"Id":102493,"Number":"RK17","DIndex":0}],"SuccessMessages":[],"MsgCode":0}}}"#;

/// What a server says that does not know the session.
pub(crate) const LOST: &str = r#"{"Result":{"ResponseStatus":{"ErrorCode":500,"IsSuccess":false,"Errors":[{"FieldName":null,"Message":"会话信息已丢失，请重新登录","DIndex":0}],"SuccessEntitys":[],"SuccessMessages":[],"MsgCode":1}}}"#;

/// A successful login with this session id.
pub(crate) fn login(session: &str) -> Reply {
    Reply {
        status: 200,
        headers: vec![
            (
                "set-cookie",
                format!("kdservice-sessionid={session}; Expires=Mon, 23 Nov 2026 09:00:00 GMT; path=/"),
            ),
            ("set-cookie", "ASP.NET_SessionId=asp1; path=/; HttpOnly".to_owned()),
            ("set-cookie", "Theme=standard; path=/".to_owned()),
        ],
        body: format!(
            r#"{{"Message":null,"MessageCode":"CheckPasswordPolicy","LoginResultType":1,"Context":{{"SessionId":"x"}},"KDSVCSessionId":"{session}","IsSuccessByAPI":true}}"#
        ),
    }
}
