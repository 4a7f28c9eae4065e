//! A person's own signature over a request: it proves from an export alone that the person asked for this, whatever whoever
//! runs the service writes.
//!
//! The signature is an SSHSIG (OpenSSH, PROTOCOL.sshsig) by the SSH key that opened the session, in the namespace
//! [`REQUEST_NAMESPACE`], over the canonical bytes of [`SignedRequest`]. The record keeps what was signed and not only its hash:
//! a hash would prove that the person signed something, and any signature of theirs would do.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::canonical::{Object, hex};
use crate::ssh::{PublicKey, Signature, sshsig};

/// The SSHSIG namespace of requests: apart from sign-ins, registrations and every other use of the key.
pub const REQUEST_NAMESPACE: &str = "request@iam-sorry";

/// What a person's SSH key signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedRequest {
    /// SHA-256 of the request's body, 64 hexadecimal digits.
    pub body_sha256: String,
    /// The `Idempotency-Key`, which the service accepts once.
    pub idempotency_key: String,
    /// Such as `POST`.
    pub method: String,
    /// The service, as the person's program dialled it: `https://host[:port]`.
    pub origin: String,
    /// Path and query, as sent.
    pub path: String,
    /// RFC 3339, by the clock of the person's machine.
    pub time: String,
}

/// A request with the signature of the person who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestSignature {
    /// The body, where it is short and nothing secret can be in it: it shows what `body_sha256` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The public key as in `authorized_keys`, without a comment: `ssh-ed25519 AAAA...`.
    pub key: String,
    /// What was signed.
    pub request: SignedRequest,
    /// The signature as SSH writes one (`string type, string signature`), base64.
    pub signature: String,
}

/// Why a signature proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// The key is none that can be verified with.
    #[error("its key can't be used")]
    Key,
    /// The signature is of another form.
    #[error("its form is none that this program knows")]
    Form,
    /// The key did not sign this request.
    #[error("the key did not sign this request")]
    Forged,
    /// The body is another one than was signed.
    #[error("the body is not the one that was signed")]
    Body,
}

impl SignedRequest {
    /// The bytes that are signed: canonical JSON, as a record has it.
    pub fn canonical(&self) -> String {
        let mut text = String::with_capacity(320);
        self.write(&mut text);
        text
    }

    pub(super) fn write(&self, out: &mut String) {
        let mut object = Object::open(out);
        object
            .string("body_sha256", &self.body_sha256)
            .string("idempotency_key", &self.idempotency_key)
            .string("method", &self.method)
            .string("origin", &self.origin)
            .string("path", &self.path)
            .string("time", &self.time);
        object.close();
    }

    /// What the SSH key signs.
    pub fn to_be_signed(&self) -> Vec<u8> {
        sshsig::to_be_signed(REQUEST_NAMESPACE, self.canonical().as_bytes())
    }
}

impl RequestSignature {
    /// The request as `key` signed it. `body` only where it may stand in the trail.
    pub fn new(request: SignedRequest, body: Option<String>, key: &PublicKey, signature: &Signature) -> Self {
        let signature = STANDARD.encode(signature.to_blob());
        Self { body, key: key.to_line(""), request, signature }
    }

    /// Verifies it; gives the key.
    ///
    /// # Errors
    /// [`InvalidSignature`].
    pub fn verify(&self) -> Result<PublicKey, InvalidSignature> {
        let (key, comment) = PublicKey::parse_line(&self.key).map_err(|_| InvalidSignature::Key)?;
        if !comment.is_empty() || key.to_line("") != self.key {
            return Err(InvalidSignature::Key);
        }
        let blob = STANDARD.decode(&self.signature).map_err(|_| InvalidSignature::Form)?;
        let signature = Signature::from_blob(&blob).ok_or(InvalidSignature::Form)?;
        if !key.verify(&self.request.to_be_signed(), &signature) {
            return Err(InvalidSignature::Forged);
        }
        match &self.body {
            Some(body) if body_digest(body) != self.request.body_sha256 => Err(InvalidSignature::Body),
            _ => Ok(key),
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        let mut object = Object::open(out);
        object.optional("body", self.body.as_deref()).string("key", &self.key);
        self.request.write(object.key("request"));
        object.string("signature", &self.signature);
        object.close();
    }
}

fn body_digest(body: &str) -> String {
    hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref())
}
