//! Groups by name, once it is settled that the name is one group's alone.

use std::time::Duration;

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;

use crate::login::LoginError;
use crate::login::ssh::people_file;
use crate::service::Service;
use crate::sessions::group_names::{AmbiguousName, look};

/// How often the names are looked at.
const EVERY: Duration = Duration::from_secs(60);
/// The same while the directory does not answer: this is also what finds out that it answers again.
const WHILE_AWAY: Duration = Duration::from_secs(5);

impl Service {
    /// Looks for groups that share a name.
    ///
    /// # Errors
    /// [`LoginError`]: what the last look found stays.
    pub async fn look_at_group_names(&self) -> Result<(), LoginError> {
        let look = look(&self.rules(), self.sign_in().methods()).await?;
        for ambiguous in self.group_names().keep(look) {
            tracing::warn!(name = ambiguous.name, used_by = ?ambiguous.used_by, groups = ?ambiguous.groups,
                "a group name that rules or namespaces use is ambiguous, so it allows nothing; name the group by its DN");
        }
        Ok(())
    }

    pub(crate) async fn watch_group_names(&self) {
        loop {
            let failed = self.look_at_group_names().await.err();
            if let Some(error) = &failed {
                tracing::debug!(%error, "group names can't be looked at");
            }
            tokio::time::sleep(if failed.is_some() { WHILE_AWAY } else { EVERY }).await;
        }
    }

    /// The names that rules and namespaces use and more than one group has, as the last look found them; for readiness.
    pub fn ambiguous_group_names(&self) -> Vec<AmbiguousName> {
        self.group_names().last().ambiguous.clone()
    }

    /// Why a directory did not answer the last request, if so; for readiness.
    pub fn directory_problem(&self) -> Option<String> {
        self.sign_in().methods().directories().iter().find_map(|directory| directory.problem())
    }

    /// The person, with no group counting by its name if another source knows another group by that name.
    pub(crate) fn with_settled_groups(&self, identity: Identity) -> Identity {
        let look = self.group_names().last();
        // A name in the file is its own only once it is known whether the directory has it too.
        let methods = self.sign_in().methods();
        let unchecked = identity.issuer == people_file::ISSUER
            && methods.directories().iter().any(|directory| directory.has_groups());
        if look.shared.is_empty() && !unchecked {
            return identity;
        }
        let open = |group: &Group| {
            let name = group.unique_name();
            name.is_some_and(|name| {
                look.shared.contains(name) || unchecked && !look.groups.contains_key(name)
            })
        };
        if !identity.groups.iter().any(open) {
            return identity;
        }
        let groups = identity
            .groups
            .iter()
            .map(|group| Group { name_is_unique: group.name_is_unique && !open(group), ..group.clone() });
        Identity { groups: groups.collect(), ..identity }
    }
}
