//! Keys of an envelope, and what they do (sealed-format-v2.md, "Layout"): wrap, unwrap, seal, open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as GcmNonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::error::{Place, SealError};
use super::format::{self, Header, NONCE_LEN, SUITE, SealedValue, Stanza, TAG_LEN, value_aad};
use super::limits::{MAX_PLAINTEXT, MAX_RECIPIENTS};
use crate::ssh::{KeyId, PublicKey, Signature};

/// A random salt and a random data key, drawn together and never apart.
///
/// The zero nonce of `wrap` rests on this: the same salt gives the same wrapping key, so it may only ever wrap the same
/// data key. Hence no way to make one from parts, no `Clone`, and [`NewEnvelope`] consumes it.
pub struct FreshKeyMaterial {
    salt: [u8; 32],
    data_key: Zeroizing<[u8; 32]>,
}

impl FreshKeyMaterial {
    /// From 64 bytes out of the system's random generator, used for nothing else.
    pub fn from_random(bytes: Zeroizing<[u8; 64]>) -> Self {
        let (mut salt, mut data_key) = ([0; 32], Zeroizing::new([0; 32]));
        salt.copy_from_slice(&bytes[..32]);
        data_key.copy_from_slice(&bytes[32..]);
        Self { salt, data_key }
    }
}

/// A random nonce for one value: consumed by sealing, so that it serves once.
pub struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    /// From 12 bytes out of the system's random generator, used for nothing else.
    pub fn from_random(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }
}

/// The key of one envelope: opens every value that was sealed with it. Wiped when dropped.
#[derive(Clone)]
pub struct DataKey {
    salt: [u8; 32],
    key: Zeroizing<[u8; 32]>,
}

/// A header and its data key: seals values.
#[derive(Clone, Debug)]
pub struct Envelope {
    header: Header,
    data_key: DataKey,
}

/// An envelope that waits for the signature of each recipient.
pub struct NewEnvelope {
    data_key: DataKey,
    recipients: Vec<(PublicKey, Option<[u8; 48]>)>,
}

impl NewEnvelope {
    /// For these keys, in any order.
    ///
    /// # Errors
    /// [`SealError::RecipientCount`], [`SealError::AlreadyARecipient`] where a key is given twice.
    pub fn new(material: FreshKeyMaterial, recipients: &[PublicKey]) -> Result<Self, SealError> {
        if !(1..=MAX_RECIPIENTS).contains(&recipients.len()) {
            return Err(SealError::RecipientCount(recipients.len()));
        }
        let mut sorted: Vec<_> = recipients.iter().map(|key| (*key, None)).collect();
        sorted.sort_by_key(|(key, _)| key.key_id());
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(SealError::AlreadyARecipient(twice[0].0.key_id()));
        }
        let data_key = DataKey { salt: material.salt, key: material.data_key };
        Ok(Self { data_key, recipients: sorted })
    }

    /// What the recipient `key_id` has to sign.
    pub fn to_be_signed(&self, key_id: &KeyId) -> Vec<u8> {
        format::to_be_signed(&self.data_key.salt, key_id)
    }

    /// Wraps the data key for one recipient.
    ///
    /// # Errors
    /// [`SealError::BadSignature`], [`SealError::NotARecipient`].
    pub fn add_signature(&mut self, key: &PublicKey, signature: &Signature) -> Result<(), SealError> {
        let wrap = self.data_key.wrap(key, signature)?;
        let slot = self.recipients.iter_mut().find(|(recipient, _)| recipient == key);
        slot.ok_or(SealError::NotARecipient(key.key_id()))?.1 = Some(wrap);
        Ok(())
    }

    /// The envelope, once every recipient has signed.
    ///
    /// # Errors
    /// [`SealError::SignatureMissing`].
    pub fn finish(self) -> Result<Envelope, SealError> {
        let mut stanzas = Vec::with_capacity(self.recipients.len());
        for (key, wrap) in self.recipients {
            let key_id = key.key_id();
            stanzas.push(Stanza::Ssh { key_id, wrap: wrap.ok_or(SealError::SignatureMissing(key_id))? });
        }
        Ok(Envelope { header: Header::new(self.data_key.salt, stanzas)?, data_key: self.data_key })
    }
}

impl Header {
    /// Turns a recipient's signature over [`to_be_signed`](Self::to_be_signed) into the data key.
    ///
    /// The signature is verified first, so an agent that answers with something else learns nothing from what follows.
    ///
    /// # Errors
    /// [`SealError::NotARecipient`], [`SealError::BadSignature`], [`SealError::UnwrapFailed`].
    pub fn unwrap(&self, key: &PublicKey, signature: &Signature) -> Result<DataKey, SealError> {
        let key_id = key.key_id();
        let wrap = self.wrap_for(&key_id).ok_or(SealError::NotARecipient(key_id))?;
        let kek = wrapping_key(self.salt(), key, signature)?;
        let mut opened = Zeroizing::new(*wrap);
        let aad = wrap_aad(self.salt(), &key_id);
        let plain = cipher(&kek)?
            .open_in_place(zero_nonce(), Aad::from(&aad[..]), &mut opened[..])
            .map_err(|_| SealError::UnwrapFailed(key_id))?;
        let mut data_key = Zeroizing::new([0; 32]);
        data_key.copy_from_slice(plain);
        Ok(DataKey { salt: *self.salt(), key: data_key })
    }
}

impl DataKey {
    /// Which envelope it belongs to: the key to cache it by.
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// Opens a value that stands in `field` (in any case) of `profile` (exactly as written).
    ///
    /// # Errors
    /// [`SealError::TamperedOrMoved`], [`SealError::NotText`], and [`SealError::OtherEnvelope`] for a value with
    /// another salt.
    pub fn open(&self, value: &SealedValue, profile: &str, field: &str) -> Result<SecretString, SealError> {
        if value.header.salt() != &self.salt {
            return Err(SealError::OtherEnvelope);
        }
        let field = field.to_ascii_lowercase();
        let mut buffer = Zeroizing::new(value.ciphertext.clone());
        let aad = value_aad(&value.header, profile, &field);
        let nonce = GcmNonce::assume_unique_for_key(value.nonce);
        let plain = cipher(&*self.value_key()?)?
            .open_in_place(nonce, Aad::from(&aad[..]), &mut buffer)
            .map_err(|_| SealError::TamperedOrMoved {
                place: (profile.to_owned(), field.clone()),
                sealed_as: None,
            })?;
        std::str::from_utf8(plain).map(SecretString::from).map_err(|_| SealError::NotText)
    }

    /// Like [`open`](Self::open), and where that fails, tries the names that the value may have been moved from, to
    /// tell a renamed profile or swapped fields from a changed value.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`SealError::TamperedOrMoved`] says where the value belongs if one of `siblings` fits.
    pub fn open_or_diagnose(
        &self,
        value: &SealedValue,
        profile: &str,
        field: &str,
        siblings: &[Place],
    ) -> Result<SecretString, SealError> {
        self.open(value, profile, field).map_err(|error| match error {
            SealError::TamperedOrMoved { place, .. } => {
                let fits = |(p, f): &&Place| self.open(value, p, f).is_ok();
                SealError::TamperedOrMoved { place, sealed_as: siblings.iter().find(fits).cloned() }
            }
            other => other,
        })
    }

    fn wrap(&self, key: &PublicKey, signature: &Signature) -> Result<[u8; 48], SealError> {
        let kek = wrapping_key(&self.salt, key, signature)?;
        let mut buffer = Zeroizing::new(*self.key);
        let aad = wrap_aad(&self.salt, &key.key_id());
        let tag = cipher(&kek)?
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(&aad[..]), &mut buffer[..])
            .map_err(|_| SealError::Crypto)?;
        let mut wrap = [0; 48];
        wrap[..32].copy_from_slice(&buffer[..]);
        wrap[32..].copy_from_slice(tag.as_ref());
        Ok(wrap)
    }

    fn value_key(&self) -> Result<Zeroizing<[u8; 32]>, SealError> {
        derive(&self.salt, &self.key[..], &[b"iam-sorry/v2/value\0", &[SUITE]])
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

impl Envelope {
    /// The envelope of a value that opens under this name, to seal more values in it.
    ///
    /// Opening it proves that the header is the one that was sealed: what an intruder put there is never sealed again.
    ///
    /// # Errors
    /// Those of [`DataKey::open`].
    pub fn of_opened(
        value: &SealedValue,
        data_key: &DataKey,
        profile: &str,
        field: &str,
    ) -> Result<Self, SealError> {
        data_key.open(value, profile, field)?;
        Ok(Self { header: value.header.clone(), data_key: data_key.clone() })
    }

    /// Who can open what is sealed with it.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The key that opens what is sealed with it, to read back.
    pub fn data_key(&self) -> &DataKey {
        &self.data_key
    }

    /// Adds a recipient: salt and data key stay, so the others need not be there; but the header changes, so every value
    /// has to be sealed again. The new key signs the header's [`to_be_signed`](Header::to_be_signed).
    ///
    /// # Errors
    /// [`SealError::BadSignature`], [`SealError::AlreadyARecipient`], [`SealError::RecipientCount`],
    /// [`SealError::WeakRecipient`].
    pub fn with_recipient(&self, key: &PublicKey, signature: &Signature) -> Result<Self, SealError> {
        self.refuse_weak_recipient()?;
        let key_id = key.key_id();
        if self.header.wrap_for(&key_id).is_some() {
            return Err(SealError::AlreadyARecipient(key_id));
        }
        let wrap = self.data_key.wrap(key, signature)?;
        let header = Header::new(*self.header.salt(), self.header.stanzas_with(key_id, wrap))?;
        Ok(Self { header, data_key: self.data_key.clone() })
    }

    /// Seals a value for `field` (in any case) of `profile` (exactly as written).
    ///
    /// # Errors
    /// [`SealError::TooLong`], [`SealError::WeakRecipient`].
    pub fn seal(
        &self,
        profile: &str,
        field: &str,
        plaintext: &SecretString,
        nonce: Nonce,
    ) -> Result<SealedValue, SealError> {
        self.refuse_weak_recipient()?;
        self.seal_for_any(profile, field, plaintext, nonce)
    }

    fn refuse_weak_recipient(&self) -> Result<(), SealError> {
        self.header.weak_recipient().map_or(Ok(()), |id| Err(SealError::WeakRecipient(id)))
    }

    fn seal_for_any(
        &self,
        profile: &str,
        field: &str,
        plaintext: &SecretString,
        nonce: Nonce,
    ) -> Result<SealedValue, SealError> {
        let plain = plaintext.expose_secret().as_bytes();
        if plain.len() > MAX_PLAINTEXT {
            return Err(SealError::TooLong(plain.len()));
        }
        // Room for the tag from the start: a buffer that grows leaves its old, readable self behind.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_LEN));
        buffer.extend_from_slice(plain);
        let aad = value_aad(&self.header, profile, &field.to_ascii_lowercase());
        cipher(&*self.data_key.value_key()?)?
            .seal_in_place_append_tag(
                GcmNonce::assume_unique_for_key(nonce.0),
                Aad::from(&aad[..]),
                &mut *buffer,
            )
            .map_err(|_| SealError::Crypto)?;
        Ok(SealedValue {
            header: self.header.clone(),
            nonce: nonce.0,
            ciphertext: std::mem::take(&mut buffer),
        })
    }
}

/// `KEK` of the layout, from a signature that was verified.
fn wrapping_key(
    salt: &[u8; 32],
    key: &PublicKey,
    signature: &Signature,
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let key_id = key.key_id();
    if !key.verify(&format::to_be_signed(salt, &key_id), signature) {
        return Err(SealError::BadSignature(key_id));
    }
    derive(salt, signature.as_bytes(), &[b"iam-sorry/v2/kek\0", &[SUITE], key_id.as_bytes()])
}

fn wrap_aad(salt: &[u8; 32], key_id: &KeyId) -> Vec<u8> {
    [&b"iam-sorry/v2/wrap\0"[..], &[SUITE], salt, key_id.as_bytes()].concat()
}

/// Only for `wrap`: see [`FreshKeyMaterial`].
fn zero_nonce() -> GcmNonce {
    GcmNonce::assume_unique_for_key([0; NONCE_LEN])
}

pub(super) fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| SealError::Crypto)
}

/// HKDF-SHA256 (RFC 5869) with 32 bytes of output.
pub(super) fn derive(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut out = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, salt)
        .extract(ikm)
        .expand(info, Length)
        .and_then(|okm| okm.fill(&mut out[..]))
        .map_err(|_| SealError::Crypto)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::UnlockedKey;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    fn key(seed: u8) -> UnlockedKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key");
        let public = pair.public_key().as_ref().try_into().expect("32 bytes");
        UnlockedKey::from_seed(&[seed; 32], &PublicKey::from_bytes(public).expect("no weak key"))
            .expect("its own public part")
    }

    /// The fingerprint of the all-zero key (`ssh-keygen -lf`).
    const ZERO: &str = "SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk";

    #[test]
    fn what_an_older_version_sealed_for_a_weak_key_opens_but_is_not_added_to() {
        let (mine, weak) = (key(1), KeyId::parse(ZERO).expect("a fingerprint"));
        assert!(weak.is_of_weak_key() && !mine.public_key().key_id().is_of_weak_key());
        let data_key = DataKey { salt: [3; 32], key: Zeroizing::new([4; 32]) };
        let id = mine.public_key().key_id();
        let signature = mine.sign(&format::to_be_signed(&data_key.salt, &id));
        let wrap = data_key.wrap(mine.public_key(), &signature).expect("wrapped");
        let mut stanzas = vec![Stanza::Ssh { key_id: id, wrap }, Stanza::Ssh { key_id: weak, wrap: [0; 48] }];
        stanzas.sort_by_key(|stanza| match stanza {
            Stanza::Ssh { key_id, .. } => *key_id,
            Stanza::Unknown { .. } => unreachable!("none here"),
        });
        let header = Header::new(data_key.salt, stanzas).expect("two recipients");
        let envelope = Envelope { header, data_key };
        let secret = SecretString::from("secret");
        let nonce = || Nonce::from_random([5; 12]);
        let old = envelope.seal_for_any("me", "f", &secret, nonce()).expect("as it was sealed");

        let opened = old.header().unwrap(mine.public_key(), &signature).expect("by the other key");
        assert_eq!(opened.open(&old, "me", "f").expect("opened").expose_secret(), "secret");
        assert_eq!(old.header().weak_recipient(), Some(weak));
        let envelope = Envelope::of_opened(&old, &opened, "me", "f").expect("proved");
        let refused = SealError::WeakRecipient(weak);
        assert_eq!(envelope.seal("me", "f", &secret, nonce()).err(), Some(refused.clone()));
        let other = key(2);
        let signature = other.sign(&old.header().to_be_signed(&other.public_key().key_id()));
        assert_eq!(envelope.with_recipient(other.public_key(), &signature).err(), Some(refused));
    }
}
