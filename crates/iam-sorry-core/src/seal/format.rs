//! The layout of a sealed value (sealed-format-v2.md, "Layout"): bytes to parts and back, strictly.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::SealError;
use super::limits::{MAX_PLAINTEXT, MAX_RECIPIENTS, NAMESPACE, PREFIX};
use crate::ssh::wire::{Reader, put_string};
use crate::ssh::{KeyId, sshsig};

/// The only suite: Ed25519, HKDF-SHA256, AES-256-GCM.
pub(super) const SUITE: u8 = 1;
const STANZA_SSH: u8 = 1;
const STANZA_SSH_LEN: usize = 80;
pub(super) const NONCE_LEN: usize = 12;
pub(super) const TAG_LEN: usize = 16;
/// 16 stanzas of unknown types could be long; none that we know comes near this. Keeps a planted value from eating memory.
const MAX_BODY: usize = 64 * 1024;

/// Who can open a value, and the salt; the same for all values that were sealed together.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    salt: [u8; 32],
    stanzas: Vec<Stanza>,
    // As they were read: they are authenticated with every value.
    bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Stanza {
    /// The data key, wrapped for one SSH key.
    Ssh { key_id: KeyId, wrap: [u8; 48] },
    /// Of a later version: kept, skipped.
    Unknown { kind: u8, data: Vec<u8> },
}

/// A value in format v2.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedValue {
    pub(super) header: Header,
    pub(super) nonce: [u8; NONCE_LEN],
    /// The tag is its end.
    pub(super) ciphertext: Vec<u8>,
}

impl Header {
    pub(super) fn new(salt: [u8; 32], stanzas: Vec<Stanza>) -> Result<Self, SealError> {
        let count = stanzas.len();
        let n = u8::try_from(count).ok().filter(|_| (1..=MAX_RECIPIENTS).contains(&count));
        let mut bytes = vec![SUITE, n.ok_or(SealError::RecipientCount(count))?];
        bytes.extend_from_slice(&salt);
        for stanza in &stanzas {
            match stanza {
                Stanza::Ssh { key_id, wrap } => {
                    bytes.extend_from_slice(&[STANZA_SSH, 0, 80]);
                    bytes.extend_from_slice(key_id.as_bytes());
                    bytes.extend_from_slice(wrap);
                }
                Stanza::Unknown { kind, data } => {
                    let length = u16::try_from(data.len()).map_err(|_| SealError::TooLong(data.len()))?;
                    bytes.push(*kind);
                    bytes.extend_from_slice(&length.to_be_bytes());
                    bytes.extend_from_slice(data);
                }
            }
        }
        Ok(Self { salt, stanzas, bytes })
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SealError> {
        const SHORT: SealError = SealError::Corrupt("it is cut short");
        let suite = reader.u8().ok_or(SHORT)?;
        if suite != SUITE {
            return Err(SealError::Newer(format!("suite {suite}")));
        }
        let count = usize::from(reader.u8().ok_or(SHORT)?);
        if !(1..=MAX_RECIPIENTS).contains(&count) {
            return Err(SealError::Corrupt("an impossible number of recipients"));
        }
        let salt = reader.array().ok_or(SHORT)?;
        let mut stanzas = Vec::with_capacity(count);
        let mut last: Option<KeyId> = None;
        for _ in 0..count {
            let kind = reader.u8().ok_or(SHORT)?;
            let length = usize::from(reader.u16().ok_or(SHORT)?);
            let data = reader.take(length).ok_or(SHORT)?;
            if kind != STANZA_SSH {
                stanzas.push(Stanza::Unknown { kind, data: data.to_vec() });
                continue;
            }
            if length != STANZA_SSH_LEN {
                return Err(SealError::Corrupt("a recipient of the wrong length"));
            }
            let mut data = Reader::new(data);
            let key_id = data.array().map(KeyId::from_bytes).ok_or(SHORT)?;
            let wrap = data.array().ok_or(SHORT)?;
            if last.is_some_and(|last| last >= key_id) {
                return Err(SealError::Corrupt("its recipients are not in order"));
            }
            last = Some(key_id);
            stanzas.push(Stanza::Ssh { key_id, wrap });
        }
        Self::new(salt, stanzas)
    }

    /// The salt: names the envelope, so that data keys can be cached by it.
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// The keys that can open this, in order of their fingerprints' bytes.
    pub fn recipients(&self) -> impl Iterator<Item = KeyId> {
        self.stanzas.iter().filter_map(|s| match s {
            Stanza::Ssh { key_id, .. } => Some(*key_id),
            Stanza::Unknown { .. } => None,
        })
    }

    /// A recipient for which anybody can sign, so that anybody can open the value. None is ever added any more.
    pub fn weak_recipient(&self) -> Option<KeyId> {
        self.recipients().find(KeyId::is_of_weak_key)
    }

    /// How many recipients are of a kind that only a later version knows.
    pub fn unknown_recipients(&self) -> usize {
        self.stanzas.iter().filter(|s| matches!(s, Stanza::Unknown { .. })).count()
    }

    /// What the key `key_id` has to sign to open values with this header.
    pub fn to_be_signed(&self, key_id: &KeyId) -> Vec<u8> {
        to_be_signed(&self.salt, key_id)
    }

    pub(super) fn wrap_for(&self, key_id: &KeyId) -> Option<&[u8; 48]> {
        self.stanzas.iter().find_map(|s| match s {
            Stanza::Ssh { key_id: id, wrap } if id == key_id => Some(wrap),
            _ => None,
        })
    }

    /// The stanzas with one more, which goes before the first key with a greater fingerprint.
    pub(super) fn stanzas_with(&self, key_id: KeyId, wrap: [u8; 48]) -> Vec<Stanza> {
        let mut stanzas = self.stanzas.clone();
        let greater = |s: &Stanza| matches!(s, Stanza::Ssh { key_id: id, .. } if *id > key_id);
        let at = stanzas.iter().position(greater).unwrap_or(stanzas.len());
        stanzas.insert(at, Stanza::Ssh { key_id, wrap });
        stanzas
    }

    /// As it stands in the value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.recipients()).finish()
    }
}

/// `TBS` of the layout.
pub(super) fn to_be_signed(salt: &[u8; 32], key_id: &KeyId) -> Vec<u8> {
    let mut message = Vec::with_capacity(96);
    message.extend_from_slice(b"iam-sorry/v2/kek\0");
    message.extend_from_slice(salt);
    message.extend_from_slice(key_id.as_bytes());
    sshsig::to_be_signed(NAMESPACE, &message)
}

impl SealedValue {
    /// The part after `__encrypted__:v2.`.
    pub(super) fn parse_body(text: &str) -> Result<Self, SealError> {
        if text.len() > MAX_BODY {
            return Err(SealError::Corrupt("it is too long"));
        }
        // This engine refuses padding and stray trailing bits.
        let body = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| SealError::Corrupt("it is not base64url, or cut short"))?;
        let mut reader = Reader::new(&body);
        let header = Header::read(&mut reader)?;
        let nonce = reader.array().ok_or(SealError::Corrupt("it is cut short"))?;
        let ciphertext = reader.rest().to_vec();
        match ciphertext.len() {
            0..TAG_LEN => Err(SealError::Corrupt("it is cut short")),
            n if n > MAX_PLAINTEXT + TAG_LEN => Err(SealError::Corrupt("it is too long")),
            _ => Ok(Self { header, nonce, ciphertext }),
        }
    }

    /// Who can open it, and the salt.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// As it stands in the file.
impl fmt::Display for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = self.header.bytes.clone();
        body.extend_from_slice(&self.nonce);
        body.extend_from_slice(&self.ciphertext);
        write!(f, "{PREFIX}v2.{}", URL_SAFE_NO_PAD.encode(body))
    }
}

impl fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedValue(for {:?})", self.header)
    }
}

/// `aad` of `ct` in the layout: binds a value to its header, profile and field.
pub(super) fn value_aad(header: &Header, profile: &str, field: &str) -> Vec<u8> {
    let mut aad = b"iam-sorry/v2/value\0".to_vec();
    put_string(&mut aad, &header.bytes);
    put_string(&mut aad, profile.as_bytes());
    put_string(&mut aad, field.as_bytes());
    aad
}
