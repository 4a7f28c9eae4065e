//! Sign-in by SSH key: a challenge that is good once, for 60 seconds, for one key from one address; and a signature over it
//! and *our* origin, as configured.
//!
//! A machine in the middle can pass our challenge on, but its victim signs the origin that it dialled itself, which is
//! not ours. Who the key belongs to is asked only once the signature is right, so known and unknown keys get the same
//! challenge, and only who holds a key can learn whether it is known.

use std::net::IpAddr;
use std::path::PathBuf;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use iam_sorry_core::identity::Identity;
use iam_sorry_core::ssh::login::{
    Origin, login_message, registration_message, registration_to_be_signed, to_be_signed,
};
use iam_sorry_core::ssh::{KeyId, PublicKey, Signature};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_store::Challenge;
use serde::Deserialize;

use super::ssh_file::KeyFile;
use super::{LoginError, RejectReason, SettingsError};

/// How long a challenge may be answered.
pub const LASTS_MS: i64 = 60_000;
/// The same for a registration that a person signs by hand and pastes: it is good for their own session alone.
pub const BY_HAND_LASTS_MS: i64 = 600_000;

/// Keeps this digest apart from all others.
const REQUEST: &[u8] = b"iam-sorry login request v1\0";
/// So that a challenge for one purpose is none for the other.
const REGISTRATION: &[u8] = b"iam-sorry registration request v1\0";

/// `[login.ssh]`: where keys come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SshSettings {
    /// From the directory of `[login.ldap]`, where there is one.
    pub directory: bool,
    /// Registered by people who were signed in.
    pub registered: bool,
    /// From a file (`login/ssh_file`).
    pub file: Option<PathBuf>,
}

impl Default for SshSettings {
    fn default() -> Self {
        Self { directory: true, registered: true, file: None }
    }
}

impl SshSettings {
    pub(super) fn check(&self, with_directory: bool) -> Result<(), SettingsError> {
        if self.file.is_none() && !with_directory {
            let what = "nobody's key could be known: give login.ssh.file, or [login.ldap]";
            return Err(SettingsError::new("login.ssh", what));
        }
        if !self.directory && !self.registered && self.file.is_none() {
            return Err(SettingsError::new("login.ssh", "every source of keys is off"));
        }
        Ok(())
    }
}

/// Sign-in by SSH key, ready.
pub struct SshKeys {
    settings: SshSettings,
    file: Option<KeyFile>,
}

impl SshKeys {
    /// Reads the file of keys, where there is one.
    ///
    /// # Errors
    /// [`SettingsError`] saying what is wrong with the file.
    pub fn new(settings: SshSettings) -> Result<Self, SettingsError> {
        let file = settings.file.clone().map(KeyFile::new).transpose();
        let file = file.map_err(|error| SettingsError::new("login.ssh.file", &error))?;
        Ok(Self { settings, file })
    }

    /// Whether keys of the directory count.
    pub fn from_directory(&self) -> bool {
        self.settings.directory
    }

    /// Whether keys that people registered count.
    pub fn from_registered(&self) -> bool {
        self.settings.registered
    }

    /// Whose key it is by the file.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::UnknownKey`] also without a file.
    pub fn person_of_key(&self, key: &PublicKey) -> Result<Identity, LoginError> {
        match &self.file {
            Some(file) => file.person_of_key(key),
            None => Err(LoginError::Refused(RejectReason::UnknownKey)),
        }
    }

    /// The groups of the people in the file.
    ///
    /// # Errors
    /// [`LoginError::Broken`]
    pub fn groups(&self) -> Result<std::collections::BTreeSet<String>, LoginError> {
        self.file.as_ref().map_or_else(|| Ok(Default::default()), KeyFile::groups)
    }

    /// Somebody of the file, as they are now.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn person(&self, subject: &str) -> Result<Identity, LoginError> {
        match &self.file {
            Some(file) => file.person(subject),
            None => Err(LoginError::Refused(RejectReason::UnknownPerson)),
        }
    }
}

/// A challenge for a key that asks from an address, to be signed in as `name` where one is given. `random` are 32 random
/// bytes.
pub fn challenge(
    key: &KeyId,
    address: IpAddr,
    name: Option<&str>,
    random: &[u8; 32],
    now_ms: i64,
) -> Challenge {
    made(key, random, now_ms, LASTS_MS, |nonce| login_request(key, address, name, nonce))
}

/// A challenge for a key that a person, in a session of theirs, wants to register.
pub fn registration_challenge(
    key: &KeyId,
    registrant: &Registrant<'_>,
    random: &[u8; 32],
    now_ms: i64,
    lasts_ms: i64,
) -> Challenge {
    made(key, random, now_ms, lasts_ms, |nonce| registration_request(key, registrant, nonce))
}

/// Who registers a key.
#[derive(Clone, Copy, Debug)]
pub struct Registrant<'a> {
    /// `issuer/subject`
    pub person: &'a str,
    /// Their login name.
    pub name: &'a str,
    /// The id of the session in which they do it.
    pub session: &'a str,
}

fn made(
    key: &KeyId,
    random: &[u8; 32],
    now_ms: i64,
    lasts_ms: i64,
    request: impl Fn(&str) -> String,
) -> Challenge {
    let nonce = URL_SAFE_NO_PAD.encode(random);
    let time = Timestamp::from_unix(now_ms.div_euclid(1000)).unwrap_or(Timestamp::EPOCH);
    Challenge {
        request: request(&nonce),
        fingerprint: key.to_string(),
        time: time.to_string(),
        expires_ms: now_ms + lasts_ms,
        nonce,
    }
}

/// Checks the answer to a challenge that was taken out of the store, and so can't be answered again.
///
/// # Errors
/// [`RejectReason::Challenge`] where it is too old or another's, [`RejectReason::Signature`] where the signature is not the key's over this
/// challenge and `origin`.
pub fn check(
    challenge: &Challenge,
    origin: &Origin,
    key: &PublicKey,
    signature: &Signature,
    (address, name): (IpAddr, Option<&str>),
    now_ms: i64,
) -> Result<(), RejectReason> {
    let id = key.key_id();
    let request = login_request(&id, address, name, &challenge.nonce);
    check_challenge(challenge, &id, &request, now_ms, LASTS_MS)?;
    let message = login_message(origin, &challenge.nonce, &challenge.request, &challenge.time);
    let message = message.map_err(|_| RejectReason::Challenge)?;
    check_signature(key, &to_be_signed(&message), signature)
}

/// The same for a registration: the signature says that whoever has the private key wants it to sign in this person.
///
/// # Errors
/// As for [`check`].
pub fn check_registration(
    challenge: &Challenge,
    origin: &Origin,
    key: &PublicKey,
    signature: &Signature,
    registrant: &Registrant<'_>,
    now_ms: i64,
) -> Result<(), RejectReason> {
    let id = key.key_id();
    let request = registration_request(&id, registrant, &challenge.nonce);
    check_challenge(challenge, &id, &request, now_ms, BY_HAND_LASTS_MS)?;
    let message = registration_text(challenge, origin, registrant).ok_or(RejectReason::Challenge)?;
    check_signature(key, &registration_to_be_signed(&message), signature)
}

/// What the key signs to be registered; none where a name can't stand in a line.
pub fn registration_text(
    challenge: &Challenge,
    origin: &Origin,
    registrant: &Registrant<'_>,
) -> Option<Vec<u8>> {
    let Challenge { nonce, request, time, .. } = challenge;
    registration_message(origin, (registrant.person, registrant.name), nonce, request, time).ok()
}

fn check_challenge(
    challenge: &Challenge,
    key: &KeyId,
    request: &str,
    now_ms: i64,
    lasts_ms: i64,
) -> Result<(), RejectReason> {
    let fits = challenge.fingerprint == key.to_string() && challenge.request == request;
    // Also one from the future: a clock that was set back gives no challenge a longer life.
    let left = challenge.expires_ms - now_ms;
    if fits && left > 0 && left <= lasts_ms { Ok(()) } else { Err(RejectReason::Challenge) }
}

fn check_signature(key: &PublicKey, signed: &[u8], signature: &Signature) -> Result<(), RejectReason> {
    if key.verify(signed, signature) { Ok(()) } else { Err(RejectReason::Signature) }
}

/// The signature of a request: 64 bytes, base64url without padding.
pub fn parse_signature(text: &str) -> Option<Signature> {
    let bytes: [u8; 64] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    Some(Signature::from_bytes(&bytes))
}

/// What a nonce looks like; anything else is not asked for in the store.
pub fn is_nonce(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// The service's fingerprint of a request: which key, from where, for which nonce, as whom.
fn login_request(key: &KeyId, address: IpAddr, name: Option<&str>, nonce: &str) -> String {
    let (key, address) = (key.to_string(), address.to_canonical().to_string());
    fingerprint(REQUEST, [key.as_str(), &address, nonce].into_iter().chain(name))
}

fn registration_request(key: &KeyId, registrant: &Registrant<'_>, nonce: &str) -> String {
    let Registrant { person, name, session } = *registrant;
    fingerprint(REGISTRATION, [key.to_string().as_str(), person, name, session, nonce].into_iter())
}

fn fingerprint<'a>(purpose: &[u8], parts: impl Iterator<Item = &'a str>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(purpose);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    format!("SHA256:{}", STANDARD_NO_PAD.encode(context.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_374_000_500;

    fn key(n: u8) -> KeyId {
        PublicKey::from_bytes([n; 32]).unwrap().key_id()
    }

    #[test]
    fn a_challenge_is_bound_to_key_address_and_nonce() {
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let of = |key, address, random: u8| challenge(&key, address, None, &[random; 32], NOW).request;
        let first = of(key(1), here, 1);
        assert_eq!(first, of(key(1), "::ffff:192.0.2.1".parse().unwrap(), 1), "one address in other clothes");
        for other in [of(key(2), here, 1), of(key(1), there, 1), of(key(1), here, 2)] {
            assert_ne!(first, other);
        }
        let named = |name| challenge(&key(1), here, name, &[1; 32], NOW).request;
        assert!(
            named(None) == first && named(Some("ada")) != first && named(Some("ada")) != named(Some("bob"))
        );
        let registrant = Registrant { person: "file/ada", name: "ada", session: "1" };
        let registering =
            |by: Registrant<'_>| registration_challenge(&key(1), &by, &[1; 32], NOW, LASTS_MS).request;
        let mine = registering(registrant);
        assert_ne!(mine, first);
        for other in [
            Registrant { person: "file/bob", ..registrant },
            Registrant { name: "bob", ..registrant },
            Registrant { session: "2", ..registrant },
        ] {
            assert_ne!(registering(other), mine);
        }
        assert!(is_nonce(&challenge(&key(1), here, None, &[7; 32], NOW).nonce));
        for bad in ["", "abc", "../../x", &"A".repeat(44)] {
            assert!(!is_nonce(bad), "{bad}");
        }
    }

    #[test]
    fn settings_with_which_nobody_gets_in_are_refused() {
        let check = |text: &str, directory| toml::from_str::<SshSettings>(text).unwrap().check(directory);
        assert!(check("", true).is_ok());
        assert!(check("", false).is_err());
        assert!(check("file = \"/x\"", false).is_ok());
        assert!(check("directory = false\nregistered = false", true).is_err());
    }
}
