//! Sign-in by password: search for the person, then bind as them.
//!
//! An unknown name costs the same operations as a known one with a wrong password, one search and one bind, and takes as long
//! (CVE-2025-6011).

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::timestamp::Timestamp;
use ldap3::SearchEntry;
use secrecy::SecretString;
use tokio::time::{Instant, sleep_until};

use super::connection::Bind;
use super::directory::Directory;
use super::escape::{LoginName, fold, fold_login, in_filter};
use super::{account, decoy};
use crate::login::error::{LoginError, RejectReason};
use crate::login::limits::CountedAs;
use crate::login::source::{Candidate, PasswordDialogue};

impl Directory {
    /// Looks for the person of a login name: one search, also for what no person can be called.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`]
    pub async fn find(&self, typed: &str) -> Result<Candidate, LoginError> {
        let name = LoginName::parse(typed);
        let sought = name.as_ref().map_or(decoy::NAME, LoginName::as_str);
        let filter = self.user_filter(self.settings.name_attribute(), &in_filter(sought));
        let attributes =
            vec![self.settings.name_attribute().to_owned(), self.settings.subject_attribute().to_owned()];
        let entry = self.one(&filter, attributes).await?;
        let found = match (&name, entry) {
            (None, _) => Err(RejectReason::ImpossibleName),
            (Some(name), Ok(entry)) if self.is_called(&entry, name) => Ok(entry),
            // Some directories find people also without the accents of their letters. A name that is counted as somebody
            // typed it can't be somebody's, or its counter would tell that it is.
            (Some(_), Ok(_)) => Err(RejectReason::UnknownPerson),
            (Some(_), Err(why)) => Err(why),
        };
        let counted_as = match &found {
            Ok(entry) => CountedAs::Person(self.id_of_person(entry)),
            Err(_) => CountedAs::Typed(fold_login(&typed.chars().take(256).collect::<String>())),
        };
        let name = name.map(|name| fold_login(name.as_str())).unwrap_or_default();
        Ok(Candidate { found: found.map(|entry| entry.dn), counted_as, name })
    }

    fn is_called(&self, entry: &SearchEntry, name: &LoginName) -> bool {
        let typed = fold_login(name.as_str());
        let names = account::texts(entry, self.settings.name_attribute());
        names.iter().any(|value| fold_login(value) == typed)
    }

    fn id_of_person(&self, entry: &SearchEntry) -> String {
        let id = account::id_of(self.settings.kind, self.settings.subject_attribute(), entry);
        format!("{}/{}", self.settings.name, id.unwrap_or_else(|| fold(&entry.dn)))
    }

    /// Proves a password: one bind, and where it is right, what the directory says of the account and its groups. For a
    /// name that is nobody's, one bind as well, as the decoy, which takes as long as binds of people take.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn prove(
        &self,
        candidate: &Candidate,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<Identity, LoginError> {
        let dn = match &candidate.found {
            Ok(dn) => dn,
            Err(why) => {
                self.decoy_bind(password).await?;
                return Err(LoginError::Refused(*why));
            }
        };
        let begun = Instant::now();
        match self.connections.bind(dn, password).await? {
            Bind::Accepted => {}
            Bind::Refused { code, text } => {
                self.binds.refused_after(begun.elapsed());
                tracing::debug!(code, text, "the directory refuses a password");
                return Err(LoginError::Refused(reason(&text)));
            }
        }
        // Read again: what has changed by the bind (a lock that ran out), and what the search was not asked for.
        let account = self.account(dn, now).await?;
        self.person_of(account, Method::Ldap).await
    }

    /// A bind that proves nothing, whatever comes of it.
    async fn decoy_bind(&self, password: &SecretString) -> Result<(), LoginError> {
        let begun = Instant::now();
        let (dn, padding) = match &self.settings.decoy_dn {
            Some(dn) => (dn.clone(), Duration::ZERO),
            None => {
                let attribute = self.settings.name_attribute();
                (format!("{attribute}={},{}", decoy::NAME, self.settings.users_base), self.binds.one())
            }
        };
        self.connections.bind(&dn, password).await?;
        sleep_until(begun + padding).await;
        Ok(())
    }
}

impl PasswordDialogue for Directory {
    fn find<'a>(&'a self, typed: &'a str) -> BoxFuture<'a, Result<Candidate, LoginError>> {
        Self::find(self, typed).boxed()
    }

    fn prove<'a>(
        &'a self,
        candidate: &'a Candidate,
        password: &'a SecretString,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Identity, LoginError>> {
        Self::prove(self, candidate, password, now).boxed()
    }
}

/// What Active Directory means by a refused bind: the text has `data`, a Windows error in hexadecimal (MS-ERREF).
fn reason(text: &str) -> RejectReason {
    let data = text.split("data ").nth(1).map(|rest| rest.split([',', ' ']).next().unwrap_or(""));
    match data {
        Some("533") => RejectReason::Disabled,
        Some("701") => RejectReason::Expired,
        Some("775") => RejectReason::Locked,
        Some("532" | "773") => RejectReason::PasswordExpired,
        _ => RejectReason::WrongPassword,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_active_directory_means() {
        let of = |data: &str| {
            reason(&format!("80090308: LdapErr: DSID-0C090400, comment: error, data {data}, v1db1"))
        };
        assert_eq!(
            [of("52e"), of("533"), of("775")],
            [RejectReason::WrongPassword, RejectReason::Disabled, RejectReason::Locked]
        );
        assert_eq!(reason(""), RejectReason::WrongPassword);
    }
}
