//! The way through a proxy: it sees where a connection goes, and TLS.

use iam_sorry_net::{ConnectError, Error, Proxy};
use testkit::{ConnectProxy, TestCa};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::server::{Server, acceptor, ok, write};
use super::{get, post, text, trusting};

fn proxy(url: &str, no_proxy: &str) -> Option<Proxy> {
    Some(Proxy::new(&url.into(), Some(no_proxy)).unwrap())
}

fn proxy_error(result: Result<String, Error>) -> String {
    match result {
        Err(error @ Error::Connect(ConnectError::Proxy { .. })) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_gets_its_password_and_nothing_else() {
    let ca = TestCa::new();
    let server = Server::tls(&ca.issue_loopback(), |_| ok("hello")).await;
    let tunnel = ConnectProxy::start();
    let client = trusting(&ca.file(), proxy(&tunnel.url("me:hunter2@"), "example.org"));
    let sent = client.send(post(format!("https://localhost:{}/path", server.port), "a secret"));
    assert_eq!(text(sent.await).await.unwrap(), "hello");
    let heads = tunnel.heads();
    assert_eq!(heads.len(), 1);
    let lines: Vec<String> = heads[0].trim_end().lines().map(str::to_ascii_lowercase).collect();
    let place = format!("localhost:{}", server.port);
    let (connect, host) = (format!("connect {place} http/1.1"), format!("host: {place}"));
    // me:hunter2
    assert_eq!(lines, [connect, host, "proxy-authorization: basic bwu6ahvudgvymg==".to_owned()]);
}

#[tokio::test]
async fn what_no_proxy_names_is_reached_without_it() {
    let ca = TestCa::new();
    let server = Server::tls(&ca.issue_loopback(), |_| ok("hello")).await;
    let tunnel = ConnectProxy::start();
    let ask = async |no_proxy: &str, host: &str| {
        let client = trusting(&ca.file(), proxy(&tunnel.url(""), no_proxy));
        text(client.send(get(format!("https://{host}:{}/", server.port))).await).await.unwrap();
        tunnel.heads().len()
    };
    assert_eq!(ask("example.org, localhost", "localhost").await, 0);
    assert_eq!(ask("example.org,127.0.0.0/8", "127.0.0.1").await, 0);
    assert_eq!(ask("*", "localhost").await, 0);
    assert_eq!(ask("example.org", "localhost").await, 1);
}

#[tokio::test]
async fn what_a_proxy_refuses_is_said_as_its_refusal() {
    let ca = TestCa::new();
    let server = Server::tls(&ca.issue_loopback(), |_| ok("hello")).await;
    let through = async |url: &str| {
        let client = trusting(&ca.file(), proxy(url, ""));
        proxy_error(text(client.send(get(format!("https://localhost:{}/", server.port))).await).await)
    };
    let refuses = ConnectProxy::answering("407 Proxy Authentication Required");
    let error = through(&refuses.url("me:hunter2@")).await;
    assert!(error.starts_with("the proxy 127.0.0.1:"), "{error}");
    assert!(error.ends_with("does not let us through (407 Proxy Authentication Required)"), "{error}");

    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let error = through(&format!("http://me:hunter2@{closed}")).await;
    assert!(error.contains("can't be reached: Connection refused"), "{error}");

    let mail = Server::plain(|_| write("220 mail.example.org ESMTP\r\n")).await;
    let error = through(&format!("http://me:hunter2@127.0.0.1:{}", mail.port)).await;
    assert!(error.contains("does not speak HTTP"), "{error}");
    assert_eq!(server.connections(), 1, "of the proxy that refused only after it had connected");
}

/// TLS in TLS.
#[tokio::test]
async fn a_proxy_may_itself_be_spoken_to_over_tls() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let server = Server::tls(&ca.issue_loopback(), |_| ok("hello")).await;
    let tunnel = ConnectProxy::start();
    let front = async |tls: tokio_rustls::TlsAcceptor| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = tunnel.url("").trim_start_matches("http://").to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let mut behind = TcpStream::connect(&behind).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut behind).await });
            }
        });
        format!("https://localhost:{port}")
    };
    let uri = format!("https://localhost:{}/", server.port);
    // Its acceptor prefers h2: the client's own offer decides.
    let url = front(acceptor(&ca.issue_loopback())).await;
    let client = trusting(&ca.file(), proxy(&url, ""));
    assert_eq!(text(client.send(get(uri.clone())).await).await.unwrap(), "hello");
    assert_eq!(tunnel.heads().len(), 1);

    let url = front(acceptor(&other.issue_loopback())).await;
    let error = proxy_error(text(trusting(&ca.file(), proxy(&url, "")).send(get(uri)).await).await);
    assert!(error.contains("can't prove who it is"), "{error}");
}
