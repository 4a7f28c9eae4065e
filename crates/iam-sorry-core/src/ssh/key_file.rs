//! Private-key files: what a file is, and unlocking the one kind that can seal (OpenSSH format, Ed25519).
//!
//! The container (OpenSSH PROTOCOL.key, section 1) is read here, so that everything there is to say about a key is known
//! before anybody is asked for a passphrase. Only deriving the key and decrypting is left to the `ssh-key` crate.

use std::fmt;
use std::hint::black_box;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::public_key::{PublicKey, PublicKeyError, Signature, describe_type};
use super::wire::Reader;
use crate::ed25519::WeakKey;

/// The most bcrypt rounds that we work through: more would let a planted file keep a machine busy for minutes.
pub const MAX_ROUNDS: u32 = 4096;
/// Longer files are no Ed25519 keys.
const MAX_FILE: usize = 64 * 1024;
/// PROTOCOL.key, section 1.
const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// What the `ssh-key` crate can decrypt, by OpenSSH's names for it.
const CIPHERS: [&str; 9] = [
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];

/// An Ed25519 private key in OpenSSH's format, still locked if it has a passphrase.
pub struct KeyFile {
    public: PublicKey,
    protection: Protection,
    container: Zeroizing<Vec<u8>>,
}

/// How the private part is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// It isn't: whoever reads the file has the key.
    None,
    /// With a passphrase.
    Passphrase {
        /// The cipher, by OpenSSH's name for it.
        cipher: String,
        /// Rounds of bcrypt: what each guess costs.
        rounds: u32,
    },
}

/// A private key in memory, ready to sign. Wiped when dropped (by aws-lc).
pub struct UnlockedKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why a file can't be used. Every text continues "SSH key 'FILE' ..."; [`hint`](Self::hint) is the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// No key of any kind that we know.
    #[error("is not an SSH private key")]
    NotAKey,
    /// A `.pub` file.
    #[error("is a public key, where the private key was expected")]
    PublicKey,
    /// The PEM formats of old (`BEGIN RSA PRIVATE KEY`, `BEGIN EC PRIVATE KEY`, ...).
    #[error("is in the old PEM format ({0})")]
    Pem(String),
    /// `BEGIN PRIVATE KEY` or `BEGIN ENCRYPTED PRIVATE KEY`.
    #[error("is in the PKCS#8 format")]
    Pkcs8,
    /// `PuTTY-User-Key-File`.
    #[error("is in PuTTY's format")]
    Putty,
    /// RSA, ECDSA, DSA, security keys.
    #[error("is {kind}: only Ed25519 keys can seal credentials", kind = describe_type(.0))]
    UnsupportedType(String),
    /// Its public part is one that anybody can sign for.
    #[error("holds a weak Ed25519 key ({0})")]
    Weak(WeakKey),
    /// A cipher that can't be decrypted here.
    #[error("is protected with the cipher {0}, which is not supported")]
    UnsupportedCipher(String),
    /// More than [`MAX_ROUNDS`].
    #[error("asks for {0} bcrypt rounds, more than the {MAX_ROUNDS} that are accepted")]
    TooManyRounds(u32),
    /// Cut short, or changed.
    #[error("is damaged ({0})")]
    Corrupt(&'static str),
    /// It didn't unlock with this passphrase.
    #[error("could not be unlocked: wrong passphrase")]
    WrongPassphrase,
    /// The file shows one public key and holds the private part of another.
    #[error("is damaged (its private part does not belong to its public part)")]
    PublicPartDiffers,
}

impl KeyFileError {
    /// What to do about it, for the file at `path`; `None` where there is nothing to advise.
    pub fn hint(&self, path: &str) -> Option<String> {
        let path = quoted(path);
        Some(match self {
            Self::NotAKey | Self::UnsupportedType(_) | Self::Weak(_) => {
                "Create an Ed25519 key: ssh-keygen -t ed25519\nor name another one with --ssh-key FILE"
                    .to_owned()
            }
            Self::PublicKey => "Give the file without .pub at its end: --ssh-key FILE".to_owned(),
            Self::Pem(_) | Self::Pkcs8 => {
                format!(
                    "If it is an Ed25519 key, convert it: ssh-keygen -p -f {path}\nelse create one: ssh-keygen -t ed25519"
                )
            }
            Self::Putty => {
                format!("Convert it: puttygen {path} -O private-openssh-new -o ~/.ssh/id_ed25519")
            }
            Self::UnsupportedCipher(_) => {
                format!("Choose another cipher: ssh-keygen -p -Z aes256-ctr -f {path}")
            }
            Self::TooManyRounds(_) => format!("Choose fewer rounds: ssh-keygen -p -a 64 -f {path}"),
            Self::WrongPassphrase => format!("Try the passphrase with: ssh-keygen -y -f {path}"),
            Self::Corrupt(_) | Self::PublicPartDiffers => return None,
        })
    }
}

impl KeyFile {
    /// Reads a key file and says what it is, without a passphrase.
    ///
    /// Too many rounds and unsupported ciphers are no error yet: [`unlock`](Self::unlock) refuses them, an agent may
    /// still hold the key.
    ///
    /// # Errors
    /// [`KeyFileError`], by what the file is instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileError> {
        if bytes.len() > MAX_FILE {
            return Err(KeyFileError::NotAKey);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| KeyFileError::NotAKey)?;
        let Some((_, body)) = text.split_once(BEGIN) else { return Err(other_kind(text)) };
        let (body, _) = body.split_once(END).ok_or(KeyFileError::Corrupt("its end is missing"))?;
        let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
        base64.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
        let container = STANDARD.decode(&*base64).map_err(|_| KeyFileError::Corrupt("it is not base64"))?;
        Self::from_container(Zeroizing::new(container))
    }

    fn from_container(container: Zeroizing<Vec<u8>>) -> Result<Self, KeyFileError> {
        const SHORT: KeyFileError = KeyFileError::Corrupt("it is cut short");
        let mut reader = Reader::new(&container);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(KeyFileError::Corrupt("it is not in the format openssh-key-v1"));
        }
        let cipher = reader.string().ok_or(SHORT)?;
        let kdf = reader.string().ok_or(SHORT)?;
        let mut options = reader.string().map(Reader::new).ok_or(SHORT)?;
        if reader.u32().ok_or(SHORT)? != 1 {
            return Err(KeyFileError::Corrupt("it does not hold exactly one key"));
        }
        let public = PublicKey::from_blob(reader.string().ok_or(SHORT)?).map_err(|e| match e {
            PublicKeyError::UnsupportedType(kind) => KeyFileError::UnsupportedType(kind),
            PublicKeyError::Weak(why) => KeyFileError::Weak(why),
            _ => KeyFileError::Corrupt("its public part can't be read"),
        })?;
        reader.string().ok_or(SHORT)?;

        let protection = match (cipher, kdf) {
            (b"none", b"none") => Protection::None,
            (b"none", _) | (_, b"none") => {
                return Err(KeyFileError::Corrupt("its cipher and its key derivation don't go together"));
            }
            (cipher, b"bcrypt") => {
                options.string().ok_or(SHORT)?; // the salt
                let rounds = options.u32().ok_or(SHORT)?;
                let cipher = super::public_key::type_name(cipher).unwrap_or_else(|| "unknown".to_owned());
                Protection::Passphrase { cipher, rounds }
            }
            _ => return Err(KeyFileError::Corrupt("its key derivation is unknown")),
        };
        Ok(Self { public, protection, container })
    }

    /// The public part; readable without the passphrase.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// How the private part is protected.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Whether it takes a passphrase to use this file.
    pub fn is_protected(&self) -> bool {
        self.protection != Protection::None
    }

    /// Whether [`unlock`](Self::unlock) can work at all: to be asked before a person is asked for the passphrase.
    ///
    /// # Errors
    /// [`KeyFileError::UnsupportedCipher`] and [`KeyFileError::TooManyRounds`].
    pub fn check_unlockable(&self) -> Result<(), KeyFileError> {
        match &self.protection {
            Protection::Passphrase { cipher, .. } if !CIPHERS.contains(&cipher.as_str()) => {
                Err(KeyFileError::UnsupportedCipher(cipher.clone()))
            }
            Protection::Passphrase { rounds, .. } if *rounds > MAX_ROUNDS => {
                Err(KeyFileError::TooManyRounds(*rounds))
            }
            _ => Ok(()),
        }
    }

    /// Decrypts the private part. The passphrase is not looked at where the file is not protected.
    ///
    /// Takes 0.15 s of CPU at 16 bcrypt rounds, in proportion to the rounds.
    ///
    /// # Errors
    /// [`KeyFileError::WrongPassphrase`], those of [`check_unlockable`](Self::check_unlockable), and damage.
    pub fn unlock(&self, passphrase: &SecretString) -> Result<UnlockedKey, KeyFileError> {
        self.check_unlockable()?;
        let unlocked = self.unlock_on_this_stack(passphrase);
        wipe_stack();
        unlocked
    }

    // Not inlined, so that its frames lie where wipe_stack's frame will lie: ssh-key returns keys by value and leaves
    // 2-3 copies of the seed in them (sealed-format-v2.md, "Measured while designing").
    #[inline(never)]
    fn unlock_on_this_stack(&self, passphrase: &SecretString) -> Result<UnlockedKey, KeyFileError> {
        let damaged = |_| KeyFileError::Corrupt("its private part can't be read");
        let locked = ssh_key::PrivateKey::from_bytes(&self.container).map_err(damaged)?;
        let key = match &self.protection {
            Protection::None => locked,
            Protection::Passphrase { .. } => {
                locked.decrypt(passphrase.expose_secret()).map_err(|e| match e {
                    ssh_key::Error::PublicKey => KeyFileError::PublicPartDiffers,
                    // A wrong passphrase gives wrong check numbers, or a tag that doesn't match.
                    _ => KeyFileError::WrongPassphrase,
                })?
            }
        };
        let pair = key.key_data().ed25519().ok_or(KeyFileError::PublicPartDiffers)?;
        UnlockedKey::from_seed(pair.private.as_ref(), &self.public)
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({}, {:?})", self.public.key_id(), self.protection)
    }
}

impl UnlockedKey {
    /// From the 32-byte seed of RFC 8032 and the public key that it has to give.
    ///
    /// # Errors
    /// [`KeyFileError::PublicPartDiffers`].
    pub fn from_seed(seed: &[u8; 32], public: &PublicKey) -> Result<Self, KeyFileError> {
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public.as_bytes())
            .map_err(|_| KeyFileError::PublicPartDiffers)?;
        // aws-lc checks this too; signing with a public part of somebody's choice would give the seed away, so twice.
        if pair.public_key().as_ref() != public.as_bytes() {
            return Err(KeyFileError::PublicPartDiffers);
        }
        Ok(Self { pair, public: *public })
    }

    /// The public part.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The deterministic signature of RFC 8032 over `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut raw = [0; 64];
        raw.copy_from_slice(self.pair.sign(message).as_ref());
        let signature = Signature::from_bytes(&raw);
        raw.zeroize();
        signature
    }
}

impl fmt::Debug for UnlockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnlockedKey({})", self.public.key_id())
    }
}

/// Overwrites the part of the stack that the calls before it used.
#[inline(never)]
fn wipe_stack() {
    let mut frame = [0xA5_u8; 64 * 1024];
    frame.zeroize();
    black_box(&mut frame);
}

fn other_kind(text: &str) -> KeyFileError {
    let Some((_, after)) = text.split_once("-----BEGIN ") else {
        return match () {
            () if text.trim_start().starts_with("PuTTY-User-Key-File-") => KeyFileError::Putty,
            () if text.starts_with("SSH PRIVATE KEY FILE FORMAT 1.1") => {
                KeyFileError::Pem("SSH protocol 1".to_owned())
            }
            () if text.starts_with("---- BEGIN SSH2 PUBLIC KEY ----") => KeyFileError::PublicKey,
            () => match PublicKey::parse_line(text) {
                Ok(_) | Err(PublicKeyError::UnsupportedType(_)) => KeyFileError::PublicKey,
                Err(PublicKeyError::Weak(why)) => KeyFileError::Weak(why),
                Err(_) => KeyFileError::NotAKey,
            },
        };
    };
    let label = after.split_once("-----").map_or("", |(label, _)| label);
    let named = label.strip_suffix(" PRIVATE KEY").filter(|n| n.len() < 20 && n.is_ascii());
    match (label, named) {
        ("PRIVATE KEY" | "ENCRYPTED PRIVATE KEY", _) => KeyFileError::Pkcs8,
        (_, Some(name)) => KeyFileError::Pem(name.chars().filter(|c| !c.is_control()).collect()),
        ("PUBLIC KEY" | "RSA PUBLIC KEY", _) => KeyFileError::PublicKey,
        _ => KeyFileError::NotAKey,
    }
}

/// A path as it can be pasted into a POSIX shell.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-~+@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
