//! Groups as the directory that vouches for them knows them: by a stable id, by a DN, and by a name that is worth only as
//! much as it is one group's alone.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dn;

/// A group. Whoever may create groups somewhere in a directory may give one any name, so a name alone proves nothing; DN and
/// id can't be chosen to be another group's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Group {
    /// Who vouches: the name of the directory or provider in the configuration, such as `corp`.
    pub issuer: String,
    /// The issuer's stable id: an LDAP entryUUID or objectGUID in lower case. None where the issuer shows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The DN, folded ([`dn::fold`]). None where the issuer has no DNs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dn: Option<String>,
    /// What people call it (`cn`), folded. None where it has no name, or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether no other group has that name.
    pub name_is_unique: bool,
}

impl Group {
    /// A group of an issuer whose names are ids: a file that the operator writes, the cases of a test.
    pub fn named(issuer: &str, name: &str) -> Self {
        let name = dn::fold_text(name);
        Self {
            issuer: issuer.to_owned(),
            id: Some(name.clone()),
            dn: None,
            name_is_unique: !looks_like_an_id(&name),
            name: Some(name),
        }
    }

    /// What a version before kept of a group: its name, or its DN if the name was not unique. It has to be looked up again
    /// before it is worth anything.
    fn of_version_1(text: String) -> Self {
        let dn = dn::fold(&text);
        let name = dn.is_none().then_some(text);
        Self { issuer: String::new(), id: None, dn, name, name_is_unique: false }
    }

    /// Whether it comes from a row that a version before wrote.
    pub fn is_of_version_1(&self) -> bool {
        self.issuer.is_empty()
    }

    /// The name, if it is this group's alone.
    pub fn unique_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| self.name_is_unique && !looks_like_an_id(name))
    }

    /// The name, if it may be another group's too.
    pub fn ambiguous_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.unique_name().is_none())
    }

    /// `issuer/id`, if it has an id.
    pub fn full_id(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("{}/{id}", self.issuer))
    }

    /// What people and records call it: the name if it is this group's alone, else the DN, else `issuer/id`.
    pub fn label(&self) -> String {
        let stable = || self.dn.clone().or_else(|| self.full_id());
        self.unique_name()
            .map(str::to_owned)
            .or_else(stable)
            .or_else(|| self.name.clone())
            .unwrap_or_default()
    }
}

/// Whether a name could be taken for a DN or for `issuer/id`: then it stands for no group in rules.
pub fn looks_like_an_id(name: &str) -> bool {
    name.contains(['=', '/'])
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            issuer: String,
            id: Option<String>,
            dn: Option<String>,
            name: Option<String>,
            name_is_unique: bool,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Version1(String),
            Fields(Fields),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Version1(text) => Self::of_version_1(text),
            Either::Fields(Fields { issuer, id, dn, name, name_is_unique }) => {
                Self { issuer, id, dn, name, name_is_unique }
            }
        })
    }
}

/// A person's groups: sorted, each once, cheap to clone, as every request carries them.
#[derive(Clone, Debug, Default, Eq)]
pub struct Groups(Arc<Sorted>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    groups: Vec<Group>,
    /// What every record needs.
    labels: Vec<String>,
}

impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self.are(other) || self.0 == other.0
    }
}

impl Groups {
    /// Whether these are not only equal, but one value in memory.
    pub fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What people and records call them, sorted.
    pub fn labels(&self) -> Vec<String> {
        self.0.labels.clone()
    }
}

impl Deref for Groups {
    type Target = [Group];

    fn deref(&self) -> &[Group] {
        &self.0.groups
    }
}

impl From<Vec<Group>> for Groups {
    fn from(mut groups: Vec<Group>) -> Self {
        let key =
            |group: &Group| (group.issuer.clone(), group.dn.clone(), group.id.clone(), group.name.clone());
        groups.sort_by_cached_key(key);
        groups.dedup();
        let mut labels: Vec<String> = groups.iter().map(Group::label).collect();
        labels.sort();
        Self(Arc::new(Sorted { groups, labels }))
    }
}

impl FromIterator<Group> for Groups {
    fn from_iter<T: IntoIterator<Item = Group>>(groups: T) -> Self {
        groups.into_iter().collect::<Vec<_>>().into()
    }
}

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.groups.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_version_1_is_read_and_proves_nothing() {
        let groups: Groups =
            serde_json::from_str(r#"["lab-dirk", "cn=auditors,ou=x,dc=example,dc=org"]"#).unwrap();
        assert!(groups.iter().all(|group| group.is_of_version_1() && group.unique_name().is_none()));
        assert_eq!(groups.labels(), ["cn=auditors,ou=x,dc=example,dc=org", "lab-dirk"]);
    }

    #[test]
    fn what_is_written_reads_back() {
        let groups = Groups::from(vec![
            Group {
                issuer: "corp".into(),
                id: Some("5f0c".into()),
                dn: Some("cn=a,dc=b".into()),
                name: Some("a".into()),
                name_is_unique: false,
            },
            Group::named("file", " Physics "),
        ]);
        assert_eq!(groups.labels(), ["cn=a,dc=b", "physics"]);
        let json = serde_json::to_string(&groups).unwrap();
        assert_eq!(serde_json::from_str::<Groups>(&json).unwrap(), groups);
        assert_eq!(groups[1].full_id().as_deref(), Some("file/physics"));
    }

    #[test]
    fn a_name_that_looks_like_an_id_is_nobodys_alone() {
        for name in ["corp/5f0c", "cn=admins,dc=example"] {
            assert_eq!(Group::named("file", name).unique_name(), None);
        }
    }
}
