//! Just enough HTTP/1.1 for SDK clients and the emulator's answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A request or an answer: its first line, its headers, its body.
pub(crate) struct Message {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Reads one message. A body without a length ends with the connection, which only an answer may have.
    pub(crate) fn read(stream: &TcpStream, is_answer: bool) -> io::Result<Message> {
        let mut reader = BufReader::new(stream);
        let first_line = line(&mut reader)?;
        let mut message = Message { first_line, headers: Vec::new(), body: Vec::new() };
        loop {
            let text = line(&mut reader)?;
            let Some((name, value)) = text.split_once(':') else { break };
            message.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let chunked =
            message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if chunked {
            message.body = read_chunks(&mut reader)?;
            message.remove("transfer-encoding");
        } else if let Some(length) = message.header("content-length") {
            let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            message.body = vec![0; length];
            reader.read_exact(&mut message.body)?;
        } else if is_answer {
            reader.read_to_end(&mut message.body)?;
        }
        let length = message.body.len().to_string();
        message.set("content-length", &length);
        message.set("connection", "close");
        Ok(message)
    }

    /// An answer of our own in the shape of the AWS query protocol.
    pub(crate) fn error(status: u16, code: &str, text: &str) -> Message {
        let kind = if status < 500 { "Sender" } else { "Receiver" };
        let body = format!(
            "<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>{kind}</Type>\
             <Code>{code}</Code><Message>{text}</Message></Error>\
             <RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>"
        );
        let mut message = Message {
            first_line: format!("HTTP/1.1 {status} {code}"),
            headers: vec![("content-type".to_owned(), "text/xml".to_owned())],
            body: body.into_bytes(),
        };
        let length = message.body.len().to_string();
        message.set("content-length", &length);
        message.set("connection", "close");
        message
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// The parameters of a query-protocol request, from the query string and from the form body, which goes first.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        let body = String::from_utf8_lossy(&self.body);
        let query =
            self.first_line.split(' ').nth(1).and_then(|target| target.split_once('?')).map_or("", |p| p.1);
        let pairs = query.split('&').chain(body.split('&')).filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (percent_decode(name), percent_decode(value))).collect()
    }

    /// The text of the first XML element of that name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let rest = text.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    /// Changes the text of the first XML element of that name, where there is one.
    pub(crate) fn replace_element(&mut self, name: &str, new: &str) {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let Some((before, rest)) = text.split_once(&format!("<{name}>")) else { return };
        let Some((_, after)) = rest.split_once(&format!("</{name}>")) else { return };
        self.body = format!("{before}<{name}>{new}</{name}>{after}").into_bytes();
        let length = self.body.len().to_string();
        self.set("content-length", &length);
    }

    /// Writes it; of the body only the first `limit` bytes.
    pub(crate) fn write(&self, mut stream: &TcpStream, limit: usize) -> io::Result<()> {
        let mut bytes = format!("{}\r\n", self.first_line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body[..self.body.len().min(limit)]);
        stream.write_all(&bytes)?;
        stream.flush()
    }

    /// Sends a request and reads the answer.
    pub(crate) fn exchange(&self, address: &str) -> io::Result<Message> {
        let upstream = TcpStream::connect(address)?;
        upstream.set_read_timeout(Some(Duration::from_secs(60)))?;
        self.write(&upstream, usize::MAX)?;
        Message::read(&upstream, true)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?;
        let size = size.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        line(reader)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("00");
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
