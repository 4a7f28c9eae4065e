//! Whose an SSH key is that has signed a challenge. The file of people, the directory and what people registered may each
//! name somebody. If they name different people, the person says whom they mean: a public key can be copied into
//! another's directory entry, and neither may its owner become that other one unawares, nor be locked out.

use std::sync::Arc;

use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::identity::{Identity, KeyOrigin, Method};
use iam_sorry_core::ssh::PublicKey;
use iam_sorry_rules::fold;
use iam_sorry_store::{SessionKey, SshKey};

use crate::error::ServiceError;
use crate::login::ldap::{Directory, KeyHolder};
use crate::login::source::Purpose;
use crate::login::{LoginError, RejectReason};
use crate::service::Service;
use crate::sessions::door::{Failed, Proved};
use crate::shell::quoted;

/// Somebody whom one of the sources names.
enum Holder {
    File(Identity),
    Directory {
        directory: Arc<Directory>,
        entry: KeyHolder,
    },
    /// `now`: as their source has them, if they were looked up already.
    Registered {
        key: SshKey,
        by: KeyOrigin,
        now: Option<Identity>,
    },
}

impl Holder {
    fn id(&self) -> String {
        match self {
            Self::File(identity) => identity.id(),
            Self::Directory { directory, entry } => format!("{}/{}", directory.issuer(), entry.subject()),
            Self::Registered { key, .. } => key.identity.id(),
        }
    }

    fn issuer(&self) -> &str {
        match self {
            Self::File(identity) => &identity.issuer,
            Self::Directory { directory, .. } => directory.issuer(),
            Self::Registered { key, .. } => &key.identity.issuer,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::File(identity) => &identity.name,
            Self::Directory { entry, .. } => entry.name(),
            Self::Registered { now: Some(identity), .. } => &identity.name,
            Self::Registered { key, .. } => &key.identity.name,
        }
    }

    fn origin(&self) -> KeyOrigin {
        match self {
            Self::File(_) => KeyOrigin::File,
            Self::Directory { .. } => KeyOrigin::Directory,
            Self::Registered { by, .. } => *by,
        }
    }

    /// `ISSUER/NAME`, which tells two of one login name apart.
    fn full_name(&self) -> String {
        format!("{}/{}", self.issuer(), self.name())
    }

    fn is_called(&self, folded: &str) -> bool {
        fold(self.name()) == folded || fold(&self.full_name()) == folded
    }
}

impl Service {
    /// The one person whom this key signs in; with a name, the one of that name.
    /// `registered`: what is registered of it.
    pub(super) async fn person_of_key(
        &self,
        key: &PublicKey,
        name: Option<&str>,
        registered: Option<SshKey>,
    ) -> Result<Proved, Failed> {
        let name = name.map(fold);
        let (mut holders, unproved) = self.holders(key, name.as_deref(), registered).await?;
        if let Some(name) = &name {
            holders.retain(|holder| holder.is_called(name));
        }
        let Some(holder) = holders.pop() else {
            return Err(match unproved {
                true => Failed::Known(RejectReason::UnprovedKey, unproved_key(self)),
                false => LoginError::Refused(RejectReason::UnknownKey).into(),
            });
        };
        if !holders.is_empty() {
            holders.push(holder);
            return Err(several_people(self, &holders));
        }
        let session_key =
            SessionKey { fingerprint: key.key_id().to_string(), registered_by: holder.origin() };
        let identity = match holder {
            Holder::File(identity) => identity,
            Holder::Directory { directory, entry } => directory.person_of_holder(entry).await?,
            Holder::Registered { now: Some(identity), .. } => identity,
            Holder::Registered { key, .. } => {
                self.look_up(&key.identity, Method::SshKey, Purpose::SignIn).await?
            }
        };
        Ok(Proved { identity, key: Some(session_key) })
    }

    /// Everybody whom a source names, each once; and whether the key is registered without ever having signed for it.
    async fn holders(
        &self,
        key: &PublicKey,
        name: Option<&str>,
        registered: Option<SshKey>,
    ) -> Result<(Vec<Holder>, bool), Failed> {
        let keys = self.ssh_keys()?;
        let in_directories = self.holders_in_directories(key, name).await;
        let mut holders = Vec::new();
        match keys.person_of_key(key) {
            Ok(identity) => holders.push(Holder::File(identity)),
            Err(LoginError::Refused(RejectReason::UnknownKey)) => {}
            Err(error) => return Err(error.into()),
        }
        holders.extend(in_directories?);
        let mut unproved = false;
        if let Some(key) = registered.filter(|_| keys.from_registered()) {
            match key.registered_by {
                None => unproved = true,
                // What the department says of its own person's key goes before what they say.
                Some(_) if holders.iter().any(|holder| holder.id() == key.identity.id()) => {}
                Some(by) => {
                    // By name they are known as they are called today. If that can't be found out, the reason is found
                    // again, and recorded, when they are signed in.
                    let now = match name {
                        Some(_) => self.look_up(&key.identity, Method::SshKey, Purpose::SignIn).await.ok(),
                        None => None,
                    };
                    holders.push(Holder::Registered { key, by, now });
                }
            }
        }
        Ok((holders, unproved))
    }

    async fn holders_in_directories(
        &self,
        key: &PublicKey,
        name: Option<&str>,
    ) -> Result<Vec<Holder>, Failed> {
        let mut holders = Vec::new();
        if !self.ssh_keys()?.from_directory() {
            return Ok(holders);
        }
        for directory in self.sign_in().methods().directories() {
            let own = fold(directory.issuer());
            let name = name.map(|name| match name.split_once('/') {
                Some((issuer, rest)) if issuer == own => rest,
                _ => name,
            });
            match directory.holders_of_key(key, name, self.clock().now()).await {
                Ok(found) => holders.extend(
                    found
                        .into_iter()
                        .map(|entry| Holder::Directory { directory: Arc::clone(directory), entry }),
                ),
                Err(LoginError::Refused(RejectReason::SeveralPeople)) => {
                    return Err(several_people(self, &[]));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(holders)
    }
}

/// Only whoever has the private key learns this: the names of those who claim it.
fn several_people(service: &Service, holders: &[Holder]) -> Failed {
    let mut names: Vec<String> = holders.iter().map(Holder::full_name).collect();
    names.sort();
    let whose = match names.as_slice() {
        [] => "This SSH key is several people's here".to_owned(),
        names => format!("This SSH key is several people's here: {}", names.join(", ")),
    };
    let name = names.first().map_or_else(|| "NAME".to_owned(), |name| quoted(name));
    let origin = service.sign_in().origin();
    let text = format!(
        "{whose}.\nSay who you are: iam-sorry login {origin} --user {name}\nIf one of them has copied your public key, tell your \
         department."
    );
    Failed::Known(RejectReason::SeveralPeople, ServiceError::new(ProblemCode::NameNeeded, text))
}

fn unproved_key(service: &Service) -> ServiceError {
    let origin = service.sign_in().origin();
    let another_way = match service.sign_in().methods().password() {
        Some(_) => format!("with your password: iam-sorry login {origin} --ldap"),
        None => "by another SSH key".to_owned(),
    };
    let text = format!(
        "This SSH key was registered before registering took a signature by the key: whose it is was never shown, so it signs \
         nobody in.\nSign in {another_way}\nthen register it again: iam-sorry ssh-keys add FILE"
    );
    ServiceError::new(ProblemCode::SignInRefused, text)
}
