//! The real program in front of the emulator, on SQLite or PostgreSQL, with a person who is signed in.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use iam_sorry_aws::service_policy::ServicePolicy;
use iam_sorry_core::audit::{Event, Outcome, Person, Phase};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_store::{PageRequest, Session, Settings as StoreSettings, Store};
use serde_json::{Value, json};
use testkit::{Account, FaultProxy, Ministack, Service};

use crate::whole_trail::whole_trail;

const RULES: &str = r#"
@id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
@id("lab") permit (principal in IamSorry::Group::"lab", action == IamSorry::Action::"assumeRole", resource);
"#;

/// An account, the proxy in front of it, and the database that the instances share.
pub struct Department {
    pub account: Account,
    pub proxy: Arc<FaultProxy>,
    pub policy: String,
    pub role: String,
    pub key: testkit::Creds,
    boundary: String,
    pub token: String,
    /// All instances of a department sign with the same key.
    audit_key: OnceLock<String>,
}

/// Where an instance keeps what it knows.
pub enum Database {
    Sqlite,
    Postgres(String),
}

impl Department {
    pub fn new() -> Self {
        let account = Ministack::shared().account();
        let policy = |name: &str| {
            let document = json!({"Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}]});
            let args = json!({"PolicyName": name, "PolicyDocument": document.to_string()});
            account.call("iam", "create_policy", args)["Policy"]["Arn"].as_str().unwrap().to_owned()
        };
        let (boundary, policy) = (policy("edge"), policy("read"));
        let service = account.user("iam-sorryd");
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": service},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]}]});
        let args = json!({"RoleName": "Analysis", "AssumeRolePolicyDocument": trust.to_string()});
        let role = account.call("iam", "create_role", args)["Role"]["Arn"].as_str().unwrap().to_owned();
        let least = ServicePolicy {
            partition: "aws".into(),
            account: Some(account.id().to_owned()),
            paths: vec!["/iam-sorry/dirk/".into()],
            boundary: Some(boundary.clone()),
            policies: vec![policy.clone()],
            roles: vec![role.clone()],
            groups: None,
            adopt: Vec::new(),
        };
        // What the emulator can't evaluate is opened; see the scene of `actions`.
        let text =
            least.to_json().unwrap().replace(":user/iam-sorry/*", ":user/*").replace(":group/*", ":user/*");
        let mut document: Value = serde_json::from_str(&text).unwrap();
        for statement in document["Statement"].as_array_mut().unwrap() {
            statement.as_object_mut().unwrap().remove("Condition");
        }
        account.put_policy("iam-sorryd", &document);
        let key = account.key("iam-sorryd");
        let proxy = Arc::new(FaultProxy::start(&account));
        let token = format!("iss_{}", "A".repeat(43));
        Self { account, proxy, policy, role, key, boundary, token, audit_key: OnceLock::new() }
    }

    /// An instance that is not running yet; its database has the schema and the person's session.
    pub fn instance(&self, database: &Database) -> Instance {
        self.instance_that_logs(database, "info")
    }

    /// The same with another level of logging.
    pub fn instance_that_logs(&self, database: &Database, level: &str) -> Instance {
        let service = Service::new(Path::new(env!("CARGO_BIN_EXE_iam-sorryd")));
        service.write("aws-secret", &self.key.secret);
        service.write("rules/lab.cedar", RULES);
        service.write("people.toml", "");
        let (store, settings) = match database {
            Database::Sqlite => {
                let path = service.dir().join("store.db");
                (format!("path = \"{}\"", path.display()), StoreSettings::sqlite(path))
            }
            Database::Postgres(url) => {
                let file = service.write("database-url", url);
                let settings = StoreSettings::postgres(url.clone().into(), None).unwrap();
                (format!("url_file = \"{}\"", file.display()), settings)
            }
        };
        let audit_key = self.audit_key.get_or_init(|| {
            let key = service.dir().join("new-key.pem");
            let made = service.command(&["audit", "new-key", key.to_str().unwrap()]);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            std::fs::read_to_string(key).unwrap()
        });
        service.write("audit-key.pem", audit_key);
        let endpoint = self.proxy.endpoint();
        service.write(
            "iam-sorryd.toml",
            &format!(
                r#"
name = "Lab"
[http]
origin = "{{origin}}"
listen = "{{address}}"
[http.limits]
per_person = {{ per_second = 10000, burst = 10000 }}
per_address = {{ per_second = 10000, burst = 10000 }}
[store]
{store}
[aws]
region = "us-east-1"
endpoint_sts = "{endpoint}"
endpoint_iam = "{endpoint}"
identity = {{ access_key = {{ id = "{}", secret = {{ file = "{{dir}}/aws-secret" }} }} }}
[actions]
settle_seconds = 1
[log]
level = "{level}"
[audit]
key_file = "{{dir}}/audit-key.pem"
checkpoint_seconds = 1
[[audit.sink]]
name = "copy"
file = {{ path = "{{dir}}/audit.jsonl" }}
[login.ssh]
file = "{{dir}}/people.toml"
[rules]
files = ["{{dir}}/rules"]
[[namespace]]
name = "dirk"
owners = ["group:lab"]
[guardrails]
permissions_boundary = "{}"
policies = ["{}"]
role = [{{ arn = "{}" }}]
"#,
                self.key.key, self.boundary, self.policy, self.role
            ),
        );
        Store::migrate(&settings).unwrap();
        let instance = Instance { service, settings, token: self.token.clone() };
        instance.beside(|store| sign_in(store, &self.token));
        instance
    }

    /// What IAM has in the service's path: users and keys.
    pub fn in_iam(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let answer = self.account.call("iam", "list_users", json!({"PathPrefix": "/iam-sorry/"}));
        let names: BTreeSet<_> = answer["Users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["UserName"].as_str().unwrap().to_owned())
            .collect();
        let keys = names.iter().flat_map(|name| self.account.keys(name)).collect();
        (names, keys)
    }

    /// Waits until nothing is open, and compares. Gives how long it took.
    pub fn accounted_for(&self, instance: &Instance, what: &str) -> Duration {
        let start = Instant::now();
        loop {
            let open = instance.beside(|store| run(store.open_operations()).unwrap());
            if open.is_empty() {
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{what}: open after 30 s: {open:#?}\n{}",
                instance.service.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let took = start.elapsed();
        let (users, keys) = self.in_iam();
        instance.beside(|store| {
            let all = || PageRequest { cursor: None, limit: 500 };
            let rows: BTreeSet<_> = run(store.list_users(None, None, all()))
                .unwrap()
                .items
                .into_iter()
                .map(|row| row.user.name.to_string())
                .collect();
            assert_eq!(rows, users, "{what}: users in the store, and in IAM");
            let mut grants = Vec::new();
            let mut page = all();
            loop {
                let found = run(store.list_grants(None, page)).unwrap();
                grants.extend(found.items);
                match found.next {
                    Some(next) => page = PageRequest { cursor: Some(next), limit: 500 },
                    None => break,
                }
            }
            let live: BTreeSet<_> = grants
                .into_iter()
                .filter(|grant| grant.new.kind == "access-key" && !grant.deleted)
                .map(|grant| grant.new.access_key_id)
                .chain(self.unaccounted(store))
                .collect();
            assert_eq!(live, keys, "{what}: keys in the store, and in IAM");
            self.every_intent_has_one_outcome(store, what);
        });
        took
    }

    /// The keys that the store has as unaccounted for, each of them inactive.
    pub fn unaccounted(&self, store: &Store) -> Vec<String> {
        let keys = run(store.unaccounted_keys()).unwrap();
        for key in &keys {
            let listed =
                self.account.call("iam", "list_access_keys", json!({"UserName": key.user.name.as_str()}));
            let listed = listed["AccessKeyMetadata"].as_array().unwrap();
            let found = listed.iter().find(|listed| listed["AccessKeyId"] == *key.access_key_id);
            assert_eq!(found.map(|key| &key["Status"]), Some(&json!("Inactive")), "{key:?}");
        }
        keys.into_iter().map(|key| key.access_key_id).collect()
    }

    fn every_intent_has_one_outcome(&self, store: &Store, what: &str) {
        let (mut intents, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
        for event in run(whole_trail(store)).iter().map(|record| record.event().unwrap()) {
            match (event.phase, event.operation) {
                (Phase::Intent, Some(operation)) => assert!(intents.insert(operation), "{what}"),
                (Phase::Outcome, Some(operation)) => assert!(outcomes.insert(operation), "{what}"),
                _ => {}
            }
        }
        assert_eq!(intents, outcomes, "{what}: intents, and outcomes");
    }
}

/// One `iam-sorryd`.
pub struct Instance {
    pub service: Service,
    settings: StoreSettings,
    token: String,
}

impl Instance {
    /// A request of the person's; none where nobody answers.
    pub fn authz_request(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let answer = self.service.api(method, path, &self.token, body).ok()?;
        // A process that is killed may leave half an answer.
        Some((answer.status, serde_json::from_str(&answer.body).ok()?))
    }

    /// A request that must succeed.
    pub fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.authz_request(method, path, body).expect("an answer");
        assert_eq!(status / 100, 2, "{method} {path}: {answer}\n{}", self.service.log());
        answer
    }

    /// Looks into the database beside the service.
    pub fn beside<T>(&self, work: impl FnOnce(&Store) -> T) -> T {
        let store = Store::open_beside(&self.settings, "test").unwrap();
        let result = work(&store);
        run(store.close());
        result
    }
}

/// The person of these tests; a second time for the same database changes nothing.
fn sign_in(store: &Store, token: &str) {
    let identity = Identity {
        issuer: "file".into(),
        subject: "dirk.p".into(),
        name: "dirk.p".into(),
        groups: [Group::named("file", "lab")].into_iter().collect(),
        method: Method::SshKey,
    };
    let now = iam_sorry_server::clock::Clock::system().now_ms();
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let token_hash: [u8; 32] = hash.as_ref().try_into().unwrap();
    if run(store.session_by_token_hash(&token_hash)).unwrap().is_some() {
        return;
    }
    let event = Event {
        time_ms: now,
        instance: "test".into(),
        person: Person::from(&identity),
        address: "127.0.0.1".into(),
        request_id: "r".into(),
        action: "sign-in".into(),
        outcome: Some(Outcome::Success),
        ..Event::default()
    };
    let session = Session {
        id: "test-session".into(),
        token_hash,
        form_hash: None,
        identity,
        method: Method::SshKey,
        signed_in_ms: now,
        last_used_ms: now,
        expires_ms: now + 3_600_000,
        address: "127.0.0.1".into(),
        key: None,
        via: None,
    };
    run(store.create_session(session, event)).unwrap();
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
