//! The shell text, run through the real shells: what a shell hands to a child must be the value, byte for byte, or the
//! value must have been refused. In a folder where every hostile file name waits to be matched, under the settings that
//! make shells expand the most.
//!
//! Needs bash, dash, zsh, fish, tcsh, nushell and python-dotenv: scripts/deps installs them. A missing one fails its test;
//! nushell, which Debian doesn't carry, only does where `IAM_SORRY_TEST_ALL` is set, as scripts/test does. PowerShell and
//! cmd.exe are not run: what is tested of their text is its form (`shells.rs`).

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::shells::{Shell, ShellError, Variables, environment, render, render_unset};
use iam_sorry_core::timestamp::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

/// Set to something else before every case: each must be replaced or gone afterwards.
const WATCHED: [&str; 10] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Values that broke somebody's tool once.
const HOSTILE: [&str; 44] = [
    "",
    " ",
    "a b",
    "a  b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "\n",
    "*",
    "a*",
    "?",
    "[a-z]",
    "\\",
    "\\\\",
    "a\\b",
    "a\\",
    "'",
    "''",
    "'a'b'",
    "\"",
    "\"\"'\"'",
    "`touch pwned`",
    "$(touch pwned)",
    "';touch pwned;'",
    "\";touch pwned;\"",
    "'\"'\"';touch$IFS''pwned;'",
    "$HOME",
    "${HOME}",
    "%PATH%",
    "~",
    "~root",
    "=ls",
    "a:=ls",
    ":=:==",
    ":~:=ls",
    "!!",
    "!x",
    "#a",
    "a;b&c|d<e>f",
    "{a,b}",
    "+(a)@(b)!(c)",
    "\u{e9}\u{2019}\u{1f511}\u{7f}\u{1}\u{1b}[31m",
];

/// How one shell reads a text, and with which settings.
struct Reading {
    program: &'static str,
    flags: &'static [&'static str],
    /// Once, before all cases.
    before: &'static str,
    /// Sets a watched variable, with `NAME`.
    stale: &'static str,
    /// Reads the text in the file `FILE`.
    read: &'static str,
}

const EXPORT: &str = "export NAME=stale\n";
const UNQUOTED: &str = "eval $(cat FILE)\n";
const QUOTED: &str = "eval \"$(cat FILE)\"\n";

#[test]
fn dash_gives_back_every_value() {
    let reading = |read| Reading { program: "dash", flags: &[], before: "set -eu\n", stale: EXPORT, read };
    gives_back_every_value(Shell::Sh, &[reading(UNQUOTED), reading(QUOTED)]);
}

#[test]
fn bash_gives_back_every_value() {
    let flags: &[_] = &["--norc", "--noprofile"];
    let reading = |before, read| Reading { program: "bash", flags, before, stale: EXPORT, read };
    let greedy = "set -eu -H\nshopt -s extglob nullglob dotglob nocaseglob globstar\n";
    gives_back_every_value(
        Shell::Bash,
        &[
            reading("", UNQUOTED),
            reading("", QUOTED),
            reading(greedy, UNQUOTED),
            reading("shopt -s extglob failglob\n", UNQUOTED),
            reading("set -o posix\n", UNQUOTED),
        ],
    );
}

#[test]
fn zsh_gives_back_every_value() {
    let reading = |before, read| Reading { program: "zsh", flags: &["-f"], before, stale: EXPORT, read };
    let greedy =
        "setopt GLOB_SUBST EXTENDED_GLOB KSH_GLOB NULL_GLOB SH_WORD_SPLIT MAGIC_EQUAL_SUBST BRACE_CCL\n";
    gives_back_every_value(
        Shell::Zsh,
        &[
            reading("", UNQUOTED),
            reading("", QUOTED),
            reading(greedy, UNQUOTED),
            reading("setopt RC_QUOTES BANG_HIST CSH_JUNKIE_QUOTES\n", QUOTED),
            reading("emulate sh\n", UNQUOTED),
            reading("emulate ksh\n", UNQUOTED),
        ],
    );
}

#[test]
fn fish_gives_back_every_value() {
    let reading = |read| Reading {
        program: "fish",
        flags: &["--no-config"],
        before: "",
        stale: "set -gx NAME stale\n",
        read,
    };
    gives_back_every_value(Shell::Fish, &[reading("cat FILE | source\n"), reading("eval (cat FILE)\n")]);
}

#[test]
fn tcsh_gives_back_every_value() {
    let reading =
        |read| Reading { program: "tcsh", flags: &["-f"], before: "", stale: "setenv NAME stale\n", read };
    gives_back_every_value(Shell::Tcsh, &[reading("eval `cat FILE`\n"), reading("source FILE\n")]);
}

#[test]
fn nushell_gives_back_every_value() {
    if Command::new("nu").arg("--version").stdout(Stdio::null()).status().is_err() {
        let what = "nushell (nu) is not on PATH: scripts/deps installs it into .venv/node";
        assert!(std::env::var_os("IAM_SORRY_TEST_ALL").is_none(), "{what}");
        eprintln!("skipped: {what}");
        return;
    }
    let reading =
        |stale, read| Reading { program: "nu", flags: &["--no-config-file"], before: "", stale, read };
    gives_back_every_value(Shell::Nushell, &[reading("$env.NAME = 'stale'\n", "source FILE\n")]);
    // Data can't hide a variable, so nothing stale may be there before.
    let gone = "hide-env --ignore-errors NAME\n";
    gives_back_every_value(Shell::Json, &[reading(gone, "open --raw FILE | from json | load-env\n")]);
}

/// A file of names and values is no script, so its reader is asked for each.
#[test]
fn python_dotenv_gives_back_every_value() {
    let taken = taken(Shell::Dotenv);
    let home = tempfile::tempdir().unwrap();
    let trap = home.path().join("trap");
    plant(&trap, taken.iter().map(|(_, text)| text.as_str()));
    let mut script = String::from("from dotenv import dotenv_values\n");
    for (at, (_, text)) in taken.iter().enumerate() {
        let file = home.path().join(format!("{at}.text"));
        fs::write(&file, text.as_bytes()).unwrap();
        script.push_str(&format!(
            "for item in dotenv_values({file:?}).items(): print('%s=%s' % item, end='\\0')\n"
        ));
        script.push_str("print('=====', end='\\0')\n");
    }
    let venv = std::env::var_os("IAM_SORRY_TEST_VENV").filter(|venv| !venv.is_empty());
    let venv = venv.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv"), PathBuf::from);
    let python = venv.join("bin/python");
    let out = run(python.to_str().unwrap(), &[], &script, &trap, &home.path().join("script"));
    are_given_back(&taken, &out, "python-dotenv");
    assert!(!trap.join("pwned").exists(), "python-dotenv ran a value");
}

/// Characters that AWS issues are never refused, in any shell, at the length of real tokens.
#[test]
fn what_aws_issues_is_never_refused() {
    let token = "IQoJb3JpZ2luX2VjEHoaCXVzLXdlc3QtMiJHMEUCIQ+/abc=".repeat(40);
    for shell in Shell::ALL {
        let text = render(shell, &case("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &token, "us-gov-west-1"))
            .unwrap();
        assert!(text.contains(&token), "{shell}");
    }
}

#[test]
fn unset_takes_everything_out() {
    let home = tempfile::tempdir().unwrap();
    let set = render(Shell::Sh, &case("s", "t", "r")).unwrap();
    let script =
        format!("{}\n/usr/bin/env\necho =====\n{}\n/usr/bin/env", *set, render_unset(Shell::Sh).unwrap());
    let out = run("dash", &[], &script, home.path(), &home.path().join("script"));
    let (before, after) = out.split_once("=====").unwrap();
    assert!(before.contains("AWS_SESSION_TOKEN=t") && !after.contains("AWS_"), "{out}");
}

fn gives_back_every_value(shell: Shell, readings: &[Reading]) {
    let taken = taken(shell);
    for reading in readings {
        let home = tempfile::tempdir().unwrap();
        let trap = home.path().join("trap");
        plant(&trap, taken.iter().map(|(_, text)| text.as_str()));
        let mut script = String::from(reading.before);
        for (at, (_, text)) in taken.iter().enumerate() {
            let file = home.path().join(format!("{at}.text"));
            fs::write(&file, text.as_bytes()).unwrap();
            WATCHED.iter().for_each(|name| script.push_str(&reading.stale.replace("NAME", name)));
            script.push_str(&reading.read.replace("FILE", file.to_str().unwrap()));
            script.push_str("/usr/bin/env -0\n/usr/bin/printf '=====\\0'\n");
        }
        let out = run(reading.program, reading.flags, &script, &trap, &home.path().join("script"));
        are_given_back(&taken, &out, &format!("{} {:?} {:?}", reading.program, reading.before, reading.read));
        assert!(!trap.join("pwned").exists(), "{} ran a value", reading.program);
    }
}

/// The cases that the shell takes, and their texts. The others are refused, and rightly.
fn taken(shell: Shell) -> Vec<(Variables, Zeroizing<String>)> {
    let mut cases: Vec<_> =
        HOSTILE.iter().map(|value| (value.to_string(), "token".to_owned(), "us-west-2".to_owned())).collect();
    cases.extend(drawn(80));
    let mut taken = Vec::new();
    for (secret, token, region) in &cases {
        let variables = case(secret, token, region);
        let fits =
            variables.set.iter().all(|(_, value)| value.expose_secret().chars().all(|c| may_carry(shell, c)));
        match render(shell, &variables) {
            Ok(text) => {
                assert!(fits, "{shell} took {:?}", exposed(&variables));
                taken.push((variables, text));
            }
            Err(error) => {
                assert!(matches!(error, ShellError::CannotCarry { .. }), "{error:?}");
                assert!(!fits, "{shell} refused {:?}", exposed(&variables));
            }
        }
    }
    assert!(taken.len() > 20, "only {} of {} cases are left to run in {shell}", taken.len(), cases.len());
    taken
}

/// What was read, case by case, as `env -0` shows it, is what was written.
fn are_given_back(taken: &[(Variables, Zeroizing<String>)], out: &str, how: &str) {
    // The NUL before it is the end of the last value, which may itself end in what looks like the mark.
    let seen: Vec<_> = out.split("\0=====\0").collect();
    assert_eq!(seen.len(), taken.len() + 1, "{how} stopped half-way");
    for ((variables, text), seen) in taken.iter().zip(seen) {
        let seen: BTreeMap<_, _> = seen
            .split('\0')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| WATCHED.contains(name))
            .collect();
        assert_eq!(seen, exposed(variables), "{how}\n{}", text.as_str());
    }
}

/// A folder to stand in, full of files that the unquoted words of the texts would match if any were a pattern.
fn plant<'a>(trap: &Path, texts: impl Iterator<Item = &'a str>) {
    fs::create_dir(trap).unwrap();
    for name in ["a", "b", "ab", "export", "unset", "1", "'", "''", ";", "AWS_PROFILE;"] {
        fs::write(trap.join(name), "").unwrap();
    }
    for word in texts.flat_map(str::split_whitespace) {
        let (bare, doubled) = (
            word.replace(['\\', '*', '?', '['], ""),
            word.replace("[a-z]", "a").replace(['*', '?', '\\'], "ab"),
        );
        for name in [bare, doubled] {
            // What can't be a file's name (with a slash, too long) can't be matched either.
            fs::write(trap.join(name), "").ok();
        }
    }
}

/// The characters that each shell is to take, written down a second time.
fn may_carry(shell: Shell, c: char) -> bool {
    let aws = c.is_ascii_alphanumeric() || "_+/=:.,@%-".contains(c);
    match shell {
        Shell::Bash | Shell::Zsh | Shell::Sh => aws || "!;&'\"$`".contains(c),
        Shell::Tcsh | Shell::Dotenv => aws,
        _ => c != '\0',
    }
}

fn case(secret: &str, token: &str, region: &str) -> Variables {
    let credentials = Credentials {
        access_key_id: "ASIAEXAMPLE".into(),
        secret_access_key: secret.into(),
        session_token: (!token.is_empty()).then(|| token.into()),
        expiration: Timestamp::from_unix(1_761_480_000),
    };
    environment(&credentials, Some(region))
}

/// Secrets, tokens and regions at random; most of them of characters that the shells must take.
fn drawn(count: usize) -> Vec<(String, String, String)> {
    let tame = "[a-zA-Z0-9_+/=:.,@%-]{0,40}";
    let quotable = "[a-zA-Z0-9!;&'\"$`=:%@+-]{0,12}";
    let wild = "[ -~]{0,12}|[\\x01-\\x7f]{0,8}|\\PC{0,8}";
    let value = prop_oneof![3 => tame, 3 => quotable, 2 => wild];
    let strategy = prop::collection::vec((value, tame, "[a-z0-9-]{1,12}"), count);
    strategy.new_tree(&mut TestRunner::default()).unwrap().current()
}

fn exposed(variables: &Variables) -> BTreeMap<&str, &str> {
    variables.set.iter().map(|(name, value)| (*name, value.expose_secret())).collect()
}

/// Runs a script with nothing in the environment but a path and a home; its stdout, which must be UTF-8.
fn run(program: &str, flags: &[&str], script: &str, folder: &Path, file: &PathBuf) -> String {
    fs::write(file, script).unwrap();
    let out = Command::new(program)
        .args(flags)
        .arg(file)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; this test needs it: scripts/deps"));
    let complaint = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && complaint.is_empty(), "{program}: {}\n{complaint}", out.status);
    String::from_utf8(out.stdout).unwrap_or_else(|_| panic!("{program} printed what is not UTF-8"))
}
