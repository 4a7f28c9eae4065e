//! The one door for Ed25519 public keys: bytes become an [`Ed25519PublicKey`] by [`Ed25519PublicKey::parse`] or not at all,
//! so no signature is ever verified, and nothing sealed, with a key that anybody can sign for.
//!
//! Verification (RFC 8032, section 5.1.7, and AWS-LC) takes any point for a key. Under one of small order, R = the neutral
//! element and S = 0 verify for every message, or for every eighth at worst: no private key is needed. Encodings with
//! y >= p are other spellings of a key, with other fingerprints; whether they are read differs between implementations
//! (AWS-LC's assembly refuses them today), so they are refused here.
//!
//! What is not refused, and why that is safe:
//! - *Points of mixed order* (a proper point plus one of small order). A signature under A + T gives one under the proper
//!   point 8·A (multiply the equation by the cofactor), so it still takes A's private key.
//! - *Bytes that are no point*: nothing verifies under them.
//!
//! Signatures are not malleable: AWS-LC refuses S >= L and compares R byte by byte.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

/// A public key that takes its private key to sign for, in its one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ed25519PublicKey([u8; 32]);

/// Why bytes are no key that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// One of the eight points of small order: anybody can sign for it.
    #[error("its point has a small order, so anybody can sign for it")]
    SmallOrder,
    /// y >= p: a second spelling of another key.
    #[error("it is not in the one encoding that RFC 8032 allows")]
    NotCanonical,
}

/// y of the points of small order, canonical and little-endian; each stands for both signs of x. From the order:
/// 1 (order 1), p - 1 (order 2), 0 (order 4), and the two of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// The canonical encodings of the points of small order, both signs: for telling that something was made for one of them
/// before they were refused.
pub(crate) fn small_order_encodings() -> impl Iterator<Item = [u8; 32]> {
    SMALL_ORDER.into_iter().flat_map(|y| {
        let mut other_sign = y;
        other_sign[31] |= 0x80;
        [y, other_sign]
    })
}

impl Ed25519PublicKey {
    /// From the 32 bytes of RFC 8032, section 5.1.2.
    ///
    /// # Errors
    /// [`WeakKey`].
    pub fn parse(bytes: [u8; 32]) -> Result<Self, WeakKey> {
        let mut y = bytes;
        y[31] &= 0x7f; // the sign of x
        // p = 2^255 - 19. x = 0 with its sign set is not canonical either, but only at y = 1 and y = p - 1.
        if y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff) && y[0] >= 0xed {
            return Err(WeakKey::NotCanonical);
        }
        if SMALL_ORDER.contains(&y) {
            return Err(WeakKey::SmallOrder);
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` over `message` was made with the private key.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R is the neutral element and S is 0: verifies wherever the hash of the message times the key is the neutral element.
    fn forged_with_the_library(key: &[u8; 32]) -> bool {
        let mut signature = [0; 64];
        signature[0] = 1;
        let forges =
            |n: u32| UnparsedPublicKey::new(&ED25519, key).verify(&n.to_be_bytes(), &signature).is_ok();
        (0..500).any(forges)
    }

    fn with_sign(mut y: [u8; 32]) -> [u8; 32] {
        y[31] |= 0x80;
        y
    }

    /// p + n, for n below 19.
    fn p_plus(n: u8) -> [u8; 32] {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (0xed + n, 0x7f);
        y
    }

    #[test]
    fn every_key_that_the_library_would_let_anybody_sign_for_is_refused() {
        let mut forged = 0;
        for y in SMALL_ORDER {
            for key in [y, with_sign(y)] {
                assert_eq!(Ed25519PublicKey::parse(key), Err(WeakKey::SmallOrder), "{key:02x?}");
                forged += u32::from(forged_with_the_library(&key));
            }
        }
        // 1 and p - 1 have x = 0, which has no sign: the library knows that.
        assert_eq!(forged, 8, "all points of small order, and nothing else, are in the table");
    }

    #[test]
    fn a_key_has_one_encoding() {
        for n in 0..19 {
            for key in [p_plus(n), with_sign(p_plus(n))] {
                assert_eq!(Ed25519PublicKey::parse(key), Err(WeakKey::NotCanonical), "p + {n}");
            }
        }
        // p - 2, 2 and others are as good as any.
        let mut below = p_plus(0);
        below[0] -= 2;
        let mut two = [0; 32];
        two[0] = 2;
        for key in [below, two, with_sign(below), [7; 32], [0xff; 32].map(|_| 0xfe)] {
            assert!(Ed25519PublicKey::parse(key).is_ok(), "{key:02x?}");
        }
    }

    #[test]
    fn a_proper_key_is_not_forged_and_its_signatures_are_not_malleable() {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a key");
        let key = Ed25519PublicKey::parse(pair.public_key().as_ref().try_into().expect("32 bytes"));
        let key = key.expect("a proper key");
        assert!(!forged_with_the_library(key.as_bytes()));
        let mut signature: [u8; 64] = pair.sign(b"message").as_ref().try_into().expect("64 bytes");
        assert!(key.verify(b"message", &signature));
        // S + L: the same number to whoever reduces it.
        const L: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0_u16;
        for (byte, more) in signature[32..].iter_mut().zip(L) {
            carry += u16::from(*byte) + u16::from(more);
            *byte = u8::try_from(carry & 0xff).expect("a byte");
            carry >>= 8;
        }
        assert!(!key.verify(b"message", &signature), "S >= L");
    }
}
