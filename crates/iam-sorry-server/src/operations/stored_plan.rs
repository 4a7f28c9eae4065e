//! How an action's plan is stored with its intent: `{"plan":"rotate-key","user":...}`.
//!
//! Another version of the program may have written it, or may read it: fields are only ever added, with a default, and the
//! tag of an action's plan never changes.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};

use crate::operations::notes::json;

#[derive(Serialize)]
struct Tagged<'a, P> {
    plan: &'a str,
    #[serde(flatten)]
    fields: &'a P,
}

#[derive(Deserialize)]
struct Tag {
    plan: String,
}

/// The plan's text under its tag.
pub(crate) fn write(tag: &str, plan: &impl Serialize) -> String {
    json(&Tagged { plan: tag, fields: plan })
}

/// The plan of that text.
///
/// # Errors
/// The text has another tag, or is no such plan.
pub(crate) fn read<P: DeserializeOwned>(tag: &str, text: &str) -> Result<P, serde_json::Error> {
    let found: Tag = serde_json::from_str(text)?;
    if found.plan != tag {
        return Err(serde_json::Error::custom(format!("it is a plan {:?}, not {tag:?}", found.plan)));
    }
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Plan {
        user: String,
        boundary: Option<String>,
    }

    #[test]
    fn a_plan_is_read_under_its_own_tag_only() {
        let plan = Plan { user: "dirk".into(), boundary: None };
        let text = write("adopt-user", &plan);
        assert_eq!(text, r#"{"plan":"adopt-user","user":"dirk","boundary":null}"#);
        assert_eq!(read::<Plan>("adopt-user", &text).unwrap(), plan);
        let error = read::<Plan>("create-user", &text).unwrap_err().to_string();
        assert!(error.contains("adopt-user"), "{error}");
        assert!(read::<Plan>("adopt-user", r#"{"user":"dirk"}"#).is_err());
        // What a newer version adds is left out by an older one.
        let newer = r#"{"plan":"adopt-user","user":"dirk","account":"archive"}"#;
        assert_eq!(read::<Plan>("adopt-user", newer).unwrap(), plan);
    }
}
