//! The blob that an SSH key signs for us (OpenSSH PROTOCOL.sshsig, section 2).
//!
//! It starts with `SSHSIG` and names its purpose, so a signature made for one purpose (a login, a git commit) can
//! never serve another. `ssh-keygen -Y sign -n NAMESPACE` signs the same bytes, which makes it an independent check.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::public_key::ED25519;
use super::wire::{Reader, put_string};
use super::{PublicKey, Signature};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// An armoured Ed25519 signature has about 300 bytes.
const MAX_ARMOUR: usize = 4096;

/// What `ssh-keygen -Y sign` prints, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armoured {
    /// The key that it says made it.
    pub key: PublicKey,
    /// The namespace that it says it is for.
    pub namespace: String,
    /// The signature over [`to_be_signed`].
    pub signature: Signature,
}

/// Why a text is no signature by an Ed25519 key over a SHA-512 hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no signature of ssh-keygen -Y sign by an Ed25519 key ({0})")]
pub struct InvalidArmour(&'static str);

/// Reads the armour of PROTOCOL.sshsig, sections 1 and 3.
///
/// # Errors
/// [`InvalidArmour`]: another text, another type of key, another hash (`-O hashalg=`), anything cut short or longer.
pub fn parse_armour(text: &str) -> Result<Armoured, InvalidArmour> {
    const SHORT: InvalidArmour = InvalidArmour("it is cut short");
    let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body =
        body.filter(|body| body.len() <= MAX_ARMOUR).ok_or(InvalidArmour("its armour is not whole"))?;
    let base64: Vec<u8> = body.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let blob = STANDARD.decode(base64).map_err(|_| InvalidArmour("it is not base64"))?;
    let mut reader = Reader::new(&blob);
    if reader.take(6) != Some(b"SSHSIG") || reader.u32() != Some(1) {
        return Err(InvalidArmour("it is not SSHSIG version 1"));
    }
    let key = reader.string().ok_or(SHORT)?;
    let key = PublicKey::from_blob(key).map_err(|_| InvalidArmour("its key can't be used"))?;
    let namespace = reader.string().ok_or(SHORT)?;
    let namespace = std::str::from_utf8(namespace).map_err(|_| InvalidArmour("its namespace is no text"))?;
    let (reserved, hash) = (reader.string().ok_or(SHORT)?, reader.string().ok_or(SHORT)?);
    if !reserved.is_empty() || hash != b"sha512" {
        return Err(InvalidArmour("its hash is not SHA-512"));
    }
    let mut signature = reader.string().map(Reader::new).ok_or(SHORT)?;
    let (kind, raw) = (signature.string().ok_or(SHORT)?, signature.string().ok_or(SHORT)?);
    let raw: &[u8; 64] = raw.try_into().map_err(|_| InvalidArmour("its signature is not 64 bytes long"))?;
    if kind != ED25519.as_bytes() || !signature.is_empty() || !reader.is_empty() {
        return Err(InvalidArmour("something else is in it"));
    }
    Ok(Armoured { key, namespace: namespace.to_owned(), signature: Signature::from_bytes(raw) })
}

/// The bytes to be signed for `message` under `namespace`, with SHA-512 as the message's hash.
pub fn to_be_signed(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + namespace.len());
    out.extend_from_slice(b"SSHSIG");
    put_string(&mut out, namespace.as_bytes());
    put_string(&mut out, b""); // reserved
    put_string(&mut out, b"sha512");
    put_string(&mut out, digest::digest(&digest::SHA512, message).as_ref());
    out
}
