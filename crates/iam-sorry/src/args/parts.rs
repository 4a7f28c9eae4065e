//! Arguments of single verbs.

use clap::{Args, Subcommand, ValueEnum};

/// Which policy.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    /// IAM users that the manager may get credentials for: names or patterns, with their path if they have one.
    #[arg(long, value_name = "PATTERN", default_value = "*", value_delimiter = ',', num_args = 1..)]
    pub users: Vec<String>,
    /// Account number.
    #[arg(long, default_value = "*")]
    pub account: String,
    /// Partition: aws, aws-cn, aws-us-gov, ... [default: the region's].
    #[arg(long)]
    pub partition: Option<String>,
    /// For scripts of earlier versions: every policy has what 'rotate' needs.
    #[arg(long, hide = true)]
    pub rotate: bool,
    /// The users PREFIX and PREFIX-*, instead of --users.
    #[arg(long, value_name = "PREFIX", conflicts_with = "users")]
    pub namespace: Option<String>,
    /// Also make users of the namespace, each with the permissions boundary.
    #[arg(long, requires = "namespace")]
    pub create_users: bool,
    /// Name or ARN of the managed policy that is the most those users can ever do.
    #[arg(long, value_name = "POLICY", requires = "create_users", default_value = DEFAULT_BOUNDARY)]
    pub boundary: String,
}

/// The default permissions boundary of users that a manager makes: the name of a managed policy.
pub const DEFAULT_BOUNDARY: &str = "iam-sorry-boundary";

#[derive(Subcommand, Debug)]
pub enum Recipients {
    /// Fingerprints of the keys that open a profile
    List {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
    },
    /// Let another SSH key open it
    Add {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// The other key: its private key file, its .pub file, or its fingerprint in the agent.
        key: String,
    },
    /// Stop a key from opening it (rotate the AWS key afterwards)
    Remove {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// Its fingerprint (SHA256:...) or .pub file.
        key: String,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum CompletionShell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}
