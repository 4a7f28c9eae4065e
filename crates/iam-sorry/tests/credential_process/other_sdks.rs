//! AWS tools with no wrapper: AWS CLI, boto3 and the AWS SDK for JavaScript get encrypted, temporary and role profiles by
//! nothing but lines in ~/.aws/config.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::expires_in;
use crate::rig::Rig;

/// `usermanager` sealed with a line of `encrypt --process`; `auto-admin` serves the temporary profile `admin`, which has
/// expired; `deploy` is a role that `usermanager` may assume, `auto-deploy` serves it.
fn scene() -> Rig {
    let rig = Rig::new();
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
fn each_profile_works(rig: &Rig, tool: impl Fn(&str) -> Command) {
    for (profile, expected) in [
        ("usermanager", ":user/usermanager"),
        ("auto-admin", ":user/admin"),
        ("auto-deploy", ":assumed-role/deploy/iam-sorry-deploy"),
        // The tool's own AssumeRole, with the sealed profile as its source.
        ("deploy", ":assumed-role/deploy/"),
    ] {
        let output = tool(profile).output().unwrap();
        let ended = rig.end(output);
        let out = ended.out.trim();
        assert!(out.contains(expected), "{profile}: {out}\n{}", ended.err);
    }
    assert_eq!(rig.acts_as("admin"), "admin", "and the renewed set lies in its profile");
}

#[test]
fn aws_cli() {
    let rig = scene();
    each_profile_works(&rig, |profile| {
        let mut command = rig.home.venv_command("aws");
        command.args([
            "--profile",
            profile,
            "sts",
            "get-caller-identity",
            "--query",
            "Arn",
            "--output",
            "text",
        ]);
        command
    });
    // AWS_PROFILE reaches the process that AWS CLI starts: there it names no manager.
    expires_in(&rig, "admin", -1);
    let mut command = rig.home.venv_command("aws");
    command.env("AWS_PROFILE", "auto-admin");
    let output = command.args(["sts", "get-caller-identity", "--query", "Arn", "--output", "text"]).output();
    assert!(rig.end(output.unwrap()).ok().out.contains(":user/admin"));
}

#[test]
fn boto3() {
    let rig = scene();
    let script = "import boto3, sys\n\
                  print(boto3.Session(profile_name=sys.argv[1]).client('sts').get_caller_identity()['Arn'])";
    each_profile_works(&rig, |profile| {
        let mut command = rig.home.venv_command("python");
        command.args(["-c", script, profile]);
        command
    });
}

#[test]
fn aws_sdk_for_javascript() {
    let rig = scene();
    let script = "const {STSClient, GetCallerIdentityCommand} = require('@aws-sdk/client-sts');\n\
                  new STSClient({region: 'us-east-1', endpoint: process.env.AWS_ENDPOINT_URL, profile: process.argv[1]})\n\
                  .send(new GetCallerIdentityCommand({})).then(answer => console.log(answer.Arn),\n\
                  error => { console.error(error); process.exit(1); });";
    each_profile_works(&rig, |profile| {
        let mut command = rig.home.command("node");
        command.env("NODE_PATH", node_modules()).args(["-e", script, profile]);
        command
    });
}

/// What scripts/deps installs for Node.
fn node_modules() -> PathBuf {
    let folder = testkit::workspace().join(".venv/node/node_modules");
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
