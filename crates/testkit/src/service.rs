//! The department service itself, `iam-sorryd`, as a real process on loopback with its state in a folder of its own: it
//! can be stopped, killed and started again on what it left.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::Signal;
use serde_json::Value;

use crate::http::{Answer, request};
use crate::process::{Folder, Server, run, system_path};
use crate::{free_port, workspace};

/// The `iam-sorryd` of this source tree in the profile of the tests, built when first asked for. Tests of the server's
/// own crate have `env!("CARGO_BIN_EXE_iam-sorryd")`, which costs nothing.
///
/// # Panics
/// When it does not compile.
pub fn service_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Where this very test program was built: TARGET/debug/deps/NAME.
        let own = std::env::current_exe().expect("a test program has a path");
        let profile = own.ancestors().nth(2).expect("TARGET/debug");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--locked", "-p", "iam-sorry-server", "--bin", "iam-sorryd"])
            .current_dir(workspace())
            .env("CARGO_TARGET_DIR", profile.parent().expect("TARGET"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        run(&mut build);
        profile.join("iam-sorryd")
    })
}

/// An `iam-sorryd`. Ends on drop and with the test process.
#[derive(Debug)]
pub struct Service {
    folder: Folder,
    program: PathBuf,
    port: u16,
    env: Mutex<Vec<(String, OsString)>>,
    server: Mutex<Option<Server>>,
}

impl Service {
    /// A folder and a port for a service that is not running yet: write its files with [`Service::write`], then
    /// [`Service::run`].
    pub fn new(program: &Path) -> Service {
        Service {
            folder: Folder::new(),
            program: program.to_owned(),
            port: free_port(),
            env: Mutex::new(Vec::new()),
            server: Mutex::new(None),
        }
    }

    /// The folder of configuration and state.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// `127.0.0.1:PORT`: what `listen` has to say.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:PORT`: what `origin` has to say.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A variable that the service sees from its next start on. It sees nothing else but PATH, HOME and the like.
    pub fn set_env(&self, name: &str, value: impl Into<OsString>) {
        let mut env = self.env.lock().unwrap_or_else(PoisonError::into_inner);
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value.into()));
    }

    /// Writes a file below the folder (0600), such as `iam-sorryd.toml`; gives its path. In the text, `{dir}`,
    /// `{address}` and `{origin}` stand for this service's own.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("its folder");
        let text = text
            .replace("{dir}", &self.dir().display().to_string())
            .replace("{address}", &self.address())
            .replace("{origin}", &self.origin());
        fs::write(&path, text).expect("a new file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    }

    /// Runs a command of the program to its end, such as `["check-config", "--config", ...]`.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", system_path())
            .env("HOME", self.dir())
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .envs(self.variables())
            .args(arguments)
            .current_dir(self.dir())
            .stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }

    /// Starts `iam-sorryd serve --config {dir}/iam-sorryd.toml` and waits until /readyz says yes.
    ///
    /// # Panics
    /// With its log when it ends before that.
    pub fn run(&self) {
        self.launch();
        let server = self.server();
        server
            .as_ref()
            .expect("just started")
            .wait_for("yes from /readyz", |_| self.get("/readyz").ok().filter(|answer| answer.status == 200));
    }

    /// Starts it without waiting for anything.
    pub fn launch(&self) {
        let config = self.dir().join("iam-sorryd.toml").display().to_string();
        self.launch_with(&["serve", "--config", &config]);
    }

    /// Starts it with these arguments without waiting for anything.
    pub fn launch_with(&self, arguments: &[&str]) {
        assert!(self.server().is_none(), "the service runs already");
        let env = self.variables();
        let env: Vec<(&str, OsString)> =
            env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let dir = crate::short_temp_dir().keep();
        *self.server() = Some(Server::start(&self.program, arguments, &env, dir));
    }

    /// kill -9. State stays; [`Service::run`] starts it again on the same address. What it logged is given.
    pub fn kill(&self) -> String {
        let server = self.server().take().expect("the service runs");
        server.signal(Signal::KILL);
        server.wait();
        server.log()
    }

    /// SIGTERM, waited for: the exit status (0 when graceful) and what it logged.
    pub fn stop(&self) -> (i32, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the service to end by itself: the exit status and what it logged.
    pub fn wait(&self) -> (i32, String) {
        let server = self.server().take().expect("the service runs");
        (server.wait(), server.log())
    }

    /// Sends a signal, such as HUP (read rules and certificates again), STOP or CONT.
    pub fn signal(&self, signal: Signal) {
        self.server().as_ref().expect("the service runs").signal(signal);
    }

    /// Whether the process is still there.
    pub fn running(&self) -> bool {
        self.server().as_ref().is_some_and(Server::running)
    }

    /// What it wrote to standard output and error since its last start.
    pub fn log(&self) -> String {
        self.server().as_ref().map(Server::log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server().as_ref().expect("the service runs").pid()
    }

    /// GET, without signing in.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str) -> std::io::Result<Answer> {
        request(&self.address(), "GET", path, &[], b"")
    }

    /// A request of the API (`path` follows `/api/v1`) with a session token and a JSON body (`Null`: none).
    ///
    /// # Errors
    /// When there is no answer.
    pub fn api(&self, method: &str, path: &str, token: &str, body: &Value) -> std::io::Result<Answer> {
        let bearer = format!("Authorization: Bearer {token}");
        let mut headers = vec!["Accept: application/json"];
        if !token.is_empty() {
            headers.push(&bearer);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            headers.push("Content-Type: application/json");
        }
        request(&self.address(), method, &format!("/api/v1{path}"), &headers, body.as_bytes())
    }

    fn variables(&self) -> Vec<(String, OsString)> {
        self.env.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
