//! A certificate authority of a test's own, made by openssl(1): the certificates that real servers present to the code
//! under test, and the CA file that it is told to trust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Folder, run, system_path};

const CONFIG: &str = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = iam-sorry test CA\n[ca]\n\
                      basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n\
                      subjectKeyIdentifier = hash\n";

/// A test CA. Its folder is deleted on drop and with the test process.
#[derive(Debug)]
pub struct TestCa {
    folder: Folder,
}

/// A certificate with its key, as PEM files that live as long as their CA.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate alone.
    pub certificate: PathBuf,
    /// Its private key (PKCS#8, 0600).
    pub key: PathBuf,
}

impl Default for TestCa {
    fn default() -> Self {
        TestCa::new()
    }
}

impl TestCa {
    /// A new CA that nobody else trusts.
    pub fn new() -> TestCa {
        let folder = Folder::new();
        fs::write(folder.path().join("ca.cnf"), CONFIG).expect("a new file");
        let ca = TestCa { folder };
        ca.openssl(&[
            &["req", "-x509", "-days", "2", "-config", "ca.cnf", "-extensions", "ca", "-out", "ca.pem"][..],
            &NEW_KEY,
            &["-keyout", "ca.key"],
        ]);
        ca
    }

    /// The CA's certificate: what a client has to trust.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server certificate for `names`, in openssl's spelling: `DNS:localhost`, `IP:127.0.0.1`.
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let dir = self.request(names);
        let path = |name: &str| dir.join(name).display().to_string();
        let (request, certificate, extensions) = (path("csr"), path("crt"), path("ext"));
        self.openssl(&[&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ][..]]);
        Certificate { certificate: dir.join("crt"), key: dir.join("key") }
    }

    /// The same, valid for one day in the year 2020.
    pub fn issue_expired(&self, names: &[&str]) -> Certificate {
        let dir = self.request(names);
        let path = |name: &str| dir.join(name).display().to_string();
        let (request, certificate, extensions, config) = (path("csr"), path("crt"), path("ext"), path("cnf"));
        // Of openssl's commands only `ca` lets the dates be chosen, and it keeps a database.
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {0}/index\nnew_certs_dir = {0}\nrand_serial = yes\n\
             default_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n",
            dir.display()
        );
        fs::write(&config, text).expect("a new file");
        fs::write(dir.join("index"), "").expect("a new file");
        self.openssl(&[
            &["ca", "-batch", "-notext", "-config", &config, "-in", &request, "-out", &certificate][..],
            &["-cert", "ca.pem", "-keyfile", "ca.key", "-extfile", &extensions],
            &["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"],
        ]);
        Certificate { certificate: dir.join("crt"), key: dir.join("key") }
    }

    /// A new folder with a key, a request for a certificate, and the extensions that it is to have.
    fn request(&self, names: &[&str]) -> PathBuf {
        let dir = tempfile::Builder::new().tempdir_in(self.folder.path()).expect("a new folder").keep();
        let path = |name: &str| dir.join(name).display().to_string();
        let (key, request, extensions) = (path("key"), path("csr"), path("ext"));
        let text = format!(
            "basicConstraints = critical,CA:FALSE\nextendedKeyUsage = serverAuth\nsubjectAltName = {}\n",
            names.join(",")
        );
        fs::write(&extensions, text).expect("a new file");
        self.openssl(&[
            &["req", "-new", "-config", "ca.cnf", "-subj", "/CN=test server", "-out", &request][..],
            &NEW_KEY,
            &["-keyout", &key],
        ]);
        dir
    }

    /// For names that every rig uses: `localhost` and 127.0.0.1.
    pub fn issue_loopback(&self) -> Certificate {
        self.issue(&["DNS:localhost", "IP:127.0.0.1"])
    }

    fn openssl(&self, arguments: &[&[&str]]) {
        run(openssl(self.folder.path()).args(arguments.concat()));
    }
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

fn openssl(dir: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.env_clear().env("PATH", system_path()).env("HOME", dir).current_dir(dir);
    command
}
