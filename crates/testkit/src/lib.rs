//! Test-only rigs: a hermetic home, SSH agents good and bad, AWS emulators, a fault proxy, a pseudo-terminal; for the
//! department service two directories, a browser, certificates, and the service itself.
//!
//! Everything here starts real programs on loopback or in temporary folders, on free ports, and takes them away
//! again: on drop, and also when the test process is killed. Nothing but tests may depend on this crate.
//! A rig that cannot start panics with the way out in its text: a missing part is a failure, never a silent skip.
#![expect(clippy::expect_used, reason = "a rig that cannot start fails the test that asked")]

mod aws;
mod browser;
mod connect_proxy;
mod department;
mod emulators;
mod fake_agent;
mod home;
mod http;
mod ldif;
mod machine;
mod memory_aws;
mod outcome;
mod ports;
mod postgres;
mod process;
mod proxy;
mod pty;
mod samba;
mod service;
mod slapd;
mod ssh;
mod tls;

use std::path::{Path, PathBuf};

pub use aws::{Aws, AwsError, Creds};
pub use browser::{Browser, Element};
pub use connect_proxy::ConnectProxy;
pub use department::{Department, Extras};
pub use emulators::{Account, Ministack, Moto};
pub use fake_agent::{AgentFault, FakeAgent, Stage};
pub use home::{Home, KeyKind};
pub use http::{Answer, request};
pub use machine::{Machine, MachineOnAws, field_of};
pub use memory_aws::{Chaos, IamAccount, IamFailure, IamFields, Lag, MemoryAws, MemoryKey, MemoryUser};
pub use outcome::{EXAMPLE_KEY_ID, EXAMPLE_SECRET, Outcome, PASSPHRASE, code_of};
pub use ports::free_port;
pub use postgres::{Cutter, Postgres};
pub use proxy::{Call, Fault, FaultProxy, Hook, Parameters};
pub use pty::Pty;
pub use samba::SambaAd;
pub use service::{Service, service_program};
pub use slapd::{Slapd, SlapdOptions};
pub use ssh::{AskPass, GpgAgent, SshAgent};
pub use tls::{Certificate, TestCa};

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the source tree is there")
}

/// The Python environment with the emulators and the official AWS clients: `IAM_SORRY_TEST_VENV`, else `.venv` in
/// the source tree. `scripts/deps` makes it.
///
/// # Panics
/// When it is missing, saying what to run.
pub fn venv() -> PathBuf {
    let path = std::env::var_os("IAM_SORRY_TEST_VENV")
        .filter(|value| !value.is_empty())
        .map_or_else(|| workspace().join(".venv"), PathBuf::from);
    assert!(
        path.join("bin/python").exists(),
        "The tests' Python environment is missing: {}.\nRun scripts/deps (or scripts/test, which starts with it).",
        path.display()
    );
    path
}

/// A program of [`venv`], such as `aws`, `ministack` or `python`.
///
/// # Panics
/// When it is missing, saying what to run.
pub fn venv_bin(name: &str) -> PathBuf {
    let path = venv().join("bin").join(name);
    assert!(path.exists(), "{} is missing.\nRun scripts/deps.", path.display());
    path
}

/// An empty private folder with a path short enough for Unix sockets (108 bytes, unix(7)), whatever TMPDIR says.
pub fn short_temp_dir() -> tempfile::TempDir {
    let base = std::env::temp_dir();
    let base = if base.as_os_str().len() > 40 { Path::new("/tmp") } else { &base };
    tempfile::Builder::new().prefix("is-").tempdir_in(base).expect("a temporary folder")
}
