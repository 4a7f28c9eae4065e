//! One HTTP/1.1 request over a plain loopback connection: for WebDriver, and for looking at servers from tests. Every
//! request has a connection of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer on a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer. Header names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: String,
}

impl Answer {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks `address` (`127.0.0.1:PORT`). `headers` are whole lines without their ends, such as `Accept: text/html`; Host,
/// Connection and Content-Length are added.
///
/// # Errors
/// When the connection is refused, breaks, or does not bring an answer.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
        head += &format!("Host: {address}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for line in headers {
        head += line;
        head += "\r\n";
    }
    head += "\r\n";
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            // A server that refuses a body early may reset the connection behind its answer (RFC 9112, 9.6).
            Err(error) => return parse(&bytes, true).ok_or(error),
        }
        // Not every server closes the connection because it was asked to.
        if let Some(answer) = parse(&bytes, false) {
            return Ok(answer);
        }
    }
    parse(&bytes, true).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        std::io::Error::other(format!("{method} {path}: no whole answer: {text:?}"))
    })
}

/// None unless the whole answer is there. An answer of unstated length is whole when the connection has `ended`.
fn parse(bytes: &[u8], ended: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: String::new() };
    let body = if answer.header("transfer-encoding").is_some_and(|value| value == "chunked") {
        unchunked(body)?
    } else if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().ok()?;
        // The answer to HEAD has a length and no body.
        if ended && body.is_empty() { Vec::new() } else { body.get(..length)?.to_vec() }
    } else if ended || status == 204 || status == 304 {
        body.to_vec()
    } else {
        return None;
    };
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Some(answer)
}

/// RFC 9112, 7.1.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
