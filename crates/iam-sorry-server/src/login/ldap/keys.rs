//! SSH keys in the directory (`sshPublicKey`).
//!
//! Directories compare these values byte by byte (octetStringMatch), and most hold a comment of the person's, so a key
//! can't be searched for by its value alone. What matches byte by byte is asked for; besides, all key values are read now and
//! then, and the entry that one points to is read anew before it is believed.

use std::collections::HashMap;
use std::sync::Arc;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::{KeyId, PublicKey};
use iam_sorry_core::timestamp::Timestamp;
use ldap3::Scope;

use super::account::{self, Account};
use super::connection::Query;
use super::directory::Directory;
use super::escape::{LoginName, fold, in_filter};
use super::failure::Failure;
use crate::login::error::{LoginError, RejectReason};

/// A key that is not known yet makes the service read all of them again, but not more often than this.
const NOT_AGAIN_WITHIN: i64 = 30;
/// Read again after this time in any case.
const OLD: i64 = 600;
/// More people with keys than any department has.
const MOST_PEOPLE: i32 = 200_000;
/// With more entries than this that claim one key, the person must say who they are.
const MOST_HOLDERS: usize = 16;

/// An entry that has a certain SSH key.
#[derive(Clone, Debug)]
pub struct KeyHolder(Account);

impl KeyHolder {
    /// The person's stable name in this directory.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Their login name, folded.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl Directory {
    /// Who has this SSH key in their entry, as the directory says now: several people if somebody copied another's. With a
    /// login name only its entry is looked at, so nobody's copy keeps the key's owner out.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::SeveralPeople`] if there are too many to tell apart.
    pub async fn holders_of_key(
        &self,
        key: &PublicKey,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<KeyHolder>, LoginError> {
        let accounts = match name {
            None => self.accounts_of_key(key, now).await?,
            Some(name) => {
                let account = self.account_of_name(name, now).await?;
                account.into_iter().filter(|account| has_key(account, key)).collect()
            }
        };
        Ok(accounts.into_iter().map(KeyHolder).collect())
    }

    /// The person of an entry that has the key, with their groups.
    ///
    /// # Errors
    /// [`LoginError`] if the account may not sign in.
    pub async fn person_of_holder(&self, holder: KeyHolder) -> Result<Identity, LoginError> {
        let name = holder.0.raw_name.clone();
        let (person, alone) =
            tokio::join!(self.person_of(holder.0, Method::SshKey), self.has_one_person(&name));
        let person = person?;
        alone?;
        Ok(person)
    }

    /// Rules and namespaces name people by their login names. Who may make an entry somewhere below the base could give it
    /// anybody's, so one that several entries have is nobody's, as at a sign-in by password.
    async fn has_one_person(&self, name: &str) -> Result<(), LoginError> {
        let filter = self.user_filter(self.settings.name_attribute(), &in_filter(name));
        self.one(&filter, vec!["1.1".to_owned()]).await?.map(drop).map_err(LoginError::Refused)
    }

    async fn account_of_name(&self, typed: &str, now: Timestamp) -> Result<Option<Account>, LoginError> {
        let Some(name) = LoginName::parse(typed) else { return Ok(None) };
        let filter = self.user_filter(self.settings.name_attribute(), &in_filter(name.as_str()));
        match self.one(&filter, account::attributes(&self.settings)).await? {
            Ok(entry) => self.read(&entry, now).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The accounts that have the key among their values, read now. A value is a claim: whoever may write their own entry
    /// can put anybody's public key there, so there may be several.
    async fn accounts_of_key(&self, key: &PublicKey, now: Timestamp) -> Result<Vec<Account>, LoginError> {
        let mut accounts: Vec<Account> = Vec::new();
        let bearers = self.bearers(key, now).await?;
        if bearers.len() > MOST_HOLDERS {
            return Err(LoginError::Refused(RejectReason::SeveralPeople));
        }
        for dn in bearers {
            // Gone, or no longer among those who may sign in: not a bearer.
            let account = match self.account(&dn, now).await {
                Err(LoginError::Refused(RejectReason::UnknownPerson)) => continue,
                // Nobody signs in by an entry that can't be read as a person's, so it claims nothing.
                Err(LoginError::Broken(problem)) => {
                    tracing::warn!(problem, "an entry with an SSH key is nobody's");
                    continue;
                }
                other => other?,
            };
            if has_key(&account, key) && accounts.iter().all(|other| other.subject != account.subject) {
                accounts.push(account);
            }
        }
        Ok(accounts)
    }

    /// DNs of the entries that may have the key.
    async fn bearers(&self, key: &PublicKey, now: Timestamp) -> Result<Vec<String>, LoginError> {
        let attribute = &self.settings.ssh_key_attribute;
        let query = Query {
            base: &self.settings.users_base,
            scope: Scope::Subtree,
            filter: self.user_filter(attribute, &in_filter(&key.to_line(""))),
            attributes: vec!["1.1".to_owned()],
            limit: i32::try_from(MOST_HOLDERS).unwrap_or(i32::MAX),
        };
        let exact = match self.connections.search(&query).await {
            Err(Failure::TooMany) => return Err(LoginError::Refused(RejectReason::SeveralPeople)),
            other => other?,
        };
        let mut dns: Vec<String> = exact.into_iter().map(|entry| entry.dn).collect();
        if let Err(failure) = self.renew_keys(key, !dns.is_empty(), now).await {
            match failure {
                Failure::Connection(what) | Failure::Hangs(what) => {
                    return Err(LoginError::Unavailable(what));
                }
                other => tracing::warn!(
                    failure = %other,
                    "the directory does not let the service read all SSH keys; only those without a comment are found \
                     (OpenLDAP: raise the size limit of the account that searches, olcLimits)"
                ),
            }
        }
        dns.extend(self.keys.read().by_key.get(&key.key_id()).into_iter().flatten().cloned());
        let mut seen = std::collections::BTreeSet::new();
        dns.retain(|dn| seen.insert(fold(dn)));
        Ok(dns)
    }

    /// Reads all keys again if it is time; who comes meanwhile waits for the same reading.
    async fn renew_keys(&self, key: &PublicKey, found: bool, now: Timestamp) -> Result<(), Failure> {
        let read = self.keys.read().clone();
        let known = found || read.by_key.contains_key(&key.key_id());
        let age = read.at.map_or(i64::MAX, |at| now.seconds_after(at).abs());
        if age < if known { OLD } else { NOT_AGAIN_WITHIN } {
            return Ok(());
        }
        let directory = self.clone();
        let read = self.keys.reading.run(|| async move { directory.read_all_keys(now).await }).await;
        read.unwrap_or_else(|| Err(Failure::Answer("the SSH keys can't be read".to_owned())))
    }

    async fn read_all_keys(&self, now: Timestamp) -> Result<(), Failure> {
        let read = self.read_keys().await;
        let mut kept = self.keys.read();
        // Also where it is refused: a directory that can't answer this is not asked for it all the time.
        if !matches!(read, Err(Failure::Connection(_) | Failure::Hangs(_))) {
            kept.at = Some(now);
        }
        kept.by_key = Arc::new(read?);
        Ok(())
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

fn has_key(account: &Account, key: &PublicKey) -> bool {
    account.ssh_keys.iter().any(|line| is(line, key))
}

/// Only plain lines count: one with options (`from=...`, `restrict`) restricts the key in ways that are sshd's.
fn is(line: &str, key: &PublicKey) -> bool {
    PublicKey::parse_line(line).is_ok_and(|(found, _)| found == *key)
}
