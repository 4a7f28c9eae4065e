//! What a journal entry says, and how its lines are read back. Pure apart from [`MACHINE`], which knows host and boot.

use std::sync::LazyLock;

use iam_sorry_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::errors::KeysFound;
use crate::key::lost::{Attempt, FirstUse, Suspect, Window};

/// What the key is for, which decides what recovery does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// For one session of STS; deleted right after.
    Once,
    /// To stay, sealed, in the target profile.
    Keep,
    /// To replace `old` in the target profile.
    Rotate {
        /// The access key ID that is to go.
        old: String,
    },
}

/// The intent to make an access key: everything needed to find and delete it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Format of the entry: 1.
    pub version: u32,
    /// IAM user who gets the key.
    pub user: String,
    /// Account of the user; recovery with a manager of another account would learn nothing.
    pub account: String,
    /// `aws`, `aws-cn`, ...
    pub partition: String,
    /// Region as configured.
    pub region: String,
    /// IAM endpoint, if one was configured.
    pub endpoint: Option<String>,
    /// The manager profile that makes the key.
    pub manager: String,
    /// The profile that the credentials are for.
    pub target: String,
    /// What the key is for.
    pub purpose: Purpose,
    /// Machine, process and boot of the owner.
    pub host: String,
    /// Process ID on that machine.
    pub pid: u32,
    /// Start time of the process in clock ticks since boot (proc_pid_stat(5), field 22); 0 if unknown.
    pub process_start: u64,
    /// The boot of the machine; empty if unknown.
    pub boot_id: String,
    /// When, by this machine's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// Seconds that AWS's clock was ahead of this machine's.
    pub aws_ahead: i64,
    /// Access key IDs that the user had before.
    pub keys_before: Vec<String>,
}

/// One line of an entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    Intent(Box<Intent>),
    /// The ID of the key that was made.
    KeyId(String),
    /// The owner's last sign of life, in milliseconds since 1970, before somebody else touched the file.
    LastSign(i64),
    /// The ID was never learnt, and these keys fit: a person must decide. An older version of this program, which would delete a
    /// key that fits alone, deletes none of those that it finds under this name.
    #[serde(rename = "unclear")]
    Found(Vec<String>),
    /// One that fitted alone, and is inactive by now.
    Deactivated(String),
}

impl Fact {
    pub fn to_line(&self) -> std::io::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// An entry, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The intent.
    pub intent: Intent,
    /// The key's ID, if it became known.
    pub key_id: Option<String>,
    /// Keys that an earlier look found, none of which is proved to be the entry's.
    pub found: Vec<String>,
    /// Those of them that were deactivated.
    pub deactivated: Vec<String>,
    /// Last sign of life of the owner, in milliseconds since 1970.
    pub last_sign_ms: i64,
    /// When the file was touched last, in milliseconds since 1970.
    pub touched_ms: i64,
}

impl Record {
    /// Reads the lines of an entry. A torn or unknown later line is skipped: nobody acted on what it says.
    pub(crate) fn parse(text: &str, touched_ms: i64) -> Result<Self, &'static str> {
        let mut lines = text.split('\n').filter(|line| !line.is_empty());
        let first = lines.next().ok_or("the entry is empty")?;
        let Ok(Fact::Intent(intent)) = serde_json::from_str(first) else {
            return Err("the first line is no intent to make an access key");
        };
        if intent.version != 1 {
            return Err("written by a newer iam-sorry");
        }
        let (found, deactivated) = (Vec::new(), Vec::new());
        let last_sign_ms = touched_ms.max(intent.at_ms);
        let mut record = Self { intent: *intent, key_id: None, found, deactivated, last_sign_ms, touched_ms };
        for line in lines {
            record.add(line);
        }
        Ok(record)
    }

    fn add(&mut self, line: &str) {
        // Never a key that was there before the intent, whatever the file says.
        let may_be_it = |id: &String| is_key_id(id) && !self.intent.keys_before.contains(id);
        match serde_json::from_str(line) {
            Ok(Fact::KeyId(id)) if may_be_it(&id) => self.key_id = Some(id),
            Ok(Fact::LastSign(ms)) => self.last_sign_ms = ms.max(self.intent.at_ms),
            Ok(Fact::Found(ids)) => {
                let new = ids.into_iter().filter(may_be_it).filter(|id| !self.found.contains(id));
                let new: Vec<String> = new.collect();
                self.found.extend(new);
            }
            Ok(Fact::Deactivated(id)) if may_be_it(&id) => self.deactivated.push(id),
            _ => {}
        }
    }

    /// What the entry says about its key. `settled` is for the caller to know, who has a clock.
    pub(crate) fn attempt(&self, settled: bool) -> Attempt<'_> {
        let on_aws = |ms: i64| ms.div_euclid(1000).saturating_add(self.intent.aws_ahead);
        Attempt {
            key_id: self.key_id.as_deref(),
            before: Some(&self.intent.keys_before),
            // A second of rounding, and five in which a request that was on its way may arrive.
            window: Window {
                intent: on_aws(self.intent.at_ms),
                until: on_aws(self.last_sign_ms).saturating_add(6),
            },
            first_use: FirstUse::AfterNote,
            found: &self.found,
            settled,
        }
    }

    /// The keys that a person must decide about, once all is done that can be done without one: `None` before.
    pub fn suspects(&self) -> Option<Vec<Suspect>> {
        let is_deactivated = |id: &String| self.deactivated.contains(id);
        if self.key_id.is_some() || (self.found.len() < 2 && !self.found.iter().any(is_deactivated)) {
            return None;
        }
        let suspect = |id: &String| Suspect {
            key_id: id.clone(),
            deactivated: is_deactivated(id),
            // A key is used only once its ID is noted, so any use is somebody else's.
            found: Timestamp::EPOCH,
        };
        Some(self.found.iter().map(suspect).collect())
    }

    /// The keys that earlier looks found, in words; `None` if there are none. How they stand now only IAM knows.
    pub fn keys_found(&self) -> Option<KeysFound> {
        if self.key_id.is_some() || self.found.is_empty() {
            return None;
        }
        Some(KeysFound {
            user: self.intent.user.clone(),
            manager: self.intent.manager.clone(),
            keys: self.found.clone(),
            deactivated: self.found.len() == 1 && self.deactivated == self.found,
            refused: None,
        })
    }
}

/// IAM API reference, AccessKey: 16 to 128 word characters.
fn is_key_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// This machine and its boot.
pub(crate) struct Machine {
    pub host: String,
    pub boot_id: String,
}

pub(crate) static MACHINE: LazyLock<Machine> = LazyLock::new(|| Machine {
    host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
});

/// Start time of a process, 0 if there is no such process (or no /proc).
pub(crate) fn process_start(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command name (field 2) may hold blanks and brackets; fields count from the last bracket.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}
