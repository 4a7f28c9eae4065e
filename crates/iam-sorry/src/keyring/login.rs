//! Signatures for a department service, to sign in and to register a key. Any available Ed25519 key may be used, since
//! these signatures seal nothing.

use iam_sorry_core::ssh::{KeyId, PublicKey, Signature};

use super::key_file::{self, Configured};
use super::signer::Signer;
use super::{KeyError, Keyring};

impl Keyring<'_> {
    /// The keys to try, best first: only the one that the user named; else the agent's, with `best` first, then the
    /// default key file's.
    ///
    /// # Errors
    /// The error of a named file; [`KeyError::NoKeyFile`] or [`KeyError::NoHome`] if there is no key.
    pub fn login_keys(&mut self, best: Option<&KeyId>) -> Result<Vec<PublicKey>, KeyError> {
        if let Some(path) = &self.signer.options.ssh_key {
            return Ok(vec![match key_file::read_configured(path)? {
                Configured::Private(file) => *file.key.public_key(),
                Configured::PublicOnly(key) => key,
            }]);
        }
        let mut keys: Vec<PublicKey> = self
            .signer
            .agent_identities()
            .map(|found| found.usable.iter().map(|identity| identity.key).collect())
            .unwrap_or_default();
        let default = self.signer.options.home.as_deref().map(key_file::default_path);
        match default.map(|path| key_file::read(&path)) {
            Some(Ok(file)) if !keys.contains(file.key.public_key()) => keys.push(*file.key.public_key()),
            Some(Err(error)) if keys.is_empty() => return Err(error),
            None if keys.is_empty() => return Err(KeyError::NoHome),
            _ => {}
        }
        keys.sort_by_key(|key| best != Some(&key.key_id())); // stable
        Ok(keys)
    }

    /// A signature by `key`: with the unlocked key, through the agent, or with its file and passphrase. `what` names
    /// the purpose in errors.
    ///
    /// # Errors
    /// [`KeyError::NoRecipientKey`] with the places that were tried; the error of the file or of the prompt.
    pub fn sign_for_login(
        &mut self,
        key: &PublicKey,
        blob: &[u8],
        what: &str,
    ) -> Result<Signature, KeyError> {
        self.signer.sign_for_login(key, blob, what)
    }
}

impl Signer<'_> {
    /// One verified signature, from whichever source has the key.
    fn sign_for_login(&mut self, key: &PublicKey, data: &[u8], what: &str) -> Result<Signature, KeyError> {
        let mut tried = Vec::new();
        if let Some(unlocked) = self.unlocked(key) {
            return Ok(unlocked.sign(data));
        }
        match self.sign_by_agent(key, data) {
            Ok(signature) => return Ok(signature),
            Err(why) => tried.push(why),
        }
        let agent_failures = tried.clone();
        match self.find_file(&|found: &PublicKey| found == key, &mut tried)? {
            Some(file) => Ok(self.unlock(file, &agent_failures)?.sign(data)),
            None => {
                Err(KeyError::NoRecipientKey { what: what.to_owned(), wanted: vec![key.key_id()], tried })
            }
        }
    }
}
