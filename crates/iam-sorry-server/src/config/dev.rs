//! `serve --dev`: a whole configuration from nothing but the usual AWS variables, for trying things out on one machine.

use std::env;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use iam_sorry_core::audit::new_key_pem;

use super::{Config, ConfigError};
use crate::files;

/// Whoever signs in by the link may do everything that the guardrails leave. The file is theirs to change.
const RULES: &str = r#"// The rules of `iam-sorryd serve --dev`. Change them: they are read again at once.
// A mistake leaves the rules in force as they were; the log says what is wrong.

@id("admins-may-all")
@reason("Admins may do everything that the guardrails leave")
permit (principal in IamSorry::Group::"admins", action, resource);

@id("owners-may-all-in-their-namespace")
@reason("Owners of a namespace may do everything in it")
permit (principal, action, resource is IamSorry::User) when { principal in resource.owners };

@id("people-register-their-keys")
permit (principal, action == IamSorry::Action::"registerKey", resource);

@id("owners-may-list-their-namespace")
permit (principal, action, resource is IamSorry::Namespace) when { principal in resource.owners };
"#;

const PEOPLE: &str = r#"# People who may sign in by SSH key, besides the admin of the one-time link. Read again whenever it changes.
#
# [[people]]
# name = "ada"
# groups = ["lab"]
# keys = ["ssh-ed25519 AAAA... ada@laptop"]
"#;

/// Makes the folder with what `--dev` needs, where it isn't there yet, and the configuration that uses it.
///
/// # Errors
/// [`ConfigError`]: an address that other machines reach, a folder that can't be made, no AWS identity.
pub fn config(listen: SocketAddr, folder: Option<&Path>) -> Result<Config, ConfigError> {
    let one = |problem: String| ConfigError(vec![problem]);
    if !listen.ip().is_loopback() {
        return Err(one(format!(
            "--dev is for this machine only, and {listen} is reached from others.\nGive --listen 127.0.0.1:8750, or write \
             a configuration: iam-sorryd serve --config FILE"
        )));
    }
    let folder = folder.map_or_else(default_folder, |folder| Ok(folder.to_owned()))?;
    let made = prepare(&folder);
    made.map_err(|e| {
        one(format!("The folder {} can't be prepared: {e}\nGive another: --state FOLDER", folder.display()))
    })?;
    Config::parse(&text(listen, &folder)?).map_err(one)
}

fn default_folder() -> Result<PathBuf, ConfigError> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("iam-sorryd-dev"))
        .ok_or_else(|| ConfigError(vec!["HOME is not set.\nSay where to keep things: --state FOLDER".into()]))
}

fn prepare(folder: &Path) -> io::Result<()> {
    files::make_folder(folder)?;
    let there = |made: io::Result<()>| match made {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    there(files::make(&folder.join("rules.cedar"), RULES.as_bytes(), 0o600))?;
    there(files::make(&folder.join("people.toml"), PEOPLE.as_bytes(), 0o600))?;
    let key = folder.join("audit.key");
    if !key.exists() {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(seed.as_mut()).map_err(|_| io::Error::other("no random numbers"))?;
        there(files::make(&key, new_key_pem(&seed).as_bytes(), 0o600))?;
    }
    Ok(())
}

/// As somebody would write it, so that `--dev` is the same service. Debug formatting of a string is valid TOML for what
/// paths and addresses have in them.
fn text(listen: SocketAddr, folder: &Path) -> Result<String, ConfigError> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let region =
        set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")).unwrap_or_else(|| "us-east-1".into());
    let file = |name: &str| folder.join(name).display().to_string();
    let mut text = format!(
        "name = \"iam-sorryd (development)\"\n[http]\norigin = \"http://{listen}\"\nlisten = \"{listen}\"\n\
         [store]\npath = {:?}\n[rules]\nfiles = [{:?}]\n[login.ssh]\nfile = {:?}\n[audit]\nkey_file = {:?}\n\
         [[namespace]]\nname = \"dev\"\nowners = [\"group:admins\"]\n[guardrails]\n\
         permissions_boundary = \"arn:aws:iam::aws:policy/ReadOnlyAccess\"\n\
         policies = [\"arn:aws:iam::aws:policy/ReadOnlyAccess\", \"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess\"]\n\
         [aws]\nregion = {region:?}\n",
        file("store.db"),
        file("rules.cedar"),
        file("people.toml"),
        file("audit.key"),
    );
    for (setting, variable) in
        [("endpoint_sts", "AWS_ENDPOINT_URL_STS"), ("endpoint_iam", "AWS_ENDPOINT_URL_IAM")]
    {
        if let Some(url) = set(variable).or_else(|| set("AWS_ENDPOINT_URL")) {
            let _ = writeln!(text, "{setting} = {url:?}");
        }
    }
    if set("AWS_ACCESS_KEY_ID").is_some() {
        text.push_str("identity = \"environment\"\n");
    } else if let Some(profile) = set("AWS_PROFILE") {
        let file = set("AWS_SHARED_CREDENTIALS_FILE")
            .or_else(|| set("HOME").map(|home| format!("{home}/.aws/credentials")))
            .unwrap_or_default();
        let _ = writeln!(text, "identity = {{ profile = {{ file = {file:?}, name = {profile:?} }} }}");
    } else {
        return Err(ConfigError(vec![
            "The service needs an AWS identity of its own.\nSet AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
             AWS_PROFILE; for an emulator also AWS_ENDPOINT_URL."
                .into(),
        ]));
    }
    Ok(text)
}
