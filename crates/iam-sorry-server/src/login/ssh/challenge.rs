//! The dialogue of a sign-in by SSH key: a challenge that is good once, for 60 seconds, for one key from one address; and a
//! signature over it and the service's origin, as configured.
//!
//! A machine in the middle can pass the challenge on, but its victim signs the origin that it dialled itself, which is another
//! one. Whose the key is, is looked up only once the signature is right: known and unknown keys get the same challenge, and
//! only whoever holds a key can learn whether it is known.

use std::net::IpAddr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use iam_sorry_core::ssh::login::{
    Origin, login_message, registration_message, registration_to_be_signed, to_be_signed,
};
use iam_sorry_core::ssh::{KeyId, PublicKey, Signature};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_store::LoginFlow;
use serde::{Deserialize, Serialize};

use crate::login::error::RejectReason;

/// How long a challenge may be answered.
pub const LASTS_MS: i64 = 60_000;
/// The same for a registration that a person signs by hand and pastes: it is good for their own session alone.
pub const BY_HAND_LASTS_MS: i64 = 600_000;

/// Keeps this digest apart from all others.
const REQUEST: &[u8] = b"iam-sorry login request v1\0";
/// So that a challenge for one purpose is not one for the other.
const REGISTRATION: &[u8] = b"iam-sorry registration request v1\0";

/// A nonce that a key may sign once, and what is signed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// 32 random bytes, base64url. The store has its hash.
    pub nonce: String,
    /// What is kept until the answer.
    pub signed: Signed,
    /// Milliseconds since 1970.
    pub begun_ms: i64,
    /// How long it may be answered, milliseconds.
    pub lasts_ms: i64,
}

/// What a challenge's flow keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The fingerprint of the key that the challenge is for.
    pub key: String,
    /// The service's fingerprint of the request: which key, from where, as whom.
    pub request: String,
    /// The time that is signed, RFC 3339.
    pub time: String,
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

impl Challenge {
    /// For a key that somebody at an address wants to sign in with, as `name` if one is given. `random` are 32 random bytes.
    pub fn for_login(
        key: &KeyId,
        address: IpAddr,
        name: Option<&str>,
        random: &[u8; 32],
        now_ms: i64,
    ) -> Self {
        Self::new(key, random, now_ms, LASTS_MS, |nonce| login_request(key, address, name, nonce))
    }

    /// For a key that a signed-in person wants to register.
    pub fn for_registration(
        key: &KeyId,
        registrant: &Registrant<'_>,
        random: &[u8; 32],
        now_ms: i64,
        lasts_ms: i64,
    ) -> Self {
        Self::new(key, random, now_ms, lasts_ms, |nonce| registration_request(key, registrant, nonce))
    }

    fn new(
        key: &KeyId,
        random: &[u8; 32],
        now_ms: i64,
        lasts_ms: i64,
        request: impl Fn(&str) -> String,
    ) -> Self {
        let nonce = URL_SAFE_NO_PAD.encode(random);
        let time = Timestamp::from_unix(now_ms.div_euclid(1000)).unwrap_or(Timestamp::EPOCH);
        let signed = Signed { request: request(&nonce), key: key.to_string(), time: time.to_string() };
        Self { nonce, signed, begun_ms: now_ms, lasts_ms }
    }

    /// When it stops being accepted, milliseconds since 1970.
    pub fn expires_ms(&self) -> i64 {
        self.begun_ms.saturating_add(self.lasts_ms)
    }

    /// What its flow keeps.
    pub fn data(&self) -> Vec<u8> {
        // Texts alone: it can't fail.
        serde_json::to_vec(&self.signed).unwrap_or_default()
    }

    /// Reads it back from its flow; none if that is not a challenge's.
    pub fn of(nonce: &str, flow: &LoginFlow) -> Option<Self> {
        let signed = serde_json::from_slice(&flow.data).ok()?;
        let lasts_ms = flow.expires_ms.saturating_sub(flow.begun_ms);
        Some(Self { nonce: nonce.to_owned(), signed, begun_ms: flow.begun_ms, lasts_ms })
    }

    /// Checks the answer of somebody at an address. That the challenge was taken from the store, in time, is the caller's.
    ///
    /// # Errors
    /// [`RejectReason::Challenge`] if it was for another key, address or name, [`RejectReason::Signature`] if the signature is not
    /// the key's over this challenge and `origin`.
    pub fn check_login(
        &self,
        origin: &Origin,
        key: &PublicKey,
        signature: &Signature,
        (address, name): (IpAddr, Option<&str>),
    ) -> Result<(), RejectReason> {
        let id = key.key_id();
        self.is_for(&id, &login_request(&id, address, name, &self.nonce))?;
        let Signed { request, time, .. } = &self.signed;
        let message = login_message(origin, &self.nonce, request, time);
        let message = message.map_err(|_| RejectReason::Challenge)?;
        check_signature(key, &to_be_signed(&message), signature)
    }

    /// The same for a registration: the signature says that whoever has the private key wants it to sign in this person.
    ///
    /// # Errors
    /// As for [`Challenge::check_login`].
    pub fn check_registration(
        &self,
        origin: &Origin,
        key: &PublicKey,
        signature: &Signature,
        registrant: &Registrant<'_>,
    ) -> Result<(), RejectReason> {
        let id = key.key_id();
        self.is_for(&id, &registration_request(&id, registrant, &self.nonce))?;
        let message = self.registration_text(origin, registrant).ok_or(RejectReason::Challenge)?;
        check_signature(key, &registration_to_be_signed(&message), signature)
    }

    /// What the key signs to be registered; none if a name can't stand in a line.
    pub fn registration_text(&self, origin: &Origin, registrant: &Registrant<'_>) -> Option<Vec<u8>> {
        let Signed { request, time, .. } = &self.signed;
        registration_message(origin, (registrant.person, registrant.name), &self.nonce, request, time).ok()
    }

    fn is_for(&self, key: &KeyId, request: &str) -> Result<(), RejectReason> {
        let fits = self.signed.key == key.to_string() && self.signed.request == request;
        if fits { Ok(()) } else { Err(RejectReason::Challenge) }
    }
}

fn check_signature(key: &PublicKey, signed: &[u8], signature: &Signature) -> Result<(), RejectReason> {
    if key.verify(signed, signature) { Ok(()) } else { Err(RejectReason::Signature) }
}

/// The signature of a request: 64 bytes, base64url without padding.
pub fn parse_signature(text: &str) -> Option<Signature> {
    let bytes: [u8; 64] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    Some(Signature::from_bytes(&bytes))
}

/// Whether it has the form of a nonce; anything else is not looked for in the store.
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
        let of = |key, address, random: u8| {
            Challenge::for_login(&key, address, None, &[random; 32], NOW).signed.request
        };
        let first = of(key(1), here, 1);
        assert_eq!(
            first,
            of(key(1), "::ffff:192.0.2.1".parse().unwrap(), 1),
            "one address, written in another way"
        );
        for other in [of(key(2), here, 1), of(key(1), there, 1), of(key(1), here, 2)] {
            assert_ne!(first, other);
        }
        let named = |name| Challenge::for_login(&key(1), here, name, &[1; 32], NOW).signed.request;
        assert!(
            named(None) == first && named(Some("ada")) != first && named(Some("ada")) != named(Some("bob"))
        );
        let registrant = Registrant { person: "file/ada", name: "ada", session: "1" };
        let registering = |by: Registrant<'_>| {
            Challenge::for_registration(&key(1), &by, &[1; 32], NOW, LASTS_MS).signed.request
        };
        let mine = registering(registrant);
        assert_ne!(mine, first);
        for other in [
            Registrant { person: "file/bob", ..registrant },
            Registrant { name: "bob", ..registrant },
            Registrant { session: "2", ..registrant },
        ] {
            assert_ne!(registering(other), mine);
        }
        assert!(is_nonce(&Challenge::for_login(&key(1), here, None, &[7; 32], NOW).nonce));
        for bad in ["", "abc", "../../x", &"A".repeat(44)] {
            assert!(!is_nonce(bad), "{bad}");
        }
    }
}
