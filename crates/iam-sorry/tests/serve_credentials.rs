//! `serve-credentials`: SDKs get fresh credentials for as long as the command runs, and nobody else gets any.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Creds, Fault, MachineOnAws, Outcome, PASSPHRASE, Pty};

const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with IAM user `alice` and a sealed profile of her permanent key.
fn sealed() -> (MachineOnAws, Creds) {
    let (machine, key) = MachineOnAws::with_user(env!("CARGO_BIN_EXE_iam-sorry"), "alice", &["iam:*"]);
    machine.run(&["encrypt", "alice"]).ok();
    (machine, key)
}

/// A session of `key`, as a profile that expires so many seconds from now.
fn session_profile(machine: &MachineOnAws, key: &Creds, profile: &str, seconds: i64) -> (Creds, String) {
    let answer = machine.account.call_as(key, "sts", "get_session_token", json!({})).unwrap();
    let session = Creds::from_json(&answer["Credentials"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let at = time_text(i64::try_from(now).unwrap() + seconds);
    let text = format!("{}credentials_owner = alice\nexpiration = {at}\n", session.section(profile));
    (session, text)
}

fn time_text(unix: i64) -> String {
    let date =
        Command::new("date").args(["-u", "-d", &format!("@{unix}"), "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

/// Runs a Python program with boto3 under `serve-credentials alice`.
fn boto3(machine: &MachineOnAws, program: &str) -> Outcome {
    let python = testkit::venv_bin("python");
    machine.run(&["serve-credentials", "alice", "--", python.to_str().unwrap(), "-c", program])
}

// --- SDKs ---

#[test]
fn boto3_and_the_aws_cli_act_as_the_user() {
    let (machine, _) = sealed();
    let who = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    boto3(&machine, who).ok().prints(&[":user/alice\n"]);
    let aws = testkit::venv_bin("aws");
    let mut command = machine.command(&["serve-credentials", "alice", "--", aws.to_str().unwrap(), "sts"]);
    Outcome::of(command.arg("get-caller-identity")).ok().prints(&[":user/alice\""]);
}

/// SDKs prefer a [default] profile and static variables to a container's endpoint.
#[test]
fn nothing_comes_before_the_served_credentials() {
    let (machine, _) = sealed();
    let other = machine.account.user_allowed("other", &["iam:*"]);
    let text = machine.home.credentials();
    machine.home.write_credentials(format!("{text}{}", other.section("default")));
    machine.home.write_config(format!(
        "[default]\nregion = eu-north-1\ncredential_process = /bin/false\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        other.key, other.secret
    ));
    let who = "import boto3; s = boto3.Session(); print(s.client('sts').get_caller_identity()['Arn'], s.region_name)";
    let python = testkit::venv_bin("python");
    let mut command =
        machine.command(&["serve-credentials", "alice", "--", python.to_str().unwrap(), "-c", who]);
    command.env("AWS_ACCESS_KEY_ID", &other.key).env("AWS_SECRET_ACCESS_KEY", &other.secret);
    command.env("AWS_PROFILE", "default").env("AWS_SECURITY_TOKEN", "x").env("AWS_SESSION_TOKEN", "x");
    command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "x").env("AWS_ROLE_ARN", "arn:aws:iam::1:role/x");
    command.env("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent").env_remove("AWS_DEFAULT_REGION");
    let ended = Outcome::of(&mut command).ok();
    ended.prints(&[":user/alice eu-north-1\n"]).says(&["[default]"]);
}

#[test]
fn a_set_that_runs_out_is_followed_by_the_next() {
    let (machine, key) = sealed();
    // Long enough for Python to start and use it on a busy machine.
    let (first, text) = session_profile(&machine, &key, "alice", 20);
    machine.home.write_credentials(&text);
    let (second, text) = session_profile(&machine, &key, "alice", 3600);
    machine.home.write_mode("next", &text, 0o600);
    let program = "
import boto3, botocore, os, time, datetime
session = boto3.Session()
def key():
    return session.get_credentials().get_frozen_credentials().access_key
def call():
    return session.client('sts').get_caller_identity()['Arn']
first = key()
print('first', first, call())
end = session.get_credentials()._expiry_time + datetime.timedelta(seconds=1)
while datetime.datetime.now(datetime.timezone.utc) < end:
    time.sleep(0.2)
try:
    print('expired', key())
except botocore.exceptions.CredentialRetrievalError as e:
    print('refused', e)
os.rename(os.path.expanduser('~/next'), os.path.expanduser('~/.aws/credentials'))
print('second', key(), call())
";
    let ended = boto3(&machine, program).ok();
    let second = format!("second {}", second.key);
    let ended =
        ended.prints(&[&format!("first {}", first.key), &second, "refused", "503", "ProfileNotUsable"]);
    assert_eq!(ended.stdout.matches(":user/alice").count(), 2, "{}", ended.stdout);
    assert!(!ended.stdout.contains("\nexpired"), "an expired set was handed out: {}", ended.stdout);
}

/// boto3 in one process and AWS CLI in one after the other, over three sessions that each last five seconds.
#[test]
fn sessions_are_renewed_for_as_long_as_the_command_runs() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let key = machine.account.user_allowed("alice", &["iam:*"]);
    machine.home.write_credentials(key.section("alice"));
    machine.proxy.fault("GetSessionToken", Fault::SessionsEndIn(Duration::from_secs(5)));
    machine.run(&["refresh", "alice"]).ok();
    let program = format!(
        "
import boto3, subprocess, time, datetime
session = boto3.Session()
credentials = session.get_credentials()
for _ in range(3):
    print('key', credentials.get_frozen_credentials().access_key)
    print(session.client('sts').get_caller_identity()['Arn'])
    print(subprocess.check_output([{aws:?}, 'sts', 'get-caller-identity', '--query', 'Arn', '--output', 'text'], text=True))
    time.sleep(max(0, (credentials._expiry_time - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) + 1)
",
        aws = testkit::venv_bin("aws")
    );
    let ended = boto3(&machine, &program).ok();
    assert_eq!(ended.stdout.matches(":user/alice").count(), 6, "{}{}", ended.stdout, ended.stderr);
    let keys = ended.stdout.lines().filter(|line| line.starts_with("key ASIA"));
    assert_eq!(keys.collect::<std::collections::BTreeSet<_>>().len(), 3, "{}", ended.stdout);
    assert_eq!(machine.account.keys("alice"), [key.key.as_str()], "her own key is enough");
}

// --- the endpoint, from outside ---

/// A served command that waits for its standard input to end.
struct Served {
    child: Child,
    env: Vec<(String, String)>,
    port: u16,
    token: String,
}

impl Served {
    fn start(machine: &MachineOnAws) -> Served {
        let path = machine.home.path().join("child.env");
        let _ = std::fs::remove_file(&path);
        let script = "env >child.tmp; mv child.tmp child.env; exec cat";
        let mut command = machine.command(&["serve-credentials", "alice", "--", "sh", "-c", script]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        wait_for(|| path.exists());
        let text = std::fs::read_to_string(path).unwrap();
        let env: Vec<(String, String)> = text
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        let mut served = Served { child, env, port: 0, token: String::new() };
        let url = served.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").unwrap();
        served.port = url
            .strip_prefix("http://127.0.0.1:")
            .unwrap()
            .strip_suffix("/credentials")
            .unwrap()
            .parse()
            .unwrap();
        served.token = std::fs::read_to_string(served.token_file()).unwrap();
        served
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    }

    fn token_file(&self) -> String {
        self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").unwrap()
    }

    /// Sends bytes, gives the whole answer. A connection that is closed without one gives an empty text.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut answer = String::new();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn get(&self, host: &str, path: &str, token: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n"))
    }

    /// As an SDK asks.
    fn ask(&self) -> String {
        self.get(&format!("127.0.0.1:{}", self.port), "/credentials", &self.token)
    }

    fn end(mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }
}

fn wait_for(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn only_the_commands_own_token_and_our_own_names_are_answered() {
    let (machine, key) = sealed();
    let served = Served::start(&machine);
    let (port, token) = (served.port, served.token.clone());
    let ours = format!("127.0.0.1:{port}");
    let answer = served.ask();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Cache-Control: no-store"),
        "{answer}"
    );
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (body["AccessKeyId"].as_str(), body["SecretAccessKey"].as_str()),
        (Some(&*key.key), Some(&*key.secret))
    );
    assert!(served.get(&format!("LOCALHOST:{port}"), "/credentials", &token).starts_with("HTTP/1.1 200"));

    let wrong = token.replace(|c: char| c.is_ascii_digit(), "f");
    let long = "x".repeat(9000);
    let cases = [
        ("403", served.get("evil.example", "/credentials", &token)),
        ("403", served.get(&format!("evil.example:{port}"), "/credentials", &token)),
        ("403", served.get("127.0.0.1", "/credentials", &token)),
        ("403", served.get(&format!("127.0.0.1:{}", port ^ 1), "/credentials", &token)),
        ("403", served.raw(&format!("GET /credentials HTTP/1.0\r\nAuthorization: {token}\r\n\r\n"))),
        ("401", served.get(&ours, "/credentials", &wrong)),
        ("401", served.get(&ours, "/credentials", &token[..63])),
        ("401", served.get(&ours, "/credentials", &format!("Bearer {token}"))),
        ("401", served.raw(&format!("GET /credentials HTTP/1.1\r\nHost: {ours}\r\n\r\n"))),
        ("401", served.get(&ours, "/", "")),
        ("404", served.get(&ours, "/", &token)),
        ("404", served.get(&ours, "/credentials/../credentials", &token)),
        ("404", served.get(&ours, "/credentials?x", &token)),
        ("404", served.get(&ours, &format!("http://{ours}/credentials"), &token)),
        (
            "405",
            served.raw(&format!(
                "POST /credentials HTTP/1.1\r\nHost: {ours}\r\nAuthorization: {token}\r\n\r\n"
            )),
        ),
        (
            "405",
            served.raw(&format!(
                "OPTIONS /credentials HTTP/1.1\r\nHost: {ours}\r\nAuthorization: {token}\r\n\r\n"
            )),
        ),
        ("400", served.raw("\r\n\r\n")),
        ("400", served.raw(&format!("GET /credentials HTTP/1.1\r\nHost: {ours}\r\nHost: evil\r\n\r\n"))),
        (
            "400",
            served.raw(&format!("GET /credentials HTTP/1.1\r\nHost: {ours}\r\nContent-Length: 3\r\n\r\nabc")),
        ),
        ("431", served.get(&ours, &format!("/{long}"), &token)),
    ];
    for (number, (status, answer)) in cases.iter().enumerate() {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{number}: {answer}");
        assert!(answer.contains(r#""code":"#) && answer.contains(r#""message":"#), "{number}: {answer}");
        assert!(!answer.contains(&key.secret) && !answer.contains(&key.key), "{number}: {answer}");
    }
    // Loopback's other addresses are open to tricks of their own; only the one is listened on.
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err());
    assert!(served.end().success());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the endpoint ends with the command");
}

#[test]
fn slow_and_many_connections_stop_nobody_else() {
    let (machine, _) = sealed();
    let served = Served::start(&machine);
    let mut slow: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(("127.0.0.1", served.port)).unwrap()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /cred");
    }
    // The slow ones are thrown out after a few seconds, or were never let in.
    wait_for(|| served.ask().starts_with("HTTP/1.1 200"));
    drop(slow);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(served.ask().starts_with("HTTP/1.1 200")));
        }
    });
    assert!(served.end().success());
}

#[test]
fn the_token_is_the_users_alone_and_goes_with_the_command() {
    let (machine, key) = sealed();
    let served = Served::start(&machine);
    let file = served.token_file();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = Path::new(&file).parent().unwrap().to_owned();
    assert_eq!((mode(Path::new(&file)), mode(&folder)), (0o600, 0o700));
    assert!(folder.starts_with(machine.home.path().join("run")), "{}", folder.display());
    assert!(served.token.len() == 64 && !served.token.ends_with('\n'));
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_CREDENTIAL_EXPIRATION",
    ] {
        assert_eq!(served.variable(name), None, "{name}");
    }
    let told = format!("{:?}", served.env);
    assert!(!told.contains(&key.secret) && !told.contains(&served.token));
    let again = Served::start(&machine);
    assert_ne!((again.port, &again.token), (served.port, &served.token));
    again.end();
    served.end();
    assert!(!folder.exists());
    assert_eq!(std::fs::read_dir(machine.home.path().join("run")).unwrap().count(), 0);
}

#[test]
fn without_the_agents_key_the_supply_stops_and_then_resumes() {
    let (machine, key) = sealed();
    let served = Served::start(&machine);
    assert!(served.ask().starts_with("HTTP/1.1 200"));
    machine.agent().remove(&machine.ssh_key);
    let answer = served.ask();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""code":"KeyNotAvailable""#),
        "{answer}"
    );
    assert!(answer.contains("ssh-add"), "it says what to do: {answer}");
    machine.agent().add(&machine.ssh_key, PASSPHRASE, &[]);
    let answer = served.ask();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&key.key), "{answer}");
    served.end();
}

#[test]
fn boto3_shows_why_there_are_none() {
    let (machine, _) = sealed();
    let agent = machine.agent().socket();
    let program = format!(
        "import boto3, subprocess
subprocess.run(['ssh-add', '-q', '-D'], env={{'SSH_AUTH_SOCK': '{}', 'PATH': '/usr/bin:/bin'}})
try: boto3.client('sts').get_caller_identity()
except Exception as e: print(type(e).__name__, e)",
        agent.display()
    );
    boto3(&machine, &program).ok().prints(&["CredentialRetrievalError", "503", "KeyNotAvailable", "ssh-add"]);
}

/// With a passphrase typed at the start and no agent, nobody is asked again while the command has the terminal.
#[test]
fn a_passphrase_is_asked_for_once_before_the_command_starts() {
    let (machine, _) = sealed();
    let mut command = Pty::command(&machine.home, env!("CARGO_BIN_EXE_iam-sorry"));
    let aws = testkit::venv_bin("aws");
    let twice = format!("{0} sts get-caller-identity; {0} sts get-caller-identity", aws.display());
    command.args(["serve-credentials", "alice", "--", "sh", "-c", &twice]).env_remove("SSH_AUTH_SOCK");
    let mut pty = Pty::spawn(command);
    pty.expect("assphrase");
    pty.send_line(PASSPHRASE);
    let (status, shown) = pty.wait();
    assert!(status.success(), "{shown}");
    assert_eq!(shown.matches(":user/alice").count(), 2, "{shown}");
    assert_eq!(shown.to_lowercase().matches("passphrase").count(), 1, "{shown}");
}

// --- the command ---

#[test]
fn its_status_is_ours() {
    let (machine, _) = sealed();
    let sh = |script: &str| machine.run(&["serve-credentials", "alice", "--", "sh", "-c", script]);
    sh("exit 7").exits(7);
    sh("kill -9 $$").exits(137);
    machine.run(&["serve-credentials", "alice", "--", "/nonexistent"]).exits(127).says(&["can't be run"]);
    machine.run(&["serve-credentials", "alice", "--", "/etc/passwd"]).exits(126);
    machine.run(&["serve-credentials", "nobody", "--", "true"]).exits(3).says(&["'nobody' not found"]);
    machine.agent().remove(&machine.ssh_key);
    machine.run(&["serve-credentials", "alice", "--", "true"]).exits(5);
    assert_eq!(std::fs::read_dir(machine.home.path().join("run")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn signals_are_passed_on() {
    let (machine, _) = sealed();
    for (signal, name) in [("TERM", "15"), ("HUP", "1"), ("INT", "2"), ("USR1", "10")] {
        let mut child = Served::start(&machine).child;
        let open = child.stdin.take(); // or waiting would close it and end the command by itself
        let ours = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &ours]).status().unwrap().success());
        let code = child.wait().unwrap().code();
        drop(open);
        assert_eq!(code, Some(128 + name.parse::<i32>().unwrap()), "{signal}");
    }
    assert_eq!(std::fs::read_dir(machine.home.path().join("run")).unwrap().count(), 0, "nothing is left");
}

/// `nohup iam-sorry serve-credentials ...`: what we were told to ignore, the command ignores too.
#[test]
fn an_ignored_signal_stays_ignored() {
    let (machine, _) = sealed();
    let program = env!("CARGO_BIN_EXE_iam-sorry");
    let script = format!(
        "trap '' HUP; exec {program} serve-credentials alice -- sh -c 'kill -HUP $PPID; kill -HUP $$; exit 5'"
    );
    let ended = Outcome::of(machine.home.command("sh").args(["-c", &script]));
    ended.exits(5);
}

/// Terraform and others take a second Ctrl-C for "stop at once".
#[test]
fn ctrl_c_reaches_the_command_once() {
    let (machine, _) = sealed();
    let mut command = Pty::command(&machine.home, env!("CARGO_BIN_EXE_iam-sorry"));
    let script = "n=0; trap 'n=$((n+1)); echo caught $n' INT; trap 'echo end with $n; exit 3' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    command.args(["serve-credentials", "alice", "--", "sh", "-c", script]);
    let mut pty = Pty::spawn(command);
    pty.expect("ready");
    pty.send("\x03");
    pty.expect("caught 1");
    pty.send("\x03");
    pty.expect("caught 2");
    pty.send("\x1c"); // Ctrl-\ ends sh, which does not catch it
    let (status, shown) = pty.wait();
    assert_eq!(status.code(), Some(128 + 3), "{shown}");
    assert!(!shown.contains("caught 3"), "{shown}");
}
