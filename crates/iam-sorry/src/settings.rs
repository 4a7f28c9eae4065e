//! All input from outside the command line: the environment and the settings file, read once. A flag beats a variable,
//! and a variable beats the file.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use iam_sorry_core::credentials::Credentials;
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::keyring::KeyringOptions;

/// Each variable that iam-sorry reads, with its meaning; `iam-sorry man` prints this table.
pub const VARIABLES: &[(&str, &str)] = &[
    ("AWS_PROFILE", "the manager profile, if --profile is not given"),
    ("AWS_SHARED_CREDENTIALS_FILE", "instead of ~/.aws/credentials"),
    ("AWS_CONFIG_FILE", "instead of ~/.aws/config"),
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        "a manager's key from an administrator: 'iam-sorry' alone offers to store it, sealed, if there is no manager yet",
    ),
    ("AWS_REGION", "region of the STS endpoint; set for child processes too"),
    ("AWS_DEFAULT_REGION", "the same, if AWS_REGION is not set"),
    ("AWS_ENDPOINT_URL", "endpoint for STS and IAM; plain http only on loopback"),
    ("AWS_ENDPOINT_URL_STS", "endpoint for STS alone"),
    ("AWS_ENDPOINT_URL_IAM", "endpoint for IAM alone"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true: no endpoint from variables or files is used"),
    ("AWS_USE_FIPS_ENDPOINT", "true: the FIPS endpoints"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "true: the dual-stack endpoints"),
    ("AWS_CA_BUNDLE", "PEM file with the certificate authorities to trust"),
    ("AWS_MAX_ATTEMPTS", "how often a request is tried (default 3)"),
    ("AWS_RETRY_MODE", "standard or adaptive"),
    ("HTTPS_PROXY, ALL_PROXY, NO_PROXY", "proxy for https requests; lower case too"),
    ("SSH_AUTH_SOCK", "socket of the ssh-agent"),
    (
        "SSH_ASKPASS, SSH_ASKPASS_REQUIRE",
        "program that prompts for a passphrase if there is no terminal; prefer, force or never",
    ),
    ("USER, LOGNAME", "the namespace of --print-policy, if none is given"),
    ("NO_COLOR", "no colours"),
    (
        "XDG_CONFIG_HOME, XDG_STATE_HOME",
        "folders of the settings file and the journal (~/.config, ~/.local/state)",
    ),
    (
        "XDG_RUNTIME_DIR, TMPDIR",
        "folders for the token file of serve-credentials; in the first, locks too if the home can't be written",
    ),
    (
        "IAM_SORRY_PROCESS",
        "set for child processes: the profiles whose credentials are being obtained, so that none needs itself",
    ),
    ("SHELL", "the shell that 'shell' starts"),
    (
        "IAM_SORRY_PROFILE",
        "set by 'shell' to its profile; 'status' shows it, and a second 'shell' refuses to start",
    ),
    ("IAM_SORRY_SSH_KEY", "SSH key that seals and opens (default ~/.ssh/id_ed25519)"),
    ("IAM_SORRY_SERVER", "department service to use, if --server is not given; none: no service"),
    ("IAM_SORRY_TOKEN", "a session's token for that service, for programs that can't sign in"),
    ("IAM_SORRY_CA_FILE", "certificate authorities (PEM) to trust for the service, instead of the system's"),
    ("IAM_SORRY_LOCK_DIR", "node-local folder for locks, if the home is on NFS"),
    (
        "IAM_SORRY_ALLOW_HTTP",
        "true: allow plain http to other hosts (your keys' signatures can be replayed by listeners)",
    ),
];

/// The variable with a session token for a department service: a secret that no child process inherits.
pub const TOKEN: &str = "IAM_SORRY_TOKEN";

/// The variable that tells child processes which profiles' credentials are being obtained, one a line.
pub const IN_PROGRESS_VARIABLE: &str = "IAM_SORRY_PROCESS";

/// The settings file, `iam-sorry/config.toml` under XDG_CONFIG_HOME.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    profile: Option<String>,
    ssh_key: Option<PathBuf>,
    duration: Option<Hours>,
    lock_dir: Option<PathBuf>,
    server: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    refuse_legacy: bool,
}

/// `duration = 12`, or `duration = "90m"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Hours {
    Number(i64),
    Text(String),
}

impl Hours {
    /// The text that `--duration` would hold.
    fn into_text(self) -> String {
        match self {
            Self::Number(hours) => hours.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Paths, and how to reach AWS and the service, before any profile is read.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub credentials_file: PathBuf,
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    pub lock_dir: Option<PathBuf>,
    /// Folders for private temporary files, in order of preference.
    pub runtime_dirs: Vec<PathBuf>,
    /// AWS_PROFILE, else the settings file's `profile`.
    pub profile: Option<String>,
    /// The settings file's `profile` alone: AWS_PROFILE may also name the profile that is being used.
    pub profile_in_file: Option<String>,
    /// XDG_RUNTIME_DIR.
    pub runtime_dir: Option<PathBuf>,
    /// The profiles for which a parent iam-sorry is obtaining credentials.
    pub in_progress: Vec<String>,
    pub duration: Option<String>,
    /// The login name: USER, else LOGNAME.
    pub login: Option<String>,
    /// The credentials in AWS's own variables.
    pub environment_credentials: Option<Credentials>,
    pub keys: KeyringOptions,
    /// The department service: the variable's, else the settings file's.
    pub server: Option<String>,
    /// The session token in IAM_SORRY_TOKEN.
    pub server_token: Option<SecretString>,
    /// The PEM file with the certificate authorities to trust for the service.
    pub server_ca: Option<PathBuf>,
    pub no_color: bool,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub endpoint_sts: Option<String>,
    pub endpoint_iam: Option<String>,
    pub ignore_endpoints: bool,
    pub use_fips: Option<bool>,
    pub use_dualstack: Option<bool>,
    pub ca_bundle: Option<PathBuf>,
    pub max_attempts: Option<String>,
    pub retry_mode: Option<String>,
    pub allow_http: bool,
    /// May contain a password, so it is never shown.
    pub proxy: Option<SecretString>,
    pub no_proxy: Option<String>,
}

impl Settings {
    /// Reads the environment and the settings file.
    ///
    /// # Errors
    /// Kind `Profile` if HOME is not set and no variable names the files; kind `Usage` if the settings file can't be
    /// parsed.
    pub fn read() -> Result<Self> {
        let home = path("HOME");
        let beside_home = |variable: &str, below: &str| match (path(variable), &home) {
            (Some(p), _) => Ok(p),
            (None, Some(home)) => Ok(home.join(below)),
            (None, None) => Err(Error::profile(format!(
                "HOME is not set, so ~/{below} can't be found.\nSet HOME, or name the file: export {variable}=/path/to/file"
            ))),
        };
        let config_home = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
        let file = match config_home {
            Some(folder) => read_settings_file(&folder.join("iam-sorry/config.toml"))?,
            None => SettingsFile::default(),
        };
        let credentials_file =
            expand(beside_home("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?, home.as_deref());
        let state_dir = match path("XDG_STATE_HOME").or_else(|| home.as_ref().map(|h| h.join(".local/state")))
        {
            Some(folder) => folder.join("iam-sorry"),
            None => credentials_file.with_file_name(".iam-sorry"),
        };
        let expand_home = |p: PathBuf| expand(p, home.as_deref());
        Ok(Self {
            config_file: expand_home(beside_home("AWS_CONFIG_FILE", ".aws/config")?),
            credentials_file,
            state_dir,
            lock_dir: path("IAM_SORRY_LOCK_DIR").or(file.lock_dir).map(expand_home),
            profile: text("AWS_PROFILE").or_else(|| file.profile.clone()),
            profile_in_file: file.profile,
            runtime_dirs: path("XDG_RUNTIME_DIR").into_iter().chain([env::temp_dir()]).collect(),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            in_progress: text(IN_PROGRESS_VARIABLE)
                .map(|v| v.lines().map(str::to_owned).collect())
                .unwrap_or_default(),
            duration: file.duration.map(Hours::into_text),
            login: text("USER").or_else(|| text("LOGNAME")),
            environment_credentials: environment_credentials(),
            keys: KeyringOptions {
                ssh_key: path("IAM_SORRY_SSH_KEY").or(file.ssh_key).map(expand_home),
                refuse_legacy: file.refuse_legacy,
                ..KeyringOptions::from_variables(|name| env::var_os(name))
            },
            server: text("IAM_SORRY_SERVER").or(file.server),
            server_token: text(TOKEN).map(Into::into),
            server_ca: path("IAM_SORRY_CA_FILE").or(file.ca_file).map(expand_home),
            no_color: text("NO_COLOR").is_some(),
            region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
            endpoint: text("AWS_ENDPOINT_URL"),
            endpoint_sts: text("AWS_ENDPOINT_URL_STS"),
            endpoint_iam: text("AWS_ENDPOINT_URL_IAM"),
            ignore_endpoints: boolean("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == Some(true),
            use_fips: boolean("AWS_USE_FIPS_ENDPOINT"),
            use_dualstack: boolean("AWS_USE_DUALSTACK_ENDPOINT"),
            ca_bundle: path("AWS_CA_BUNDLE"),
            max_attempts: text("AWS_MAX_ATTEMPTS"),
            retry_mode: text("AWS_RETRY_MODE"),
            proxy: either_case("HTTPS_PROXY").or_else(|| either_case("ALL_PROXY")).map(Into::into),
            no_proxy: either_case("NO_PROXY"),
            allow_http: boolean("IAM_SORRY_ALLOW_HTTP") == Some(true),
        })
    }
}

fn environment_credentials() -> Option<Credentials> {
    Some(Credentials {
        access_key_id: text("AWS_ACCESS_KEY_ID")?,
        secret_access_key: text("AWS_SECRET_ACCESS_KEY")?.into(),
        session_token: text("AWS_SESSION_TOKEN").map(Into::into),
        expiration: None,
    })
}

fn read_settings_file(path: &Path) -> Result<SettingsFile> {
    let bytes = read_regular(path);
    let text = match bytes.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(SettingsFile::default()),
        Err(e) => {
            return Err(Error::other(format!("The settings file {} can't be read: {e}", path.display())));
        }
    };
    toml::from_str(&text).map_err(|e| {
        Error::usage(format!(
            "The settings file {} can't be understood: {}\nIt knows: profile, ssh_key, duration, lock_dir, server, ca_file, refuse_legacy",
            path.display(),
            e.message()
        ))
    })
}

/// Reads a file that a person named. It is opened without blocking on a pipe, and at most 16 MiB of it are read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 16 << 20;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    if file.take(MOST + 1).read_to_end(&mut bytes)? as u64 > MOST {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    Ok(bytes)
}

/// Expands `~/`, for paths that no shell has expanded.
fn expand(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

/// A variable, unless it is empty.
pub fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

/// As [`text`], as a path.
pub fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// Reads a proxy variable as curl and Python do: lower case first.
fn either_case(name: &str) -> Option<String> {
    text(&name.to_lowercase()).or_else(|| text(name))
}

fn boolean(name: &str) -> Option<bool> {
    text(name).map(|v| v.eq_ignore_ascii_case("true") || v == "1")
}
