//! Who may do what: rules over people, groups, namespaces and IAM actions, with guardrails under them that no rule lifts.
//!
//! Pure: rule texts, the request and the time come in, a decision with its reasons goes out. Cedar decides inside (its
//! authorization semantics: any `forbid` denies; else any `permit` allows; else denied); outside nothing of it is seen but
//! text. The order of a decision: guardrails that depend on the configuration alone, the rules, then guardrails that
//! depend on what exists, so that somebody whom no rule allows anything can't find out what exists.

mod bounds;
mod cases;
mod cedar;
mod decide;
mod decision;
mod digest;
mod evaluate;
mod groups;
mod guardrails;
mod input;
mod limits;
mod literals;
mod load;
mod max_duration;
mod names;
mod rule;
mod rule_set;
mod settings;
mod slices;

pub use cases::{CaseProblem, CaseResult, group_of, run_cases};
pub use cedar::SCHEMA;
pub use decision::{Decision, Explanation, Reason, ReasonKind};
pub use digest::RulesDigest;
pub use groups::NamedGroup;
pub use input::{Action, AuthzInput, Resource, SHORTEST_SECONDS};
pub use load::RuleProblem;
pub use names::{fold, fold_group, fold_user};
pub use rule_set::RuleSet;
pub use settings::{AccountList, AccountSettings, Guardrails, NamespaceSettings, RoleSettings, RuleSettings};
