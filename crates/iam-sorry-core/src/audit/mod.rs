//! The audit trail: canonical records, the lanes of hash chains through them, signed checkpoints, verification.
//!
//! The format is published in `docs/audit-format.md`; a test checks an export with a page of Python.

mod approval;
mod canonical;
mod checkpoint;
mod event;
mod groups;
mod header;
mod lane;
mod ocsf;
mod record;
mod signature;
mod verify;

pub use approval::{Approval, Approver};
pub use checkpoint::{
    Checkpoint, CheckpointKey, CheckpointSigner, InvalidCheckpoint, InvalidKey, Previous, new_key_pem,
};
pub use event::{Decision, Event, Outcome, Person, Phase};
pub use groups::{groups_digest, groups_line};
pub use header::ExportHeader;
pub use lane::{ChainId, Hash, LaneHead, LaneHeads, LaneId, RecordId};
pub use ocsf::to_ocsf;
pub use record::{InvalidRecord, LaneWriter, Links, Record, VERSION};
pub use signature::{InvalidSignature, REQUEST_NAMESPACE, RequestSignature, SignedRequest};
pub use verify::{Break, Finding, Report, Verifier};
