//! Pages of lists, and the audit trail as the interface shows it.

use serde::{Deserialize, Serialize};

use crate::audit::{Event, InvalidRecord, LaneId, Record};

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Ask for the next page with `?cursor=`; none on the last.
    pub next: Option<String>,
}

/// The query of every list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct PageQuery {
    /// From the page before.
    pub cursor: Option<String>,
    /// 1 to 500 (default 100).
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 500), param(minimum = 1, maximum = 500))]
    pub limit: Option<u32>,
    /// Everybody's, for those who may; mine otherwise.
    pub all: bool,
}

/// The query of `GET /audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct AuditQuery {
    /// From the page before.
    pub cursor: Option<String>,
    /// 1 to 500 (default 100).
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 500), param(minimum = 1, maximum = 500))]
    pub limit: Option<u32>,
    /// Everybody's, for auditors; mine otherwise.
    pub all: bool,
    /// Only this person's (`issuer/subject` or login name); for auditors.
    pub person: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only this user or role.
    pub resource: Option<String>,
    /// From this time on, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(format = DateTime), param(format = DateTime))]
    pub from: Option<String>,
    /// Before this time, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(format = DateTime), param(format = DateTime))]
    pub to: Option<String>,
}

/// An item of `GET /audit`: one record of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Its lane, 16 hexadecimal digits: the chain of one run of an instance.
    #[serde(default)]
    pub lane: String,
    /// Its place in the lane, from 1.
    pub seq: u64,
    /// Its hash, 64 hexadecimal digits: what the next record carries.
    pub hash: String,
    /// What happened.
    pub event: Event,
}

impl TryFrom<&Record> for AuditRecord {
    type Error = InvalidRecord;

    fn try_from(record: &Record) -> Result<Self, InvalidRecord> {
        Ok(Self {
            lane: record.lane.to_string(),
            seq: record.seq,
            hash: record.hash_hex(),
            event: record.event()?,
        })
    }
}

impl AuditRecord {
    /// Its name, as people are shown it: `LANE:SEQ`, and `SEQ` for a record from before there were lanes.
    pub fn id(&self) -> String {
        match LaneId::parse(&self.lane) {
            Some(lane) => lane.record(self.seq).to_string(),
            None => self.seq.to_string(),
        }
    }
}

/// The query of `GET /audit/export`. Everybody's without any filter is the trail itself, which `audit verify` can verify;
/// with one, it is a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct ExportQuery {
    /// Everybody's, for auditors; mine otherwise.
    pub all: bool,
    /// Only this person's (`issuer/subject` or login name); for auditors.
    pub person: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only this user or role.
    pub resource: Option<String>,
    /// From this time on, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(format = DateTime), param(format = DateTime))]
    pub from: Option<String>,
    /// Before this time, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(format = DateTime), param(format = DateTime))]
    pub to: Option<String>,
    /// The form of each line.
    #[cfg_attr(feature = "openapi", param(inline))]
    pub format: ExportFormat,
}

impl From<ExportQuery> for AuditQuery {
    fn from(query: ExportQuery) -> Self {
        let ExportQuery { all, person, action, resource, from, to, format: _ } = query;
        Self { cursor: None, limit: None, all, person, action, resource, from, to }
    }
}

/// The form of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExportFormat {
    /// Records and checkpoints as they are chained and signed: `audit verify` reads it.
    #[default]
    Jsonl,
    /// OCSF events, for security tools. Can't be verified.
    Ocsf,
}
