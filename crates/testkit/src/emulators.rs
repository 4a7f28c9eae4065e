//! The AWS emulators: ministack (checks signatures, evaluates policies, ties a session to its user) and moto (a second
//! opinion on IAM calls; its GetSessionToken is canned).

use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::process::Server;
use crate::{Aws, AwsError, Creds};

/// A running ministack on loopback, on a port that the kernel chose. Ends on drop and with the test process.
#[derive(Debug)]
pub struct Ministack {
    address: String,
    aws: Arc<Aws>,
    accounts: AtomicU64,
    _server: Server,
}

impl Ministack {
    /// The one of this test process, started when first asked for. Tests keep apart by [`Ministack::account`].
    pub fn shared() -> &'static Ministack {
        static SHARED: OnceLock<Ministack> = OnceLock::new();
        SHARED.get_or_init(Ministack::start)
    }

    /// One of its own, for a test that restarts or overloads it.
    pub fn start() -> Ministack {
        let program = crate::venv_bin("ministack");
        let dir = crate::short_temp_dir().keep();
        let env: [(&str, OsString); 9] = [
            ("AUTH", "true".into()),
            ("BIND_HOST", "127.0.0.1".into()),
            // Port 0: the kernel picks a free one, without the race of picking it ourselves.
            ("GATEWAY_PORT", "0".into()),
            ("LOG_LEVEL", "INFO".into()),
            ("SERVICES", "iam,sts".into()),
            // Otherwise it also opens 8883 (MQTT) and 2222 (SFTP), and two of them collide.
            ("IOT_MTLS_ENABLED", "0".into()),
            ("SFTP_ENABLED", "0".into()),
            ("STATE_DIR", dir.join("state").into()),
            // No Docker: it would look for containers to clean up.
            ("DOCKER_HOST", "unix:///nonexistent".into()),
        ];
        let server = Server::start::<&str>(&program, &[], &env, dir);
        let address =
            server.wait_for("address in its log", |log| loopback_address(log, "Running on http://"));
        let aws = Arc::new(Aws::at(format!("http://{address}")));
        Ministack { address, aws, accounts: AtomicU64::new(1), _server: server }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT`, for AWS_ENDPOINT_URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// boto3 against it.
    pub fn aws(&self) -> &Aws {
        &self.aws
    }

    /// A fresh, empty AWS account: what other tests do is not seen in it.
    pub fn account(&self) -> Account {
        let number = 100_000_000_000 + self.accounts.fetch_add(1, Ordering::Relaxed);
        Account { id: number.to_string(), endpoint: self.endpoint(), aws: Arc::clone(&self.aws) }
    }
}

/// One AWS account of a [`Ministack`], with the calls that nearly every test makes to set itself up.
#[derive(Debug, Clone)]
pub struct Account {
    id: String,
    endpoint: String,
    aws: Arc<Aws>,
}

impl Account {
    /// Twelve digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `http://127.0.0.1:PORT`, for AWS_ENDPOINT_URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Credentials of the account's root: ministack takes twelve digits as the account's own access key.
    pub fn root(&self) -> Creds {
        Creds::new(self.id.clone(), "test")
    }

    /// A call as the account's root.
    ///
    /// # Errors
    /// What AWS answered.
    pub fn try_call(&self, service: &str, op: &str, args: Value) -> Result<Value, AwsError> {
        self.aws.call(service, op, args, &self.root())
    }

    /// A call as the account's root that has to work.
    ///
    /// # Panics
    /// With AWS's answer when it does not.
    pub fn call(&self, service: &str, op: &str, args: Value) -> Value {
        self.try_call(service, op, args).unwrap_or_else(|error| panic!("{service} {op}: {error}"))
    }

    /// A call as anybody.
    ///
    /// # Errors
    /// What AWS answered.
    pub fn call_as(&self, creds: &Creds, service: &str, op: &str, args: Value) -> Result<Value, AwsError> {
        self.aws.call(service, op, args, creds)
    }

    /// Makes a user without keys or rights; gives its ARN.
    pub fn user(&self, name: &str) -> String {
        let answer = self.call("iam", "create_user", json!({"UserName": name}));
        answer["User"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    /// Makes one more access key for a user.
    pub fn key(&self, user: &str) -> Creds {
        Creds::from_json(&self.call("iam", "create_access_key", json!({"UserName": user}))["AccessKey"])
    }

    /// Makes a user with a key and an inline policy that allows `actions` on everything.
    pub fn user_allowed(&self, name: &str, actions: &[&str]) -> Creds {
        self.user(name);
        let policy = json!({"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]});
        self.put_policy(name, &policy);
        self.key(name)
    }

    /// Sets the one inline policy of a user.
    pub fn put_policy(&self, user: &str, policy: &Value) {
        let args = json!({"UserName": user, "PolicyName": "testkit", "PolicyDocument": policy.to_string()});
        self.call("iam", "put_user_policy", args);
    }

    /// A manager: a user with a key that may do everything in IAM.
    pub fn manager(&self, name: &str) -> Creds {
        self.user_allowed(name, &["iam:*"])
    }

    /// Whether a user's key may sign.
    pub fn is_active(&self, user: &str, key: &str) -> bool {
        let listed = self.call("iam", "list_access_keys", json!({"UserName": user}));
        let keys = listed["AccessKeyMetadata"].as_array().expect("a list");
        keys.iter().any(|listed| listed["AccessKeyId"] == key && listed["Status"] == "Active")
    }

    /// Activates a user's key, as its owner would.
    pub fn activate(&self, user: &str, key: &str) {
        self.call(
            "iam",
            "update_access_key",
            json!({"UserName": user, "AccessKeyId": key, "Status": "Active"}),
        );
    }

    /// Deletes a user's key.
    pub fn delete_key(&self, user: &str, key: &str) {
        self.call("iam", "delete_access_key", json!({"UserName": user, "AccessKeyId": key}));
    }

    /// Ids of the access keys that a user has now.
    pub fn keys(&self, user: &str) -> Vec<String> {
        let answer = self.call("iam", "list_access_keys", json!({"UserName": user}));
        let keys = answer["AccessKeyMetadata"].as_array().cloned().unwrap_or_default();
        keys.iter().filter_map(|key| key["AccessKeyId"].as_str().map(str::to_owned)).collect()
    }

    /// Whom these credentials act as (GetCallerIdentity's ARN).
    ///
    /// # Errors
    /// What AWS answered.
    pub fn whoami(&self, creds: &Creds) -> Result<String, AwsError> {
        let answer = self.call_as(creds, "sts", "get_caller_identity", json!({}))?;
        Ok(answer["Arn"].as_str().unwrap_or_default().to_owned())
    }

    /// The IAM user that credentials act as, by AWS's own answer.
    ///
    /// # Panics
    /// When they are no user's.
    pub fn user_of(&self, creds: &Creds) -> String {
        let arn = self.whoami(creds).unwrap_or_else(|error| panic!("{}: {error}", creds.key));
        arn.rsplit_once(":user/").unwrap_or_else(|| panic!("no user: {arn}")).1.to_owned()
    }
}

/// A running moto server on loopback. It checks no signatures. Ends on drop and with the test process.
#[derive(Debug)]
pub struct Moto {
    address: String,
    aws: Aws,
    _server: Server,
}

impl Moto {
    /// The one of this test process.
    pub fn shared() -> &'static Moto {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(Moto::start)
    }

    /// One of its own.
    pub fn start() -> Moto {
        let program = crate::venv_bin("moto_server");
        let dir = crate::short_temp_dir().keep();
        let env: [(&str, OsString); 1] = [("PYTHONUNBUFFERED", "1".into())];
        let server = Server::start(&program, &["-H", "127.0.0.1", "-p", "0"], &env, dir);
        let address =
            server.wait_for("address in its log", |log| loopback_address(log, "Running on http://"));
        let aws = Aws::at(format!("http://{address}"));
        Moto { address, aws, _server: server }
    }

    /// `http://127.0.0.1:PORT`, for AWS_ENDPOINT_URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// boto3 against it. Any credentials will do.
    pub fn aws(&self) -> &Aws {
        &self.aws
    }
}

/// The address that a server prints when it listens. Only a line that is complete counts.
fn loopback_address(log: &str, before: &str) -> Option<String> {
    let rest = log.split_once(before)?.1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    Some(rest[..end].to_owned())
}
