//! SSH keys in the directory (`sshPublicKey`).
//!
//! Directories compare these values byte by byte (octetStringMatch), and most hold a comment of the person's, so a key
//! can't be searched for by its value alone. What matches byte by byte is asked for; besides, all key values are read now and
//! then, and the entry that one points to is read anew before it is believed.

use std::collections::{BTreeMap, HashMap};

use iam_sorry_core::ssh::{KeyId, PublicKey};
use iam_sorry_core::timestamp::Timestamp;
use ldap3::Scope;
use tokio::sync::Mutex;

use super::account::{self, Account};
use super::connection::{Failure, Query};
use super::escape::{fold, in_filter};
use super::{Directory, LoginError, Why};

/// A key that is not known yet makes the service read all of them again, but not more often than this.
const NOT_AGAIN_WITHIN: i64 = 30;
/// Read again after this time in any case.
const OLD: i64 = 600;
/// More people with keys than any department has.
const MOST_PEOPLE: i32 = 200_000;

/// Whose key is whose, as it was when it was read.
#[derive(Default)]
pub(super) struct KeyIndex(Mutex<Read>);

#[derive(Default)]
struct Read {
    at: Option<Timestamp>,
    by_key: HashMap<KeyId, Vec<String>>,
}

impl Directory {
    /// The one account that has the key among its values, read now.
    pub(super) async fn account_of_key(
        &self,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<Account, LoginError> {
        let mut accounts = BTreeMap::new();
        for dn in self.bearers(key, now).await? {
            // Gone, or no longer among those who may sign in: not a bearer.
            let account = match self.account(&dn, now).await {
                Err(LoginError::Refused(Why::UnknownPerson)) => continue,
                other => other?,
            };
            if account.ssh_keys.iter().any(|line| is(line, key)) {
                accounts.insert(account.subject.clone(), account);
            }
        }
        let first = accounts.pop_first();
        match (first, accounts.is_empty()) {
            (Some((_, account)), true) => Ok(account),
            (Some(_), false) => Err(LoginError::Refused(Why::SeveralPeople)),
            (None, _) => Err(LoginError::Refused(Why::UnknownKey)),
        }
    }

    /// DNs of the entries that may have the key.
    async fn bearers(&self, key: &PublicKey, now: Timestamp) -> Result<Vec<String>, LoginError> {
        let attribute = &self.settings.ssh_key_attribute;
        let query = Query {
            base: &self.settings.users_base,
            scope: Scope::Subtree,
            filter: self.user_filter(attribute, &in_filter(&key.to_line(""))),
            attributes: vec!["1.1".to_owned()],
            limit: 2,
        };
        let exact = match self.connections.search(&query).await {
            Err(Failure::TooMany) => return Err(LoginError::Refused(Why::SeveralPeople)),
            other => other?,
        };
        let mut dns: Vec<String> = exact.into_iter().map(|entry| entry.dn).collect();
        let mut read = self.keys.0.lock().await;
        let known = !dns.is_empty() || read.by_key.contains_key(&key.key_id());
        let age = read.at.map_or(i64::MAX, |at| now.seconds_after(at).abs());
        if age >= if known { OLD } else { NOT_AGAIN_WITHIN } {
            // Also where it fails: a directory that can't answer this is not asked for it all the time.
            read.at = Some(now);
            match self.read_keys().await {
                Ok(by_key) => read.by_key = by_key,
                Err(Failure::Connection(what)) => {
                    read.at = None;
                    return Err(LoginError::Unavailable(what));
                }
                Err(failure) => tracing::warn!(
                    %failure,
                    "the directory does not let the service read all SSH keys; only those without a comment are found \
                     (OpenLDAP: raise the size limit of the account that searches, olcLimits)"
                ),
            }
        }
        dns.extend(read.by_key.get(&key.key_id()).into_iter().flatten().cloned());
        let mut seen = std::collections::BTreeSet::new();
        dns.retain(|dn| seen.insert(fold(dn)));
        Ok(dns)
    }

    async fn read_keys(&self) -> Result<HashMap<KeyId, Vec<String>>, Failure> {
        let attribute = &self.settings.ssh_key_attribute;
        let query = Query {
            base: &self.settings.users_base,
            scope: Scope::Subtree,
            filter: format!("(&{}({attribute}=*))", self.settings.user_filter()),
            attributes: vec![attribute.clone()],
            limit: MOST_PEOPLE,
        };
        let mut by_key: HashMap<KeyId, Vec<String>> = HashMap::new();
        for entry in self.connections.search_all(&query).await? {
            for line in account::texts(&entry, attribute) {
                if let Ok((key, _)) = PublicKey::parse_line(&line) {
                    by_key.entry(key.key_id()).or_default().push(entry.dn.clone());
                }
            }
        }
        Ok(by_key)
    }
}

/// Only plain lines count: one with options (`from=...`, `restrict`) restricts the key in ways that are sshd's.
fn is(line: &str, key: &PublicKey) -> bool {
    PublicKey::parse_line(line).is_ok_and(|(found, _)| found == *key)
}
