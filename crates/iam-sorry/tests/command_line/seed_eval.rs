//! `eval $(iam-sorry --eval PROFILE)`, in the real shells and as the real AWS clients see it.

use testkit::{Creds, EXAMPLE_KEY_ID, EXAMPLE_SECRET, Home, Ministack, Outcome};

use crate::support::{self, BIN, section};

/// The shells of the README's users; each takes the quoted and the unquoted form.
const SHELLS: [&str; 3] = ["bash", "dash", "zsh"];
const FORMS: [&str; 2] = ["eval $(\"$IAM_SORRY\" --eval \"$P\")", "eval \"$(\"$IAM_SORRY\" --eval \"$P\")\""];

/// Runs a script in a shell at this home.
fn shell(home: &Home, shell: &str, profile: &str, script: &str) -> Outcome {
    let mut command = home.command(shell);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", testkit::venv().join("bin").display());
    command.args(["-ec", script]).env("P", profile).env("IAM_SORRY", BIN).env("PATH", path);
    for (name, value) in leftovers() {
        command.env(name, value);
    }
    Outcome::of(&mut command)
}

/// What a shell may still hold of other tools, each of which would beat or mix with the new credentials.
fn leftovers() -> [(&'static str, &'static str); 4] {
    [
        ("AWS_PROFILE", "stale"),
        ("AWS_DEFAULT_PROFILE", "stale"),
        ("AWS_SESSION_TOKEN", "stale-token"),
        ("AWS_SECURITY_TOKEN", "stale-token"),
    ]
}

#[test]
fn every_shell_takes_both_forms() {
    let person = support::with_sealed_manager();
    for name in SHELLS {
        for form in FORMS {
            // A file that an unquoted pattern would match, and a directory full of names.
            let script = format!("touch a b; {form}; env | grep ^AWS_ | sort");
            let seen = shell(&person.home, name, "usermanager", &script).ok();
            let expected = [
                format!("AWS_ACCESS_KEY_ID={EXAMPLE_KEY_ID}"),
                "AWS_EC2_METADATA_DISABLED=true".into(),
                format!("AWS_SECRET_ACCESS_KEY={EXAMPLE_SECRET}"),
            ];
            assert_eq!(seen.stdout.lines().collect::<Vec<_>>(), expected, "{name}: {form}");
        }
    }
}

#[test]
fn stdout_holds_statements_and_nothing_else() {
    let person = support::with_sealed_manager();
    let outcome = person.run(&["--eval", "usermanager"]).ok();
    for line in outcome.stdout.lines() {
        assert!(line.starts_with("export AWS_") || line.starts_with("unset AWS_"), "{line}");
        assert!(line.ends_with(';'), "the unquoted form joins lines: {line}");
    }
    assert_eq!(outcome.stdout, person.run(&["env", "usermanager"]).ok().stdout, "`env` is the same");
}

#[test]
fn a_failure_evaluates_to_nothing() {
    let person = support::with_sealed_manager();
    for name in SHELLS {
        let script = "eval $(\"$IAM_SORRY\" --eval nobody 2>/dev/null); echo \"<$AWS_ACCESS_KEY_ID>\"";
        assert_eq!(shell(&person.home, name, "", script).ok().stdout, "<>\n");
    }
}

#[test]
fn the_aws_cli_and_boto3_act_as_the_user() {
    let account = Ministack::shared().account();
    let arn = account.user("admin");
    let person = support::at(&account);
    person.run(&["--profile", "usermanager", "admin"]).ok();
    for (name, form) in SHELLS.iter().zip(FORMS.iter().cycle()) {
        let script = format!("{form}; aws sts get-caller-identity --query Arn --output text");
        assert_eq!(shell(&person.home, name, "admin", &script).ok().stdout.trim(), arn, "{name}");
    }
    let python = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    let script = format!("{}; python -c \"$PYTHON\"", FORMS[0]);
    let mut command = person.home.command("sh");
    let path = format!("{}:/usr/bin:/bin", testkit::venv().join("bin").display());
    command
        .args(["-ec", &script])
        .env("PATH", path)
        .env("PYTHON", python)
        .env("P", "admin")
        .env("IAM_SORRY", BIN);
    assert_eq!(Outcome::of(&mut command).ok().stdout.trim(), arn);
}

#[test]
fn unset_takes_everything_out_again() {
    let home = Home::new();
    home.write_credentials(
        Creds { token: Some("FwoGZXIvYXdzEXAMPLE".into()), ..Creds::new(EXAMPLE_KEY_ID, EXAMPLE_SECRET) }
            .section("a"),
    );
    home.write_config("[profile a]\nregion = eu-central-1\n");
    for name in SHELLS {
        let script =
            format!("{}; env | grep -c ^AWS_; eval $(\"$IAM_SORRY\" unset); env | grep ^AWS_", FORMS[0]);
        let seen = shell(&home, name, "a", &script).ok();
        // id, secret, token, two regions, and the one that every test has
        assert_eq!(seen.stdout, "6\nAWS_EC2_METADATA_DISABLED=true\n", "{name}");
    }
}

#[test]
fn the_region_of_the_profile_comes_along() {
    let home = Home::new();
    home.write_credentials(section("bedrock"));
    home.write_config("[profile bedrock]\nregion = ap-southeast-2\n");
    let seen =
        shell(&home, "dash", "bedrock", &format!("{}; echo $AWS_REGION $AWS_DEFAULT_REGION", FORMS[0])).ok();
    assert_eq!(seen.stdout, "ap-southeast-2 ap-southeast-2\n");
}

#[test]
fn the_expiration_comes_along_and_an_expired_set_does_not() {
    let home = Home::new();
    let session =
        Creds { token: Some("FwoGZXIvYXdzEXAMPLE".into()), ..Creds::new(EXAMPLE_KEY_ID, EXAMPLE_SECRET) };
    let text = session.section("admin");
    home.write_credentials(format!("{text}credentials_owner = admin\nexpiration = 2999-01-02T03:04:05Z\n"));
    let seen = shell(&home, "dash", "admin", &format!("{}; echo $AWS_CREDENTIAL_EXPIRATION", FORMS[0])).ok();
    assert_eq!(seen.stdout, "2999-01-02T03:04:05Z\n");

    home.write_credentials(format!("{text}credentials_owner = admin\nexpiration = 2020-01-02T03:04:05\n"));
    for args in [["--eval", "admin"], ["env", "admin"], ["credential-process", "admin"]] {
        let outcome = Outcome::of(home.command(BIN).args(args)).fails(3);
        outcome.says(&[
            "profile 'admin' expired",
            "2020-01-02T03:04:05",
            "iam-sorry --profile MANAGER admin",
        ]);
    }
}

#[test]
fn values_cannot_inject_commands() {
    let home = Home::new();
    // Whoever can write the shared file could write these; they must come out as they are, or not at all.
    for value in [
        "x';touch pwned;'",
        "$(touch pwned)",
        "`touch pwned`",
        "a b",
        "*",
        "x\\",
        "\"; touch pwned; \"",
        "x&touch pwned",
    ] {
        home.write_credentials(format!(
            "[a]\naws_access_key_id = {EXAMPLE_KEY_ID}\naws_secret_access_key = {value}\n"
        ));
        for name in SHELLS {
            for form in FORMS {
                let script = format!("{form}; printf %s \"${{AWS_SECRET_ACCESS_KEY-}}\"");
                let seen = shell(&home, name, "a", &script);
                if seen.stderr.is_empty() {
                    assert_eq!(seen.stdout, value, "{name}: {form}");
                } else {
                    seen.says(&["Error: Profile 'a'"]);
                }
                assert!(!home.path().join("pwned").exists(), "{name}: {value}");
            }
        }
    }
}
