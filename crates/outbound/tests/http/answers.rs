//! What a whole answer looks like, and the limits on it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use kingpost_outbound::Delivery;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::server::{Server, client, read_request, request};

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    let packed = encoder.finish().unwrap();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    [head.as_bytes(), &packed].concat()
}

#[tokio::test]
async fn a_request_goes_out_once_as_http_1_1_with_its_headers_and_bytes() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(read_request(&mut stream).await).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    client(|_| {}).post(request(server.url())).await.unwrap();
    let sent = seen.recv().await.unwrap();
    assert!(sent.starts_with("POST /service?sign=planted HTTP/1.1\r\n"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n{\"a\":1}"), "{sent}");
    let head = sent.to_lowercase();
    for line in
        ["x-key: planted", "content-type: application/json", "accept-encoding: gzip", "user-agent: kingpost/"]
    {
        assert_eq!(head.matches(line).count(), 1, "{line} in {sent}");
    }
    assert!(!head.contains("cookie") && !head.contains("upgrade"), "{sent}");
}

#[tokio::test]
async fn a_get_goes_out_once_without_a_body_and_keeps_the_limits() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(read_request(&mut stream).await).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 503 X\r\ncontent-length: 4\r\n\r\nbusy").await;
        }
    })
    .await;
    let answer = client(|_| {}).get(server.url(), Vec::new()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_ref()), (503, b"busy".as_slice()));
    let sent = seen.recv().await.unwrap();
    assert!(
        sent.starts_with("GET /service?sign=planted HTTP/1.1\r\n") && sent.ends_with("\r\n\r\n"),
        "{sent}"
    );
    let error = client(|options| options.max_body_bytes = 3).get(server.url(), Vec::new()).await.unwrap_err();
    assert!(error.text.contains("more than 3 bytes") && !error.text.contains("planted"), "{}", error.text);
    assert_eq!(server.connections(), 2, "nothing is asked again");
}

#[tokio::test]
async fn every_status_is_an_answer_with_its_date_cookies_and_body() {
    for status in [200, 206, 401, 403, 404, 500, 502, 503, 504] {
        let text = format!(
            "HTTP/1.1 {status} X\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nSet-Cookie: a=1; Expires=Mon, 23 Nov 2026 \
             09:00:00 GMT\r\nSet-Cookie: b=2\r\nRetry-After: 7\r\nContent-Type: text/html\r\nX-Other: 1\r\n\
             content-length: 4\r\n\r\n\u{fffd}x"
        );
        let answer =
            client(|_| {}).post(request(Server::answering(text.into_bytes()).await.url())).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.date.as_deref(), Some("Mon, 23 Nov 2026 08:00:00 GMT"));
        assert_eq!(answer.body.as_ref(), "\u{fffd}x".as_bytes());
        assert_eq!(answer.header("retry-after"), Some("7"));
        let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["set-cookie", "set-cookie", "content-type", "retry-after"]);
        assert!(answer.headers[0].1.contains("Expires=Mon, 23"));
        assert!(!format!("{answer:?}").contains("a=1"));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    for status in [301, 302, 303, 307, 308] {
        let answer =
            format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        let server = Server::answering(answer.into_bytes()).await;
        assert_eq!(client(|_| {}).post(request(server.url())).await.unwrap().status, status);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_gzipped_body_arrives_unpacked() {
    let server = Server::answering(gzipped("入库单".as_bytes())).await;
    assert_eq!(client(|_| {}).post(request(server.url())).await.unwrap().body, "入库单".as_bytes());
}

#[tokio::test]
async fn the_limit_counts_unpacked_bytes_and_admits_a_body_of_just_its_size() {
    let server = Server::answering(gzipped(&vec![b'x'; 100_000])).await;
    let error =
        client(|options| options.max_body_bytes = 99_999).post(request(server.url())).await.unwrap_err();
    assert_eq!((error.delivery, error.timeout), (Delivery::Unknown, false));
    assert!(
        error.text.contains("more than 99999 bytes") && !error.text.contains("planted"),
        "{}",
        error.text
    );
    let whole = client(|options| options.max_body_bytes = 100_000).post(request(server.url())).await.unwrap();
    assert_eq!(whole.body.len(), 100_000);
}

#[tokio::test]
async fn a_plain_body_over_the_limit_is_unknown() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\n\r\n0123456789".to_vec()).await;
    let error = client(|options| options.max_body_bytes = 9).post(request(server.url())).await.unwrap_err();
    assert_eq!(error.delivery, Delivery::Unknown);
}

#[tokio::test]
async fn bytes_that_are_not_gzip_are_unknown() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain".to_vec();
    let error = client(|_| {}).post(request(Server::answering(answer).await.url())).await.unwrap_err();
    assert_eq!(error.delivery, Delivery::Unknown);
}

#[test]
fn debug_of_a_request_shows_no_value_and_a_query_only_when_it_is_open() {
    let mut request = request("https://h.example/a?sign=planted");
    request.body = "planted".into();
    assert!(!format!("{request:?}").contains("planted"));
    request.query_is_secret = false;
    assert!(format!("{request:?}").contains("?sign=planted"));
}
