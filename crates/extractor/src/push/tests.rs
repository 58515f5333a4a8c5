//! Requests and answers, with a broker that does as it is told.

use std::sync::Mutex;

use axum::{body::Body, http::header};
use kingpost_broker::Confirm;
use kingpost_model::{Abandoned, BoxFuture, Document, Failure, FailureKind, Page, Window};
use kingpost_settings::{Environment, extractor};
use kingpost_telemetry::Metrics;
use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "an-example-of-a-token";
const SCHEME: &str = "orders";

/// Documents with a number `no`; `bad` ones are refused.
struct Shelf;

impl Source for Shelf {
    fn page_size(&self) -> u32 {
        1
    }

    fn page(&self, _: Window, _: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        Box::pin(async { Ok(Page { documents: Vec::new(), total: None }) })
    }

    fn read(&self, body: Bytes) -> Result<Document, Failure> {
        let read: Value = serde_json::from_slice(&body).unwrap();
        match read["no"].as_str() {
            Some(number) if read["bad"].is_null() => {
                let number = Some(number.to_owned());
                Ok(Document { number, modified_ms: Some(7), cancelled: false, body })
            }
            _ => Err(Failure::new(FailureKind::Refused, "it is bad")),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Confirms,
    /// Only the first, third and so on of a request.
    Half,
    Silent,
    /// Its queue of jobs is full.
    Stuck,
    Blocked,
    Closed,
    Gone,
}

struct Fake {
    mood: Mood,
    taken: Mutex<Vec<Posting>>,
}

impl Outlet for Fake {
    fn standing(&self) -> Standing {
        match self.mood {
            Mood::Closed => Standing::Absent,
            Mood::Blocked => Standing::Blocked,
            _ => Standing::Open,
        }
    }

    fn publish(&self, postings: Vec<Posting>) -> BoxFuture<'static, Result<Vec<Confirm>, Abandoned>> {
        let (mood, count) = (self.mood, postings.len());
        self.taken.lock().unwrap().extend(postings);
        if mood == Mood::Stuck {
            return Box::pin(std::future::pending());
        }
        let word = move |index: usize| -> Confirm {
            match mood {
                Mood::Silent => Box::pin(std::future::pending()),
                Mood::Half if index % 2 == 1 => Box::pin(std::future::pending()),
                Mood::Gone => Box::pin(async { Err(Abandoned) }),
                _ => Box::pin(async { Ok(()) }),
            }
        };
        Box::pin(async move { Ok((0..count).map(word).collect()) })
    }
}

fn desk(mood: Mood) -> (Desk, Arc<Fake>) {
    let environment = Environment::from([("PUSH_ADDR", "127.0.0.1:0"), ("PUSH_TOKEN", TOKEN)]);
    let settings = extractor(&environment, &[]).unwrap().push.unwrap();
    let fake = Arc::new(Fake { mood, taken: Mutex::default() });
    let intake = Intake { scheme: SCHEME.into(), document: "Doc".into(), source: Arc::new(Shelf) };
    let (metrics, ending) = (Metrics::new().push(), Ending::new(CancellationToken::new()));
    (Desk::new(settings.token, 2_000, vec![intake], fake.clone(), metrics, ending), fake)
}

fn request(body: impl Into<Body>) -> Request {
    Request::post("/")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .body(body.into())
        .unwrap()
}

async fn take(desk: &Desk, request: Request) -> (u16, Value, Answer) {
    let answer = desk.take(SCHEME, request).await.unwrap_or_else(|answer| answer);
    (answer.status().as_u16(), serde_json::from_str(answer.body()).unwrap(), answer)
}

fn header_of(answer: Answer, name: header::HeaderName) -> Option<String> {
    let response = answer.into_response();
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn documents_go_out_byte_for_byte_and_each_is_told_its_fate() {
    let (desk, fake) = desk(Mood::Confirms);
    let body =
        r#" [ {"no":"A","n":1.50} , {"no":"B","bad":1},{"no":"A","n":1.50}, {"no":"A", "n":1.50} , 7 ] "#;
    let (status, told, _) = take(&desk, request(body)).await;
    assert_eq!(status, 202, "{told}");
    assert_eq!((&told["accepted"], &told["refused"], &told["duplicates"]), (&json!(2), &json!(2), &json!(1)));
    let fates: Vec<_> = told["documents"].as_array().unwrap().iter().map(|d| d["status"].clone()).collect();
    assert_eq!(fates, ["accepted", "refused", "duplicate", "accepted", "refused"]);
    assert_eq!(told["documents"][1], json!({"index": 1, "status": "refused", "error": "it is bad"}));
    assert_eq!(told["documents"][0]["id"], told["documents"][2]["id"]);
    let taken = fake.taken.lock().unwrap();
    let bodies: Vec<&[u8]> = taken.iter().map(|posting| posting.work.body.as_ref()).collect();
    assert_eq!(bodies, [br#"{"no":"A","n":1.50}"#.as_slice(), br#"{"no":"A", "n":1.50}"#]);
    let work = &taken[0].work;
    assert_eq!(taken[0].destination, Destination::Work(Route::new(StageName::Transform, SCHEME)));
    assert!(work.verify && work.extracted_ms.is_some() && work.modified_ms == Some(7));
    assert_eq!(work.key.to_string(), "Doc/A");
    assert!(told["documents"][0]["id"].as_str() == Some(work.id.as_str()));
}

#[tokio::test]
async fn a_request_of_bad_documents_alone_publishes_nothing() {
    let (desk, fake) = desk(Mood::Confirms);
    let (status, told, _) = take(&desk, request(r#"{"bad":1}"#)).await;
    assert_eq!((status, &told["refused"], &told["accepted"]), (422, &json!(1), &json!(0)));
    assert!(fake.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_nothing_is_taken() {
    let (desk, fake) = desk(Mood::Confirms);
    let with = |name: header::HeaderName, value: &str| {
        let mut request = request(r#"{"no":"A"}"#);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let many = format!("[{}1]", "1,".repeat(request::DOCUMENTS_MAX));
    let parts =
        futures_util::stream::iter([1_500; 2].map(|n| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; n]))));
    for (request, status, word) in [
        (with(header::CONTENT_TYPE, "text/plain"), 415, "Content-Type"),
        (with(header::CONTENT_ENCODING, "gzip"), 415, "Content-Encoding"),
        (with(header::CONTENT_LENGTH, "2001"), 413, "2000"),
        (request(Body::from_stream(parts)), 413, "PUSH_MAX_BYTES"),
        (request(""), 400, "line 1"),
        (request("{\n\"no\": }"), 400, "line 2, column 7"),
        (request("{} {}"), 400, "no JSON"),
        (request(b"{\"no\":\"\xff\"}".to_vec()), 400, "no JSON"),
        (request("\"text\""), 400, "array of documents"),
        (request("[]"), 400, "no document"),
    ] {
        let (was, told, _) = take(&desk, request).await;
        assert_eq!(was, status, "{told}");
        assert!(told["error"].as_str().unwrap().contains(word), "{told}");
    }
    assert_eq!(request::documents(&Bytes::from(many)).unwrap_err().status().as_u16(), 413);
    let answer = desk.take("others", request("{}")).await.unwrap_err();
    assert_eq!(answer.status().as_u16(), 404);
    assert!(!answer.body().contains(SCHEME) && !answer.body().contains("others"), "{}", answer.body());
    assert!(fake.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_the_token_nobody_learns_anything() {
    let (desk, _) = desk(Mood::Confirms);
    for shown in
        ["", TOKEN, "Bearer", "Bearer ", "Bearer an-example-of-a-toke", "Basic an-example-of-a-token"]
    {
        let mut asked =
            request(Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>()));
        asked.headers_mut().insert(header::AUTHORIZATION, shown.parse().unwrap());
        let answer = desk.take("others", asked).await.unwrap_err();
        assert_eq!((answer.status().as_u16(), answer.outcome()), (401, "unauthorized"), "{shown:?}");
        assert!(!answer.body().contains(TOKEN));
        assert_eq!(header_of(answer, header::WWW_AUTHENTICATE).as_deref(), Some("Bearer"));
    }
    let mut asked = request(r#"{"no":"A"}"#);
    asked.headers_mut().insert(header::AUTHORIZATION, format!("bearer {TOKEN}").parse().unwrap());
    assert_eq!(take(&desk, asked).await.0, 202);
}

#[tokio::test]
async fn a_broker_that_takes_nothing_is_told_at_once() {
    for mood in [Mood::Closed, Mood::Blocked] {
        let (desk, fake) = desk(mood);
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let (status, _, answer) = take(&desk, request(endless)).await;
        assert_eq!((status, answer.outcome()), (503, "unavailable"));
        assert_eq!(header_of(answer, header::RETRY_AFTER).as_deref(), Some("5"));
        assert!(fake.taken.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_the_broker_does_not_confirm_is_never_called_accepted() {
    for mood in [Mood::Gone, Mood::Silent, Mood::Stuck] {
        let (desk, _) = desk(mood);
        tokio::time::pause();
        let (status, told, answer) =
            take(&desk, request(r#"[{"no":"A"},{"no":"B","bad":1},{"no":"A"}]"#)).await;
        tokio::time::resume();
        assert_eq!(status, 503);
        assert_eq!(
            (&told["accepted"], &told["unconfirmed"], &told["refused"]),
            (&json!(0), &json!(2), &json!(1))
        );
        assert!(told["error"].as_str().unwrap().contains("again"), "{told}");
        assert_eq!(header_of(answer, header::RETRY_AFTER).as_deref(), Some("5"));
        let held = desk.places.available_permits();
        let expected = if mood == Mood::Gone { IN_FLIGHT } else { IN_FLIGHT - 1 };
        assert_eq!(held, expected, "a place is held for as long as the broker has the documents in doubt");
    }
}

#[tokio::test]
async fn a_late_confirm_puts_its_own_document_in_doubt_and_no_other() {
    let (desk, _) = desk(Mood::Half);
    let body = r#"[{"no":"A"},{"no":"B"},{"no":"C","bad":1},{"no":"B"},{"no":"A"},{"no":"D"}]"#;
    tokio::time::pause();
    let (status, told, answer) = take(&desk, request(body)).await;
    tokio::time::resume();
    let fates: Vec<_> = told["documents"].as_array().unwrap().iter().map(|d| d["status"].clone()).collect();
    assert_eq!(fates, ["accepted", "unconfirmed", "refused", "unconfirmed", "duplicate", "accepted"]);
    assert_eq!((status, answer.outcome()), (503, "unavailable"), "what isn't accepted has to be sent again");
    assert_eq!(
        (&told["accepted"], &told["unconfirmed"], &told["duplicates"]),
        (&json!(2), &json!(2), &json!(1))
    );
    assert_eq!(header_of(answer, header::RETRY_AFTER).as_deref(), Some("5"));
}

#[tokio::test]
async fn when_more_is_pushed_than_the_memory_is_for_then_nothing_of_it_is_taken() {
    let (desk, fake) = desk(Mood::Silent);
    let left = u32::try_from(BYTES_IN_FLIGHT - 1_000).unwrap();
    let most = Arc::clone(&desk.bytes).try_acquire_many_owned(left).unwrap();
    let sized = |length: usize| {
        let body = format!("{:length$}", r#"{"no":"A"}"#);
        let mut request = request(body);
        request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        request
    };
    // One that doesn't say how long it is may be as long as is allowed.
    for request in [sized(1_001), request(r#"{"no":"A"}"#)] {
        let (status, told, answer) = take(&desk, request).await;
        assert_eq!((status, answer.outcome()), (503, "unavailable"), "{told}");
        assert_eq!(header_of(answer, header::RETRY_AFTER).as_deref(), Some("1"));
    }
    assert!(fake.taken.lock().unwrap().is_empty());
    assert_eq!((desk.places.available_permits(), desk.bytes.available_permits()), (IN_FLIGHT, 1_000));
    tokio::time::pause();
    assert_eq!(take(&desk, sized(1_000)).await.1["unconfirmed"], 1);
    assert_eq!(desk.bytes.available_permits(), 0, "they are held for as long as the broker is silent");
    drop(most);
    assert_eq!(take(&desk, request(r#"{"no":"B"}"#)).await.1["unconfirmed"], 1);
    assert_eq!(desk.bytes.available_permits(), BYTES_IN_FLIGHT - 1_010, "as many as it has, not as it might");
}

#[tokio::test]
async fn bytes_are_given_back_with_the_confirm_and_with_what_is_wrong() {
    let (desk, _) = desk(Mood::Confirms);
    for (body, status) in [(r#"{"no":"A"}"#, 202), (r#"{"bad":1}"#, 422), ("[", 400)] {
        assert_eq!(take(&desk, request(body)).await.0, status);
        assert_eq!(
            (desk.places.available_permits(), desk.bytes.available_permits()),
            (IN_FLIGHT, BYTES_IN_FLIGHT)
        );
    }
}

#[tokio::test]
async fn after_the_stop_nothing_new_is_taken_and_the_connection_ends() {
    let (desk, fake) = desk(Mood::Confirms);
    desk.ending.stop.cancel();
    let desk = Arc::new(desk);
    let scheme = Ok(Path(SCHEME.to_owned()));
    let response = receive(State(Arc::clone(&desk)), scheme, request(r#"{"no":"A"}"#)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    assert!(fake.taken.lock().unwrap().is_empty());
    assert_eq!(desk.condition(), Condition::NotReady("the extractor stops".to_owned()));
}

#[tokio::test]
async fn at_the_last_call_what_is_in_hand_is_answered() {
    let (desk, fake) = desk(Mood::Half);
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let begun = Instant::now();
    let last_call = async {
        while fake.taken.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        desk.ending.stop.cancel();
        desk.ending.last_call.cancel();
    };
    let (unread, published, ()) = tokio::join!(
        take(&desk, request(endless)),
        take(&desk, request(r#"[{"no":"A"},{"no":"B"}]"#)),
        last_call
    );
    assert_eq!(unread.0, 503);
    assert!(
        unread.1["error"].as_str().unwrap().contains("nothing of this request was taken"),
        "{}",
        unread.1
    );
    assert_eq!(
        (published.0, &published.1["accepted"], &published.1["unconfirmed"]),
        (503, &json!(1), &json!(1))
    );
    assert!(begun.elapsed() < CONFIRM_WITHIN);
}

#[tokio::test]
async fn readiness_says_why_no_documents_are_taken() {
    for (mood, reason) in [(Mood::Closed, "no connection"), (Mood::Blocked, "alarm")] {
        let Condition::NotReady(told) = desk(mood).0.condition() else { panic!("ready") };
        assert!(told.contains(reason), "{told}");
    }
    let (desk, _) = desk(Mood::Confirms);
    let health = Health::new();
    let told = async {
        while health.readiness().components.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = desk.tell_health(&health) => {}, () = told => {} }
    assert!(health.readiness().components[COMPONENT].ready);
}

#[tokio::test]
async fn the_last_place_taken_means_later() {
    let (desk, _) = desk(Mood::Confirms);
    let all = Arc::clone(&desk.places).try_acquire_many_owned(u32::try_from(IN_FLIGHT).unwrap()).unwrap();
    let (status, _, answer) = take(&desk, request(r#"{"no":"A"}"#)).await;
    assert_eq!(status, 503);
    assert_eq!(header_of(answer, header::RETRY_AFTER).as_deref(), Some("1"));
    drop(all);
    assert_eq!(take(&desk, request(r#"{"no":"A"}"#)).await.0, 202);
    assert_eq!(desk.places.available_permits(), IN_FLIGHT);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    let (desk, _) = desk(Mood::Confirms);
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(take(&desk, request(endless)).await.0, 408);
    assert_eq!(desk.places.available_permits(), IN_FLIGHT);
}

#[tokio::test]
async fn documents_come_behind_their_request_which_comes_behind_its_sender() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (parents, states, known) in [
        (&[good][..], &["vendor=1", "other=2"][..], true),
        (&[], &["vendor=1"], false),
        (&["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"], &["vendor=1"], false),
        (&[good, good], &[], false),
    ] {
        let (desk, fake) = desk(Mood::Confirms);
        let mut request = request(r#"[{"no":"A"},{"no":"B"}]"#);
        for (name, values) in [("traceparent", parents), ("tracestate", states)] {
            for value in values {
                request.headers_mut().append(name, value.parse().unwrap());
            }
        }
        assert_eq!(take(&desk, request).await.0, 202);
        let taken = fake.taken.lock().unwrap();
        let traces: Vec<_> = taken.iter().map(|posting| posting.work.trace().unwrap()).collect();
        assert_eq!(traces[0], traces[1], "one request, one place");
        assert_ne!(traces[0].span_id(), 0x00f0_67aa_0ba9_02b7, "the request has a place of its own");
        assert_eq!(traces[0].trace_id() == 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, known, "{parents:?}");
        assert_eq!(traces[0].state(), known.then_some("vendor=1,other=2"));
    }
}
