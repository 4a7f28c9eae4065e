//! What a rule mentions by name: folded where names are compared folded, and checked against the configuration, because a
//! rule about something that doesn't exist, a forbid above all, silently does nothing.

use std::collections::BTreeMap;

use cedar_policy::{EntityUid, Policy};
use iam_sorry_core::ids::{AccountName, UserRef};
use serde_json::Value;

use crate::cedar::{Vocabulary, uid, user_id};
use crate::names::{fold, fold_group, fold_namespace, fold_user};
use crate::settings::{NamespaceSettings, RuleSettings};

/// What was found in one rule.
pub(crate) struct Found {
    /// The rule with every name folded.
    pub(crate) folded: Result<Policy, String>,
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
    /// Every whole number in it.
    pub(crate) numbers: Vec<i64>,
    /// Whether it adds, subtracts or multiplies.
    pub(crate) calculates: bool,
    /// The groups that it names, folded.
    pub(crate) groups: Vec<String>,
}

pub(crate) fn check(policy: &Policy, settings: &RuleSettings, vocabulary: &Vocabulary) -> Found {
    let mut problems = Vec::new();
    let (mut folded, mut groups) = (BTreeMap::new(), Vec::new());
    for literal in policy.entity_literals() {
        if literal.type_name() == &vocabulary.group {
            groups.push(fold_group(literal.id().unescaped()));
        }
        match fold_literal(&literal, settings, vocabulary) {
            Ok(Some(new)) if new != literal => {
                folded.insert(literal, new);
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let folded = if folded.is_empty() {
        Ok(policy.clone())
    } else {
        policy.sub_entity_literals(folded).map_err(|e| e.to_string())
    };
    let mut texts = Texts::default();
    match policy.to_json() {
        Ok(json) => texts.walk(json.get("conditions").unwrap_or(&Value::Null)),
        Err(error) => problems.push(error.to_string()),
    }
    problems.extend(texts.unfolded.iter().map(|text| {
        format!("{text:?} is compared with a name, and names are in lower case here: it would never be equal")
    }));
    let listed = |arn: &str| {
        let guardrails = &settings.guardrails;
        guardrails.policies.iter().any(|p| p == arn) || guardrails.role(arn).is_some()
    };
    let unlisted = texts.arns.iter().filter(|arn| !listed(arn));
    let warnings = unlisted
        .map(|arn| {
            format!(
                "{arn:?} is neither among the policies nor the roles of [guardrails]: it would never be equal"
            )
        })
        .collect();
    Found { folded, problems, warnings, numbers: texts.numbers, calculates: texts.calculates, groups }
}

/// The literal as names are compared, or why it can't mean anything. None for types whose ids are exact.
fn fold_literal(
    literal: &EntityUid,
    settings: &RuleSettings,
    vocabulary: &Vocabulary,
) -> Result<Option<EntityUid>, String> {
    let (kind, id) = (literal.type_name(), literal.id().unescaped());
    let has_namespace = |name: &str| {
        let is_it = |n: &NamespaceSettings| n.name.eq_ignore_ascii_case(name);
        settings.namespaces.iter().any(is_it)
    };
    if kind == &vocabulary.group {
        let folded = fold_group(id);
        return if folded.is_empty() {
            Err("a group without a name".to_owned())
        } else {
            Ok(Some(uid(kind, &folded)))
        };
    }
    if kind == &vocabulary.namespace || kind == &vocabulary.owners {
        let folded = fold_namespace(id).map_err(|e| e.0)?;
        return if has_namespace(&folded) {
            Ok(Some(uid(kind, &folded)))
        } else {
            Err(format!("the configuration has no [[namespace]] {id:?}"))
        };
    }
    if kind == &vocabulary.user {
        let first = &settings.accounts.first().name;
        let user = UserRef::parse_in(id, first).map_err(|e| e.0)?;
        has_account(&user.account, settings)?;
        let folded = fold_user(&user.name).map_err(|e| e.0)?;
        let mut prefix = folded.as_str();
        while !has_namespace(prefix) {
            let Some((shorter, _)) = prefix.rsplit_once('-') else {
                return Err(format!("user {id:?} is in no [[namespace]] of the configuration"));
            };
            prefix = shorter;
        }
        return Ok(Some(uid(kind, &user_id(&user.account, &folded, first))));
    }
    if kind == &vocabulary.account {
        let name = AccountName::parse(&id.to_ascii_lowercase()).map_err(|e| e.0)?;
        has_account(&name, settings)?;
        return Ok(Some(uid(kind, name.as_str())));
    }
    if kind == &vocabulary.role && settings.guardrails.role(id).is_none() {
        return Err(format!("the configuration has no [[guardrails.role]] {id:?}"));
    }
    if kind == &vocabulary.person && !id.contains('/') {
        return Err(format!(
            "a person is ISSUER/SUBJECT, such as \"corp/5f0c...\", not {id:?}; for a login name write: when {{ \
             principal.name == {id:?} }}"
        ));
    }
    Ok(None)
}

fn has_account(name: &AccountName, settings: &RuleSettings) -> Result<(), String> {
    if settings.accounts.get(name).is_some() {
        return Ok(());
    }
    let known: Vec<_> = settings.accounts.iter().map(|account| account.name.as_str()).collect();
    Err(format!("the configuration has no account {name:?}; its accounts: {}", known.join(", ")))
}

/// Walks the conditions of a rule in Cedar's JSON form (docs.cedarpolicy.com, JSON policy format), where an operator is an
/// object such as `{"==": {"left": ..., "right": ...}}`.
#[derive(Default)]
struct Texts {
    /// Texts with capitals that are compared with a `.name`.
    unfolded: Vec<String>,
    /// Texts that are whole ARNs.
    arns: Vec<String>,
    numbers: Vec<i64>,
    calculates: bool,
}

impl Texts {
    fn walk(&mut self, node: &Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                self.compared(node);
                self.calculates |=
                    ["+", "-", "*", "neg"].iter().any(|operator| fields.contains_key(*operator));
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("Value", Value::Number(number)) => self.numbers.extend(number.as_i64()),
                        ("Value", Value::String(text)) if text.starts_with("arn:") => {
                            self.arns.push(text.clone())
                        }
                        _ => self.walk(value),
                    }
                }
            }
            _ => {}
        }
    }

    /// Where one side of an operator is a `.name`, the texts on the other side must be in lower case.
    fn compared(&mut self, node: &Value) {
        for operator in ["==", "!=", "like", "contains", "containsAny", "containsAll"] {
            let Some(inner) = node.get(operator) else { continue };
            let sides = [inner.get("left"), inner.get("right"), inner.get("pattern")];
            if !sides.iter().flatten().any(|side| is_name(side)) {
                continue;
            }
            for side in sides.into_iter().flatten() {
                collect(side, &mut |text| {
                    if text != fold(text) && !text.chars().all(char::is_whitespace) {
                        self.unfolded.push(text.to_owned());
                    }
                });
            }
        }
    }
}

/// `x.name`, or a set with one in it.
fn is_name(node: &Value) -> bool {
    let attribute = node.get(".").and_then(|access| access.get("attr")).and_then(Value::as_str);
    let in_set = node.get("Set").and_then(Value::as_array).is_some_and(|items| items.iter().any(is_name));
    attribute == Some("name") || in_set
}

/// Every text literal and pattern part of an expression.
fn collect(node: &Value, take: &mut impl FnMut(&str)) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| collect(item, take)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("Value" | "Literal", Value::String(text)) => take(text),
                    (".", _) => {}
                    _ => collect(value, take),
                }
            }
        }
        _ => {}
    }
}
