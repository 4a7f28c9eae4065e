//! The user's SSH keys: opens and seals the values of credentials files.
//!
//! The formats are iam-sorry-core's. The keyring adds the I/O: the agent's socket, key files, prompts, random numbers.
//! The environment is passed in ([`KeyringOptions`]). docs/sealed-format-v2.md specifies the behaviour.

mod agent;
mod errors;
mod find;
pub mod hygiene;
mod key_file;
mod login;
mod options;
mod passphrase;
mod signer;
#[cfg(test)]
mod tests;
mod tty;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use iam_sorry_core::seal::{
    self, DataKey, Envelope, FreshKeyMaterial, NewEnvelope, Nonce, Place, SealError, SealedValue, Value,
};
use iam_sorry_core::ssh::agent::Identities;
use iam_sorry_core::ssh::key_file::Protection;
use iam_sorry_core::ssh::{KeyId, PublicKey};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

pub use errors::{KeyError, PromptError};
pub use options::KeyringOptions;
pub use passphrase::PassphrasePrompt;
use signer::{SealingKey, Signer};

/// Fields that a value may have been moved from, besides those in the profile.
const USUAL_FIELDS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// The key that sealing would use, and the agent, as `doctor` reports them.
#[derive(Debug)]
pub struct KeyReport {
    /// The key file: the one that the user named, or `~/.ssh/id_ed25519`.
    pub path: Option<PathBuf>,
    /// The key, or the reason why it can't seal.
    pub key: Result<KeyFacts, KeyError>,
    /// The agent's keys; `None` if SSH_AUTH_SOCK is not set.
    pub agent: Option<Result<Identities, String>>,
}

/// A key that can seal.
#[derive(Debug)]
pub struct KeyFacts {
    /// Its public part.
    pub public: PublicKey,
    /// The protection of its file; `None` if only the agent has the key.
    pub protection: Option<Protection>,
    /// Whether the agent has it, so that no passphrase is needed.
    pub in_agent: bool,
}

/// Opens and seals values. Keeps data keys and unlocked keys until it is dropped; then they are wiped.
pub struct Keyring<'n> {
    signer: Signer<'n>,
    data_keys: HashMap<[u8; 32], DataKey>,
    known_profiles: Vec<String>,
    /// Profiles whose legacy values have been reported.
    warned_of_legacy: HashSet<String>,
}

impl<'n> Keyring<'n> {
    /// `notices` receives what the user should read in the meantime (warnings, and what the keyring waits for).
    pub fn new(options: KeyringOptions, notices: impl FnMut(&str) + 'n) -> Self {
        let signer = Signer::new(options, Box::new(notices));
        Self {
            signer,
            data_keys: HashMap::new(),
            known_profiles: Vec::new(),
            warned_of_legacy: HashSet::new(),
        }
    }

    /// Adds profile names to try if a value does not open in its place, so that the error can say where it came from.
    pub fn add_known_profiles(&mut self, names: impl IntoIterator<Item = String>) {
        self.known_profiles.extend(names);
    }

    /// Suppresses the warning about legacy values for profiles that are being migrated.
    pub fn suppress_legacy_warning(&mut self, profiles: impl IntoIterator<Item = String>) {
        self.warned_of_legacy.extend(profiles);
    }

    /// Opens the fields of one profile (`(field, value)`): sealed, legacy or plain. The results are in the same order.
    pub fn open_fields(
        &mut self,
        profile: &str,
        fields: &[(&str, &str)],
    ) -> Result<Vec<SecretString>, KeyError> {
        self.open_as(profile, profile, fields)
    }

    /// Seals each `(profile, field, plaintext)` for the user's own key. All share one new envelope, so that one
    /// signature opens them all.
    pub fn seal_fields(&mut self, to_seal: &[(&str, &str, &SecretString)]) -> Result<Vec<String>, KeyError> {
        let key = self.signer.default_sealing_key()?;
        let envelope = self.fresh_envelope(&[key])?;
        self.seal_all(&envelope, to_seal)
    }

    /// Seals new plaintexts for the recipients of `current`, the profile's sealed fields.
    pub fn replace_fields(
        &mut self,
        profile: &str,
        current: &[(&str, &str)],
        new: &[(&str, &SecretString)],
    ) -> Result<Vec<String>, KeyError> {
        let old = self.opened_envelope(profile, profile, current)?;
        let envelope = self.fresh_or_same(old)?;
        let to_seal: Vec<_> = new.iter().map(|(field, secret)| (profile, *field, *secret)).collect();
        self.seal_all(&envelope, &to_seal)
    }

    /// Seals a profile's fields again for the same recipients. `was` is the profile name for which they are sealed now.
    pub fn reseal(
        &mut self,
        profile: &str,
        fields: &[(&str, &str)],
        was: &str,
    ) -> Result<Vec<String>, KeyError> {
        let old = self.opened_envelope(profile, was, fields)?;
        let plain = self.open_as(profile, was, fields)?;
        let envelope = self.fresh_or_same(old)?;
        self.seal_again(&envelope, profile, fields, &plain)
    }

    /// Adds a recipient to the profile. Its key must be available, to sign; those of the other recipients need not be.
    pub fn add_recipient(
        &mut self,
        profile: &str,
        fields: &[(&str, &str)],
        key: &PublicKey,
    ) -> Result<Vec<String>, KeyError> {
        let old = self.opened_envelope(profile, profile, fields)?;
        let plain = self.open_as(profile, profile, fields)?;
        if old.header().recipients().any(|id| id == key.key_id()) {
            return Err(KeyError::Sealing(SealError::AlreadyARecipient(key.key_id())));
        }
        let key = self.signer.sealing_key(key)?;
        let signature = self.signer.sign_to_seal(&key, &old.header().to_be_signed(&key.public.key_id()))?;
        let envelope = old.with_recipient(&key.public, &signature).map_err(KeyError::Sealing)?;
        envelope.header().unwrap(&key.public, &signature).map_err(KeyError::Sealing)?;
        self.seal_again(&envelope, profile, fields, &plain)
    }

    /// Removes a recipient by sealing the profile in a new envelope. The keys of all other recipients must be
    /// available.
    pub fn remove_recipient(
        &mut self,
        profile: &str,
        fields: &[(&str, &str)],
        removed: &KeyId,
    ) -> Result<Vec<String>, KeyError> {
        let old = self.opened_envelope(profile, profile, fields)?;
        let plain = self.open_as(profile, profile, fields)?;
        refuse_unknown(profile, &old)?;
        let remaining: Vec<_> = old.header().recipients().filter(|id| id != removed).collect();
        if remaining.len() == old.header().recipients().count() {
            return Err(KeyError::Profile {
                profile: profile.to_owned(),
                source: Box::new(SealError::NotARecipient(*removed)),
            });
        }
        let keys = remaining
            .iter()
            .map(|id| match self.signer.public_key_of(id) {
                Some(key) => self.signer.sealing_key(&key),
                None => Err(KeyError::NoRecipientKey {
                    what: format!("sealing profile '{profile}' for the keys that remain"),
                    wanted: vec![*id],
                    tried: Vec::new(),
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let envelope = self.fresh_envelope(&keys)?;
        let sealed = self.seal_again(&envelope, profile, fields, &plain)?;
        (self.signer.notices)(&format!(
            "The key {removed} can still open old copies of the file: rotate the AWS key too (iam-sorry rotate '{profile}')"
        ));
        Ok(sealed)
    }

    /// The recipients of a value; none for plain and legacy values.
    pub fn recipients(profile: &str, field: &str, value: &str) -> Result<Vec<KeyId>, KeyError> {
        Ok(match seal::parse(value).map_err(value_error(profile, field))? {
            Value::Sealed(value) => value.header().recipients().collect(),
            Value::Plain | Value::Legacy(_) => Vec::new(),
        })
    }

    /// The key that sealing would use, and the agent, for `doctor`. Never prompts.
    pub fn describe_default_key(&mut self) -> KeyReport {
        let key = self.signer.default_sealing_key().map(|key| KeyFacts {
            public: key.public,
            protection: key.file.as_ref().map(|f| f.key.protection().clone()),
            in_agent: self.signer.can_sign_without_prompt(&key.public.key_id()),
        });
        let identities = self.signer.agent_identities().cloned();
        let failure = self.signer.agent_failure().unwrap_or("no answer").to_owned();
        let agent = self.signer.options.agent_socket.is_some().then(|| identities.ok_or(failure));
        KeyReport { path: self.signer.legacy_candidates().pop(), key, agent }
    }

    fn open_as(
        &mut self,
        profile: &str,
        sealed_for: &str,
        fields: &[(&str, &str)],
    ) -> Result<Vec<SecretString>, KeyError> {
        // Errors that need no key come first, before any prompt for a passphrase.
        let values = parse_all(profile, fields)?;
        let mut opened = Vec::with_capacity(fields.len());
        for ((field, text), value) in fields.iter().zip(&values) {
            opened.push(match value {
                Value::Plain => SecretString::from(*text),
                Value::Legacy(value) => self.open_legacy(profile, field, value)?,
                Value::Sealed(value) => {
                    let key = self.data_key(profile, field, value)?;
                    let siblings = self.siblings(sealed_for, fields);
                    key.open_or_diagnose(value, sealed_for, field, &siblings)
                        .map_err(value_error(profile, field))?
                }
            });
        }
        Ok(opened)
    }

    fn data_key(&mut self, profile: &str, field: &str, value: &SealedValue) -> Result<DataKey, KeyError> {
        let header = value.header();
        if let Some(key) = self.data_keys.get(header.salt()) {
            return Ok(key.clone());
        }
        let wanted: Vec<_> = header.recipients().collect();
        let key = self.signer.sign_to_open(
            &format!("opening profile '{profile}'"),
            &wanted,
            |id| header.to_be_signed(id),
            |key, signature| header.unwrap(key, signature),
            value_error(profile, field),
        )?;
        self.data_keys.insert(*header.salt(), key.clone());
        if let Some(weak) = header.weak_recipient() {
            (self.signer.notices)(&format!(
                "Profile '{profile}' is sealed for the key {weak} too, for which anybody can sign: whoever reads the file can open it\nTake that key out: iam-sorry recipients remove '{profile}' {weak}\nthen rotate the AWS key: iam-sorry rotate '{profile}'"
            ));
        }
        Ok(key)
    }

    fn open_legacy(
        &mut self,
        profile: &str,
        field: &str,
        value: &seal::LegacyValue,
    ) -> Result<SecretString, KeyError> {
        if self.signer.options.refuse_legacy {
            return Err(KeyError::LegacyRefused { profile: profile.to_owned() });
        }
        let path = self.signer.legacy_candidates().pop().ok_or(KeyError::NoHome)?;
        // An old copy that was kept for migrating need not parse, but others must not be able to read it.
        let bytes = key_file::read_bytes(&path)?;
        let opened = value.open(&bytes).map_err(value_error(profile, field))?;
        if self.warned_of_legacy.insert(profile.to_owned()) {
            (self.signer.notices)(&format!(
                "Profile '{profile}' is sealed in the old format: whoever can read '{}' can open it without the passphrase\nSeal it anew: iam-sorry migrate '{profile}'",
                path.display()
            ));
        }
        Ok(opened)
    }

    /// Pairs of profile and field for which a value may have been sealed, if it does not open in its own place.
    fn siblings(&self, profile: &str, fields: &[(&str, &str)]) -> Vec<Place> {
        let fields: Vec<_> = fields.iter().map(|(field, _)| *field).chain(USUAL_FIELDS).collect();
        std::iter::once(profile)
            .chain(self.known_profiles.iter().map(String::as_str))
            .flat_map(|p| fields.iter().map(move |f| (p.to_owned(), f.to_ascii_lowercase())))
            .collect()
    }

    /// The envelope of a profile's sealed fields, verified by opening it.
    fn opened_envelope(
        &mut self,
        profile: &str,
        sealed_for: &str,
        fields: &[(&str, &str)],
    ) -> Result<Envelope, KeyError> {
        let values = parse_all(profile, fields)?;
        let sealed = fields.iter().zip(&values).find_map(|((field, _), value)| match value {
            Value::Sealed(value) => Some((*field, value)),
            _ => None,
        });
        let Some((field, value)) = sealed else {
            let source = Box::new(SealError::Corrupt("none of its fields is sealed"));
            return Err(KeyError::Profile { profile: profile.to_owned(), source });
        };
        let key = self.data_key(profile, field, value)?;
        Envelope::of_opened(value, &key, sealed_for, field).map_err(value_error(profile, field))
    }

    /// A new envelope for the same recipients if all of them can sign now; else the same envelope, so that recipients
    /// whose keys are absent can still open the values ("Using it").
    fn fresh_or_same(&mut self, old: Envelope) -> Result<Envelope, KeyError> {
        let ids: Vec<_> = old.header().recipients().collect();
        if old.header().unknown_recipients() > 0
            || !ids.iter().all(|id| self.signer.can_sign_without_prompt(id))
        {
            return Ok(old);
        }
        let mut keys = Vec::with_capacity(ids.len());
        for id in &ids {
            let Some(public) = self.signer.public_key_of(id) else { return Ok(old) };
            keys.push(match self.signer.sealing_key(&public) {
                // Whoever sealed for this key has allowed that already.
                Err(KeyError::OnlyInAgent { .. }) => SealingKey { public, file: None },
                key => key?,
            });
        }
        match self.fresh_envelope(&keys) {
            Err(KeyError::NoRecipientKey { .. }) => Ok(old),
            fresh => fresh,
        }
    }

    fn fresh_envelope(&mut self, keys: &[SealingKey]) -> Result<Envelope, KeyError> {
        let public: Vec<_> = keys.iter().map(|key| key.public).collect();
        let mut random = Zeroizing::new([0; 64]);
        fill_random(&mut random[..])?;
        let mut new =
            NewEnvelope::new(FreshKeyMaterial::from_random(random), &public).map_err(KeyError::Sealing)?;
        let mut signatures = Vec::with_capacity(keys.len());
        for key in keys {
            let signature = self.signer.sign_to_seal(key, &new.to_be_signed(&key.public.key_id()))?;
            new.add_signature(&key.public, &signature).map_err(KeyError::Sealing)?;
            signatures.push((key.public, signature));
        }
        let envelope = new.finish().map_err(KeyError::Sealing)?;
        // First half of the verification: every recipient can unwrap the data key.
        for (key, signature) in &signatures {
            envelope.header().unwrap(key, signature).map_err(KeyError::Sealing)?;
        }
        Ok(envelope)
    }

    fn seal_again(
        &mut self,
        envelope: &Envelope,
        profile: &str,
        fields: &[(&str, &str)],
        plain: &[SecretString],
    ) -> Result<Vec<String>, KeyError> {
        let is_sealed = |text: &str| text.starts_with(seal::PREFIX);
        let to_seal: Vec<_> = fields
            .iter()
            .zip(plain)
            .filter(|((_, text), _)| is_sealed(text))
            .map(|((field, _), secret)| (profile, *field, secret))
            .collect();
        let mut sealed = self.seal_all(envelope, &to_seal)?.into_iter();
        // Plain values stay plain, in their place.
        let again =
            |(_, text): &(&str, &str)| if is_sealed(text) { sealed.next() } else { Some((*text).to_owned()) };
        Ok(fields.iter().filter_map(again).collect())
    }

    /// Seals, then verifies each value by opening its text, before the file is replaced.
    fn seal_all(
        &mut self,
        envelope: &Envelope,
        to_seal: &[(&str, &str, &SecretString)],
    ) -> Result<Vec<String>, KeyError> {
        let mut texts = Vec::with_capacity(to_seal.len());
        for (profile, field, secret) in to_seal {
            let mut nonce = [0; 12];
            fill_random(&mut nonce)?;
            let sealed = envelope
                .seal(profile, field, secret, Nonce::from_random(nonce))
                .map_err(value_error(profile, field))?;
            texts.push(sealed.to_string());
        }
        for ((profile, field, secret), text) in to_seal.iter().zip(&texts) {
            let Ok(Value::Sealed(value)) = seal::parse(text) else {
                return Err(KeyError::Sealing(SealError::Crypto));
            };
            let read =
                envelope.data_key().open(&value, profile, field).map_err(value_error(profile, field))?;
            if read.expose_secret() != secret.expose_secret() {
                return Err(KeyError::Sealing(SealError::Crypto));
            }
        }
        self.data_keys.insert(*envelope.header().salt(), envelope.data_key().clone());
        Ok(texts)
    }
}

fn parse_all(profile: &str, fields: &[(&str, &str)]) -> Result<Vec<Value>, KeyError> {
    let values = fields
        .iter()
        .map(|(field, text)| seal::parse(text).map_err(value_error(profile, field)))
        .collect::<Result<Vec<_>, _>>()?;
    seal::one_envelope(fields.iter().map(|(field, _)| *field).zip(&values))
        .map_err(|source| KeyError::Profile { profile: profile.to_owned(), source: Box::new(source) })?;
    Ok(values)
}

/// A new envelope would drop recipients of a kind that only a later version knows.
fn refuse_unknown(profile: &str, envelope: &Envelope) -> Result<(), KeyError> {
    if envelope.header().unknown_recipients() == 0 {
        return Ok(());
    }
    let source = Box::new(SealError::Newer("it has recipients of an unknown kind".to_owned()));
    Err(KeyError::Profile { profile: profile.to_owned(), source })
}

fn value_error(profile: &str, field: &str) -> impl Fn(SealError) -> KeyError {
    let (profile, field) = (profile.to_owned(), field.to_owned());
    move |source| KeyError::Value { profile: profile.clone(), field: field.clone(), source: Box::new(source) }
}

fn fill_random(bytes: &mut [u8]) -> Result<(), KeyError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| KeyError::Random)
}
