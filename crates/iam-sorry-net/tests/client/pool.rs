//! Connections that are used again, and requests that get one of their own.

use std::time::Duration;

use super::server::{Server, Step, ok};
use super::{get, plain, post, text};

#[tokio::test]
async fn an_idle_connection_is_used_again_but_not_for_what_must_not_be_sent_twice() {
    let server = Server::plain(|_| ok("hello")).await;
    let (client, uri) = (plain(), format!("http://127.0.0.1:{}/", server.port));
    for _ in 0..3 {
        text(client.send(get(uri.clone())).await).await.unwrap();
        text(client.clone().send(get(uri.clone())).await).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    for number in 2..5 {
        text(client.send_on_new_connection(post(uri.clone(), "x")).await).await.unwrap();
        assert_eq!(server.connections(), number);
    }
    text(client.send(get(uri)).await).await.unwrap();
    assert_eq!(server.connections(), 4);
}

/// A server that was restarted meanwhile: the request goes out on a new connection, once.
#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_used() {
    let server = Server::plain(|_| [ok("hello"), vec![Step::Close]].concat()).await;
    let (client, uri) = (plain(), format!("http://127.0.0.1:{}/", server.port));
    for number in 1..4 {
        text(client.send(get(uri.clone())).await).await.unwrap();
        assert_eq!((server.connections(), server.requests().len()), (number, number));
        // The end of the connection has to arrive; nothing here shows when it has.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
