//! HTTP/1.1 by hand, so that a test sends exactly the bytes that it means.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A test that waits longer than this for bytes has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The problem's code; checks that it is a whole one (RFC 9457) and says what the headers say.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        let code = problem["code"].as_str().unwrap().to_owned();
        assert_eq!(problem["type"], format!("urn:iam-sorry:problem:{code}"));
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        code
    }
}

/// Sends bytes as they are on a connection of their own and reads one answer; none where the connection just ends.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough may have closed before everything was sent.
    let _ = stream.write_all(bytes).await;
    read_answer(&mut stream).await
}

/// `METHOD PATH` with headers (`Name: value`) and a body; `Host` is the address unless the headers have one.
pub async fn send(address: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    send_on(&mut stream, address, line, headers, body).await
}

/// The same on a connection that stays open.
pub async fn send_on<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    address: SocketAddr,
    line: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    stream.write_all(&request(address, line, headers, body)).await.unwrap();
    let answer = read(stream, line.starts_with("HEAD "));
    tokio::time::timeout(PATIENCE, answer).await.expect("bytes in time").expect("an answer")
}

/// The bytes of a request.
pub fn request(address: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\n");
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// Reads one answer, with `Content-Length`, chunked, or up to the end.
pub async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Answer> {
    tokio::time::timeout(PATIENCE, read(stream, false)).await.expect("bytes in time")
}

/// `no_body`: the answer to a HEAD request, which has the lengths of a body and none (RFC 9110, section 9.3.2).
async fn read<S: AsyncRead + Unpin>(stream: &mut S, no_body: bool) -> Option<Answer> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at;
        }
        if !more(stream, &mut bytes).await {
            assert!(bytes.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&bytes));
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut body = bytes.split_off(head_end + 4);
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let of = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    if no_body {
        body.clear();
    } else if let Some(length) = of("content-length") {
        let length: usize = length.parse().unwrap();
        while body.len() < length {
            assert!(more(stream, &mut body).await, "the body was cut");
        }
        body.truncate(length);
    } else if of("transfer-encoding").as_deref() == Some("chunked") {
        body = chunks(stream, body).await;
    } else if status != 204 && status != 304 {
        while more(stream, &mut body).await {}
    }
    Some(Answer { status, headers, body })
}

async fn chunks<S: AsyncRead + Unpin>(stream: &mut S, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = find(&bytes, b"\r\n") {
                break at;
            }
            assert!(more(stream, &mut bytes).await, "a chunk was cut");
        };
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        while bytes.len() < line + 2 + length + 2 {
            assert!(more(stream, &mut bytes).await, "a chunk was cut");
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + length]);
        bytes.drain(..line + 2 + length + 2);
        if length == 0 {
            return body;
        }
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> bool {
    stream.read_buf(bytes).await.unwrap_or(0) > 0
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
