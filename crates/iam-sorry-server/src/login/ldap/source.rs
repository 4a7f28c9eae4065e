//! A directory as a source of identities.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use iam_sorry_core::identity::{Identity, Method};

use super::directory::Directory;
use crate::login::error::LoginError;
use crate::login::source::{AttemptRoute, Dialogue, IdentitySource, Offer, Purpose, Sought};

impl IdentitySource for Directory {
    fn issuer(&self) -> Option<&str> {
        Some(Self::issuer(self))
    }

    fn offer(&self) -> Offer {
        let id = Self::issuer(self).to_owned();
        Offer { id, method: Method::Ldap, label: "Directory account".to_owned() }
    }

    fn attempts(&self) -> Vec<AttemptRoute> {
        vec![AttemptRoute::all("/api/v1/login/ldap"), AttemptRoute::sent("/sign-in")]
    }

    fn dialogue(&self) -> Dialogue<'_> {
        Dialogue::Password(self)
    }

    fn lookup<'a>(&'a self, sought: Sought<'a>) -> BoxFuture<'a, Result<Identity, LoginError>> {
        let Sought { subject, method, purpose, now } = sought;
        match purpose {
            Purpose::SignIn => self.person(subject, method, now).boxed(),
            Purpose::Recheck => self.signed_in_person(subject, method, now).boxed(),
        }
    }
}
