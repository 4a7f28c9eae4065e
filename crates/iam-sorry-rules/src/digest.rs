//! The digest of a rule set: what a decision names, so that an auditor can tell which rules it was made with.
//!
//! Over the schema, the text of each rule, each account, namespace and guardrail, whatever their order in the files: what
//! decides the same has the same digest, comments and blank lines between the rules aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use iam_sorry_core::digest::sha256_hex;

use crate::cedar::SCHEMA;
use crate::rule::Rule;
use crate::settings::{Guardrails, NamespaceSettings, RoleSettings, RuleSettings};

/// The digest of a rule set, and of each of its parts: `rule NAME`, `account NAME`, `namespace NAME`, `guardrail FIELD`, `schema`.
#[derive(Clone, Debug)]
pub struct RulesDigest {
    whole: Arc<str>,
    parts: BTreeMap<String, String>,
}

impl RulesDigest {
    pub(crate) fn new(rules: &[Rule], settings: &RuleSettings) -> Self {
        let mut parts = BTreeMap::new();
        parts.insert("schema".to_owned(), part(&[SCHEMA]));
        for rule in rules {
            parts.insert(format!("rule {}", rule.name), part(&[&rule.source]));
        }
        // The first one goes without saying, so the order counts.
        for (place, account) in settings.accounts.iter().enumerate() {
            let id = account.id.as_ref().map_or("-", |id| id.as_str());
            parts.insert(format!("account {}", account.name), part(&[&place.to_string(), id]));
        }
        for namespace in &settings.namespaces {
            add_namespace(&mut parts, namespace);
        }
        add_guardrails(&mut parts, &settings.guardrails);
        let all: Vec<&[u8]> =
            parts.iter().flat_map(|(name, digest)| [name.as_bytes(), digest.as_bytes()]).collect();
        Self { whole: sha256_hex(&all).into(), parts }
    }

    /// SHA-256 over everything, 64 hexadecimal digits.
    pub fn whole(&self) -> &Arc<str> {
        &self.whole
    }

    /// The digests of the parts, to find what differs between two sets.
    pub fn parts(&self) -> &BTreeMap<String, String> {
        &self.parts
    }
}

fn add_namespace(parts: &mut BTreeMap<String, String>, namespace: &NamespaceSettings) {
    let name = namespace.name.to_ascii_lowercase();
    let mut words = vec![namespace.path()];
    words.extend(sorted(&namespace.owners));
    parts.insert(format!("namespace {name}"), part(&words));
}

/// Taken apart without `..`: a new guardrail that is forgotten here does not compile.
fn add_guardrails(parts: &mut BTreeMap<String, String>, guardrails: &Guardrails) {
    let Guardrails {
        permissions_boundary,
        policies,
        roles,
        max_user_seconds,
        max_role_seconds,
        protected,
        groups,
    } = guardrails;
    let mut add = |name: &str, words: &[String]| {
        parts.insert(format!("guardrail {name}"), part(words));
    };
    add("permissions_boundary", &permissions_boundary.iter().cloned().collect::<Vec<_>>());
    add("policies", &sorted(policies));
    add("max_user_seconds", &[max_user_seconds.to_string()]);
    add("max_role_seconds", &[max_role_seconds.to_string()]);
    add("protected", &sorted(protected));
    // Absent and empty are two things.
    if let Some(groups) = groups {
        add("groups", &sorted(groups));
    }
    for RoleSettings { arn, external_id, max_seconds } in roles {
        let optional =
            |value: Option<String>| value.map_or_else(|| "-".to_owned(), |value| format!("+{value}"));
        let words = [optional(external_id.clone()), optional(max_seconds.map(|seconds| seconds.to_string()))];
        add(&format!("role {arn}"), &words);
    }
}

fn sorted(words: &[String]) -> Vec<String> {
    let mut words = words.to_vec();
    words.sort();
    words
}

fn part(words: &[impl AsRef<str>]) -> String {
    sha256_hex(&words.iter().map(|word| word.as_ref().as_bytes()).collect::<Vec<_>>())
}
