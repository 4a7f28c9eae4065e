//! One rule, as it is known besides Cedar's form of it.

use cedar_policy::Effect;

use crate::decision::{Reason, ReasonKind};

/// What is said of a rule to people, and what it mentions; its place in the list is its id inside.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) reason: String,
    pub(crate) effect: Effect,
    /// Its text, as it stands in the file.
    pub(crate) source: String,
    /// Whole numbers that it mentions: where its answer can change with the duration.
    pub(crate) numbers: Vec<i64>,
    /// It adds, subtracts or multiplies, so that its answer can change elsewhere too.
    pub(crate) calculates: bool,
    /// The groups that it names, folded.
    pub(crate) groups: Vec<String>,
}

impl Rule {
    /// This rule as a reason of a decision.
    pub(crate) fn reason(&self, kind: ReasonKind) -> Reason {
        Reason { kind, rule: self.name.clone(), file: self.file.clone(), text: self.reason.clone() }
    }
}
