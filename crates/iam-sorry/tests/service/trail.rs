//! The audit trail as a person and as an auditor see it; verification without the service.

use crate::rig::Department;
use testkit::Outcome;

#[test]
fn mine_and_everybodys() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let erin = department.signed_in("erin");
    alice.run(&["users", "create", "dirk-a"]).ok();
    alice.run(&["users", "create", "ada-x"]).exits(4);
    alice.run(&["audit", "list"]).ok().prints(&[
        "RECORD",
        "alice",
        "create-user",
        "dirk-a",
        "success",
        "denied",
    ]);
    let mine =
        alice.run(&["audit", "list", "--action", "create-user", "--resource", "dirk-a", "--json"]).ok();
    let mine: serde_json::Value = serde_json::from_str(&mine.stdout).unwrap();
    assert_eq!(mine.as_array().unwrap().len(), 2, "intent and outcome: {mine}");
    alice.run(&["audit", "list", "--all"]).exits(4);
    erin.run(&["audit", "list", "--all", "--person", "alice", "--limit", "2"]).ok().prints(&["alice"]);

    let file = erin.home.path().join("trail.jsonl");
    let path = file.display().to_string();
    erin.run(&["audit", "export", "--all", "-o", &path]).ok().says(&["lines in"]);
    let verify = |more: &[&str]| {
        let mut arguments = vec!["audit", "verify", &path];
        arguments.extend(more);
        erin.run(&arguments)
    };
    let sound = verify(&[])
        .ok()
        .prints(&["Nothing is missing, changed or out of place"])
        .says(&["No public key was given"]);
    let expect = sound.stdout.lines().last().unwrap().trim().strip_prefix("--expect ").unwrap().to_owned();
    verify(&["--expect", &expect]).ok();
    // A cut tail shows against what was noted; a changed field by itself.
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"checkpoint\"")).collect();
    std::fs::write(&file, lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    verify(&[]).ok();
    verify(&["--expect", &expect]).exits(1).says(&["the end was cut off"]);
    std::fs::write(&file, text.replacen("\"name\":\"alice\"", "\"name\":\"carol\"", 1)).unwrap();
    verify(&[]).exits(1).says(&["was changed: its hash is not that of its content"]);
    // A part of it can't be verified, and says so.
    erin.run(&["audit", "export", "--all", "--person", "alice", "-o", &path]).ok();
    verify(&[]).exits(1).says(&["This export can't be verified"]);
    // OCSF is for reading.
    let ocsf = erin.run(&["audit", "export", "--all", "--format", "ocsf"]).ok().stdout;
    let first: serde_json::Value = serde_json::from_str(ocsf.lines().next().unwrap()).unwrap();
    assert!(first["class_uid"].is_u64(), "{first}");
}

/// Signed checkpoints of the real service, verified with its public key alone.
#[test]
fn an_export_is_verified_with_the_public_key() {
    let department = Department::new();
    let erin = department.signed_in("erin");
    let path = erin.home.path().join("trail.jsonl").display().to_string();
    let key = department.service.dir().join("audit.key.pub").display().to_string();
    let begun = std::time::Instant::now();
    let verified = loop {
        erin.run(&["audit", "export", "--all", "-o", &path]).ok();
        let verified = erin.run(&["audit", "verify", &path, "--key", &key]);
        if verified.code == 0 {
            break verified;
        }
        assert!(begun.elapsed().as_secs() < 60, "no checkpoint yet: {verified:?}");
        std::thread::sleep(std::time::Duration::from_millis(300));
    };
    verified.prints(&["records behind the last one", "Nothing is missing, changed or out of place"]);
    let other = department.service.dir().join("other.key").display().to_string();
    assert!(department.service.command(&["audit", "new-key", &other]).status.success());
    let other = other + ".pub";
    erin.run(&["audit", "verify", &path, "--key", &other])
        .exits(1)
        .says(&["signed with a key that was not given"]);
    // iam-sorryd says the same of it.
    let daemon = department.service.command(&["audit", "verify", &path, "--key", &key]);
    assert!(daemon.status.success(), "{}", String::from_utf8_lossy(&daemon.stderr));
}

#[test]
fn files_that_are_no_export() {
    let home = testkit::Home::new();
    let run = |args: &[&str]| Outcome::of(home.command(env!("CARGO_BIN_EXE_iam-sorry")).args(args));
    run(&["audit", "verify", "/nonexistent"]).exits(2).says(&["can't be read"]);
    run(&["audit", "verify", "/dev/null"]).exits(1).says(&["there is no record in it"]);
    run(&["audit", "verify", "/bin/sh"]).exits(1).says(&["line 1 can't be read"]);
    let key = home.path().join("key");
    std::fs::write(&key, "ssh-ed25519 AAAA").unwrap();
    run(&["audit", "verify", "/dev/null", "--key", &key.display().to_string()])
        .exits(2)
        .says(&["no public key in PEM"]);
    run(&["audit", "verify", "/dev/null", "--expect", "12"]).exits(2).says(&["no state of a trail"]);
}
