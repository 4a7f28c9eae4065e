//! The original tool's forms: those of its README, and those of its later versions.

use clap::Args;

/// Arguments of the original tool's README.
#[derive(Args, Debug, Default, PartialEq)]
pub struct OriginalArgs {
    /// Seal the manager profile's permanent keys with your SSH key (the same as 'encrypt PROFILE').
    #[arg(long, group = "seed")]
    pub encrypt: bool,

    /// Show a profile's fields as they lie in the file (sealed ones stay sealed).
    #[arg(long, value_name = "PROFILE", group = "seed")]
    pub show_encrypted: Option<String>,

    /// Show a profile's credentials opened. Secrets appear on the screen.
    #[arg(long, value_name = "PROFILE", group = "seed")]
    pub show_decrypted: Option<String>,

    /// Print export lines for the current shell: eval $(iam-sorry --eval PROFILE)
    #[arg(long, value_name = "PROFILE", group = "seed", num_args = 0..=1, default_missing_value = "")]
    pub eval: Option<String>,

    /// Keep the access key that is made for the user, sealed in the profile: later refreshes need no manager.
    #[arg(long, requires = "name")]
    pub keep_key: bool,

    /// Profile or IAM user to get temporary credentials for; without it, 'default' is refreshed after a question.
    #[arg(value_name = "NAME", conflicts_with_all = [
        "show_encrypted", "show_decrypted", "eval", "fix_profiles", "profiles", "reset", "print_policy",
        "print_admin_policy",
    ])]
    pub name: Option<String>,

    #[command(flatten)]
    pub later: LaterOriginalArgs,
}

/// Arguments of the original's later versions (docs/from-the-original.md says what differs, and why).
#[derive(Args, Debug, Default, PartialEq)]
#[command(next_help_heading = "From the original's later versions")]
pub struct LaterOriginalArgs {
    /// Names of all profiles, one per line.
    #[arg(long, group = "seed")]
    pub profiles: bool,

    /// Give each profile of the credentials file its section with a region in the config file.
    #[arg(long, group = "seed")]
    pub fix_profiles: bool,

    /// Remove profile 'iam-sorry' from both files (asks first).
    #[arg(long, group = "seed")]
    pub reset: bool,

    /// With --reset: its permanent key may be lost, and --yes answers the question.
    #[arg(long, requires = "reset", hide_short_help = true)]
    pub lose_key: bool,

    /// Make a manager's IAM user with its policy, through --profile ADMIN, and seal its key in profile NAME [default:
    /// iam-sorry]. It manages the users of its prefix: dirk-iam-sorry manages dirk and dirk-*.
    #[arg(long, value_name = "USERNAME", group = "seed")]
    pub create_iam_sorry: Option<String>,

    /// Print the least policy for the users PREFIX and PREFIX-* (the same as 'policy --namespace').
    #[arg(long, value_name = "PREFIX", group = "seed", num_args = 0..=1, default_missing_value = "")]
    pub print_policy: Option<String>,

    /// The same for a manager who also makes such users ('policy --namespace PREFIX --create-users').
    #[arg(long, value_name = "PREFIX", group = "seed", num_args = 0..=1, default_missing_value = "")]
    pub print_admin_policy: Option<String>,

    // No longer supported; parsed, so that the error can say what to do instead.
    #[arg(long, value_name = "OWNER", group = "seed", hide = true)]
    pub chown: Option<String>,
    #[arg(long, value_name = "PROFILE", group = "seed", hide = true, num_args = 0..=1, default_missing_value = "")]
    pub print_lambda_policy: Option<String>,
}
