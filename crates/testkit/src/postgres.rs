//! PostgreSQL with a data folder of its own, on a Unix socket in it; and a wire to it that can be cut.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::process::{Server, run, run_on, system_path};

/// A running PostgreSQL. Ends on drop and with the test process.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    options: Vec<String>,
    server: Mutex<Option<Server>>,
    databases: AtomicU64,
    /// Its folder is ours, and goes when it goes.
    _keeper: Server,
}

impl Postgres {
    /// The one of this test process, started when first asked for. Tests keep apart by [`Postgres::database`].
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    /// One of its own, for a test that kills it.
    pub fn start() -> Postgres {
        Self::start_with(&[])
    }

    /// One of its own, with settings such as `max_connections=10`.
    pub fn start_with(options: &[&str]) -> Postgres {
        let dir = crate::short_temp_dir().keep();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(&dir));
        }
        let data = dir.join("data");
        run(as_postgres(&dir, "initdb").arg("-D").arg(&data).args([
            "--username=iam_sorry",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]));
        Self::on(dir, options.iter().map(|&option| option.to_owned()).collect())
    }

    /// A hot standby that streams from this one, until [`Postgres::promote`].
    pub fn standby(&self) -> Postgres {
        let dir = crate::short_temp_dir().keep();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(&dir));
        }
        let mut copy = as_postgres(&dir, "pg_basebackup");
        copy.arg("-h").arg(&self.dir).args(["-U", "iam_sorry", "-c", "fast", "--no-sync", "-R", "-D"]);
        run(copy.arg(dir.join("data")));
        Self::on(dir, self.options.clone())
    }

    /// Makes a standby the primary; it takes writes when this returns.
    pub fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote()");
    }

    fn on(dir: PathBuf, options: Vec<String>) -> Postgres {
        let keeper = Server::start(Path::new("/bin/sleep"), &["infinity"], &[], dir.clone());
        let made =
            Postgres { dir, options, server: None.into(), databases: AtomicU64::new(0), _keeper: keeper };
        made.up();
        made
    }

    /// A fresh, empty database; its URL.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database over the Unix socket.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://iam_sorry@{}/{database}", self.dir.display().to_string().replace('/', "%2F"))
    }

    /// The URL of a database over the Unix sockets of several servers, in this order.
    pub fn url_of_all(servers: &[&Postgres], database: &str) -> String {
        let hosts: Vec<String> =
            servers.iter().map(|it| it.dir.display().to_string().replace('/', "%2F")).collect();
        format!("postgresql://iam_sorry@{}/{database}", hosts.join(","))
    }

    /// Runs SQL in a database; gives what psql prints, unadorned.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        run(self.psql(database).args(["-c", sql])).trim().to_owned()
    }

    /// Loads what pg_dump wrote as text into an empty database.
    pub fn load(&self, database: &str, dump: &Path) {
        // The user postgres need not be able to read the file.
        let dump = File::open(dump).unwrap_or_else(|error| panic!("{}: {error}", dump.display()));
        run_on(&mut self.psql(database), dump.into());
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = as_postgres(&self.dir, "psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"]).arg(&self.dir);
        psql.args(["-U", "iam_sorry", "-d", database]);
        psql
    }

    /// kill -9: all connections break; nothing is accepted until [`Postgres::up`].
    pub fn kill(&self) {
        let server = self.server.lock().expect("no test panicked with the server in hand").take();
        drop(server);
    }

    /// Starts it (again) on the same data.
    pub fn up(&self) {
        let mut server = self.server.lock().expect("no test panicked with the server in hand");
        let start = Instant::now();
        loop {
            let candidate = self.spawn();
            let socket = self.dir.join(".s.PGSQL.5432");
            let ready = loop {
                let log = candidate.log();
                if (log.contains("database system is ready to accept connections")
                    || log.contains("database system is ready to accept read-only connections"))
                    && UnixStream::connect(&socket).is_ok()
                {
                    break true;
                }
                // After kill -9 the old backends hold the shared memory for a moment.
                if log.contains("FATAL:") && !log.contains("the database system is starting up") {
                    break false;
                }
                assert!(start.elapsed() < Duration::from_secs(120), "PostgreSQL does not start:\n{log}");
                std::thread::sleep(Duration::from_millis(20));
            };
            if ready {
                *server = Some(candidate);
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{}", candidate.log());
            drop(candidate);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Puts a line before all others of pg_hba.conf, and has it read.
    pub fn allow(&self, line: &str) {
        let path = self.dir.join("data/pg_hba.conf");
        let before = std::fs::read_to_string(&path).expect("initdb wrote it");
        std::fs::write(&path, format!("{line}\n{before}")).expect("it can be written");
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// A wire to a database that can be cut: it listens on loopback.
    pub fn cutter(&self) -> Cutter {
        Cutter::start(self.dir.join(".s.PGSQL.5432"))
    }

    fn spawn(&self) -> Server {
        let program = as_postgres(&self.dir, "postgres");
        let mut args: Vec<String> =
            program.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let data = self.dir.join("data");
        args.extend(["-D".into(), data.display().to_string(), "-k".into(), self.dir.display().to_string()]);
        for option in [
            "listen_addresses=",
            "shared_buffers=16MB",
            "max_connections=60",
            // kill -9 of the server loses nothing without it; only a power cut would.
            "fsync=off",
            "log_min_messages=warning",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain(self.options.iter().cloned())
        {
            args.extend(["-c".into(), option]);
        }
        let folder = crate::short_temp_dir().keep();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(&folder));
        }
        Server::start(Path::new(program.get_program()), &args, &[], folder)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of PostgreSQL, as the user `postgres` where we are root: it refuses to run as root.
fn as_postgres(dir: &Path, program: &str) -> Command {
    let program = bin().join(program);
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(dir).env_clear().env("PATH", system_path()).env("HOME", dir).env("LANG", "C.UTF-8");
    command
}

/// Debian keeps the server's programs by version, outside PATH.
fn bin() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    found.retain(|path| path.join("postgres").exists());
    found.sort();
    found.pop().expect("PostgreSQL is missing.\nRun scripts/deps.")
}

/// A wire from a loopback port to a Unix socket. Cut, it takes everything and passes nothing, as a network does that lost
/// its way: no end, no error, silence.
#[derive(Debug)]
pub struct Cutter {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    ended: AtomicBool,
    /// Every open pair; closed when the wire heals, because bytes are missing in them.
    pairs: Mutex<Vec<(TcpStream, UnixStream)>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("cut", &self.cut).finish_non_exhaustive()
    }
}

impl Cutter {
    fn start(to: PathBuf) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::new(State::default());
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = UnixStream::connect(&to) else { continue };
                let (Ok(from), Ok(into)) = (client.try_clone(), server.try_clone()) else { continue };
                let state = Arc::clone(&accepting);
                std::thread::spawn(move || pump(from, into, &state));
                let (Ok(from), Ok(into)) = (server.try_clone(), client.try_clone()) else { continue };
                let state = Arc::clone(&accepting);
                std::thread::spawn(move || pump(from, into, &state));
                accepting.pairs.lock().expect("no pump panicked").push((client, server));
            }
        });
        Cutter { port, state }
    }

    /// The URL of a database over this wire.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://iam_sorry@127.0.0.1:{}/{database}", self.port)
    }

    /// From now on nothing passes, in either direction, on old and new connections.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// New connections pass again; those that were cut are closed.
    pub fn heal(&self) {
        self.close_all();
        self.state.cut.store(false, Ordering::SeqCst);
    }

    fn close_all(&self) {
        for (client, server) in self.state.pairs.lock().expect("no pump panicked").drain(..) {
            client.end();
            server.end();
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.close_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the accepting thread
    }
}

fn pump(mut from: impl Read, mut into: impl Wire, state: &State) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !state.cut.load(Ordering::SeqCst) && into.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // An end passes as an end only on a whole wire.
    if !state.cut.load(Ordering::SeqCst) {
        into.end();
    }
}

trait Wire: Write {
    fn end(&self);
}

impl Wire for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Wire for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}
