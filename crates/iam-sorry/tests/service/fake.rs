//! A server that answers as a test says: for what `iam-sorryd` never does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find_map(|line| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.trim())
    }
}

/// On loopback; ends with the test process.
pub struct Fake {
    pub origin: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// `answer` writes whatever it likes; the connection is closed after it.
    pub fn start(answer: impl Fn(&Asked, usize, &mut TcpStream) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        std::thread::spawn({
            let asked = Arc::clone(&asked);
            move || {
                for stream in listener.incoming() {
                    let (mut stream, asked, answer) =
                        (stream.unwrap(), Arc::clone(&asked), Arc::clone(&answer));
                    std::thread::spawn(move || {
                        let Some(request) = read(&stream) else { return };
                        let number = {
                            let mut asked = asked.lock().unwrap();
                            asked.push(request.clone());
                            asked.len()
                        };
                        answer(&request, number, &mut stream);
                    });
                }
            }
        });
        Fake { origin, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

pub fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
}

pub fn json(stream: &mut TcpStream, status: &str, body: &str) {
    let kind = if status.starts_with('2') { "application/json" } else { "application/problem+json" };
    reply(stream, status, &format!("Content-Type: {kind}\r\n"), body);
}

pub fn problem(code: &str, status: u16, detail: &str) -> String {
    format!(
        r#"{{"type":"urn:iam-sorry:problem:{code}","code":"{code}","title":"t","status":{status},"detail":"{detail}","request_id":"req-1"}}"#
    )
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_owned();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        headers.push(header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { line: line.trim().to_owned(), headers, body: String::from_utf8_lossy(&body).into_owned() })
}
