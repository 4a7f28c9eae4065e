//! Many writers, killed writers, full disks, planted links. Further processes are this test binary again, running
//! `child` with a job in its environment.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use iam_sorry_core::aws_files::{Document, FileKind};

use super::atomic::create_new;
use super::aws_file::LARGEST;
use super::error::LockError;
use super::lock::{LockOptions, acquire_with};
use super::*;

const KEYS: &str = "# mine\n[default]\naws_access_key_id = AKIAONE\n";

/// A folder with one credentials file, 0600.
struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    fn new(text: &str) -> Self {
        let rig = Self { folder: tempfile::tempdir().unwrap() };
        rig.write(text);
        set_mode(&rig.path(), 0o600);
        rig
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.path().join(".credentials.iam-sorry.lock")
    }

    fn claim_path(&self) -> PathBuf {
        self.folder.path().join(".credentials.iam-sorry.lock.owner")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn file(&self) -> AwsFile {
        AwsFile::new(self.path(), FileKind::Credentials, None)
    }

    /// Everything in the folder but the file and the lock, which stay.
    fn litter(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "credentials" && name != ".credentials.iam-sorry.lock").collect()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn age(path: &Path, seconds: u64) {
    let then = std::time::SystemTime::now() - Duration::from_secs(seconds);
    OpenOptions::new().write(true).open(path).unwrap().set_modified(then).unwrap();
}

fn set(file: &AwsFile, profile: &str, key: &str, value: &str) -> Result<Vec<Notice>, FileError> {
    let edit = |document: &mut Document| {
        document.set(profile, key, value).unwrap();
        Ok::<_, FileError>(())
    };
    Ok(file.update(edit)?.1)
}

fn child_command(job: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(child_arguments()).env("FILES_CHILD_JOB", job).env("FILES_CHILD_PATH", path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn child_arguments() -> [&'static str; 3] {
    ["--exact", "files::tests::child", "--nocapture"]
}

/// Starts a child and waits until it says that it is under way.
fn started(job: &str, path: &Path) -> Child {
    let mut child = child_command(job, path).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("READY") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the child ended early");
    }
    child.stdout = Some(said.into_inner());
    child
}

/// What the other tests start as a process of its own, to kill it; by itself it has nothing to do.
#[test]
fn child() {
    let Some(path) = std::env::var_os("FILES_CHILD_PATH").map(PathBuf::from) else { return };
    let file = AwsFile::new(path.clone(), FileKind::Credentials, None);
    match std::env::var("FILES_CHILD_JOB").unwrap().as_str() {
        "hold" => {
            let _lock = Lock::acquire(&path, Duration::from_secs(5)).unwrap();
            println!("READY");
            std::thread::sleep(Duration::from_secs(120));
        }
        // Every profile gets the same generation in one edit: a file that mixes two was torn.
        "generations" => {
            for generation in 0..20_000_u32 {
                let edit = |document: &mut Document| {
                    for profile in 0..20 {
                        let value = format!("{generation:0300}");
                        document.set(&format!("p{profile}"), "generation", &value).unwrap();
                    }
                    Ok::<_, FileError>(())
                };
                file.update(edit).unwrap();
                if generation == 0 {
                    println!("READY");
                }
            }
        }
        "full" => {
            let before = std::fs::read(&path).unwrap();
            let error = set(&file, "big", "aws_session_token", &"x".repeat(300_000)).unwrap_err();
            assert_eq!(std::fs::read(&path).unwrap(), before);
            let folder = path.parent().unwrap();
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".tmp")));
            println!("REFUSED {error}");
        }
        "once" => {
            set(&file, "a", "k", "v").unwrap();
        }
        "growing" => {
            let mut growing = AtomicWriter::begin(&path).unwrap();
            growing.write(b"piece").unwrap();
            growing.finish().unwrap();
        }
        writer => {
            for edit in 0..50 {
                set(&file, &format!("w{writer}"), &format!("k{edit}"), &edit.to_string()).unwrap();
            }
        }
    }
}

#[test]
fn eight_writing_processes_lose_no_edit() {
    let rig = Rig::new(KEYS);
    let writers: Vec<Child> =
        (0..8).map(|n| child_command(&n.to_string(), &rig.path()).spawn().unwrap()).collect();
    for writer in writers {
        let done = writer.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let document = rig.file().load().unwrap().document;
    for writer in 0..8 {
        assert_eq!(document.entries(&format!("w{writer}")).len(), 50);
    }
    assert!(rig.text().starts_with(KEYS));
    assert_eq!(rig.litter(), [] as [&str; 0]);
}

#[test]
fn eight_writing_threads_lose_no_edit_also_without_flock() {
    let rig = Rig::new("0");
    let means = LockOptions { flock: false, stale: Duration::from_secs(30) };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let waited =
                        acquire_with(&rig.lock_path(), Duration::from_secs(60), means, || None::<()>);
                    let LockOutcome::Acquired(lock) = waited.unwrap() else {
                        panic!("nothing else was asked")
                    };
                    let count: u32 = rig.text().parse().unwrap();
                    rig.write(&(count + 1).to_string());
                    drop(lock);
                }
            });
        }
    });
    assert_eq!(rig.text(), "400");
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_file() {
    let rig = Rig::new(KEYS);
    for round in 0..200_u64 {
        let mut writer = started("generations", &rig.path());
        std::thread::sleep(Duration::from_micros(round * 7919 % 6000));
        writer.kill().unwrap(); // SIGKILL
        writer.wait().unwrap();
        let document = rig.file().load().unwrap().document;
        assert_eq!(document.value("default", "aws_access_key_id"), Some("AKIAONE"), "round {round}");
        let generation = document.value("p0", "generation").unwrap();
        assert!((1..20).all(|n| document.value(&format!("p{n}"), "generation") == Some(generation)));
    }
    // What they left behind is old by the time that somebody writes again, and goes.
    for name in rig.litter() {
        age(&rig.folder.path().join(name), 120);
    }
    set(&rig.file(), "default", "region", "eu-west-1").unwrap();
    assert_eq!(rig.litter(), [] as [&str; 0]);
}

#[test]
fn the_lock_of_a_killed_process_is_taken_over_at_once() {
    for flock in [true, false] {
        let rig = Rig::new("");
        let mut holder = started("hold", &rig.lock_path());
        let means = LockOptions { flock, stale: Duration::from_secs(3600) };
        let waited = acquire_with(&rig.lock_path(), Duration::from_millis(50), means, || None::<()>);
        let error = waited.unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", holder.id())), "{error}");
        holder.kill().unwrap();
        // Not yet waited for: a zombie holds nothing either.
        let waited = acquire_with(&rig.lock_path(), Duration::from_secs(20), means, || None::<()>).unwrap();
        assert!(matches!(waited, LockOutcome::Acquired(_)));
        drop(waited);
        holder.wait().unwrap();
        assert!(!rig.claim_path().exists());
    }
}

#[test]
fn another_machines_claim_goes_stale_only_when_its_heart_stops() {
    let rig = Rig::new("");
    std::fs::write(rig.claim_path(), "1 4242 17 00000000000000ff boot/ns elsewhere\n").unwrap();
    let error = Lock::acquire(&rig.lock_path(), Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().starts_with("process 4242 on elsewhere has held the lock"), "{error}");
    age(&rig.claim_path(), 40);
    let lock = Lock::acquire(&rig.lock_path(), Duration::from_secs(20)).unwrap();
    assert!(lock.is_still_held());
    // Somebody takes it over from us, as if this process had slept.
    std::fs::write(rig.claim_path(), "1 4242 17 00000000000000ff boot/ns elsewhere\n").unwrap();
    assert!(!lock.is_still_held());
    drop(lock);
    assert!(rig.claim_path().exists(), "a claim that isn't ours is not ours to remove");
}

#[test]
fn an_unreadable_claim_goes_stale_too() {
    let rig = Rig::new("");
    std::fs::write(rig.claim_path(), "").unwrap();
    assert!(matches!(Lock::acquire(&rig.lock_path(), Duration::ZERO), Err(LockError::Timeout { .. })));
    age(&rig.claim_path(), 40);
    Lock::acquire(&rig.lock_path(), Duration::from_secs(20)).unwrap();
}

#[test]
fn of_a_hundred_that_wait_one_works_and_the_others_take_its_result() {
    let rig = Rig::new("");
    let (result, worked) = (rig.folder.path().join("result"), AtomicUsize::new(0));
    let ready = || std::fs::read_to_string(&result).ok();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut waited =
                    Lock::acquire_unless(&rig.lock_path(), Duration::from_secs(60), ready).unwrap();
                if let LockOutcome::Acquired(lock) = waited {
                    // Whoever gets the lock looks once more: the result may have come just before.
                    if ready().is_none() {
                        worked.fetch_add(1, Ordering::SeqCst);
                        replace_atomically(&result, b"done", FileMode::Private).unwrap();
                    }
                    drop(lock);
                    waited = LockOutcome::Ready(ready().unwrap());
                }
                assert!(matches!(waited, LockOutcome::Ready(text) if text == "done"));
            });
        }
    });
    assert_eq!(worked.load(Ordering::SeqCst), 1);
}

#[test]
fn planted_links_and_pipes_are_not_followed() {
    let rig = Rig::new(KEYS);
    let victim = rig.folder.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    for planted in [rig.lock_path(), rig.claim_path()] {
        symlink(&victim, &planted).unwrap();
        let error = set(&rig.file(), "a", "k", "v").unwrap_err();
        assert!(matches!(error, FileError::Lock(LockError::NotRegular { .. })), "{error}");
        std::fs::remove_file(&planted).unwrap();
        assert!(Command::new("mkfifo").arg(&planted).status().unwrap().success());
        let error = set(&rig.file(), "a", "k", "v").unwrap_err();
        assert!(matches!(error, FileError::Lock(LockError::NotRegular { .. })), "{error}");
        std::fs::remove_file(&planted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
    assert_eq!(rig.text(), KEYS);
    // A link of our temporary files' names: not followed, and not removed, for it isn't ours.
    let link = rig.folder.path().join(".credentials.iam-sorry-0000000000000000.tmp");
    symlink(&victim, &link).unwrap();
    age(&victim, 120);
    set(&rig.file(), "a", "k", "v").unwrap();
    assert!(link.is_symlink());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
}

/// Temporary files and claims have names that nobody can foresee; whoever did would gain nothing by it.
#[test]
fn what_is_planted_where_a_file_is_made_is_not_opened() {
    let rig = Rig::new("");
    let (path, victim) = (rig.folder.path().join("foreseen"), rig.folder.path().join("victim"));
    let is_refused = || create_new(&path).unwrap_err().kind() == io::ErrorKind::AlreadyExists;
    symlink(&victim, &path).unwrap();
    assert!(is_refused());
    assert!(!victim.exists(), "nothing is made where a link leads");
    std::fs::write(&victim, "safe").unwrap();
    assert!(is_refused());
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&victim, &path).unwrap();
    assert!(is_refused());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
    std::fs::remove_file(&path).unwrap();
    create_new(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_symlinked_file_is_replaced_at_its_target() {
    let rig = Rig::new(KEYS);
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (home.path().join("credentials"), home.path().join("second"));
    symlink("second", &first).unwrap();
    symlink(rig.path(), &second).unwrap();
    let file = AwsFile::new(first.clone(), FileKind::Credentials, None);
    set(&file, "a", "k", "v").unwrap();
    assert!(first.is_symlink() && second.is_symlink() && !rig.path().is_symlink());
    assert_eq!(rig.text(), format!("{KEYS}\n[a]\nk = v\n"));

    std::fs::remove_file(rig.path()).unwrap();
    set(&file, "a", "k", "v").unwrap();
    assert_eq!(rig.text(), "[a]\nk = v\n");
    assert_eq!(mode(&rig.path()), 0o600);

    std::fs::remove_file(&second).unwrap();
    symlink("credentials", &second).unwrap();
    assert!(matches!(set(&file, "a", "k", "w"), Err(FileError::LinkLoop { .. })));
}

#[test]
fn a_missing_file_is_empty_and_is_made_for_the_owner_alone() {
    let rig = Rig::new("");
    let path = rig.folder.path().join("new/.aws/credentials");
    let file = AwsFile::new(path.clone(), FileKind::Credentials, None);
    assert!(file.load().unwrap().document.profiles().is_empty());
    assert!(!path.parent().unwrap().exists());
    set(&file, "a", "k", "v").unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn wide_credentials_are_narrowed_with_a_word_and_config_keeps_its_mode() {
    let rig = Rig::new(KEYS);
    set_mode(&rig.path(), 0o664);
    let notices = rig.file().load().unwrap().notices;
    assert_eq!(notices, [Notice::OthersCanRead { path: rig.path(), mode: 0o664 }]);
    let restricted = [Notice::ModeRestricted { path: rig.path(), mode: 0o664 }];
    assert_eq!(set(&rig.file(), "default", "aws_access_key_id", "AKIATWO").unwrap(), restricted);
    assert_eq!(mode(&rig.path()), 0o600);
    // Also where no byte changes.
    set_mode(&rig.path(), 0o664);
    assert_eq!(set(&rig.file(), "default", "aws_access_key_id", "AKIATWO").unwrap(), restricted);
    assert_eq!(mode(&rig.path()), 0o600);

    let config = rig.folder.path().join("config");
    std::fs::write(&config, "[default]\n").unwrap();
    set_mode(&config, 0o644);
    let file = AwsFile::new(config.clone(), FileKind::Config, None);
    assert_eq!(set(&file, "default", "region", "x").unwrap(), []);
    assert_eq!(mode(&config), 0o644);
}

#[test]
fn an_edit_that_fails_or_changes_nothing_writes_nothing() {
    let rig = Rig::new(KEYS);
    let before = std::fs::metadata(rig.path()).unwrap().ino();
    let refused = rig.file().update(|document| {
        document.set("default", "aws_access_key_id", "other").unwrap();
        Err::<(), _>(FileError::LinkLoop { path: "x".into() })
    });
    assert!(matches!(refused, Err(FileError::LinkLoop { .. })));
    set(&rig.file(), "default", "aws_access_key_id", "AKIAONE").unwrap();
    assert_eq!((rig.text().as_str(), std::fs::metadata(rig.path()).unwrap().ino()), (KEYS, before));
    assert_eq!(rig.litter(), [] as [&str; 0]);
}

#[test]
fn what_another_tool_writes_during_an_edit_is_kept() {
    let rig = Rig::new(KEYS);
    let mut runs = 0;
    let edit = |document: &mut Document| {
        runs += 1;
        if runs == 1 {
            rig.write(&format!("{KEYS}[theirs]\nk = 1\n"));
        }
        document.set("ours", "k", "2").unwrap();
        Ok::<_, FileError>(())
    };
    rig.file().update(edit).unwrap();
    assert_eq!(runs, 2);
    assert_eq!(rig.text(), format!("{KEYS}[theirs]\nk = 1\n\n[ours]\nk = 2\n"));

    let always = |document: &mut Document| {
        rig.write(&format!("[x]\nk = {:?}\n", Instant::now()).replace(['{', '}'], ""));
        document.set("ours", "k", "3").unwrap();
        Ok::<_, FileError>(())
    };
    assert!(matches!(rig.file().update(always), Err(FileError::Contended { .. })));
}

#[test]
fn a_file_that_another_tool_has_just_truncated_is_not_taken_for_empty() {
    let rig = Rig::new("");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            rig.write(KEYS);
        });
        set(&rig.file(), "a", "k", "v").unwrap();
    });
    assert_eq!(rig.text(), format!("{KEYS}\n[a]\nk = v\n"));
}

#[test]
fn a_configured_lock_folder_is_used_and_nothing_stands_beside_the_file() {
    let rig = Rig::new(KEYS);
    let locks = tempfile::tempdir().unwrap();
    let folder = locks.path().join("locks");
    let file = AwsFile::new(rig.path(), FileKind::Credentials, Some(folder.clone()));
    set(&file, "a", "k", "v").unwrap();
    assert!(!rig.lock_path().exists());
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_hard_linked_file_is_told_about() {
    let rig = Rig::new(KEYS);
    let other = rig.folder.path().join("other");
    std::fs::hard_link(rig.path(), &other).unwrap();
    let notices = set(&rig.file(), "a", "k", "v").unwrap();
    assert_eq!(notices, [Notice::HardLinks { path: rig.path(), count: 1 }]);
    assert_eq!(std::fs::read_to_string(other).unwrap(), KEYS);
}

#[test]
fn what_is_no_credentials_file_is_refused_and_dev_null_is_empty() {
    let rig = Rig::new("[a]\nhush hush\n");
    let error = rig.file().load().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}, line 2: no = sign\n", rig.path().display())), "{text}");
    assert!(error.is_about_contents() && !format!("{text} {error:?}").contains("hush"));
    assert!(set(&rig.file(), "a", "k", "v").is_err());
    assert_eq!(rig.text(), "[a]\nhush hush\n");

    OpenOptions::new().write(true).open(rig.path()).unwrap().set_len(LARGEST + 1).unwrap();
    assert!(matches!(rig.file().load(), Err(FileError::TooLarge { .. })));

    let pipe = rig.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let null = PathBuf::from("/dev/null");
    assert!(
        AwsFile::new(null.clone(), FileKind::Config, None).load().unwrap().document.profiles().is_empty()
    );
    for path in [pipe, null, rig.folder.path().to_owned()] {
        let file = AwsFile::new(path.clone(), FileKind::Credentials, None);
        assert!(matches!(set(&file, "a", "k", "v"), Err(FileError::NotRegular { .. })), "{}", path.display());
    }
    assert!(!Path::new("/dev/.null.iam-sorry.lock").exists());
}

#[test]
fn a_read_only_folder_leaves_the_file_as_it_was() {
    let rig = Rig::new(KEYS);
    // Root may write anywhere, so root becomes nobody, in a thread of its own: credentials(7) are per thread.
    let nobody = rustix::fs::Uid::from_raw(65_534);
    let root = rustix::process::geteuid().is_root();
    if root {
        for path in [rig.folder.path().to_owned(), rig.path()] {
            std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
        }
    }
    set_mode(rig.folder.path(), 0o555);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if root {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            let error = set(&rig.file(), "a", "k", "v").unwrap_err();
            let text = error.to_string();
            assert!(text.contains("Permission denied") && text.contains("ls -ld"), "{text}");
            assert!(!error.is_about_contents());
        });
    });
    set_mode(rig.folder.path(), 0o755);
    assert_eq!(rig.text(), KEYS);
}

fn ran(command: &mut Command) -> (Output, String) {
    let done = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done, said)
}

/// The child's job `full` after a shell has prepared its surroundings.
fn full(shell: &str, prepare: &str, path: &Path) -> (Output, String) {
    let mut words = shell.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let exec = format!("{prepare} && exec \"$@\"");
    command
        .args(words)
        .args(["-c", &exec, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(child_arguments());
    ran(command.env("FILES_CHILD_JOB", "full").env("FILES_CHILD_PATH", path).stdin(Stdio::null()))
}

/// A power cut shows what was not flushed, so the order of the system calls is looked at (strace(1)): the bytes are on
/// the disk before the name leads to them, and the name is before anybody is told.
#[test]
fn bytes_are_flushed_before_the_name_and_the_name_before_the_end() {
    for job in ["once", "growing"] {
        let rig = Rig::new(KEYS);
        let log = rig.folder.path().join("calls");
        let mut traced = Command::new("strace");
        traced.args(["-f", "-y", "-e", "trace=/write|sync|rename", "-o"]).arg(&log);
        traced.arg(std::env::current_exe().unwrap()).args(child_arguments());
        traced.env("FILES_CHILD_JOB", job).env("FILES_CHILD_PATH", rig.path()).stdin(Stdio::null());
        let (done, said) = ran(&mut traced);
        assert!(done.status.success(), "{said}");
        assert_ne!(rig.text(), KEYS);
        let calls = std::fs::read_to_string(log).unwrap();
        let folder = format!("<{}>", rig.folder.path().display());
        let order: Vec<&str> = calls
            .lines()
            .filter_map(|line| {
                let (call, rest) = line.split_once(' ')?.1.trim().split_once('(')?;
                let first = rest.split([',', ')']).next()?;
                let of_ours = first.contains("/.credentials.iam-sorry-") && first.contains(".tmp");
                (of_ours || first.ends_with(&folder)).then_some(call)
            })
            .collect();
        assert_eq!(order, ["write", "fsync", "rename", "fsync"], "{calls}");
    }
}

#[test]
fn a_file_size_limit_leaves_the_file_as_it_was() {
    let rig = Rig::new(KEYS);
    // With the signal ignored, as by many job schedulers, write(2) fails instead.
    let (done, said) = full("sh", "trap '' XFSZ && ulimit -f 64", &rig.path());
    assert!(done.status.success() && said.contains("REFUSED"), "{said}");
    assert!(said.contains("Raise the limit on file sizes"), "{said}");
    assert_eq!(rig.text(), KEYS);
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    let rig = Rig::new("");
    let unshare = if rustix::process::geteuid().is_root() { "unshare -m sh" } else { "unshare -rm sh" };
    let folder = rig.folder.path().display();
    let mount = format!("mount -t tmpfs -o size=64k tmpfs {folder}");
    let (possible, why) = ran(Command::new("sh").args(["-c", &format!("{unshare} -c '{mount}'")]));
    if !possible.status.success() {
        let what = "no small file system can be mounted: that needs root, or user namespaces for everybody";
        assert!(std::env::var_os("IAM_SORRY_TEST_ALL").is_none(), "{what}: {why}");
        println!("skipped: {what}: {why}");
        return;
    }
    let prepare = format!("{mount} && printf '[a]\\nk = v\\n' > {folder}/credentials");
    let (done, said) = full(unshare, &prepare, &rig.path());
    assert!(done.status.success() && said.contains("REFUSED"), "{said}");
    assert!(said.contains("No space left on device") && said.contains("Make room"), "{said}");
}
