//! What an operation writes down on the way. The reconciler reads it, maybe in a later version of the program: fields and
//! variants are only ever added.

use serde::{Deserialize, Serialize};

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

impl Note {
    /// As it is stored.
    pub fn to_json(&self) -> String {
        json(self)
    }
}

/// The service's own types have no map keys that JSON lacks, so this can't fail.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an older version wrote must be read for ever: the texts here are never changed.
    #[test]
    fn what_was_written_is_read() {
        let note: Note = serde_json::from_str(r#"{"note":"key","id":"AKIANEW"}"#).unwrap();
        assert_eq!(note, Note::Key { id: "AKIANEW".into() });
        for note in [
            r#"{"note":"old-key-inactive"}"#,
            r#"{"note":"taking-back"}"#,
            r#"{"note":"taking-back-key","id":"AKIANEW"}"#,
            r#"{"note":"unaccounted","id":"AKIANEW"}"#,
        ] {
            assert_eq!(serde_json::from_str::<Note>(note).unwrap().to_json(), note);
        }
    }
}
