//! The HTTP sink: batches as `application/x-ndjson`, each POST confirmed by a 2xx answer. One connection a batch, no
//! redirects, and nothing but the status is read. Where the answer is lost, the lines come again, perhaps in another batch:
//! a receiver knows them by trail, sequence number and hash.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::settings::{HttpSinkSettings, Target};
use super::{Batch, SinkError};

/// What is read of an answer.
const ANSWER_BYTES: usize = 64 * 1024;

pub(super) struct HttpTarget {
    target: Target,
    token: Option<SecretString>,
    tls: Option<TlsConnector>,
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
        let tls = target.https.then(|| connector(settings)).transpose()?;
        Ok(Self { target, token, tls })
    }

    pub(super) async fn deliver(&self, batch: Batch) -> Result<(), SinkError> {
        let mut body = String::new();
        for line in &batch.lines {
            body.push_str(&line.text());
            body.push('\n');
        }
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await?;
        match &self.tls {
            None => self.post(stream, batch, body).await,
            Some(connector) => {
                let name = ServerName::try_from(self.target.host.clone())
                    .map_err(|_| SinkError::Refused("its host has no proper name".to_owned()))?;
                self.post(connector.connect(name, stream).await?, batch, body).await
            }
        }
    }

    async fn post(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        batch: Batch,
        body: String,
    ) -> Result<(), SinkError> {
        let other = |error: hyper::Error| io::Error::other(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
        let driver = tokio::spawn(connection);
        let request =
            self.request(&batch, body).map_err(|_| SinkError::Refused("its URL can't be used".to_owned()))?;
        let sent = sender.send_request(request).await.map_err(other);
        let outcome = match sent {
            Ok(mut answer) => {
                let status = answer.status();
                let mut read = 0;
                while let Some(Ok(frame)) = answer.body_mut().frame().await {
                    read += frame.data_ref().map_or(0, Bytes::len);
                    if read > ANSWER_BYTES {
                        break;
                    }
                }
                if status.is_success() {
                    Ok(())
                } else {
                    Err(SinkError::Refused(format!("it answered {}", status.as_u16())))
                }
            }
            Err(error) => Err(error.into()),
        };
        driver.abort();
        outcome
    }

    fn request(&self, batch: &Batch, body: String) -> Result<http::Request<Full<Bytes>>, http::Error> {
        let host = match self.target.host.contains(':') {
            true => format!("[{}]:{}", self.target.host, self.target.port),
            false => format!("{}:{}", self.target.host, self.target.port),
        };
        let mut request = http::Request::post(&self.target.path)
            .header(http::header::HOST, host)
            .header(http::header::CONTENT_TYPE, "application/x-ndjson")
            .header(http::header::USER_AGENT, concat!("iam-sorryd/", env!("CARGO_PKG_VERSION")))
            .header("x-audit-chain", batch.chain.to_string());
        if let Some((first, last)) = batch.records() {
            request = request.header("x-audit-records", format!("{first}-{last}"));
        }
        if let Some(token) = &self.token {
            let mut value = http::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            request = request.header(http::header::AUTHORIZATION, value);
        }
        request.body(Full::from(body))
    }
}

fn connector(settings: &HttpSinkSettings) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => {
            let unreadable =
                |error: &dyn std::fmt::Display| format!("{} can't be read as PEM: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                roots.add(certificate).map_err(|error| unreadable(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("There is no authority that could vouch for the collector.\nSet ca_file.".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
