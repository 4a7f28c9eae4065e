//! A whole department: the real `iam-sorryd`, an AWS emulator behind a fault proxy, rules, and people with SSH keys.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use iam_sorry_core::ssh::login::{Origin, login_message};
use serde_json::{Value, json};
use testkit::{Account, Answer, FaultProxy, Ministack, Service};

const RULES: &str = r#"
@id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
@id("analysts") permit (principal in IamSorry::Group::"lab", action == IamSorry::Action::"assumeRole", resource);
@id("auditors") permit (principal in IamSorry::Group::"auditors", action in IamSorry::Action::"oversee", resource);
@id("no-deletes") @reason("dirk-keep is needed by the cluster")
forbid (principal, action == IamSorry::Action::"deleteUser", resource == IamSorry::User::"dirk-keep");
"#;

/// A running department. Everything ends on drop.
pub struct Department {
    pub service: Service,
    pub proxy: FaultProxy,
    pub policy: String,
    pub role: String,
}

impl Department {
    /// On SQLite, running.
    pub fn new() -> Self {
        let department = Self::prepared("path = \"{dir}/store.db\"");
        department.run();
        department
    }

    /// With this store section, not running yet.
    pub fn prepared(store: &str) -> Self {
        Self::prepared_with(store, std::path::Path::new(env!("CARGO_BIN_EXE_iam-sorryd")))
    }

    /// The same with another program in the place of `iam-sorryd`.
    pub fn prepared_with(store: &str, program: &std::path::Path) -> Self {
        let account: Account = Ministack::shared().account();
        let policy = |name: &str| {
            let document = json!({"Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}]});
            let args = json!({"PolicyName": name, "PolicyDocument": document.to_string()});
            account.call("iam", "create_policy", args)["Policy"]["Arn"].as_str().unwrap().to_owned()
        };
        let (boundary, read) = (policy("edge"), policy("read"));
        let arn = account.user("iam-sorryd");
        let anything = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": ["iam:*", "sts:*"], "Resource": "*"}]});
        account.put_policy("iam-sorryd", &anything);
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": arn},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]}]});
        let args = json!({"RoleName": "Analysis", "AssumeRolePolicyDocument": trust.to_string()});
        let role = account.call("iam", "create_role", args)["Role"]["Arn"].as_str().unwrap().to_owned();
        let identity = account.key("iam-sorryd");
        let proxy = FaultProxy::start(&account);

        let service = Service::new(program);
        let department = Self { service, proxy, policy: read, role };
        let people: String = [("ada", "lab"), ("bob", "auditors"), ("eve", "guests")]
            .map(|(name, group)| {
                let key = department.new_key(name);
                format!("[[people]]\nname = \"{name}\"\ngroups = [\"{group}\"]\nkeys = [{key:?}]\n")
            })
            .concat();
        let Self { service, proxy, policy, role } = &department;
        service.write("people.toml", &people);
        service.write("rules.cedar", RULES);
        service.write("secret", &identity.secret);
        service.write(
            "iam-sorryd.toml",
            &format!(
                r#"
                name = "Test department"
                [http]
                origin = "{{origin}}"
                listen = "{{address}}"
                stop_seconds = 30
                [http.limits]
                per_person = {{ per_second = 1000, burst = 10000 }}
                per_address = {{ per_second = 1000, burst = 10000 }}
                sign_in_per_address = {{ per_second = 1000, burst = 10000 }}
                [log]
                format = "json"
                [store]
                {store}
                [aws]
                region = "us-east-1"
                identity = {{ access_key = {{ id = "{key}", secret = {{ file = "{{dir}}/secret" }} }} }}
                endpoint_sts = "{endpoint}"
                endpoint_iam = "{endpoint}"
                [actions]
                new_key_seconds = 8
                settle_seconds = 1
                [login.ssh]
                file = "{{dir}}/people.toml"
                [audit]
                key_file = "{{dir}}/audit.key"
                checkpoint_seconds = 1
                [[audit.sink]]
                name = "local"
                required = true
                file = {{ path = "{{dir}}/audit.jsonl" }}
                [rules]
                files = ["{{dir}}/rules.cedar"]
                [[namespace]]
                name = "dirk"
                owners = ["group:lab"]
                [guardrails]
                permissions_boundary = "{boundary}"
                policies = ["{policy}"]
                role = [{{ arn = "{role}" }}]
                "#,
                key = identity.key,
                endpoint = proxy.endpoint(),
            ),
        );
        let key = service.command(&["audit", "new-key", &department.path("audit.key")]);
        assert!(key.status.success(), "{key:?}");
        department
    }

    /// Makes the schema and starts.
    pub fn run(&self) {
        let config = self.path("iam-sorryd.toml");
        let made = self.service.command(&["migrate", "--config", &config]);
        assert!(made.status.success(), "{made:?}");
        self.service.run();
    }

    pub fn path(&self, name: &str) -> String {
        self.service.dir().join(name).display().to_string()
    }

    /// A token for one of the people: asked for, signed by ssh-keygen, and answered.
    pub fn sign_in(&self, name: &str) -> String {
        let answer = self.sign_in_answer(name);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    fn sign_in_answer(&self, name: &str) -> Answer {
        let public = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        let public = public.trim();
        let challenge = self.post("/login/ssh/challenge", "", json!({"public_key": public}));
        assert_eq!(challenge.status, 200, "{challenge:?}");
        let challenge = challenge.json();
        let text = |field: &str| challenge[field].as_str().unwrap().to_owned();
        let origin = Origin::parse(&self.service.origin()).unwrap();
        let message = login_message(&origin, &text("nonce"), &text("request"), &text("time")).unwrap();
        let signature = self.sign(name, &message);
        self.post(
            "/login/ssh",
            "",
            json!({"nonce": text("nonce"), "public_key": public, "signature": signature}),
        )
    }

    /// The signature inside an SSHSIG blob (PROTOCOL.sshsig): its last 64 bytes, for Ed25519.
    fn sign(&self, name: &str, message: &[u8]) -> String {
        use std::io::Write;
        let mut child = Command::new("ssh-keygen")
            .args(["-Y", "sign", "-q", "-n", "login@iam-sorry", "-f", &self.path(name)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(message).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let armored = String::from_utf8(output.stdout).unwrap();
        let body: String = armored.lines().filter(|line| !line.starts_with("-----")).collect();
        let blob = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&blob[blob.len() - 64..])
    }

    fn new_key(&self, name: &str) -> String {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &self.path(name)])
            .status()
            .unwrap();
        assert!(made.success());
        let public: PathBuf = self.service.dir().join(format!("{name}.pub"));
        std::fs::read_to_string(public).unwrap().trim().to_owned()
    }

    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.service.api("GET", path, token, &Value::Null).unwrap()
    }

    pub fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.service.api("POST", path, token, &body).unwrap()
    }

    pub fn delete(&self, path: &str, token: &str) -> Answer {
        self.service.api("DELETE", path, token, &Value::Null).unwrap()
    }

    /// With headers of the test's own.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        testkit::request(&self.service.address(), method, path, headers, body).unwrap()
    }
}
