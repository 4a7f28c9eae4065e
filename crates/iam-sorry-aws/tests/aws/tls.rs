//! Over TLS: whose certificates are believed, and the way through a proxy.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use iam_sorry_aws::client::Proxy;
use iam_sorry_aws::lookup::caller;
use iam_sorry_aws::{Aws, AwsError, Settings};
use iam_sorry_core::credentials::{AccessKey, Credentials};
use testkit::ConnectProxy;

use crate::scene::run;

/// A TLS server in the shape of STS, with a CA that nobody knows.
struct TlsServer {
    child: Child,
    port: u16,
    ca: Vec<u8>,
}

impl TlsServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let mut child = Command::new(testkit::venv_bin("python"))
            .args(["-I", "-c", include_str!("tls_server.py")])
            .arg(&ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { port: line.trim().parse().unwrap(), ca: std::fs::read(ca).unwrap(), child }
    }

    fn settings(&self, trusted: bool) -> Settings {
        let mut settings = Settings::new("us-east-1");
        settings.endpoint_sts = Some(format!("https://localhost:{}", self.port));
        settings.ca_bundle = trusted.then(|| self.ca.clone());
        settings.max_attempts = 1;
        settings
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn ask(settings: &Settings) -> Result<String, AwsError> {
    let key = AccessKey { id: "AKIAQQQQQQQQQQQQQQQQ".into(), secret: "s".into() };
    let aws = Aws::new(settings)?;
    run(caller(&aws, &Credentials::from(key))).map(|caller| caller.user().unwrap().to_string())
}

#[test]
fn the_ca_bundle_decides_who_is_believed() {
    let server = TlsServer::start();
    assert_eq!(ask(&server.settings(true)).unwrap(), "tls");
    let error = ask(&server.settings(false)).unwrap_err();
    assert!(matches!(error, AwsError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("AWS_CA_BUNDLE"), "{error}");
    // A bundle replaces the system's CAs; another's does not open this server.
    let other = TlsServer::start();
    let mut settings = server.settings(true);
    settings.ca_bundle = Some(other.ca.clone());
    assert!(matches!(ask(&settings), Err(AwsError::Unreachable { .. })));
}

#[test]
fn https_goes_through_the_proxy_with_its_password() {
    let server = TlsServer::start();
    let proxy = ConnectProxy::start();
    let mut settings = server.settings(true);
    settings.proxy = Some(Proxy { url: proxy.url("me:hunter2@").into(), no_proxy: None });
    assert_eq!(ask(&settings).unwrap(), "tls");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with(&format!("CONNECT localhost:{} ", server.port)), "{head}");
    // me:hunter2
    assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic bwu6ahvudgvymg=="), "{head}");
}

#[test]
fn no_proxy_is_honoured() {
    let server = TlsServer::start();
    let proxy = ConnectProxy::start();
    let mut settings = server.settings(true);
    settings.proxy =
        Some(Proxy { url: proxy.url("").into(), no_proxy: Some("example.org,localhost".into()) });
    assert_eq!(ask(&settings).unwrap(), "tls");
    assert!(proxy.heads().is_empty());
}

#[test]
fn a_proxy_that_is_down_is_unreachable() {
    let server = TlsServer::start();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut settings = server.settings(true);
    settings.proxy = Some(Proxy { url: format!("http://u:hunter2@127.0.0.1:{port}").into(), no_proxy: None });
    let error = ask(&settings).unwrap_err();
    assert!(matches!(error, AwsError::Unreachable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

/// The SDK's own resolver: regional STS, IAM of the partition, FIPS and dual-stack names. Nothing leaves the machine: the
/// proxy that would carry the request is not there, and the error tells where it was to go.
#[test]
fn every_partition_has_its_own_endpoints() {
    let server = TlsServer::start();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let hosts = |region: &str, fips: bool, dualstack: bool| {
        let mut settings = Settings::new(region);
        (settings.use_fips, settings.use_dualstack, settings.max_attempts) = (fips, dualstack, 1);
        settings.ca_bundle = Some(server.ca.clone());
        settings.proxy = Some(Proxy { url: format!("http://127.0.0.1:{port}").into(), no_proxy: None });
        let aws = Aws::new(&settings).unwrap();
        let creds = Credentials::from(AccessKey { id: "AKIAQQQQQQQQQQQQQQQQ".into(), secret: "s".into() });
        let host = |error| match error {
            AwsError::Unreachable { endpoint, .. } => endpoint,
            other => panic!("{other}"),
        };
        let sts = host(run(caller(&aws, &creds)).unwrap_err());
        (sts, host(run(iam_sorry_aws::lookup::user_of_key(&aws, &creds, "AKIA")).unwrap_err()))
    };
    for (region, fips, dualstack, sts, iam) in [
        ("us-east-1", false, false, "https://sts.us-east-1.amazonaws.com", "https://iam.amazonaws.com"),
        ("eu-central-1", false, false, "https://sts.eu-central-1.amazonaws.com", "https://iam.amazonaws.com"),
        ("ap-east-1", false, false, "https://sts.ap-east-1.amazonaws.com", "https://iam.amazonaws.com"),
        (
            "us-west-2",
            true,
            false,
            "https://sts-fips.us-west-2.amazonaws.com",
            "https://iam-fips.amazonaws.com",
        ),
        ("us-east-1", false, true, "https://sts.us-east-1.api.aws", "https://iam.global.api.aws"),
        (
            "cn-north-1",
            false,
            false,
            "https://sts.cn-north-1.amazonaws.com.cn",
            "https://iam.cn-north-1.amazonaws.com.cn",
        ),
        (
            "us-gov-west-1",
            false,
            false,
            "https://sts.us-gov-west-1.amazonaws.com",
            "https://iam.us-gov.amazonaws.com",
        ),
    ] {
        assert_eq!(hosts(region, fips, dualstack), (sts.into(), iam.into()), "{region}");
    }
}
