//! What is written down about an operation: the plan with its intent, notes on the way. The reconciler reads both, maybe
//! in a later version of the program: fields are only ever added.

use serde::{Deserialize, Serialize};

/// What an operation is about to do, with what it takes to finish or undo it. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "kebab-case")]
pub(crate) enum Plan {
    CreateUser {
        user: String,
        namespace: String,
        path: String,
        boundary: Option<String>,
        policies: Vec<String>,
    },
    DeleteUser {
        user: String,
    },
    AdoptUser {
        user: String,
        /// IAM's unique id of the user that was looked at; another one of that name is somebody else.
        id: String,
        namespace: String,
        path: String,
        boundary: Option<String>,
    },
    AttachPolicy {
        user: String,
        arn: String,
    },
    DetachPolicy {
        user: String,
        arn: String,
    },
    CreateKey {
        user: String,
        /// When, by AWS's clock, seconds since 1970: a key made earlier is not this operation's.
        since: i64,
        /// The keys that the user had before: none of them is this operation's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        before: Vec<String>,
    },
    RotateKey {
        user: String,
        old: String,
        old_was_active: bool,
        since: i64,
        /// As in `CreateKey`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        before: Vec<String>,
    },
    DeleteKey {
        user: String,
        key: String,
    },
    /// The old key of a rotation goes: the new one was confirmed, or its time is over.
    RetireKey {
        user: String,
        old: String,
        new: String,
    },
    /// A rotation is taken back: the old key active again, the new one deleted.
    RestoreKey {
        user: String,
        old: String,
        new: String,
    },
    UserSession {
        user: String,
        since: i64,
    },
    RoleSession {
        role: String,
    },
}

/// What became known on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub(crate) enum Note {
    /// The access key that was made.
    Key { id: String },
    /// Rotation: the old key, which is active, is about to be deactivated.
    OldKeyInactive,
    /// The operation has failed, and what it made is being taken back.
    TakingBack,
    /// The access key, which this operation made, is being deleted again.
    TakingBackKey { id: String },
    /// The access key was found, and nothing proves whose it is.
    Unaccounted { id: String },
}

impl Plan {
    /// As it is stored.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

impl Note {
    /// As it is stored.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

/// Types of ours have no map keys that JSON lacks, so this can't fail.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an older version wrote must be read for ever: the texts here are never changed.
    #[test]
    fn what_was_written_is_read() {
        let plan = r#"{"plan":"rotate-key","user":"dirk","old":"AKIAOLD","old_was_active":true,"since":1}"#;
        let read: Plan = serde_json::from_str(plan).unwrap();
        let expected = Plan::RotateKey {
            user: "dirk".into(),
            old: "AKIAOLD".into(),
            old_was_active: true,
            since: 1,
            before: Vec::new(),
        };
        assert_eq!(read, expected);
        assert_eq!(read.to_json(), plan);
        let note: Note = serde_json::from_str(r#"{"note":"key","id":"AKIANEW"}"#).unwrap();
        assert_eq!(note, Note::Key { id: "AKIANEW".into() });
        // All that the first version wrote: what it left open is read, and means the same.
        for plan in [
            r#"{"plan":"create-user","user":"a","namespace":"lab","path":"/p/","boundary":null,"policies":["arn"]}"#,
            r#"{"plan":"delete-user","user":"a"}"#,
            r#"{"plan":"adopt-user","user":"a","id":"AIDA1","namespace":"lab","path":"/p/","boundary":"arn"}"#,
            r#"{"plan":"attach-policy","user":"a","arn":"arn"}"#,
            r#"{"plan":"detach-policy","user":"a","arn":"arn"}"#,
            r#"{"plan":"create-key","user":"a","since":1}"#,
            r#"{"plan":"delete-key","user":"a","key":"AKIAOLD"}"#,
            r#"{"plan":"user-session","user":"a","since":1}"#,
            r#"{"plan":"role-session","role":"arn"}"#,
        ] {
            assert_eq!(serde_json::from_str::<Plan>(plan).unwrap().to_json(), plan);
        }
        for note in [r#"{"note":"old-key-inactive"}"#, r#"{"note":"taking-back"}"#] {
            assert_eq!(serde_json::from_str::<Note>(note).unwrap().to_json(), note);
        }
    }
}
