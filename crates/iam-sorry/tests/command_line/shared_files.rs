//! ~/.aws/credentials and ~/.aws/config belong to everybody: other tools read and write them too, and people edit them.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use testkit::{Creds, EXAMPLE_KEY_ID, EXAMPLE_SECRET, Home, Ministack, Outcome};

use crate::support::{self, BIN, section};

/// A file as people have them: comments, odd spacing, other tools' keys, nested blocks, a profile twice.
const LIVED_IN: &str = "\
# Mine. Do not touch.\n\
[default]\n\
aws_access_key_id=AKIAI44QH8DHBEXAMPLE\n\
aws_secret_access_key   =   je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY   \n\
\n\
; an old comment\n\
[usermanager]\n\
   aws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
aws_secret_access_key\t= wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n\
x_principal_arn = arn:aws:iam::123456789012:user/boss\n\
s3 =\n\
  max_concurrent_requests = 20\n\
  addressing_style = path\n\
\n\
[other]\n\
region = eu-west-1 # here\n\
[default]\n\
output = json";

/// The lines of `text` that are not of the sealed kind, to compare what was not asked for.
fn others(text: &str) -> Vec<&str> {
    let ours = |line: &&str| {
        ["aws_access_key_id", "aws_secret_access_key"].iter().any(|key| line.trim_start().starts_with(key))
    };
    text.split('\n').filter(|line| !ours(line)).collect()
}

#[test]
fn what_was_not_asked_for_stays() {
    for text in [
        LIVED_IN.to_owned(),
        LIVED_IN.replace('\n', "\r\n"),
        format!("{LIVED_IN}\n"),
        format!("{LIVED_IN}\r\n\n\n"),
    ] {
        let person = support::with_agent();
        person.home.write_credentials(&text);
        person.run(&["encrypt", "usermanager"]).ok();
        let sealed = person.home.credentials();
        assert!(!sealed.contains(EXAMPLE_SECRET), "{sealed}");
        assert_eq!(others(&sealed), others(&text));
        let crlf = text.matches("\r\n").count();
        assert_eq!(sealed.matches("\r\n").count(), crlf, "line ends are as they were: {sealed:?}");
        person.run(&["--show-decrypted", "usermanager"]).ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET]);
        person.run(&["decrypt", "usermanager", "--yes"]).ok();
        // Values come back in their places; how a person had spaced them is theirs.
        assert_eq!(person.home.credentials(), text);
    }
}

#[test]
fn a_new_profile_goes_to_the_end_and_a_known_one_stays_in_its_place() {
    let account = Ministack::shared().account();
    account.user("admin");
    account.user("analyst");
    let person = support::at(&account);
    let start = format!(
        "# first\n[admin]\n# kept\nregion = eu-west-1\n\n{}\n# last, and no line end",
        person.home.credentials()
    );
    person.home.write_credentials(&start);
    person.run(&["--profile", "usermanager", "admin"]).ok();
    person.run(&["--profile", "usermanager", "analyst"]).ok();
    let text = person.home.credentials();
    assert!(text.starts_with("# first\n[admin]\n# kept\nregion = eu-west-1\naws_access_key_id = "), "{text}");
    let (before, after) = text.split_once("# last, and no line end").expect("it stays");
    assert!(after.starts_with('\n') && after.contains("[analyst]\n"), "{text}");
    assert!(before.contains("[usermanager]\naws_access_key_id = __encrypted__:v2."), "{text}");
    // Again: same shape, other credentials.
    person.run(&["--profile", "usermanager", "admin"]).ok();
    let again = person.home.credentials();
    assert_eq!(others_of_session(&again), others_of_session(&text));
    assert_ne!(again, text);
}

fn others_of_session(text: &str) -> Vec<&str> {
    others(text)
        .into_iter()
        .filter(|line| !line.starts_with("aws_session_token") && !line.starts_with("expiration"))
        .collect()
}

#[test]
fn aws_configure_and_ours_leave_each_other_alone() {
    let person = support::with_sealed_manager();
    let aws = |args: &[&str]| Outcome::of(person.home.venv_command("aws").args(args)).ok();
    aws(&["configure", "set", "aws_access_key_id", "AKIAI44QH8DHBEXAMPLE", "--profile", "bedrock"]);
    aws(&[
        "configure",
        "set",
        "aws_secret_access_key",
        "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
        "--profile",
        "bedrock",
    ]);
    aws(&["configure", "set", "region", "eu-central-1", "--profile", "usermanager"]);
    person.run(&["--show-decrypted", "usermanager"]).ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET]);
    person.run(&["--eval", "usermanager"]).ok().prints(&["AWS_REGION='eu-central-1'"]);
    person.run(&["encrypt", "bedrock"]).ok();
    let get = |name: &str| aws(&["configure", "get", name, "--profile", "bedrock"]).stdout;
    assert!(get("aws_secret_access_key").starts_with("__encrypted__:v2."));
    // What aws writes over a sealed value is a plain one again: both tools then see the same.
    aws(&["configure", "set", "aws_access_key_id", "AKIAI44QH8DHBEXAMPLE", "--profile", "bedrock"]);
    aws(&["configure", "set", "aws_secret_access_key", "new/secret", "--profile", "bedrock"]);
    person.run(&["--show-decrypted", "bedrock"]).ok().prints(&["AKIAI44QH8DHBEXAMPLE", "new/secret"]);
    person.run(&["--show-decrypted", "usermanager"]).ok().prints(&[EXAMPLE_SECRET]);
}

#[test]
fn boto3_and_the_aws_cli_read_what_we_wrote() {
    let account = Ministack::shared().account();
    let arn = account.user("admin");
    let person = support::at(&account);
    person.home.write_config("[profile admin]\nregion = eu-west-3\n");
    person.run(&["--profile", "usermanager", "admin"]).ok();
    person.run(&["rename", "admin", "my admin"]).ok();
    for profile in ["admin", "my admin"] {
        if profile == "admin" {
            person.run(&["--profile", "usermanager", "admin"]).ok();
        }
        let mut aws = person.home.venv_command("aws");
        aws.args(["--profile", profile, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"]);
        assert_eq!(Outcome::of(&mut aws).ok().stdout.trim(), arn, "{profile}");
        let script = "import boto3, sys; s = boto3.Session(profile_name=sys.argv[1]); \
                      print(s.client('sts').get_caller_identity()['Arn'], s.region_name)";
        let mut python = person.home.venv_command("python");
        python.env_remove("AWS_REGION").env("AWS_DEFAULT_REGION", "us-east-1").args(["-c", script, profile]);
        let seen = Outcome::of(&mut python).ok().stdout;
        assert!(seen.starts_with(&arn), "{profile}: {seen}");
    }
}

#[test]
fn a_symlink_stays_one_and_its_target_is_replaced() {
    let person = support::with_agent();
    let target = person.home.write_mode("dotfiles/aws credentials", section("usermanager"), 0o600);
    let link = person.home.credentials_path();
    std::os::unix::fs::symlink("../dotfiles/aws credentials", &link).expect("a link");
    person.run(&["encrypt", "usermanager"]).ok();
    assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
    assert!(std::fs::read_to_string(&target).expect("there").contains("__encrypted__:v2."));
    person.run(&["--eval", "usermanager"]).ok().prints(&[EXAMPLE_SECRET]);
    assert_eq!(person.home.mode("dotfiles/aws credentials"), 0o600);
    let names: Vec<_> = std::fs::read_dir(person.home.path().join("dotfiles")).expect("there").collect();
    assert_eq!(
        names.iter().flatten().filter(|e| !e.file_name().to_string_lossy().contains("lock")).count(),
        1
    );
}

#[test]
fn a_file_that_others_could_read_is_narrowed_with_a_word() {
    for mode in [0o644, 0o640, 0o604, 0o666] {
        let person = support::with_plain_manager();
        person.home.set_mode(".aws/credentials", mode);
        let file = person.home.credentials_path().display().to_string();
        let outcome = person.run(&["encrypt", "usermanager"]).ok();
        outcome.says(&["⚠", &file, &format!("{mode:o}")]);
        assert_eq!(person.home.mode(".aws/credentials"), 0o600);
        person.run(&["decrypt", "usermanager", "--yes"]).ok().silent_about(&[&file]);
    }
}

#[test]
fn a_missing_folder_is_made_for_the_owner_alone() {
    let account = Ministack::shared().account();
    account.user("admin");
    let mut person = support::with_agent();
    std::fs::remove_dir(person.home.path().join(".aws")).expect("empty");
    person.home.set_env("AWS_ENDPOINT_URL", account.endpoint());
    let manager =
        person.home.write_mode("manager", account.manager("usermanager").section("usermanager"), 0o600);
    let script = "umask 000; cp \"$1\" \"$2\"; exec \"$0\" encrypt usermanager";
    let mut command = person.home.command("sh");
    command.args(["-c", script, BIN]).arg(&manager).arg(person.home.path().join("fresh-credentials"));
    command.env("AWS_SHARED_CREDENTIALS_FILE", person.home.path().join("fresh-credentials"));
    Outcome::of(&mut command).ok();
    assert_eq!(person.home.mode("fresh-credentials"), 0o600, "whatever the umask");

    // Permanent keys in one file, the temporary ones in a folder that is not there yet: config may lie anywhere too.
    let config = person.home.path().join("new/folder/config");
    let mut command = person.command_without_terminal(&["encrypt", "usermanager", "--process"]);
    command
        .env("AWS_SHARED_CREDENTIALS_FILE", person.home.path().join("fresh-credentials"))
        .env("AWS_CONFIG_FILE", &config);
    Outcome::of(&mut command).ok();
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&person.home.path().join("new/folder")), 0o700);
    assert_eq!(mode(&config) & 0o077, 0);
    assert!(!person.home.path().join(".aws").exists(), "files named by variables are the only ones");
}

#[test]
fn the_variables_name_the_files() {
    let person = support::with_agent();
    person.home.write_credentials("[decoy]\n");
    let file = person.home.write_mode("elsewhere/creds", section("usermanager"), 0o600);
    let config =
        person.home.write_mode("elsewhere/conf", "[profile usermanager]\nregion = ca-central-1\n", 0o600);
    let run = |args: &[&str]| {
        let mut command = person.command_without_terminal(args);
        Outcome::of(command.env("AWS_SHARED_CREDENTIALS_FILE", &file).env("AWS_CONFIG_FILE", &config))
    };
    run(&["encrypt", "usermanager"]).ok();
    run(&["--eval", "usermanager"]).ok().prints(&[EXAMPLE_SECRET, "AWS_REGION='ca-central-1'"]);
    assert_eq!(person.home.credentials(), "[decoy]\n");
    run(&["list"]).ok().prints(&["usermanager", "encrypted"]);
    run(&["--eval", "decoy"]).fails(3).says(&["elsewhere/creds"]);
}

#[test]
fn eight_writers_at_once_lose_nothing() {
    let person = support::with_agent();
    let names: Vec<String> = (0..8).map(|n| format!("team-{n}")).collect();
    person.home.write_credentials(
        names.iter().map(|name| format!("# {name}\n{}", section(name))).collect::<String>(),
    );
    let spawn = |args: &[&str]| {
        person
            .command_without_terminal(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    };
    for round in 0..3 {
        let verb = ["encrypt", "decrypt"][round % 2];
        let children: Vec<_> = names.iter().map(|name| spawn(&[verb, name, "--yes"])).collect();
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = person.home.credentials();
        assert_eq!(
            text.matches("__encrypted__:v2.").count(),
            if verb == "encrypt" { 16 } else { 0 },
            "{text}"
        );
        assert_eq!(text.lines().count(), 8 * 4, "{text}");
    }
    for name in &names {
        person.run(&["--eval", name]).ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET]);
    }
}

#[test]
fn eight_refreshes_at_once_lose_nothing() {
    let account = Ministack::shared().account();
    let person = support::at(&account);
    let names: Vec<String> = (0..8).map(|n| format!("worker-{n}")).collect();
    names.iter().for_each(|name| drop(account.user(name)));
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = person.command_without_terminal(&["--profile", "usermanager", name]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in &names {
        let field = |field| person.field(name, field).unwrap_or_else(|| panic!("{name} has no {field}"));
        let creds = Creds {
            key: field("aws_access_key_id"),
            secret: field("aws_secret_access_key"),
            token: Some(field("aws_session_token")),
        };
        let arn = account.whoami(&creds).expect("valid");
        assert!(arn.ends_with(&format!("user/{name}")), "{arn}");
    }
}

#[test]
fn reading_writes_nothing() {
    let person = support::with_sealed_manager();
    let home = person.home.path();
    let listing = |home: &std::path::Path| {
        let find =
            std::process::Command::new("find").arg(home).args(["-type", "f", "-printf", "%p %T@\n"]).output();
        String::from_utf8(find.expect("find runs").stdout).expect("text")
    };
    let before = listing(home);
    for args in [
        &["list"][..],
        &["--eval", "usermanager"],
        &["exec", "usermanager", "--", "true"],
        &["credential-process", "usermanager"],
        &["policy"],
    ] {
        person.run(args).ok();
    }
    assert_eq!(listing(home), before);
}

#[test]
fn a_home_without_any_file_lists_nothing() {
    let home = Home::new();
    let outcome = Outcome::of(home.command(BIN).arg("list")).ok();
    assert_eq!(outcome.stdout, "");
    outcome.says(&["No profiles in", &home.credentials_path().display().to_string()]);
    let json = Outcome::of(home.command(BIN).args(["list", "--json"])).ok();
    assert_eq!(json.stdout, "[]\n");
}
