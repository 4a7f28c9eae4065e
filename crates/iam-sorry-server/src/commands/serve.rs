//! `iam-sorryd serve`: puts the service together, runs it, and stops it without leaving anything half done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::audit::CheckpointSigner;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::ids::AccountName;
use iam_sorry_core::names::{CallerArn, Principal};
use iam_sorry_store::{Engine, Store};
use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::config_file::ConfigFile;
use super::output::{Failure, notice};
use super::parts::{aws_clients, check_state, own_identity, runtime, signer, signs_of_another};
use crate::accounts::identity::ServiceIdentity;
use crate::accounts::registry::{Accounts, AwsAccount};
use crate::audit::continuity::{Continuity, Files};
use crate::audit::states::StartFacts;
use crate::authz::rules::{LOOK_EVERY, LiveRules, Reload};
use crate::clock::Clock;
use crate::config::{Config, dev};
use crate::http::{Health, Http, Metrics, start_logging};
use crate::login::LoginMethods;
use crate::service::{Parts, Service};
use crate::sessions::SignIn;
use crate::{http, web};

/// How long the end of the audit trail may take to be signed, and then to reach the sinks.
const AUDIT_STOP: Duration = Duration::from_secs(5);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Try it out on this machine alone: SQLite inside, AWS from the usual variables, and a one-time link to sign in
    #[arg(long, conflicts_with = "config")]
    dev: bool,
    /// With --dev: where to listen; addresses of this machine only
    #[arg(long, requires = "dev", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8750")]
    listen: SocketAddr,
    /// With --dev: where to keep things (~/.local/state/iam-sorryd-dev)
    #[arg(long, requires = "dev", value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut config = if arguments.dev {
        dev::config(arguments.listen, arguments.state.as_deref()).map_err(Failure::found)?
    } else {
        arguments.file.load()?
    };
    start_logging(config.log);
    let link = if arguments.dev { Some(one_time_link(&mut config)?) } else { None };
    runtime()?.block_on(serve(config, link))
}

/// The database of `--dev`, and the secret of its link.
fn one_time_link(config: &mut Config) -> Result<SecretString, Failure> {
    let store = config.store_settings().map_err(Failure::found)?;
    if !Store::exists(&store).map_err(Failure::new)? {
        let signs = signs_of_another(config, &store);
        if !signs.is_empty() {
            let why = format!("There is no database, but there was one: {}.", signs.join("; "));
            return Err(other_development_database(&why));
        }
    }
    Store::migrate(&store).map_err(Failure::new)?;
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(secret.as_mut()).map_err(|_| Failure::new("the system gives no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(secret.as_ref()).into())
}

/// `audit restored` wants a configuration file, and here is none.
fn other_development_database(why: &str) -> Failure {
    Failure::new(format!(
        "{why}\nPut the right one back, or begin anew: iam-sorryd serve --dev --state FOLDER"
    ))
}

async fn serve(config: Config, link: Option<SecretString>) -> Result<(), Failure> {
    // Before anything else, so that no early signal kills it half-way through its start.
    let stop = stop_signal()?;
    let clock = Clock::system();
    for danger in config.dangers() {
        tracing::warn!(danger, "the configuration is dangerous; see check-config");
    }
    let aws = aws_clients(&config.aws)?;
    let identity = ServiceIdentity::new(config.aws.identity.clone()).hiding(config.secret_variables());
    let caller = own_identity(&aws, &identity, &clock, &config.aws).await?;
    let credentials = identity.current(clock.now()).await.map_err(Failure::new)?;
    let mut settings = config.rules_settings();
    settings.protect(&arn_of(&caller));
    let rules = LiveRules::open(config.rules.clone(), settings).map_err(found)?;
    let rules = Arc::new(rules);

    let mut methods = LoginMethods::new(&config.login).map_err(Failure::found)?;
    if link.is_some() {
        methods = methods.with_dev_link().map_err(Failure::found)?;
    }
    let origin = config.http.origin.clone();
    let sign_in = SignIn::new(&config.name, origin, methods, config.sessions, config.login.limits.clone());

    check_state(&config.audit)?;
    let store_settings = config.store_settings().map_err(Failure::found)?;
    let instance = random_name()?;
    let store = Store::open(&store_settings, &instance).map_err(Failure::new)?;
    let service = Service::new(Parts {
        store: store.clone(),
        rules: rules.handle(),
        accounts: Accounts::one(AwsAccount::new(AccountName::default(), aws, identity)),
        actions: config.actions.clone(),
        sign_in,
        clock,
        instance: instance.clone(),
        other_instances: matches!(store_settings.engine, Engine::Postgres { .. }),
    });
    let signer = signer(&config.audit).map_err(Failure::found)?;
    // Before anything is done: the reconciler must not settle what an older copy takes for open.
    let key = signer.as_ref().map(CheckpointSigner::public_key);
    match Continuity::new(store.clone(), &config.audit, key).enforce(Files::All).await {
        Ok(()) => {}
        Err(error) if link.is_some() => {
            let why =
                store.contradiction().map(|why| format!("This is not the database that it was: {why}."));
            return Err(why.map_or_else(|| Failure::new(error), |why| other_development_database(&why)));
        }
        // It answers all the same: /readyz says what is wrong, and people can read.
        Err(_) if store.contradiction().is_some() => {}
        Err(error) => return Err(Failure::new(error)),
    }
    // Readiness lists them.
    let neighbours = service.watch_neighbours();
    let health = Arc::new(health(&service, &rules));
    let pages = web::pages(service.clone(), config.http.origin.clone());
    let http = Http::bind(&config.http, service.clone(), Some(pages), health, Metrics::new());
    let http = http.await.map_err(Failure::new)?;
    let address = http.address().map_err(|e| Failure::new(format!("no address to listen on: {e}")))?;

    // Bound, so that it can serve; nothing is done before the start is on record.
    let facts = start_facts(&config, &caller, &credentials, signer.as_ref(), http.certificates().as_deref());
    match service.record_start(facts).await {
        // Nothing is written to it, and nothing is done.
        Err(_) if store.contradiction().is_some() => {}
        recorded => recorded.map_err(Failure::new)?,
    }
    let background = service.start().await.map_err(Failure::new)?;
    let audit = service.start_audit(&config.audit, signer).map_err(Failure::found)?;
    record_rule_changes(&rules, &service);
    let watching = tokio::spawn(rules.clone().watch(LOOK_EVERY));
    let reloading = tokio::spawn(reload_on_hangup(rules, http.certificates(), service.clone()));
    tracing::info!(%address, instance, caller = arn_of(&caller), "serving");
    notice(format_args!("iam-sorryd serves {} on {address}, as {}", config.http.origin, arn_of(&caller)));
    if let Some(link) = link {
        service.begin_dev_link(&link).await.map_err(Failure::new)?;
        let origin = &config.http.origin;
        notice(format_args!(
            "Sign in within ten minutes, once: {origin}/sign-in/dev?token={}\nThis is for trying things out on this machine: \
             the admin's link is on this terminal.",
            link.expose_secret()
        ));
    }

    let (say_stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(http.serve(stopping));
    let reason = stop.await;
    tracing::info!(reason, "stopping: what is under way is finished, nothing new starts");
    let _ = say_stop.send(true);
    let patience = Duration::from_secs(config.http.stop_seconds.into());
    let left = service.stop(patience).await;
    let _ = serving.await;
    watching.abort();
    reloading.abort();
    let recorded = service.record_stop(reason, left).await;
    // Of one that was contradicted at its start, there is no start to be recorded either, and the log has said why.
    if let Err(error) = &recorded
        && store.contradiction().is_none()
    {
        tracing::error!(%error, "the stop can't be recorded; the next start will say that this instance was lost");
    }
    // Last of all, so that everything is signed and sent.
    audit.stop(AUDIT_STOP).await;
    drop((background, neighbours));
    if left == 0
        && recorded.is_ok()
        && let Err(error) = store.leave().await
    {
        tracing::warn!(%error, "leaving: another instance notices when this one's time is over");
    }
    store.close().await;
    if left > 0 {
        tracing::warn!(
            left,
            "operations were still under way; the next start, or another instance, settles them"
        );
    }
    Ok(())
}

fn found<E: std::fmt::Display>(problems: Vec<E>) -> Failure {
    Failure::found(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn arn_of(caller: &CallerArn) -> String {
    let CallerArn { partition, account, principal } = caller;
    match principal {
        Principal::Root => format!("arn:{partition}:iam::{account}:root"),
        Principal::User(name) => format!("arn:{partition}:iam::{account}:user/{name}"),
        Principal::AssumedRole(role, session) => {
            format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session}")
        }
        Principal::Other(resource) => format!("arn:{partition}:sts::{account}:{resource}"),
    }
}

/// What the trail is to know of this start: digests, fingerprints and names, no secret.
fn start_facts(
    config: &Config,
    caller: &CallerArn,
    credentials: &Credentials,
    signer: Option<&CheckpointSigner>,
    certificates: Option<&http::Certificates>,
) -> StartFacts {
    let mut keys = BTreeMap::from([("aws-identity".to_owned(), lasting_arn_of(caller))]);
    let mut add = |name: &str, value: Option<String>| {
        keys.extend(value.map(|value| (name.to_owned(), value)));
    };
    // A temporary one is another one each time.
    let permanent = credentials.session_token.is_none();
    add("aws-access-key", permanent.then(|| credentials.access_key_id.clone()));
    add("audit-key", signer.map(|signer| signer.public_key().id()));
    add("certificate", certificates.map(http::Certificates::fingerprint));
    StartFacts { configuration: config.digests.clone(), keys }
}

/// The identity without the name of its session, which is another one each time.
fn lasting_arn_of(caller: &CallerArn) -> String {
    match &caller.principal {
        Principal::AssumedRole(role, _) => {
            format!("arn:{}:sts::{}:assumed-role/{role}", caller.partition, caller.account)
        }
        _ => arn_of(caller),
    }
}

/// No other rules are in force before the trail says so.
fn record_rule_changes(rules: &LiveRules, service: &Service) {
    let (service, runtime) = (service.clone(), tokio::runtime::Handle::current());
    rules.record_changes(Box::new(move |before, now| {
        runtime.block_on(service.record_rules(before, now)).map_err(|error| error.to_string())
    }));
}

fn random_name() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| Failure::new("the system gives no random numbers"))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn health(service: &Service, rules: &Arc<LiveRules>) -> Health {
    let (database, acting, rules) = (service.store().clone(), service.clone(), rules.clone());
    let (audit, keys, groups) = (service.clone(), service.clone(), service.clone());
    let health = Health::default()
        .with("database", move || {
            let store = database.clone();
            async move {
                store
                    .count_records()
                    .await
                    .map(|count| format!("{count} records"))
                    .map_err(|_| "no answer".into())
            }
        })
        .with("actions", move || {
            let ready = acting.ready();
            async move { ready.map(|()| "possible".into()).map_err(|refusal| refusal.detail) }
        })
        .with("audit", move || {
            let readiness = audit.audit_readiness();
            async move { readiness }
        })
        .with("keys", move || {
            let keys = keys.clone();
            async move { keys.unaccounted_readiness().await }
        })
        .with("groups", move || {
            // The operator's to correct, and no reason to send people to another instance.
            let names: Vec<_> = groups.ambiguous_group_names().into_iter().map(|it| it.name).collect();
            async move {
                Ok(match names.as_slice() {
                    [] => "each name is one group's".into(),
                    names => format!("ambiguous, so they allow nothing: {}", names.join(", ")),
                })
            }
        })
        .with("rules", move || {
            let status = rules.status();
            // A bad file is the operator's to mend, and no reason to send people to another instance.
            async move {
                let in_force = format!("{} in force", status.rules);
                Ok(status.problem.map_or(in_force.clone(), |_| {
                    format!("{in_force}; those in the files are not: see the log")
                }))
            }
        });
    service.neighbours().into_iter().fold(health, |health, neighbour| {
        let service = service.clone();
        health.with(neighbour.name.clone(), move || {
            let now = service.neighbours().into_iter().find(|now| now.name == neighbour.name);
            async move { now.map_or_else(|| Ok(String::new()), |now| now.state) }
        })
    })
}

/// SIGHUP: rules and certificates are read again.
async fn reload_on_hangup(
    rules: Arc<LiveRules>,
    certificates: Option<Arc<http::Certificates>>,
    service: Service,
) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        let reloading = rules.clone();
        // Reads files, and waits for the database.
        match tokio::task::spawn_blocking(move || reloading.reload()).await {
            Ok(Reload::Refused(problems)) => tracing::error!(
                problems = problems.len(),
                first = problems.first().map(ToString::to_string),
                "the rules can't be used; those in force stay"
            ),
            Ok(Reload::Loaded { rules, digest }) => tracing::info!(rules, digest, "rules loaded"),
            // The log has it, and the next look tries again.
            Ok(Reload::Unrecorded(_) | Reload::Unchanged) => {}
            Err(error) => tracing::error!(%error, "the rules can't be read"),
        }
        if let Some(certificates) = &certificates {
            reload_certificate(certificates, &service).await;
        }
    }
}

async fn reload_certificate(certificates: &http::Certificates, service: &Service) {
    let certificate = match certificates.read_again() {
        Ok(certificate) => certificate,
        Err(error) => {
            tracing::error!(%error, "the certificate can't be used; the one in use stays");
            return;
        }
    };
    match service.record_key("certificate", &certificate.fingerprint()).await {
        Ok(()) => certificates.use_new(certificate),
        Err(error) => tracing::error!(
            %error,
            "the change of the certificate can't be recorded; the one in use stays. Send SIGHUP again"
        ),
    }
}

/// Which signal it was.
fn stop_signal() -> Result<impl Future<Output = &'static str>, Failure> {
    let listen = |kind| signal(kind).map_err(|e| Failure::new(format!("signals can't be received: {e}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
