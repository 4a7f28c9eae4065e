//! What the program says about itself: help of every verb, tables, manual pages, completions that real shells load.
//!
//! Snapshots are in `snapshots/`; after a change on purpose: INSTA_UPDATE=always cargo test -p iam-sorry help, then look
//! at the diff.

use testkit::{EXAMPLE_SECRET, Home, Machine, Outcome};

use crate::support::{self, BIN, section};

fn run(args: &[&str]) -> Outcome {
    Outcome::of(Home::new().command(BIN).args(args))
}

/// The verbs that a `Commands:` section of a help text lists.
fn verbs(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// A verb's help without the options of every command, which the program's own help shows.
fn own_part(help: &str) -> String {
    let Some((before, rest)) = help.split_once("Options of every command:\n") else { return help.to_owned() };
    let of_all = |line: &&str| line.is_empty() || line.starts_with(' ');
    let after: Vec<&str> = rest.lines().skip_while(of_all).collect();
    format!("{before}[Options of every command]\n\n{}\n", after.join("\n"))
}

#[test]
fn help_of_the_program_and_every_verb() {
    let top = run(&["--help"]).ok();
    assert_eq!(top.stderr, "");
    insta::assert_snapshot!("help", top.stdout);
    let verbs_ = verbs(&top.stdout);
    for verb in [
        "refresh",
        "encrypt",
        "decrypt",
        "recipients",
        "migrate",
        "reseal",
        "rename",
        "exec",
        "env",
        "unset",
        "credential-process",
        "list",
        "rotate",
        "serve-credentials",
        "doctor",
        "policy",
        "completions",
        "man",
    ] {
        assert!(verbs_.iter().any(|v| v == verb), "no verb {verb} in {verbs_:?}");
    }
    for verb in &verbs_ {
        let help = run(&[verb, "--help"]).ok().stdout;
        let examples = help.split("Options of every command:").nth(1).unwrap_or_default();
        for line in examples.lines().skip_while(|line| line.is_empty() || line.starts_with([' ', '-'])) {
            assert!(line.chars().count() <= 80, "no terminal of 80 columns shows this well: {line}");
        }
        let lines: Vec<&str> = help.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].starts_with("  <") || pair[0].starts_with("  [")) {
            assert!(!pair[1].trim().is_empty(), "{verb} does not say what {} is", pair[0].trim());
        }
        insta::assert_snapshot!(format!("help-{verb}"), own_part(&help));
        for below in verbs(&help) {
            let help = run(&[verb, &below, "--help"]).ok().stdout;
            insta::assert_snapshot!(format!("help-{verb}-{below}"), own_part(&help));
        }
    }
}

#[test]
fn every_option_of_the_original_is_there() {
    let help = run(&["--help"]).ok().stdout;
    for option in
        ["--profile", "--duration", "--encrypt", "--show-encrypted", "--show-decrypted", "--eval", "[NAME]"]
    {
        assert!(help.contains(option), "no {option}:\n{help}");
    }
    for line in help.lines() {
        assert!(line.chars().count() <= 110, "too wide: {line}");
    }
    let version = run(&["--version"]).ok().stdout;
    assert_eq!(version, format!("iam-sorry {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&["-h"]).ok().stderr, "");
}

#[test]
fn the_table_of_profiles() {
    let home = Home::new();
    let session = |name: &str, expires: &str| {
        format!(
            "{}aws_session_token = FwoGZXIvYXdzEXAMPLE\ncredentials_owner = {name}\nexpiration = {expires}\n",
            section(name)
        )
    };
    let legacy = "__encrypted__:7kJNasH4yxMKOAlr0l+dQTM0xh2XYl9m7M7oVxhsbGuqRWedQVuh53eAzYcmPmm1MQ95k7kteaHEAVTifIQeONKBAuo=";
    home.write_credentials(format!(
        "[old]\naws_access_key_id = {legacy}\naws_secret_access_key = {legacy}\n\n{}{}[nothing]\n",
        section("bedrock"),
        session("done", "2020-01-01T00:00:00Z"),
    ));
    home.write_config(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = bedrock\n\
         [profile sso]\nsso_session = s\n[profile other-process]\ncredential_process = /bin/true\n[sso-session s]\n",
    );
    let table = Outcome::of(home.command(BIN).arg("list")).ok();
    assert!(!table.stdout.contains(EXAMPLE_SECRET));
    insta::assert_snapshot!("list", table.stdout);
    assert_eq!(Outcome::of(home.command(BIN).arg("ls")).ok().stdout, table.stdout);

    let json = Outcome::of(home.command(BIN).args(["list", "--json"])).ok().stdout;
    let rows: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let names: Vec<_> =
        rows.as_array().expect("a list").iter().filter_map(|row| row["profile"].as_str()).collect();
    assert_eq!(names, ["old", "bedrock", "done", "nothing", "role", "sso", "other-process"]);
    assert_eq!(rows[2]["seconds_left"], 0);

    // What is left of a time to come depends on today.
    home.write_credentials(session("née", "2999-01-01T00:00:00+00:00"));
    let row = Outcome::of(home.command(BIN).arg("list")).ok().stdout;
    let row = row.lines().nth(1).expect("a row");
    let hours =
        row.strip_prefix("née            temporary  née       ").and_then(|rest| rest.split_once(" h"));
    assert!(hours.is_some_and(|(hours, _)| hours.parse::<u64>().is_ok()), "{row}");
}

#[test]
fn what_doctor_finds() {
    let mut person = support::with_sealed_manager();
    person.edit(|text| text + &section("bedrock"));
    let text = |person: &Machine, outcome: &Outcome| {
        outcome
            .stdout
            .replace(&person.home.fingerprint(&person.ssh_key), "[FINGERPRINT]")
            .replace(&person.home.path().display().to_string(), "[HOME]")
    };
    let fine = person.run(&["doctor", "--offline"]).ok();
    insta::assert_snapshot!("doctor", text(&person, &fine));

    person.home.set_env("SSH_AUTH_SOCK", "");
    person.home.set_mode(".aws/credentials", 0o644);
    person.home.change_passphrase(&person.ssh_key, testkit::PASSPHRASE, "");
    let ill = person.run(&["doctor", "--offline"]).exits(1);
    insta::assert_snapshot!("doctor-finds-much", text(&person, &ill));
    let json = person.run(&["doctor", "--offline", "--json"]).exits(1);
    let rows: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let bad: Vec<_> =
        rows.as_array().expect("a list").iter().filter(|row| row["status"] == "error").collect();
    assert!(!bad.is_empty() && bad.iter().all(|row| row["mend"].is_string()), "{rows}");
    assert_eq!(person.home.mode(".aws/credentials"), 0o644, "doctor looks, and changes nothing");
}

#[test]
fn manual_pages_are_good_roff() {
    let top = run(&["--help"]).ok().stdout;
    let mut pages = vec![run(&["man"]).ok().stdout];
    pages.extend(verbs(&top).iter().map(|verb| run(&["man", verb]).ok().stdout));
    for page in &pages {
        assert!(page.contains(".TH iam-sorry"), "{page}");
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{page}");
        for line in page.lines() {
            let request =
                line.strip_prefix('.').map(|rest| rest.split_whitespace().next().unwrap_or_default());
            let known = [
                "TH", "SH", "SS", "PP", "TP", "IP", "RS", "RE", "br", "sp", "ie", "el", "nf", "fi", "ds",
                "de", "",
            ];
            assert!(
                request.is_none_or(|request| known.contains(&request) || request.starts_with('\\')),
                "{line}"
            );
        }
    }
    let variables = &pages[0];
    for name in ["AWS_PROFILE", "AWS_ENDPOINT_URL_STS", "SSH_ASKPASS", "IAM_SORRY_SSH_KEY", "NO_COLOR"] {
        assert!(variables.contains(name), "{name} is in no manual");
    }
    if let Some(groff) =
        ["/usr/bin/groff", "/usr/local/bin/groff"].iter().find(|path| std::path::Path::new(path).exists())
    {
        let home = Home::new();
        for page in &pages {
            let mut command = home.command(groff);
            let rendered = Outcome::piped(page, command.args(["-man", "-Tutf8", "-ww", "-P-cbou"])).ok();
            assert_eq!(rendered.stderr, "", "groff warns of nothing");
            assert!(rendered.stdout.contains("SYNOPSIS"), "{rendered}");
        }
    }
}

#[test]
fn bash_completes() {
    let home = Home::new();
    home.write_mode("completions.bash", run(&["completions", "bash"]).ok().stdout, 0o600);
    let script = "set -eu; . ./completions.bash; complete -p iam-sorry; \
                  COMP_WORDS=(iam-sorry ref); COMP_CWORD=1; f=$(complete -p iam-sorry | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
                  set +u; $f iam-sorry ref iam-sorry; echo \"${COMPREPLY[@]}\"";
    let outcome = Outcome::of(home.command("bash").args(["--norc", "-c", script])).ok();
    assert_eq!(outcome.stdout.lines().last(), Some("refresh"), "{outcome}");
}

#[test]
fn zsh_completes() {
    let home = Home::new();
    home.write_mode("completions/_iam-sorry", run(&["completions", "zsh"]).ok().stdout, 0o600);
    let script = "fpath=($PWD/completions $fpath); autoload -Uz compinit; compinit -u -D; \
                  print -r -- ${_comps[iam-sorry]}; autoload +X _iam-sorry; whence -w _iam-sorry; zsh -n completions/_iam-sorry";
    let outcome = Outcome::of(home.command("zsh").args(["-f", "-c", script])).ok();
    assert_eq!(outcome.stdout, "_iam-sorry\n_iam-sorry: function\n", "{outcome}");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn fish_completes() {
    let home = Home::new();
    home.write_mode("completions.fish", run(&["completions", "fish"]).ok().stdout, 0o600);
    let script = "source completions.fish; complete -C 'iam-sorry ref'; complete -C 'iam-sorry --show-'";
    let outcome = Outcome::of(home.command("fish").args(["--no-config", "-c", script])).ok();
    outcome.prints(&["refresh\t", "--show-encrypted\t", "--show-decrypted\t"]);
}

#[test]
fn unset_lines_for_every_shell() {
    for shell in ["bash", "zsh", "sh", "fish", "tcsh", "powershell", "cmd", "nushell"] {
        let lines = run(&["unset", "--shell", shell]).ok();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            assert!(lines.stdout.contains(name), "{lines}");
        }
    }
    for format in ["dotenv", "json"] {
        run(&["unset", "--shell", format]).fails(2);
    }
}

#[test]
fn the_policy_is_json_that_names_each_action_once() {
    let policy = run(&["policy", "--users", "dirk-*", "--account", "123456789012"]).ok().stdout;
    let policy: serde_json::Value = serde_json::from_str(&policy).expect("JSON");
    assert_eq!(policy["Version"], "2012-10-17");
    let text = policy.to_string();
    for action in [
        "iam:CreateAccessKey",
        "iam:DeleteAccessKey",
        "iam:ListAccessKeys",
        "iam:GetUser",
        "iam:GetAccessKeyLastUsed",
    ] {
        assert_eq!(text.matches(&format!("\"{action}\"")).count(), 1, "{action} in {text}");
    }
    assert!(text.contains("arn:aws:iam::123456789012:user/dirk-*"), "{text}");
    let china = run(&["policy", "--region", "cn-north-1"]).ok().stdout;
    assert!(china.contains("arn:aws-cn:iam::"), "{china}");
    run(&["policy", "--users", "a b\"c"]).fails(2);
}

#[test]
fn colour_is_for_terminals_only() {
    let person = support::with_sealed_manager();
    let plain = person.run(&["--eval", "nobody"]).fails(3);
    assert!(!plain.stderr.contains('\x1b'), "{plain}");
    let (_, shown) = person.run_in_terminal(&["--eval", "nobody"]).wait();
    assert!(shown.contains("\x1b[31m"), "{shown:?}");
    let mut command = testkit::Pty::command(&person.home, BIN);
    command.args(["--eval", "nobody"]).env("NO_COLOR", "1");
    let (_, shown) = testkit::Pty::spawn(command).wait();
    assert!(!shown.contains("\x1b["), "{shown:?}");
}
