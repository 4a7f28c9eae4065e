//! What several pages have: the frame around them, links, choices, times.

use askama::Template;

/// The pages in the bar at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// None of them.
    None,
    /// What one was issued, and issuing more.
    Credentials,
    /// Namespaces and the IAM users in them.
    Users,
    /// What happened.
    Audit,
    /// What one may do.
    Rules,
    /// Where one is signed in.
    Sessions,
}

/// The bar: section, address, label.
pub const SECTIONS: [(Section, &str, &str); 5] = [
    (Section::Credentials, "/credentials", "Credentials"),
    (Section::Users, "/namespace", "Users"),
    (Section::Audit, "/audit", "Audit"),
    (Section::Rules, "/rules", "Rules"),
    (Section::Sessions, "/sessions", "Sessions"),
];

/// What every page has around its content.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The department's name for the service.
    pub service: String,
    /// The program's version.
    pub version: &'static str,
    /// The style sheet's address; it changes with its content.
    pub style: &'static str,
    /// For the title bar.
    pub title: String,
    /// Which page of the bar this is.
    pub section: Section,
    /// Whether the content is one narrow column.
    pub narrow: bool,
    /// Who is signed in.
    pub person: Option<String>,
    /// What every form must send back; see [`crate::web::forms`].
    pub form_token: String,
    /// What makes a form that changes something safe to send twice.
    pub key: String,
    /// What the form before this page did.
    pub note: Option<Flash>,
}

/// What was done, at the top of the next page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flash {
    /// The colour: `good`, `warn`, `bad` or none.
    pub tone: &'static str,
    /// The sentence.
    pub title: String,
    /// Details, a line each.
    pub lines: Vec<String>,
    /// The rules that allowed it.
    pub reasons: Vec<String>,
}

/// A time, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// RFC 3339.
    pub iso: String,
    /// `2026-11-22 18:57`.
    pub text: String,
}

/// One choice of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is sent.
    pub value: String,
    /// What is read.
    pub label: String,
    /// Whether it is chosen.
    pub selected: bool,
}

/// Choices that belong together.
#[derive(Clone, Debug)]
pub struct ChoiceGroup {
    /// Their heading.
    pub label: &'static str,
    /// The choices.
    pub options: Vec<Choice>,
}

/// A way on from here.
#[derive(Clone, Debug)]
pub struct Link {
    /// A local address.
    pub href: String,
    /// What is read.
    pub label: String,
}

/// A managed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its ARN.
    pub arn: String,
    /// The last part of it.
    pub name: String,
}

impl Policy {
    /// By its ARN.
    pub fn new(arn: impl Into<String>) -> Self {
        let arn = arn.into();
        let name = arn.rsplit('/').next().unwrap_or(&arn).to_owned();
        Self { arn, name }
    }
}

/// Any problem, in the pages' own style.
#[derive(Debug, Template)]
#[template(path = "problem.html")]
pub struct ProblemPage {
    /// Around it.
    pub frame: Frame,
    /// What happened, in the words of the code.
    pub title: String,
    /// What happened here and what to do.
    pub lines: Vec<String>,
    /// What decided.
    pub reasons: Vec<String>,
    /// Seconds to wait.
    pub retry_after: Option<u32>,
    /// Ways on.
    pub links: Vec<Link>,
    /// The fixed code.
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// As in the log and the audit trail.
    pub request_id: String,
}
