//! AWS in memory, a database, and one or two real instances of the service on it, as an operator would configure them.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use iam_sorry_core::audit::{Event, Outcome, Person};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_server::clock::Clock;
use iam_sorry_store::{Session, Settings as StoreSettings, Store};
use testkit::{Chaos, MemoryAws, Postgres, Service, service_program};

const RULES: &str = r#"
@id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
@id("lab") permit (principal in IamSorry::Group::"lab", action == IamSorry::Action::"assumeRole", resource);
"#;

#[derive(Clone, Copy, PartialEq)]
pub enum Engine {
    Sqlite,
    /// With two instances.
    Postgres,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL, two instances",
        }
    }
}

pub struct Department {
    pub aws: MemoryAws,
    pub instances: Vec<Instance>,
    pub policy: String,
    pub role: String,
    settings: StoreSettings,
    folder: tempfile::TempDir,
    _postgres: Option<Postgres>,
}

/// One `iam-sorryd`, which may be down for a moment.
pub struct Instance {
    pub service: Service,
    /// Held by who kills it and starts it again.
    restarting: Mutex<()>,
}

impl Department {
    /// Everything running, and the clients signed in.
    pub fn start(engine: Engine, clients: usize, seed: u64) -> Self {
        let aws = MemoryAws::start();
        aws.set_chaos(Chaos { seed, lost: 2, slow: 20, slow_for: Duration::from_millis(150) });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (settings, postgres, section) = match engine {
            Engine::Sqlite => {
                let path = folder.path().join("store.db");
                (StoreSettings::sqlite(path.clone()), None, format!("path = \"{}\"", path.display()))
            }
            Engine::Postgres => {
                let postgres = Postgres::start();
                let (url, file) = (postgres.database(), folder.path().join("database-url"));
                private(&file, &url);
                let settings = StoreSettings::postgres(url.into(), None).expect("a URL");
                (settings, Some(postgres), format!("url_file = \"{}\"", file.display()))
            }
        };
        let (policy, role) = (aws.arn("policy/read"), aws.arn("role/analysis"));
        let count = if engine == Engine::Sqlite { 1 } else { 2 };
        let program = std::env::var_os("IAM_SORRYD").map(PathBuf::from);
        let program = program.as_deref().unwrap_or_else(|| service_program());
        let instances =
            (0..count).map(|_| Instance { service: Service::new(program), restarting: Mutex::default() });
        let department =
            Self { instances: instances.collect(), aws, policy, role, settings, folder, _postgres: postgres };
        let first = &department.instances[0].service;
        let made = first.command(&["audit", "new-key", &department.audit_key().display().to_string()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for instance in &department.instances {
            department.configure(&instance.service, &section);
        }
        Store::migrate(&department.settings).expect("a schema");
        department.beside(|store| (0..clients).for_each(|client| sign_in(store, client)));
        department.instances.iter().for_each(|instance| instance.service.run());
        department
    }

    /// Where the audit trail is copied to; whichever instance has the turn writes it.
    pub fn copy(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    pub fn audit_key(&self) -> PathBuf {
        self.folder.path().join("audit-key.pem")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// kill -9 for one of the instances, which is started again.
    pub fn kill_one(&self, which: u64) {
        let instance = &self.instances[usize::try_from(which % 64).unwrap_or(0) % self.instances.len()];
        let _restarting = instance.restarting.lock().expect("nobody panicked");
        let log = instance.service.kill();
        assert!(!log.contains("panicked"), "{log}");
        instance.service.run();
    }

    /// Looks into the database beside the service.
    pub fn beside<T>(&self, work: impl FnOnce(&Store) -> T) -> T {
        let store = Store::open_beside(&self.settings, "soak").expect("the database");
        let result = work(&store);
        run(store.close());
        result
    }

    /// Waits until nothing is open any more, with an AWS that works. What is open after that is `Err`.
    pub fn settle(&self) -> Result<(), String> {
        self.aws.set_chaos(Chaos::default());
        let start = Instant::now();
        loop {
            let open = self.beside(|store| run(store.open_operations()).expect("the database"));
            if open.is_empty() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(180) {
                return Err(format!("open after three minutes: {open:#?}"));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until the copy has the trail's end, then stops the instances in good order.
    pub fn stop(&self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            let (behind, _) = self.beside(|store| {
                let position = run(store.sink_position("copy")).expect("the database").unwrap_or_default();
                let behind = run(store.count_behind(&position.records)).expect("the database");
                (behind, run(store.count_records()).expect("the database"))
            });
            if behind == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        for instance in &self.instances {
            let (status, log) = instance.service.stop();
            assert_eq!(status, 0, "{log}");
            assert!(!log.contains("panicked"), "{log}");
        }
    }

    fn configure(&self, service: &Service, store: &str) {
        let (creds, endpoint) = (self.aws.service(), self.aws.endpoint());
        service.write("aws-secret", &creds.secret);
        service.write("rules/lab.cedar", RULES);
        service.write("people.toml", "");
        service.write(
            "iam-sorryd.toml",
            &format!(
                r#"
name = "Soak"
[http]
origin = "{{origin}}"
listen = "{{address}}"
[http.limits]
per_person = {{ per_second = 100000, burst = 100000 }}
per_address = {{ per_second = 100000, burst = 100000 }}
[sessions]
recheck_minutes = 1440
[store]
{store}
[aws]
region = "us-east-1"
endpoint_sts = "{endpoint}"
endpoint_iam = "{endpoint}"
identity = {{ access_key = {{ id = "{}", secret = {{ file = "{{dir}}/aws-secret" }} }} }}
[actions]
settle_seconds = 1
key_in_use_minutes = 0
[log]
level = "warn"
[audit]
key_file = "{}"
checkpoint_seconds = 1
[[audit.sink]]
name = "copy"
file = {{ path = "{}" }}
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
                creds.key,
                self.audit_key().display(),
                self.copy().display(),
                self.aws.arn("policy/edge"),
                self.policy,
                self.role
            ),
        );
    }
}

/// The token of a client's session.
pub fn token(client: usize) -> String {
    format!("iss_{}{client:02}", "A".repeat(41))
}

fn sign_in(store: &Store, client: usize) {
    let hash = digest::digest(&digest::SHA256, token(client).as_bytes());
    let identity = Identity {
        issuer: "file".into(),
        subject: format!("person-{client}"),
        name: format!("person-{client}"),
        groups: [Group::named("file", "lab")].into_iter().collect(),
        method: Method::SshKey,
    };
    let now = Clock::system().now_ms();
    let event = Event {
        time_ms: now,
        instance: "soak".into(),
        person: Person::from(&identity),
        address: "127.0.0.1".into(),
        request_id: "soak".into(),
        action: "sign-in".into(),
        outcome: Some(Outcome::Success),
        ..Event::default()
    };
    let session = Session {
        id: format!("soak-{client}"),
        token_hash: hash.as_ref().try_into().expect("32 bytes"),
        form_hash: None,
        identity,
        method: Method::SshKey,
        signed_in_ms: now,
        last_used_ms: now,
        expires_ms: now + 12 * 3_600_000,
        address: "127.0.0.1".into(),
        key: None,
        via: None,
    };
    run(store.create_session(session, event)).expect("a session");
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a new file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}
