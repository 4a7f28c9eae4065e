//! What a record says of a request for approval.

use serde::{Deserialize, Serialize};

/// The request that a record is about: an approver's decision names the request alone, and an action that was done under an
/// approval names the records of those decisions as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    /// Its id.
    pub request: String,
    /// Who approved it; empty in the record of a decision itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Approver>,
}

/// Somebody who approved a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approver {
    /// `issuer/subject`.
    pub person: String,
    /// The record of the decision, which has the approver's signature: `LANE:SEQ:HASH`.
    pub record: String,
}
