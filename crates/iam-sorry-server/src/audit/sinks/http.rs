//! The HTTP sink: batches as `application/x-ndjson`, each POST confirmed by a 2xx answer. One connection a batch, no
//! redirects, and nothing but the status is read. Where the answer is lost, the lines come again, perhaps in another batch:
//! a receiver knows them by trail, sequence number and hash.

use std::fmt::Display;
use std::path::Path;

use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use iam_sorry_net::{Client, Security, TimeLimits, TrustError, TrustRoots, client_config};
use secrecy::{ExposeSecret, SecretString};

use super::batch::{Batch, DELIVERY_TIMEOUT, SinkError};
use super::settings::{HttpSinkSettings, Target};

/// What is read of an answer.
const ANSWER_BYTES: usize = 64 * 1024;

pub(super) struct HttpTarget {
    target: Target,
    token: Option<SecretString>,
    client: Client<Full<Bytes>>,
}

impl HttpTarget {
    pub(super) fn new(settings: &HttpSinkSettings) -> Result<Self, String> {
        let target = Target::parse(&settings.url)?;
        let token = settings
            .token
            .as_ref()
            .map(|token| token.read())
            .transpose()
            .map_err(|error| error.to_string())?;
        let security = match target.https {
            true => trusting(settings.ca_file.as_deref())?,
            false => Security::LoopbackHttp,
        };
        // A whole delivery has its limit where batches come from.
        let limits = TimeLimits { connect: DELIVERY_TIMEOUT, request: None };
        Ok(Self { target, token, client: Client::new(security, limits) })
    }

    pub(super) async fn deliver(&self, batch: Batch) -> Result<(), SinkError> {
        let request =
            self.request(&batch).map_err(|_| SinkError::Refused("its URL can't be used".to_owned()))?;
        let answer = self.client.send_on_new_connection(request).await?;
        let status = answer.status();
        // Only so that the collector can say it to the end.
        let _ = answer.whole_body(ANSWER_BYTES).await;
        match status.is_success() {
            true => Ok(()),
            false => Err(SinkError::Refused(format!("it answered {}", status.as_u16()))),
        }
    }

    fn request(&self, batch: &Batch) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut body = String::new();
        for line in &batch.lines {
            body.push_str(&line.text());
            body.push('\n');
        }
        let mut request = Request::post(self.target.uri.clone())
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(USER_AGENT, concat!("iam-sorryd/", env!("CARGO_PKG_VERSION")))
            .header("x-audit-chain", batch.chain.to_string());
        let records = batch.records();
        if !records.is_empty() {
            let ranges =
                records.iter().map(|(lane, (first, last))| format!("{}-{last}", lane.record(*first)));
            request = request.header("x-audit-records", ranges.collect::<Vec<_>>().join(","));
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::from(body))
    }
}

fn trusting(ca_file: Option<&Path>) -> Result<Security, String> {
    let tls = match ca_file {
        None => client_config(TrustRoots::System),
        Some(path) => {
            let unreadable =
                |error: &dyn Display| format!("{} can't be read as PEM: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
            match client_config(TrustRoots::Pem(&pem)) {
                Err(error @ TrustError::Unreadable(_)) => return Err(unreadable(&error)),
                config => config,
            }
        }
    };
    let nobody = |_| "There is no authority that could vouch for the collector.\nSet ca_file.".to_owned();
    Ok(Security::Https { tls: tls.map_err(nobody)?.into(), proxy: None })
}
