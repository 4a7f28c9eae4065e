//! kill -9 at moments that nobody chose: while the file is written, and anywhere.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use testkit::{Fault, MachineOnAws};

use crate::victim::{Run, kill};
use crate::{SETTLED, assert_whole, furnished};

/// How many random moments; `IAM_SORRY_TEST_KILLS` overrides it.
const KILLS: usize = 200;

/// Rigs that are killed side by side: most of the time goes into waiting.
const AT_ONCE: usize = 8;

#[test]
fn killed_while_the_file_is_written() {
    let abandoned = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let abandoned = &abandoned;
            scope.spawn(move || {
                let rig = furnished();
                for round in 0..10_u64 {
                    // The last answer is there, so what is left to do is the write: milliseconds, with three fsyncs.
                    let delay = Duration::from_micros((worker * 10 + round) * 700);
                    let mut run = Run::start(&rig, &["--profile", "usermanager", "admin"]);
                    let hook = run.kill_hook_after(delay);
                    rig.proxy.fault_once("GetCallerIdentity", Fault::AfterForward(hook));
                    run.release();
                    run.wait();
                    rig.proxy.wait_until_idle();
                    rig.proxy.clear_faults();
                    assert_whole(&rig);
                    rig.assert_clean("admin");
                    if rig.field("admin", "credentials_owner").is_some() {
                        assert_eq!(rig.stored_user("admin"), "admin");
                    }
                }
                rig.refresh("admin").ok();
                let aws = rig.home.path().join(".aws");
                let files = || std::fs::read_dir(&aws).unwrap().map(|entry| entry.unwrap().path());
                let ours = |path: &PathBuf| path.to_string_lossy().contains(".iam-sorry-");
                for file in files().filter(ours) {
                    abandoned.fetch_add(1, Ordering::SeqCst);
                    let file = File::open(&file).unwrap();
                    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                }
                rig.refresh("admin").ok();
                let left: Vec<PathBuf> = files().filter(ours).collect();
                assert!(left.is_empty(), "temporary files of the dead stay: {left:?}");
            });
        }
    });
    assert!(abandoned.into_inner() > 0, "none of the forty died while it wrote");
}

#[test]
fn killed_at_random_moments() {
    let kills =
        std::env::var("IAM_SORRY_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let (next, in_time) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (next, in_time) = (&next, &in_time);
            scope.spawn(move || {
                let rig = furnished();
                let base = rig.home.credentials();
                rig.account.user("second");
                // Some keep their key, some refresh two users at once.
                let args: &[&str] = match worker % 4 {
                    1 => &["refresh", "--profile", "usermanager", "--keep-key", "admin"],
                    2 => &["refresh", "--profile", "usermanager", "admin", "second"],
                    _ => &["refresh", "--profile", "usermanager", "admin"],
                };
                let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(worker as u64 + 1);
                let mut usual = Duration::from_secs(60);
                for _ in 0..3 {
                    let start = Instant::now();
                    rig.home.write_credentials(&base);
                    rig.run(args).ok();
                    usual = usual.min(start.elapsed());
                    delete_keys(&rig, "admin");
                }
                loop {
                    let round = next.fetch_add(1, Ordering::SeqCst);
                    if round >= kills {
                        break;
                    }
                    delete_keys(&rig, "admin");
                    rig.home.write_credentials(&base);
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let moment = usual.mul_f64((random >> 33) as f64 / f64::from(1_u32 << 31));
                    let mut run = Run::start(&rig, args);
                    run.release();
                    std::thread::sleep(moment);
                    kill(&run.child);
                    // Other rigs come and go, so what is usual changes: about three of four shall die before their end.
                    match run.wait() {
                        Some(code) => {
                            assert_eq!(code, 0, "round {round}");
                            usual = usual.mul_f64(0.8);
                        }
                        None => {
                            in_time.fetch_add(1, Ordering::SeqCst);
                            usual = usual.mul_f64(1.1);
                        }
                    }
                    assert_whole(&rig);
                    finish(&rig, round, args);
                    assert_whole(&rig);
                    person_decides(&rig);
                    assert_nothing_left(&rig, round, moment);
                }
            });
        }
    });
    let in_time = in_time.into_inner();
    println!("{in_time} of {kills} runs were killed before their end");
    assert!(
        in_time * 4 > kills,
        "only {in_time} of {kills} were killed before their end: the moments are wrong"
    );
}

fn delete_keys(rig: &MachineOnAws, user: &str) {
    for key in rig.account.keys(user) {
        let args = serde_json::json!({"UserName": user, "AccessKeyId": key});
        rig.account.call("iam", "delete_access_key", args);
    }
}

/// The next run: mostly the same again, now and then another.
fn finish(rig: &MachineOnAws, round: usize, args: &[&str]) {
    match round % 5 {
        0 => drop(rig.run(&["doctor"])),
        1 => {
            rig.run(&["list"]).ok();
            let begun = Instant::now();
            while !rig.journal().is_empty() && begun.elapsed() < SETTLED * 2 {
                std::thread::sleep(Duration::from_millis(200));
                rig.run(&["list"]).ok();
            }
        }
        _ => {
            rig.run(args).ok();
            assert_eq!(rig.stored_user("admin"), "admin", "round {round}");
        }
    }
}

/// A run that died between AWS's deed and its own note leaves a key that nothing proves to be its own. It is inactive, and a
/// person deletes it.
fn person_decides(rig: &MachineOnAws) {
    for user in ["admin", "second"] {
        for key in rig.account.keys(user).iter().filter(|key| !rig.account.is_active(user, key)) {
            rig.account.delete_key(user, key);
        }
    }
    if !rig.journal().is_empty() {
        rig.run(&["doctor"]).says(&["it was deleted"]);
    }
}

fn assert_nothing_left(rig: &MachineOnAws, round: usize, moment: Duration) {
    let kept = usize::from(rig.field("admin", "iam_sorry_access_key_id").is_some());
    let keys = rig.account.keys("admin");
    let journal = rig.journal();
    assert_eq!((keys.len(), journal.len()), (kept, 0), "round {round}, {moment:?}: {keys:?} {journal:?}");
    assert!(rig.account.keys("second").is_empty(), "round {round}, {moment:?}");
    if kept == 1 {
        rig.run(&["refresh", "admin"]).ok(); // it is the key that the profile holds
    }
}
