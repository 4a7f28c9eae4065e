//! The HTTP endpoint: loopback only, one path, one token, small bounded requests, plain threads.
//!
//! Any web page can make a browser send requests to an address on this machine under a name that it chose (DNS
//! rebinding), and any user of this machine can connect. So the Host header and the token are checked before anything
//! else (99designs/aws-vault#578).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::request::{self, LARGEST, Request};
use crate::error::{Error, ErrorKind, Result};

const PATH: &str = "/credentials";

/// Time limit for receiving a request's head, and for sending the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for obtaining credentials; AWS may not accept a new key for a minute.
pub const CREDENTIAL_TIMEOUT: Duration = Duration::from_secs(90);

/// Concurrent connections; a command's SDKs need one or two.
const AT_ONCE: usize = 32;

/// What the main thread answers.
pub enum CredentialResponse {
    /// The credentials, as JSON.
    Credentials(Zeroizing<String>),
    /// Why there are none at the moment.
    Failed { code: &'static str, message: String },
}

impl CredentialResponse {
    pub fn failed(error: &Error) -> Self {
        let code = match error.kind {
            ErrorKind::Key => "KeyNotAvailable",
            ErrorKind::Profile => "ProfileNotUsable",
            ErrorKind::Aws => "AwsRefused",
            _ => "CredentialsNotAvailable",
        };
        // SDKs show the message on one line.
        let sentences = error.text.lines().map(|line| line.trim().trim_end_matches(['.', ':', ',']));
        Self::Failed { code, message: sentences.collect::<Vec<_>>().join(". ") }
    }
}

/// Requests credentials from the main thread; `None` if it does not answer in time.
type RequestCredentials = dyn Fn() -> Option<CredentialResponse> + Send + Sync;

/// The running endpoint; dropping it stops it.
pub struct Endpoint {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    token: Zeroizing<String>,
    ask: Box<RequestCredentials>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

/// Fills `bytes` with random data.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::other("The system gives no random numbers"))
}

/// A random token of 256 bits, in hexadecimal.
pub fn new_token() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    random(&mut *bytes)?;
    let mut token = Zeroizing::new(String::with_capacity(64));
    for byte in *bytes {
        for digit in [byte >> 4, byte & 15] {
            token.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    Ok(token)
}

impl Endpoint {
    /// Listens on a port that the kernel chooses.
    pub fn start(
        token: Zeroizing<String>,
        ask: impl Fn() -> Option<CredentialResponse> + Send + Sync + 'static,
    ) -> Result<Self> {
        let failed = |e: io::Error| Error::other(format!("No address on this machine to serve on: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            address,
            token,
            ask: Box::new(ask),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = std::thread::Builder::new().name("endpoint".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { shared, accepting: Some(accepting.map_err(failed)?) })
    }

    /// The value of AWS_CONTAINER_CREDENTIALS_FULL_URI.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.shared.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.shared.address)); // wakes the accepting thread
        if let Some(thread) = self.accepting.take() {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Most likely there are no file descriptors left; an immediate retry would fail too.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if shared.connections.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            shared.connections.fetch_sub(1, Ordering::SeqCst);
            continue; // closed
        }
        let of_thread = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("request".into()).spawn(move || {
            // An error means that the client is gone.
            drop(serve(stream, &of_thread));
            of_thread.connections.fetch_sub(1, Ordering::SeqCst);
        });
        if thread.is_err() {
            shared.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST));
    let response = match read_head(&mut stream, &mut bytes)? {
        None => refusal(431, "RequestTooLarge", "The request is too large"),
        Some(end) => match request::parse(&bytes[..end]) {
            Ok(request) => respond(&request, shared),
            Err(why) => refusal(400, "BadRequest", why.0),
        },
    };
    stream.write_all(response.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    // Reads on for a moment: closing a socket with unread bytes would reset it before the client has the response.
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut rest = [0; 1024];
    for _ in 0..16 {
        if !matches!(stream.read(&mut rest), Ok(1..)) {
            break;
        }
    }
    Ok(())
}

/// The length of the head; `None` if it is too large. A client that is too slow gets an error and no response.
fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut some = Zeroizing::new([0; 1024]);
    loop {
        if let Some(end) = request::head_length(bytes) {
            return Ok(Some(end));
        }
        if bytes.len() + some.len() > LARGEST {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut *some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(&some[..n]),
        }
    }
}

fn respond(request: &Request<'_>, shared: &Shared) -> Zeroizing<String> {
    let port = shared.address.port();
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if !request.host.is_some_and(|host| ours.iter().any(|name| name.eq_ignore_ascii_case(host))) {
        return refusal(403, "WrongHost", "This endpoint has another name");
    }
    let given = request.authorization.unwrap_or_default().as_bytes();
    // In constant time, so that the duration reveals nothing about the token.
    if aws_lc_rs::constant_time::verify_slices_are_equal(given, shared.token.as_bytes()).is_err() {
        return refusal(401, "WrongToken", "The Authorization header is not this endpoint's token");
    }
    if request.target != PATH {
        return refusal(404, "NotFound", "There is nothing here");
    }
    if request.method != "GET" {
        return refusal(405, "MethodNotAllowed", "Only GET is understood");
    }
    match (shared.ask)() {
        Some(CredentialResponse::Credentials(json)) => response(200, &json),
        Some(CredentialResponse::Failed { code, message }) => refusal(503, code, &message),
        None => refusal(504, "Timeout", "The credentials took too long"),
    }
}

/// A response that SDKs show: `{"code": ..., "message": ...}`.
fn refusal(status: u16, code: &str, message: &str) -> Zeroizing<String> {
    response(status, &serde_json::json!({ "code": code, "message": message }).to_string())
}

fn response(status: u16, body: &str) -> Zeroizing<String> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Gateway Timeout",
    };
    let allow = if status == 405 { "Allow: GET\r\n" } else { "" };
    let mut text = Zeroizing::new(String::with_capacity(body.len() + 256));
    text.push_str(&format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    ));
    text.push_str(body);
    text
}
