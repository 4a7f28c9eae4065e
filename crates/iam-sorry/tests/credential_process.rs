//! `credential-process`, `exec` and `env` of profiles that need work first: temporary ones that near their end, roles,
//! sessions; hundreds of processes at once; and the lines in ~/.aws/config through which other SDKs get it all.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

#[path = "credential_process/in_a_circle.rs"]
mod in_a_circle;
#[path = "credential_process/many_at_once.rs"]
mod many_at_once;
#[path = "credential_process/other_sdks.rs"]
mod other_sdks;
#[path = "credential_process/renewal.rs"]
mod renewal;
#[path = "credential_process/roles.rs"]
mod roles;
#[path = "credential_process/sessions.rs"]
mod sessions;

use std::time::{SystemTime, UNIX_EPOCH};

use iam_sorry_core::timestamp::Timestamp;
use serde_json::Value;
use testkit::{Creds, MachineOnAws};

/// A machine whose manager is sealed, and an AWS account with user `admin`.
fn rig() -> MachineOnAws {
    MachineOnAws::with_manager(env!("CARGO_BIN_EXE_iam-sorry"))
}

/// This machine's time and so many seconds.
fn in_seconds(seconds: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_unix(i64::try_from(now).unwrap() + seconds).unwrap()
}

/// Writes another `expiration` into a profile, as if its set were older than it is.
fn expires_in(rig: &MachineOnAws, profile: &str, seconds: i64) {
    let old = rig.field(profile, "expiration").unwrap();
    let text = rig.home.credentials();
    let (before, section) = text.split_once(&format!("[{profile}]\n")).unwrap();
    let section = section.replacen(&old, &in_seconds(seconds).to_string(), 1);
    rig.home.write_credentials(format!("{before}[{profile}]\n{section}"));
}

/// What a credential_process printed: credentials of Version 1, and their expiry where they have one.
#[track_caller]
fn answer(out: &str) -> (Creds, Option<Timestamp>) {
    let json: Value = serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert_eq!(json["Version"], 1);
    let at = json["Expiration"].as_str().map(|at| Timestamp::parse(at).unwrap());
    (Creds::from_json(&json), at)
}

/// `credential-process PROFILE`, which has to work.
#[track_caller]
fn supplied(rig: &MachineOnAws, profile: &str) -> Creds {
    answer(&rig.run(&["credential-process", profile]).ok().stdout).0
}

/// A profile `admin` with a fresh set that the manager made; the calls so far are forgotten.
fn with_admin() -> MachineOnAws {
    let rig = rig();
    rig.refresh("admin").ok();
    rig.proxy.clear_calls();
    rig
}

/// The same, with a kept key: it needs no manager.
fn with_kept_key() -> MachineOnAws {
    let rig = rig();
    rig.run(&["--profile", "usermanager", "--keep-key", "admin"]).ok();
    rig.proxy.clear_calls();
    rig
}
