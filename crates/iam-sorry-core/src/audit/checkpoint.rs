//! Checkpoints: the service's Ed25519 signature over the state of the chain at one moment.
//!
//! The hashes alone show no more than that a trail fits itself: who can write the database can make it anew from any
//! record on. A signature over (chain, sequence, hash) that has left the host shows a rebuilt chain and a cut tail.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::canonical::{Object, from_hex, hex};
use super::record::{ChainId, Hash, VERSION};
use crate::ed25519::{Ed25519PublicKey, WeakKey};

const CHECKPOINT_TAG: &[u8] = b"iam-sorry audit checkpoint v1\n";
/// Of PKCS#8 (RFC 8410, section 7, without the public key), before the 32 bytes of the seed.
const PKCS8_START: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Of SubjectPublicKeyInfo (RFC 8410, section 4), before the 32 bytes of the key.
const SPKI_START: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The state of a chain, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which trail.
    pub chain: ChainId,
    /// The last record that it covers.
    pub seq: u64,
    /// That record's hash.
    pub hash: Hash,
    /// When it was signed, milliseconds since 1970.
    pub time_ms: i64,
    /// The last record that the checkpoint before covers; 0 in the first. A checkpoint that was taken away shows.
    pub previous_seq: u64,
    /// SHA-256 of the public key's SubjectPublicKeyInfo, hexadecimal.
    pub key_id: String,
    /// Ed25519 over the canonical bytes.
    pub signature: [u8; 64],
}

/// Signs checkpoints. Holds the private key, which is wiped when dropped.
pub struct CheckpointSigner {
    pair: Ed25519KeyPair,
    public: CheckpointKey,
}

/// The public key that checkpoints are verified with.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckpointKey(Ed25519PublicKey);

/// Text that is no key for checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not PEM with the label that was expected.
    #[error("this is no {0} in PEM\nMake a pair: iam-sorryd audit new-key FILE")]
    Pem(&'static str),
    /// A key, but not an Ed25519 one, or a damaged one.
    #[error(
        "this is no Ed25519 key\nMake a pair: iam-sorryd audit new-key FILE (or: openssl genpkey -algorithm ed25519)"
    )]
    NotEd25519,
    /// A public key that anybody can sign for: whoever wrote the trail could have chosen it so.
    #[error("this is a weak Ed25519 key ({0})\nMake a pair: iam-sorryd audit new-key FILE")]
    Weak(WeakKey),
}

/// A line that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no checkpoint of an audit trail")]
pub struct InvalidCheckpoint;

impl CheckpointSigner {
    /// Reads a private key: PKCS#8 in PEM, as [`new_key_pem`] and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// [`InvalidKey`], which holds nothing of the text.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let der = Zeroizing::new(pem_body(pem, "PRIVATE KEY").ok_or(InvalidKey::Pem("private key"))?);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| InvalidKey::NotEd25519)?;
        let public = CheckpointKey::from_raw(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The key that verifies what this one signs.
    pub fn public_key(&self) -> &CheckpointKey {
        &self.public
    }

    /// Signs the state of a chain after record `seq`, whose hash is `hash`.
    pub fn sign(&self, chain: ChainId, seq: u64, hash: Hash, time_ms: i64, previous_seq: u64) -> Checkpoint {
        let key_id = self.public.id();
        let mut made = Checkpoint { chain, seq, hash, time_ms, previous_seq, key_id, signature: [0; 64] };
        let signature = self.pair.sign(&made.to_be_signed());
        made.signature.copy_from_slice(signature.as_ref());
        made
    }
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointSigner({}, [redacted])", self.public.id())
    }
}

/// A private key as PKCS#8 in PEM, from 32 random bytes.
pub fn new_key_pem(seed: &Zeroizing<[u8; 32]>) -> Zeroizing<String> {
    let mut der = Zeroizing::new([0; 48]);
    der[..16].copy_from_slice(&PKCS8_START);
    der[16..].copy_from_slice(&seed[..]);
    to_pem("PRIVATE KEY", &der[..])
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({})", self.id())
    }
}

impl CheckpointKey {
    /// Reads a public key: SubjectPublicKeyInfo in PEM, as [`CheckpointKey::to_pem`] and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let der = pem_body(pem, "PUBLIC KEY").ok_or(InvalidKey::Pem("public key"))?;
        let key = der.strip_prefix(&SPKI_START).ok_or(InvalidKey::NotEd25519)?;
        Self::from_raw(key)
    }

    fn from_raw(key: &[u8]) -> Result<Self, InvalidKey> {
        let key = key.try_into().map_err(|_| InvalidKey::NotEd25519)?;
        Ed25519PublicKey::parse(key).map(Self).map_err(InvalidKey::Weak)
    }

    /// SubjectPublicKeyInfo in PEM.
    pub fn to_pem(&self) -> String {
        (*to_pem("PUBLIC KEY", &self.spki())).clone()
    }

    /// SHA-256 of the SubjectPublicKeyInfo: `openssl pkey -pubin -outform DER | sha256sum`.
    pub fn id(&self) -> String {
        hex(digest::digest(&digest::SHA256, &self.spki()).as_ref())
    }

    fn spki(&self) -> [u8; 44] {
        let mut der = [0; 44];
        der[..12].copy_from_slice(&SPKI_START);
        der[12..].copy_from_slice(self.0.as_bytes());
        der
    }
}

/// The signed part, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    chain: &'a str,
    hash: &'a str,
    key: String,
    previous_seq: u64,
    seq: u64,
    time_ms: i64,
    v: u32,
}

impl Checkpoint {
    /// Whether `key` made the signature.
    pub fn verify(&self, key: &CheckpointKey) -> bool {
        key.0.verify(&self.to_be_signed(), &self.signature)
    }

    /// Its line in an export, without the newline: `{"checkpoint":{...},"signature":"..."}`.
    pub fn export_line(&self) -> String {
        format!("{LINE_START}{}{LINE_MIDDLE}{}\"}}", self.body(), URL_SAFE_NO_PAD.encode(self.signature))
    }

    /// Reads [`Checkpoint::export_line`] back; the signature is not verified yet.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`] for every other spelling.
    pub fn parse(line: &str) -> Result<Self, InvalidCheckpoint> {
        let rest = line.strip_prefix(LINE_START).ok_or(InvalidCheckpoint)?;
        let (body, signature) = rest.rsplit_once(LINE_MIDDLE).ok_or(InvalidCheckpoint)?;
        let signature = signature.strip_suffix("\"}").ok_or(InvalidCheckpoint)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok().and_then(|raw| raw.try_into().ok());
        let read: Body<'_> = serde_json::from_str(body).map_err(|_| InvalidCheckpoint)?;
        let checkpoint = Self {
            chain: ChainId::parse(read.chain).ok_or(InvalidCheckpoint)?,
            seq: read.seq,
            hash: from_hex(read.hash).ok_or(InvalidCheckpoint)?,
            time_ms: read.time_ms,
            previous_seq: read.previous_seq,
            key_id: read.key,
            signature: signature.ok_or(InvalidCheckpoint)?,
        };
        // One spelling: what is signed is what is written.
        if read.v == VERSION && checkpoint.body() == body { Ok(checkpoint) } else { Err(InvalidCheckpoint) }
    }

    fn to_be_signed(&self) -> Vec<u8> {
        [CHECKPOINT_TAG, self.body().as_bytes()].concat()
    }

    fn body(&self) -> String {
        let mut body = String::with_capacity(320);
        let mut object = Object::open(&mut body);
        object
            .string("chain", &self.chain.to_string())
            .string("hash", &hex(&self.hash))
            .string("key", &self.key_id)
            .integer("previous_seq", self.previous_seq)
            .integer("seq", self.seq)
            .integer("time_ms", self.time_ms)
            .integer("v", VERSION);
        object.close();
        body
    }
}

const LINE_START: &str = "{\"checkpoint\":";
const LINE_MIDDLE: &str = ",\"signature\":\"";

/// The bytes of the only block in a PEM text (RFC 7468).
fn pem_body(pem: &str, label: &str) -> Option<Vec<u8>> {
    let rest = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = rest.strip_suffix(&format!("-----END {label}-----"))?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    STANDARD.decode(base64.as_bytes()).ok()
}

fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Either key fits one line of 64 characters (RFC 7468, section 2).
    Zeroizing::new(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", &*base64))
}
