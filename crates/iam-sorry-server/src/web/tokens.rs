//! Random values for cookies and forms, and texts that only this service can have vouched for.

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::api::ProblemCode;

use crate::error::ServiceError;

/// A fresh random value for a cookie or a form: 128 bits.
///
/// # Errors
/// internal, where the system gives no random bytes.
pub fn random() -> Result<String, ServiceError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| {
        tracing::error!("the system gives no random bytes");
        ServiceError::new(ProblemCode::Internal, "The service could not make this page.")
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What a secret value vouches for: the sign-in form's token, a note. Told apart by `purpose`.
pub fn vouch(secret: &str, purpose: &str, text: &str) -> String {
    let tag = hmac::sign(&key(secret), &message(purpose, text));
    URL_SAFE_NO_PAD.encode(tag)
}

/// Whether `secret` vouched for it; takes the same time whatever is wrong.
pub fn vouched(secret: &str, purpose: &str, text: &str, tag: &str) -> bool {
    let Ok(tag) = URL_SAFE_NO_PAD.decode(tag) else { return false };
    hmac::verify(&key(secret), &message(purpose, text), &tag).is_ok()
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn message(purpose: &str, text: &str) -> Vec<u8> {
    format!("iam-sorry web v1\0{purpose}\0{text}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vouched_text_is_bound_to_secret_and_purpose() {
        let tag = vouch("secret", "note", "text");
        assert!(vouched("secret", "note", "text", &tag));
        assert!(!vouched("other", "note", "text", &tag));
        assert!(!vouched("secret", "form", "text", &tag));
        assert!(!vouched("secret", "note", "text2", &tag));
        assert!(!vouched("secret", "note", "text", &tag[1..]));
        assert!(!vouched("secret", "note", "text", ""));
    }
}
