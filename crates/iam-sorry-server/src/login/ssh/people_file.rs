//! People and their SSH keys in a file, for departments without a directory.
//!
//! ```toml
//! [[people]]
//! name = "ada"
//! groups = ["physics"]
//! keys = ["ssh-ed25519 AAAAC3... ada@laptop"]
//! ```
//!
//! The file is read again whenever it changes. One that can't be read lets nobody in: kept on the old state, it would let
//! in whom somebody just took out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::{KeyId, PublicKey};
use serde::Deserialize;

use crate::login::error::{LoginError, RejectReason};
use crate::login::source::identity;

/// The issuer of the people that the file names.
pub const ISSUER: &str = "file";

/// A file of people, by path.
pub struct PeopleFile {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<People>)>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Everybody in the file.
#[derive(Debug, Default)]
pub struct People {
    by_subject: BTreeMap<String, Identity>,
    by_key: BTreeMap<KeyId, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    people: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The login name.
    name: String,
    /// Stays when the name changes; the name if it is left out.
    subject: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    keys: Vec<String>,
}

impl PeopleFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(path: PathBuf) -> Result<Self, String> {
        let file = Self { path, read: Mutex::new(None) };
        file.people()?;
        Ok(file)
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// [`RejectReason::UnknownKey`]; [`LoginError::Broken`] if the file can't be read.
    pub fn person_of_key(&self, key: &PublicKey) -> Result<Identity, LoginError> {
        let people = self.people().map_err(LoginError::Broken)?;
        let subject =
            people.by_key.get(&key.key_id()).ok_or(LoginError::Refused(RejectReason::UnknownKey))?;
        people.by_subject.get(subject).cloned().ok_or(LoginError::Refused(RejectReason::UnknownKey))
    }

    /// The person of a subject, as the file has them now.
    ///
    /// # Errors
    /// [`RejectReason::UnknownPerson`]; [`LoginError::Broken`] if the file can't be read.
    pub fn person(&self, subject: &str) -> Result<Identity, LoginError> {
        let people = self.people().map_err(LoginError::Broken)?;
        people.by_subject.get(subject).cloned().ok_or(LoginError::Refused(RejectReason::UnknownPerson))
    }

    /// The names of all groups.
    ///
    /// # Errors
    /// [`LoginError::Broken`] if the file can't be read.
    pub fn groups(&self) -> Result<BTreeSet<String>, LoginError> {
        let people = self.people().map_err(LoginError::Broken)?;
        let groups = people.by_subject.values().flat_map(|person| person.groups.iter());
        Ok(groups.filter_map(|group| group.name.clone()).collect())
    }

    fn people(&self) -> Result<Arc<People>, String> {
        let shown = self.path.display();
        let stamp = stamp(&self.path)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, people)) = read.as_ref()
            && *of == stamp
        {
            return Ok(people.clone());
        }
        *read = None;
        let text =
            std::fs::read_to_string(&self.path).map_err(|error| format!("{shown} can't be read: {error}"))?;
        let people = Arc::new(People::parse(&text).map_err(|error| format!("{shown}: {error}"))?);
        *read = Some((stamp, people.clone()));
        Ok(people)
    }
}

impl People {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, and with whom.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut people = Self::default();
        let mut names = BTreeSet::new();
        for entry in file.people {
            let name = word(&entry.name)?;
            let subject = entry.subject.as_deref().map_or(Ok(name.clone()), word)?;
            if !names.insert(name.clone()) || people.by_subject.contains_key(&subject) {
                return Err(format!("'{name}' is there twice"));
            }
            for line in &entry.keys {
                let (key, _) =
                    PublicKey::parse_line(line).map_err(|error| format!("a key of '{name}' {error}"))?;
                if people.by_key.insert(key.key_id(), subject.clone()).is_some() {
                    return Err(format!("the key {} is there twice", key.key_id()));
                }
            }
            let groups = entry.groups.iter().map(|group| word(group)).collect::<Result<Vec<_>, _>>()?;
            let groups = groups.iter().map(|group| Group::named(ISSUER, group));
            let identity = identity(ISSUER, &subject, &name, groups, Method::SshKey);
            people.by_subject.insert(subject, identity);
        }
        Ok(people)
    }
}

/// A name without anything to stumble over, folded.
fn word(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    if text.is_empty() || text.len() > 128 || !text.chars().all(allowed) {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(format!("'{shown}' can't be a name: letters, digits, . - _ @ are allowed"));
    }
    Ok(text.to_lowercase())
}

/// Whoever may write the file, or put another in its place, decides who signs in.
fn stamp(path: &Path) -> Result<Stamp, String> {
    let shown = path.display();
    let facts = std::fs::metadata(path).map_err(|error| format!("{shown} can't be read: {error}"))?;
    if facts.mode() & 0o022 != 0 {
        return Err(format!(
            "{shown} can be written by others than its owner\nMake it its owner's: chmod go-w {shown}"
        ));
    }
    Ok(Stamp {
        inode: facts.ino(),
        size: facts.size(),
        modified: (facts.mtime(), facts.mtime_nsec()),
        changed: (facts.ctime(), facts.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn line(n: u8) -> String {
        PublicKey::from_bytes([n; 32]).unwrap().to_line("a comment")
    }

    #[test]
    fn whose_key_it_is() {
        let text = format!(
            "[[people]]\nname = \"Ada\"\ngroups = [\"Physics\", \"hpc\"]\nkeys = [\"{}\", \"{}\"]\n\
             [[people]]\nname = \"bob\"\nsubject = \"4711\"\nkeys = [\"{}\"]\n",
            line(1),
            line(2),
            line(3)
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.toml");
        std::fs::write(&path, &text).unwrap();
        let file = PeopleFile::new(path.clone()).unwrap();
        let key = |n: u8| PublicKey::from_bytes([n; 32]).unwrap();
        let ada = file.person_of_key(&key(2)).unwrap();
        assert_eq!((ada.id().as_str(), ada.name.as_str()), ("file/ada", "ada"));
        assert_eq!(ada.groups.labels(), ["hpc", "physics"]);
        assert_eq!(file.person_of_key(&key(3)).unwrap().id(), "file/4711");
        assert_eq!(file.person_of_key(&key(4)), Err(LoginError::Refused(RejectReason::UnknownKey)));

        // Taken out: refused at once. Broken or open to others: nobody gets in.
        std::fs::write(&path, text.replace(&line(2), &line(5))).unwrap();
        assert_eq!(file.person_of_key(&key(2)), Err(LoginError::Refused(RejectReason::UnknownKey)));
        std::fs::write(&path, "[[people]").unwrap();
        assert!(matches!(file.person_of_key(&key(1)), Err(LoginError::Broken(_))));
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(file.person_of_key(&key(1)), Err(LoginError::Broken(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.person_of_key(&key(1)).is_ok());
        assert!(file.person("ada").is_ok() && file.person("bob").is_err());
    }

    #[test]
    fn a_file_that_could_be_read_two_ways_is_refused() {
        let person = |name: &str, key: &str| format!("[[people]]\nname = \"{name}\"\nkeys = [\"{key}\"]\n");
        for (text, word) in [
            (person("ada", &line(1)) + &person("bob", &line(1)), "there twice"),
            (person("ada", &line(1)) + &person("ADA", &line(2)), "there twice"),
            (person("a*", &line(1)), "can't be a name"),
            (person("ada", "ssh-rsa AAAA"), "a key of 'ada'"),
            (person("ada", &line(1)) + "admin = true\n", "unknown field"),
        ] {
            let error = People::parse(&text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
