//! What several verbs begin with: threads, the AWS clients, the key that signs the trail, and what is checked first.

use std::collections::BTreeMap;
use std::time::Duration;

use iam_sorry_aws::{Aws, Settings as SdkSettings, lookup};
use iam_sorry_core::audit::{CheckpointSigner, Event, Outcome, Person};
use iam_sorry_core::names::CallerArn;
use iam_sorry_store::{Engine, Settings};

use super::output::Failure;
use crate::accounts::identity::ServiceIdentity;
use crate::accounts::settings::AwsSettings;
use crate::audit::settings::AuditSettings;
use crate::audit::{signed_state, sinks};
use crate::clock::Clock;
use crate::config::Config;
use crate::operations::life::AWS_TIME;
use crate::secret_ref::SecretRef;

/// The threads that everything runs on.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the threads can't be started: {e}")))
}

/// That the last signed state can be kept outside the database.
pub fn check_state(settings: &AuditSettings) -> Result<(), Failure> {
    settings.state_path().map_or(Ok(()), |path| signed_state::check(&path)).map_err(Failure::found)
}

/// SDK clients as the configuration has them.
pub fn aws_clients(settings: &AwsSettings) -> Result<Aws, Failure> {
    let mut sdk = SdkSettings::new(&settings.region);
    sdk.endpoint_sts = settings.endpoint_sts.clone();
    sdk.endpoint_iam = settings.endpoint_iam.clone();
    sdk.app_name = Some("iam-sorryd".into());
    sdk.attempt_timeout = Duration::from_secs(5);
    sdk.connect_timeout = Duration::from_secs(3);
    sdk.operation_timeout = Some(AWS_TIME);
    if let Some(file) = &settings.ca_file {
        let pem = std::fs::read(file);
        sdk.ca_bundle =
            Some(pem.map_err(|e| Failure::found(format!("aws.ca_file {}: {e}", file.display())))?);
    }
    Aws::new(&sdk).map_err(Failure::found)
}

/// Who the service is to AWS. The rules protect it from the service's own actions, so there is no start without it.
pub async fn own_identity(
    aws: &Aws,
    identity: &ServiceIdentity,
    clock: &Clock,
    settings: &AwsSettings,
) -> Result<CallerArn, Failure> {
    let credentials = identity.current(clock.now()).await.map_err(Failure::new)?;
    let caller = lookup::caller(aws, &credentials)
        .await
        .map_err(|e| Failure::new(format!("AWS does not say whose the service's credentials are.\n{e}")))?;
    match &settings.account {
        Some(account) if *account != caller.account => Err(Failure::found(format!(
            "The service's AWS identity is of account {}, but aws.account is {account}.\nGive it the identity of the \
             right account, or correct aws.account.",
            caller.account
        ))),
        _ => Ok(caller),
    }
}

/// The signing key that the configuration names.
///
/// # Errors
/// A text with the way out: unreadable, readable by everybody, no key.
pub fn signer(settings: &AuditSettings) -> Result<Option<CheckpointSigner>, String> {
    let Some(path) = &settings.key_file else { return Ok(None) };
    let pem = SecretRef::File(path.clone()).read().map_err(|error| format!("audit.key_file: {error}"))?;
    let signer = CheckpointSigner::from_pem(secrecy::ExposeSecret::expose_secret(&pem));
    signer.map(Some).map_err(|error| format!("audit.key_file {}: {error}", path.display()))
}

/// Something that somebody did on the machine, known by their user id.
pub fn local_event(
    command: &str,
    action: &str,
    resource: &str,
    details: BTreeMap<String, String>,
    clock: &Clock,
) -> Event {
    let user = format!("uid {}", rustix::process::getuid().as_raw());
    Event {
        time_ms: clock.now_ms(),
        instance: command.to_owned(),
        person: Person { name: user, ..Person::default() },
        address: "local".to_owned(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        outcome: Some(Outcome::Success),
        details,
        ..Event::default()
    }
}

/// What is left of a database that is not there. Names no path: it goes into the trail.
pub fn signs_of_another(config: &Config, settings: &Settings) -> Vec<String> {
    let mut signs = Vec::new();
    if config.audit.state_path().is_some_and(|path| path.exists()) {
        signs.push("the state file has its last signed state".to_owned());
    }
    let written = config.audit.sinks.iter().filter(|sink| sink.file.as_ref().is_some_and(sinks::was_written));
    signs.extend(written.map(|sink| format!("the sink {} has its records", sink.name)));
    if let Engine::Sqlite { path } = &settings.engine {
        let beside = ["-wal", "-shm"].into_iter().filter(|end| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            std::path::Path::new(&name).exists()
        });
        signs.extend(beside.map(|end| format!("its {end} file is there")));
    }
    signs
}
