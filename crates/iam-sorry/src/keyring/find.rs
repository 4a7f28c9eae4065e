//! Finds the key that a person names: by key file, `.pub` file or fingerprint.

use std::path::PathBuf;

use iam_sorry_core::ssh::{KeyId, PublicKey};

use super::key_file::{self, Configured};
use super::{KeyError, Keyring};

impl Keyring<'_> {
    /// A key that must be available: a file, which may then also sign, or a fingerprint (`SHA256:...`) of a key in the
    /// agent or in `~/.ssh`.
    ///
    /// # Errors
    /// [`KeyError::NotAFingerprint`]; [`KeyError::NoRecipientKey`] if no key has the fingerprint; or the error of the
    /// file.
    pub fn find_key(&mut self, named: &str) -> Result<PublicKey, KeyError> {
        if let Some(id) = KeyId::parse(named) {
            return self.signer.public_key_of(&id).ok_or_else(|| KeyError::NoRecipientKey {
                what: "finding that key".into(),
                wanted: vec![id],
                tried: Vec::new(),
            });
        }
        let path = PathBuf::from(named);
        if named.starts_with("SHA256:") && !path.exists() {
            return Err(KeyError::NotAFingerprint(named.to_owned()));
        }
        Ok(match key_file::read_configured(&path)? {
            Configured::Private(file) => {
                self.signer.options.more_keys.push(path);
                *file.key.public_key()
            }
            Configured::PublicOnly(key) => key,
        })
    }

    /// As [`Keyring::find_key`], for a key that need not be available: its fingerprint suffices.
    ///
    /// # Errors
    /// The error of the file.
    pub fn find_key_id(&mut self, named: &str) -> Result<KeyId, KeyError> {
        match KeyId::parse(named) {
            Some(id) => Ok(id),
            None => Ok(self.find_key(named)?.key_id()),
        }
    }
}
