//! Kingdee's books page by page, from a database that sorts by rules of its own and is written while it is read.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State};
use kingpost_connectors::{
    NoCalls,
    kingdee::{Days, Form, KingdeeBooks},
};
use kingpost_kingdee::{Auth, Catalogue, KingdeeClient, KingdeeConfig};
use serde_json::{Value, json};

/// Number, id and lines.
type Row = (String, u64, usize);

/// Documents in a database that takes capitals for small letters.
#[derive(Clone, Default)]
struct Database {
    documents: Arc<Mutex<Vec<Row>>>,
    /// Entered once a page was read.
    later: Arc<Mutex<Vec<Row>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What a quoted literal of a filter says.
fn literal<'a>(filter: &'a str, before: &str) -> Option<(String, &'a str)> {
    let rest = filter.split_once(before)?.1.strip_prefix('\'')?;
    let (mut text, mut chars) = (String::new(), rest.char_indices().peekable());
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('\'', Some((_, '\''))) => {
                text.push('\'');
                chars.next();
            }
            ('\'', _) => return Some((text, &rest[at + 1..])),
            (c, _) => text.push(c),
        }
    }
    None
}

async fn answer(State(database): State<Database>, body: Bytes) -> String {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let query = &body["data"];
    let filter = query["FilterString"].as_str().unwrap().to_owned();
    let limit = usize::try_from(query["Limit"].as_u64().unwrap()).unwrap();
    assert!(filter.starts_with("FDate>='2026-11-01' and FDate<'2026-12-01'"), "{filter}");
    let mut documents = database.documents.lock().unwrap();
    documents.sort_by_key(|(number, id, _)| (number.to_lowercase(), *id));
    let from = literal(&filter, "FBillNo>").map(|(number, _)| number.to_lowercase());
    let id = filter.split_once("FID>=").map(|(_, rest)| rest.trim_end_matches(')').parse::<u64>().unwrap());
    let behind = |(number, own, _): &&Row| {
        let Some((from, id)) = from.as_ref().zip(id) else { return true };
        let number = number.to_lowercase();
        number > *from || (number == *from && *own >= id)
    };
    let rows = documents.iter().filter(behind).flat_map(|(number, id, lines)| {
        (0..*lines).map(move |_| {
            json!([id, number, "C", "A", "2026-11-05T00:00:00", "1.5", "GYS1", "SP-1", "CK1", "2", "1.77"])
        })
    });
    let rows: Vec<Value> = rows.take(limit).collect();
    documents.extend(database.later.lock().unwrap().drain(..));
    database.asked.lock().unwrap().push(filter);
    Value::Array(rows).to_string()
}

async fn books(database: &Database) -> KingdeeBooks {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = KingdeeConfig {
        url: format!("http://{}/k3cloud/", listener.local_addr().unwrap()),
        acct_id: "acct".to_owned(),
        username: "user".to_owned(),
        app_id: "app_c2VjcmV0".to_owned(),
        app_secret: "0123456789abcdef".into(),
        lcid: 2052,
        org_num: "0".to_owned(),
        auth: Auth::SignHeaders,
        ca_file: None,
    };
    let app = Router::new().fallback(answer).with_state(database.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let form = Form::find("STK_InStock").unwrap();
    let client = KingdeeClient::new(config).unwrap();
    KingdeeBooks::new(client, form, Catalogue::builtin().clone(), Arc::new(NoCalls))
}

fn november() -> Days {
    Days { from: "2026-11-01".parse().unwrap(), to: "2026-12-01".parse().unwrap() }
}

/// Every document as it was read: number, id, lines.
async fn all(books: &KingdeeBooks) -> Vec<Row> {
    let (mut read, mut place) = (Vec::new(), None);
    loop {
        let page = books.page(november(), place.as_ref()).await.unwrap();
        let rows = page
            .documents
            .into_iter()
            .map(|document| (document.number, document.id.parse().unwrap(), document.content.lines));
        read.extend(rows);
        match page.next {
            Some(next) => place = Some(next),
            None => return read,
        }
    }
}

#[tokio::test]
async fn every_document_is_read_whole_and_once_however_the_database_sorts() {
    let database = Database::default();
    // 700 lines each, so that a page of 2,000 ends within a document, and numbers that a database takes for equal.
    let numbers =
        ["RK1", "rk1", "RK-1", "Rk1'x", "RK1'X", "RK10", "rK10", "RK2", "库1", "RK9", "RK90", "R", "r"];
    let documents: Vec<Row> =
        numbers.iter().zip(101..).map(|(number, id)| ((*number).to_owned(), id, 700)).collect();
    database.documents.lock().unwrap().clone_from(&documents);
    let books = books(&database).await;
    let mut read = all(&books).await;
    read.sort_by_key(|(_, id, _)| *id);
    assert_eq!(read, documents);
    assert!(database.asked.lock().unwrap().len() > 5, "it takes several pages");
}

#[tokio::test]
async fn what_is_entered_meanwhile_moves_nothing_from_page_to_page() {
    let database = Database::default();
    let documents: Vec<Row> = (0..30).map(|n| (format!("RK{n:02}"), 100 + n, 150)).collect();
    database.documents.lock().unwrap().clone_from(&documents);
    // Before everything that was read: counted by rows, the next page would begin too early, or too late.
    *database.later.lock().unwrap() = vec![("A1".to_owned(), 900, 999)];
    let read = all(&books(&database).await).await;
    assert_eq!(read, documents);
}

#[tokio::test]
async fn a_document_larger_than_a_page_is_read_and_one_larger_than_a_query_is_told() {
    let database = Database::default();
    let documents = vec![("RK1".to_owned(), 101, 5_000), ("RK2".to_owned(), 102, 5_001)];
    database.documents.lock().unwrap().clone_from(&documents);
    let books = books(&database).await;
    assert_eq!(all(&books).await, documents);
    database.documents.lock().unwrap()[1].2 = 10_000;
    let place = books.page(november(), None).await.unwrap().next;
    let failure = books.page(november(), place.as_ref()).await.unwrap_err();
    assert!(failure.text.contains("10000 lines or more"), "{failure}");
}
