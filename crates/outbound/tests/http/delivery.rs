//! What a missing answer says about where the request is.

use std::time::{Duration, Instant};

use kingpost_outbound::{Delivery, TransportError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::server::{Server, client, read_request, request};

async fn failure(server: &Server) -> TransportError {
    let error = client(|_| {}).post(request(server.url())).await.unwrap_err();
    assert!(!error.text.contains("planted"), "{}", error.text);
    assert!(error.text.contains("/service"), "{}", error.text);
    error
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let error =
        client(|_| {}).post(request(format!("http://127.0.0.1:{port}/a?sign=planted"))).await.unwrap_err();
    assert_eq!((error.delivery, error.timeout), (Delivery::NotSent, false));
    assert!(error.text.contains("refused") && !error.text.contains("planted"), "{}", error.text);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_sent() {
    // A label of 70 bytes is refused by the resolver itself, so that the test asks no name server.
    let url = format!("http://{}.invalid/a?sign=planted", "a".repeat(70));
    let error = client(|_| {}).post(request(url)).await.unwrap_err();
    assert_eq!(error.delivery, Delivery::NotSent);
    assert!(!error.text.contains("planted"), "{}", error.text);
}

#[tokio::test]
async fn a_request_that_can_not_be_built_is_not_sent_and_shows_no_value() {
    let mut bad_header = request("http://127.0.0.1:1/a");
    bad_header.headers.push(("x-other".into(), "planted\nline".into()));
    for bad in [bad_header, request("planted?sign=planted"), request("http://")] {
        let error = client(|_| {}).post(bad).await.unwrap_err();
        assert_eq!((error.delivery, error.timeout), (Delivery::NotSent, false));
        assert!(!format!("{error} {error:?}").contains("planted"), "{}", error.text);
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_not_sent_and_a_time_out() {
    let server = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let error = client(|options| options.connect_timeout = Duration::from_millis(200))
        .post(request(format!("https://127.0.0.1:{}/a", server.port)))
        .await
        .unwrap_err();
    assert_eq!((error.delivery, error.timeout), (Delivery::NotSent, true), "{}", error.text);
}

#[tokio::test]
async fn a_reset_after_the_request_is_unknown() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        // Zero makes the close below a reset in the place of an orderly end.
        stream.set_zero_linger().unwrap();
    })
    .await;
    let error = failure(&server).await;
    assert_eq!((error.delivery, error.timeout), (Delivery::Unknown, false));
    assert_eq!(server.connections(), 1, "a write is sent once");
}

#[tokio::test]
async fn a_close_without_an_answer_is_unknown() {
    let server = Server::answering(Vec::new()).await;
    assert_eq!(failure(&server).await.delivery, Delivery::Unknown);
    assert_eq!(server.connections(), 1, "a write is sent once");
}

#[tokio::test]
async fn a_write_is_not_repeated_on_a_kept_connection_that_dies_after_reading_it() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        read_request(&mut stream).await;
    })
    .await;
    let client = client(|_| {});
    client.post(request(server.url())).await.unwrap();
    let error = client.post(request(server.url())).await.unwrap_err();
    assert_eq!(error.delivery, Delivery::Unknown);
    assert_eq!(server.connections(), 1, "a write is sent once");
}

#[tokio::test]
async fn half_a_body_is_unknown() {
    for head in ["content-length: 100", "transfer-encoding: chunked"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello");
        let server = Server::answering(answer.into_bytes()).await;
        assert_eq!(failure(&server).await.delivery, Delivery::Unknown, "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_unknown() {
    let server = Server::answering(b"SSH-2.0-planted\r\n".to_vec()).await;
    assert_eq!(failure(&server).await.delivery, Delivery::Unknown);
}

#[tokio::test]
async fn a_silent_server_is_unknown_and_a_time_out() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut slow = request(server.url());
    slow.timeout = Some(Duration::from_millis(200));
    let error = client(|_| {}).post(slow).await.unwrap_err();
    assert_eq!((error.delivery, error.timeout), (Delivery::Unknown, true));
    assert!(error.text.contains("200ms") && !error.text.contains("planted"), "{}", error.text);
}

#[tokio::test]
async fn a_body_that_drips_for_ever_ends_at_the_total_deadline() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if stream.write_all(b"1\r\nx\r\n").await.is_err() {
                break;
            }
        }
    })
    .await;
    let started = Instant::now();
    let error = client(|options| options.total_timeout = Duration::from_millis(400))
        .post(request(server.url()))
        .await
        .unwrap_err();
    assert_eq!((error.delivery, error.timeout), (Delivery::Unknown, true));
    assert!(started.elapsed() < Duration::from_secs(10));
}
