//! Whose certificates are believed, and what never leaves in the clear.

use iam_sorry_net::{Client, ConnectError, Error, SecretBody, Security, TrustRoots, client_config};
use testkit::{Certificate, TestCa};

use super::server::{Server, ok};
use super::{LONG, get, limits, plain, post, text, trusting};

fn tls_error(result: Result<String, Error>) -> String {
    match result {
        Err(Error::Connect(ConnectError::Tls(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_its_ca_vouches_for_is_believed() {
    let ca = TestCa::new();
    let server = Server::tls(&ca.issue_loopback(), |_| ok("hello")).await;
    let client = trusting(&ca.file(), None);
    for host in ["localhost", "127.0.0.1"] {
        let sent = client.send(post(format!("https://{host}:{}/a?b=c", server.port), "a secret")).await;
        assert_eq!(text(sent).await.unwrap(), "hello");
        let request = server.requests().pop().unwrap();
        assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
        let head = request.to_ascii_lowercase();
        assert!(head.contains(&format!("host: {host}:{}\r\n", server.port)), "{request}");
        assert!(request.ends_with("\r\n\r\na secret"), "{request}");
    }
    assert_eq!(server.protocols(), [Some(b"http/1.1".to_vec()), Some(b"http/1.1".to_vec())]);
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let ask = async |certificate: &Certificate, trusted: &TestCa| {
        let server = Server::tls(certificate, |_| ok("hello")).await;
        let client = trusting(&trusted.file(), None);
        let answer = text(client.send(get(format!("https://localhost:{}/", server.port))).await).await;
        assert_eq!(server.requests().len(), usize::from(answer.is_ok()));
        answer
    };
    assert_eq!(ask(&ca.issue_loopback(), &ca).await.unwrap(), "hello");
    let unknown = tls_error(ask(&ca.issue_loopback(), &other).await);
    // Both authorities have the same name, so it is the signature that gives the wrong one away.
    assert!(unknown.contains("BadSignature"), "{unknown}");
    let wrong_host = tls_error(ask(&ca.issue(&["DNS:keys.example.edu"]), &ca).await);
    assert!(
        wrong_host.contains("NotValidForName") || wrong_host.contains("not valid for name"),
        "{wrong_host}"
    );
    let expired = tls_error(ask(&ca.issue_expired(&["DNS:localhost"]), &ca).await);
    assert!(expired.contains("expired"), "{expired}");
}

#[tokio::test]
async fn the_systems_authorities_vouch_for_nobody_of_ours() {
    let ca = TestCa::new();
    let server = Server::tls(&ca.issue_loopback(), |_| ok("hello")).await;
    let tls = client_config(TrustRoots::System).unwrap().into();
    let client: Client<SecretBody> = Client::new(Security::Https { tls, proxy: None }, limits(LONG, LONG));
    let reason = tls_error(text(client.send(get(format!("https://localhost:{}/", server.port))).await).await);
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
async fn a_server_without_tls_gets_nothing() {
    let server = Server::plain(|_| ok("hello")).await;
    let client = trusting(&TestCa::new().file(), None);
    tls_error(text(client.send(get(format!("https://localhost:{}/", server.port))).await).await);
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn each_client_speaks_its_own_scheme_alone() {
    let server = Server::plain(|_| ok("hello")).await;
    let ask = async |client: &Client<SecretBody>, scheme: &str| {
        text(client.send(get(format!("{scheme}://127.0.0.1:{}/", server.port))).await).await
    };
    let wrong = |scheme: &str| Err(Error::Connect(ConnectError::WrongScheme(scheme.to_owned())));
    let unprotected = Client::new(Security::UnprotectedHttp, limits(LONG, LONG));
    assert_eq!(ask(&trusting(&TestCa::new().file(), None), "http").await, wrong("http"));
    assert_eq!(ask(&plain(), "https").await, wrong("https"));
    assert_eq!(ask(&unprotected, "https").await, wrong("https"));
    assert_eq!(server.connections(), 0);
    assert_eq!(ask(&plain(), "http").await.unwrap(), "hello");
    assert_eq!(ask(&unprotected, "http").await.unwrap(), "hello");
}
