//! Servers that are slow, endless, cut off, or no HTTP servers at all: nothing hangs, and nothing half passes for whole.

use std::time::{Duration, Instant};

use iam_sorry_net::{Client, ConnectError, Error, SecretBody, Security};
use testkit::TestCa;
use tokio::net::TcpListener;

use super::server::{Server, Step, ok, write};
use super::{LONG, SHORT, get, limits, plain, text, trusting};

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn uri(server: &Server) -> String {
    format!("http://localhost:{}/", server.port)
}

fn impatient() -> Client<SecretBody> {
    Client::new(Security::LoopbackHttp, limits(LONG, SHORT))
}

/// Whatever a slow server does, the whole request ends with its limit.
#[tokio::test]
async fn a_server_that_drips_does_not_hold_us() {
    let endless = format!("{OK}Content-Length: 1000000\r\n\r\n");
    for steps in [
        vec![Step::Wait],
        vec![Step::Write(format!("{OK}X-Slow: ")), Step::Drip],
        vec![Step::Write(endless.clone()), Step::Wait],
        vec![Step::Write(endless), Step::Drip],
        vec![Step::Write(format!("{OK}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")), Step::Wait],
    ] {
        let server = Server::plain(move |_| steps.clone()).await;
        let begun = Instant::now();
        let answer = text(impatient().send(get(uri(&server))).await).await;
        assert_eq!(answer, Err(Error::TimedOut(SHORT)));
        let took = begun.elapsed();
        assert!((SHORT..SHORT * 10).contains(&took), "{took:?}");
    }
}

/// A long download takes longer than a request may; each of its pieces has that time.
#[tokio::test]
async fn pieces_have_their_own_time() {
    let piece = |text: &str| Step::Write(format!("1\r\n{text}\r\n"));
    let head = Step::Write(format!("{OK}Transfer-Encoding: chunked\r\n\r\n"));
    let server = Server::plain(move |_| vec![head.clone(), piece("a"), piece("b"), Step::Wait]).await;
    let mut response = impatient().send(get(uri(&server))).await.unwrap();
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    let mut read = Vec::new();
    let end = loop {
        match response.next_piece().await {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            other => break other,
        }
    };
    assert_eq!((read.as_slice(), end), (&b"ab"[..], Err(Error::TimedOut(SHORT))));
}

#[tokio::test]
async fn a_connection_has_a_limit_of_its_own() {
    // Takes connections, and never says a word of TLS.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pem = std::fs::read(TestCa::new().file()).unwrap();
    let tls = iam_sorry_net::client_config(iam_sorry_net::TrustRoots::Pem(&pem)).unwrap().into();
    let client: Client<SecretBody> = Client::new(Security::Https { tls, proxy: None }, limits(SHORT, LONG));
    let answer = text(client.send(get(format!("https://localhost:{port}/"))).await).await;
    assert_eq!(answer, Err(Error::Connect(ConnectError::TimedOut(SHORT))));
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let refused = text(plain().send(get(format!("http://127.0.0.1:{port}/"))).await).await;
    let Err(Error::Connect(ConnectError::Unreachable(reason))) = refused else { panic!("{refused:?}") };
    assert!(reason.starts_with("Connection refused"), "{reason}");
    let unknown =
        text(trusting(&TestCa::new().file(), None).send(get("https://host.invalid/".into())).await).await;
    assert!(matches!(unknown, Err(Error::Connect(ConnectError::Unreachable(_)))), "{unknown:?}");
}

#[tokio::test]
async fn a_body_is_as_long_as_the_limit_at_most() {
    let chunked =
        |body: &str| format!("{OK}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len());
    let body = "x".repeat(100_000);
    let answers = [ok(&body), write(&(chunked(&body) + "0\r\n\r\n"))];
    let server = Server::plain(move |number| answers[(number - 1) % 2].clone()).await;
    for _ in 0..2 {
        let read = async |limit| plain().send(get(uri(&server))).await.unwrap().whole_body(limit).await;
        assert_eq!(read(99_999).await.unwrap_err(), Error::TooLong(99_999));
        assert_eq!(read(100_000).await.unwrap().len(), 100_000);
        assert_eq!(read(0).await.unwrap_err(), Error::TooLong(0));
    }
    // Without an end.
    let begin = chunked("y");
    let server = Server::plain(move |_| {
        let more = (0..1000).map(|_| Step::Write(format!("fff\r\n{}\r\n", "z".repeat(0xfff))));
        [Step::Write(begin.clone())].into_iter().chain(more).chain([Step::Wait]).collect()
    });
    let server = server.await;
    let response = plain().send(get(uri(&server))).await.unwrap();
    assert_eq!(response.whole_body(1 << 20).await.unwrap_err(), Error::TooLong(1 << 20));
}

#[tokio::test]
async fn chunks_make_one_body() {
    let trailer = "0\r\nX-Trailer: x\r\n\r\n";
    let chunks = "4;ext=1\r\nhell\r\nC\r\no, chunked w\r\n4\r\norld\r\n";
    let server =
        Server::plain(move |_| write(&format!("{OK}Transfer-Encoding: chunked\r\n\r\n{chunks}{trailer}")))
            .await;
    let client = plain();
    for _ in 0..2 {
        assert_eq!(text(client.send(get(uri(&server))).await).await.unwrap(), "hello, chunked world");
    }
    assert_eq!(server.connections(), 1, "what was read to its end can be used again");
}

#[tokio::test]
async fn half_a_response_is_none() {
    for half in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha",
    ] {
        let server = Server::plain(move |_| vec![Step::Write(half.to_owned()), Step::Close]).await;
        for fresh in [false, true] {
            let (client, request) = (plain(), get(uri(&server)));
            let sent =
                if fresh { client.send_on_new_connection(request).await } else { client.send(request).await };
            let answer = text(sent).await;
            assert!(matches!(answer, Err(Error::Broken(_))), "{half:?}: {answer:?}");
        }
        assert_eq!(server.requests().len(), 2, "nothing is sent a second time");
    }
    let server =
        Server::plain(|_| vec![Step::Write(format!("{OK}Content-Length: 9\r\n\r\nhalf")), Step::Close]);
    let server = server.await;
    let mut response = plain().send(get(uri(&server))).await.unwrap();
    assert_eq!(response.next_piece().await.unwrap().unwrap(), "half");
    assert!(matches!(response.next_piece().await, Err(Error::Broken(_))));
}

#[tokio::test]
async fn what_is_not_http_is_said_to_be_none() {
    for banner in ["SSH-2.0-OpenSSH_9.2\r\n", "220 mail.example.org ESMTP\r\n", "\0\u{1}\u{2}\r\n\r\n"] {
        let server = Server::plain(move |_| write(banner)).await;
        let answer = text(plain().send(get(uri(&server))).await).await;
        assert!(matches!(answer, Err(Error::NotHttp(_))), "{banner:?}: {answer:?}");
    }
}

/// What a request carries is for the address that was named.
#[tokio::test]
async fn a_redirect_is_an_answer() {
    let elsewhere = Server::plain(|_| ok("elsewhere")).await;
    let target = uri(&elsewhere);
    let server = Server::plain(move |_| {
        write(&format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"))
    });
    let server = server.await;
    let response = plain().send(get(uri(&server))).await.unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], uri(&elsewhere).as_str());
    assert_eq!(elsewhere.connections(), 0);
}
