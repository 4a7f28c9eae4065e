//! A real Active Directory: Samba as domain controller, LDAP part only, on a loopback address of its own.
//!
//! Samba's LDAP ports are fixed (389 and 636), so every domain gets an address of 127.0.0.0/8 to itself, and test programs
//! run side by side. Ports below 1024 need root. Provisioning takes about four seconds: share one domain per test
//! program ([`SambaAd::shared`]) and keep apart by the names of users and groups.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::TestCa;
use crate::ldif::{escaped, line};
use crate::process::{Folder, Server, run, system_path};

const REALM: &str = "ad.example.org";
const BASE: &str = "DC=ad,DC=example,DC=org";
const PASSWORD: &str = "Testkit-Passw0rd";
const SERVICE: &str = "svc-iam-sorry";

/// After so many wrong passwords Active Directory locks an account.
const THRESHOLD: u32 = 10;

/// A running domain controller. Ends on drop and with the test process.
#[derive(Debug)]
pub struct SambaAd {
    folder: Folder,
    ca: TestCa,
    address: Ipv4Addr,
    server: Mutex<Option<Server>>,
}

impl SambaAd {
    /// The one of this test process, started when first asked for.
    pub fn shared() -> &'static SambaAd {
        static SHARED: OnceLock<SambaAd> = OnceLock::new();
        SHARED.get_or_init(SambaAd::start)
    }

    /// A new domain with a service account and nobody else in it.
    pub fn start() -> SambaAd {
        assert!(
            rustix::process::geteuid().is_root(),
            "A Samba domain controller listens on port 389: run these tests as root (a container will do)."
        );
        let ad = SambaAd {
            folder: Folder::new(),
            ca: TestCa::new(),
            address: own_address(),
            server: Mutex::new(None),
        };
        ad.provision();
        ad.restart();
        ad.add_user(SERVICE, PASSWORD);
        ad
    }

    /// `ldap://ADDRESS`: StartTLS; simple binds without it are refused, as Active Directory does.
    pub fn url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// `ldaps://ADDRESS`.
    pub fn tls_url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    /// The CA certificate that clients have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.ca.file()
    }

    /// `DC=ad,DC=example,DC=org`.
    pub fn base(&self) -> &'static str {
        BASE
    }

    /// `ad.example.org`.
    pub fn realm(&self) -> &'static str {
        REALM
    }

    /// The account that searches, as a distinguished name.
    pub fn service_dn(&self) -> String {
        self.user_dn(SERVICE)
    }

    /// The same account as a user principal name.
    pub fn service_upn(&self) -> String {
        format!("{SERVICE}@{REALM}")
    }

    /// Its password.
    pub fn service_password(&self) -> &'static str {
        PASSWORD
    }

    /// The distinguished name of a user: the common name is the sAMAccountName here.
    pub fn user_dn(&self, name: &str) -> String {
        format!("CN={},CN=Users,{BASE}", escaped(name))
    }

    /// The distinguished name of a group.
    pub fn group_dn(&self, name: &str) -> String {
        self.user_dn(name)
    }

    /// Adds an enabled user with a sAMAccountName, userPrincipalName NAME@ad.example.org and objectGUID. The password has
    /// to be complex (three kinds of characters, seven or more).
    pub fn add_user(&self, name: &str, password: &str) {
        let mail = format!("--mail-address={name}@example.org");
        self.tool(&["user", "create", name, password, "--use-username-as-cn", &mail]);
    }

    /// Replaces a user's password.
    pub fn set_password(&self, name: &str, password: &str) {
        let password = format!("--newpassword={password}");
        self.tool(&["user", "setpassword", name, &password]);
    }

    /// Disables the account (userAccountControl bit 2).
    pub fn disable(&self, name: &str) {
        self.tool(&["user", "disable", name]);
    }

    /// Ends what [`SambaAd::disable`] did.
    pub fn enable(&self, name: &str) {
        self.tool(&["user", "enable", name]);
    }

    /// The account expired years ago (accountExpires).
    pub fn expire(&self, name: &str) {
        // In 100 ns since 1601 (Windows FILETIME); 2020-01-01 is long enough ago.
        self.set_attribute(&self.user_dn(name), "accountExpires", &["132223104000000000"]);
    }

    /// The password has to be changed at the next sign-in (pwdLastSet is 0).
    pub fn must_change_password(&self, name: &str) {
        self.set_attribute(&self.user_dn(name), "pwdLastSet", &["0"]);
    }

    /// Locks the account, by giving as many wrong passwords as it takes.
    pub fn lock(&self, name: &str) {
        for _ in 0..=THRESHOLD {
            let mut command = Command::new("ldapsearch");
            command
                .env_clear()
                .env("PATH", system_path())
                .env("LDAPTLS_CACERT", self.ca.file())
                .args(["-x", "-H", &self.tls_url(), "-D", &format!("{name}@{REALM}"), "-w", "wrong"])
                .args(["-s", "base", "-b", ""])
                .stdin(Stdio::null());
            let output = command.output().expect("ldapsearch; scripts/deps installs it");
            assert_eq!(output.status.code(), Some(49), "invalidCredentials (RFC 4511): {output:?}");
        }
    }

    /// Gives a user another sAMAccountName and userPrincipalName: the same entry, the same objectGUID.
    pub fn rename(&self, name: &str, to: &str) {
        let (dn, upn) = (self.user_dn(name), format!("{to}@{REALM}"));
        self.set_attribute(&dn, "sAMAccountName", &[to]);
        self.set_attribute(&dn, "userPrincipalName", &[&upn]);
    }

    /// Deletes a user or group.
    pub fn delete(&self, name: &str) {
        self.modify(&(line("dn", self.user_dn(name)) + "changetype: delete\n"));
    }

    /// Adds a group.
    pub fn add_group(&self, name: &str) {
        self.tool(&["group", "add", name]);
    }

    /// Puts a user or group into a group.
    pub fn add_member(&self, group: &str, member: &str) {
        self.tool(&["group", "addmembers", group, member]);
    }

    /// Takes a user or group out of a group.
    pub fn remove_member(&self, group: &str, member: &str) {
        self.tool(&["group", "removemembers", group, member]);
    }

    /// Replaces all values of an attribute; no values take it away.
    pub fn set_attribute(&self, dn: &str, name: &str, values: &[&str]) {
        let mut entry = line("dn", dn) + &format!("changetype: modify\nreplace: {name}\n");
        for value in values {
            entry += &line(name, value);
        }
        self.modify(&entry);
    }

    /// Ends the server; connections break and new ones are refused.
    pub fn stop(&self) {
        drop(self.server().take());
    }

    /// Starts it again at the same address with what it holds.
    pub fn restart(&self) {
        self.stop();
        let arguments = [
            "-i".into(),
            "-M".into(),
            "single".into(),
            "--no-process-group".into(),
            "-s".into(),
            self.config(),
        ];
        let program = Path::new("/usr/sbin/samba");
        let server = Server::start(program, &arguments, &[], crate::short_temp_dir().keep());
        for port in [389, 636] {
            server.wait_for("samba to listen", |_| TcpStream::connect((self.address, port)).ok());
        }
        *self.server() = Some(server);
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("smb.conf")
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("dc/private/sam.ldb")
    }

    /// Works on the database itself, as an administrator on the domain controller does.
    fn tool(&self, arguments: &[&str]) {
        let mut command = self.command("samba-tool");
        run(command.args(arguments).arg("-s").arg(self.config()).arg("-H").arg(self.database()));
    }

    fn modify(&self, ldif: &str) {
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).expect("a new file");
        fs::write(file.path(), ldif).expect("a new file");
        let mut command = self.command("ldbmodify");
        run(command.arg("--configfile").arg(self.config()).arg("-H").arg(self.database()).arg(file.path()));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let home = self.folder.path();
        command
            .env_clear()
            .env("PATH", system_path())
            .env("HOME", home)
            .env("LANG", "C.UTF-8")
            .current_dir(home);
        command
    }

    fn provision(&self) {
        let root = self.folder.path().display().to_string();
        let interfaces = format!("--option=interfaces={}/8", self.address);
        run(self.command("samba-tool").args([
            "domain",
            "provision",
            "--server-role=dc",
            "--realm=AD.EXAMPLE.ORG",
            "--domain=AD",
            "--host-name=dc",
            "--dns-backend=NONE",
            &format!("--adminpass={PASSWORD}"),
            &format!("--host-ip={}", self.address),
            &format!("--targetdir={root}/dc"),
            &interfaces,
            "--option=bind interfaces only=yes",
            // Windows' access lists go into a file beside: a temporary folder may be unable to keep them.
            "--option=vfs objects=dfs_samba4 acl_xattr xattr_tdb",
        ]));
        let tls = self.ca.issue(&["DNS:dc.ad.example.org", &format!("IP:{}", self.address)]);
        let config = format!(
            "[global]\nnetbios name = DC\nrealm = AD.EXAMPLE.ORG\nworkgroup = AD\n\
             server role = active directory domain controller\nserver services = ldap\n\
             interfaces = {}/8\nbind interfaces only = Yes\n\
             private dir = {root}/dc/private\nlock directory = {root}/dc\nstate directory = {root}/dc/state\n\
             cache directory = {root}/dc/cache\npid directory = {root}/run\nncalrpc dir = {root}/ncalrpc\n\
             winbindd socket directory = {root}/winbindd\nntp signd socket directory = {root}/ntp\n\
             log file = {root}/log.%m\ntls certfile = {}\ntls keyfile = {}\ntls cafile = {}\n",
            self.address,
            tls.certificate.display(),
            tls.key.display(),
            self.ca.file().display(),
        );
        fs::write(self.config(), config).expect("a new file");
        fs::create_dir(self.folder.path().join("run")).expect("a new folder");
        let threshold = format!("--account-lockout-threshold={THRESHOLD}");
        self.tool(&["domain", "passwordsettings", "set", &threshold]);
    }
}

/// An address of 127.0.0.0/8 that no other domain has: made of the process id, and a number within the process.
fn own_address() -> Ipv4Addr {
    static NUMBER: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + NUMBER.fetch_add(1, Ordering::Relaxed) % 100, high, low.clamp(1, 254))
}
