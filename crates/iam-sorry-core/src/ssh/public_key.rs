//! Ed25519 public keys: the line in a `.pub` file, the SHA-256 fingerprint, verification.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::wire::{Reader, put_string};
use crate::ed25519::{self, Ed25519PublicKey, WeakKey};

/// The only key type that sealing works with: its signatures are deterministic (RFC 8032), so that the agent and the
/// key file give the same one.
pub const ED25519: &str = "ssh-ed25519";

/// An Ed25519 public key, which can be no weak one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(Ed25519PublicKey);

/// A key's SHA-256 fingerprint: what `ssh-keygen -l` shows, and how a sealed value names those who can open it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

/// A raw Ed25519 signature. Here signatures are key material, so this one is wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Zeroizing<[u8; 64]>);

/// Text or bytes that are no Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// A key, but of a type whose signatures can't seal.
    #[error(
        "is {kind}: only Ed25519 keys can seal credentials\nCreate one with: ssh-keygen -t ed25519",
        kind = describe_type(.0)
    )]
    UnsupportedType(String),
    /// Not the one-line format of a `.pub` file.
    #[error("is not an SSH public key (expected a line such as 'ssh-ed25519 AAAA... comment')")]
    NotAPublicKey,
    /// A private key was given where a public one was asked for.
    #[error("is a private key, where a public key was expected\nGive the file that ends in .pub")]
    PrivateKey,
    /// Starts like a key, but can't be one.
    #[error("is a damaged SSH public key ({0})")]
    Corrupt(&'static str),
    /// One that needs no private key, or a second spelling of another one.
    #[error("is a weak Ed25519 key ({0})\nCreate a proper one with: ssh-keygen -t ed25519")]
    Weak(WeakKey),
}

impl PublicKey {
    /// From the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// [`PublicKeyError::Weak`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, PublicKeyError> {
        Ed25519PublicKey::parse(bytes).map(Self).map_err(PublicKeyError::Weak)
    }

    /// The 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The SSH encoding (RFC 8709, section 4): `str("ssh-ed25519") | str(pk)`.
    pub fn blob(&self) -> Vec<u8> {
        blob_of(self.0.as_bytes())
    }

    /// Reads the SSH encoding.
    ///
    /// # Errors
    /// [`PublicKeyError::UnsupportedType`] for other types of key, [`PublicKeyError::Weak`], [`PublicKeyError::Corrupt`] for
    /// the rest.
    pub fn from_blob(blob: &[u8]) -> Result<Self, PublicKeyError> {
        let mut reader = Reader::new(blob);
        let kind = reader.string().ok_or(PublicKeyError::Corrupt("it is cut short"))?;
        if kind != ED25519.as_bytes() {
            return Err(match type_name(kind) {
                Some(name) => PublicKeyError::UnsupportedType(name),
                None => PublicKeyError::Corrupt("it names no type"),
            });
        }
        let point = reader.string().ok_or(PublicKeyError::Corrupt("it is cut short"))?;
        let point = point.try_into().map_err(|_| PublicKeyError::Corrupt("it has the wrong length"))?;
        if !reader.is_empty() {
            return Err(PublicKeyError::Corrupt("something follows the key"));
        }
        Self::from_bytes(point)
    }

    /// Reads a line such as `ssh-ed25519 AAAA... comment`; returns the key and the comment.
    ///
    /// # Errors
    /// Every variant of [`PublicKeyError`].
    pub fn parse_line(line: &str) -> Result<(Self, String), PublicKeyError> {
        let line = line.trim();
        if line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY") {
            return Err(PublicKeyError::PrivateKey);
        }
        let mut words = line.splitn(3, [' ', '\t']);
        let (kind, base64) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if kind.is_empty() || base64.is_empty() || line.contains(['\n', '\r']) {
            return Err(PublicKeyError::NotAPublicKey);
        }
        let Ok(blob) = STANDARD.decode(base64) else { return Err(PublicKeyError::NotAPublicKey) };
        if Reader::new(&blob).string() != Some(kind.as_bytes()) {
            return Err(PublicKeyError::Corrupt("its type and its content differ"));
        }
        Ok((Self::from_blob(&blob)?, words.next().unwrap_or("").trim().to_owned()))
    }

    /// The line of a `.pub` file, without a newline. Line breaks in the comment become spaces.
    pub fn to_line(&self, comment: &str) -> String {
        let line =
            format!("{ED25519} {} {}", STANDARD.encode(self.blob()), comment.replace(['\n', '\r'], " "));
        line.trim_end().to_owned()
    }

    /// The fingerprint.
    pub fn key_id(&self) -> KeyId {
        KeyId::from_digest(digest::digest(&digest::SHA256, &self.blob()).as_ref())
    }

    /// Whether `signature` over `message` was made with this key.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify(message, signature.as_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

fn blob_of(point: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(51);
    put_string(&mut out, ED25519.as_bytes());
    put_string(&mut out, point);
    out
}

impl KeyId {
    /// Whether this is the fingerprint of a key that anybody can sign for. No [`PublicKey`] has one.
    pub fn is_of_weak_key(&self) -> bool {
        let id = |point: [u8; 32]| digest::digest(&digest::SHA256, &blob_of(&point));
        ed25519::small_order_encodings().any(|point| id(point).as_ref() == self.0)
    }

    /// From the 32 bytes of the SHA-256 digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the SHA-256 digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a fingerprint as `ssh-keygen -l` and [`Display`](fmt::Display) write it: `SHA256:` and unpadded base64.
    pub fn parse(text: &str) -> Option<Self> {
        let digest = STANDARD_NO_PAD.decode(text.trim().strip_prefix("SHA256:")?).ok()?;
        digest.try_into().ok().map(Self)
    }

    fn from_digest(digest: &[u8]) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Signature {
    /// From the raw 64 bytes of RFC 8032.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The raw 64 bytes. They are key material: whoever has them can open what was sealed with them.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The SSH encoding (RFC 8709, section 6): `str("ssh-ed25519") | str(signature)`. Only for one that is no key material.
    pub fn to_blob(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(83);
        put_string(&mut out, ED25519.as_bytes());
        put_string(&mut out, self.as_bytes());
        out
    }

    /// Reads the SSH encoding of an Ed25519 signature; `None` for anything else.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(blob);
        let (kind, raw) = (reader.string()?, reader.string()?);
        (kind == ED25519.as_bytes() && reader.is_empty()).then_some(())?;
        raw.try_into().ok().map(Self::from_bytes)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature([redacted])")
    }
}

/// A key type as text, where the bytes can be one (RFC 4251, section 6): never control characters from a stranger.
pub(crate) fn type_name(bytes: &[u8]) -> Option<String> {
    let printable = (1..=64).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    printable.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// A key type in words, for messages.
pub fn describe_type(name: &str) -> String {
    let words = match name {
        _ if name.contains("-cert-v0") => "a certificate",
        _ if name.starts_with("sk-") => "a security-key (FIDO) key",
        "ssh-rsa" => "an RSA key",
        "ssh-dss" => "a DSA key",
        _ if name.starts_with("ecdsa-sha2-") => "an ECDSA key",
        _ => return format!("a key of type {name}"),
    };
    format!("{words} ({name})")
}
