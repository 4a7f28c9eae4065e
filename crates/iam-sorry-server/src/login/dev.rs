//! The one-time link of `serve --dev`: printed at start, good once, for ten minutes, from this machine only.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use secrecy::{ExposeSecret, SecretString};

use super::{LoginError, RejectReason};

/// How long it may be used.
const LASTS_MS: i64 = 10 * 60 * 1000;

/// The link's secret, hashed. Exists with `--dev` only.
pub struct DevLink(Mutex<Option<Waiting>>);

struct Waiting {
    hash: [u8; 32],
    expires_ms: i64,
}

impl DevLink {
    /// For a secret of 256 random bits.
    pub fn new(secret: &SecretString, now_ms: i64) -> Self {
        Self(Mutex::new(Some(Waiting { hash: hash(secret), expires_ms: now_ms + LASTS_MS })))
    }

    /// Uses the link up. A wrong secret doesn't: else anybody on the machine could take it away.
    ///
    /// # Errors
    /// [`RejectReason::Link`]
    pub fn redeem(
        &self,
        secret: &SecretString,
        address: IpAddr,
        now_ms: i64,
    ) -> Result<Identity, LoginError> {
        let refused = LoginError::Refused(RejectReason::Link);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = waiting.as_ref().is_some_and(|waiting| {
            now_ms < waiting.expires_ms && verify_slices_are_equal(&waiting.hash, &hash(secret)).is_ok()
        });
        if !good || !address.to_canonical().is_loopback() {
            return Err(refused);
        }
        *waiting = None;
        Ok(super::identity("dev", "admin", "admin", [Group::named("dev", "admins")], Method::DevLink))
    }
}

fn hash(secret: &SecretString) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.expose_secret().as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_from_here_and_soon() {
        let (secret, wrong) = (SecretString::from("right"), SecretString::from("wrong"));
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let link = DevLink::new(&secret, 0);
        assert!(link.redeem(&wrong, here, 1).is_err());
        assert!(link.redeem(&secret, "192.0.2.1".parse().unwrap(), 1).is_err());
        assert!(link.redeem(&secret, here, LASTS_MS).is_err());
        let identity = link.redeem(&secret, "::1".parse().unwrap(), LASTS_MS - 1).unwrap();
        assert_eq!(
            (identity.id().as_str(), identity.groups.labels()),
            ("dev/admin", vec!["admins".to_owned()])
        );
        assert!(link.redeem(&secret, here, 1).is_err(), "a second time");
    }
}
