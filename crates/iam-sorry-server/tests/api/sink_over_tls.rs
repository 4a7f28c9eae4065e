//! A collector over TLS: records leave for nobody but it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use iam_sorry_server::audit::sinks;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::{Certificate, TestCa};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::audit_sinks::{post, sink};
use super::trail::{Trail, until, verify};

fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    let chain =
        CertificateDer::pem_file_iter(&certificate.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

fn settings(port: u16, ca_file: &Path) -> sinks::SinkSettings {
    let url = format!("https://localhost:{port}/audit");
    sink(&format!("name = \"c\"\nhttp = {{ url = \"{url}\", ca_file = {ca_file:?} }}"))
}

#[tokio::test]
async fn records_go_to_the_collector_that_its_authority_vouches_for_alone() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let tls = acceptor(&ca.issue_loopback());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(Mutex::new(String::new()));
    let collector = tokio::spawn({
        let accepted = Arc::clone(&accepted);
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let (head, body) = post(&mut stream).await;
                assert!(head.contains(&format!("host: localhost:{port}\r\n")), "{head}");
                accepted.lock().unwrap().push_str(&body);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        }
    });
    let trail = Trail::new();
    trail.record(20).await;
    let running = trail.start(&settings(port, &other.file()));
    until("a failure", async || running.watch.states()[0].failing).await;
    running.stop().await;
    assert_eq!(accepted.lock().unwrap().as_str(), "");

    let running = trail.start(&settings(port, &ca.file()));
    trail.delivered("c", 20).await;
    running.stop().await;
    collector.abort();
    assert_eq!(verify(accepted.lock().unwrap().lines()).records, 20);
}

#[test]
fn a_ca_file_that_is_none_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let check = || sinks::check(&settings(1, &path)).unwrap_err();
    assert!(check().contains("ca.pem can't be read as PEM"));
    std::fs::write(&path, "").unwrap();
    assert!(check().contains("no authority that could vouch"));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(check().contains("ca.pem can't be read as PEM"));
}
