//! `exec`: one command with the credentials in its environment, and nothing else of ours.

use testkit::{EXAMPLE_KEY_ID, EXAMPLE_SECRET, Machine, Outcome};

use crate::support::{self, BIN};

/// `exec usermanager -- sh -c SCRIPT`.
fn exec(person: &Machine, script: &str) -> Outcome {
    person.run(&["exec", "usermanager", "--", "sh", "-c", script])
}

#[test]
fn what_would_beat_the_credentials_is_taken_out_first() {
    let mut person = support::with_sealed_manager();
    person.home.write_config("[profile usermanager]\nregion = eu-north-1\n");
    for name in [
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_CREDENTIAL_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    ] {
        person.home.set_env(name, "stale");
    }
    let seen = exec(&person, "env | grep ^AWS_ | sort").ok();
    let expected = [
        format!("AWS_ACCESS_KEY_ID={EXAMPLE_KEY_ID}"),
        "AWS_DEFAULT_REGION=eu-north-1".into(),
        "AWS_EC2_METADATA_DISABLED=true".into(),
        "AWS_REGION=eu-north-1".into(),
        format!("AWS_SECRET_ACCESS_KEY={EXAMPLE_SECRET}"),
    ];
    assert_eq!(seen.stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_command_is_as_if_it_had_been_started_directly() {
    let person = support::with_sealed_manager();
    // No descriptors of ours (a lock, the agent's socket) besides what the test runner itself was given; signals and
    // limits as they were.
    let list = "ls /proc/self/fd";
    let direct = Outcome::of(person.home.command("sh").args(["-c", list])).ok();
    assert_eq!(exec(&person, list).ok().stdout, direct.stdout);
    exec(&person, "kill -PIPE $$").exits(141);
    exec(&person, "kill -INT $$").exits(130);
    let script =
        "ulimit -S -c 77; umask 027; exec \"$0\" exec usermanager -- sh -c 'ulimit -S -c; umask; cat'";
    let mut command = person.home.command("sh");
    command.args(["-c", script, BIN]);
    let seen = Outcome::piped("typed in\n", &mut command).ok();
    assert_eq!(seen.stdout, "77\n0027\ntyped in\n");
    // Arguments arrive as they are, options and bytes that are no text too.
    let args = ["exec", "usermanager", "--", "printf", "%s|", "--help", "a b", "", "$HOME", "*"];
    assert_eq!(person.run(&args).ok().stdout, "--help|a b||$HOME|*|");
    let mut command = person.command_without_terminal(&["exec", "usermanager", "--", "printf", "%s"]);
    command.arg(std::ffi::OsStr::new("\u{fffd}"));
    assert_eq!(Outcome::of(&mut command).ok().stdout, "\u{fffd}");
}

#[test]
fn nothing_of_it_is_on_our_own_output() {
    let person = support::with_sealed_manager();
    let quiet = exec(&person, "true").ok();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}
