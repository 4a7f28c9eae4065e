//! No secret is ever where it was not asked for: not in an error, whatever fails and however; not in a command line that
//! `ps` shows, ours or that of a program that we start.

use std::path::Path;
use std::process::Stdio;

use testkit::{
    AgentFault, AskPass, EXAMPLE_KEY_ID, EXAMPLE_SECRET, FakeAgent, Machine, Outcome, PASSPHRASE, Pty, Stage,
};

use crate::support::{self, BIN, section};

/// Temporary credentials of the fixture.
const TOKEN: &str = "FwoGZXIvYXdzEJr0000EXAMPLETOKEN0000";
const MFA: &str = "424242";

/// Everything that opens, moves or uses credentials, in forms that print none.
const COMMANDS: [&[&str]; 18] = [
    &["--profile", "usermanager", "--encrypt"],
    &["--profile", "usermanager", "admin"],
    &["--profile", "usermanager", "--keep-key", "admin"],
    &["--profile", "usermanager", "--mfa-code", MFA, "admin"],
    &["--profile", "usermanager", "--yes"],
    &["--profile", "admin", "usermanager"],
    &["refresh", "--all", "--profile", "usermanager"],
    &["encrypt", "usermanager", "--process"],
    &["encrypt", "admin"],
    &["decrypt", "usermanager", "--yes"],
    &["recipients", "list", "usermanager"],
    &["recipients", "add", "usermanager", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
    &["migrate"],
    &["reseal", "usermanager", "--was", "other"],
    &["rename", "usermanager", "boss"],
    &["exec", "usermanager", "--", "/nonexistent"],
    &["list"],
    &["doctor"],
];

/// A way for things to go wrong.
type Mishap = (&'static str, fn(&Machine));

/// Each leaves the secrets where the program reads them, and breaks something else.
const MISHAPS: [Mishap; 10] = [
    ("plain values", |person| {
        person.edit(|text| text.replace("[usermanager]", &format!("{}[usermanager]", section("spare"))))
    }),
    ("a plain manager", |person| {
        drop(person.home.write_credentials(format!("{}{}", section("usermanager"), temporary())))
    }),
    ("a broken line", |person| person.edit(|text| text + "[broken]\n" + EXAMPLE_SECRET + "\n")),
    ("a broken section", |person| person.edit(|text| text + "[" + EXAMPLE_SECRET + "\n")),
    ("a secret as a profile", |person| person.edit(|text| text + "[" + TOKEN + "]\naws_access_key_id = x\n")),
    ("a value on two lines", |person| {
        person.edit(|text| text + "[two]\naws_secret_access_key =\n  " + EXAMPLE_SECRET + "\n")
    }),
    ("a changed value", |person| {
        person.edit(|text| text.replace("__encrypted__:v2.A", "__encrypted__:v2.B"))
    }),
    ("a changed key file", |person| drop(person.home.write_mode(".ssh/id_ed25519", "no key\n", 0o600))),
    ("another profile's name", |person| {
        person.edit(|text| text.replace("[usermanager]", "[x]").replace("[admin]", "[usermanager]"))
    }),
    ("an unwritable file", |person| drop(std::fs::create_dir(person.home.path().join(".aws/config")))),
];

fn temporary() -> String {
    format!(
        "[admin]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = {EXAMPLE_SECRET}\naws_session_token = {TOKEN}\ncredentials_owner = admin\nexpiration = 2999-01-01T00:00:00Z\n"
    )
}

/// A sealed manager, temporary credentials, and an AWS where nobody listens.
fn person() -> Machine {
    let mut person = support::with_sealed_manager();
    person.edit(|text| text + &temporary());
    person.home.set_env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    person.home.set_env("AWS_MAX_ATTEMPTS", "1");
    person.home.set_env("HTTPS_PROXY", "http://user:hunter2hunter2@127.0.0.1:9");
    person
}

#[track_caller]
fn assert_no_secret(what: &str, outcome: &Outcome) {
    for secret in [
        EXAMPLE_SECRET,
        TOKEN,
        PASSPHRASE,
        MFA,
        "hunter2hunter2",
        &EXAMPLE_SECRET[..24],
        &EXAMPLE_SECRET[16..],
    ] {
        // A section's name is a name, whatever somebody wrote there.
        let named = secret == TOKEN && what.starts_with("a secret as a profile");
        for text in [&outcome.stdout, &outcome.stderr] {
            assert!(named || !text.contains(secret), "{what}: {secret:?} is in {outcome}");
        }
    }
}

#[test]
fn whatever_fails_no_secret_is_in_what_it_says() {
    let mut failures = 0;
    for (mishap, breaks) in MISHAPS {
        let person = person();
        breaks(&person);
        let credentials = person.home.credentials();
        for args in COMMANDS {
            person.home.write_credentials(&credentials);
            let outcome = person.run(args);
            failures += usize::from(outcome.code != 0);
            assert_no_secret(&format!("{mishap}: {args:?}"), &outcome);
        }
    }
    assert!(failures > MISHAPS.len() * COMMANDS.len() / 2, "most of these fail: {failures}");
}

#[test]
fn nor_with_a_faulty_agent_or_a_wrong_passphrase() {
    for fault in [
        AgentFault::Good,
        AgentFault::Garbage,
        AgentFault::WrongSignature,
        AgentFault::Refuse,
        AgentFault::Hedged,
    ] {
        let mut person = person();
        let agent = FakeAgent::holding(fault, Stage::Any, &person.ssh_key, PASSPHRASE);
        person.home.set_env("SSH_AUTH_SOCK", agent.socket());
        for args in COMMANDS {
            let wrong = AskPass::answering("another secret that is wrong");
            let mut command = person.command_without_terminal(args);
            wrong.apply(&mut command);
            let outcome = Outcome::of(&mut command);
            assert_no_secret(&format!("{fault:?}: {args:?}"), &outcome);
            let all = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(!all.contains("another secret"), "{outcome}");
        }
    }
}

/// Command lines of a process and everything below it.
fn command_lines(pid: u32) -> Vec<String> {
    let proc = Path::new("/proc").join(pid.to_string());
    let mut lines =
        vec![String::from_utf8_lossy(&std::fs::read(proc.join("cmdline")).unwrap_or_default()).into_owned()];
    let children = std::fs::read_to_string(proc.join(format!("task/{pid}/children"))).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        lines.extend(command_lines(child));
    }
    lines
}

#[test]
fn ps_never_shows_one() {
    let person = person();
    let hanging = AskPass::hanging();
    for args in [
        &["exec", "usermanager", "--", "sleep", "3600"][..],
        &["--eval", "usermanager"],
        &["decrypt", "usermanager", "--yes"],
    ] {
        // As long as the program waits for its askpass program, everything that it started can be looked at.
        let mut command = person.command_without_terminal(args);
        command.env_remove("SSH_AUTH_SOCK").stdout(Stdio::null()).stderr(Stdio::null());
        hanging.apply(&mut command);
        let asked = hanging.calls();
        let mut child = command.spawn().expect("starts");
        while hanging.calls() == asked {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let lines = command_lines(child.id());
        assert!(lines.len() >= 2, "the askpass program is below it: {lines:?}");
        end(&mut child);
        for line in &lines {
            for secret in [EXAMPLE_SECRET, EXAMPLE_KEY_ID, TOKEN, PASSPHRASE] {
                assert!(!line.contains(secret), "{line}");
            }
        }
    }
}

#[test]
fn exec_gives_them_in_the_environment_and_not_in_the_command_line() {
    let person = person();
    let mut command = person.command_without_terminal(&["exec", "usermanager", "--", "sleep", "3600"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let proc = Path::new("/proc").join(child.id().to_string());
    let read = |name: &str| {
        String::from_utf8_lossy(&std::fs::read(proc.join(name)).unwrap_or_default()).into_owned()
    };
    while !read("cmdline").starts_with("sleep") {
        assert!(matches!(child.try_wait(), Ok(None)), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let (line, environment) = (read("cmdline"), read("environ"));
    end(&mut child);
    assert_eq!(line, "sleep\x003600\0");
    assert!(environment.contains(&format!("AWS_SECRET_ACCESS_KEY={EXAMPLE_SECRET}\0")));
}

#[test]
fn our_own_secrets_do_not_reach_a_child() {
    let person = person();
    let askpass = AskPass::answering(PASSPHRASE);
    let mut command = person.command_without_terminal(&["exec", "usermanager", "--", "env"]);
    askpass.apply(command.env_remove("SSH_AUTH_SOCK"));
    let outcome = Outcome::of(&mut command).ok();
    assert!(!outcome.stdout.contains(PASSPHRASE), "{outcome}");

    // The askpass program gets none of AWS's.
    let program =
        person.home.write_script("askpass", &format!("env >\"$HOME/askpass-env\"; echo '{PASSPHRASE}'"));
    let mut command = person.command_without_terminal(&["exec", "usermanager", "--", "true"]);
    command.env_remove("SSH_AUTH_SOCK").env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
    command.env("AWS_SECRET_ACCESS_KEY", "stale secret");
    Outcome::of(&mut command).ok();
    let environment = person.home.read("askpass-env");
    assert!(!environment.contains("AWS_") && !environment.contains("hunter2"), "{environment}");
}

#[test]
fn a_terminal_shows_none_either() {
    let person = person();
    let mut command = Pty::command(&person.home, BIN);
    command.args(["decrypt", "usermanager"]).env_remove("SSH_AUTH_SOCK");
    let mut pty = Pty::spawn(command);
    pty.expect("(y/n): ");
    pty.send_line("y");
    pty.expect("id_ed25519: ");
    pty.send_line(PASSPHRASE);
    let (status, shown) = pty.wait();
    assert!(status.success(), "{shown}");
    assert!(!shown.contains(PASSPHRASE) && !shown.contains(EXAMPLE_SECRET), "{shown}");
    assert_eq!(person.field("usermanager", "aws_secret_access_key").as_deref(), Some(EXAMPLE_SECRET));
}

#[test]
fn the_process_cannot_be_dumped() {
    let person = person();
    let hanging = AskPass::hanging();
    let mut command = person.command_without_terminal(&["--eval", "usermanager"]);
    command.env_remove("SSH_AUTH_SOCK").stdout(Stdio::null()).stderr(Stdio::null());
    hanging.apply(&mut command);
    let mut child = command.spawn().expect("starts");
    while hanging.calls() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("readable");
    end(&mut child);
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// Ends a child and the programs below it.
fn end(child: &mut std::process::Child) {
    let group = format!("-{}", child.id());
    // setsid made it the leader of a group of its own.
    let killed = std::process::Command::new("kill").args(["-9", "--", &group]).status();
    assert!(killed.expect("kill runs").success());
    child.wait().expect("it ended");
}
