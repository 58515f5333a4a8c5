//! A small HTTP client over a plain socket, so that a broken answer is seen as it is, and the signatures.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use kingpost_sandbox::{Options, Sandbox};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

/// What came back over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Bytes that the head promised.
    pub(crate) promised: usize,
    /// Bytes that came after the head.
    pub(crate) received: usize,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// A sandbox and ways to call it. Orders lie between 2026-08-01 00:00 and 01:00 Beijing time.
pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
}

pub(crate) const START: &str = "2026-08-01 00:00:00";
pub(crate) const END: &str = "2026-08-01 01:00:00";

pub(crate) fn options() -> Options {
    let from = Some("2026-08-01T00:00:00+08:00".parse().unwrap());
    Options { orders: 60, unpostable: 12, unfinished: Some(5), from, spread: 3600, ..Options::default() }
}

impl Lab {
    pub(crate) async fn start() -> Lab {
        Lab::with(options()).await
    }

    pub(crate) async fn with(options: Options) -> Lab {
        Lab { sandbox: Sandbox::start(options).await.unwrap() }
    }

    /// One request; nothing when the connection ends without a head.
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Option<Answer> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        timeout(DEADLINE, exchange(self.sandbox.address(), request)).await.expect("an answer in time")
    }

    pub(crate) async fn get(&self, target: &str) -> Value {
        self.send("GET", target, &[], "").await.unwrap().json()
    }

    pub(crate) async fn post(&self, target: &str, body: Value) -> Value {
        self.send("POST", target, &[], &body.to_string()).await.unwrap().json()
    }

    /// Arms one fault, once.
    pub(crate) async fn fault(&self, operation: &str, action: Value) {
        let armed = self.post("/admin/faults", json!({"operation": operation, "action": action})).await;
        assert!(armed["ids"][0].is_number(), "{armed}");
    }

    /// A signed Qimen call.
    pub(crate) async fn qimen(&self, params: Value, page: u32, size: u32) -> Option<Answer> {
        let (query, form) = signed_qimen(params, page, size, "md5", beijing(0));
        self.send("POST", &format!("/router/qm?{}", encode(&query)), &[], &encode(&form)).await
    }

    /// A signed direct call; `query` may change parameters before they are signed.
    pub(crate) async fn direct(&self, params: Value, page: u32, change: &[(&str, &str)]) -> Answer {
        let body = json!([params]).to_string();
        let clock = (Timestamp::now().as_second() - 1_325_347_200).to_string();
        let page = page.to_string();
        let mut query = pairs(&[
            ("sid", "example-sid"),
            ("key", "example-wdt-key"),
            ("salt", "example-wdt-salt"),
            ("method", "wms.stockin.Purchase.queryWithDetail"),
            ("timestamp", &clock),
            ("v", "1.0"),
            ("page_size", "20"),
            ("page_no", &page),
            ("calc_total", "1"),
        ]);
        query.extend(pairs(change));
        let mut signed = query.clone();
        signed.insert("body".to_owned(), body.clone());
        query.insert(
            "sign".to_owned(),
            hex::encode(md5(&format!("{0}{1}{0}", "example-wdt-secret", concat(&signed)))),
        );
        self.send("POST", &format!("/openapi?{}", encode(&query)), &[], &body).await.unwrap()
    }

    /// A signed direct call for a page whose number may be anything.
    pub(crate) async fn direct_page(&self, params: Value, page: &str) -> Value {
        self.direct(params, 0, &[("page_no", page)]).await.json()
    }

    /// A signed Kingdee call.
    pub(crate) async fn kingdee(&self, operation: &str, body: Value) -> Option<Answer> {
        let path = service("DynamicFormService", operation);
        self.send("POST", &path, &signed_headers(&path), &body.to_string()).await
    }

    /// `ResponseStatus` of a BatchSave of these models, base data verified.
    pub(crate) async fn save(&self, models: &[Value]) -> Value {
        let answer = self.kingdee("BatchSave", batch(models)).await.unwrap().json();
        answer["Result"]["ResponseStatus"].clone()
    }

    /// How many documents Kingdee holds.
    pub(crate) async fn documents(&self) -> u64 {
        self.get("/admin/kingdee/summary").await["documents"].as_u64().unwrap()
    }

    /// Waits until Kingdee holds so many documents.
    pub(crate) async fn until_documents(&self, count: u64) {
        let reached = async {
            while self.documents().await != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, reached).await.expect("the commit in time");
    }
}

async fn exchange(address: std::net::SocketAddr, request: String) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    let mut promised = None;
    loop {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = line.unwrap().trim().parse().unwrap();
            promised = Some((end, length, head));
        }
        let done = promised.as_ref().is_some_and(|(end, length, _)| bytes.len() >= end + length);
        if done || !matches!(stream.read_buf(&mut bytes).await, Ok(count) if count > 0) {
            break;
        }
    }
    let (end, length, head) = promised?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let upto = bytes.len().min(end + length);
    let body = String::from_utf8_lossy(&bytes[end..upto]).into_owned();
    Some(Answer { status, head, body, promised: length, received: bytes.len() - end })
}

/// The body of a BatchSave.
pub(crate) fn batch(models: &[Value]) -> Value {
    json!({"formid": "STK_InStock", "data": {"IsVerifyBaseDataField": true, "Model": models}})
}

/// A model that can be posted.
pub(crate) fn model(number: &str) -> Value {
    json!({
        "FID": 0,
        "FBillTypeID": {"FNUMBER": "RKD01_SYS"},
        "FBillNo": number,
        "FDate": "2026-08-01",
        "FStockOrgId": {"FNumber": "100"},
        "FSupplierId": {"FNumber": "GYS0001"},
        "FInStockFin": {"FSettleCurrId": {"FNumber": "PRE001"}, "FIsIncludedTax": true},
        "FInStockEntry": [
            {"FMaterialId": {"FNumber": "SP-1001"}, "FRealQty": 12.50, "FTaxPrice": "11.30", "FEntryTaxRate": 13,
             "FStockId": {"FNumber": "SH01"}, "FGiveAway": false},
            {"FMaterialId": {"FNumber": "SP-1002"}, "FRealQty": 1, "FTaxPrice": 0, "FStockId": {"FNumber": "CK001"},
             "FGiveAway": true}
        ]
    })
}

/// `Kingdee.BOS…` under the example base path.
pub(crate) fn service(service: &str, operation: &str) -> String {
    format!("/k3cloud/Kingdee.BOS.WebApi.ServicesStub.{service}.{operation}.common.kdsvc")
}

/// The nine signing headers for a path.
pub(crate) fn signed_headers(path: &str) -> Vec<(&'static str, String)> {
    let app_id = "300001_ZXhhbXBsZS1hcHAtaWQtZm9yLXRlc3Rz";
    let tail = STANDARD.decode("ZXhhbXBsZS1hcHAtaWQtZm9yLXRlc3Rz").unwrap();
    let mixed: Vec<u8> = tail.iter().zip(b"0054f397c6234378b09ca7d3").map(|(a, b)| a ^ b).collect();
    let now = Timestamp::now().as_second().to_string();
    let encoded = path.replace('/', "%2F");
    let canonical = format!("POST\n{encoded}\n\nx-api-nonce:{now}\nx-api-timestamp:{now}\n");
    let appdata = "example-acct,example-user,2052,0";
    let sign = |key: &str, text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        STANDARD.encode(hex::encode(mac.finalize().into_bytes()))
    };
    vec![
        ("X-Api-ClientID", "300001".to_owned()),
        ("X-Api-Auth-Version", "2.0".to_owned()),
        ("x-api-timestamp", now.clone()),
        ("x-api-nonce", now),
        ("x-api-signheaders", "x-api-timestamp,x-api-nonce".to_owned()),
        ("X-Api-Signature", sign(&STANDARD.encode(mixed), &canonical)),
        ("X-Kd-Appkey", app_id.to_owned()),
        ("X-Kd-Appdata", STANDARD.encode(appdata)),
        ("X-Kd-Signature", sign("example-kingdee-secret", &format!("{app_id}{appdata}"))),
    ]
}

/// Query and form of a Qimen call.
pub(crate) fn signed_qimen(
    params: Value,
    page: u32,
    size: u32,
    method: &str,
    clock: String,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let name = "wdt.wms.stockin.purchase.querywithdetail";
    let flat = |value: &Value| {
        let mut members: Vec<_> = value.as_object().unwrap().iter().collect();
        members.sort_by_key(|(key, _)| *key);
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        members.into_iter().map(|(key, value)| format!("{key}{}", plain(value))).collect::<String>()
    };
    let pager = json!({"page_no": page, "page_size": size});
    let text = format!(
        "datetime{clock}method{name}pager{}params{}wdt_appkeyexample-wdt-keywdt_saltexample-wdt-salt",
        flat(&pager),
        flat(&params)
    );
    let wdt_sign = hex::encode(md5(&format!("example-wdt-secret{text}example-wdt-secret")));
    let form = pairs(&[
        ("datetime", &clock),
        ("wdt_appkey", "example-wdt-key"),
        ("wdt_salt", "example-wdt-salt"),
        ("wdt3_customer_id", "example-sid"),
        ("pager", &pager.to_string()),
        ("params", &params.to_string()),
        ("wdt_sign", &wdt_sign),
    ]);
    let mut query = pairs(&[
        ("app_key", "20000001"),
        ("target_app_key", "21363512"),
        ("method", name),
        ("timestamp", &clock),
        ("format", "json"),
        ("v", "2.0"),
        ("sign_method", method),
    ]);
    resign(&mut query, &form);
    (query, form)
}

/// Computes TOP's signature anew.
pub(crate) fn resign(query: &mut BTreeMap<String, String>, form: &BTreeMap<String, String>) {
    query.remove("sign");
    let mut all = query.clone();
    all.extend(form.clone());
    let (secret, text) = ("example-qimen-secret", concat(&all));
    let signed = match query.get("sign_method").map(String::as_str) {
        Some("hmac") => {
            let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        }
        Some("hmac-sha256") => {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        }
        _ => md5(&format!("{secret}{text}{secret}")),
    };
    query.insert("sign".to_owned(), hex::encode_upper(signed));
}

/// Percent-encodes pairs.
pub(crate) fn encode(pairs: &BTreeMap<String, String>) -> String {
    let value = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    pairs.iter().map(|(key, text)| format!("{key}={}", value(text))).collect::<Vec<_>>().join("&")
}

/// Beijing time so many seconds from now.
pub(crate) fn beijing(ahead: i64) -> String {
    let at = Timestamp::from_second(Timestamp::now().as_second() + ahead).unwrap();
    jiff::tz::Offset::constant(8).to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn concat(pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(key, value)| format!("{key}{value}")).collect()
}

fn md5(text: &str) -> Vec<u8> {
    Md5::digest(text).to_vec()
}
