//! A collector of OpenTelemetry as far as a test needs one: takes OTLP over HTTP and reads the protobuf messages by itself.

#![expect(clippy::unwrap_used, reason = "a collector of a test may fail its test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A span as it arrived; ids as hexadecimal digits, attributes as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    /// The attributes of its resource and its own.
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_id: String,
    pub(crate) state: String,
    pub(crate) name: String,
    /// The span ids it is linked with.
    pub(crate) links: Vec<String>,
    /// 2 is an error.
    pub(crate) status: u64,
}

/// Listens until the test ends.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    /// Answers every request, or none of them.
    pub(crate) fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, spans) = (listener.local_addr().unwrap(), Arc::default());
        let all = Arc::clone(&spans);
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for stream in listener.incoming().flatten() {
                if answers {
                    let all = Arc::clone(&all);
                    std::thread::spawn(move || serve(stream, &all));
                } else {
                    unanswered.push(stream);
                }
            }
        });
        Receiver { address, spans }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to say.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that has arrived.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(&stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap()];
        reader.read_exact(&mut body).unwrap();
        all.lock().unwrap_or_else(PoisonError::into_inner).extend(spans(&body));
        let mut writer = &stream;
        writer
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
            )
            .unwrap();
    }
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans(request: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for resource_spans in messages(request, 1) {
        let resource: BTreeMap<_, _> =
            messages(resource_spans, 1).into_iter().flat_map(|resource| attributes(resource, 1)).collect();
        for span in messages(resource_spans, 2).into_iter().flat_map(|scope| messages(scope, 2)) {
            let text = |field| String::from_utf8(first(span, field).to_vec()).unwrap();
            let id = |field| hex(first(span, field));
            let mut attributes_of_it = resource.clone();
            attributes_of_it.extend(attributes(span, 9));
            found.push(Span {
                attributes: attributes_of_it,
                trace_id: id(1),
                span_id: id(2),
                state: text(3),
                parent_id: id(4),
                name: text(5),
                links: messages(span, 13).into_iter().map(|link| hex(first(link, 2))).collect(),
                status: numbers(first(span, 15), 3).first().copied().unwrap_or_default(),
            });
        }
    }
    found
}

fn attributes(message: &[u8], field: u64) -> Vec<(String, String)> {
    let pairs = messages(message, field).into_iter();
    pairs
        .map(|pair| {
            let value = first(pair, 2);
            let text =
                match (messages(value, 1).first(), numbers(value, 2).first(), numbers(value, 3).first()) {
                    (Some(text), _, _) => String::from_utf8(text.to_vec()).unwrap(),
                    (_, Some(truth), _) => (*truth == 1).to_string(),
                    (_, _, Some(number)) => number.to_string(),
                    _ => String::new(),
                };
            (String::from_utf8(first(pair, 1).to_vec()).unwrap(), text)
        })
        .collect()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, in their order.
fn fields(mut message: &[u8]) -> Vec<(u64, Value<'_>)> {
    fn number(message: &mut &[u8]) -> u64 {
        let mut read = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = message.split_first().unwrap();
            *message = rest;
            read |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        read
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = number(&mut message);
        let value = match key & 7 {
            0 => Value::Number(number(&mut message)),
            kind => {
                let length = match kind {
                    1 => 8,
                    5 => 4,
                    2 => usize::try_from(number(&mut message)).unwrap(),
                    other => panic!("wire type {other}"),
                };
                let (bytes, rest) = message.split_at(length);
                message = rest;
                Value::Bytes(bytes)
            }
        };
        found.push((key >> 3, value));
    }
    found
}

fn messages(message: &[u8], field: u64) -> Vec<&[u8]> {
    let of_it = fields(message).into_iter().filter(|(number, _)| *number == field);
    of_it.filter_map(|(_, value)| if let Value::Bytes(bytes) = value { Some(bytes) } else { None }).collect()
}

fn numbers(message: &[u8], field: u64) -> Vec<u64> {
    let of_it = fields(message).into_iter().filter(|(number, _)| *number == field);
    of_it
        .filter_map(|(_, value)| if let Value::Number(number) = value { Some(number) } else { None })
        .collect()
}

fn first(message: &[u8], field: u64) -> &[u8] {
    messages(message, field).first().copied().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
