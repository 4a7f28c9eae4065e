//! Clients side by side, each with one connection that it keeps: what browsers, SDKs and connection pools do.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::figures::Figures;
use crate::{Error, Options};

/// One client.
pub struct Client {
    address: String,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Adds up to how many connections were needed.
    pub connections: u32,
}

impl Client {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), connection: None, connections: 0 }
    }

    /// One request; its whole answer.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: String,
    ) -> Result<(StatusCode, Bytes), Error> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        connection.ready().await?;
        let answer = connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        self.connection = Some(connection);
        Ok((status, body))
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        self.connections += 1;
        Ok(sender)
    }
}

/// Runs `clients` side by side for `seconds`, or until they did `count` things together, and prints the figures. `work`
/// gets the client's number and turn, and says what came of it: success, or a kind of failure and its text.
pub async fn run<C, W, F>(options: &Options, make: impl Fn(u64) -> C, work: W) -> Result<(), Error>
where
    C: 'static,
    W: Fn(u64, u64, C) -> F + Clone + 'static,
    F: Future<Output = (C, Result<(), (String, String)>)>,
{
    let clients = options.number("clients", 16)?;
    let share = match options.number("count", 0)? {
        0 => u64::MAX,
        count => count.div_ceil(clients),
    };
    let start = Instant::now();
    let end = start + Duration::from_secs(options.number("seconds", 10)?);
    let mut tasks = Vec::new();
    for number in 0..clients {
        let (mut client, work) = (make(number), work.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let mut figures = Figures::default();
            for turn in 0..share {
                let begun = Instant::now();
                if share == u64::MAX && begun >= end {
                    break;
                }
                let outcome;
                (client, outcome) = work(number, turn, client).await;
                match outcome {
                    Ok(()) => figures.good(begun.elapsed()),
                    Err((kind, text)) => figures.bad(kind, &text),
                }
            }
            figures
        }));
    }
    let mut all = Figures::default();
    for task in tasks {
        all.add(task.await?);
    }
    println!("{}", all.report(start.elapsed()));
    Ok(())
}
