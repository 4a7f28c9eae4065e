//! Names as rules compare them, and the names that are refused because they could reach further than they look.
//!
//! IAM names are unique without regard to case, directories ignore case and spaces around names: two spellings of one
//! name must never get two answers (CVE-2025-5999, CVE-2025-6004, CVE-2025-6013, CVE-2025-64761).

use iam_sorry_core::dn;
use iam_sorry_core::names::{InvalidName, UserName};

/// A group's or person's name as it is compared: lower case, spaces at the ends dropped, inner ones made one (as LDAP's
/// caseIgnoreMatch prepares strings, RFC 4518 section 2.6).
pub fn fold(text: &str) -> String {
    dn::fold_text(text)
}

/// A group as rules and owners name it, by its name, its DN or `ISSUER/ID`, as it is compared.
pub fn fold_group(text: &str) -> String {
    dn::fold(text).unwrap_or_else(|| fold(text))
}

/// An IAM user's name that is safe to put into policies, paths and tags, folded. IAM itself would take more: `*` and `?`
/// never, but `+`, `,` and `=`, which other systems read as wildcards, separators and assignments (GHSA-59w7).
///
/// # Errors
/// [`InvalidName`], saying which character is the trouble.
pub fn fold_user(name: &UserName) -> Result<String, InvalidName> {
    safe(name.as_str(), "user name", |c| matches!(c, '.' | '_' | '-' | '@'))
}

/// A namespace's name, folded: as a user's, without `@`, and short enough for `-x` behind it.
pub(crate) fn fold_namespace(name: &str) -> Result<String, InvalidName> {
    if name.len() > 62 {
        return Err(InvalidName(format!("{name:?} is too long for a namespace: at most 62 characters")));
    }
    safe(name, "namespace", |c| matches!(c, '.' | '_' | '-'))
}

fn safe(name: &str, what: &str, punctuation: impl Fn(char) -> bool) -> Result<String, InvalidName> {
    let refused = |why: String| Err(InvalidName(format!("{name:?} is not allowed as a {what}: {why}")));
    if name.is_empty() {
        return refused("it is empty".to_owned());
    }
    if let Some(c) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !punctuation(*c)) {
        return refused(format!(
            "{c:?} could make it mean more than one name; use letters, digits, '.', '_', '-'"
        ));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    if !edge(name.chars().next()) || !edge(name.chars().next_back()) {
        return refused("it must begin and end with a letter, a digit or '_'".to_owned());
    }
    // CVE-2026-3605: a name that walks up a path.
    if name.contains("..") {
        return refused("\"..\" could walk up a path".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

/// An IAM path as we let it be: `/`, or segments of letters, digits, `.`, `_`, `-`, each beginning and ending like a name.
/// IAM takes every character from `!` to DEL (API reference, CreateUser), `*` included.
pub(crate) fn check_path(path: &str) -> Result<(), InvalidName> {
    let refused = |why: &str| Err(InvalidName(format!("{path:?} is not allowed as an IAM path: {why}")));
    let Some(inner) = path.strip_prefix('/').and_then(|p| p.strip_suffix('/')) else {
        return refused(
            "it must begin and end with '/' and have something between, such as \"/iam-sorry/lab/\"",
        );
    };
    if path.len() > 512 {
        return refused("at most 512 characters");
    }
    for segment in inner.split('/') {
        if let Err(problem) = safe(segment, "path segment", |c| matches!(c, '.' | '_' | '-')) {
            return refused(&problem.0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_names() {
        for (text, folded) in
            [("Alice ", "alice"), ("\tLab  Dirk\u{a0}", "lab dirk"), ("LAB-ÄRZTE", "lab-ärzte"), ("", "")]
        {
            assert_eq!(fold(text), folded);
        }
    }

    /// GHSA-59w7: `*`, `+`, `/` and `,` in names; CVE-2026-3605: `..`.
    #[test]
    fn names_that_could_widen_a_policy_are_refused() {
        let user = |name: &str| UserName::parse(name).and_then(|n| fold_user(&n));
        for bad in [
            "dirk-*",
            "dirk-?",
            "dirk+x",
            "dirk,x",
            "dirk=x",
            "dirk/x",
            "dirk-",
            "-dirk",
            ".dirk",
            "dirk.",
            "@dirk",
            "dirk..x",
            "dirk x",
            "dirk ",
            "dırk",
            "ԁirk",
            "dirk\u{200b}",
            "dirk\0",
            "dirk\n",
            "",
            "..",
            "$dirk",
        ] {
            assert!(user(bad).is_err(), "{bad:?}");
            assert!(fold_namespace(bad).is_err(), "{bad:?}");
        }
        for good in ["dirk", "Dirk-Admin", "a.b_c-d@e", "_x_", "7"] {
            assert_eq!(user(good), Ok(good.to_lowercase()));
        }
        assert!(fold_namespace("a@b").is_err());
        assert!(fold_namespace(&"x".repeat(63)).is_err());
    }

    /// CVE-2026-3605.
    #[test]
    fn paths_cannot_walk_up_or_widen() {
        for good in ["/iam-sorry/dirk/", "/a/", "/a.b/c_d/e-f/"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "", "/", "//", "a/", "/a", "/a//b/", "/../", "/a/../b/", "/a/./b/", "/a*/", "/a?/", "/a b/",
            "/ä/",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
