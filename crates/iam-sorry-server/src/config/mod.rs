//! The one configuration file (TOML), read and checked once at start. Every concern has a settings struct of its own
//! next to its code; here they become one file. Secrets are never in it: a [`SecretRef`] says where they are.

mod dangers;
pub mod dev;

use std::fmt::Display;
use std::path::Path;

use iam_sorry_core::ids::{AccountId, AccountName};
use iam_sorry_rules::{AccountList, AccountSettings, Guardrails, NamespaceSettings, RuleSettings};
use iam_sorry_store::{Settings as StoreSettings, StoreSection};
use serde::Deserialize;

use crate::accounts::settings::{AwsSettings, IdentitySource};
use crate::actions::settings::ActionSettings;
use crate::audit::settings::AuditSettings;
use crate::audit::states::Digests;
use crate::authz::rules::RuleFiles;
use crate::http::{HttpSettings, LogSettings};
use crate::login::LoginSettings;
use crate::secret_ref::SecretRef;
use crate::sessions::SessionSettings;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the department calls the service; people see it.
    pub name: String,
    /// How it is reached.
    pub http: HttpSettings,
    /// Where it keeps what it knows.
    #[serde(default)]
    pub store: StoreSection,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogSettings,
    /// Where AWS is, and as whom the service acts.
    pub aws: AwsSettings,
    /// How actions are done.
    #[serde(default)]
    pub actions: ActionSettings,
    /// How the audit trail is signed, and where it is sent.
    #[serde(default)]
    pub audit: AuditSettings,
    /// How people sign in.
    pub login: LoginSettings,
    /// How long they stay signed in.
    #[serde(default)]
    pub sessions: SessionSettings,
    /// Who may do what.
    pub rules: RuleFiles,
    /// Whose are which names.
    #[serde(default, rename = "namespace")]
    pub namespaces: Vec<NamespaceSettings>,
    /// What no rule can lift.
    #[serde(default)]
    pub guardrails: Guardrails,
    /// What the trail knows the file by, whatever its spelling: the digest of each table, sorted and without comments.
    #[serde(skip)]
    pub digests: Digests,
}

/// What is wrong with the configuration: every problem that was found.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigError(pub Vec<String>);

fn lines(problems: &[String]) -> String {
    problems.join("\n")
}

impl Config {
    /// Reads the file and checks each part by itself. Paths in it are best absolute: relative ones
    /// start where the program was started.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, where it is, and what to do.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config = Self::read(path)?;
        config.check()?;
        Ok(config)
    }

    /// Reads the file, and checks nothing but its form.
    ///
    /// # Errors
    /// [`ConfigError`] with the one problem.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let one = |problem: String| ConfigError(vec![problem]);
        let text = std::fs::read_to_string(path).map_err(|e| {
            one(format!(
                "The configuration {} can't be read: {e}\nGive its place: --config FILE",
                path.display()
            ))
        })?;
        Self::parse(&text).map_err(|e| one(format!("{}: {e}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // toml's message quotes the line; no secret is in this file by design, but somebody may have put one there.
        let config: Result<Self, toml::de::Error> = toml::from_str(text);
        let config = config.and_then(|config| {
            let table: toml::Table = toml::from_str(text)?;
            let tables = table.into_iter().map(|(name, value)| (name, canonical(&value)));
            Ok(Self { digests: Digests::of(tables), ..config })
        });
        config.map_err(|error| {
            let place = error.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {place}: {}", error.message())
        })
    }

    /// Checks each part by itself.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        fn gather<E: Display>(problems: &mut Vec<String>, result: Result<(), E>) {
            problems.extend(result.err().map(|e| e.to_string()));
        }
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            problems
                .push("name: give the service a name that people see, such as \"Biology AWS access\"".into());
        }
        gather(&mut problems, self.http.check());
        gather(&mut problems, self.store.check());
        gather(&mut problems, self.actions.check());
        gather(&mut problems, self.audit.check());
        gather(&mut problems, self.login.check());
        gather(&mut problems, self.sessions.check());
        if let Err(found) = self.rules_settings().check() {
            problems.extend(found.into_iter().map(|p| p.to_string()));
        }
        if self.rules.files.is_empty() {
            problems.push(
                "rules.files: name at least one Cedar file; without rules nobody may do anything".into(),
            );
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }

    /// The AWS account of `[aws]`: a configuration that names no accounts has one, which is called `default`.
    fn account(&self) -> AccountSettings {
        let id = self.aws.account.as_deref().and_then(|text| AccountId::parse(text).ok());
        AccountSettings { name: AccountName::default(), id }
    }

    /// What the rules need besides their files.
    pub fn rules_settings(&self) -> RuleSettings {
        RuleSettings {
            accounts: AccountList::new(self.account()),
            namespaces: self.namespaces.clone(),
            guardrails: self.guardrails.clone(),
        }
    }

    /// The variables that hold secrets: no program that the service starts sees them.
    pub fn secret_variables(&self) -> Vec<String> {
        let identity = match &self.aws.identity {
            IdentitySource::AccessKey { secret, .. } => Some(secret),
            IdentitySource::Profile { .. } | IdentitySource::Process(_) | IdentitySource::Environment => None,
        };
        let bind = self.login.ldap.as_ref().and_then(|ldap| ldap.bind_password.as_ref());
        let tokens = self.audit.sinks.iter().filter_map(|sink| sink.http.as_ref()?.token.as_ref());
        let named = identity.into_iter().chain(bind).chain(tokens).filter_map(|secret| match secret {
            SecretRef::Variable(name) => Some(name.clone()),
            SecretRef::File(_) => None,
        });
        named.chain(self.store.url_variable.clone()).collect()
    }

    /// The store, with its secrets read.
    ///
    /// # Errors
    /// [`ConfigError`] where the URL or the CA file can't be read.
    pub fn store_settings(&self) -> Result<StoreSettings, ConfigError> {
        let problem = |e: &dyn Display| ConfigError(vec![format!("store: {e}")]);
        let section = &self.store;
        if let Some(path) = section.sqlite_path() {
            return Ok(StoreSettings::sqlite(path).with_readers(section.readers));
        }
        let secret = match (&section.url_file, &section.url_variable) {
            (Some(file), _) => SecretRef::File(file.clone()),
            (None, Some(name)) => SecretRef::Variable(name.clone()),
            (None, None) => return Err(problem(&"nowhere to keep anything")),
        };
        let url = secret.read().map_err(|e| problem(&e))?;
        let ca = section.ca_file.as_ref().map(std::fs::read).transpose().map_err(|e| problem(&e))?;
        let settings = StoreSettings::postgres(url, ca).map_err(|e| problem(&e))?;
        Ok(settings.with_readers(section.readers))
    }
}

/// The one spelling of a value: JSON with sorted keys.
fn canonical(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            let sorted: std::collections::BTreeMap<&String, &toml::Value> = table.iter().collect();
            let fields: Vec<String> =
                sorted.iter().map(|(key, value)| format!("{key:?}:{}", canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        toml::Value::Array(values) => {
            format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        toml::Value::String(text) => format!("{text:?}"),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => format!("{number:?}"),
        toml::Value::Boolean(value) => value.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_of_the_file_does_not_count_and_its_values_do() {
        let text = |name: &str, aws: &str| {
            format!(
                "name = \"{name}\"\nhttp = {{ origin = \"http://127.0.0.1:1\", listen = \"127.0.0.1:1\" }}\n\
                 login = {{ ssh = {{}} }}\nrules = {{ files = [\"/x\"] }}\n{aws}"
            )
        };
        let digests = |text: &str| Config::parse(text).unwrap().digests;
        let inline = "aws = { region = \"x\", identity = \"environment\" }";
        let table = "# the way to AWS\n[aws]\nidentity = \"environment\"\nregion = \"x\"\n";
        assert_eq!(digests(&text("Lab", inline)), digests(&text("Lab", table)));
        assert_ne!(digests(&text("Lab", inline)), digests(&text("Lap", inline)));
        assert_ne!(digests(&text("Lab", inline)), digests(&text("Lab", &table.replace("\"x\"", "\"y\""))));
    }

    #[test]
    fn every_variable_that_holds_a_secret_is_known() {
        let text = r#"
            name = "Lab"
            http = { origin = "http://127.0.0.1:1", listen = "127.0.0.1:1" }
            store = { url_variable = "DATABASE" }
            aws = { region = "x", identity = { access_key = { id = "AKIA", secret = { variable = "KEY" } } } }
            rules = { files = ["/x"] }
            [login.ldap]
            name = "corp"
            urls = ["ldaps://ldap.example.org"]
            users_base = "dc=example"
            bind_dn = "cn=service"
            bind_password = { variable = "BIND" }
            [[audit.sink]]
            name = "a"
            http = { url = "https://a.example/", token = { variable = "TOKEN" } }
            [[audit.sink]]
            name = "b"
            http = { url = "https://b.example/", token = { file = "/x" } }
        "#;
        let mut known = Config::parse(text).unwrap().secret_variables();
        known.sort();
        assert_eq!(known, ["BIND", "DATABASE", "KEY", "TOKEN"]);
    }
}
