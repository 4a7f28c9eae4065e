//! The client on real sockets: certificates, proxies, limits, and servers that misbehave.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod certificates;
mod misbehaving;
mod pool;
mod proxies;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use iam_sorry_net::{
    Client, Error, Proxy, Response, SecretBody, Security, TimeLimits, TrustRoots, client_config, secret_body,
};

/// Longer than any test takes: what a test must not run into.
const LONG: Duration = Duration::from_secs(30);
/// For tests that wait for the end of a limit.
const SHORT: Duration = Duration::from_millis(300);

fn limits(connect: Duration, request: Duration) -> TimeLimits {
    TimeLimits { connect, request: Some(request) }
}

fn plain() -> Client<SecretBody> {
    Client::new(Security::LoopbackHttp, limits(LONG, LONG))
}

/// Trusts the authorities in this file.
fn trusting(ca: &Path, proxy: Option<Proxy>) -> Client<SecretBody> {
    let tls = Arc::new(client_config(TrustRoots::Pem(&std::fs::read(ca).unwrap())).unwrap());
    Client::new(Security::Https { tls, proxy }, limits(LONG, LONG))
}

fn get(uri: String) -> Request<SecretBody> {
    Request::get(uri).body(SecretBody::default()).unwrap()
}

fn post(uri: String, body: &str) -> Request<SecretBody> {
    Request::post(uri).body(secret_body(body.as_bytes().to_vec().into())).unwrap()
}

/// The text of a whole response.
async fn text(response: Result<Response, Error>) -> Result<String, Error> {
    let body = response?.whole_body(1 << 20).await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}
