//! The verbs that use a department service, as clap sees them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand, Debug)]
pub enum ServiceVerb {
    /// Sign in to a department service, by SSH key or password
    #[command(after_help = "\
The SSH key signs what the service sends, bound to the address that you typed:
the signature is worthless anywhere else. ssh-agent signs, else the key file.
The session lies in ~/.local/state/iam-sorry/service.json (0600); commands then
use that service if no manager profile is named.

  iam-sorry login https://keys.example.edu
  iam-sorry login https://keys.example.edu --ldap --user alice
  iam-sorry login https://keys.example.edu --user alice
      the key must be alice's there; without, it may be whoever claims it (the
      next login at that address expects the same person again)
  iam-sorry admin                        then: credentials, through the service")]
    Login {
        /// Address of the service [default: --server, IAM_SORRY_SERVER, the settings file's, the last one].
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// With the directory's password, typed at the terminal.
        #[arg(long)]
        ldap: bool,
        /// Whom to sign in: a login name, by SSH key also ISSUER/NAME [default: whoever this key signed in last; with --ldap USER].
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },

    /// End the session at a department service
    #[command(after_help = "\
If the request fails, the session stays and the command fails. Only if the
service can't be reached is the session forgotten here; it may still be valid
there. With IAM_SORRY_TOKEN, that session is ended and the stored one stays.")]
    Logout {
        /// Address of the service [default: the last one].
        #[arg(value_name = "URL")]
        url: Option<String>,
    },

    /// Who you are to the service: groups, namespaces, roles, session
    Whoami {
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },

    /// IAM users of your namespaces, through the service
    #[command(after_help = "\
  iam-sorry users create dirk-alice --policy arn:aws:iam::aws:policy/Reading
  iam-sorry users create --file class.csv
      a line a user: its name, then policies; 'name,policies' may head it. Run
      it again after a failure: what is there already is skipped.
  iam-sorry users delete --file class.csv --yes")]
    Users {
        #[command(subcommand)]
        action: Users,
    },

    /// Policies of an IAM user, through the service
    Policies {
        #[command(subcommand)]
        action: Policies,
    },

    /// Permanent access keys of an IAM user, through the service
    #[command(after_help = "\
  iam-sorry keys create dirk-robot --as robot --encrypt
      into profile 'robot', sealed with your SSH key
  iam-sorry keys create dirk-robot
      JSON on stdout: the secret is shown this once")]
    Keys {
        #[command(subcommand)]
        action: Keys,
    },

    /// The audit trail: read, export, verify
    #[command(after_help = "\
  iam-sorry audit list --action create-user --from 2026-11-01T00:00:00Z
  iam-sorry audit export --all -o trail.jsonl
  iam-sorry audit verify trail.jsonl --key audit.pub       needs no service")]
    Audit {
        #[command(subcommand)]
        action: Audit,
    },

    /// Whether the rules let you do something, and which one says so
    #[command(after_help = "\
  iam-sorry explain create-user dirk-alice
  iam-sorry explain attach-policy dirk-alice --policy arn:aws:iam::aws:policy/X
  iam-sorry explain issue-credentials dirk-alice --duration 12h")]
    Explain {
        /// Such as create-user, attach-policy, issue-credentials, assume-role.
        action: String,
        /// The IAM user (NAME, or ACCOUNT/NAME if the service has several accounts), or the role's ARN.
        resource: String,
        /// For attach-policy and detach-policy: the policy.
        #[arg(long, value_name = "ARN")]
        policy: Option<String>,
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },

    /// Your sessions at the service: list and end them
    Sessions {
        #[command(subcommand)]
        action: Sessions,
    },

    /// The SSH keys that may sign you in
    SshKeys {
        #[command(subcommand)]
        action: SshKeys,
    },
}

/// Many at once, from a file.
#[derive(Args, Debug, Default)]
pub struct Many {
    /// IAM users: NAME, or ACCOUNT/NAME if the service has several accounts.
    #[arg(value_name = "NAME", required_unless_present = "file")]
    pub names: Vec<String>,
    /// One name a line, or CSV with the name first; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    pub file: Option<PathBuf>,
    /// Decide and check, but change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// What lists take.
#[derive(Args, Debug, Default)]
pub struct Listing {
    /// Everybody's, if you may see them.
    #[arg(long)]
    pub all: bool,
    /// JSON, for scripts.
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Users {
    /// The users of your namespaces
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Make users; policies are attached at once
    Create {
        #[command(flatten)]
        many: Many,
        /// Managed policy to attach, by ARN; may be given several times.
        #[arg(long = "policy", value_name = "ARN")]
        policies: Vec<String>,
    },
    /// Delete users with everything that hangs on them (asks first)
    Delete {
        #[command(flatten)]
        many: Many,
    },
    /// A user as IAM knows it now: policies, keys, boundary
    Show {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Put an IAM user that was there before into the service's care
    Adopt {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand, Debug)]
pub enum Policies {
    /// The policies that the service may attach, or those of a user
    List {
        /// The IAM user (NAME or ACCOUNT/NAME); without one, what can be attached.
        name: Option<String>,
    },
    /// Attach a managed policy
    Attach {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The policy's ARN.
        policy_arn: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Detach a managed policy
    Detach {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The policy's ARN.
        policy_arn: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where a new key goes.
#[derive(Args, Debug, Default)]
pub struct Destination {
    /// Into this profile of ~/.aws/credentials, and not onto the screen.
    #[arg(long = "as", value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Sealed with your SSH key.
    #[arg(long, requires = "profile")]
    pub encrypt: bool,
}

#[derive(Subcommand, Debug)]
pub enum Keys {
    /// A user's access keys, without their secrets
    List {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Make an access key; its secret is shown this once
    Create {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        #[command(flatten)]
        to: Destination,
    },
    /// A new key in the place of an old one, which becomes inactive and is deleted later
    #[command(after_help = "\
With --as the new key is stored, then confirmed, and the old one is deleted.
Without it, a prompt asks whether you have stored it. Without a terminal nothing
is confirmed unless --yes is given, and 'keys confirm' does it later. If nobody
confirms, the old key is deleted when its time is over ('keys list' shows it);
until then 'keys restore' takes the rotation back.")]
    Rotate {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The old key's ID (AKIA...) [default: the user's only one].
        access_key_id: Option<String>,
        #[command(flatten)]
        to: Destination,
    },
    /// Say that the new key of a rotation is stored: the old one is deleted
    Confirm {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The new key's ID (AKIA...).
        access_key_id: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a rotation back: the old key is active again, the new one is deleted
    #[command(after_help = "\
For a rotation that was not confirmed: its new secret was lost, or the old key is
still needed somewhere. A new key that is in use already stays.")]
    Restore {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The old key's ID (AKIA...).
        access_key_id: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Deactivate an access key, such as one that has leaked: whoever uses it fails
    #[command(after_help = "\
The key stays, and 'keys activate' makes it work again. AWS needs a few seconds
until every region knows. Temporary credentials that were made with the key go on
until they expire.")]
    Deactivate {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The key's ID (AKIA...).
        access_key_id: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Activate an access key that was deactivated
    Activate {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The key's ID (AKIA...).
        access_key_id: String,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete an access key (asks first)
    Delete {
        /// The IAM user: NAME, or ACCOUNT/NAME if the service has several accounts.
        name: String,
        /// The key's ID (AKIA...).
        access_key_id: String,
        /// Even if it was used a moment ago: whoever uses it will fail.
        #[arg(long)]
        force: bool,
        /// Decide and check, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which records.
#[derive(Args, Debug, Default)]
pub struct Which {
    /// Everybody's, for auditors.
    #[arg(long)]
    pub all: bool,
    /// Of this person: login name, or issuer/subject.
    #[arg(long, value_name = "NAME")]
    pub person: Option<String>,
    /// Of this action, such as create-user.
    #[arg(long)]
    pub action: Option<String>,
    /// About this IAM user or role.
    #[arg(long)]
    pub resource: Option<String>,
    /// From this time on (2026-11-22T15:00:00Z).
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum ExportFormat {
    /// The trail's own, which can be verified.
    Jsonl,
    /// Open Cybersecurity Schema Framework, for what collects logs.
    Ocsf,
}

#[derive(Subcommand, Debug)]
pub enum Audit {
    /// What happened, newest first
    List {
        #[command(flatten)]
        which: Which,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Records and checkpoints as JSON lines; with a filter it can't be verified
    Export {
        #[command(flatten)]
        which: Which,
        /// The format.
        #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
        format: ExportFormat,
        /// Into this file (0600) [default: stdout].
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check an export against the service's public key; needs no service
    #[command(after_help = "\
Finds a changed field, a removed, inserted or swapped record, a rebuilt chain,
a forged signature of a person and, if a later state is known, a cut tail or a
lane that was taken away. Exit status 1 if anything is wrong. The format is in
docs/audit-format.md.

  iam-sorry audit verify trail.jsonl --key audit.pub
  iam-sorry audit verify trail.jsonl --key audit.pub --expect 3f2a9c0145d67e88:4711:9f2c...")]
    Verify {
        /// The export; - is standard input.
        file: PathBuf,
        /// The service's public key (PEM); may be given several times.
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
        /// A state known from elsewhere, such as the last line of the last verification.
        #[arg(long, value_name = "STATE")]
        expect: Vec<String>,
        /// The file is a part of the trail, which begins where its header says: one that a sink's file was rotated to.
        #[arg(long)]
        part: bool,
        /// The file is a part of the trail, in which a lane begins with this record.
        #[arg(long, alias = "begins-at", value_name = "RECORD")]
        begin: Option<String>,
        /// How many records may follow the last checkpoint.
        #[arg(long, alias = "longest-unsigned", value_name = "COUNT")]
        max_unsigned: Option<u64>,
    },
}

#[derive(Subcommand, Debug)]
pub enum Sessions {
    /// Where you are signed in
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// End a session
    End {
        /// Its ID, as 'sessions list' shows it.
        id: String,
    },
}

#[derive(Subcommand, Debug)]
pub enum SshKeys {
    /// The keys that you registered
    List {
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Register a key to sign in with; it signs that it is yours
    Add {
        /// Its .pub file, key file, or fingerprint in the agent.
        key: String,
    },
    /// Take a key out again
    Remove {
        /// Its fingerprint (SHA256:...) or .pub file.
        key: String,
    },
}
