//! HTTP/1.1 over a plain socket.
//!
//! Written by hand because half of the faults (a wrong length, half a body, an answer that never comes, a
//! connection that closes after the commit) are things that a well-behaved HTTP library refuses to do, and
//! because signatures cover the path exactly as it was sent.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// One request, as it was sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query exactly as sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The path without its query, still percent-encoded.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The decoded pairs of the query, in order.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        self.target.split_once('?').map(|(_, query)| decode_form(query)).unwrap_or_default()
    }

    /// The value of one query parameter.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        self.query().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A header's value; names in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(body: impl ToString) -> Reply {
        Reply::new(200, "application/json; charset=utf-8", body.to_string())
    }

    pub(crate) fn html(status: u16, body: &str) -> Reply {
        Reply::new(status, "text/html; charset=utf-8", body.to_owned())
    }

    pub(crate) fn text(status: u16, body: impl ToString) -> Reply {
        Reply::new(status, "text/plain; charset=utf-8", body.to_string())
    }

    fn new(status: u16, content_type: &str, body: String) -> Reply {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Reply { status, headers, body: body.into_bytes() }
    }
}

/// How an answer is put on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// As it should be.
    Whole,
    /// Close without a byte; with a TCP reset when asked.
    Drop { reset: bool },
    /// Say the full length, send half, close; with a TCP reset when asked.
    Half { reset: bool },
    /// Say a length that is a tenth too short.
    WrongLength,
    /// Send in small pieces over that time.
    Drip { over: Duration },
    /// Send header lines until the client goes away.
    EndlessHead,
    /// Keep silent until the client goes away.
    Silence,
}

/// One client connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Connection {
        // Nagle's delay would add 40 ms to every small answer.
        let _ = stream.set_nodelay(true);
        Connection { stream, buffer: Vec::new() }
    }

    /// The next request, or nothing when the client has closed.
    ///
    /// # Errors
    /// A broken connection, or a head or body that is not HTTP/1.1 or too large.
    pub(crate) async fn read_request(&mut self) -> io::Result<Option<Request>> {
        let Some(head_end) = self.fill_head().await? else { return Ok(None) };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).into_owned();
        self.buffer.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (first.next(), first.next()) else {
            return Err(malformed("no method and target in the request line"));
        };
        let header = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        };
        let mut request = Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: lines.filter_map(header).collect(),
            body: Vec::new(),
        };
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let chunked = request.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        request.body = if chunked {
            self.read_chunks().await?
        } else {
            let length = request.header("content-length").unwrap_or("0").parse();
            self.take(length.map_err(|_| malformed("content-length is no number"))?).await?
        };
        Ok(Some(request))
    }

    /// Whether the client has closed its side, which a write to it would not notice yet.
    pub(crate) fn client_has_left(&mut self) -> bool {
        match self.stream.try_read_buf(&mut self.buffer) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Puts an answer on the wire and says whether the connection may serve another request.
    ///
    /// # Errors
    /// The client went away before the last byte.
    pub(crate) async fn write(&mut self, reply: &Reply, manner: Manner) -> io::Result<bool> {
        let length = match manner {
            Manner::WrongLength => reply.body.len() - reply.body.len().div_ceil(10).min(reply.body.len()),
            _ => reply.body.len(),
        };
        match manner {
            Manner::Whole => {
                let mut wire = head(reply, length);
                wire.extend_from_slice(&reply.body);
                self.stream.write_all(&wire).await?;
                return Ok(true);
            }
            Manner::Drop { reset } => {
                if reset {
                    self.stream.set_zero_linger()?;
                }
            }
            Manner::Half { reset } => {
                self.stream.write_all(&head(reply, length)).await?;
                self.stream.write_all(&reply.body[..length / 2]).await?;
                if reset {
                    self.stream.set_zero_linger()?;
                }
            }
            Manner::EndlessHead => {
                self.stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                loop {
                    self.stream.write_all(b"x-filler: more and more\r\n").await?;
                }
            }
            Manner::WrongLength => {
                self.stream.write_all(&head(reply, length)).await?;
                self.stream.write_all(&reply.body).await?;
            }
            Manner::Drip { over } => {
                let mut wire = head(reply, length);
                wire.extend_from_slice(&reply.body);
                let pieces = 50;
                for piece in wire.chunks(wire.len().div_ceil(pieces).max(1)) {
                    self.stream.write_all(piece).await?;
                    tokio::time::sleep(over / 50).await;
                }
                return Ok(true);
            }
            Manner::Silence => self.wait_until_gone().await,
        }
        if !matches!(manner, Manner::Drop { reset: true } | Manner::Half { reset: true }) {
            self.stream.shutdown().await?;
        }
        Ok(false)
    }

    async fn wait_until_gone(&mut self) {
        let mut scratch = [0_u8; 1024];
        while matches!(self.stream.read(&mut scratch).await, Ok(count) if count > 0) {}
    }

    async fn fill_head(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(Some(end));
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(malformed("request head is larger than 64 KiB"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(malformed("closed within a head"))
                };
            }
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAX_BODY_BYTES {
            return Err(malformed("request body is larger than 64 MiB"));
        }
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(malformed("closed within a body"));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed("chunk size is no number"))?;
            if body.len() + size > MAX_BODY_BYTES {
                return Err(malformed("request body is larger than 64 MiB"));
            }
            body.extend(self.take(size).await?);
            if size == 0 {
                while !self.take_line().await?.is_empty() {}
                return Ok(body);
            }
            self.take_line().await?;
        }
    }

    async fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > MAX_HEAD_BYTES || self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(malformed("closed within a chunk"));
            }
        }
    }
}

/// Decodes `a=b&c=d` with `+` and percent-encoding; broken escapes stay as they are.
pub(crate) fn decode_form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[at], escaped.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn head(reply: &Reply, length: usize) -> Vec<u8> {
    let reason = match reply.status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        302 => "Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Time-out",
        _ => "Status",
    };
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    head.into_bytes()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::decode_form;

    #[test]
    fn form_text_is_decoded_like_a_browser_sends_it() {
        let pairs = decode_form("a=1+2&%E4%B8%AD=%2B%zz&empty=&bare");
        let expected = [("a", "1 2"), ("中", "+%zz"), ("empty", ""), ("bare", "")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
