//! A database that is not the one that was signed: an old copy, a cut one, a new one, one that is gone. Nothing is signed
//! and nothing is done, /readyz says why, and only the operator's own command goes on, which the trail keeps.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;
use testkit::{Ministack, Postgres, Service};

use super::department::Department;

const SQLITE: &str = "path = \"{dir}/store.db\"";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn eventually(department: &Department, what: &str, check: impl Fn() -> bool) {
    let met = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        check()
    });
    assert!(met, "{what}: {}", department.service.log());
}

/// A running department with one user, whose trail is signed up to its end, in the sink as well.
fn department(store: &str) -> (Department, String) {
    let department = Department::prepared(store);
    department.run();
    let ada = department.sign_in("ada");
    create(&department, &ada, "dirk-a");
    (department, ada)
}

/// Makes a user, and waits until the sink has it signed.
fn create(department: &Department, token: &str, name: &str) {
    let made = department.post("/users", token, json!({"name": name}));
    assert_eq!(made.status, 200, "{made:?}");
    eventually(department, "the sink to have it signed", || {
        let text = fs::read_to_string(department.path("audit.jsonl")).unwrap_or_default();
        text.contains(name) && text.lines().last().is_some_and(|line| line.contains("\"checkpoint\""))
    });
}

fn command(department: &Department, words: &[&str]) -> Output {
    let config = department.path("iam-sorryd.toml");
    department.service.command(&[words, &["--config", &config]].concat())
}

/// Copies a file while the service is stopped; an SQLite database with what is still in its log.
fn copy(department: &Department, from: &str, to: &str) {
    let (from, to) = (department.path(from), department.path(to));
    if !from.contains(".db") {
        fs::copy(from, to).unwrap();
        return;
    }
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{to}{end}"));
    }
    sqlite(&from, &format!("c.backup(sqlite3.connect('{to}'))"));
}

/// Runs Python with an SQLite connection `c` to a file, beside the service.
fn sqlite(path: &str, script: &str) {
    let script =
        format!("import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=30)\n{script}\nc.commit()");
    let done = Command::new(testkit::venv_bin("python")).args(["-c", &script, path]).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

/// Takes the last records away, as somebody with the file or the database's password can.
const CUT: &str = "DELETE FROM audit_words WHERE seq > (SELECT max(seq) - 3 FROM audit);
    UPDATE lanes SET seq = seq - 3, hash = (SELECT hash FROM audit WHERE seq = (SELECT max(seq) - 3 FROM audit))
        WHERE n = (SELECT max(seq) >> 36 FROM audit);
    DELETE FROM checkpoints;
    DELETE FROM audit WHERE seq > (SELECT max(seq) - 3 FROM audit);";

fn cut_sqlite(path: &str) {
    sqlite(
        path,
        &format!(
            "for (name,) in c.execute(\"SELECT name FROM sqlite_master WHERE type = 'trigger'\").fetchall():
    c.execute(f'DROP TRIGGER {{name}}')
c.executescript('''{CUT}''')"
        ),
    );
}

/// Nothing is done, nobody signs in, reading goes on, /readyz has the words.
fn stands_still(department: &Department, token: &str, words: &str) {
    eventually(department, "/readyz to say it", || {
        department.service.get("/readyz").is_ok_and(|ready| ready.status == 503 && ready.body.contains(words))
    });
    let ready = department.service.get("/readyz").unwrap();
    assert!(!ready.body.contains(&department.path("")), "no path is public: {}", ready.body);
    department.proxy.clear_calls();
    let signatures = signatures(department);
    let refused = department.post("/users", token, json!({"name": "dirk-never"}));
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (503, Some("audit-unavailable")),
        "{refused:?}"
    );
    let public = fs::read_to_string(department.path("bob.pub")).unwrap();
    let refused = department.post("/login/ssh/challenge", "", json!({"public_key": public.trim()}));
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (503, Some("audit-unavailable")),
        "{refused:?}"
    );
    assert_eq!(department.get("/me", token).status, 200, "reading goes on");
    assert_eq!(department.get("/audit", token).status, 503, "but for the trail: its reading is a record");
    // Longer than between two checkpoints.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(self::signatures(department), signatures, "nothing is signed");
    assert_eq!(department.proxy.count("CreateUser"), 0);
    eventually(department, "the log to name the command", || {
        department.service.log().contains("audit restored")
    });
}

/// How many checkpoints have left the database.
fn signatures(department: &Department) -> usize {
    let count = |name: &str| {
        fs::read_to_string(department.path(name)).unwrap_or_default().matches("\"checkpoint\":").count()
    };
    count("audit.jsonl") + count("audit.key.signed")
}

/// The operator's command; afterwards everything works, and an export verifies and names the break.
fn goes_on(department: &Department) {
    let (status, log) = department.service.stop();
    assert_eq!(status, 0, "{log}");
    let restored = command(department, &["audit", "restored", "--reason", "the disk was lost"]);
    assert!(restored.status.success(), "{}", said(&restored));
    department.service.run();
    let ada = department.sign_in("ada");
    let name = format!("dirk-later-{}", fs::metadata(department.path("audit.key.signed")).unwrap().len());
    assert_eq!(department.post("/users", &ada, json!({"name": name})).status, 200);
    assert_eq!(department.service.stop().0, 0);
    let text = verified(department);
    assert!(text.contains("the disk was lost"), "{text}");
    // The sinks go on as well, and start as usual.
    department.service.run();
    let verified = department.service.command(&["audit", "verify", "audit.jsonl", "--key", "audit.key.pub"]);
    assert!(verified.status.success(), "{}", said(&verified));
}

/// What `audit verify` says of an export, which must be sound.
fn verified(department: &Department) -> String {
    let exported = command(department, &["audit", "export", "-o", "export.jsonl"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let verified = department.service.command(&["audit", "verify", "export.jsonl", "--key", "audit.key.pub"]);
    assert!(verified.status.success(), "{}", said(&verified));
    said(&verified)
}

#[test]
fn an_old_copy_that_was_put_back_while_it_was_stopped() {
    let (department, ada) = department(SQLITE);
    assert_eq!(department.service.stop().0, 0);
    copy(&department, "store.db", "old.db");
    department.service.run();
    create(&department, &ada, "dirk-b");
    assert_eq!(department.service.stop().0, 0);
    copy(&department, "old.db", "store.db");
    department.service.launch();
    stands_still(&department, &ada, "older copy");
    // `migrate` has nothing to say about it, and a restart changes nothing.
    assert_eq!(department.service.stop().0, 0);
    assert!(command(&department, &["migrate"]).status.success());
    department.service.launch();
    stands_still(&department, &ada, "older copy");
    let beside = command(&department, &["audit", "restored", "--reason", "x"]);
    assert!(!beside.status.success() && said(&beside).contains("Stop it first"), "{}", said(&beside));
    goes_on(&department);
    let kept = fs::read_dir(department.service.dir()).unwrap().filter_map(Result::ok);
    let kept: Vec<_> = kept.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let kept =
        kept.iter().find(|name| name.starts_with("audit.jsonl.damaged-")).expect("the sink's file is kept");
    assert!(fs::read_to_string(department.path(kept)).unwrap().contains("dirk-b"));
}

/// The state beside the key and the sink each know it alone.
#[test]
fn each_witness_alone_is_enough() {
    for kept in ["audit.key.signed", "audit.jsonl"] {
        let (department, ada) = department(SQLITE);
        assert_eq!(department.service.stop().0, 0);
        let old = ["store.db", "audit.key.signed", "audit.jsonl"];
        // By these names none is a file that the sink was rotated to.
        for name in old {
            copy(&department, name, &format!("old.{name}"));
        }
        department.service.run();
        create(&department, &ada, "dirk-b");
        assert_eq!(department.service.stop().0, 0);
        for name in old.into_iter().filter(|name| *name != kept) {
            copy(&department, &format!("old.{name}"), name);
            fs::remove_file(department.path(&format!("old.{name}"))).unwrap();
        }
        department.service.launch();
        stands_still(&department, &ada, "older copy");
        goes_on(&department);
    }
}

/// What the sink was rotated to knows the abandoned future as well, and may be the only one that does: between a rotation
/// and the next record, there is no other file.
#[test]
fn a_rotated_file_with_what_the_copy_does_not_have() {
    for only_rotated in [true, false] {
        let (department, ada) = department(SQLITE);
        assert_eq!(department.service.stop().0, 0);
        // In the trail that goes on as well, so it stays.
        fs::rename(department.path("audit.jsonl"), department.path("audit.jsonl.2")).unwrap();
        for name in ["store.db", "audit.key.signed"] {
            copy(&department, name, &format!("{name}.old"));
        }
        department.service.run();
        create(&department, &ada, "dirk-b");
        if only_rotated {
            assert_eq!(department.service.stop().0, 0);
            fs::rename(department.path("audit.jsonl"), department.path("audit.jsonl.1")).unwrap();
        } else {
            fs::rename(department.path("audit.jsonl"), department.path("audit.jsonl.1")).unwrap();
            create(&department, &ada, "dirk-c");
            assert_eq!(department.service.stop().0, 0);
        }
        for name in ["store.db", "audit.key.signed"] {
            copy(&department, &format!("{name}.old"), name);
            fs::remove_file(department.path(&format!("{name}.old"))).unwrap();
        }
        department.service.launch();
        stands_still(&department, &ada, "older copy");
        let (status, log) = department.service.stop();
        assert_eq!(status, 0, "{log}");
        let restored = command(&department, &["audit", "restored", "--reason", "the disk was lost"]);
        assert!(restored.status.success(), "{}", said(&restored));
        department.service.run();
        let ada = department.sign_in("ada");
        create(&department, &ada, "dirk-later");
        let ready = department.service.get("/readyz").unwrap();
        assert_eq!(ready.status, 200, "{}", ready.body);
        assert_eq!(department.service.stop().0, 0);
        let export = verified(&department);
        assert!(export.contains("the disk was lost"), "{export}");
        let read = |name: &str| fs::read_to_string(department.path(name)).unwrap();
        assert!(!read("export.jsonl").contains("audit-sink-tampered"), "nobody did that");
        // What is left of the sink is the trail, each record once.
        let left = [read("audit.jsonl.2"), read("audit.jsonl")].concat();
        let records = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with("{\"hash\":")).map(str::to_owned).collect()
        };
        let mut exported = records(&read("export.jsonl"));
        exported.truncate(exported.len() - 2); // that of the export, and of its lane's end
        assert_eq!(records(&left), exported);
        department.service.write("left.jsonl", &left);
        let sink = department.service.command(&["audit", "verify", "left.jsonl", "--key", "audit.key.pub"]);
        assert!(sink.status.success() && said(&sink).contains("the disk was lost"), "{}", said(&sink));
        let kept: Vec<_> = fs::read_dir(department.service.dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".damaged-"))
            .collect();
        assert!(kept.iter().any(|name| name.starts_with("audit.jsonl.1.damaged-")), "{kept:?}");
        assert!(kept.iter().any(|name| read(name).contains("dirk-b")), "{kept:?}");
    }
}

#[test]
fn a_database_that_is_replaced_removed_or_made_anew_under_the_running_service() {
    let (department, ada) = department(SQLITE);
    assert_eq!(department.service.stop().0, 0);
    copy(&department, "store.db", "old.db");
    department.service.run();
    create(&department, &ada, "dirk-b");
    fs::rename(department.path("store.db"), department.path("taken-away.db")).unwrap();
    stands_still(&department, &ada, "its file is gone");
    let made = command(&department, &["migrate"]);
    assert!(!made.status.success() && said(&made).contains("--new"), "{}", said(&made));
    assert!(!Path::new(&department.path("store.db")).exists());
    assert_eq!(department.service.stop().0, 0);
    // Back as it was, it is the one that was signed.
    fs::rename(department.path("taken-away.db"), department.path("store.db")).unwrap();
    department.service.run();
    create(&department, &ada, "dirk-c");
    fs::copy(department.path("old.db"), department.path("new.db")).unwrap();
    fs::rename(department.path("new.db"), department.path("store.db")).unwrap();
    stands_still(&department, &ada, "another file");
    assert_eq!(department.service.stop().0, 0);
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(department.path(&format!("store.db{end}")));
    }
    department.service.launch();
    stands_still(&department, &ada, "older copy");
    goes_on(&department);
}

#[test]
fn records_that_are_cut_off_under_the_running_service() {
    let (department, ada) = department(SQLITE);
    create(&department, &ada, "dirk-b");
    cut_sqlite(&department.path("store.db"));
    stands_still(&department, &ada, "ended at record");
    assert_eq!(department.service.stop().0, 0);
    department.service.launch();
    stands_still(&department, &ada, "older copy");
    goes_on(&department);
}

#[test]
fn an_old_copy_that_is_written_into_the_running_database() {
    let (department, ada) = department(SQLITE);
    let (live, old) = (department.path("store.db"), department.path("old.db"));
    sqlite(&live, &format!("c.backup(sqlite3.connect('{old}'))"));
    create(&department, &ada, "dirk-b");
    sqlite(&old, &format!("c.backup(sqlite3.connect('{live}', timeout=30))"));
    stands_still(&department, &ada, "ended at record");
    goes_on(&department);
}

#[test]
fn on_postgresql_records_that_are_cut_off_and_an_old_copy() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let department = Department::prepared("url_file = \"{dir}/url\"");
    department.service.write("url", &url);
    department.run();
    let ada = department.sign_in("ada");
    create(&department, &ada, "dirk-a");
    create(&department, &ada, "dirk-b");
    postgres.sql(&name, &format!("ALTER TABLE audit DISABLE TRIGGER ALL; ALTER TABLE audit_words DISABLE TRIGGER ALL; \
        ALTER TABLE operations DISABLE TRIGGER ALL; ALTER TABLE operations DROP CONSTRAINT operations_intent_fkey; \
        ALTER TABLE operations DROP CONSTRAINT operations_outcome_fkey; {CUT}"));
    stands_still(&department, &ada, "ended at record");
    assert_eq!(department.service.stop().0, 0);
    department.service.launch();
    stands_still(&department, &ada, "older copy");
    goes_on(&department);
    // An empty database in its place.
    assert_eq!(department.service.stop().0, 0);
    department.service.write("url", &postgres.database());
    let made = command(&department, &["migrate"]);
    assert!(!made.status.success() && said(&made).contains("--new"), "{}", said(&made));
}

#[test]
fn a_new_trail_names_the_one_before_it() {
    let (department, ada) = department(SQLITE);
    assert_eq!(department.service.stop().0, 0);
    let header = fs::read_to_string(department.path("audit.jsonl")).unwrap();
    let chain = header.split('"').nth(3).unwrap().to_owned();
    fs::rename(department.path("store.db"), department.path("lost.db")).unwrap();
    let made = command(&department, &["migrate"]);
    let text = said(&made);
    assert!(!made.status.success() && text.contains("--new") && text.contains("backup"), "{text}");
    assert!(!Path::new(&department.path("store.db")).exists());
    let made = command(&department, &["migrate", "--new"]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(!command(&department, &["migrate", "--new"]).status.success(), "there is one now");
    assert!(command(&department, &["migrate"]).status.success());
    department.service.run();
    assert_eq!(department.get("/me", &ada).status, 401, "nobody is signed in there");
    let ada = department.sign_in("ada");
    create(&department, &ada, "dirk-b");
    assert_eq!(department.service.stop().0, 0);
    let text = verified(&department);
    assert!(text.contains(&chain), "{text}");
    let first =
        fs::read_to_string(department.path("export.jsonl")).unwrap().lines().nth(1).unwrap().to_owned();
    assert!(first.contains("audit-restored") && first.contains(&chain), "{first}");
    let sink = department.service.command(&["audit", "verify", "audit.jsonl", "--key", "audit.key.pub"]);
    assert!(sink.status.success(), "{}", said(&sink));
}

/// Another trail, made elsewhere, in the place of this one.
#[test]
fn a_database_of_another_trail() {
    let (department, ada) = department(SQLITE);
    assert_eq!(department.service.stop().0, 0);
    let config = fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    let other = config
        .replace("audit.key", "other.key")
        .replace("audit.jsonl", "other.jsonl")
        .replace("store.db", "other.db");
    department.service.write("other.toml", &other);
    assert!(department.service.command(&["audit", "new-key", "other.key"]).status.success());
    assert!(department.service.command(&["migrate", "--config", "other.toml"]).status.success());
    // The person's session comes along, so that the face can be asked.
    let session = "c.execute(f\"ATTACH '{sys.argv[1]}.was' AS was\"); c.execute('INSERT INTO sessions SELECT * FROM was.sessions')";
    copy(&department, "store.db", "store.db.was");
    copy(&department, "other.db", "store.db");
    sqlite(&department.path("store.db"), session);
    department.service.launch();
    stands_still(&department, &ada, "another trail");
    goes_on(&department);
}

#[test]
fn a_state_file_that_is_gone_or_was_changed() {
    let (department, ada) = department(SQLITE);
    assert_eq!(department.service.stop().0, 0);
    let state = department.path("audit.key.signed");
    let good = fs::read_to_string(&state).unwrap();
    // One from before is no contradiction: the trail has what it says.
    department.service.run();
    create(&department, &ada, "dirk-b");
    assert_eq!(department.service.stop().0, 0);
    fs::write(&state, &good).unwrap();
    department.service.run();
    create(&department, &ada, "dirk-c");
    assert_eq!(department.service.stop().0, 0);
    let good = fs::read_to_string(&state).unwrap();
    let changed = good.replacen("\"number\":", "\"number\":1", 1);
    for (content, words) in
        [(Some(changed.as_str()), "state file"), (Some("nonsense\n"), "state file"), (None, "state file")]
    {
        match content {
            Some(content) => fs::write(&state, content).unwrap(),
            None => fs::remove_file(&state).unwrap(),
        }
        department.service.launch();
        stands_still(&department, &ada, words);
        assert_eq!(department.service.stop().0, 0);
        fs::write(&state, &good).unwrap();
    }
    // While it runs.
    department.service.run();
    fs::remove_file(&state).unwrap();
    let _ = department.post("/users", &ada, json!({"name": "dirk-d"}));
    eventually(&department, "/readyz to say it", || {
        department.service.get("/readyz").unwrap().body.contains("state file")
    });
    goes_on(&department);
}

/// As docs/operating.md has it: a new key is named in the configuration, and the trail goes on.
#[test]
fn a_new_key_goes_on_where_nothing_contradicts() {
    let (department, ada) = department(SQLITE);
    assert_eq!(department.service.stop().0, 0);
    assert!(department.service.command(&["audit", "new-key", "second.key"]).status.success());
    let config = fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    for state in ["", "\nstate_file = \"{dir}/audit.key.signed\""] {
        let key = format!("key_file = \"{{dir}}/second.key\"{state}");
        let old = format!("key_file = \"{}\"", department.path("audit.key"));
        department.service.write("iam-sorryd.toml", &config.replace(&old, &key));
        department.service.run();
        create(&department, &ada, if state.is_empty() { "dirk-b" } else { "dirk-c" });
        assert_eq!(department.service.stop().0, 0);
    }
    let exported = command(&department, &["audit", "export", "-o", "export.jsonl"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let keys = ["audit", "verify", "export.jsonl", "--key", "audit.key.pub", "--key", "second.key.pub"];
    let verified = department.service.command(&keys);
    assert!(verified.status.success(), "{}", said(&verified));
}

/// The lock is on the database, whatever names it has.
#[test]
fn a_second_program_by_a_hard_link_or_without_the_old_lock_file_is_refused() {
    let (department, ada) = department(SQLITE);
    let _ = fs::remove_file(department.path("store.db.lock"));
    for verb in [&["serve"][..], &["migrate"], &["audit", "restored", "--reason", "x"]] {
        let refused = command(&department, verb);
        assert!(
            !refused.status.success() && said(&refused).contains("Another iam-sorryd is running"),
            "{}",
            said(&refused)
        );
    }
    fs::hard_link(department.path("store.db"), department.path("other.db")).unwrap();
    let config = fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    department.service.write("other.toml", &config.replace("store.db", "other.db"));
    for verb in [&["serve"][..], &["migrate"], &["audit", "export"]] {
        let refused = department.service.command(&[verb, &["--config", "other.toml"]].concat());
        assert!(!refused.status.success(), "{verb:?}");
        assert!(
            ["hard link", "Another iam-sorryd"].iter().any(|words| said(&refused).contains(words)),
            "{}",
            said(&refused)
        );
    }
    fs::remove_file(department.path("other.db")).unwrap();
    create(&department, &ada, "dirk-b");
}

#[test]
fn a_state_file_that_cannot_be_written_is_said_before_the_start() {
    let department = Department::prepared(SQLITE);
    let config = fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    let state = "key_file = \"{dir}/audit.key\"\nstate_file = \"/proc/nowhere/signed\"";
    let old = format!("key_file = \"{}\"", department.path("audit.key"));
    department.service.write("iam-sorryd.toml", &config.replace(&old, state));
    for verb in ["check-config", "serve"] {
        let refused = command(&department, &[verb]);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("audit.state_file"), "{}", said(&refused));
    }
}

/// `serve --dev` has no configuration that `audit restored` could be given, so it says what to do itself.
#[test]
fn a_development_database_that_is_gone_or_an_older_copy() {
    let account = Ministack::shared().account();
    let key = account.user_allowed("the-developer", &["iam:*", "sts:*"]);
    let service = Service::new(Path::new(env!("CARGO_BIN_EXE_iam-sorryd")));
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", key.key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &key.secret),
        ("AWS_ENDPOINT_URL", account.endpoint()),
        ("AWS_REGION", "us-east-1"),
    ] {
        service.set_env(name, value);
    }
    let (state, address) = (service.dir().join("dev"), service.address());
    let state_text = state.display().to_string();
    let words = ["serve", "--dev", "--listen", &address, "--state", &state_text];
    let (store, away) = (state.join("store.db"), state.join("store.away"));
    for _ in 0..2 {
        service.launch_with(&words);
        let ready = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            service.get("/readyz").is_ok_and(|ready| ready.status == 200)
        });
        assert!(ready, "{}", service.log());
        assert_eq!(service.stop().0, 0);
        if !away.exists() {
            fs::copy(&store, &away).unwrap();
        }
    }
    let refused = |what: &str| {
        service.launch_with(&words);
        let ended = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            !service.running()
        });
        assert!(ended, "it does not serve: {}", service.log());
        let (status, text) = service.wait();
        assert!(status == 1 && text.contains(what), "{status}: {text}");
        assert!(text.contains("iam-sorryd serve --dev --state FOLDER"), "{text}");
        assert!(!text.contains("audit restored"), "{text}");
    };
    fs::remove_file(&store).unwrap();
    refused("There is no database");
    assert!(!store.exists(), "nothing is made that would be in the way of the right one");
    fs::rename(&away, &store).unwrap();
    refused("older copy");
}
