//! One instance of the service on a machine: started and stopped as the program does it (`commands::serve`), with simulated
//! parts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use iam_sorry_aws::Aws;
use iam_sorry_core::audit::CheckpointSigner;
use iam_sorry_core::ids::AccountName;
use iam_sorry_rules::{RuleSet, RuleSettings};
use iam_sorry_server::accounts::identity::ServiceIdentity;
use iam_sorry_server::accounts::registry::{Accounts, AwsAccount};
use iam_sorry_server::accounts::settings::IdentitySource;
use iam_sorry_server::actions::settings::ActionSettings;
use iam_sorry_server::audit::continuity::{Continuity, Files};
use iam_sorry_server::audit::settings::AuditSettings;
use iam_sorry_server::audit::states::StartFacts;
use iam_sorry_server::clock::Clock;
use iam_sorry_server::operations::life::AWS_TIME;
use iam_sorry_server::secret_ref::SecretRef;
use iam_sorry_server::service::{Parts, Service};
use iam_sorry_server::sessions::sign_in::SignIn;
use iam_sorry_server::simulation::On;
use iam_sorry_store::Store;
use testkit::IamAccount;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cloud;
use crate::happened;
use crate::machine::Machine;
use crate::wire::SimulatedWire;

const RULES: &str = r#"
@id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
@id("owners-list") permit (principal, action == IamSorry::Action::"listUsers", resource)
when { principal in resource.owners };
@id("lab") permit (principal in IamSorry::Group::"lab", action == IamSorry::Action::"assumeRole", resource);
"#;

/// Added to the rules: no keys.
const FREEZE: &str = r#"
@id("freeze") forbid (principal, action, resource) when {
  [IamSorry::Action::"createAccessKey", IamSorry::Action::"rotateKey"].contains(action) };
"#;

/// The rules that can be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesAre {
    /// Owners may do everything with what is theirs.
    Open,
    /// Nobody may make or rotate access keys.
    NoKeys,
    /// The second policy is not on the list any more.
    OnePolicy,
}

impl RulesAre {
    pub const ALL: [Self; 3] = [Self::Open, Self::NoKeys, Self::OnePolicy];

    /// Whether they allow what an operation does, with these policies.
    pub fn allow(self, action: &str, policies: &[String]) -> bool {
        match self {
            Self::Open => true,
            // Whoever may rotate may end a rotation.
            Self::NoKeys => {
                !matches!(action, "create-access-key" | "rotate-key" | "confirm-key" | "restore-key")
            }
            Self::OnePolicy => match action {
                "create-user" | "attach-policy" => !policies.contains(&policies_of_the_list()[1]),
                _ => true,
            },
        }
    }
}

/// The policies that may be attached, while all may.
pub fn policies_of_the_list() -> [String; 2] {
    [IamAccount::arn("policy/read"), IamAccount::arn("policy/write")]
}

pub fn boundary() -> String {
    IamAccount::arn("policy/edge")
}

pub fn role() -> String {
    IamAccount::arn("role/Analysis")
}

/// All rule sets, read once.
#[derive(Clone)]
pub struct RuleSets(Arc<[(RulesAre, Arc<RuleSet>)]>);

/// The rules of one machine.
#[derive(Clone)]
pub struct LiveRules {
    pub are: RulesAre,
    pub handle: Arc<ArcSwap<RuleSet>>,
}

impl RuleSets {
    pub fn load() -> Self {
        let [read, write] = policies_of_the_list();
        let settings = |policies: &str| {
            let text = format!(
                "namespace = [{{ name = \"dirk\", owners = [\"group:lab\"] }}]\n\
                 [guardrails]\npermissions_boundary = \"{}\"\npolicies = [{policies}]\nrole = [{{ arn = \"{}\" }}]\n",
                boundary(),
                role()
            );
            toml::from_str::<RuleSettings>(&text).expect("settings")
        };
        let both = format!("\"{read}\", \"{write}\"");
        let set = |are| {
            let (rules, policies) = match are {
                RulesAre::Open => (RULES.to_owned(), both.clone()),
                RulesAre::NoKeys => (format!("{RULES}{FREEZE}"), both.clone()),
                RulesAre::OnePolicy => (RULES.to_owned(), format!("\"{read}\"")),
            };
            let set = RuleSet::load(&[("lab.cedar".into(), rules)], settings(&policies));
            (are, Arc::new(set.unwrap_or_else(|errors| panic!("{errors:?}"))))
        };
        Self(RulesAre::ALL.map(set).into())
    }

    pub fn set(&self, are: RulesAre) -> Arc<RuleSet> {
        let found = self.0.iter().find(|(name, _)| *name == are);
        Arc::clone(&found.expect("one of all").1)
    }

    pub fn live(&self) -> LiveRules {
        LiveRules { are: RulesAre::Open, handle: Arc::new(ArcSwap::new(self.set(RulesAre::Open))) }
    }
}

/// What every start of an instance is made from.
#[derive(Clone)]
pub struct Ingredients {
    pub actions: ActionSettings,
    /// The only machine on its database, as on a SQLite file.
    pub alone: bool,
    /// Checkpoints and sinks; none where the schedule is about something else.
    pub audit: Option<Arc<AuditParts>>,
    /// A file with the secret of the service's key.
    pub secret: PathBuf,
}

/// The trail's ways out.
pub struct AuditParts {
    pub settings: AuditSettings,
    pub key_pem: String,
}

impl AuditParts {
    pub fn signer(&self) -> CheckpointSigner {
        CheckpointSigner::from_pem(&self.key_pem).expect("a key")
    }
}

/// From the start of the program to its end.
pub async fn run(machine: Machine, parts: Ingredients, mut stop: watch::Receiver<bool>) {
    let name = format!("i{}-{}", machine.index, machine.generation);
    let wire = Arc::new(SimulatedWire::new(machine.clone()));
    let (store, writer) = loop {
        match Store::open_simulated(machine.world.database(), &name, wire.clone()) {
            Ok(opened) => break opened,
            Err(error) => {
                happened!(machine.world, machine.world.state(), machine, "can't open the database: {error}");
                sleep(Duration::from_millis(700)).await; // the supervisor starts the program again
            }
        }
    };
    let writing = tokio::spawn(On::new(machine.host(), writer));
    let (world, clock_of) = (machine.world.clone(), machine.clone());
    let clock = Clock::new(move || iam_sorry_server::simulation::Host::now_ms(&clock_of));
    let mut aws = iam_sorry_aws::client::Settings::new("us-east-1");
    aws.attempt_timeout = Duration::from_secs(5);
    aws.connect_timeout = Duration::from_secs(3);
    aws.operation_timeout = Some(AWS_TIME);
    let (key, _) = IamAccount::SERVICE_KEY;
    let service = Service::new(Parts {
        store: store.clone(),
        rules: machine.world.state().machines[machine.index].rules.handle.clone(),
        accounts: Accounts::one(AwsAccount::new(
            AccountName::default(),
            Aws::simulated(&aws, cloud::client(machine.clone())),
            ServiceIdentity::new(IdentitySource::AccessKey {
                id: key.to_owned(),
                secret: SecretRef::File(parts.secret.clone()),
            }),
        )),
        actions: parts.actions.clone(),
        sign_in: SignIn::closed().expect("an origin"),
        clock,
        instance: name,
        other_instances: !parts.alone,
    });
    let audit = parts.audit.as_deref();
    if let Some(audit) = audit {
        let key = audit.signer();
        let known = Continuity::new(store.clone(), &audit.settings, Some(key.public_key()));
        while let Err(error) = known.enforce(Files::All).await {
            happened!(world, world.state(), machine, "the trail can't be compared: {error}");
            sleep(Duration::from_millis(700)).await;
        }
    }
    let background = loop {
        let started = async {
            service.record_start(StartFacts::default()).await?;
            service.start().await
        };
        match started.await {
            Ok(background) => break background,
            Err(error) => {
                happened!(world, world.state(), machine, "can't start: {error}");
                sleep(Duration::from_millis(700)).await;
            }
        }
    };
    let tasks =
        audit.map(|audit| service.start_audit(&audit.settings, Some(audit.signer())).expect("settings"));
    {
        let mut state = world.state();
        happened!(world, state, machine, "serves");
        state.machines[machine.index].service = Some(service.clone());
    }
    let _ = stop.wait_for(|stop| *stop).await;
    let gone = world.state().machines[machine.index].service.take();
    drop(gone);
    let left = service.stop(Duration::from_secs(10)).await;
    let recorded = service.record_stop("a signal", left).await;
    if let Some(tasks) = tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
    drop(background);
    if left == 0 && recorded.is_ok() {
        let _ = store.leave().await;
    }
    store.close().await;
    let _ = tokio::time::timeout(Duration::from_secs(5), writing).await;
    machine.end();
}
