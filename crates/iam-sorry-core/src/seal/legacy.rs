//! Values of the original Python tool: read, never written (sealed-format-v2.md, "Why not the format of the original tool").

use std::fmt;

use aws_lc_rs::aead::{Aad, Nonce as GcmNonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::envelope::{cipher, derive};
use super::error::SealError;
use super::format::{NONCE_LEN, TAG_LEN};
use super::limits::{MAX_PLAINTEXT, PREFIX};

/// `nonce[12] | ct | tag[16]`. The key comes from the bytes of the key *file*, so that whoever can read that file needs no
/// passphrase.
#[derive(Clone, PartialEq, Eq)]
pub struct LegacyValue {
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

impl LegacyValue {
    /// The part after `__encrypted__:`.
    pub(super) fn parse_body(text: &str) -> Result<Self, SealError> {
        let bytes =
            STANDARD.decode(text).map_err(|_| SealError::Corrupt("it is not base64, or cut short"))?;
        let (nonce, ciphertext) = bytes.split_first_chunk().ok_or(SealError::Corrupt("it is cut short"))?;
        match ciphertext.len() {
            0..TAG_LEN => Err(SealError::Corrupt("it is cut short")),
            n if n > MAX_PLAINTEXT + TAG_LEN => Err(SealError::Corrupt("it is too long")),
            _ => Ok(Self { nonce: *nonce, ciphertext: ciphertext.to_vec() }),
        }
    }

    /// Opens it with the bytes of the private-key file, as they were when it was sealed.
    ///
    /// # Errors
    /// [`SealError::LegacyFailed`], [`SealError::NotText`].
    pub fn open(&self, key_file: &[u8]) -> Result<SecretString, SealError> {
        let key = derive(b"iam-sorry-v1-salt-2025", key_file, &[b"iam-sorry-encryption"])?;
        let mut buffer = Zeroizing::new(self.ciphertext.clone());
        let plain = cipher(&key)?
            .open_in_place(GcmNonce::assume_unique_for_key(self.nonce), Aad::empty(), &mut buffer)
            .map_err(|_| SealError::LegacyFailed)?;
        std::str::from_utf8(plain).map(SecretString::from).map_err(|_| SealError::NotText)
    }
}

/// As it stands in the file.
impl fmt::Display for LegacyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.nonce[..], &self.ciphertext].concat();
        write!(f, "{}{}", PREFIX, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for LegacyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LegacyValue")
    }
}
