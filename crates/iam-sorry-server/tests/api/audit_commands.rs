//! `iam-sorryd audit`, and a service whose required sink is away.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use serde_json::json;

use super::department::Department;

const SQLITE: &str = "path = \"{dir}/store.db\"";

fn eventually(department: &Department, what: &str, check: impl Fn() -> bool) {
    let met = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        check()
    });
    assert!(met, "{what}: {}", department.service.log());
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_new_key_is_private_and_never_overwrites_one() {
    let department = Department::prepared("path = \"{dir}/store.db\"");
    let mode = |name: &str| std::fs::metadata(department.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("audit.key"), mode("audit.key.pub")), (0o600, 0o600));
    let before = std::fs::read(department.path("audit.key")).unwrap();
    let again = department.service.command(&["audit", "new-key", "audit.key"]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert_eq!(std::fs::read(department.path("audit.key")).unwrap(), before);
    // openssl reads both: they are what they say (PKCS#8, SubjectPublicKeyInfo).
    let derived = std::process::Command::new("openssl")
        .args(["pkey", "-pubout", "-in", &department.path("audit.key")])
        .output()
        .unwrap();
    let public = std::fs::read_to_string(department.path("audit.key.pub")).unwrap();
    assert_eq!(String::from_utf8(derived.stdout).unwrap().trim(), public.trim());
}

#[test]
fn an_export_of_the_machine_verifies_and_every_way_to_falsify_it_is_found() {
    let department = Department::new();
    let ada = department.sign_in("ada");
    for n in 0..5 {
        assert_eq!(department.post("/users", &ada, json!({"name": format!("dirk-{n}")})).status, 200);
    }
    let (status, log) = department.service.stop();
    assert_eq!(status, 0, "{log}");
    let export = |file: &str, more: &[&str]| {
        let arguments = ["audit", "export", "--config", "iam-sorryd.toml", "-o", file];
        let output = department.service.command(&[&arguments[..], more].concat());
        assert!(output.status.success(), "{}", said(&output));
    };
    export("whole.jsonl", &[]);
    let verify = |text: &str, more: &[&str]| {
        department.service.write("given.jsonl", text);
        let arguments =
            ["audit", "verify", "given.jsonl", "--key", "audit.key.pub", "--longest-unsigned", "0"];
        let output = department.service.command(&[&arguments[..], more].concat());
        (output.status.code(), said(&output))
    };
    let whole = std::fs::read_to_string(department.path("whole.jsonl")).unwrap();
    let (code, text) = verify(&whole, &[]);
    assert_eq!(code, Some(0), "{text}");
    let expect = text.split("--expect ").nth(1).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(verify(&whole, &["--expect", &expect]).0, Some(0));
    // That it was read is in it.
    assert!(whole.contains("\"action\":\"export-audit\""));

    let lines: Vec<&str> = whole.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    let mut removed = lines.clone();
    removed.remove(4);
    let cut: Vec<&str> = lines[..lines.len() - 4].to_vec();
    let falsified = [
        ("changed", whole.replacen("\"name\":\"ada\"", "\"name\":\"adb\"", 1)),
        ("removed", join(&removed)),
        ("swapped", join(&swapped)),
        ("cut", join(&cut)),
        (
            "doubled and changed",
            join(
                &[&lines[..4], &[&*lines[3].replacen("\"name\":\"", "\"name\":\"x", 1)], &lines[4..]]
                    .concat(),
            ),
        ),
        ("garbage", whole.clone() + "{}\n"),
        ("empty", String::new()),
    ];
    for (what, text) in falsified {
        assert_ne!(text, whole, "{what}");
        let (code, text) = verify(&text, &["--expect", &expect]);
        assert_eq!(code, Some(3), "{what}: {text}");
    }
    // A line that was delivered twice is said, and no falsification.
    let (code, text) = verify(&join(&[&lines[..4], &lines[3..]].concat()), &["--expect", &expect]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 repeated lines, each identical to the first"), "{text}");
    let other = department.service.command(&["audit", "new-key", "other.key"]);
    assert!(other.status.success());
    let arguments = ["audit", "verify", "whole.jsonl", "--key", "other.key.pub"];
    assert_eq!(department.service.command(&arguments).status.code(), Some(3), "signed by another key");

    // A part of it, and another form.
    export("later.jsonl", &["--from", "2999-01-01T00:00:00Z"]);
    assert_eq!(std::fs::read_to_string(department.path("later.jsonl")).unwrap().lines().count(), 1);
    export(
        "ocsf.jsonl",
        &["--format", "ocsf", "--from", "2000-01-01T00:00:00Z", "--to", "2999-01-01T00:00:00Z"],
    );
    let ocsf = std::fs::read_to_string(department.path("ocsf.jsonl")).unwrap();
    assert!(ocsf.lines().count() > 10 && ocsf.lines().all(|line| line.contains("\"class_uid\"")));
}

/// No audit, no action: a required collector that is away stops actions, not reading, and says so on /readyz.
#[test]
fn a_required_sink_that_is_away_stops_actions_until_it_is_back() {
    let department = Department::prepared(SQLITE);
    let port = testkit::free_port();
    let config = std::fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    let sink = format!(
        "[[audit.sink]]\nname = \"collector\"\nrequired = true\nmost_seconds_behind = 2\n\
         http = {{ url = \"http://127.0.0.1:{port}/\" }}\n[rules]"
    );
    department.service.write("iam-sorryd.toml", &config.replacen("[rules]", &sink, 1));
    department.run();
    let ada = department.sign_in("ada");
    let create = |name: &str| department.post("/users", &ada, json!({"name": name}));
    eventually(&department, "readiness to end", || department.service.get("/readyz").unwrap().status == 503);
    let refused = create("dirk-x");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("audit-unavailable")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("collector"), "{refused:?}");
    assert_eq!(department.proxy.count("CreateUser"), 0);
    assert_eq!(department.get("/me", &ada).status, 200, "reading goes on");
    assert_eq!(department.get("/audit", &ada).status, 200);
    let ready = department.service.get("/readyz").unwrap();
    assert!(ready.body.contains("collector") && !ready.body.contains("127.0.0.1"), "{ready:?}");

    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            collect(stream.unwrap());
        }
    });
    eventually(&department, "actions to come back", || create("dirk-y").status == 200);
    eventually(&department, "readiness", || department.service.get("/readyz").unwrap().status == 200);
}

/// vault#31718 and house rule "no audit, no action": the disk of a required file sink is full.
#[test]
fn a_full_disk_under_the_audit_file_stops_actions_and_loses_nothing() {
    // The program in a mount namespace of its own, with a disk of 256 KiB at `small`.
    let folder = testkit::short_temp_dir();
    let script = folder.path().join("iam-sorryd");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = serve ] || exec {0} \"$@\"\nexport BIN={0}\nexec unshare --user --map-root-user --mount sh -c \\\n\
         'mkdir -p \"$HOME/small\" && mount -t tmpfs -o size=256k tmpfs \"$HOME/small\" && exec \"$BIN\" \"$@\"' sh \"$@\"\n",
        env!("CARGO_BIN_EXE_iam-sorryd")
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let department = Department::prepared_with(SQLITE, &script);
    let config = std::fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    let config = config
        .replace("/audit.jsonl\" }", "/small/audit.jsonl\" }\nmost_records_behind = 5")
        .replace("listen =", "# Its HOME is the folder with the small disk.\nlisten =");
    department.service.write("iam-sorryd.toml", &config);
    department.service.set_env("HOME", department.service.dir());
    department.run();
    let ada = department.sign_in("ada");
    assert_eq!(department.post("/users", &ada, json!({"name": "dirk-a"})).status, 200);
    // The disk as the process sees it (proc(5), /proc/PID/root).
    let small = format!("/proc/{}/root{}", department.service.pid(), department.path("small"));
    let filler = format!("{small}/filler");
    let mut disk = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut disk, &[0; 1024]).is_ok() {}
    drop(disk);

    let explain =
        || department.post("/explain", &ada, json!({"action": "create-user", "resource": "dirk-b"}));
    eventually(&department, "actions to stop", || {
        let _ = department.get("/audit", &ada); // each reading is a record
        department.post("/users", &ada, json!({"name": "dirk-b"})).status == 503
    });
    assert_eq!(explain().status, 200, "reading goes on");
    assert_eq!(department.service.get("/readyz").unwrap().status, 503);
    std::fs::remove_file(&filler).unwrap();
    eventually(&department, "actions to come back", || {
        department.post("/users", &ada, json!({"name": "dirk-c"})).status == 200
    });
    let whole = || std::fs::read_to_string(format!("{small}/audit.jsonl")).unwrap();
    // Nothing is missing, doubled or half.
    eventually(&department, "the file to be whole and signed", || {
        let text = whole();
        department.service.write("given.jsonl", &text);
        let arguments = ["audit", "verify", "given.jsonl", "--key", "audit.key.pub"];
        text.contains("dirk-c") && department.service.command(&arguments).status.success()
    });
}

/// Takes one POST, whole.
fn collect(mut stream: std::net::TcpStream) {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
}
