//! Starting a server so that it always ends: on drop, and when the test process dies in any way, kill -9 included.
//!
//! The server runs under a small shell that waits for the end of its own standard input. That pipe is held by the
//! test process alone, so the kernel closes it whatever kills us. PR_SET_PDEATHSIG would be the other way, but it
//! fires when the *thread* that started the child ends, which is every test's end, and a set-group-ID program
//! such as Debian's ssh-agent clears it (prctl(2)).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// `$1` is the server's own folder (removed at the end), the rest is the command line.
const GUARD: &str = r#"
dir=$1; shift
{ "$@" >"$dir/log" 2>&1 & echo $! >"$dir/pid"; wait $!; echo "$?" >"$dir/status"; } &
read -r _
[ -e "$dir/status" ] || kill -9 "$(cat "$dir/pid")" 2>/dev/null || kill -9 0
wait
rm -rf "$dir"
kill -9 0
"#;

/// How long a server may take to come up on a machine whose cores are all busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server program with a folder of its own.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    guard: Child,
    dir: PathBuf,
}

impl Server {
    /// Starts `program` in the folder `dir`, which is deleted when the server ends, with nothing in its environment
    /// but `env` and a PATH.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: &[A],
        env: &[(&str, OsString)],
        dir: PathBuf,
    ) -> Server {
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(&dir)
            .arg(program)
            .args(args)
            .env_clear()
            .env("PATH", system_path())
            .env("HOME", &dir)
            .env("TMPDIR", &dir)
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(&dir)
            .process_group(0) // the guard ends its whole group
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/bin/sh starts");
        Server { name: program.display().to_string(), guard, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until `ready` gives something, and panics with the server's own words when it ends before that.
    pub(crate) fn wait_for<T>(&self, what: &str, mut ready: impl FnMut(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = ready(&self.log()) {
                return found;
            }
            if let Ok(status) = fs::read_to_string(self.dir.join("status")) {
                panic!("{} ended with status {} before {what}:\n{}", self.name, status.trim(), self.log());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}: no {what} within {PATIENCE:?}:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the server printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read(self.dir.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Whether the server itself (not its guard) is still running.
    pub(crate) fn running(&self) -> bool {
        !self.dir.join("status").exists()
    }

    /// Sends a signal to the server alone, not to what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, signal); // it may have ended by itself
    }

    /// Waits for the server to end by itself; its exit status as a shell gives it (128 + N after signal N).
    pub(crate) fn wait(&self) -> i32 {
        let start = Instant::now();
        loop {
            let status = fs::read_to_string(self.dir.join("status")).unwrap_or_default();
            if let (true, Ok(status)) = (status.ends_with('\n'), status.trim().parse()) {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} still runs after {PATIENCE:?}:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The server's own process id.
    pub(crate) fn pid(&self) -> u32 {
        self.wait_for("process id", |_| fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take()); // the guard sees the end of its input, as it does when this process dies
        let _ = self.guard.wait();
    }
}

/// A private folder that outlives the servers started in it, and goes away like them: on drop, and when the test process
/// dies in any way.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    guard: Child,
}

impl Folder {
    /// Empty, with a path short enough for Unix sockets.
    pub(crate) fn new() -> Folder {
        let dir = crate::short_temp_dir().keep();
        // A server that is being killed may still write into it: try until it is gone.
        let guard = Command::new("/bin/sh")
            .args(["-c", r#"read -r _; until rm -rf "$1"; do sleep 0.1; done"#, "folder"])
            .arg(&dir)
            .env_clear()
            .env("PATH", system_path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/bin/sh starts");
        Folder { dir, guard }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The folders of system programs, for children whose environment was emptied.
pub(crate) fn system_path() -> &'static str {
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

/// Runs a helper to its end, and panics with its words when it fails.
pub(crate) fn run(command: &mut Command) -> String {
    run_on(command, Stdio::null())
}

/// The same for one that reads its standard input.
pub(crate) fn run_on(command: &mut Command, input: Stdio) -> String {
    let output = command.stdin(input).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}):\n{text}{errors}", output.status);
    text
}
