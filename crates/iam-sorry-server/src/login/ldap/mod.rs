//! Sign-in by a directory: search for the person, then bind as them; and the directory's word on whose key is whose.
//!
//! An unknown name costs the same operations as a known one with a wrong password: one search and one bind, and takes as long
//! (CVE-2025-6011).
//! What may go wrong is settled before: an empty password never reaches the server, names are escaped, more than one
//! match is none, references are not followed, and nothing but result code 0 is a success.

mod account;
mod breaker;
mod connection;
mod decoy;
mod escape;
mod groups;
mod keys;
mod settings;

use std::sync::Arc;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::PublicKey;
use iam_sorry_core::timestamp::Timestamp;
use ldap3::{Scope, SearchEntry};
use secrecy::SecretString;

pub use settings::{Kind, LdapSettings};

use super::{LoginError, RejectReason, SettingsError};
use account::Account;
use connection::{Bind, Connections, Failure, Query};
use escape::{LoginName, fold, fold_login, in_filter};

/// The directory. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    settings: Arc<LdapSettings>,
    connections: Connections,
    keys: Arc<keys::KeyIndex>,
    binds: Arc<decoy::BindTimes>,
}

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

/// Whom a name may be. Whether there is such a person can't be seen from outside.
#[derive(Debug)]
pub struct Candidate {
    /// The person's DN.
    found: Result<String, RejectReason>,
    counted_as: CountedAs,
    /// The name, folded.
    name: String,
}

/// What failures are counted under. What somebody typed never shares a counter with a person of that DN or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountedAs {
    /// A person, as [`Identity::id`] names them: the same for all spellings of a name.
    Person(String),
    /// What was typed, in whatever letters: nobody has that name.
    Typed(String),
}

impl Candidate {
    /// What failures are counted under.
    pub fn counted_as(&self) -> &CountedAs {
        &self.counted_as
    }

    /// The name, where it is a person's: for the audit trail. What is nobody's name may be a password.
    pub fn known_as(&self) -> Option<&str> {
        self.found.is_ok().then_some(self.name.as_str())
    }
}

impl Directory {
    /// From checked settings. Reads the password and the CA file; connects when it is needed.
    ///
    /// # Errors
    /// [`SettingsError`] where these can't be read.
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

    /// Why the directory did not answer when it was asked last, if so.
    pub fn problem(&self) -> Option<String> {
        self.connections.problem()
    }

    /// Whether groups come from here.
    pub fn has_groups(&self) -> bool {
        self.settings.groups_base.is_some()
    }

    /// The issuer of the identities that it gives.
    pub fn issuer(&self) -> &str {
        &self.settings.name
    }

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
        let begun = tokio::time::Instant::now();
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

    /// Who has this SSH key in their entry, as the directory says now: several, where somebody copied another's. With a
    /// login name only its entry is looked at, so nobody's copy keeps the key's owner out.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::SeveralPeople`] where there are too many to tell apart.
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
                account.into_iter().filter(|account| keys::has_key(account, key)).collect()
            }
        };
        Ok(accounts.into_iter().map(KeyHolder).collect())
    }

    /// The person of an entry that has the key, with their groups.
    ///
    /// # Errors
    /// [`LoginError`], where the account may not sign in.
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

    /// The person of a subject, as they are now.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::UnknownPerson`] where there is none any more.
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
    /// [`LoginError`]; [`RejectReason::UnknownPerson`] where there is none any more.
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

    async fn account(&self, dn: &str, now: Timestamp) -> Result<Account, LoginError> {
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

    fn read(&self, entry: &SearchEntry, now: Timestamp) -> Result<Account, LoginError> {
        Account::read(&self.settings, entry, now).map_err(LoginError::Broken)
    }

    async fn person_of(&self, account: Account, method: Method) -> Result<Identity, LoginError> {
        if let Some(why) = account.barred {
            return Err(LoginError::Refused(why));
        }
        let groups = self.groups_of(&account).await?;
        Ok(super::identity(&self.settings.name, &account.subject, &account.name, groups, method))
    }

    fn user_filter(&self, attribute: &str, escaped: &str) -> String {
        format!("(&{}({attribute}={escaped}))", self.settings.user_filter())
    }

    /// The one entry under `users_base` that matches; none and several are told apart for the audit trail only.
    async fn one(
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

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connection(what) | Failure::Hangs(what) | Failure::Answer(what) => {
                Self::Unavailable(what)
            }
            Failure::TooMany => Self::Unavailable(failure.to_string()),
        }
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
