//! The one-time link of `serve --dev`: printed at start, good once, for ten minutes, from this machine only. What waits for it
//! is a flow in the store.

use std::net::IpAddr;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_store::FlowKind;
use secrecy::{ExposeSecret, SecretString};

use super::error::{LoginError, RejectReason};
use super::flow::FirstStep;
use super::source::{AttemptRoute, Dialogue, IdentitySource, Offer, Sought, identity};

/// The issuer of its one person.
pub const ISSUER: &str = "dev";
/// Its id among the offers.
pub const OFFER: &str = "dev-link";

const SUBJECT: &str = "admin";
/// How long the link may be used.
const LASTS_MS: i64 = 10 * 60 * 1000;

/// Sign-in by the link. Exists with `--dev` only.
#[derive(Clone, Copy, Debug)]
pub struct DevLink;

impl DevLink {
    /// What waits for the link of this secret, of 256 random bits.
    pub fn first_step(self, secret: &SecretString, now_ms: i64) -> FirstStep<'_> {
        FirstStep {
            kind: FlowKind::DevLink,
            source: OFFER,
            id: secret.expose_secret(),
            address: None,
            browser: None,
            data: b"",
            begun_ms: now_ms,
            lasts_ms: LASTS_MS,
        }
    }

    /// Whether the link may be used from this address at all.
    pub fn is_for(self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback()
    }

    /// Whom the link signs in.
    pub fn admin(self) -> Identity {
        identity(ISSUER, SUBJECT, SUBJECT, [Group::named(ISSUER, "admins")], Method::DevLink)
    }
}

impl IdentitySource for DevLink {
    fn issuer(&self) -> Option<&str> {
        Some(ISSUER)
    }

    fn offer(&self) -> Offer {
        Offer { id: OFFER.to_owned(), method: Method::DevLink, label: "One-time link".to_owned() }
    }

    fn attempts(&self) -> Vec<AttemptRoute> {
        vec![AttemptRoute::sent("/sign-in/dev")]
    }

    fn dialogue(&self) -> Dialogue<'_> {
        Dialogue::Challenge { arguments: None }
    }

    fn lookup<'a>(&'a self, sought: Sought<'a>) -> BoxFuture<'a, Result<Identity, LoginError>> {
        let known = sought.subject == SUBJECT;
        let admin = known.then(|| Identity { method: sought.method, ..self.admin() });
        std::future::ready(admin.ok_or(LoginError::Refused(RejectReason::UnknownPerson))).boxed()
    }
}
