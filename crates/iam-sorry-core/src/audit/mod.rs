//! The audit trail: canonical records, the hash chain through them, signed checkpoints, verification.
//!
//! The format is published in `docs/audit-format.md`; a test checks an export with twenty lines of Python.

mod canonical;
mod checkpoint;
mod event;
mod ocsf;
mod record;
mod verify;

pub use checkpoint::{
    Checkpoint, CheckpointKey, CheckpointSigner, InvalidCheckpoint, InvalidKey, new_key_pem,
};
pub use event::{Decision, Event, Outcome, Person, Phase};
pub use ocsf::to_ocsf;
pub use record::{ChainId, Hash, InvalidRecord, Record, VERSION, export_header};
pub use verify::{Break, Expected, Finding, Report, Verifier};
