//! What comes out: allowed or not, and who decided, in words for the person as well as for an auditor.

use std::fmt;

/// Allowed or not, with the reasons. There is always at least one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Who decided, the deciding ones only: the forbids or the guardrails of a refusal, the permits of a permission.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// The reasons as they go into answers and audit records.
    pub fn texts(&self) -> Vec<String> {
        self.reasons.iter().map(ToString::to_string).collect()
    }

    /// The names of the rules and guardrails that decided, for audit records.
    pub fn rule_names(&self) -> Vec<String> {
        let named = self.reasons.iter().filter(|reason| !reason.rule.is_empty());
        named
            .map(|reason| match reason.kind {
                ReasonKind::Guardrail => format!("guardrail:{}", reason.rule),
                _ => reason.rule.clone(),
            })
            .collect()
    }

    /// Whether a guardrail refused, rather than the rules or the lack of one.
    pub fn by_guardrail(&self) -> bool {
        !self.allowed && self.reasons.iter().any(|r| r.kind == ReasonKind::Guardrail)
    }
}

/// What kind of thing decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasonKind {
    /// A `permit` rule allows it.
    Permit,
    /// A `forbid` rule forbids it.
    Forbid,
    /// A guardrail forbids it, whatever the rules say.
    Guardrail,
    /// No rule allows it.
    NoRule,
    /// A `forbid` rule could not be evaluated (an overflow, say); that counts as a refusal.
    Error,
    /// It is allowed, but for a shorter time than was asked for.
    Cut,
    /// A group's name that several groups have counted against the person.
    AmbiguousGroup,
}

/// One rule or guardrail that decided. [`fmt::Display`] gives the sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What kind of thing decided.
    pub kind: ReasonKind,
    /// The rule's name: its `@id` annotation, else `FILE:LINE`; the guardrail's name; of a cut the names of
    /// those that forbid a longer time. Empty where no rule decided.
    pub rule: String,
    /// The rule's file, without its folders; empty for guardrails and where no rule decided.
    pub file: String,
    /// The rule's `@reason` annotation, or what the guardrail says; may be empty.
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, rule, file, text } = self;
        match kind {
            ReasonKind::NoRule | ReasonKind::Cut | ReasonKind::AmbiguousGroup => return f.write_str(text),
            ReasonKind::Guardrail => return write!(f, "guardrail {rule}: {text}"),
            // A rule without an @id is called FILE:LINE, which says the file already.
            _ if rule.starts_with(file.as_str()) => write!(f, "the rule at {rule}")?,
            _ => write!(f, "rule {rule:?} ({file})")?,
        }
        match kind {
            ReasonKind::Permit => f.write_str(" allows it")?,
            ReasonKind::Forbid => f.write_str(" forbids it")?,
            _ => return write!(f, " can't be evaluated, which counts as a refusal: {text}"),
        }
        if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
    }
}

/// A decision with what a person wants to know besides; [`fmt::Display`] gives the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision on what was asked; for credentials, on the longest duration that is allowed, where one is.
    pub decision: Decision,
    /// For credentials that may be issued: the longest duration that is allowed, seconds.
    pub longest_seconds: Option<u32>,
    /// How many rules could have applied to this person, action and resource, of how many there are.
    pub considered: (usize, usize),
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.decision.allowed { "allowed" } else { "refused" })?;
        for reason in &self.decision.reasons {
            writeln!(f, "  {reason}")?;
        }
        if let Some(seconds) = self.longest_seconds {
            writeln!(f, "  for at most {}", iam_sorry_core::timestamp::human_duration(i64::from(seconds)))?;
        }
        let (considered, all) = self.considered;
        write!(f, "  {considered} of {all} rules could apply to this person, action and resource")
    }
}
