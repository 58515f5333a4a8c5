//! Books with documents, and the five calls that the target makes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use axum::{Router, body::Bytes, extract::State, http::Response, http::Uri};
use kingpost_connectors::{
    NoCalls,
    kingdee::{Finish, KingdeeTarget, OnChange, Rules, TargetSpec},
};
use kingpost_kingdee::{Auth, Catalogue, KingdeeClient, KingdeeConfig, safe_save_options};
use kingpost_model::{Failure, Lease, Load, Loaded, Standing, Target as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A document in Kingdee, with one line.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) id: u64,
    pub(crate) number: String,
    pub(crate) status: &'static str,
    pub(crate) cancelled: bool,
    pub(crate) quantity: String,
}

/// What Kingdee holds, and what it was called for.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) documents: Vec<Document>,
    /// `BatchSave RK1,RK2`, `Submit 100001`, `ExecuteBillQuery RK1`, `LoginBySign`.
    pub(crate) calls: Vec<String>,
}

impl Books {
    /// Adds a document of quantity 2, as `model` has it, and returns its id.
    pub(crate) fn add(&mut self, number: &str, status: &'static str) -> u64 {
        let id = 100_001 + self.documents.len() as u64;
        let (number, quantity) = (number.to_owned(), "2".to_owned());
        self.documents.push(Document { id, number, status, cancelled: false, quantity });
        id
    }

    pub(crate) fn set(&mut self, id: &str, status: &'static str) {
        self.documents.iter_mut().find(|d| d.id.to_string() == id).unwrap().status = status;
    }
}

/// One call: its method, how many of the kind came before it, and what it is about (numbers or ids).
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) before: usize,
    pub(crate) about: &'a [String],
}

/// Status and body.
pub(crate) type Reply = (u16, String);

type Hook = Box<dyn Fn(&Call<'_>, &mut Books) -> Option<Reply> + Send + Sync>;

struct Behind {
    books: Mutex<Books>,
    /// Asked first; without an answer of its own the call takes its course.
    hook: Hook,
}

/// A Kingdee on a free port.
#[derive(Clone)]
pub(crate) struct Fake {
    url: String,
    behind: Arc<Behind>,
    lost: Arc<AtomicBool>,
    /// What refusals mean to the target.
    pub(crate) texts: Catalogue,
    /// What becomes of a document that differs.
    pub(crate) on_change: OnChange,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| None).await
    }

    /// One that answers some calls otherwise.
    pub(crate) async fn with(
        hook: impl Fn(&Call<'_>, &mut Books) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::with_lease(Arc::default(), hook).await
    }

    /// One whose hook can take the lease away.
    pub(crate) async fn with_lease(
        lost: Arc<AtomicBool>,
        hook: impl Fn(&Call<'_>, &mut Books) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let behind = Arc::new(Behind { books: Mutex::default(), hook: Box::new(hook) });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/k3cloud/", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&behind));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Fake { url, behind, lost, texts: Catalogue::builtin().clone(), on_change: OnChange::Report }
    }

    /// An address where nobody listens.
    pub(crate) async fn nowhere() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/k3cloud/", listener.local_addr().unwrap());
        let behind = Arc::new(Behind { books: Mutex::default(), hook: Box::new(|_, _| None) });
        let (texts, on_change) = (Catalogue::builtin().clone(), OnChange::Report);
        Fake { url, behind, lost: Arc::default(), texts, on_change }
    }

    /// Fills the books before the first call.
    pub(crate) fn fill(&self, fill: impl FnOnce(&mut Books)) {
        fill(&mut self.behind.books.lock().unwrap());
    }

    /// Puts a document of quantity 2 into the books before the first call.
    pub(crate) fn has(&self, number: &str, status: &'static str) {
        self.behind.books.lock().unwrap().add(number, status);
    }

    /// The calls so far, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.behind.books.lock().unwrap().calls.clone()
    }

    /// Number and status of every document.
    pub(crate) fn documents(&self) -> Vec<(String, &'static str)> {
        let books = self.behind.books.lock().unwrap();
        books.documents.iter().map(|d| (d.number.clone(), d.status)).collect()
    }

    pub(crate) async fn load(&self, loads: &[Load]) -> Vec<Result<Loaded, Failure>> {
        self.load_as(Finish::Audit, Auth::SignHeaders, loads).await
    }

    pub(crate) async fn load_as(
        &self,
        finish: Finish,
        auth: Auth,
        loads: &[Load],
    ) -> Vec<Result<Loaded, Failure>> {
        let config = KingdeeConfig {
            url: self.url.clone(),
            acct_id: "60a1b2c3d4e5f6".into(),
            username: "integration".into(),
            app_id: "234567_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u".into(),
            app_secret: "0123456789abcdef0123456789abcdef".into(),
            lcid: 2052,
            org_num: "0".into(),
            auth,
            ca_file: None,
        };
        let (form, options, texts) = ("STK_InStock".into(), safe_save_options(), self.texts.clone());
        let spec = TargetSpec { form, rules: Rules { finish, on_change: self.on_change }, options, texts };
        let target = KingdeeTarget::new(KingdeeClient::new(config).unwrap(), spec, Arc::new(NoCalls));
        let lease = Lease::new(Arc::clone(&self.lost), Duration::from_secs(999));
        let outcomes = target.load(loads, &lease).await;
        assert_eq!(outcomes.len(), loads.len());
        outcomes
    }
}

/// A purchase stock-in of quantity 2 with this number.
pub(crate) fn load(number: &str, standing: Standing) -> Load {
    let model = format!(
        r#"{{"FBillNo":"{number}","FDate":"2026-08-01","FSupplierId":{{"FNumber":"G1"}},"FInStockEntry":[{{"FRealQty":2.00}}]}}"#
    );
    let (number, model) = (number.to_owned(), model.into());
    Load { number, model, standing, extracted_ms: None, cancelled: false }
}

pub(crate) fn fresh(number: &str) -> Load {
    load(number, Standing::Verify)
}

/// An answer of a write: successes as id and number, errors as index and text.
pub(crate) fn status(
    is_success: bool,
    msg_code: u8,
    successes: &[(&str, &str)],
    errors: &[(Option<i64>, &str)],
) -> Reply {
    let successes = successes.iter().enumerate();
    let successes = successes.map(|(at, (id, number))| json!({"Id": id, "Number": number, "DIndex": at}));
    let errors = errors.iter().map(|(at, text)| json!({"FieldName": null, "Message": text, "DIndex": at}));
    let answer = json!({
        "IsSuccess": is_success,
        "SuccessEntitys": successes.collect::<Vec<_>>(),
        "Errors": errors.collect::<Vec<_>>(),
        "MsgCode": msg_code,
    });
    (200, json!({"Result": {"ResponseStatus": answer}}).to_string())
}

/// A refusal of a whole call, without an index.
pub(crate) fn refusal(msg_code: u8, text: &str) -> Option<Reply> {
    Some(status(false, msg_code, &[], &[(None, text)]))
}

pub(crate) fn failure(outcome: &Result<Loaded, Failure>) -> &Failure {
    outcome.as_ref().unwrap_err()
}

pub(crate) fn taking(lost: &Arc<AtomicBool>) {
    lost.store(true, Ordering::Release);
}

async fn serve(State(behind): State<Arc<Behind>>, uri: Uri, body: Bytes) -> Response<String> {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let method = uri.path().trim_end_matches(".common.kdsvc").rsplit('.').next().unwrap();
    let about = about(method, &body);
    let mut books = behind.books.lock().unwrap();
    let before = books.calls.iter().filter(|call| call.split(' ').next() == Some(method)).count();
    books.calls.push(format!("{method} {}", about.join(",")).trim_end().to_owned());
    let call = Call { method, before, about: &about };
    let (status, body) =
        (behind.hook)(&call, &mut books).unwrap_or_else(|| books.answer(method, &about, &body));
    Response::builder().status(status).body(body).unwrap()
}

/// The numbers or ids that a call is about.
fn about(method: &str, body: &Value) -> Vec<String> {
    let data = &body["data"];
    match method {
        "BatchSave" => {
            let models = data["Model"].as_array().unwrap().iter();
            models.map(|model| model["FBillNo"].as_str().unwrap().to_owned()).collect()
        }
        "ExecuteBillQuery" => {
            data["FilterString"].as_str().unwrap().split('\'').skip(1).step_by(2).map(str::to_owned).collect()
        }
        "Submit" | "Audit" => data["Ids"].as_str().unwrap().split(',').map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

impl Books {
    pub(crate) fn answer(&mut self, method: &str, about: &[String], body: &Value) -> Reply {
        match method {
            "BatchSave" => self.save(about),
            "ExecuteBillQuery" => self.query(about, body),
            "Submit" => self.step(about, &["Z", "A", "D"], "B"),
            "Audit" => self.step(about, &["B"], "C"),
            "LoginBySign" => {
                (200, json!({"LoginResultType": 1, "KDSVCSessionId": "session-of-a-test"}).to_string())
            }
            other => panic!("{other} is no call of the target"),
        }
    }

    fn save(&mut self, numbers: &[String]) -> Reply {
        let (mut saved, mut errors) = (Vec::new(), Vec::new());
        for (at, number) in numbers.iter().enumerate() {
            if self.documents.iter().any(|d| d.number == *number) {
                let text = format!("违反字段唯一性要求：编码唯一。[{number}]在当前系统中已经被使用。");
                errors.push((i64::try_from(at).ok(), text));
            } else {
                saved.push((self.add(number, "A").to_string(), number.clone()));
            }
        }
        let saved: Vec<_> = saved.iter().map(|(id, number)| (id.as_str(), number.as_str())).collect();
        let refused: Vec<_> = errors.iter().map(|(at, text)| (*at, text.as_str())).collect();
        status(errors.is_empty(), if errors.is_empty() { 0 } else { 11 }, &saved, &refused)
    }

    fn step(&mut self, ids: &[String], from: &[&str], to: &'static str) -> Reply {
        let (mut moved, mut errors) = (Vec::new(), Vec::new());
        for (at, id) in ids.iter().enumerate() {
            let document = self.documents.iter_mut().find(|d| d.id.to_string() == *id).unwrap();
            if from.contains(&document.status) {
                document.status = to;
                moved.push((id.clone(), document.number.clone()));
            } else {
                errors.push((i64::try_from(at).ok(), format!("单据{}：当前状态不允许", document.number)));
            }
        }
        let moved: Vec<_> = moved.iter().map(|(id, number)| (id.as_str(), number.as_str())).collect();
        let refused: Vec<_> = errors.iter().map(|(at, text)| (*at, text.as_str())).collect();
        status(errors.is_empty(), if errors.is_empty() { 0 } else { 12 }, &moved, &refused)
    }

    fn query(&self, numbers: &[String], body: &Value) -> Reply {
        let fields = "FID,FBillNo,FDocumentStatus,FCancelStatus,FDate,FRealQty,FSupplierId.FNumber,FMaterialId.FNumber,\
             FStockId.FNumber,FTaxPrice,FPrice";
        assert_eq!(body["data"]["FieldKeys"], fields);
        let found = self.documents.iter().filter(|d| numbers.contains(&d.number));
        let rows = found.map(|d| {
            let cancelled = if d.cancelled { "B" } else { "A" };
            let header = [json!(d.id), json!(d.number), json!(d.status), json!(cancelled)];
            let content = [json!("2026-08-01T00:00:00"), json!(d.quantity), json!("G1")];
            Value::from_iter(header.into_iter().chain(content).chain([
                json!("M1"),
                json!("CK1"),
                Value::Null,
                Value::Null,
            ]))
        });
        (200, Value::from(rows.collect::<Vec<_>>()).to_string())
    }
}
