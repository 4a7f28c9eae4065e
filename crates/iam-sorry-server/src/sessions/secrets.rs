//! Random values, tokens, and what is made from them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::api::ProblemCode;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::caller::Caller;
use crate::error::ServiceError;
use crate::runtime;

/// What every token begins with, so that whoever looks for leaked ones finds them.
pub(crate) const TOKEN_PREFIX: &str = "iss_";

const FORM: &[u8] = b"iam-sorry form v1\0";

/// SHA-256 of a secret that has 256 bits of its own.
pub fn hash(secret: &str) -> [u8; 32] {
    sha256(&[secret.as_bytes()])
}

/// The secret that a session's forms carry (against cross-site requests): made from the token, so that every page can
/// have it and nothing more is stored; the token can't be made from it.
pub fn form_secret(token: &str) -> SecretString {
    URL_SAFE_NO_PAD.encode(sha256(&[FORM, token.as_bytes()])).into()
}

impl Caller {
    /// Whether a form that was sent came from a page of this session. Takes the same time whatever is wrong.
    pub fn sent_form(&self, presented: &str) -> bool {
        let presented = hash(presented);
        self.session.form_hash.is_some_and(|kept| verify_slices_are_equal(&kept, &presented).is_ok())
    }
}

/// 32 random bytes.
pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let mut bytes = Zeroizing::new([0; 32]);
    runtime::fill_random(&mut *bytes)
        .map_err(|_| ServiceError::new(ProblemCode::Internal, "The system gives no random numbers."))?;
    Ok(bytes)
}

/// SHA-256, for what only has to be recognised.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
