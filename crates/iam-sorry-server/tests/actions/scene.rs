//! A department: an account of the emulator with a boundary, two policies and a role; the fault proxy in front of it; a
//! service on SQLite with rules; and three people.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::verbs::Verbs as _;
use crate::whole_trail::whole_trail;
use arc_swap::ArcSwap;
use iam_sorry_aws::service_policy::ServicePolicy;
use iam_sorry_core::api::{self, CreateUser, Done, Options, ProblemCode};
use iam_sorry_core::audit::{Event, Phase};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_rules::{RuleSet, RuleSettings};
use iam_sorry_server::accounts::identity::ServiceIdentity;
use iam_sorry_server::accounts::registry::{Accounts, AwsAccount};
use iam_sorry_server::accounts::settings::IdentitySource;
use iam_sorry_server::actions::settings::ActionSettings;
use iam_sorry_server::caller::{Caller, RequestSource};
use iam_sorry_server::clock::Clock;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::operations::action::RunOutput;
use iam_sorry_server::operations::idempotency::IdempotencyKey;
use iam_sorry_server::operations::life::AWS_TIME;
use iam_sorry_server::secret_ref::SecretRef;
use iam_sorry_server::service::{Parts, Service};
use iam_sorry_server::sessions::SignIn;
use iam_sorry_store::{PageRequest, Session, Settings as StoreSettings, Store};
use serde_json::{Value, json};
use testkit::{Account, Creds, FaultProxy, Ministack};

/// The rules of the department.
pub const RULES: &str = r#"
@id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
@id("owners-list") permit (principal, action == IamSorry::Action::"listUsers", resource)
when { principal in resource.owners };
@id("analysts") permit (principal in IamSorry::Group::"lab", action == IamSorry::Action::"assumeRole", resource)
when { context.duration <= 7200 };
@id("short-sessions") forbid (principal, action == IamSorry::Action::"issueCredentials", resource)
when { context.duration > 14400 };
@id("auditors") permit (principal in IamSorry::Group::"auditors", action in IamSorry::Action::"oversee", resource);
@id("no-deletes") forbid (principal, action == IamSorry::Action::"deleteUser", resource == IamSorry::User::"dirk-keep");
@id("secret") forbid (principal, action == IamSorry::Action::"showUser", resource == IamSorry::User::"dirk-secret");
"#;

/// See the module's text.
pub struct Scene {
    pub account: Account,
    pub proxy: Arc<FaultProxy>,
    pub folder: tempfile::TempDir,
    pub boundary: String,
    /// Two that may be attached.
    pub policies: [String; 2],
    /// One that may not.
    pub unlisted: String,
    pub role: String,
    /// Groups that users may be taken out of, where not any.
    pub groups: Option<Vec<String>>,
    pub identity: Creds,
    pub actions: ActionSettings,
    /// Secrets that were handed out.
    pub secrets: Mutex<Vec<String>>,
    clock_ms: Arc<Mutex<Option<i64>>>,
    starts: AtomicU32,
}

impl Scene {
    pub fn new() -> Self {
        Self::lacking(&[])
    }

    /// With its database on this disk.
    pub fn on(disk: &std::path::Path) -> Self {
        Self { folder: tempfile::tempdir_in(disk).unwrap(), ..Self::new() }
    }

    /// Without some actions in the service's policy.
    pub fn lacking(without: &[&str]) -> Self {
        let account = Ministack::shared().account();
        let policy = |name: &str| {
            let document = json!({"Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}]});
            let args = json!({"PolicyName": name, "PolicyDocument": document.to_string()});
            account.call("iam", "create_policy", args)["Policy"]["Arn"].as_str().unwrap().to_owned()
        };
        let (boundary, unlisted) = (policy("edge"), policy("too-much"));
        let policies = [policy("read"), policy("write")];
        let service = account.user("iam-sorryd");
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": service},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
            "Condition": {"StringEquals": {"sts:ExternalId": "handshake"}}}]});
        let args = json!({"RoleName": "Analysis", "AssumeRolePolicyDocument": trust.to_string()});
        let role = account.call("iam", "create_role", args)["Role"]["Arn"].as_str().unwrap().to_owned();
        let proxy = Arc::new(FaultProxy::start(&account));
        let identity = account.key("iam-sorryd");
        let scene = Self {
            identity,
            account,
            proxy,
            folder: tempfile::tempdir().unwrap(),
            boundary,
            policies,
            unlisted,
            role,
            groups: None,
            actions: ActionSettings { new_key_seconds: 8, settle_seconds: 1, ..ActionSettings::default() },
            secrets: Mutex::default(),
            clock_ms: Arc::default(),
            starts: AtomicU32::new(0),
        };
        scene.put_policy(without);
        scene
    }

    /// Gives the service's identity what `iam-sorryd policy` prints, less some actions.
    ///
    /// Of some things in it this emulator knows nothing: it matches a user by name without the path, RemoveUserFromGroup by
    /// the user, DeleteVirtualMFADevice by nothing, and has neither of the condition keys `iam:PermissionsBoundary` and
    /// `iam:PolicyARN`. So here these resources are opened and these conditions left off; what they say is checked on the
    /// text, in the AWS crate.
    pub fn put_policy(&self, without: &[&str]) {
        let text = self.least_policy().to_json().unwrap().replace(":user/iam-sorry/*", ":user/*");
        let mut policy: Value = serde_json::from_str(&text).unwrap();
        let statements = policy["Statement"].as_array_mut().unwrap();
        statements.retain_mut(|statement| {
            statement.as_object_mut().unwrap().remove("Condition");
            if statement["Sid"] == "IamSorryTakenAwayWithAUser" {
                statement["Resource"] = json!("*");
            }
            let actions = statement["Action"].as_array_mut().unwrap();
            actions.retain(|action| !without.contains(&action.as_str().unwrap()));
            !actions.is_empty()
        });
        self.account.put_policy("iam-sorryd", &policy);
    }

    pub fn least_policy(&self) -> ServicePolicy {
        ServicePolicy {
            partition: "aws".into(),
            account: Some(self.account.id().to_owned()),
            paths: vec!["/iam-sorry/dirk/".into(), "/iam-sorry/lab/".into()],
            boundary: Some(self.boundary.clone()),
            policies: self.policies.to_vec(),
            roles: vec![self.role.clone()],
            groups: self.groups.clone(),
            adopt: vec!["dirk".into(), "dirk-*".into()],
        }
    }

    pub fn rule_settings(&self) -> RuleSettings {
        let [read, write] = &self.policies;
        let settings: RuleSettings = toml::from_str(&format!(
            r#"
            namespace = [
                {{ name = "dirk", owners = ["group:lab"] }},
                {{ name = "lab", owners = ["person:erik"] }},
            ]
            [guardrails]
            permissions_boundary = "{}"
            policies = ["{read}", "{write}"]
            role = [{{ arn = "{}", external_id = "handshake" }}]
            protected = ["dirk-service"]
            "#,
            self.boundary, self.role
        ))
        .unwrap();
        RuleSettings {
            guardrails: iam_sorry_rules::Guardrails { groups: self.groups.clone(), ..settings.guardrails },
            ..settings
        }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    /// Starts an instance on the scene's SQLite file, with a runtime of its own: dropping it is a sudden death.
    pub fn start(&self) -> Instance {
        let settings = StoreSettings::sqlite(self.database());
        Store::migrate(&settings).unwrap();
        self.start_on(&settings, false)
    }

    pub fn start_on(&self, settings: &StoreSettings, other_instances: bool) -> Instance {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let instance = format!("test-{number}-{}", std::process::id());
        let store = Store::open(settings, &instance).unwrap();
        let rules = RuleSet::load(&[("lab.cedar".into(), RULES.into())], self.rule_settings());
        let secret = self.folder.path().join("secret");
        std::fs::write(&secret, &self.identity.secret).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut aws = iam_sorry_aws::Settings::new("us-east-1");
        aws.endpoint_iam = Some(self.proxy.endpoint());
        aws.endpoint_sts = Some(self.proxy.endpoint());
        aws.operation_timeout = Some(AWS_TIME);
        aws.attempt_timeout = Duration::from_secs(4);
        let (clock, system) = (self.clock_ms.clone(), Clock::system());
        let rules = Arc::new(ArcSwap::from_pointee(rules.unwrap()));
        let service = Service::new(Parts {
            store,
            rules: rules.clone(),
            accounts: Accounts::one(AwsAccount::new(
                AccountName::default(),
                iam_sorry_aws::Aws::new(&aws).unwrap(),
                ServiceIdentity::new(IdentitySource::AccessKey {
                    id: self.identity.key.clone(),
                    secret: SecretRef::File(secret),
                }),
            )),
            actions: self.actions.clone(),
            sign_in: SignIn::closed().expect("an origin"),
            clock: Clock::new(move || clock.lock().unwrap().unwrap_or_else(|| system.now_ms())),
            instance,
            other_instances,
        });
        Instance::of(service, rules)
    }

    /// The service's clock from here on; AWS's stays.
    pub fn set_clock(&self, ms: i64) {
        *self.clock_ms.lock().unwrap() = Some(ms);
    }

    pub fn remember(&self, secret: &secrecy::SecretString) {
        self.secrets.lock().unwrap().push(secrecy::ExposeSecret::expose_secret(secret).to_owned());
    }

    /// What IAM has of users in the service's paths: name, keys.
    pub fn users_in_iam(&self) -> Vec<(String, Vec<String>)> {
        let answer = self.account.call("iam", "list_users", json!({"PathPrefix": "/iam-sorry/"}));
        let names =
            answer["Users"].as_array().unwrap().iter().map(|u| u["UserName"].as_str().unwrap().to_owned());
        let mut users: Vec<_> = names.map(|name| (name.clone(), self.account.keys(&name))).collect();
        users.sort();
        users
    }

    pub fn user(&self, name: &str) -> Value {
        self.account.call("iam", "get_user", json!({"UserName": name}))["User"].take()
    }

    pub fn attached(&self, name: &str) -> Vec<String> {
        let answer = self.account.call("iam", "list_attached_user_policies", json!({"UserName": name}));
        let policies = answer["AttachedPolicies"].as_array().unwrap();
        policies.iter().map(|p| p["PolicyArn"].as_str().unwrap().to_owned()).collect()
    }

    /// Every user in IAM is in the store and the other way round; every key is in a grant that is not deleted, or is known to
    /// be unaccounted for and inactive; no operation is open.
    pub fn assert_accounted_for(&self, running: &Instance) {
        let open = running.run(running.service.store().open_operations()).unwrap();
        assert!(open.is_empty(), "open: {open:#?}");
        let page = || PageRequest { cursor: None, limit: 500 };
        let mut rows: Vec<_> = running
            .run(running.service.store().list_users(None, None, page()))
            .unwrap()
            .items
            .into_iter()
            .map(|row| row.user.name.to_string())
            .collect();
        rows.sort();
        let iam = self.users_in_iam();
        assert_eq!(rows, iam.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        let grants = running.run(running.service.store().list_grants(None, page())).unwrap().items;
        let mut live: Vec<_> = grants
            .iter()
            .filter(|grant| grant.new.kind == "access-key" && !grant.deleted)
            .map(|grant| grant.new.access_key_id.clone())
            .chain(self.unaccounted(running))
            .collect();
        let mut keys: Vec<_> = iam.into_iter().flat_map(|(_, keys)| keys).collect();
        live.sort();
        keys.sort();
        assert_eq!(live, keys, "grants that live, and keys that IAM has");
    }
}

impl Scene {
    /// The keys that the store has as unaccounted for; each is there, and inactive.
    pub fn unaccounted(&self, running: &Instance) -> Vec<String> {
        let keys = running.run(running.service.store().unaccounted_keys()).unwrap();
        for key in &keys {
            let status = self.status_of(key.user.name.as_str(), &key.access_key_id);
            assert_eq!(status.as_deref(), Some("Inactive"), "{key:?}");
        }
        keys.into_iter().map(|key| key.access_key_id).collect()
    }

    /// `Active` or `Inactive`, as IAM says it.
    pub fn status_of(&self, user: &str, key: &str) -> Option<String> {
        let answer = self.account.call("iam", "list_access_keys", json!({"UserName": user}));
        let keys = answer["AccessKeyMetadata"].as_array().unwrap();
        let found = keys.iter().find(|listed| listed["AccessKeyId"] == key)?;
        found["Status"].as_str().map(str::to_owned)
    }
}

/// A running instance.
pub struct Instance {
    pub service: Service,
    rules: Arc<ArcSwap<RuleSet>>,
    runtime: Option<tokio::runtime::Runtime>,
    background: Option<iam_sorry_server::operations::lifecycle::Background>,
}

impl Instance {
    /// Starts it.
    pub fn of(service: Service, rules: Arc<ArcSwap<RuleSet>>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let background = runtime.block_on(service.start()).unwrap();
        Self { service, rules, runtime: Some(runtime), background: Some(background) }
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(work)
    }

    /// Puts other rules into force.
    pub fn replace_rules(&self, rules: Arc<RuleSet>) {
        self.rules.store(rules);
    }

    /// Every task stops where it is, and nothing more is written.
    pub fn die(mut self) {
        let store = self.service.store().clone();
        drop(self.background.take());
        self.runtime.take().unwrap().shutdown_background();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(store.close());
    }

    /// Waits until no operation is open.
    pub fn settled(&self) {
        let start = Instant::now();
        loop {
            let open = self.run(self.service.store().open_operations()).unwrap();
            if open.is_empty() {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "not settled within 30 s: {open:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the service says that it is ready, which takes no longer than its attempts are apart: 2 s on a machine with
    /// nothing else to do. A timer that has to run down (it was 15 s) is longer than this.
    pub fn ready_again(&self) {
        let start = Instant::now();
        while let Err(refusal) = self.service.ready() {
            assert!(start.elapsed() < Duration::from_secs(10), "not ready after 10 s: {refusal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn create(&self, name: &str) -> Result<Done, ServiceError> {
        let request = CreateUser { name: name.into(), policies: Vec::new(), dry_run: false };
        self.run(self.service.create_user(&dirk(), None, request))
    }

    pub fn new_key(&self, scene: &Scene, name: &str) -> Result<api::NewKey, ServiceError> {
        let given = self.run(self.service.create_access_key(&dirk(), None, name, Options::default()))?;
        let RunOutput::Acted(key) = given else { panic!("a dry run") };
        scene.remember(&key.secret_access_key);
        Ok(key)
    }

    /// The audit trail, oldest first.
    pub fn trail(&self) -> Vec<Event> {
        let records = self.run(whole_trail(self.service.store()));
        records.iter().map(|record| record.event().unwrap()).collect()
    }

    /// The last record that is no intent.
    pub fn last_event(&self) -> Event {
        self.trail().into_iter().rfind(|event| event.phase != Phase::Intent).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.background.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.service.store().close());
            runtime.shutdown_background();
        }
    }
}

pub fn person(name: &str, groups: &[&str]) -> Caller {
    let identity = Identity {
        issuer: "corp".into(),
        subject: format!("uuid-{name}"),
        name: name.into(),
        groups: groups.iter().map(|g| Group::named("corp", g)).collect(),
        method: Method::Ldap,
    };
    let now = Clock::system().now_ms();
    Caller {
        session: Session {
            id: "session".into(),
            token_hash: [0; 32],
            form_hash: None,
            identity: identity.clone(),
            method: Method::Ldap,
            signed_in_ms: now,
            last_used_ms: now,
            expires_ms: now + 3_600_000,
            address: "192.0.2.7".into(),
            key: None,
            via: None,
        },
        identity,
        source: RequestSource { address: "192.0.2.7".parse().unwrap(), request_id: "request-1".into() },
    }
}

/// `NAME`, in the account that goes without saying, or `ACCOUNT/NAME`.
pub fn user_ref(text: &str) -> UserRef {
    UserRef::parse_in(text, &AccountName::default()).unwrap()
}

/// Of the lab, which owns the namespace `dirk`.
pub fn dirk() -> Caller {
    person("dirk.p", &["lab"])
}

/// Owns the namespace `lab`.
pub fn erik() -> Caller {
    person("erik", &[])
}

/// May read everything.
pub fn ada() -> Caller {
    person("ada", &["auditors"])
}

pub fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

pub fn dry() -> Options {
    Options { dry_run: true }
}

pub fn code<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> ProblemCode {
    result.unwrap_err().code
}

pub fn creds(id: &str, secret: &secrecy::SecretString, token: Option<&secrecy::SecretString>) -> Creds {
    use secrecy::ExposeSecret;
    Creds {
        key: id.to_owned(),
        secret: secret.expose_secret().to_owned(),
        token: token.map(|t| t.expose_secret().to_owned()),
    }
}
