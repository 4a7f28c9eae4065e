//! SSH formats: public keys and fingerprints, private-key files, agent messages, the SSHSIG blob.
//!
//! Encoding and decoding only. Files, sockets and prompts belong to the callers, which hand in bytes.

pub mod agent;
pub mod key_file;
pub mod login;
pub mod public_key;
pub mod sshsig;
pub(crate) mod wire;

pub use key_file::{KeyFile, KeyFileError, UnlockedKey};
pub use public_key::{KeyId, PublicKey, PublicKeyError, Signature};
