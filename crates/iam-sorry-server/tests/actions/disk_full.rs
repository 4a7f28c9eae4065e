//! A disk that fills up: what can't be written down is not done; what was done and can't be written down is taken back, and
//! its secret never shown; reading goes on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use iam_sorry_core::api::{Options, ProblemCode};
use testkit::Fault;

use crate::scene::{Scene, code, dirk, user_ref};
use crate::verbs::Verbs as _;

const DISK: &str = "IAM_SORRY_TEST_DISK";

/// Runs this test again in a mount namespace of its own, on a disk of 16 MB that is gone when the process is.
#[test]
fn a_full_disk_stops_actions_and_not_reading() {
    if let Ok(disk) = std::env::var(DISK) {
        return on_the_small_disk(Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=16m tmpfs \"$0\" && exec \"$@\"")
        .arg(disk)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk_full::a_full_disk_stops_actions_and_not_reading", "--nocapture"])
        .env(DISK, disk)
        .stdin(Stdio::null())
        .output()
        .expect("unshare (util-linux) starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

/// Takes all the room there is, to the last byte.
fn fill(disk: &Path) -> PathBuf {
    use std::io::Write;
    let path = disk.join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    path
}

fn on_the_small_disk(disk: &Path) {
    let scene = Scene::on(disk);
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.clear_calls();

    let ballast = fill(disk);
    // SQLite has some room of its own in its files; then there is none.
    let refused = (0..2000).find_map(|n| Some((n, running.create(&format!("dirk-{n}")).err()?)));
    let (made, refusal) = refused.expect("a full disk refuses");
    assert_eq!(refusal.code, ProblemCode::AuditUnavailable, "{refusal}");
    // At most one intent was written whose outcome could not be.
    assert!(scene.proxy.count("CreateUser") <= made + 1);
    running.run(running.service.show_user(&dirk(), &user_ref("dirk-a"))).unwrap();
    let unready = running.service.ready().unwrap_err();
    assert!(unready.detail.contains("disk is full"), "{unready}");
    std::fs::remove_file(ballast).unwrap();
    // It finds out by itself that there is room, without a clock that must run down.
    running.ready_again();
    running.settled();
    scene.assert_accounted_for(&running);

    // Full between the key and its record: nobody sees the secret, and the key goes again.
    let filled = Arc::new(Mutex::new(None));
    let hook: testkit::Hook = {
        let (filled, path) = (Arc::clone(&filled), disk.to_owned());
        Arc::new(move |_| *filled.lock().unwrap() = Some(fill(&path)))
    };
    scene.proxy.fault_once("CreateAccessKey", Fault::AfterForward(hook));
    let none = Options::default();
    let answer = running.run(running.service.create_access_key(&dirk(), None, "dirk-a", none));
    let answer = code(answer);
    assert!(matches!(answer, ProblemCode::AuditUnavailable | ProblemCode::StoreUnavailable), "{answer:?}");
    std::fs::remove_file(filled.lock().unwrap().take().unwrap()).unwrap();
    running.settled();
    assert!(scene.account.keys("dirk-a").is_empty());
    scene.assert_accounted_for(&running);
}
