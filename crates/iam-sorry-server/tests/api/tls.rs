//! TLS: versions, a new certificate without a restart, and keys that everybody may read.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use iam_sorry_core::ssh::login::Origin;
use iam_sorry_server::http::{HttpSettings, Server, TlsSettings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{read_answer, send_on};
use super::rig::{Rig, settings};

/// A self-signed certificate for localhost, made by openssl.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl, which scripts/deps installs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    (certificate, key)
}

async fn tls_settings(folder: &Path) -> HttpSettings {
    let (certificate, key) = certificate(folder, "first");
    let mut settings = settings().await;
    settings.origin = Origin::parse(&format!("https://localhost:{}", settings.listen.port())).unwrap();
    settings.tls = Some(TlsSettings { certificate, key });
    settings
}

fn connector(trusted: &Path, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trusted).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_a_new_certificate_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = tls_settings(folder.path()).await;
    let files = settings.tls.clone().unwrap();
    let rig = Rig::with(settings).await;
    let host = format!("Host: localhost:{}", rig.address.port());
    let get = async |connector: TlsConnector| {
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await?;
        Ok::<_, std::io::Error>(send_on(&mut stream, rig.address, "GET /api/v1/hello", &[&host], b"").await)
    };
    let both = rustls::DEFAULT_VERSIONS;
    for version in both {
        let answer = get(connector(&files.certificate, &[version])).await.unwrap();
        assert_eq!(answer.status, 200);
        let hsts = answer.header("strict-transport-security").unwrap();
        assert!(hsts.starts_with("max-age=31536000"), "{hsts}");
    }

    let (second, second_key) = certificate(folder.path(), "second");
    let trusts_second = || connector(&second, both);
    assert!(get(trusts_second()).await.is_err(), "not in use yet");
    std::fs::copy(&second, &files.certificate).unwrap();
    let certificates = rig.certificates.clone().unwrap();
    let error = certificates.read_again().unwrap_err().to_string();
    assert!(error.contains("can't be used with the certificate"), "the key is still the old one: {error}");
    std::fs::copy(&second_key, &files.key).unwrap();
    let new = certificates.read_again().unwrap();
    assert_ne!(new.fingerprint(), certificates.fingerprint());
    certificates.use_new(new);
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&files.certificate)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap().to_ascii_lowercase().replace(':', "");
    assert!(shown.trim().ends_with(&certificates.fingerprint()), "{shown}");
    assert_eq!(get(trusts_second()).await.unwrap().status, 200);
    std::fs::write(&files.certificate, "no PEM").unwrap();
    assert!(certificates.read_again().is_err());
    assert_eq!(get(trusts_second()).await.unwrap().status, 200, "the one in use stays");
}

#[tokio::test]
async fn plain_http_to_a_tls_port_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(tls_settings(folder.path()).await).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /api/v1/hello HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // At most a TLS alert: nothing that is HTTP.
    let mut first = [0; 5];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await.unwrap_or(0);
    assert!(!first[..read].starts_with(b"HTTP"));
    let _ = read_answer::<TcpStream>;
}

#[tokio::test]
async fn a_key_that_everybody_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = tls_settings(folder.path()).await;
    let files = settings.tls.clone().unwrap();
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Server::bind(&settings).await.err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    std::fs::remove_file(&files.key).unwrap();
    let error = Server::bind(&settings).await.err().unwrap().to_string();
    assert!(error.contains("first.key"), "{error}");
}
