//! The command line, defined for clap: help, completions and manual pages are generated from it.

mod original;
mod parts;
mod service;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use original::{LaterOriginalArgs, OriginalArgs};
pub use parts::*;
pub use service::*;

const EXAMPLES: &str = "\
The main job, in three commands:
  iam-sorry --profile usermanager --encrypt
      seal the manager's permanent keys with your SSH key (once)
  iam-sorry --profile usermanager admin
      temporary credentials of IAM user 'admin', in profile 'admin'
  aws --profile admin sts get-caller-identity
      they really are admin's

If your department runs a service, in two:
  iam-sorry login https://keys.example.edu
      sign in with your SSH key; no browser, no manager's keys
  iam-sorry admin
      the same credentials, through the service

Exit status:
  0    success
  1    other failure
  2    usage
  3    profile or credentials missing or unusable
  4    AWS or the department service refused or could not be reached
  5    SSH key, agent or sealed value
  130  interrupted
  'exec' returns the command's own.

'iam-sorry VERB --help' teaches each verb.
A profile that bears a verb's name is reached with 'iam-sorry refresh NAME'.";

/// Temporary AWS credentials for headless machines, with the powerful keys sealed by your SSH key.
#[derive(Parser, Debug, Default)]
#[command(name = "iam-sorry", version, after_help = EXAMPLES, disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,

    #[command(flatten)]
    pub original: OriginalArgs,

    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Parses the forms that run thousands of times without clap, which costs as much as everything else they do. `None`
/// leaves the arguments to clap, as it does for every name that could be an option.
pub fn parse_fast_path(arguments: &[OsString]) -> Option<Cli> {
    let [_, form, name] = arguments else {
        let [_, form] = arguments else { return None };
        let profiles = form == "__profiles";
        return profiles.then(|| Cli { verb: Some(Verb::Profiles), ..Cli::default() });
    };
    let name = name.to_str().filter(|name| !name.is_empty() && !name.starts_with('-'))?.to_owned();
    let mut cli = Cli::default();
    match form.to_str()? {
        "--eval" => cli.original.eval = Some(name),
        "credential-process" => cli.verb = Some(Verb::CredentialProcess { target: name, session: false }),
        _ => return None,
    }
    Some(cli)
}

/// The heading in help for options of every command, below a verb's own.
const FOR_ALL: &str = "Options of every command";

/// Options of every command.
#[derive(Args, Debug, Default)]
pub struct Global {
    /// Manager profile, whose keys make keys for others [default: AWS_PROFILE, then iam-sorry if it exists].
    #[arg(long, value_name = "PROFILE", global = true, help_heading = FOR_ALL)]
    pub profile: Option<String>,

    /// How long credentials last: whole hours from 1 to 36 (also 12h, 90m) [default: 36].
    #[arg(long, value_name = "HOURS", global = true, help_heading = FOR_ALL, allow_hyphen_values = true)]
    pub duration: Option<String>,

    /// SSH key that seals and opens [default: IAM_SORRY_SSH_KEY, then ~/.ssh/id_ed25519].
    #[arg(long, value_name = "FILE", global = true, help_heading = FOR_ALL)]
    pub ssh_key: Option<PathBuf>,

    /// Seal with a key that only the agent holds, so that its passphrase can't be checked.
    #[arg(long, global = true, help_heading = FOR_ALL, hide_short_help = true)]
    pub allow_agent_only: bool,

    /// Region of the STS endpoint [default: AWS_REGION, then the profile's].
    #[arg(long, global = true, help_heading = FOR_ALL)]
    pub region: Option<String>,

    /// Code of the MFA device, if the profile has an mfa_serial [default: prompt].
    #[arg(long, value_name = "CODE", global = true, help_heading = FOR_ALL)]
    pub mfa_code: Option<String>,

    /// Allow an endpoint over plain http on another machine (its network sees your requests).
    #[arg(long, global = true, help_heading = FOR_ALL, hide_short_help = true)]
    pub allow_http: bool,

    /// Department service to use, or none [default: IAM_SORRY_SERVER, the settings file's, the last sign-in's].
    #[arg(long, value_name = "URL", global = true, help_heading = FOR_ALL)]
    pub server: Option<String>,

    /// Trust these certificate authorities (PEM) for the service, instead of the system's.
    #[arg(long, value_name = "FILE", global = true, help_heading = FOR_ALL, hide_short_help = true)]
    pub ca_file: Option<PathBuf>,

    /// Say yes to every question.
    #[arg(long, short = 'y', global = true, help_heading = FOR_ALL)]
    pub yes: bool,

    /// No progress on stderr; warnings and errors stay.
    #[arg(long, short, global = true, help_heading = FOR_ALL)]
    pub quiet: bool,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Temporary credentials for one or many profiles or IAM users
    #[command(after_help = "\
Each NAME that is a profile is refreshed for the user it belongs to; any other
NAME is taken as the IAM user. What a profile holds decides how:
  permanent keys   They request the session, and stay in the profile, sealed, so
                   that the next refresh needs no manager.
  anything else    The manager makes an access key for the user, requests the
                   session with it, and deletes the key again. Without a
                   manager, the department service does that (see 'login').

  iam-sorry refresh alice bob carol --profile usermanager
  iam-sorry refresh --all --duration 12h
  iam-sorry refresh --role arn:aws:iam::123456789012:role/lab --as lab")]
    Refresh {
        /// Profiles or IAM users.
        #[arg(value_name = "NAME", required_unless_present_any = ["all", "role"])]
        names: Vec<String>,
        /// Every profile that iam-sorry made.
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Keep the key that is made for the user, sealed in the profile: later refreshes need no manager.
        #[arg(long)]
        keep_key: bool,
        /// A role's credentials, through the department service, into the profile that --as names.
        #[arg(long, value_name = "ARN", conflicts_with_all = ["names", "all", "keep_key"], requires = "into")]
        role: Option<String>,
        /// The profile for --role.
        #[arg(long = "as", id = "into", value_name = "PROFILE", requires = "role")]
        into: Option<String>,
    },

    /// Seal a profile's keys with your SSH key
    #[command(after_help = "\
The values in ~/.aws/credentials become __encrypted__:v2...; ssh-agent opens
them without a prompt, anything else asks for the key's passphrase. The key must
be ED25519 and passphrase-protected.

  iam-sorry encrypt usermanager
  iam-sorry encrypt usermanager --process
      then 'aws --profile usermanager ...' works with no wrapper")]
    Encrypt {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// Also write a credential_process line, so that every AWS tool gets the keys through iam-sorry.
        #[arg(long)]
        process: bool,
    },

    /// Put a profile's keys back as plain text (asks first)
    Decrypt {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
    },

    /// Which SSH keys can open a profile
    #[command(after_help = "\
Add a second key before you need it: a lost SSH key without another recipient
means new AWS keys. To add one, both must be at hand: in the agent, or as files.

  iam-sorry recipients list usermanager
  iam-sorry recipients add usermanager ~/.ssh/id_laptop
  iam-sorry recipients remove usermanager SHA256:...")]
    Recipients {
        #[command(subcommand)]
        action: Recipients,
    },

    /// Turn values of the original Python tool into the sealed format
    #[command(after_help = "\
The original sealed with the bytes of the key FILE: whoever can read that file
needs no passphrase. Values are opened as the original did (with an old copy of
the file, if its passphrase was changed since), sealed anew and read back.
Rotate the AWS keys afterwards: old copies of the credentials file stay readable
without a passphrase.

  iam-sorry migrate                           every profile with legacy values
  iam-sorry migrate usermanager --old-key ~/backup/id_ed25519")]
    Migrate {
        /// Only these profiles.
        profiles: Vec<String>,
        /// A copy of the key file as it was when the values were made.
        #[arg(long, value_name = "FILE")]
        old_key: Option<PathBuf>,
    },

    /// Seal a profile again after its section was renamed by hand
    #[command(after_help = "\
Sealed values are bound to their profile's name. If a section was renamed in an
editor, its values no longer open:

  iam-sorry reseal newname --was oldname")]
    Reseal {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// The name under which the values were sealed.
        #[arg(long, value_name = "OLD")]
        was: Option<String>,
    },

    /// Rename a profile in both AWS files, sealed values included
    Rename {
        /// Its present name.
        old: String,
        /// Its new name.
        new: String,
    },

    /// Run one command with a profile's credentials in its environment only
    #[command(after_help = "\
Nothing reaches the shell's history or 'ps'. The command replaces iam-sorry
(execve), so signals, exit status and the terminal are its own; 126: it can't be
run, 127: there is no such command.

  iam-sorry exec usermanager -- aws iam list-users
  iam-sorry exec admin -- terraform apply
  iam-sorry exec deploy-role -- aws s3 ls             credentials of a role
  iam-sorry exec --profile usermanager alice -- CMD   renewed first, if need be")]
    Exec {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// A session of the user in place of the permanent keys that the profile holds.
        #[arg(long)]
        session: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },

    /// Run one command, and serve it fresh credentials for as long as it runs
    #[command(after_help = "\
For commands that outlast their credentials. Before each expiry, SDKs call an
address on this machine (AWS_CONTAINER_CREDENTIALS_FULL_URI); it answers only
the command's own token. Signals and exit status are the command's own. Take the
key out of the agent and the supply stops; put it back and it goes on.

  iam-sorry serve-credentials admin -- ./nightly-backup.sh")]
    ServeCredentials {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// The command and its arguments.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },

    /// A shell that holds a profile's credentials and shows it in the prompt
    #[command(after_help = "\
It is your own $SHELL with its own settings; 'exit' leaves it and the
credentials behind. Shells of this kind don't nest.

  iam-sorry shell admin
  iam-sorry status               what this shell holds, and for how long")]
    Shell {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
    },

    /// What credentials this shell holds, and for how long
    #[command(after_help = "\
Looks at variables only: it opens no profile and never prompts. Exit status 3 if
there are no valid credentials.

  iam-sorry status --json | jq .seconds_left")]
    Status {
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },

    /// `__profiles`: profile names, one a line, for completions. Hidden from clap, which would show it in help.
    #[command(skip)]
    Profiles,

    /// Print a profile's credentials as shell text
    #[command(after_help = "\
bash, zsh, dash and other POSIX shells:
  eval $(iam-sorry env admin)
fish, PowerShell:
  iam-sorry env admin --shell fish | source
  iam-sorry env admin --shell powershell | Out-String | Invoke-Expression
A file with secrets (mind who reads it):
  iam-sorry env admin --shell dotenv > .env")]
    Env {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// bash, zsh, sh, fish, tcsh, powershell, cmd, nushell, dotenv or json.
        #[arg(long, default_value = "sh")]
        shell: String,
        /// A session of the user in place of the permanent keys that the profile holds.
        #[arg(long)]
        session: bool,
    },

    /// Print the lines that take the credentials out of a shell again
    #[command(after_help = "Examples:\n  eval $(iam-sorry unset)\n  iam-sorry unset --shell fish | source")]
    Unset {
        /// bash, zsh, sh, fish, tcsh, powershell, cmd or nushell.
        #[arg(long, default_value = "sh")]
        shell: String,
    },

    /// Print a profile's credentials as AWS SDKs want them from a credential_process
    #[command(after_help = "\
Called by SDKs, through a line in ~/.aws/config that
'iam-sorry encrypt PROFILE --process' writes:
  [profile usermanager]
  credential_process = \"/usr/bin/iam-sorry\" credential-process usermanager

What has less than 20 minutes left is refreshed first: with the user's own key,
if the profile keeps one, else through the manager (--profile, AWS_PROFILE, or
profile in the settings file). A role profile (role_arn with source_profile or
credential_source = Environment) gives the role's credentials. Many calls at
once make one request. Sessions of roles and of --session are kept, plain, in
~/.local/state/iam-sorry/cache (0600), as AWS CLI keeps its own; the permanent
keys behind them stay sealed.")]
    CredentialProcess {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
        /// A session of the user in place of the permanent keys that the profile holds.
        #[arg(long)]
        session: bool,
    },

    /// All profiles: kind, IAM user, time left
    #[command(visible_alias = "ls")]
    List {
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
    },

    /// What is wrong and how to fix it: key, agent, modes, left-over keys, clock, endpoint
    Doctor {
        /// JSON, for scripts.
        #[arg(long)]
        json: bool,
        /// Send no request to AWS.
        #[arg(long)]
        offline: bool,
        /// First fix what is safe to fix: file modes, abandoned locks; asks before it seals anything.
        #[arg(long, conflicts_with = "json")]
        fix: bool,
    },

    /// Replace a profile's permanent access key by a new one
    #[command(after_help = "\
A new key is made, proved to work and stored in the place of the old one (sealed
for the same SSH keys); only then the old one is deactivated and deleted.
Interrupted at any moment, the profile works, and the next run finishes. The
key's own user does it if IAM allows it (iam-sorry policy), else the
manager. A user with two keys has no room for another: both are shown, neither
is touched.

  iam-sorry rotate usermanager                       with its own rights
  iam-sorry rotate alice --profile usermanager       with the manager's")]
    Rotate {
        /// The profile, as its section is called.
        #[arg(value_name = "PROFILE")]
        target: String,
    },

    /// Print the least IAM policy that the manager needs
    #[command(after_help = "\
Examples:
  iam-sorry policy > policy.json
  iam-sorry policy --users 'dirk-*' --account 123456789012
  iam-sorry policy --users usermanager
  iam-sorry policy --namespace dirk                  users dirk and dirk-*
  iam-sorry policy --namespace dirk --create-users --boundary developers
  aws iam put-user-policy --user-name usermanager --policy-name iam-sorry \\
      --policy-document file://policy.json")]
    Policy(PolicyArgs),

    #[command(flatten)]
    Service(ServiceVerb),

    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  d=~/.local/share/bash-completion/completions
  mkdir -p $d; iam-sorry completions bash > $d/iam-sorry
  iam-sorry completions zsh > \"${fpath[1]}/_iam-sorry\"
  iam-sorry completions fish > ~/.config/fish/completions/iam-sorry.fish")]
    Completions {
        /// The shell that is to complete.
        shell: CompletionShell,
    },

    /// Print the manual page, or a verb's
    #[command(after_help = "Examples:\n  iam-sorry man | man -l -\n  iam-sorry man refresh | man -l -")]
    Man {
        /// A verb; without one, the page of the whole program.
        verb: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The fast path must parse as clap does.
    #[test]
    fn hot_forms_mean_what_clap_reads() {
        for form in ["--eval", "credential-process"] {
            for name in ["usermanager", "a b", "x=y", "ü", "-x", "--help", "", "refresh"] {
                let arguments: Vec<OsString> = ["iam-sorry", form, name].map(Into::into).into();
                if let Some(hot) = parse_fast_path(&arguments) {
                    let slow = Cli::try_parse_from(&arguments).unwrap();
                    assert_eq!(format!("{hot:?}"), format!("{slow:?}"), "{form} {name}");
                }
            }
        }
    }
}
