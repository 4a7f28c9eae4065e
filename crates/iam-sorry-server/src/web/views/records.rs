//! The audit trail.

use askama::Template;

use super::frame::{Choice, Frame, Link, Moment};
use crate::web::chart::Chart;

/// `/audit`.
#[derive(Debug, Template)]
#[template(path = "audit.html")]
pub struct AuditPage {
    /// Around it.
    pub frame: Frame,
    /// Whether the person may see everybody's.
    pub auditor: bool,
    /// As asked.
    pub filter: FilterForm,
    /// Actions to choose from.
    pub actions: Vec<Choice>,
    /// Counts over time.
    pub chart: Option<Chart>,
    /// Counting for the chart took too long.
    pub too_broad: bool,
    /// The records.
    pub records: Vec<RecordRow>,
    /// The next page's address.
    pub older: Option<String>,
}

/// What the filter's fields hold.
#[derive(Clone, Debug, Default)]
pub struct FilterForm {
    /// Login name or `issuer/subject`.
    pub person: String,
    /// User or role.
    pub resource: String,
    /// `YYYY-MM-DD` or nothing.
    pub from: String,
    /// The same, inclusive.
    pub to: String,
}

/// A record in the list.
#[derive(Clone, Debug)]
pub struct RecordRow {
    /// Its name: lane and place.
    pub id: String,
    /// The same, short enough for a table.
    pub label: String,
    /// When.
    pub time: Moment,
    /// Who.
    pub person: String,
    /// What.
    pub action: String,
    /// On what.
    pub resource: String,
    /// `done`, `refused` and so on.
    pub result: &'static str,
    /// Its colour.
    pub tone: &'static str,
}

/// `/audit/{record}`.
#[derive(Debug, Template)]
#[template(path = "record.html")]
pub struct RecordPage {
    /// Around it.
    pub frame: Frame,
    /// Its name: lane and place.
    pub id: String,
    /// What.
    pub action: String,
    /// When.
    pub time: Moment,
    /// How it ended.
    pub result: &'static str,
    /// Its colour.
    pub tone: &'static str,
    /// Everything in it, by subject.
    pub groups: Vec<FactGroup>,
    /// Neighbours.
    pub related: Vec<Link>,
}

/// Facts of one subject.
#[derive(Clone, Debug)]
pub struct FactGroup {
    /// Such as `Who`.
    pub title: &'static str,
    /// The facts.
    pub facts: Vec<Fact>,
}

/// A name and what it is.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Such as `Address`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it is set like a program's text.
    pub code: bool,
}
