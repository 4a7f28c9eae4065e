//! The service's certificate: read from PEM files, and again when the operator renewed them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::settings::TlsSettings;

/// Certificate and key in use.
pub struct Certificates {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
}

/// A certificate with its key, read and not in use yet.
#[derive(Debug)]
pub struct NewCertificate(CertifiedKey);

impl NewCertificate {
    /// As [`Certificates::fingerprint`].
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.0)
    }
}

fn fingerprint(key: &CertifiedKey) -> String {
    let first = key.cert.first().map_or(&[][..], AsRef::as_ref);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, first);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why certificate or key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not readable, or not PEM.
    #[error("{path} can't be read as PEM: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Everybody on the machine may read the key.
    #[error("The TLS key {0} can be read by everybody.\nMake it private: chmod 600 {0}")]
    Open(PathBuf),
    /// Nothing in it.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// Key and certificate don't belong together, or the key is of a kind that TLS doesn't know.
    #[error("The key {key} can't be used with the certificate {certificate}: {reason}")]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Certificates {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(settings: &TlsSettings) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = ArcSwap::from_pointee(read(settings, &provider)?);
        Ok(Arc::new(Self { settings: settings.clone(), provider, current }))
    }

    /// Reads both files again, for [`Certificates::use_new`]: in between, the change is recorded. Until then, and where they
    /// can't be used, connections get the old one.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn read_again(&self) -> Result<NewCertificate, TlsError> {
        read(&self.settings, &self.provider).map(NewCertificate)
    }

    /// New connections get it.
    pub fn use_new(&self, certificate: NewCertificate) {
        self.current.store(Arc::new(certificate.0));
    }

    /// Of the certificate in use: `openssl x509 -outform DER | sha256sum`.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.current.load())
    }

    /// TLS 1.2 and 1.3, HTTP/1.1.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.mismatch(error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn mismatch(&self, reason: impl fmt::Display) -> TlsError {
        mismatch(&self.settings, reason)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(settings: &TlsSettings, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    use std::os::unix::fs::MetadataExt;
    let unreadable = |path: &PathBuf, reason: &dyn fmt::Display| TlsError::Unreadable {
        path: path.clone(),
        reason: reason.to_string(),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&settings.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(&settings.certificate, &error))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(settings.certificate.clone()));
    }
    let mode = std::fs::metadata(&settings.key).map_err(|error| unreadable(&settings.key, &error))?.mode();
    if mode & 0o007 != 0 {
        return Err(TlsError::Open(settings.key.clone()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&settings.key).map_err(|error| unreadable(&settings.key, &error))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| mismatch(settings, error))
}

fn mismatch(settings: &TlsSettings, reason: impl fmt::Display) -> TlsError {
    TlsError::Mismatch {
        key: settings.key.clone(),
        certificate: settings.certificate.clone(),
        reason: reason.to_string(),
    }
}
