//! `iam-sorryd check-config`: what is wrong, before the service is started with it.

use super::serve::{check_state, runtime, way_to_aws};
use super::{ConfigFile, Failure, print};
use crate::config::Config;
use crate::http::Certificates;
use crate::login::{LoginError, Ways};
use crate::services::group_names::ambiguous_names;
use crate::services::rules::LiveRules;
use crate::services::sinks;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,

    /// Also ask the directory: its certificate, the service's account in it, and whether the bases are there
    #[arg(long)]
    online: bool,
}

/// Reads the file and everything that it names on this machine; asks no other machine unless told to, changes nothing, shows
/// no secret.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.file.load()?;
    let rules = LiveRules::open(config.rules.clone(), config.rules_settings())
        .map_err(|p| Failure::found(p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    way_to_aws(&config.aws)?;
    config.store_settings().map_err(Failure::found)?;
    config.http.tls.as_ref().map(Certificates::load).transpose().map_err(Failure::found)?;
    let signer = super::audit::signer(&config.audit).map_err(Failure::found)?;
    check_state(&config.audit)?;
    config.audit.sinks.iter().try_for_each(sinks::check).map_err(Failure::found)?;
    let ways = Ways::new(&config.login).map_err(Failure::found)?;
    let mut warnings = String::new();
    if let Some(directory) = ways.directory.as_ref().filter(|_| arguments.online) {
        let wrong = |error: LoginError| Failure::found(format!("login.ldap: {error}"));
        let runtime = runtime()?;
        runtime.block_on(directory.try_out()).map_err(wrong)?;
        let ambiguous = runtime.block_on(ambiguous_names(&rules.handle().load(), &ways)).map_err(wrong)?;
        ambiguous.iter().for_each(|name| warnings += &format!("Warning: {name}\n"));
    }
    let summary = summary(&config, rules.status().rules, signer.is_some());
    print(format_args!("{warnings}{summary}"))
}

fn summary(config: &Config, rules: usize, signed: bool) -> String {
    let ways = Ways::new(&config.login).map(|ways| ways.methods()).unwrap_or_default();
    let ways: Vec<&str> = ways.into_iter().map(iam_sorry_core::identity::Method::as_str).collect();
    let transport = if config.http.tls.is_some() { "TLS" } else { "plain, behind a proxy on this machine" };
    let audit = match (signed, config.audit.sinks.len()) {
        (false, _) => {
            "NOT SIGNED: make a key with `iam-sorryd audit new-key FILE`, and name it in audit.key_file"
                .into()
        }
        (true, 0) => "signed; nowhere but in the store: a sink on another machine keeps it safe".into(),
        (true, sinks) => format!("signed; {sinks} sinks"),
    };
    let names: Vec<&str> = config.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    format!(
        "name        {}\norigin      {}\nlistens on  {} ({transport})\nstore       {}\nAWS         {}\nsign-in     \
         {}\naudit       {audit}\nrules       {rules}\nnamespaces  {}\nThe configuration is good.",
        config.name,
        config.http.origin,
        config.http.listen,
        if config.store.sqlite_path().is_some() { "SQLite" } else { "PostgreSQL" },
        config.aws.region,
        ways.join(", "),
        names.join(", "),
    )
}
