//! AWS calls of any kind, as any identity, for setting a test up and for looking at what came of it.
//!
//! boto3 in one long-lived process: a call takes milliseconds, where starting a client for each takes half a second.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::process::system_path;

/// Credentials of an emulator. Nothing here is secret, but Debug hides it as the real types do.
#[derive(Clone, PartialEq, Eq)]
pub struct Creds {
    /// Access key id.
    pub key: String,
    /// Secret access key.
    pub secret: String,
    /// Session token of temporary credentials.
    pub token: Option<String>,
}

impl Creds {
    /// A permanent key pair.
    pub fn new(key: impl Into<String>, secret: impl Into<String>) -> Creds {
        Creds { key: key.into(), secret: secret.into(), token: None }
    }

    /// From the `AccessKey` or `Credentials` object of an answer.
    ///
    /// # Panics
    /// When the object has no such fields.
    pub fn from_json(object: &Value) -> Creds {
        let text = |name: &str| object[name].as_str().map(str::to_owned);
        Creds {
            key: text("AccessKeyId").expect("AccessKeyId"),
            secret: text("SecretAccessKey").expect("SecretAccessKey"),
            token: text("SessionToken"),
        }
    }

    /// The lines of a profile in `~/.aws/credentials`.
    pub fn section(&self, profile: &str) -> String {
        let mut text = format!(
            "[{profile}]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            self.key, self.secret
        );
        if let Some(token) = &self.token {
            text.push_str(&format!("aws_session_token = {token}\n"));
        }
        text
    }
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Creds").field("key", &self.key).finish_non_exhaustive()
    }
}

/// An answer of AWS that is an error, or a failure to reach it (then `status` is 0 and `code` a Python exception).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    /// Such as `AccessDenied`.
    pub code: String,
    /// The text of the answer.
    pub message: String,
    /// HTTP status.
    pub status: u16,
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.status, self.message)
    }
}

impl std::error::Error for AwsError {}

/// A boto3 process that calls one endpoint.
#[derive(Debug)]
pub struct Aws {
    endpoint: String,
    pipe: Mutex<Pipe>,
}

#[derive(Debug)]
struct Pipe {
    child: Child,
    // Closed by the kernel when this process dies, which ends the helper too.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Aws {
    /// A client for `endpoint`, such as `http://127.0.0.1:4566`.
    pub fn at(endpoint: impl Into<String>) -> Aws {
        let mut child = Command::new(crate::venv_bin("python"))
            .args(["-I", "-c", include_str!("aws_helper.py")])
            .env_clear()
            .env("PATH", system_path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Aws { endpoint: endpoint.into(), pipe: Mutex::new(Pipe { child, stdin, stdout }) }
    }

    /// Makes one call by its boto3 name: `call("iam", "create_user", json!({"UserName": "a"}), &creds)`.
    ///
    /// # Errors
    /// What AWS answered, or why it could not be reached. Nothing is retried.
    pub fn call(&self, service: &str, op: &str, args: Value, creds: &Creds) -> Result<Value, AwsError> {
        let request = json!({
            "endpoint": self.endpoint, "service": service, "op": op, "args": args, "region": "us-east-1",
            "key": creds.key, "secret": creds.secret, "token": creds.token,
        });
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = pipe.stdin.as_mut().expect("open until drop");
        writeln!(stdin, "{request}").expect("the boto3 process takes the request");
        let mut line = String::new();
        pipe.stdout.read_line(&mut line).expect("the boto3 process answers");
        drop(pipe);
        let mut answer: Value =
            serde_json::from_str(&line).expect("the boto3 process is alive and answers in JSON");
        match answer.get_mut("ok") {
            Some(result) => Ok(result.take()),
            None => Err(AwsError {
                code: answer["code"].as_str().unwrap_or_default().to_owned(),
                message: answer["message"].as_str().unwrap_or_default().to_owned(),
                status: u16::try_from(answer["status"].as_u64().unwrap_or(0)).unwrap_or(0),
            }),
        }
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let pipe = self.pipe.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(pipe.stdin.take());
        let _ = pipe.child.wait();
    }
}
