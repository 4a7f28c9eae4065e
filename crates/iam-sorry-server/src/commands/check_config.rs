//! `iam-sorryd check-config`: everything that is wrong, before the service is started with it.

use std::fmt::Display;

use iam_sorry_store::{Store, StoreError};
use rustix::fs::Access;
use secrecy::ExposeSecret;

use super::config_file::ConfigFile;
use super::output::{Failure, notice, print};
use super::parts::{aws_clients, check_state, own_identity, runtime, signer};
use crate::accounts::identity::{ServiceIdentity, is_program};
use crate::accounts::settings::IdentitySource;
use crate::audit::sinks;
use crate::authz::rules::LiveRules;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::Certificates;
use crate::login::LoginMethods;
use crate::sessions::group_names::ambiguous_names;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,

    /// Also ask AWS (whose the credentials are), the database (its schema) and the directory (its certificate, the service's
    /// account in it, and whether the bases are there)
    #[arg(long)]
    online: bool,
}

/// Everything that was found so far.
#[derive(Default)]
struct Findings {
    /// The service must not be started with these.
    problems: Vec<String>,
    /// These are for the operator to know.
    notes: Vec<String>,
}

impl Findings {
    /// What there is, or nothing and the problem is kept.
    fn gather<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    /// Two checks may come upon the same problem.
    fn add(&mut self, problem: impl Display) {
        let problem = problem.to_string();
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// Reads the file and everything that it names on this machine; asks no other machine unless it is told to, changes nothing,
/// shows no secret. Reports all problems at once.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.file.read()?;
    let mut found = Findings::default();
    if let Err(problems) = config.check() {
        problems.0.into_iter().for_each(|problem| found.add(problem));
    }
    config.dangers().into_iter().for_each(|danger| found.add(danger));
    let rules = match LiveRules::open(config.rules.clone(), config.rules_settings()) {
        Ok(rules) => Some(rules),
        Err(problems) => {
            problems.iter().for_each(|problem| found.add(problem));
            None
        }
    };
    let tls = config.http.tls.as_ref().map(Certificates::load).transpose();
    found.gather(tls.map_err(|error| format!("http.tls: {error}")));
    let signer = found.gather(signer(&config.audit)).flatten();
    found.gather(check_state(&config.audit).map_err(|failure| failure.to_string()));
    for sink in &config.audit.sinks {
        found.gather(sinks::check(sink));
    }
    folders(&config, &mut found);
    let methods = found.gather(LoginMethods::new(&config.login));
    let store = found.gather(config.store_settings());
    let aws = found.gather(aws_clients(&config.aws).map_err(|failure| failure.to_string()));
    runtime()?.block_on(async {
        let identity = aws_identity(&config, arguments.online, &mut found).await;
        if !arguments.online {
            return;
        }
        if let (Some(aws), Some(identity)) = (aws, identity) {
            let caller = own_identity(&aws, &identity, &Clock::system(), &config.aws).await;
            found.gather(caller.map_err(|failure| format!("aws: {failure}")));
        }
        if let Some(methods) = &methods {
            directories(methods, rules.as_ref(), &mut found).await;
        }
        if let Some(settings) = store {
            database(&settings, &mut found).await;
        }
    });
    for note in &found.notes {
        notice(format_args!("Note: {note}"));
    }
    if found.problems.is_empty() {
        let rules = rules.map_or(0, |rules| rules.status().rules);
        return print(summary(&config, rules, signer.is_some()));
    }
    Err(Failure::found(found.problems.join("\n")))
}

/// The service's credentials, as far as this machine knows them. A program that gives them is not run unless AWS is asked.
async fn aws_identity(config: &Config, online: bool, found: &mut Findings) -> Option<ServiceIdentity> {
    let identity = ServiceIdentity::new(config.aws.identity.clone()).hiding(config.secret_variables());
    if let IdentitySource::Process(words) = &config.aws.identity {
        let program = words.first().map(String::as_str).unwrap_or_default();
        if !is_program(program) {
            found.add(format!(
                "aws.identity: there is no program {program:?} to run.\nGive its path, such as /usr/bin/aws_signing_helper."
            ));
            return None;
        }
        return Some(identity);
    }
    let read =
        identity.current(Clock::system().now()).await.map_err(|error| format!("aws.identity: {error}"));
    if let (Err(problem), IdentitySource::Environment, false) = (&read, &config.aws.identity, online) {
        // The service's environment may have what this shell has not.
        found.notes.push(format!("{problem}\nThe service needs it in its environment."));
        return None;
    }
    let credentials = found.gather(read)?;
    let secret = credentials.secret_access_key.expose_secret();
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        found.add(
            "aws.identity: the secret access key has characters that no AWS secret has, such as a blank.\nWrite it again, with \
             nothing before or behind it.",
        );
        return None;
    }
    Some(identity)
}

/// The directories: whether each answers, and then whether a group's name that is used is several groups'.
async fn directories(methods: &LoginMethods, rules: Option<&LiveRules>, found: &mut Findings) {
    let mut all_answer = true;
    for directory in methods.directories() {
        let tried = directory.try_out().await.map_err(|error| format!("login.ldap: {error}"));
        all_answer &= found.gather(tried).is_some();
    }
    if let Some(rules) = rules.filter(|_| all_answer && !methods.directories().is_empty()) {
        let ambiguous = ambiguous_names(&rules.handle().load(), methods).await;
        let ambiguous = found.gather(ambiguous.map_err(|error| format!("login.ldap: {error}")));
        found.notes.extend(ambiguous.into_iter().flatten().map(|name| name.to_string()));
    }
}

/// The folders that the service writes to. Whether *it* may is known only if this is run as its user.
fn folders(config: &Config, found: &mut Findings) {
    let sinks = config.audit.sinks.iter().filter_map(|sink| {
        let file = sink.file.as_ref()?;
        Some((format!("audit.sink {}", sink.name), file.path.as_path()))
    });
    let store = config.store.sqlite_path().map(|path| ("store.path".to_owned(), path));
    for (setting, file) in sinks.chain(store) {
        let Some(folder) = file.parent() else { continue };
        if !folder.is_dir() {
            found.add(format!(
                "{setting}: the folder {} is not there.\nMake it, for the service's user: install -d -m 700 -o iam-sorryd {}",
                folder.display(),
                folder.display()
            ));
        } else if rustix::fs::access(folder, Access::WRITE_OK).is_err() {
            found.add(format!(
                "{setting}: the folder {} can't be written by this user.\nRun check-config as the service's user, or give it \
                 the folder.",
                folder.display()
            ));
        }
    }
}

/// The database, beside a service that may be running on it.
async fn database(settings: &iam_sorry_store::Settings, found: &mut Findings) {
    match Store::open_beside(settings, "check-config") {
        Ok(store) => store.close().await,
        // A new service, or a new version: `migrate` comes after this.
        Err(StoreError::Schema(text)) => found.notes.push(text),
        Err(error) => found.add(format!("store: {error}")),
    }
}

fn summary(config: &Config, rules: usize, signed: bool) -> String {
    let methods = LoginMethods::new(&config.login).map(|methods| methods.methods()).unwrap_or_default();
    let methods: Vec<&str> = methods.into_iter().map(iam_sorry_core::identity::Method::as_str).collect();
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
        methods.join(", "),
        names.join(", "),
    )
}
