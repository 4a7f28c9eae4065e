//! What the tests of signing in share.
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]

pub mod directory;

use iam_sorry_core::ssh::PublicKey;

/// A public key that nobody has the private half of.
pub fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}
