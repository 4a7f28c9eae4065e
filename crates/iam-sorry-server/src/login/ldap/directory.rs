//! A directory, its people and their accounts, as it says now.

use std::sync::Arc;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::timestamp::Timestamp;
use ldap3::{Scope, SearchEntry};

use super::account::{self, Account};
use super::connection::{Connections, Query};
use super::decoy::BindTimes;
use super::escape::{self, in_filter};
use super::failure::Failure;
use super::key_index::KeyIndex;
use super::settings::LdapSettings;
use crate::login::error::{LoginError, RejectReason, SettingsError};
use crate::login::source::identity;

/// The directory. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    pub(super) settings: Arc<LdapSettings>,
    pub(super) connections: Connections,
    pub(super) keys: Arc<KeyIndex>,
    pub(super) binds: Arc<BindTimes>,
}

impl Directory {
    /// From checked settings. Reads the password and the CA file; connects when it is needed.
    ///
    /// # Errors
    /// [`SettingsError`] if these can't be read.
    pub fn new(settings: LdapSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let password = match &settings.bind_password {
            None => None,
            Some(reference) => Some(
                reference
                    .read()
                    .map_err(|error| SettingsError::new("login.ldap.bind_password", &error.to_string()))?,
            ),
        };
        let connections = Connections::new(&settings, password)?;
        Ok(Self { settings: Arc::new(settings), connections, keys: Arc::default(), binds: Arc::default() })
    }

    /// Why the directory did not answer the last request, if so.
    pub fn problem(&self) -> Option<String> {
        self.connections.problem()
    }

    /// Whether groups come from this directory.
    pub fn has_groups(&self) -> bool {
        self.settings.groups_base.is_some()
    }

    /// The issuer of the identities that it gives.
    pub fn issuer(&self) -> &str {
        &self.settings.name
    }

    /// The person of a subject, as they are now.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::UnknownPerson`] if there is none any more.
    pub async fn person(
        &self,
        subject: &str,
        method: Method,
        now: Timestamp,
    ) -> Result<Identity, LoginError> {
        let account = self.account_of_subject(subject, now).await?;
        self.person_of(account, method).await
    }

    /// The same for who is signed in already. A lock is ignored: anybody's wrong passwords lock an account for a while, and
    /// that must neither end what its owner has open nor keep their groups as they were.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::UnknownPerson`] if there is none any more.
    pub async fn signed_in_person(
        &self,
        subject: &str,
        method: Method,
        now: Timestamp,
    ) -> Result<Identity, LoginError> {
        let mut account = self.account_of_subject(subject, now).await?;
        account.barred = account.barred.filter(|why| *why != RejectReason::Locked);
        self.person_of(account, method).await
    }

    async fn account_of_subject(&self, subject: &str, now: Timestamp) -> Result<Account, LoginError> {
        let attribute = self.settings.subject_attribute();
        let value = match account::guid_bytes(subject) {
            Some(bytes) if attribute.eq_ignore_ascii_case("objectGUID") => escape::bytes_in_filter(&bytes),
            _ => in_filter(subject),
        };
        let filter = self.user_filter(attribute, &value);
        let entry =
            self.one(&filter, account::attributes(&self.settings)).await?.map_err(LoginError::Refused)?;
        let account = self.read(&entry, now)?;
        if account.subject != subject {
            return Err(LoginError::Broken(format!("{} was found under another's subject", account.dn)));
        }
        Ok(account)
    }

    /// Tries the connection, the service's own account and the bases (`check-config --online`).
    ///
    /// # Errors
    /// [`LoginError`] with what the directory said.
    pub async fn try_out(&self) -> Result<(), LoginError> {
        let bases = [Some(&self.settings.users_base), self.settings.groups_base.as_ref()];
        for base in bases.into_iter().flatten() {
            let query = Query {
                base,
                scope: Scope::Base,
                filter: "(objectClass=*)".to_owned(),
                attributes: vec!["1.1".to_owned()],
                limit: 1,
            };
            if self.connections.search(&query).await?.is_empty() {
                return Err(LoginError::Broken(format!(
                    "{base} is not there, or the account that searches may not see it"
                )));
            }
        }
        Ok(())
    }

    pub(super) async fn account(&self, dn: &str, now: Timestamp) -> Result<Account, LoginError> {
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter: self.settings.user_filter().to_owned(),
            attributes: account::attributes(&self.settings),
            limit: 1,
        };
        match self.connections.search(&query).await?.as_slice() {
            [entry] => self.read(entry, now),
            _ => Err(LoginError::Refused(RejectReason::UnknownPerson)),
        }
    }

    pub(super) fn read(&self, entry: &SearchEntry, now: Timestamp) -> Result<Account, LoginError> {
        Account::read(&self.settings, entry, now).map_err(LoginError::Broken)
    }

    pub(super) async fn person_of(&self, account: Account, method: Method) -> Result<Identity, LoginError> {
        if let Some(why) = account.barred {
            return Err(LoginError::Refused(why));
        }
        let groups = self.groups_of(&account).await?;
        Ok(identity(&self.settings.name, &account.subject, &account.name, groups, method))
    }

    pub(super) fn user_filter(&self, attribute: &str, escaped: &str) -> String {
        format!("(&{}({attribute}={escaped}))", self.settings.user_filter())
    }

    /// The one entry under `users_base` that matches; none and several are told apart for the audit trail only.
    pub(super) async fn one(
        &self,
        filter: &str,
        attributes: Vec<String>,
    ) -> Result<Result<SearchEntry, RejectReason>, LoginError> {
        let query = Query {
            base: &self.settings.users_base,
            scope: Scope::Subtree,
            filter: filter.to_owned(),
            attributes,
            limit: 2,
        };
        let mut entries = match self.connections.search(&query).await {
            Err(Failure::TooMany) => return Ok(Err(RejectReason::SeveralPeople)),
            other => other?,
        };
        Ok(match (entries.pop(), entries.pop()) {
            (Some(entry), None) => Ok(entry),
            (Some(_), Some(_)) => Err(RejectReason::SeveralPeople),
            (None, _) => Err(RejectReason::UnknownPerson),
        })
    }
}
