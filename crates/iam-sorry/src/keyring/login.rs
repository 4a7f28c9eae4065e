//! Signatures for a department service, to sign in and to register a key: any Ed25519 key that is at hand may be tried, and
//! none of them seals anything.

use iam_sorry_core::ssh::{KeyId, PublicKey, Signature};

use super::key_file::{self, Configured};
use super::signer::Signer;
use super::{KeyError, Keyring};

impl Keyring<'_> {
    /// The keys to try, best first: the one that was named, alone; else the agent's, `best` in front, then the usual key
    /// file's.
    ///
    /// # Errors
    /// Where a named file can't be used, and where there is no key at all.
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

    /// A signature by `key`: unlocked before, by the agent, or by its file with the passphrase. `what` it is for ends up in
    /// the error.
    ///
    /// # Errors
    /// [`KeyError::NoRecipientKey`] with what was tried; what is wrong with the file or its passphrase.
    pub fn sign_once(&mut self, key: &PublicKey, blob: &[u8], what: &str) -> Result<Signature, KeyError> {
        self.signer.sign_once(key, blob, what)
    }
}

impl Signer<'_> {
    /// One verified signature, from wherever it is to be had.
    fn sign_once(&mut self, key: &PublicKey, data: &[u8], what: &str) -> Result<Signature, KeyError> {
        let mut tried = Vec::new();
        if let Some(unlocked) = self.unlocked(key) {
            return Ok(unlocked.sign(data));
        }
        match self.sign_by_agent(key, data) {
            Ok(signature) => return Ok(signature),
            Err(why) => tried.push(why),
        }
        let why_not_the_agent = tried.clone();
        match self.find_file(&|found: &PublicKey| found == key, &mut tried)? {
            Some(file) => Ok(self.unlock(file, &why_not_the_agent)?.sign(data)),
            None => {
                Err(KeyError::NoRecipientKey { what: what.to_owned(), wanted: vec![key.key_id()], tried })
            }
        }
    }
}
