use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread::JoinHandle,
};

use super::{holds, kingpost};

/// Answers one request with a status and a body, and gives the path that was asked for.
fn worker(status: u16, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        head[0].clone()
    });
    (addr, answering)
}

#[test]
fn a_ready_worker_is_asked_where_it_listens_and_ends_with_0() {
    let (addr, asked) = worker(200, "{\"ready\":true}");
    let run = kingpost(&["health"], &[("HTTP_ADDR", &addr)]);
    assert_eq!((run.exit, run.out.as_str()), (Some(0), "{\"ready\":true}\n"), "{}", run.notes);
    assert_eq!(asked.join().unwrap(), "GET /readyz HTTP/1.1");
}

#[test]
fn one_that_is_not_well_ends_with_1_and_says_why() {
    let (addr, asked) = worker(503, "{\"alive\":false}\u{1b}[2J");
    let run = kingpost(&["health", &format!("http://{addr}/healthz")], &[]);
    assert_eq!((run.exit, run.out.as_str()), (Some(1), ""));
    holds(&run.notes, &["kingpost: status 503: {\"alive\":false}"]);
    assert!(!run.notes.contains('\u{1b}'), "an answer steers no terminal");
    assert_eq!(asked.join().unwrap(), "GET /healthz HTTP/1.1");
}

#[test]
fn one_that_is_away_ends_with_1_and_nothing_to_ask_with_2() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let run = kingpost(&["health", &format!("http://{addr}/readyz")], &[]);
    assert_eq!(run.exit, Some(1), "{}", run.notes);
    holds(&run.notes, &["refused"]);
    let run = kingpost(&["health"], &[]);
    assert_eq!(run.exit, Some(2));
    holds(&run.notes, &["set HTTP_ADDR"]);
    assert_eq!(kingpost(&["health"], &[("HTTP_ADDR", "9101")]).exit, Some(64));
}
