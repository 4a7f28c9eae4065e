//! Role profiles: source_profile, credential_source, chains, and what is wrong with some.

use serde_json::{Value, json};
use testkit::{Creds, Fault, MachineOnAws};

use crate::{answer, expires_in, in_seconds, rig, supplied, with_kept_key};

/// Makes a role that `trusted` (an ARN) may assume; gives its ARN.
fn role(rig: &MachineOnAws, name: &str, trusted: &str, external_id: Option<&str>) -> String {
    let mut statement = json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": trusted}});
    if let Some(id) = external_id {
        statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": id}});
    }
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    let args = json!({"RoleName": name, "AssumeRolePolicyDocument": trust});
    let arn = rig.account.call("iam", "create_role", args)["Role"]["Arn"].as_str().unwrap().to_owned();
    let allow: Value = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]});
    let args = json!({"RoleName": name, "PolicyName": "chain", "PolicyDocument": allow.to_string()});
    rig.account.call("iam", "put_role_policy", args);
    arn
}

/// A user with a permanent key who may assume any role.
fn assuming_user(rig: &MachineOnAws, name: &str) -> Creds {
    rig.account.user_allowed(name, &["sts:AssumeRole"])
}

fn root(rig: &MachineOnAws) -> String {
    format!("arn:aws:iam::{}:root", rig.account.id())
}

/// A rig with a role `deploy`, and user `dev` with a plain permanent key.
fn with_role(settings: &str) -> (MachineOnAws, Creds) {
    let rig = rig();
    let dev = assuming_user(&rig, "dev");
    let arn = role(&rig, "deploy", &root(&rig), None);
    let text = format!("{}{}", rig.home.credentials(), dev.section("dev"));
    rig.home.write_credentials(text);
    rig.home.write_config(format!("[profile deploy]\nrole_arn = {arn}\n{settings}"));
    rig.proxy.clear_calls();
    (rig, dev)
}

#[test]
fn a_role_is_assumed_once_and_kept() {
    let (rig, dev) = with_role("source_profile = dev\nrole_session_name = release-42\nregion = eu-west-1\n");
    let ended = rig.run(&["credential-process", "deploy"]).ok();
    let (creds, at) = answer(&ended.stdout);
    let arn = rig.account.whoami(&creds).unwrap();
    assert!(arn.ends_with(":assumed-role/deploy/release-42"), "{arn}");
    assert!(at.unwrap() > in_seconds(3500) && at.unwrap() < in_seconds(3700));
    assert_eq!(supplied(&rig, "deploy"), creds);
    assert_eq!(rig.proxy.actions(), ["AssumeRole"]);
    assert_eq!(rig.proxy.calls()[0].access_key, dev.key);

    // exec and env give them too, with the profile's region, from the same place.
    let mut exec = rig.command(&["exec", "deploy", "--", "sh", "-c", "echo $AWS_REGION $AWS_ACCESS_KEY_ID"]);
    let ended = rig.outcome(exec.env_remove("AWS_DEFAULT_REGION"));
    let out = ended.ok().says(&["'deploy' expire in "]).stdout;
    assert!(out.starts_with("eu-west-1 "), "{out}");
}

#[test]
fn every_setting_reaches_the_request() {
    let rig = rig();
    let dev = assuming_user(&rig, "dev");
    let arn = role(&rig, "partner", &root(&rig), Some("s3cret-handshake"));
    rig.home.write_credentials(format!("{}{}", rig.home.credentials(), dev.section("dev")));
    let config = |extra: &str| {
        rig.home.write_config(format!("[profile partner]\nrole_arn = {arn}\nsource_profile = dev\n{extra}"));
    };
    config("");
    rig.run(&["credential-process", "partner"]).exits(4).says(&["sts:AssumeRole"]);
    config("external_id = wrong\n");
    rig.run(&["credential-process", "partner"]).exits(4);
    config("external_id = s3cret-handshake\nduration_seconds = 7200\n");
    let (creds, at) = answer(&rig.run(&["credential-process", "partner"]).ok().stdout);
    assert!(rig.account.whoami(&creds).unwrap().contains(":assumed-role/partner/iam-sorry-partner"));
    assert!(at.unwrap() > in_seconds(7000));
    // What a kept answer depends on: another external id is another request.
    config("external_id = wrong\nduration_seconds = 7200\n");
    rig.run(&["credential-process", "partner"]).exits(4);
    config("external_id = s3cret-handshake\nmfa_serial = arn:aws:iam::1:mfa/dev\n");
    rig.run(&["credential-process", "partner"]).exits(2).says(&["MFA code of arn:aws:iam::1:mfa/dev"]);
}

#[test]
fn the_source_may_be_sealed_or_a_temporary_profile_that_has_to_be_renewed() {
    let (rig, dev) = with_role("source_profile = dev\n");
    rig.run(&["encrypt", "dev"]).ok();
    assert!(!rig.home.credentials().contains(&dev.secret));
    rig.account.whoami(&supplied(&rig, "deploy")).unwrap();

    let rig = with_kept_key();
    rig.account.put_policy(
        "admin",
        &json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}),
    );
    let arn = role(&rig, "deploy", &root(&rig), None);
    rig.home.write_config(format!("[profile deploy]\nrole_arn = {arn}\nsource_profile = admin\n"));
    expires_in(&rig, "admin", -1);
    supplied(&rig, "deploy");
    assert_eq!(rig.proxy.actions(), ["GetSessionToken", "GetCallerIdentity", "AssumeRole"]);
    // The user behind the source stays the same through its renewals, and so does the role's session.
    expires_in(&rig, "admin", -1);
    supplied(&rig, "deploy");
    assert_eq!(rig.proxy.count("AssumeRole"), 1);
}

#[test]
fn a_chain_of_roles_is_assumed_from_its_far_end_for_an_hour_at_most() {
    let (rig, _) = with_role("source_profile = dev\nduration_seconds = 7200\n");
    let last = role(&rig, "last", &root(&rig), None);
    let config = format!(
        "{}[profile last]\nrole_arn = {last}\nsource_profile = deploy\nduration_seconds = 43200\n",
        rig.home.config()
    );
    rig.home.write_config(config);
    rig.proxy.clear_calls();
    let (creds, at) = answer(&rig.run(&["credential-process", "last"]).ok().stdout);
    assert!(rig.account.whoami(&creds).unwrap().contains(":assumed-role/last/"));
    assert!(at.unwrap() < in_seconds(3700), "{at:?}");
    // The link in between is kept on its own.
    let (_, at) = answer(&rig.run(&["credential-process", "deploy"]).ok().stdout);
    assert!(at.unwrap() > in_seconds(7000));
    assert_eq!(rig.proxy.actions(), ["AssumeRole", "AssumeRole"]);
}

#[test]
fn credentials_of_the_environment_can_be_the_source() {
    let (rig, dev) = with_role("credential_source = Environment\n");
    let ended = rig.run(&["credential-process", "deploy"]);
    ended.exits(3).says(&["credential_source = Environment", "AWS_ACCESS_KEY_ID"]);
    let mut command = rig.command(&["credential-process", "deploy"]);
    command.env("AWS_ACCESS_KEY_ID", &dev.key).env("AWS_SECRET_ACCESS_KEY", &dev.secret);
    let (creds, _) = answer(&rig.outcome(&mut command).ok().stdout);
    assert!(rig.account.whoami(&creds).unwrap().contains(":assumed-role/deploy/"));
}

#[test]
fn a_profile_may_be_its_own_source_by_its_keys() {
    let (rig, dev) = with_role("source_profile = deploy\n");
    rig.home.write_credentials(format!("{}{}", rig.home.credentials(), dev.section("deploy")));
    let creds = supplied(&rig, "deploy");
    assert!(rig.account.whoami(&creds).unwrap().contains(":assumed-role/deploy/"));
    // As a source of another role its keys count, not its role: as AWS SDKs have it.
    let config = rig.home.config();
    let arn = config.lines().nth(1).unwrap().to_owned();
    rig.home.write_config(format!("{config}[profile other]\n{arn}\nsource_profile = deploy\n"));
    rig.proxy.clear_calls();
    supplied(&rig, "other");
    assert_eq!(rig.proxy.calls()[0].access_key, dev.key);
}

#[test]
fn another_programs_credential_process_can_be_the_source() {
    let (rig, dev) = with_role("source_profile = vault\n");
    let json = format!(r#"{{"Version":1,"AccessKeyId":"{}","SecretAccessKey":"{}"}}"#, dev.key, dev.secret);
    let script = rig.home.write_script("my tools/vault", &format!("[ \"$1\" = 'a $b' ] && echo '{json}'"));
    let config = format!(
        "{}[profile vault]\ncredential_process = \"{}\" 'a $b'\n",
        rig.home.config(),
        script.display()
    );
    rig.home.write_config(config);
    let creds = supplied(&rig, "deploy");
    assert!(rig.account.whoami(&creds).unwrap().contains(":assumed-role/deploy/"));

    // What goes wrong there is told, and nothing that it printed.
    for (body, said) in [
        ("exit 3", "exit status: 3"),
        ("echo hunter2", "not the JSON of a credential_process"),
        ("echo '{\"Version\":2,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"hunter2\"}'", "Version is 2"),
    ] {
        rig.home.write_script("my tools/vault", body);
        // Another length, so that the kept answer doesn't count.
        let ended = rig.run(&["--duration", "2", "credential-process", "deploy"]).exits(3);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        ended.says(&["credential_process of profile 'vault'", said]);
    }
}

#[test]
fn a_circle_of_source_profiles_is_an_error_that_shows_it() {
    let (rig, _) = with_role("source_profile = b\n");
    let arn = rig.home.config().lines().nth(1).unwrap().to_owned();
    let config = format!("{}[profile b]\n{arn}\nsource_profile = deploy\n", rig.home.config());
    rig.home.write_config(config);
    let ended = rig.run(&["credential-process", "deploy"]);
    ended.exits(3).says(&["in a circle: deploy -> b -> deploy", ".aws/config"]);
    rig.home.write_config(format!("[profile deploy]\n{arn}\nsource_profile = deploy\n"));
    rig.run(&["credential-process", "deploy"]).exits(3).says(&["in a circle: deploy -> deploy"]);
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
}

#[test]
fn what_is_wrong_with_a_role_profile_is_said_before_aws_is_asked() {
    let arn = "role_arn = arn:aws:iam::1:role/r\n";
    for (text, said) in [
        ("role_arn = deploy\nsource_profile = dev\n".to_owned(), "\"deploy\", which is no ARN of a role"),
        (format!("{arn}source_profile = nobody\n"), "'nobody' not found"),
        (format!("{arn}source_profile = dev\ncredential_source = Environment\n"), "both source_profile and"),
        (format!("{arn}credential_source = Ec2InstanceMetadata\n"), "\"Ec2InstanceMetadata\""),
        (format!("{arn}source_profile = dev\nduration_seconds = 60\n"), "900 to 43200"),
        (format!("{arn}source_profile = dev\nrole_session_name = a b\n"), "role_session_name is \"a b\""),
    ] {
        let rig = rig();
        let dev = assuming_user(&rig, "dev");
        rig.home.write_credentials(format!("{}{}", rig.home.credentials(), dev.section("dev")));
        rig.home.write_config(format!("[profile deploy]\n{text}"));
        rig.proxy.clear_calls();
        rig.run(&["credential-process", "deploy"]).exits(3).says(&[said, ".aws/config"]);
        assert_eq!(rig.proxy.actions(), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_role_that_can_not_be_renewed_is_used_to_its_end() {
    let (rig, _) = with_role("source_profile = dev\n");
    let creds = supplied(&rig, "deploy");
    // The kept answer as it would look 50 minutes later: made an hour ago, ten minutes left.
    let folder = rig.home.path().join(".local/state/iam-sorry/cache");
    let kept = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let kept = kept.into_iter().find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    let text = std::fs::read_to_string(&kept).unwrap();
    let age = |left: i64| {
        let mut json: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        json["Expiration"] = in_seconds(left).to_string().into();
        std::fs::write(&kept, format!("{json}\n{}\n", in_seconds(left - 3600))).unwrap();
    };
    rig.proxy.fault("AssumeRole", Fault::Status(503, "ServiceUnavailable"));
    age(10 * 60);
    let ended = rig.run(&["credential-process", "deploy"]).ok().says_about("valid for another ", 10 * 60);
    assert_eq!(answer(&ended.stdout).0, creds);
    age(-1);
    assert_eq!(rig.run(&["credential-process", "deploy"]).exits(4).stdout, "");
    rig.proxy.clear_faults();
    assert_ne!(supplied(&rig, "deploy"), creds);
}
