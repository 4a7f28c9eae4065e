//! A department: an AWS account, a directory, and the service between them with files as an operator would write them.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Account, Machine, Ministack, Service, Slapd, TestCa};

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

@id("people-register-their-keys")
permit (principal, action == IamSorry::Action::"registerKey", resource) when { context.signInAge <= 3600 };
"#;

/// [`Slapd::department`] signs people in; `lab-dirk` owns the namespace `dirk`.
#[derive(Debug)]
pub struct Department {
    /// The account of this test alone, with the role `lab`, which anybody in it may assume for an hour.
    pub account: Account,
    /// The directory.
    pub slapd: Slapd,
    /// Not running yet, where [`Department::prepare`] made it.
    pub service: Service,
    /// ARNs of the allow-list: Reading, Writing.
    pub policies: [String; 2],
    /// The role's ARN. The service may assume it only where the configuration names it too.
    pub role: String,
}

/// What a department has beyond the usual.
#[derive(Debug, Default)]
pub struct Extras<'a> {
    /// Serves with a certificate of this CA's; else plain.
    pub tls: Option<&'a TestCa>,
    /// Tables at the end of `iam-sorryd.toml`. `{role}` is the role's ARN.
    pub tables: &'a str,
    /// More rules, in Cedar.
    pub rules: &'a str,
}

impl Department {
    /// Files and schema of a service that is not running yet. It writes checkpoints after 5 records or a second.
    ///
    /// # Panics
    /// When a part does not start, or `iam-sorryd migrate` fails.
    pub fn prepare(program: &Path, extras: &Extras<'_>) -> Department {
        let account = Ministack::shared().account();
        let [reading, writing, boundary] = ["Reading", "Writing", "Boundary"].map(|name| {
            let args = json!({"PolicyName": name, "PolicyDocument": allowing("s3:Get*").to_string()});
            arn(&account.call("iam", "create_policy", args)["Policy"])
        });
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]}]});
        let args = json!({"RoleName": "lab", "AssumeRolePolicyDocument": trust.to_string(),
            "MaxSessionDuration": 3600});
        let role = arn(&account.call("iam", "create_role", args)["Role"]);
        let key = account.user_allowed("the-service", &["iam:*", "sts:*"]);
        let slapd = Slapd::department();
        let service = Service::new(program);
        service.write("aws-secret", &key.secret);
        service.write("bind-password", slapd.service_password());
        service.write("rules/department.cedar", &format!("{RULES}{}", extras.rules));
        let (origin, tls) = match extras.tls {
            None => ("{origin}", String::new()),
            Some(ca) => {
                let issued = ca.issue_loopback();
                let tls =
                    format!("[http.tls]\ncertificate = {:?}\nkey = {:?}\n", issued.certificate, issued.key);
                ("https://{address}", tls)
            }
        };
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
{tables}"#,
            account = account.id(),
            endpoint = account.endpoint(),
            key = key.key,
            ldap = slapd.url(),
            bind_dn = slapd.service_dn(),
            people = slapd.people_base(),
            groups = slapd.groups_base(),
            tables = extras.tables.replace("{role}", &role),
        );
        let path = service.write("iam-sorryd.toml", &config).display().to_string();
        let key_file = service.dir().join("audit.key").display().to_string();
        for command in [&["audit", "new-key", &key_file][..], &["migrate", "--config", &path]] {
            let output = service.command(command);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Department { account, slapd, service, policies: [reading, writing], role }
    }

    /// A session of the API: the directory's `name` signed in with the password.
    ///
    /// # Panics
    /// When that is refused.
    pub fn token(&self, name: &str) -> String {
        let body = json!({"username": name, "password": format!("{name}-password")});
        let answer = self.service.api("POST", "/login/ldap", "", &body).expect("an answer").json();
        answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The directory learns that the key of this machine is `name`'s.
    ///
    /// # Panics
    /// When the key has no public half.
    pub fn register(&self, name: &str, machine: &Machine) {
        let public = std::fs::read_to_string(machine.ssh_key.with_extension("pub")).expect("a public key");
        // Without the comment: one with it is found too, but not within the same half minute as another.
        let plain: Vec<&str> = public.split_whitespace().take(2).collect();
        self.slapd.set_ssh_keys(name, &[&plain.join(" ")]);
    }
}

fn allowing(action: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})
}

fn arn(made: &Value) -> String {
    made["Arn"].as_str().expect("an ARN").to_owned()
}
