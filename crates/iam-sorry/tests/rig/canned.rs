//! An AWS endpoint with fixed answers, for what emulators don't do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// An endpoint with fixed answers, on loopback. Ends with the test process.
pub struct CannedAws {
    pub endpoint: String,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl CannedAws {
    pub fn start(answer: impl Fn(&str) -> &'static str + Send + 'static) -> CannedAws {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let asked = Arc::clone(&asked);
            move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let body = read_request(&stream);
                    let action =
                        body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
                    asked.lock().unwrap().push(action.to_owned());
                    let xml = format!("<{action}Response>{}</{action}Response>", answer(action));
                    let length = xml.len();
                    write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n"
                    )
                    .unwrap();
                    write!(stream, "Connection: close\r\n\r\n{xml}").unwrap();
                }
            }
        });
        CannedAws { endpoint, asked }
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}
