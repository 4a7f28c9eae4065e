//! Checkpoints: the service's Ed25519 signature over the state of all lanes at one moment.
//!
//! The hashes alone show no more than that a trail fits itself: who can write the database can make it anew from any
//! record on. A signature over the lanes' states that has left the host shows a rebuilt lane, a cut tail and a lane that
//! was taken away.
//!
//! A checkpoint names each lane that has not ended, and each that has and whose end no record of another lane names
//! yet. The end of any other lane is named by a record (`heads`, `ends`), which the signature covers through that record's lane.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::canonical::{Object, from_hex, hex, sha256};
use super::lane::{ChainId, Hash, LaneHead, LaneHeads, LaneId};
use super::record::{VERSION, VERSION_1};
use crate::ed25519::{Ed25519PublicKey, WeakKey};

const TAG_1: &[u8] = b"iam-sorry audit checkpoint v1\n";
const TAG: &[u8] = b"iam-sorry audit checkpoint v2\n";
/// Of the hash by which the next one names a checkpoint, of either version.
const HASH_TAG: &[u8] = b"iam-sorry audit checkpoint hash v2\n";
/// Of PKCS#8 (RFC 8410, section 7, without the public key), before the 32 bytes of the seed.
const PKCS8_START: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Of SubjectPublicKeyInfo (RFC 8410, section 4), before the 32 bytes of the key.
const SPKI_START: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The state of a trail, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which trail.
    pub chain: ChainId,
    /// Its place among the trail's checkpoints. The first of version 2 counts on from the record that the last one of
    /// version 1 covers, or is 1.
    pub number: u64,
    /// The states that it covers.
    pub heads: LaneHeads,
    /// When it was signed, milliseconds since 1970.
    pub time_ms: i64,
    /// The checkpoint before it. One that was taken away shows.
    pub previous: Previous,
    /// SHA-256 of the public key's SubjectPublicKeyInfo, hexadecimal.
    pub key_id: String,
    /// Ed25519 over the canonical bytes.
    pub signature: [u8; 64],
}

/// How a checkpoint names the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// Version 1: by the last record that it covers; 0 in the first.
    Seq(u64),
    /// By its hash ([`Checkpoint::hash`]); none in the first.
    Hash(Option<Hash>),
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

    /// Signs the states of a trail's lanes, behind the checkpoint before.
    pub fn sign(
        &self,
        chain: ChainId,
        heads: LaneHeads,
        time_ms: i64,
        before: Option<&Checkpoint>,
    ) -> Checkpoint {
        let number = before.map_or(1, |before| before.number + 1);
        let previous = Previous::Hash(before.map(Checkpoint::hash));
        let key_id = self.public.id();
        let mut made = Checkpoint { chain, number, heads, time_ms, previous, key_id, signature: [0; 64] };
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
    #[serde(borrow)]
    heads: BTreeMap<&'a str, &'a str>,
    key: String,
    number: u64,
    previous: Option<&'a str>,
    time_ms: i64,
    v: u32,
}

/// The same in version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body1<'a> {
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

    /// By what the next one names it.
    pub fn hash(&self) -> Hash {
        sha256(HASH_TAG, self.body().as_bytes())
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
        let signature = signature.ok_or(InvalidCheckpoint)?;
        let read = Self::read_body(body).or_else(|| Self::read_body_1(body)).ok_or(InvalidCheckpoint)?;
        let checkpoint = Self { signature, ..read };
        // One spelling: what is signed is what is written.
        if checkpoint.body() == body { Ok(checkpoint) } else { Err(InvalidCheckpoint) }
    }

    fn read_body(body: &str) -> Option<Self> {
        let read: Body<'_> = serde_json::from_str(body).ok().filter(|read: &Body<'_>| read.v == VERSION)?;
        let previous = read.previous.map(|hash| from_hex(hash).ok_or(()));
        Some(Self {
            chain: ChainId::parse(read.chain)?,
            number: read.number,
            heads: LaneHeads::from_pairs(read.heads, 1)?,
            time_ms: read.time_ms,
            previous: Previous::Hash(previous.transpose().ok()?),
            key_id: read.key,
            signature: [0; 64],
        })
    }

    fn read_body_1(body: &str) -> Option<Self> {
        let read: Body1<'_> =
            serde_json::from_str(body).ok().filter(|read: &Body1<'_>| read.v == VERSION_1)?;
        let head = LaneHead { lane: LaneId::ZERO, seq: read.seq, hash: from_hex(read.hash)? };
        Some(Self {
            chain: ChainId::parse(read.chain)?,
            number: read.seq,
            heads: [head].into_iter().collect(),
            time_ms: read.time_ms,
            previous: Previous::Seq(read.previous_seq),
            key_id: read.key,
            signature: [0; 64],
        })
    }

    fn to_be_signed(&self) -> Vec<u8> {
        let tag = match self.previous {
            Previous::Seq(_) => TAG_1,
            Previous::Hash(_) => TAG,
        };
        [tag, self.body().as_bytes()].concat()
    }

    fn body(&self) -> String {
        let mut body = String::with_capacity(320);
        let mut object = Object::open(&mut body);
        object.string("chain", &self.chain.to_string());
        match self.previous {
            Previous::Seq(seq) => {
                let hash = self.heads.get(LaneId::ZERO).map_or([0; 32], |head| head.hash);
                object
                    .string("hash", &hex(&hash))
                    .string("key", &self.key_id)
                    .integer("previous_seq", seq)
                    .integer("seq", self.number)
                    .integer("time_ms", self.time_ms)
                    .integer("v", VERSION_1);
            }
            Previous::Hash(hash) => {
                object
                    .pairs("heads", self.heads.to_pairs())
                    .string("key", &self.key_id)
                    .integer("number", self.number)
                    .optional("previous", hash.map(|hash| hex(&hash)).as_deref())
                    .integer("time_ms", self.time_ms)
                    .integer("v", VERSION);
            }
        }
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
