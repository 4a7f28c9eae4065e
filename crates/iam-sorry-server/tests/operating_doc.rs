//! docs/operating.md as an operator would follow it: its files, and every `iam-sorryd` command in it, against a real
//! directory and an AWS emulator that checks signatures and evaluates policies. What the page says is what is tested.
#![expect(clippy::unwrap_used, reason = "a rig that cannot start fails its test")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::{Account, Creds, Ministack, Service, Slapd, SlapdOptions, workspace};

const DATABASE: &str = "/var/lib/iam-sorryd";

fn page() -> String {
    fs::read_to_string(workspace().join("docs/operating.md")).unwrap()
}

/// The block that follows `<!-- NAME -->`.
fn block(name: &str) -> String {
    let page = page();
    let rest =
        page.split(&format!("<!-- {name} -->\n```")).nth(1).unwrap_or_else(|| panic!("no block {name}"));
    let (_, rest) = rest.split_once('\n').unwrap();
    rest.split("```\n").next().unwrap().to_owned()
}

/// Every command of the page that is one of the service's own, without `sudo` and redirections.
fn commands() -> Vec<Vec<String>> {
    let page = page();
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let own = lines.filter_map(|line| {
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        line.strip_prefix("-u iam-sorryd ").unwrap_or(line).strip_prefix("iam-sorryd ")
    });
    own.map(|line| line.split('>').next().unwrap().split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_files_on_the_page_are_those_that_the_package_brings() {
    for name in ["config.toml", "rules/department.cedar", "cases.toml"] {
        let packaged = fs::read_to_string(workspace().join("packaging/iam-sorryd").join(name)).unwrap();
        assert_eq!(block(name), packaged, "docs/operating.md and packaging/iam-sorryd/{name} differ");
    }
}

#[test]
fn an_operator_gets_from_nothing_to_a_verified_export() {
    let account = Ministack::shared().account();
    for name in ["department-boundary", "department-projects"] {
        let document =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
        account.call("iam", "create_policy", json!({"PolicyName": name, "PolicyDocument": document}));
    }
    let slapd = directory();
    let service = Service::new(Path::new(env!("CARGO_BIN_EXE_iam-sorryd")));
    let here = |text: &str| {
        let dir = service.dir().display().to_string();
        text.replace("/etc/iam-sorryd", &format!("{dir}/etc"))
            .replace(DATABASE, &format!("{dir}/lib"))
            .replace("/var/log/iam-sorryd", &format!("{dir}/log"))
    };
    for folder in ["etc", "lib", "lib-audit", "log"] {
        fs::create_dir(service.dir().join(folder)).unwrap();
    }
    service.write("etc/rules/department.cedar", &block("rules/department.cedar"));
    service.write("etc/cases.toml", &block("cases.toml"));
    service.write("etc/bind-password", slapd.service_password());
    service.write("etc/aws-secret", "not yet");
    let config = |key: &str| here(&config(&account, &slapd, key));
    let path = service.write("iam-sorryd.toml", &config("AKIANOTYET")).display().to_string();
    let run = |words: &[String]| {
        let mut words: Vec<String> = words.iter().map(|word| here(word)).collect();
        let offline = words[0] == "audit" && ["new-key", "verify"].contains(&words[1].as_str());
        if !offline {
            words.extend(["--config".to_owned(), path.clone()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = service.command(&words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let good = |words: &[String]| {
        let (code, out, err) = run(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        out
    };
    let all = commands();
    let of = |verb: &str| -> Vec<Vec<String>> {
        let found: Vec<_> = all.iter().filter(|words| words.join(" ").starts_with(verb)).cloned().collect();
        assert!(!found.is_empty(), "the page has no {verb}");
        found
    };

    // Sections 3 and 7: the identity with the printed policy and nothing else, and the audit key.
    for words in of("audit new-key") {
        good(&words);
    }
    let policy: Value = serde_json::from_str(&good(&of("policy")[0])).unwrap();
    let key = identity(&account, &policy);
    service.write("etc/aws-secret", &key.secret);
    service.write("iam-sorryd.toml", &config(&key.key));

    // Sections 2, 5 and 8.
    for verb in ["check-config", "rules check", "rules test", "rules explain", "migrate"] {
        for words in of(verb) {
            let out = good(&words);
            assert!(verb != "rules explain" || out.contains("allowed"), "{out}");
        }
    }
    service.run();
    let jan = sign_in(&service, "jan");
    let marie = sign_in(&service, "marie");
    for (token, name, status) in [
        (&jan, "lab-weber-simulation", 201),
        (&jan, "lab-curie-simulation", 403),
        (&marie, "lab-curie-scope", 201),
        (&marie, "lab-weber-scope", 403),
    ] {
        let answer = service.api("POST", "/users", token, &json!({"name": name})).unwrap();
        let done = if answer.status == 200 { 201 } else { answer.status };
        assert_eq!(done, status, "{name}: {}", answer.body);
    }
    let asked = json!({"user": "lab-weber-simulation"});
    let issued = service.api("POST", "/credentials", &jan, &asked).unwrap().json();
    let field = |name: &str| issued[name].as_str().unwrap_or_else(|| panic!("{issued}")).to_owned();
    let mut session = Creds::new(field("access_key_id"), field("secret_access_key"));
    session.token = Some(field("session_token"));
    assert!(account.whoami(&session).unwrap().ends_with("user/iam-sorry/lab-weber/lab-weber-simulation"));
    assert_eq!(service.stop().0, 0);

    // Section 9.
    good(&of("audit export")[0]);
    let mut verify = of("audit verify")[0].clone();
    for word in &mut verify {
        if word == "export.jsonl" {
            *word = format!("{DATABASE}/export.jsonl");
        } else if word == "audit-key.pem.pub" {
            *word = "/etc/iam-sorryd/audit-key.pem.pub".to_owned();
        }
    }
    good(&verify);
    let export = here(&format!("{DATABASE}/export.jsonl"));
    let text = fs::read_to_string(&export).unwrap();
    assert!(text.contains("lab-weber-simulation") && text.contains("\"checkpoint\""), "{text}");
    for secret in [&session.secret, session.token.as_ref().unwrap(), &key.secret, &jan] {
        assert!(!text.contains(secret.as_str()), "a secret in the export");
    }
    fs::write(&export, text.replacen("lab-weber-simulation", "lab-weber-simulatiom", 1)).unwrap();
    let (code, out, err) = run(&verify);
    assert_eq!(code, 3, "a changed record was not noticed: {out}{err}");

    // Backup and restore: the page's command on a copy from before anything was done.
    let page = page();
    let line = page.lines().find(|line| line.contains("iam-sorryd audit restored --reason \"")).unwrap();
    let reason = line.split('"').nth(1).unwrap();
    good(&["audit", "restored", "--reason", reason].map(str::to_owned));
    good(
        &of("audit export")[0]
            .iter()
            .map(|word| word.replace("export.jsonl", "again.jsonl"))
            .collect::<Vec<_>>(),
    );
    for word in &mut verify {
        *word = word.replace("export.jsonl", "again.jsonl");
    }
    assert!(good(&verify).contains(reason));
}

/// The page's configuration, with this test's directory, account and port.
fn config(account: &Account, slapd: &Slapd, key: &str) -> String {
    let mut config = block("config.toml");
    let mut change = |from: &str, to: &str| {
        assert!(config.contains(from), "the configuration on the page has no {from}");
        config = config.replace(from, to);
    };
    change("https://aws.physics.example.edu", "{origin}");
    change("\"127.0.0.1:8750\"", "\"{address}\"");
    change("\"127.0.0.1:8751\"", &format!("\"127.0.0.1:{}\"", testkit::free_port()));
    change("eu-central-1", "us-east-1");
    change("123456789012", account.id());
    change("AKIAEXAMPLE", key);
    let endpoint = account.endpoint();
    change(
        "identity =",
        &format!("endpoint_sts = \"{endpoint}\"\nendpoint_iam = \"{endpoint}\"\nidentity ="),
    );
    let urls = "[\"ldaps://ldap1.physics.example.edu\", \"ldaps://ldap2.physics.example.edu\"]";
    change(urls, &format!("[\"{}\"]", slapd.tls_url()));
    change(
        "#ca_file = \"/etc/iam-sorryd/ldap-ca.pem\"",
        &format!("ca_file = \"{}\"", slapd.ca_file().display()),
    );
    change("cn=iam-sorry,ou=services,dc=physics,dc=example,dc=edu", &slapd.service_dn());
    change("ou=people,dc=physics,dc=example,dc=edu", &slapd.people_base());
    change("ou=groups,dc=physics,dc=example,dc=edu", &slapd.groups_base());
    config
}

/// Two groups with somebody in each.
fn directory() -> Slapd {
    let slapd = Slapd::start(&SlapdOptions { tls: true, ..SlapdOptions::default() });
    for (name, group) in [("jan", "lab-weber"), ("marie", "lab-curie")] {
        let person = slapd.add_person(name, name, &format!("{name}-password"));
        slapd.add_group(group, &[&person]);
    }
    slapd
}

/// What section 3 does with an administrator's credentials. This emulator matches a user by name without the path, and has
/// neither of the condition keys `iam:PermissionsBoundary` and `iam:PolicyARN`: the printed actions are what is tried here,
/// their resources and conditions are checked in the AWS crate.
fn identity(account: &Account, policy: &Value) -> Creds {
    let mut policy: Value =
        serde_json::from_str(&policy.to_string().replace(":user/iam-sorry/*", ":user/*")).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement.as_object_mut().unwrap().remove("Condition");
    }
    account.user("iam-sorryd");
    account.put_policy("iam-sorryd", &policy);
    account.key("iam-sorryd")
}

fn sign_in(service: &Service, name: &str) -> String {
    let body = json!({"username": name, "password": format!("{name}-password")});
    let answer = service.api("POST", "/login/ldap", "", &body).unwrap().json();
    answer["token"].as_str().unwrap_or_else(|| panic!("{answer}\n{}", service.log())).to_owned()
}
