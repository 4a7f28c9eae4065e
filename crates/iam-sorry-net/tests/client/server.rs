//! A server on loopback that answers byte for byte as a test says.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::Certificate;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it does after a request.
#[derive(Clone)]
pub enum Step {
    Write(String),
    /// A byte at a time, without an end.
    Drip,
    Wait,
    Close,
}

pub fn write(text: &str) -> Vec<Step> {
    vec![Step::Write(text.to_owned())]
}

pub fn ok(body: &str) -> Vec<Step> {
    write(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
    protocols: Vec<Option<Vec<u8>>>,
}

impl Server {
    /// `answer` is asked with the request's number, from 1 on.
    pub async fn plain(answer: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Server {
        Server::start(None, answer).await
    }

    pub async fn tls(
        certificate: &Certificate,
        answer: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Server {
        Server::start(Some(acceptor(certificate)), answer).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (answer, shared) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let (tls, answer, seen) = (tls.clone(), Arc::clone(&answer), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*answer, &seen).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                            seen.lock().unwrap().protocols.push(protocol);
                            serve(stream, &*answer, &seen).await;
                        }
                    }
                });
            }
        });
        Server { port, seen }
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Head and body of each request.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// What TLS agreed on (ALPN), a connection each.
    pub fn protocols(&self) -> Vec<Option<Vec<u8>>> {
        self.seen.lock().unwrap().protocols.clone()
    }
}

pub fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    let pem = |path: &Path| std::fs::read(path).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem(&certificate.certificate)).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem(&certificate.key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(impl Fn(usize) -> Vec<Step> + Send + Sync),
    seen: &Mutex<Seen>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.requests.push(request);
            seen.requests.len()
        };
        for step in answer(number) {
            match step {
                Step::Write(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                Step::Drip => {
                    while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    return;
                }
                Step::Wait => std::future::pending().await,
                Step::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let begin = request.len();
        if stream.read_line(&mut request).await.ok()? == 0 {
            return None;
        }
        let line = request[begin..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(request + &String::from_utf8(body).unwrap())
}
