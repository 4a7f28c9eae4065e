//! Clients that are slow, go away or are too many; and a stop while something is under way.

use std::time::Duration;

use iam_sorry_server::http::Rate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{read_answer, request, send, send_on};
use super::rig::{Rig, settings};

const SOON: Duration = Duration::from_secs(30);

/// Ends when the other side closes.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection to be closed");
    let _ = read; // a reset is a close, too
    bytes
}

/// Slowloris: heads that arrive a byte at a time, or never, hold no connection for long.
#[tokio::test]
async fn clients_that_trickle_their_request_are_cut_off() {
    let mut settings = settings().await;
    settings.read_seconds = Rate::new(1, 1).per_second;
    let rig = Rig::with(settings).await;

    let mut silent = TcpStream::connect(rig.address).await.unwrap();
    let mut half = TcpStream::connect(rig.address).await.unwrap();
    half.write_all(b"GET /api/v1/hello HTTP/1.1\r\nHost: ").await.unwrap();
    let (mut trickle, mut writer) = TcpStream::connect(rig.address).await.unwrap().into_split();
    let trickling = tokio::spawn(async move {
        let _ = writer.write_all(b"GET /api/v1/hello HTTP/1.1\r\n").await;
        while writer.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    closed(&mut silent).await;
    closed(&mut half).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(SOON, trickle.read_to_end(&mut bytes)).await.expect("cut off");
    trickling.abort();

    // A body that does not come gets an answer that says so.
    let mut body = TcpStream::connect(rig.address).await.unwrap();
    let head = ["Content-Type: application/json", "Content-Length: 50"];
    body.write_all(&request(rig.address, "POST /api/v1/hello", &head, b"")).await.unwrap();
    let answer = read_answer(&mut body).await.unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-request"));
    assert!(answer.text().contains("in time"));
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut_off() {
    let mut settings = settings().await;
    settings.write_seconds = Rate::new(1, 1).per_second;
    settings.stop_seconds = 20;
    let rig = Rig::with(settings).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&request(rig.address, "GET /api/v1/large", &[], b"")).await.unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    // Nothing is read from here on. The stop waits for open connections, so it ends only because this one was cut.
    rig.stop();
    assert!(rig.ended().await);
    drop(stream);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let mut settings = settings().await;
    settings.max_connections_per_address = Rate::new(4, 1).per_second;
    let rig = Rig::with(settings).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        assert_eq!(send_on(&mut stream, rig.address, "GET /api/v1/hello", &[], b"").await.status, 200);
        held.push(stream);
    }
    let mut fifth = TcpStream::connect(rig.address).await.unwrap();
    assert!(closed(&mut fifth).await.is_empty());
    drop(held);
    // Places come back.
    let back = async {
        loop {
            let mut stream = TcpStream::connect(rig.address).await.unwrap();
            let _ = stream.write_all(&request(rig.address, "GET /api/v1/hello", &[], b"")).await;
            if read_answer(&mut stream).await.is_some_and(|answer| answer.status == 200) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, back).await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_what_is_under_way_finish_and_begins_nothing_new() {
    let rig = Rig::start().await;
    let address = rig.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    send_on(&mut idle, address, "GET /api/v1/hello", &[], b"").await;
    let under_way = tokio::spawn(async move { send(address, "POST /api/v1/wait", &[], b"").await });
    rig.gate.entered.notified().await;

    rig.stop();
    assert!(closed(&mut idle).await.is_empty(), "an idle connection is closed");
    let refused = async {
        while let Ok(mut stream) = TcpStream::connect(address).await {
            // Taken by the kernel before the listener was closed; nobody answers.
            let _ = stream.write_all(&request(address, "GET /api/v1/hello", &[], b"")).await;
            assert!(closed(&mut stream).await.is_empty());
        }
    };
    tokio::time::timeout(SOON, refused).await.unwrap();

    rig.gate.open.notify_one();
    let answer = under_way.await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(rig.ended().await);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let mut settings = settings().await;
    settings.stop_seconds = 1;
    let rig = Rig::with(settings).await;
    let address = rig.address;
    let hanging = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&request(address, "POST /api/v1/wait", &[], b"")).await.unwrap();
        closed(&mut stream).await
    });
    rig.gate.entered.notified().await;
    rig.stop();
    assert!(!rig.ended().await, "it says that something was left");
    hanging.abort();
}

#[tokio::test]
async fn an_action_goes_on_when_its_client_goes_away_and_a_stop_waits_for_it() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&request(rig.address, "POST /api/v1/wait", &[], b"")).await.unwrap();
    rig.gate.entered.notified().await;
    drop(stream);
    rig.stop();
    let gate = std::sync::Arc::clone(&rig.gate);
    let letting_go = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open.notify_one();
        gate.left.notified().await;
    });
    assert!(rig.ended().await);
    tokio::time::timeout(SOON, letting_go).await.expect("the handler reached its end").unwrap();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_while_its_action_goes_on() {
    let mut settings = settings().await;
    settings.request_seconds = Rate::new(1, 1).per_second;
    let rig = Rig::with(settings).await;
    let answer = send(rig.address, "POST /api/v1/wait", &[], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "aws-unavailable"));
    assert!(answer.text().contains("Idempotency-Key"));
    assert!(answer.header("retry-after").is_some());
    rig.gate.open.notify_one();
    tokio::time::timeout(SOON, rig.gate.left.notified()).await.expect("it went on");
}
