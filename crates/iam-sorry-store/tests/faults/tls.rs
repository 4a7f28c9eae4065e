//! TLS to PostgreSQL: used and checked; never given up for a server that won't or that somebody else vouches for.

use std::path::{Path, PathBuf};
use std::process::Command;

use iam_sorry_store::{Settings, Store, StoreError};
use testkit::Postgres;

use crate::rig::{block_on, patient};

/// A loopback address of this test's own: PostgreSQL speaks TLS over TCP only.
fn own_address() -> String {
    let id = std::process::id();
    format!("127.91.{}.{}", id >> 8 & 0xff, id & 0xff)
}

struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let authority = Authority { dir: tempfile::tempdir().unwrap() };
        let subject =
            ["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=test authority"];
        authority.openssl(&[&subject[..], &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
        authority
    }

    /// A certificate for `names` (`DNS:...`, `IP:...`), as files that the user postgres may read.
    fn certificate(&self, names: &str) -> (PathBuf, PathBuf) {
        std::fs::write(self.dir.path().join("ext"), format!("subjectAltName={names}")).unwrap();
        let request = ["req", "-newkey", "ed25519", "-nodes", "-subj", "/CN=db"];
        self.openssl(&[&request[..], &["-keyout", "db.key", "-out", "db.csr"]].concat());
        let sign = ["x509", "-req", "-in", "db.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"];
        self.openssl(&[&sign[..], &["-extfile", "ext", "-out", "db.pem"]].concat());
        let path = self.dir.path();
        let (certificate, key) = (path.join("db.pem"), path.join("db.key"));
        for (file, mode) in [(path, "711"), (&certificate, "644"), (&key, "600")] {
            run(Command::new("chmod").arg(mode).arg(file));
        }
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(&key));
        }
        (certificate, key)
    }

    fn pem(&self) -> Option<Vec<u8>> {
        Some(std::fs::read(self.dir.path().join("ca.pem")).unwrap())
    }

    fn openssl(&self, args: &[&str]) {
        run(Command::new("openssl").args(args).current_dir(self.dir.path()));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn serve(address: &str, certificate: &Path, key: &Path) -> Postgres {
    Postgres::start_with(&[
        &format!("listen_addresses={address}"),
        "ssl=on",
        &format!("ssl_cert_file={}", certificate.display()),
        &format!("ssl_key_file={}", key.display()),
    ])
}

#[test]
fn the_server_is_checked_and_the_connection_never_plain() {
    let address = own_address();
    let authority = Authority::new();
    let (certificate, key) = authority.certificate(&format!("IP:{address}"));
    let postgres = serve(&address, &certificate, &key);
    // The rig's own authentication is `trust` for local and 127.0.0.1 connections alone.
    postgres.allow("hostssl all all 127.0.0.0/8 trust");
    let database = postgres.database().rsplit('/').next().unwrap().to_owned();
    let url = format!("postgresql://iam_sorry@{address}/{database}?sslmode=require");
    let settings = |ca| patient(Settings::postgres(url.clone().into(), ca).unwrap());

    let good = settings(authority.pem());
    Store::migrate(&good).unwrap();
    let store = Store::open(&good, "one").unwrap();
    block_on(store.beat()).unwrap();
    let encrypted = postgres.sql(
        &database,
        "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'iam-sorryd'",
    );
    assert_eq!(encrypted, "t");

    // Somebody else's authority, and the system's: refused before anything is said.
    for ca in [Authority::new().pem(), None] {
        let error = Store::open(&settings(ca), "two").unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("certificate")), "{error:?}");
    }
    let error = Store::open(&settings(Some(b"-----BEGIN CERTIFICATE-----".to_vec())), "two").unwrap_err();
    assert!(error.to_string().contains("CA file"), "{error}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let id = std::process::id();
    let address = format!("127.92.{}.{}", id >> 8 & 0xff, id & 0xff);
    let authority = Authority::new();
    let (certificate, key) = authority.certificate("DNS:other.example.org");
    let postgres = serve(&address, &certificate, &key);
    postgres.allow("hostssl all all 127.0.0.0/8 trust");
    let url = format!("postgresql://iam_sorry@{address}/postgres?sslmode=require");
    let error = Store::migrate(&Settings::postgres(url.into(), authority.pem()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn a_server_without_tls_is_refused() {
    let postgres = Postgres::shared();
    let wire = postgres.cutter();
    let url = format!("{}?sslmode=require", wire.url("postgres"));
    let error = Store::migrate(&Settings::postgres(url.into(), None).unwrap()).unwrap_err();
    assert!(error.to_string().contains("server does not support TLS"), "{error}");
}
