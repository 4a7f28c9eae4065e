//! AWS tools with no wrapper: AWS CLI, boto3 and the AWS SDK for JavaScript get encrypted, temporary and role profiles by
//! nothing but lines in ~/.aws/config.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use testkit::{MachineOnAws, Outcome};

use crate::{answer, expires_in, rig};

/// `usermanager` sealed with a line of `encrypt --process`; `auto-admin` serves the temporary profile `admin`, which has
/// expired; `deploy` is a role that `usermanager` may assume, `auto-deploy` serves it.
fn scene() -> MachineOnAws {
    let rig = rig();
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": format!("arn:aws:iam::{}:root", rig.account.id())}}]});
    let args = json!({"RoleName": "deploy", "AssumeRolePolicyDocument": trust.to_string()});
    let role = rig.account.call("iam", "create_role", args);
    let policy = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["iam:*", "sts:*"], "Resource": "*"}]});
    rig.account.put_policy("usermanager", &policy);
    rig.run(&["encrypt", "--process", "usermanager"]).ok();
    rig.run(&["--profile", "usermanager", "--keep-key", "admin"]).ok();
    expires_in(&rig, "admin", -1);
    let line = |name: &str| {
        format!("credential_process = \"{}\" credential-process {name}\n", env!("CARGO_BIN_EXE_iam-sorry"))
    };
    let config = format!(
        "{}\n[profile auto-admin]\n{}[profile deploy]\nrole_arn = {}\nsource_profile = usermanager\n\
         [profile auto-deploy]\n{}",
        rig.home.config(),
        line("admin"),
        role["Role"]["Arn"].as_str().unwrap(),
        line("deploy")
    );
    rig.home.write_config(config);
    rig.proxy.clear_calls();
    rig
}

/// Runs a tool for each profile and compares whom AWS says it is.
fn each_profile_works(rig: &MachineOnAws, tool: impl Fn(&str) -> Command) {
    for (profile, expected) in [
        ("usermanager", ":user/usermanager"),
        ("auto-admin", ":user/admin"),
        ("auto-deploy", ":assumed-role/deploy/iam-sorry-deploy"),
        // The tool's own AssumeRole, with the sealed profile as its source.
        ("deploy", ":assumed-role/deploy/"),
    ] {
        let ended = rig.outcome(&mut tool(profile));
        let out = ended.stdout.trim();
        assert!(out.contains(expected), "{profile}: {out}\n{}", ended.stderr);
    }
    assert_eq!(rig.stored_user("admin"), "admin", "and the renewed set lies in its profile");
}

fn aws_cli_as(rig: &MachineOnAws, profile: &str) -> Command {
    let mut command = rig.home.venv_command("aws");
    command.args(["--profile", profile, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"]);
    command
}

fn boto3_as(rig: &MachineOnAws, profile: &str) -> Command {
    let script = "import boto3, sys\n\
                  print(boto3.Session(profile_name=sys.argv[1]).client('sts').get_caller_identity()['Arn'])";
    let mut command = rig.home.venv_command("python");
    command.args(["-c", script, profile]);
    command
}

fn javascript_as(rig: &MachineOnAws, profile: &str) -> Command {
    let script = "const {STSClient, GetCallerIdentityCommand} = require('@aws-sdk/client-sts');\n\
                  new STSClient({region: 'us-east-1', endpoint: process.env.AWS_ENDPOINT_URL, profile: process.argv[1]})\n\
                  .send(new GetCallerIdentityCommand({})).then(answer => console.log(answer.Arn),\n\
                  error => { console.error(error); process.exit(1); });";
    let mut command = rig.home.command("node");
    command.env("NODE_PATH", node_modules()).args(["-e", script, profile]);
    command
}

#[test]
fn aws_cli() {
    let rig = scene();
    each_profile_works(&rig, |profile| aws_cli_as(&rig, profile));
    // AWS_PROFILE reaches the process that AWS CLI starts: there it names no manager.
    expires_in(&rig, "admin", -1);
    let mut command = rig.home.venv_command("aws");
    command.env("AWS_PROFILE", "auto-admin");
    command.args(["sts", "get-caller-identity", "--query", "Arn", "--output", "text"]);
    rig.outcome(&mut command).ok().prints(&[":user/admin"]);
}

#[test]
fn boto3() {
    let rig = scene();
    each_profile_works(&rig, |profile| boto3_as(&rig, profile));
}

#[test]
fn aws_sdk_for_javascript() {
    let rig = scene();
    each_profile_works(&rig, |profile| javascript_as(&rig, profile));
}

/// Some SDKs split the line, some hand it to a shell: a name is never more than a name to any of them, or it is refused.
#[test]
fn a_name_is_one_word_of_the_line_or_refused() {
    let rig = rig();
    let pwned = rig.home.path().join("pwned");
    let taken = ["a b", "a'b", "a&touch pwned", "a|touch pwned", "a>pwned", "a*", "~a", "a!b"];
    let (no_word, no_name) = ("can't stand in a credential_process line", "a name can't hold # or ;");
    let refused = [
        ("a$(touch pwned)", no_word),
        ("a`touch pwned`", no_word),
        ("a\"&touch pwned&\"", no_word),
        ("a\\", no_word),
        ("a%PATH%", no_word),
        ("$HOME", no_word),
        ("a;touch pwned", no_name),
    ];
    for name in taken {
        rig.home.write_credentials(rig.manager().section(name));
        rig.home.write_config("");
        rig.run(&["encrypt", "--process", name]).ok();
        assert!(!rig.home.credentials().contains(&rig.manager().secret));
        for tool in [aws_cli_as, boto3_as] {
            let ended = rig.outcome(&mut tool(&rig, name));
            let (out, err) = (ended.stdout, ended.stderr);
            assert!(out.contains(":user/usermanager"), "{name}: {out}{err}\n{}", rig.home.config());
        }
        // The SDK for JavaScript hands the line to a shell, as others do; it knows no profile of such a name, but who can
        // say of which version on.
        javascript_as(&rig, name).output().unwrap();
        let config = rig.home.config();
        let line = config.lines().find_map(|line| line.strip_prefix("credential_process = ")).unwrap();
        // Not `rig.end`: here the secret is what is asked for.
        let ended = Outcome::of(rig.home.command("sh").args(["-c", line])).ok();
        assert_eq!(answer(&ended.stdout).0, *rig.manager(), "{name}: {config}");
        assert!(!pwned.exists(), "{name}: {}", rig.home.config());
    }
    for (name, why) in refused {
        let text = rig.manager().section(name);
        rig.home.write_credentials(&text);
        rig.home.write_config("");
        rig.run(&["encrypt", "--process", name]).exits(3).says(&[why]);
        assert_eq!((rig.home.credentials(), rig.home.config()), (text, String::new()), "{name}");
        assert!(!pwned.exists(), "{name}");
    }
}

/// What scripts/deps installs for Node.
fn node_modules() -> PathBuf {
    let folder = testkit::venv().join("node/node_modules");
    assert!(
        folder.join("@aws-sdk/client-sts").exists(),
        "The AWS SDK for JavaScript is missing in {}.\nRun scripts/deps (or scripts/test, which starts with it).",
        folder.display()
    );
    folder
}

/// What AWS CLI reads from the environment that exec and env make, and from the profile itself.
#[test]
fn a_tool_that_refreshes_early_finds_the_set_fresh() {
    let rig = scene();
    let run = || {
        let mut command = rig.home.venv_command("aws");
        command.args(["--profile", "auto-admin", "iam", "get-user", "--user-name", "admin"]);
        command.output().unwrap()
    };
    run();
    // AWS CLI asks again for what has less than 15 minutes left: twice for one command, where we handed that out.
    expires_in(&rig, "admin", 17 * 60);
    rig.proxy.clear_calls();
    run();
    run();
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
}
