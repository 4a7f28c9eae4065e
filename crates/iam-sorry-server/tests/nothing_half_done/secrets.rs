//! Every byte that the program writes (database, log, audit copies, standard output and error) is free of every secret that
//! it handed out or was given, at the most talkative level of logging.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Service, Slapd};

use crate::department::{Database, Department};

#[test]
fn every_byte_written_is_free_of_every_secret() {
    let department = Department::new();
    let instance = department.instance_that_logs(&Database::Sqlite, "debug");
    let slapd = Slapd::department();
    with_directory(&instance.service, &slapd);
    instance.service.run();
    let mut secrets = vec![department.key.secret.clone(), department.token.clone()];
    secrets.push(slapd.service_password().to_owned());
    let sign_in = |password: &str| {
        let body = json!({"username": "alice", "password": password});
        instance.service.api("POST", "/login/ldap", "", &body).unwrap()
    };
    for (password, status) in [("alice-password", 200), ("alice-passwort-mistyped", 401)] {
        let answer = sign_in(password);
        assert_eq!(answer.status, status, "{answer:?}");
        secrets.push(password.to_owned());
        if let Some(token) = answer.json()["token"].as_str() {
            let own = instance.service.api("GET", "/me", token, &json!(null)).unwrap();
            assert_eq!(own.status, 200, "{own:?}");
            secrets.push(token.to_owned());
        }
    }
    let mut keep = |answer: &Value, names: &[&str]| {
        for name in names {
            secrets.push(answer[name].as_str().unwrap_or_else(|| panic!("{name}: {answer}")).to_owned());
        }
    };
    instance.done("POST", "/users", &json!({"name": "dirk-a"}));
    let made = instance.done("POST", "/users/dirk-a/keys", &json!(null));
    keep(&made, &["secret_access_key"]);
    let id = made["access_key_id"].as_str().unwrap();
    let rotated = instance.done("POST", &format!("/users/dirk-a/keys/{id}/rotate"), &json!(null));
    keep(&rotated, &["secret_access_key"]);
    for body in [
        json!({"user": "dirk-a", "duration_seconds": 900}),
        json!({"role": department.role, "duration_seconds": 900}),
    ] {
        keep(&instance.done("POST", "/credentials", &body), &["secret_access_key", "session_token"]);
    }
    // Refusals and mistakes are written down too.
    instance.authz_request("POST", "/users", &json!({"name": "lab-x"}));
    instance.authz_request("POST", "/credentials", &json!({"user": "dirk-none", "role": "x"}));
    instance.done("DELETE", "/users/dirk-a", &json!(null));
    // The copy of the trail is written within a second or so.
    let copy = instance.service.dir().join("audit.jsonl");
    let start = std::time::Instant::now();
    while !std::fs::read_to_string(&copy)
        .is_ok_and(|text| text.contains("delete-user") && text.contains("checkpoint"))
    {
        assert!(start.elapsed().as_secs() < 30, "{}", instance.service.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (status, log) = instance.service.stop();
    assert_eq!(status, 0, "{log}");

    assert_eq!(secrets.len(), 12);
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for secret in &secrets {
        assert!(!has(log.as_bytes(), secret), "a secret is in the log");
    }
    let (mut files, mut known) = (0, 0);
    every_file(instance.service.dir(), &mut |path| {
        // Where the test itself put the service's own secrets.
        if path.ends_with("aws-secret") || path.ends_with("bind-password") {
            return;
        }
        let bytes = std::fs::read(path).unwrap();
        files += 1;
        for secret in &secrets {
            assert!(!has(&bytes, secret), "a secret is in {}", path.display());
        }
        // The search finds what is there: the key's id, in the database and in the copy.
        known += usize::from(has(&bytes, id));
    });
    assert!(files >= 6 && known >= 2, "{files} {known}");
}

/// The directory's people may sign in too.
fn with_directory(service: &Service, slapd: &Slapd) {
    service.write("bind-password", slapd.service_password());
    let config = std::fs::read_to_string(service.dir().join("iam-sorryd.toml")).unwrap();
    let ldap = format!(
        "[login.ldap]\nname = \"corp\"\nurls = [{:?}]\nbind_dn = {:?}\nusers_base = {:?}\ngroups_base = {:?}\n\
         bind_password = {{ file = \"{{dir}}/bind-password\" }}\n",
        slapd.url(),
        slapd.service_dn(),
        slapd.people_base(),
        slapd.groups_base(),
    );
    service.write("iam-sorryd.toml", &format!("{config}{ldap}"));
}

fn every_file(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, visit) } else { visit(&path) }
    }
}
