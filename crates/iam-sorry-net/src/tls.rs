//! TLS as a client: rustls on aws-lc, TLS 1.2 and 1.3, certificates always checked. The one choice is whom to trust.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The certificate authorities that may vouch for a server.
#[derive(Clone, Copy, Debug)]
pub enum TrustRoots<'a> {
    /// The system's.
    System,
    /// Those in this PEM text, and no others.
    Pem(&'a [u8]),
}

/// Why there is nobody to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not PEM, or a certificate that is garbled; the text says what is wrong with it.
    #[error("the certificates can't be read: {0}")]
    Unreadable(String),
    /// PEM text (or any other) without a certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The system has none.
    #[error("the system has no certificate authorities to trust")]
    NoSystemRoots,
}

/// The configuration of a TLS client. With [`TrustRoots::System`] it reads a few hundred files or one large one, which
/// takes tens of milliseconds: make it once, and only when it is needed.
///
/// # Errors
/// [`TrustError`]: without anybody to trust, no connection could come about.
pub fn client_config(roots: TrustRoots<'_>) -> Result<ClientConfig, TrustError> {
    let roots = match roots {
        TrustRoots::System => system_roots()?,
        TrustRoots::Pem(pem) => named_roots(pem)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// One garbled certificate makes the whole file useless: who named it meant every one in it.
fn named_roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TrustError::Unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| TrustError::Unreadable(error.to_string()))?;
    }
    if roots.is_empty() { Err(TrustError::NoCertificate) } else { Ok(roots) }
}

/// What the system has in odd formats is left out: nobody here chose it.
fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::NoSystemRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pem: &[u8]) -> TrustError {
        client_config(TrustRoots::Pem(pem)).unwrap_err()
    }

    #[test]
    fn a_file_without_a_certificate_is_an_error() {
        assert_eq!(error(b""), TrustError::NoCertificate);
        assert_eq!(error(b"not a certificate"), TrustError::NoCertificate);
        let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(error(key), TrustError::NoCertificate);
    }

    #[test]
    fn one_garbled_certificate_spoils_the_file() {
        let ca = std::fs::read(testkit::TestCa::new().file()).unwrap();
        assert!(client_config(TrustRoots::Pem(&ca)).is_ok());
        for garbled in [
            &b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"[..],
            b"-----BEGIN CERTIFICATE-----\n***\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        ] {
            assert!(matches!(error(&[&ca, garbled].concat()), TrustError::Unreadable(_)), "{garbled:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}") {
            let framed = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            for pem in [text, framed] {
                proptest::prop_assert!(client_config(TrustRoots::Pem(pem.as_bytes())).is_err());
            }
        }
    }
}
