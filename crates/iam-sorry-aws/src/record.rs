//! What a journal entry says, and how its lines are read back. Pure apart from [`MACHINE`], which knows host and boot.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// What the key is for, which decides what recovery does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To ask STS once; deleted right after.
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
    /// IAM endpoint, where one was configured.
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
    /// Start time of the process in clock ticks since boot (proc_pid_stat(5), field 22); 0 where unknown.
    pub process_start: u64,
    /// The boot of the machine; empty where unknown.
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
    /// The ID was never learnt and several keys fit: a person must decide.
    Unclear(Vec<String>),
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
    /// The key's ID, where it became known.
    pub key_id: Option<String>,
    /// Keys among which an earlier recovery could not tell ours.
    pub unclear: Vec<String>,
    /// Last sign of life of the owner while the request was under way, in milliseconds since 1970.
    pub heartbeat_ms: i64,
}

impl Record {
    /// Reads the lines of an entry. A torn or unknown later line is skipped: it never told anything that was acted on.
    pub(crate) fn parse(text: &str, heartbeat_ms: i64) -> Result<Self, &'static str> {
        let mut lines = text.split('\n').filter(|line| !line.is_empty());
        let first = lines.next().ok_or("the entry is empty")?;
        let Ok(Fact::Intent(intent)) = serde_json::from_str(first) else {
            return Err("the first line is no intent to make an access key");
        };
        if intent.version != 1 {
            return Err("written by a newer iam-sorry");
        }
        let mut record = Self { intent: *intent, key_id: None, unclear: Vec::new(), heartbeat_ms };
        for line in lines {
            match serde_json::from_str(line) {
                // Never a key that was there before us, whatever the file says.
                Ok(Fact::KeyId(id)) if is_key_id(&id) && !record.intent.keys_before.contains(&id) => {
                    record.key_id = Some(id);
                }
                Ok(Fact::Unclear(ids)) => record.unclear = ids,
                _ => {}
            }
        }
        Ok(record)
    }

    /// The time span, by AWS's clock in seconds since 1970, in which a key of unknown ID was made if it was.
    pub(crate) fn window(&self) -> std::ops::RangeInclusive<i64> {
        let on_aws = |ms: i64, more: i64| {
            ms.div_euclid(1000).saturating_add(self.intent.aws_ahead).saturating_add(more)
        };
        let last = self.heartbeat_ms.max(self.intent.at_ms);
        on_aws(self.intent.at_ms, -2)..=on_aws(last, 1 + 5)
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

/// Start time of a process, 0 where there is no such process (or no /proc).
pub(crate) fn process_start(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command name (field 2) may hold blanks and brackets; fields count from the last bracket.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_ascii_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}
