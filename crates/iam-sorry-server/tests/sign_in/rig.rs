//! A service with a database, rules and a clock of the test's own; nothing here talks to AWS.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use iam_sorry_core::api::{
    LdapLogin, RegisterSshKey, RegistrationChallenge, RegistrationChallengeRequest, SshChallenge,
    SshChallengeRequest, SshKeyInfo, SshLogin,
};
use iam_sorry_core::audit::Event;
use iam_sorry_core::identity::Via;
use iam_sorry_core::ids::AccountName;
use iam_sorry_core::ssh::login;
use iam_sorry_rules::{RuleSet, RuleSettings};
use iam_sorry_server::accounts::identity::ServiceIdentity;
use iam_sorry_server::accounts::registry::{Accounts, AwsAccount};
use iam_sorry_server::accounts::settings::IdentitySource;
use iam_sorry_server::actions::settings::ActionSettings;
use iam_sorry_server::caller::{Caller, RequestSource};
use iam_sorry_server::clock::Clock;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::login::{LoginMethods, LoginSettings};
use iam_sorry_server::secret_ref::SecretRef;
use iam_sorry_server::service::{Parts, Service};
use iam_sorry_server::sessions::{NewSession, SessionSettings, SignIn};
use iam_sorry_store::{AuditFilter, PageRequest, Store};
use secrecy::ExposeSecret;

pub const HERE: &str = "192.0.2.10";
pub const ORIGIN: &str = "https://keys.example.edu";
/// No refusal comes sooner, where the configuration says nothing.
pub const FLOOR: std::time::Duration = std::time::Duration::from_millis(400);
const START: i64 = 1_795_374_000_000;

pub struct Rig {
    pub service: Service,
    pub store: Store,
    pub folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
    rules: Arc<ArcSwap<RuleSet>>,
}

impl Rig {
    /// `login` is the TOML of `[login]`; `folder` holds what it speaks of.
    pub fn with(
        login: &str,
        folder: tempfile::TempDir,
        change: impl FnOnce(LoginMethods) -> LoginMethods,
    ) -> Self {
        let login: LoginSettings = toml::from_str(login).unwrap();
        let settings = iam_sorry_store::Settings::sqlite(folder.path().join("store.db"));
        Store::migrate(&settings).unwrap();
        let store = Store::open(&settings, "instance-1").unwrap();
        let now = Arc::new(AtomicI64::new(START));
        let rules = rules();
        let service = service(&login, store.clone(), now.clone(), rules.clone(), "instance-1", change);
        Self { service, store, folder, now, rules }
    }

    /// Another instance on the same database.
    pub fn second(&self, login: &str) -> Service {
        let login: LoginSettings = toml::from_str(login).unwrap();
        service(&login, self.store.clone(), self.now.clone(), self.rules.clone(), "instance-2", |methods| {
            methods
        })
    }

    /// Other rules from now on; one namespace, `dirk`, with this owner.
    pub fn set_rules(&self, rules: &str, owner: &str) {
        let settings = format!(
            "[[namespace]]\nname = \"dirk\"\nowners = [{owner:?}]\n[guardrails]\npermissions_boundary = \"none\"\n"
        );
        let rules =
            RuleSet::load(&[("rules.cedar".into(), rules.into())], toml::from_str(&settings).unwrap());
        self.rules.store(Arc::new(rules.unwrap()));
    }

    pub fn wait(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub async fn challenge(&self, line: &str, from: &str) -> Result<SshChallenge, ServiceError> {
        self.challenge_as(line, None, from).await
    }

    pub async fn challenge_as(
        &self,
        line: &str,
        name: Option<&str>,
        from: &str,
    ) -> Result<SshChallenge, ServiceError> {
        let request = SshChallengeRequest { public_key: line.to_owned(), name: name.map(str::to_owned) };
        self.service.ssh_challenge(&origin(from), request).await
    }

    pub async fn answer(
        &self,
        challenge: &SshChallenge,
        line: &str,
        signature: &[u8],
        from: &str,
    ) -> Result<NewSession, ServiceError> {
        self.answer_as(challenge, line, None, signature, from).await
    }

    pub async fn answer_as(
        &self,
        challenge: &SshChallenge,
        line: &str,
        name: Option<&str>,
        signature: &[u8],
        from: &str,
    ) -> Result<NewSession, ServiceError> {
        let login = SshLogin {
            nonce: challenge.nonce.clone(),
            public_key: line.to_owned(),
            signature: URL_SAFE_NO_PAD.encode(signature),
            name: name.map(str::to_owned),
        };
        self.service.sign_in_ssh(&origin(from), login).await
    }

    /// The whole sign-in by an OpenSSH key.
    pub async fn by_key(&self, key: &OpenSshKey) -> Result<NewSession, ServiceError> {
        let challenge = self.challenge(&key.line, HERE).await?;
        let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
        self.answer(&challenge, &key.line, &signature, HERE).await
    }

    /// The same for somebody who says who they are.
    pub async fn by_key_as(&self, key: &OpenSshKey, name: &str) -> Result<NewSession, ServiceError> {
        let challenge = self.challenge_as(&key.line, Some(name), HERE).await?;
        let signature = key.sign(&challenge, ORIGIN, login::NAMESPACE);
        self.answer_as(&challenge, &key.line, Some(name), &signature, HERE).await
    }

    /// The whole registration of an OpenSSH key.
    pub async fn register(&self, caller: &Caller, key: &OpenSshKey) -> Result<SshKeyInfo, ServiceError> {
        let challenge = self.registration_challenge(caller, key).await?;
        let signature = key.sign_registration(&challenge, ORIGIN, login::REGISTER_NAMESPACE);
        self.hand_in(caller, key, &challenge, &signature).await
    }

    pub async fn registration_challenge(
        &self,
        caller: &Caller,
        key: &OpenSshKey,
    ) -> Result<RegistrationChallenge, ServiceError> {
        let request = RegistrationChallengeRequest { public_key: key.line.clone() };
        self.service.registration_challenge(caller, request).await
    }

    pub async fn hand_in(
        &self,
        caller: &Caller,
        key: &OpenSshKey,
        challenge: &RegistrationChallenge,
        signature: &[u8],
    ) -> Result<SshKeyInfo, ServiceError> {
        let request = RegisterSshKey {
            public_key: key.line.clone(),
            nonce: challenge.nonce.clone(),
            signature: URL_SAFE_NO_PAD.encode(signature),
        };
        self.service.register_ssh_key(caller, request).await
    }

    /// Somebody who signed in with the directory's password.
    pub async fn with_password(&self, name: &str) -> Caller {
        let session = self.by_password(name, &format!("{name}-password"), HERE).await.unwrap();
        self.caller(&session).await.unwrap()
    }

    pub async fn by_password(
        &self,
        name: &str,
        password: &str,
        from: &str,
    ) -> Result<NewSession, ServiceError> {
        let login = LdapLogin { username: name.to_owned(), password: password.to_owned().into() };
        self.service.sign_in_ldap(&origin(from), Via::Api, login).await
    }

    pub async fn caller(&self, session: &NewSession) -> Result<Caller, ServiceError> {
        let token = session.answer.token.expose_secret();
        self.service.caller_by_token(origin(HERE), token).await
    }

    /// The audit trail, newest first.
    pub async fn trail(&self) -> Vec<Event> {
        let page = PageRequest { cursor: None, limit: 500 };
        let records = self.store.audit_page(AuditFilter::default(), page).await.unwrap().items;
        records.iter().map(|record| record.event().unwrap()).collect()
    }
}

fn service(
    login: &LoginSettings,
    store: Store,
    now: Arc<AtomicI64>,
    rules: Arc<ArcSwap<RuleSet>>,
    instance: &str,
    change: impl FnOnce(LoginMethods) -> LoginMethods,
) -> Service {
    let methods = change(LoginMethods::new(login).unwrap());
    let limits = login.limits.clone();
    Service::new(Parts {
        store,
        rules,
        accounts: Accounts::one(AwsAccount::new(
            AccountName::default(),
            iam_sorry_aws::Aws::new(&iam_sorry_aws::Settings::new("eu-central-1")).unwrap(),
            ServiceIdentity::new(IdentitySource::AccessKey {
                id: "AKIANOBODY".into(),
                secret: SecretRef::Variable("NOT_SET".into()),
            }),
        )),
        actions: ActionSettings::default(),
        sign_in: SignIn::new(
            "Test",
            login::Origin::parse(ORIGIN).unwrap(),
            methods,
            SessionSettings::default(),
            limits,
        ),
        clock: Clock::new(move || now.load(Ordering::SeqCst)),
        instance: instance.to_owned(),
        other_instances: true,
    })
}

fn rules() -> Arc<ArcSwap<RuleSet>> {
    let rules = "@id(\"helpdesk\") permit(principal in IamSorry::Group::\"helpdesk\", \
                 action == IamSorry::Action::\"manageSessions\", resource);\n\
                 @id(\"own-keys\") permit(principal, action == IamSorry::Action::\"registerKey\", resource);\n\
                 @id(\"not-interns\") @reason(\"interns sign in by password\") \
                 forbid(principal in IamSorry::Group::\"interns\", action == IamSorry::Action::\"registerKey\", resource) \
                 when { context.method == \"ldap\" };";
    let settings = "[[namespace]]\nname = \"ada\"\nowners = [\"person:ada\"]\n\
                    [guardrails]\npermissions_boundary = \"none\"\n";
    let settings: RuleSettings = toml::from_str(settings).unwrap();
    let rules = RuleSet::load(&[("rules.cedar".into(), rules.into())], settings).unwrap();
    Arc::new(ArcSwap::from_pointee(rules))
}

pub fn origin(address: &str) -> RequestSource {
    RequestSource { address: address.parse::<IpAddr>().unwrap(), request_id: "request-1".into() }
}

/// A key that ssh-keygen made, and signs with: OpenSSH's own reading of SSHSIG.
pub struct OpenSshKey {
    folder: tempfile::TempDir,
    pub line: String,
}

impl OpenSshKey {
    pub fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", "me@home", "-f"]).arg(&file));
        let line = std::fs::read_to_string(folder.path().join("key.pub")).unwrap().trim().to_owned();
        Self { folder, line }
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("key")
    }

    pub fn sign(&self, challenge: &SshChallenge, dialled: &str, namespace: &str) -> Vec<u8> {
        sign_with(&self.file(), None, &message(challenge, dialled), namespace)
    }

    pub fn sign_registration(
        &self,
        challenge: &RegistrationChallenge,
        dialled: &str,
        namespace: &str,
    ) -> Vec<u8> {
        sign_with(&self.file(), None, &registration(challenge, dialled), namespace)
    }

    /// What `ssh-keygen -Y sign` prints for a text on its standard input.
    pub fn armoured(&self, text: &str, namespace: &str) -> String {
        use std::io::Write as _;
        let mut command = Command::new("ssh-keygen");
        command.env_remove("SSH_AUTH_SOCK").args(["-Y", "sign", "-n", namespace, "-f"]).arg(self.file());
        let piped = std::process::Stdio::piped;
        let mut running = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The private key lies in the agent only.
    pub fn sign_by_agent(&self, agent: &testkit::SshAgent, challenge: &SshChallenge) -> Vec<u8> {
        let public = self.folder.path().join("key.pub");
        sign_with(&public, Some(&agent.socket()), &message(challenge, ORIGIN), login::NAMESPACE)
    }
}

pub fn message(challenge: &SshChallenge, dialled: &str) -> Vec<u8> {
    let origin = login::Origin::parse(dialled).unwrap();
    login::login_message(&origin, &challenge.nonce, &challenge.request, &challenge.time).unwrap()
}

pub fn registration(challenge: &RegistrationChallenge, dialled: &str) -> Vec<u8> {
    let RegistrationChallenge { person, name, nonce, request, time, .. } = challenge;
    let origin = login::Origin::parse(dialled).unwrap();
    login::registration_message(&origin, (person, name), nonce, request, time).unwrap()
}

fn sign_with(key: &Path, agent: Option<&Path>, message: &[u8], namespace: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    std::fs::write(&file, message).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.env_remove("SSH_AUTH_SOCK").args(["-Y", "sign", "-n", namespace, "-f"]).arg(key).arg(&file);
    if let Some(socket) = agent {
        command.env("SSH_AUTH_SOCK", socket);
    }
    run(&mut command);
    let armoured = std::fs::read_to_string(folder.path().join("message.sig")).unwrap();
    let body: String = armoured.lines().filter(|line| !line.starts_with("-----")).collect();
    // PROTOCOL.sshsig: the last field is the signature, whose last field are the 64 bytes.
    let blob = STANDARD.decode(body).unwrap();
    blob[blob.len() - 64..].to_vec()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
