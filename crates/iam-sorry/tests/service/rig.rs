//! A department: an AWS account, a directory, the service between them, and a person at a machine without a browser.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use testkit::{Account, Home, Ministack, Service, Slapd, SshAgent, TestCa, service_program};

use crate::machine::Ended;

/// The SSH key's passphrase.
pub const PASSPHRASE: &str = "correct horse";

/// As an operator would write them.
const RULES: &str = r#"
@id("owners-manage-their-namespaces")
permit (
    principal,
    action in [IamSorry::Action::"view", IamSorry::Action::"manage", IamSorry::Action::"issueCredentials"],
    resource
) when { principal in resource.owners };

@id("twelve-hours-at-most")
forbid (principal, action in IamSorry::Action::"credentials", resource) when { context.duration > 43200 };

@id("auditors-oversee")
permit (principal in IamSorry::Group::"auditors", action in IamSorry::Action::"oversee", resource);

@id("the-lab-may-assume-its-role")
permit (principal in IamSorry::Group::"lab-dirk", action == IamSorry::Action::"assumeRole", resource);
"#;

const READ_ONLY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}"#;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},
    "Action":["sts:AssumeRole","sts:SetSourceIdentity","sts:TagSession"]}]}"#;

pub struct Department {
    pub account: Account,
    pub slapd: Slapd,
    pub service: Service,
    /// Reading and Writing, which may be attached.
    pub policies: Vec<String>,
    pub role: String,
}

/// `person` is of the directory: login name and password.
pub struct Person {
    pub home: Home,
    _agent: SshAgent,
    pub key: PathBuf,
    pub origin: String,
}

impl Department {
    /// Runs on plain loopback.
    pub fn new() -> Department {
        let department = Department::prepare("{origin}", "");
        department.service.run();
        department
    }

    /// Runs with a certificate of `ca`'s; gives its origin too.
    pub fn with_tls(ca: &TestCa) -> (Department, String) {
        let certificate = ca.issue_loopback();
        let tls = format!(
            "[http.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.certificate.display(),
            certificate.key.display()
        );
        let department = Department::prepare("https://{address}", &tls);
        department.service.launch();
        let origin = format!("https://{}", department.service.address());
        (department, origin)
    }

    fn prepare(origin: &str, tls: &str) -> Department {
        let account = Ministack::shared().account();
        let policies: Vec<String> =
            ["Reading", "Writing", "Boundary"].iter().map(|name| make_policy(&account, name)).collect();
        let role = account.call(
            "iam",
            "create_role",
            json!({"RoleName": "lab", "AssumeRolePolicyDocument": TRUST, "MaxSessionDuration": 3600}),
        )["Role"]["Arn"]
            .as_str()
            .unwrap()
            .to_owned();
        let key = account.user_allowed("the-service", &["iam:*", "sts:*"]);
        let slapd = Slapd::department();
        let service = Service::new(service_program());
        let key_file = service.dir().join("audit.key").display().to_string();
        let made = service.command(&["audit", "new-key", &key_file]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        service.write("aws-secret", &key.secret);
        service.write("bind-password", slapd.service_password());
        service.write("rules/department.cedar", RULES);
        let config = format!(
            r#"
name = "Physics AWS"

[http]
origin = "{origin}"
listen = "{{address}}"
{tls}
[store]
path = "{{dir}}/store.db"

[audit]
key_file = "{{dir}}/audit.key"
checkpoint_records = 5
checkpoint_seconds = 1

[aws]
region = "us-east-1"
account = "{account}"
endpoint_sts = "{endpoint}"
endpoint_iam = "{endpoint}"
identity = {{ access_key = {{ id = "{key}", secret = {{ file = "{{dir}}/aws-secret" }} }} }}

[login.ssh]
[login.ldap]
name = "corp"
urls = ["{ldap}"]
bind_dn = "{bind_dn}"
bind_password = {{ file = "{{dir}}/bind-password" }}
users_base = "{people}"
groups_base = "{groups}"

[rules]
files = ["{{dir}}/rules"]

[[namespace]]
name = "dirk"
owners = ["group:lab-dirk"]

[guardrails]
permissions_boundary = "{boundary}"
policies = ["{reading}", "{writing}"]

[[guardrails.role]]
arn = "{role}"
"#,
            account = account.id(),
            endpoint = account.endpoint(),
            key = key.key,
            ldap = slapd.url(),
            bind_dn = slapd.service_dn(),
            people = slapd.people_base(),
            groups = slapd.groups_base(),
            boundary = policies[2],
            reading = policies[0],
            writing = policies[1],
        );
        let path = service.write("iam-sorryd.toml", &config).display().to_string();
        let migrated = service.command(&["migrate", "--config", &path]);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        Department { account, slapd, service, policies, role }
    }

    /// A machine with an SSH key in its agent, which the directory knows as `name`'s.
    pub fn person(&self, name: &str) -> Person {
        self.person_at(name, &self.service.origin())
    }

    /// The same where the service is reached otherwise.
    pub fn person_at(&self, name: &str, origin: &str) -> Person {
        let person = Person::new(origin, self.account.endpoint());
        let public = std::fs::read_to_string(person.key.with_extension("pub")).unwrap();
        // Without the comment: one with it is found too, but not within the same half minute as another.
        let plain: Vec<&str> = public.split_whitespace().take(2).collect();
        self.slapd.set_ssh_keys(name, &[&plain.join(" ")]);
        person
    }

    /// The same, signed in.
    pub fn signed_in(&self, name: &str) -> Person {
        let person = self.person(name);
        let login = person.run(&["login", &person.origin]);
        assert_eq!(login.code, Some(0), "{login:?}\n{}", self.service.log());
        person
    }
}

impl Person {
    pub fn new(origin: &str, endpoint: &str) -> Person {
        let mut home = Home::new();
        let agent = SshAgent::start();
        let key = home.ssh_key(PASSPHRASE);
        agent.add(&key, PASSPHRASE, &[]);
        home.set_env("SSH_AUTH_SOCK", agent.socket());
        home.set_env("AWS_ENDPOINT_URL", endpoint);
        home.set_env("AWS_DEFAULT_REGION", "us-east-1");
        Person { home, _agent: agent, key, origin: origin.to_owned() }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(env!("CARGO_BIN_EXE_iam-sorry"));
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// A field as it lies in the credentials file.
    pub fn field(&self, profile: &str, key: &str) -> Option<String> {
        let text = self.home.credentials();
        let section = text.split_once(&format!("[{profile}]\n"))?.1;
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    /// The session file's text.
    pub fn state(&self) -> String {
        std::fs::read_to_string(self.home.path().join(".local/state/iam-sorry/service.json"))
            .unwrap_or_default()
    }
}

fn make_policy(account: &Account, name: &str) -> String {
    let made = account.call("iam", "create_policy", json!({"PolicyName": name, "PolicyDocument": READ_ONLY}));
    made["Policy"]["Arn"].as_str().unwrap().to_owned()
}
