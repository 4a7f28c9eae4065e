//! Faults that are put into the service's code on purpose, one at a time (`planted!` in the crates): a simulator that does not
//! find them would find no others. None is compiled into a program that ships.

use std::io;
use std::path::Path;

/// One fault.
pub struct Plant {
    /// As in the code.
    pub name: &'static str,
    /// The file, without its ending; of iam-sorry-server unless it says otherwise.
    pub file: &'static str,
    pub what: &'static str,
}

#[rustfmt::skip]
pub const ALL: &[Plant] = &[
    Plant { name: "at-work-before-list", file: "operations/reconcile", what: "who is at work is looked up before the open operations are (the race that 2,596 keys had met)" },
    Plant { name: "living-taken-over", file: "operations/reconcile", what: "operations of other instances are claimed although these live" },
    Plant { name: "nothing-is-fresh", file: "operations/reconcile", what: "what a lost request did is looked for at once" },
    Plant { name: "settled-before-late-change", file: "operations/reconcile", what: "an operation is closed while a change that was sent to settle it may still come" },
    Plant { name: "undone-without-effects", file: "operations/reconcile", what: "what was deleted to undo an operation stays in the store" },
    Plant { name: "rules-not-compared", file: "operations/begin", what: "rules that were replaced before the intent was on disk do not count" },
    Plant { name: "user-not-compared", file: "operations/begin", what: "a user that was changed before the intent was on disk is taken as it was" },
    Plant { name: "unknown-beginning-is-none", file: "operations/begin", what: "an intent whose commit was not confirmed counts as not written" },
    Plant { name: "own-beginning-is-foreign", file: "operations/begin", what: "an operation that another instance has settled meanwhile is begun again" },
    Plant { name: "open-request-begun-again", file: "operations/begin", what: "a request whose operation is still open is begun a second time" },
    Plant { name: "dry-run-acts", file: "operations/run", what: "a dry run acts" },
    Plant { name: "unshown-key-forgotten", file: "operations/run", what: "a key whose outcome was not confirmed is not remembered" },
    Plant { name: "lost-and-failed-is-failed", file: "operations/run", what: "an operation is closed as failed although its first request may have been done" },
    Plant { name: "late-change-not-awaited", file: "operations/outcome", what: "an operation is closed while a change of it may still come" },
    Plant { name: "one-attempt-to-write", file: "operations/outcome", what: "after a standstill an outcome is not written a second time" },
    Plant { name: "unknown-outcome-is-written", file: "operations/outcome", what: "an outcome whose commit was not confirmed counts as written" },
    Plant { name: "pauses-without-bound", file: "operations/settling", what: "the pause between two attempts to settle grows to ten minutes" },
    Plant { name: "made-key-forgotten", file: "operations/settling", what: "keys that could not be written down are forgotten when their operation is closed elsewhere" },
    Plant { name: "term-not-compared", file: "operations/life", what: "a worker goes on after a silence in which it may have been replaced" },
    Plant { name: "acts-without-beats", file: "operations/life", what: "an instance acts although the database has not heard of it" },
    Plant { name: "beat-counts-from-answer", file: "operations/life", what: "a beat counts from its answer on, not from when it was sent" },
    Plant { name: "young-key-taken-for-gone", file: "actions/old_key", what: "a key that IAM does not list yet is taken for deleted" },
    Plant { name: "young-user-taken-for-gone", file: "actions/user_state", what: "a user that IAM does not show yet is taken for deleted" },
    Plant { name: "foreign-user-is-managed", file: "actions/user_state", what: "path and tag of a user are not looked at" },
    Plant { name: "half-deletion-forgotten", file: "actions/delete_user", what: "keys that a deletion took away before it failed stay in the store" },
    Plant { name: "foreign-user-is-made", file: "actions/create_user", what: "a user of that name is taken for the one that the operation made" },
    Plant { name: "creation-repeated", file: "aws: key/create", what: "CreateAccessKey is sent again after a lost answer" },
    Plant { name: "found-key-deleted", file: "aws: key/find", what: "a key that fits a lost answer is deleted" },
    Plant { name: "lost-answer-means-nothing", file: "aws: non_idempotent", what: "a lost answer counts as nothing done" },
    Plant { name: "close-not-fenced", file: "store: operations", what: "an outcome is written by who lost the operation" },
    Plant { name: "closed-twice", file: "store: operations", what: "a second outcome is written" },
    Plant { name: "nobody-is-busy", file: "store: operations", what: "two operations on one user at a time" },
    Plant { name: "grants-not-written", file: "store: operations", what: "grants are not written with the outcome" },
    Plant { name: "unknown-commit-is-none", file: "store: writer", what: "a commit without an answer counts as not done" },
    Plant { name: "commit-not-checked", file: "store: writer", what: "a commit that fails counts as done" },
    Plant { name: "written-after-giving-up", file: "store: writer", what: "a write is done that its caller has given up" },
];

/// The fault of that name.
pub fn parse(name: &str) -> Result<&'static str, String> {
    let found = ALL.iter().find(|plant| plant.name == name).map(|plant| plant.name);
    found.ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|plant| plant.name).collect();
        format!("there is no such fault; there are {}", names.join(", "))
    })
}

/// Puts the table between its marks in a Markdown file.
pub fn write_table(file: &Path, rows: &[String]) -> io::Result<()> {
    const BEGIN: &str = "<!-- planted: written by scripts/simulate --planted --write -->\n";
    const END: &str = "<!-- end of planted -->";
    let text = std::fs::read_to_string(file)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| io::Error::other("the marks of the table are missing"))?;
    std::fs::write(file, format!("{before}{BEGIN}\n{}\n\n{END}{after}", rows.join("\n")))
}
