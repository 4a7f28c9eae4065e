//! The command line's journal of access keys that are about to be made, so that none outlives the program whatever happens.
//!
//! One file per key, JSON lines: the intent first, facts appended as they become known, so that a torn write loses its
//! own line only. A file is complete before it gets its name, locked (flock) while its owner lives, and flushed, folder
//! included, before the step that it announces.
//!
//! | the process dies after             | on disk                   | in IAM         | the next run ([`crate::recover`])                  |
//! |------------------------------------|---------------------------|----------------|----------------------------------------------------|
//! | nothing                            | nothing, or an unnamed file | nothing      | nothing to do                                      |
//! | intent flushed                     | intent                    | nothing        | finds no key once the window is past: clears       |
//! | request under way, answer lost     | intent, heartbeats        | perhaps a key  | deactivates a key that fits alone, shows several   |
//! | key made, ID not yet flushed       | intent, heartbeats        | the key        | the same                                           |
//! | the key that fits written down     | intent, found             | the key        | deactivates it, unless it was used or deleted      |
//! | it is inactive                     | intent, found, deactivated | the key, inactive | a person decides: deleted or activated, clears  |
//! | several that fit written down      | intent, found             | the keys       | a person decides: each deleted or used, clears     |
//! | ID flushed                         | intent, ID                | the key        | deletes it by ID                                   |
//! | deleted, entry not yet removed     | intent, ID                | nothing        | NoSuchEntity: clears                               |
//! | entry removed                      | nothing                   | nothing        | nothing to do                                      |
//! | kept key: before it is stored      | intent (keep), ID         | the key        | looks into the profile: not there: deletes it      |
//! | kept key: stored, not yet cleared  | intent (keep), ID         | the key, in use | looks into the profile: there: clears             |
//! | rotation: new key stored           | intent (rotate), ID       | both keys      | there, and active in IAM: deactivates and deletes the old one |
//!
//! Which key fits, and why no key that fits is deleted, is in [`crate::key`]. The window begins with the intent and ends with
//! the last heartbeat, by AWS's clock (2 s and 6 s of allowance). The heartbeat sets the file's time every 100 ms while
//! CreateAccessKey is under way, from this machine's clock, so that the time of a sudden death is known.

mod entry;
mod file;
mod folder;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use entry::Entry;
pub(crate) use file::OpenEntry;
pub use folder::{JournalFolder, Listing, Pending, State};
pub(crate) use record::{Fact, MACHINE, process_start};
pub use record::{Intent, Purpose, Record};
