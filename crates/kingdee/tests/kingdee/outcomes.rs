//! Writes without a deciding answer: sent once, and the error says what is known.

use kingpost_kingdee::{Auth, Class, KingdeeConfig, KingdeeError, UnknownCause};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::server::{Fake, Reply, client, example, ok};

async fn save_error(fake: &Fake) -> KingdeeError {
    let error =
        fake.client(Auth::SignHeaders).batch_save("STK_InStock", &[], &["{}".into()]).await.unwrap_err();
    assert_eq!(fake.sent().len(), 1, "a write is sent once: {error}");
    error
}

#[tokio::test]
async fn each_wrong_body_leaves_a_write_unknown() {
    for (status, body, cause) in [
        (500, "stack text", UnknownCause::Status(500)),
        (504, "<html>gateway time-out</html>", UnknownCause::Status(504)),
        (403, "", UnknownCause::Status(403)),
        (200, "response_error:{\"Message\":\"x\"}", UnknownCause::ResponseError),
        (200, "<html>maintenance</html>", UnknownCause::Html),
        (200, "", UnknownCause::Empty),
        (200, "null", UnknownCause::Empty),
        (200, "{\"Result\":{\"Respo", UnknownCause::NotJson),
    ] {
        let fake = Fake::start(move |_, _| Reply { status, body: body.into(), ..Reply::default() }).await;
        let error = save_error(&fake).await;
        assert!(error.look_up_first());
        assert!(
            matches!(&error, KingdeeError::Unknown { cause: got, write: true, text } if *got == cause && text.contains("BatchSave")),
            "{status} {body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_request_that_is_turned_away_says_for_how_long() {
    let seconds = |s: &str| vec![("retry-after", s.to_owned())];
    for (status, headers, wait) in [
        (429, Vec::new(), None),
        (429, seconds("7"), Some(7)),
        (429, seconds("Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (429, seconds("999999"), Some(3_600)),
        (503, seconds(" 2 "), Some(2)),
    ] {
        let fake =
            Fake::start(move |_, _| Reply { status, headers: headers.clone(), body: "busy".into() }).await;
        let error = save_error(&fake).await;
        assert!(error.look_up_first() && error.is_turned_away(), "{error:?}");
        assert_eq!(error.class(), Class::Throttled);
        let KingdeeError::Busy { retry_after, text } = error else { panic!("{error:?}") };
        assert_eq!(retry_after.map(|wait| wait.as_secs()), wait);
        assert_eq!(text, format!("BatchSave: http status {status}: busy"));
    }
}

#[tokio::test]
async fn a_503_that_names_no_time_leaves_a_write_unknown() {
    let date = vec![("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT".to_owned())];
    for headers in [Vec::new(), date] {
        let fake =
            Fake::start(move |_, _| Reply { status: 503, headers: headers.clone(), body: "busy".into() })
                .await;
        let error = save_error(&fake).await;
        assert!(matches!(error, KingdeeError::Unknown { cause: UnknownCause::Status(503), .. }), "{error:?}");
    }
}

#[tokio::test]
async fn json_of_another_shape_or_rows_leave_a_write_undecided() {
    for body in ["{}", "[]", "[[1,2]]", "{\"Result\":null}"] {
        let error = save_error(&Fake::start(move |_, _| ok(body)).await).await;
        assert!(matches!(error, KingdeeError::Unexpected { write: true, .. }), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let config = KingdeeConfig { url: format!("http://127.0.0.1:{port}/k3cloud"), ..example() };
    let error = client(config).submit("STK_InStock", &["1"]).await.unwrap_err();
    assert!(
        matches!(error, KingdeeError::NotSent { timeout: false, .. }) && !error.look_up_first(),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_inside_the_answer_is_unknown_and_not_repeated() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            sender.send(()).unwrap();
            let mut buffer = vec![0; 65_536];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"Result\":{").await;
        }
    });
    let config = KingdeeConfig { url: format!("http://127.0.0.1:{port}/k3cloud"), ..example() };
    let error = client(config).audit("STK_InStock", &["1"]).await.unwrap_err();
    assert!(
        matches!(error, KingdeeError::Unknown { cause: UnknownCause::Transport, write: true, .. }),
        "{error:?}"
    );
    connections.recv().await.unwrap();
    assert!(connections.try_recv().is_err());
}
