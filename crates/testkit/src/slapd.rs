//! A real OpenLDAP server (slapd) with people, nested groups and a service account, on loopback ports of its own.
//!
//! Everything starts from an empty folder: `slapadd -n 0` makes the configuration, `slapadd -n 1` the tree. It is an
//! ordinary directory of a department: people are inetOrgPerson with posixAccount and SSH keys (openssh-lpk), groups
//! are groupOfNames, and a group may be a member of a group. Anybody may bind, those who did may read, passwords are
//! for comparing only.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;

use crate::ldif::{escaped, line};
use crate::process::{Folder, Server, run, system_path};
use crate::{TestCa, free_port};

const BASE: &str = "dc=example,dc=org";
const PASSWORD: &str = "testkit-service-account";

/// What is unusual about a [`Slapd`].
#[derive(Debug, Clone)]
pub struct SlapdOptions {
    /// A bind with a name and an *empty* password "succeeds", as RFC 4513 (5.1.2) has it for unauthenticated binds. Who
    /// takes success for proof lets anybody in. Off in slapd's own defaults.
    pub anonymous_bind_with_empty_password: bool,
    /// LDAPS and StartTLS with a certificate for `localhost` and 127.0.0.1 from [`Slapd::ca_file`].
    pub tls: bool,
    /// Whether people who did not bind may read (not passwords).
    pub anonymous_read: bool,
}

impl Default for SlapdOptions {
    fn default() -> Self {
        Self { anonymous_bind_with_empty_password: false, tls: true, anonymous_read: false }
    }
}

/// A running slapd. Ends on drop and with the test process.
#[derive(Debug)]
pub struct Slapd {
    folder: Folder,
    ca: TestCa,
    tls: bool,
    port: u16,
    tls_port: u16,
    people: AtomicU32,
    server: Mutex<Option<Server>>,
}

impl Slapd {
    /// A directory with the empty folders `ou=people`, `ou=groups` and the service account.
    pub fn start(options: &SlapdOptions) -> Slapd {
        let slapd = Slapd {
            folder: Folder::new(),
            ca: TestCa::new(),
            tls: options.tls,
            port: free_port(),
            tls_port: free_port(),
            people: AtomicU32::new(0),
            server: Mutex::new(None),
        };
        slapd.set_up(options);
        slapd.restart();
        slapd
    }

    /// The directory that most tests want: alice in `lab-dirk`; bob in `lab-ada`; carol in `interns`, which is a member
    /// of `lab-ada`; erin in `auditors`; everybody's password is their name with `-password`.
    pub fn department() -> Slapd {
        let slapd = Slapd::start(&SlapdOptions::default());
        let person = |uid: &str, cn: &str| slapd.add_person(uid, cn, &format!("{uid}-password"));
        let (alice, bob) = (person("alice", "Alice Liddell"), person("bob", "Bob Dobbs"));
        let (carol, erin) = (person("carol", "Carol Kaye"), person("erin", "Erin Brock"));
        slapd.add_group("lab-dirk", &[&alice]);
        let interns = slapd.add_group("interns", &[&carol]);
        slapd.add_group("lab-ada", &[&bob, &interns]);
        slapd.add_group("auditors", &[&erin]);
        slapd
    }

    /// `ldap://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// `ldaps://127.0.0.1:PORT`; the certificate is also for `localhost`.
    ///
    /// # Panics
    /// Where it was started without TLS.
    pub fn tls_url(&self) -> String {
        assert!(self.tls, "this slapd has no TLS");
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    /// The port of plain LDAP and StartTLS on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The CA certificate that clients have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.ca.file()
    }

    /// `dc=example,dc=org`.
    pub fn base(&self) -> &'static str {
        BASE
    }

    /// Where people are.
    pub fn people_base(&self) -> String {
        format!("ou=people,{BASE}")
    }

    /// Where groups are.
    pub fn groups_base(&self) -> String {
        format!("ou=groups,{BASE}")
    }

    /// The account that searches.
    pub fn service_dn(&self) -> String {
        format!("cn=iam-sorry,ou=services,{BASE}")
    }

    /// Its password.
    pub fn service_password(&self) -> &'static str {
        PASSWORD
    }

    /// The distinguished name of somebody in [`Slapd::people_base`], with any characters in the name.
    pub fn person_dn(&self, uid: &str) -> String {
        format!("uid={},ou=people,{BASE}", escaped(uid))
    }

    /// Adds a person; gives the distinguished name.
    pub fn add_person(&self, uid: &str, cn: &str, password: &str) -> String {
        let dn = self.person_dn(uid);
        let number = 10_000 + self.people.fetch_add(1, Ordering::Relaxed);
        let mut entry = line("dn", &dn) + "changetype: add\n";
        for class in ["inetOrgPerson", "posixAccount", "shadowAccount", "ldapPublicKey"] {
            entry += &format!("objectClass: {class}\n");
        }
        let surname = cn.rsplit(' ').next().unwrap_or(cn);
        entry +=
            &[line("uid", uid), line("cn", cn), line("sn", surname), line("userPassword", password)].concat();
        entry += &format!("uidNumber: {number}\ngidNumber: 10000\nhomeDirectory: /home/{number}\n");
        entry +=
            &line("mail", format!("{}@example.org", uid.replace(|c: char| !c.is_ascii_alphanumeric(), "")));
        self.modify(&entry);
        dn
    }

    /// Replaces a person's password.
    pub fn set_password(&self, uid: &str, password: &str) {
        self.set_attribute(&self.person_dn(uid), "userPassword", &[password]);
    }

    /// Replaces a person's SSH keys by these lines of `id_ed25519.pub` files.
    pub fn set_ssh_keys(&self, uid: &str, keys: &[&str]) {
        self.set_attribute(&self.person_dn(uid), "sshPublicKey", keys);
    }

    /// Locks a person out for good, as an administrator does (pwdAccountLockedTime, draft-behera-ldap-password-policy).
    pub fn lock(&self, uid: &str) {
        self.set_attribute(&self.person_dn(uid), "pwdAccountLockedTime", &["000001010000Z"]);
    }

    /// Ends what [`Slapd::lock`] did.
    pub fn unlock(&self, uid: &str) {
        self.set_attribute(&self.person_dn(uid), "pwdAccountLockedTime", &[]);
    }

    /// Gives a person another login name: another DN and uid, the same entryUUID.
    pub fn rename(&self, uid: &str, to: &str) {
        let entry = line("dn", self.person_dn(uid)) + "changetype: modrdn\n";
        self.modify(&(entry + &line("newrdn", format!("uid={}", escaped(to))) + "deleteoldrdn: 1\n"));
    }

    /// Deletes an entry.
    pub fn delete(&self, dn: &str) {
        self.modify(&(line("dn", dn) + "changetype: delete\n"));
    }

    /// Adds a groupOfNames; gives its distinguished name. Members are people or groups, by DN; a group without any has
    /// itself for a member, since the schema wants one.
    pub fn add_group(&self, cn: &str, members: &[&str]) -> String {
        let dn = format!("cn={},ou=groups,{BASE}", escaped(cn));
        let mut entry = line("dn", &dn) + "changetype: add\nobjectClass: groupOfNames\n" + &line("cn", cn);
        let own = [dn.as_str()];
        for member in if members.is_empty() { &own } else { members } {
            entry += &line("member", member);
        }
        self.modify(&entry);
        dn
    }

    /// Adds a posixGroup with members by login name; gives its distinguished name.
    pub fn add_posix_group(&self, cn: &str, uids: &[&str]) -> String {
        let dn = format!("cn={},ou=groups,{BASE}", escaped(cn));
        let number = 20_000 + self.people.fetch_add(1, Ordering::Relaxed);
        let mut entry = line("dn", &dn) + "changetype: add\nobjectClass: posixGroup\n" + &line("cn", cn);
        entry += &format!("gidNumber: {number}\n");
        for uid in uids {
            entry += &line("memberUid", uid);
        }
        self.modify(&entry);
        dn
    }

    /// Puts a person or group into a group.
    pub fn add_member(&self, group: &str, member: &str) {
        self.modify(&(line("dn", group) + "changetype: modify\nadd: member\n" + &line("member", member)));
    }

    /// Takes a person or group out of a group.
    pub fn remove_member(&self, group: &str, member: &str) {
        self.modify(&(line("dn", group) + "changetype: modify\ndelete: member\n" + &line("member", member)));
    }

    /// Replaces all values of an attribute; no values take it away.
    pub fn set_attribute(&self, dn: &str, name: &str, values: &[&str]) {
        let mut entry = line("dn", dn) + &format!("changetype: modify\nreplace: {name}\n");
        for value in values {
            entry += &line(name, value);
        }
        self.modify(&entry);
    }

    /// Applies LDIF change records as the directory's administrator.
    ///
    /// # Panics
    /// With the server's words when it refuses.
    pub fn modify(&self, ldif: &str) {
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).expect("a new file");
        fs::write(file.path(), ldif).expect("a new file");
        let mut command = Command::new("ldapmodify");
        command
            .env_clear()
            .env("PATH", system_path())
            .args(["-x", "-D", &format!("cn=admin,{BASE}"), "-w", PASSWORD, "-e", "relax", "-H", &self.url()])
            .arg("-f")
            .arg(file.path())
            .stdin(Stdio::null());
        run(&mut command);
    }

    /// What the server logged since its last start: a line for each connection and operation (`-d stats`).
    pub fn log(&self) -> String {
        self.server().as_ref().map(Server::log).unwrap_or_default()
    }

    /// Ends the server; connections break and new ones are refused. What is stored stays.
    pub fn stop(&self) {
        drop(self.server().take());
    }

    /// Starts it again on the same ports with what it holds.
    pub fn restart(&self) {
        self.stop();
        let folder = self.folder.path();
        let mut urls = self.url();
        if self.tls {
            let _ = write!(urls, " ldaps://127.0.0.1:{}", self.tls_port);
        }
        let config = folder.join("config").into_os_string();
        let arguments = ["-d".into(), "stats".into(), "-h".into(), urls.into(), "-F".into(), config];
        let server = Server::start(&folder.join("slapd"), &arguments, &[], crate::short_temp_dir().keep());
        // It says "slapd starting" before it listens (listen(2) comes in its main loop), so the ports are tried too.
        let mut ports = vec![self.port];
        ports.extend(self.tls.then_some(self.tls_port));
        server.wait_for("slapd to listen", |log| {
            let listens = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok();
            (log.contains("slapd starting") && ports.iter().all(listens)).then_some(())
        });
        *self.server() = Some(server);
    }

    /// Stops it as a hanging directory does: connections are taken, nothing is answered.
    pub fn pause(&self) {
        self.server().as_ref().expect("slapd runs").signal(Signal::STOP);
    }

    /// Ends what [`Slapd::pause`] did.
    pub fn resume(&self) {
        self.server().as_ref().expect("slapd runs").signal(Signal::CONT);
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_up(&self, options: &SlapdOptions) {
        let folder = self.folder.path();
        for name in ["config", "data"] {
            fs::create_dir(folder.join(name)).expect("a new folder");
        }
        // A copy: AppArmor profiles of distributions pin slapd, by its path, to the system's own folders.
        // Made by cp: a child that another test forks while *we* write would keep it busy (execve(2), ETXTBSY).
        run(Command::new("cp").arg("/usr/sbin/slapd").arg(folder.join("slapd")));
        fs::write(folder.join("config.ldif"), self.configuration(options)).expect("a new file");
        fs::write(folder.join("tree.ldif"), tree()).expect("a new file");
        for (number, ldif) in [("0", "config.ldif"), ("1", "tree.ldif")] {
            let mut command = Command::new(folder.join("slapd"));
            command.env_clear().env("PATH", system_path()).current_dir(folder);
            run(command.args(["-T", "add", "-n", number, "-F", "config", "-l", ldif]));
        }
    }

    fn configuration(&self, options: &SlapdOptions) -> String {
        let data = self.folder.path().join("data");
        let mut text =
            "dn: cn=config\nobjectClass: olcGlobal\ncn: config\nolcPidFile: slapd.pid\n".to_owned();
        if options.anonymous_bind_with_empty_password {
            // bind_anon_dn is the one for a name with an empty password, bind_anon_cred for a password without a name.
            text += "olcAllows: bind_anon_dn bind_anon_cred\n";
        }
        if options.tls {
            let server = self.ca.issue_loopback();
            let (certificate, key) = (server.certificate.display(), server.key.display());
            let _ = writeln!(text, "olcTLSCertificateFile: {certificate}\nolcTLSCertificateKeyFile: {key}");
        }
        text += "\ndn: cn=module,cn=config\nobjectClass: olcModuleList\ncn: module\nolcModulePath: /usr/lib/ldap\n\
                 olcModuleLoad: back_mdb\nolcModuleLoad: memberof\nolcModuleLoad: ppolicy\n\n\
                 dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n\n";
        for schema in ["core", "cosine", "inetorgperson", "nis"] {
            let _ = writeln!(text, "include: file:///etc/ldap/schema/{schema}.ldif\n");
        }
        text += SSH_SCHEMA;
        text += "dn: olcDatabase=frontend,cn=config\nobjectClass: olcDatabaseConfig\nobjectClass: olcFrontendConfig\n\
                 olcDatabase: frontend\n\n\
                 dn: olcDatabase=config,cn=config\nobjectClass: olcDatabaseConfig\nolcDatabase: config\n\
                 olcAccess: to * by * none\n\n";
        let strangers = if options.anonymous_read { "read" } else { "auth" };
        let _ = write!(
            text,
            "dn: olcDatabase=mdb,cn=config\nobjectClass: olcDatabaseConfig\nobjectClass: olcMdbConfig\n\
             olcDatabase: mdb\nolcSuffix: {BASE}\nolcDbDirectory: {}\nolcDbNoSync: TRUE\n\
             olcDbIndex: objectClass,uid,cn,member,memberUid,entryUUID,sshPublicKey eq\n\
             olcRootDN: cn=admin,{BASE}\nolcRootPW: {PASSWORD}\n\
             olcAccess: to attrs=userPassword by anonymous auth by * none\n\
             olcAccess: to * by users read by anonymous {strangers}\n\n\
             dn: olcOverlay=memberof,olcDatabase={{1}}mdb,cn=config\nobjectClass: olcMemberOf\n\
             olcOverlay: memberof\n\n\
             dn: olcOverlay=ppolicy,olcDatabase={{1}}mdb,cn=config\nobjectClass: olcPPolicyConfig\n\
             olcOverlay: ppolicy\nolcPPolicyDefault: cn=default,ou=policies,{BASE}\n\n",
            data.display()
        );
        text
    }
}

/// openssh-lpk, the schema that everybody uses for keys in LDAP.
const SSH_SCHEMA: &str = "dn: cn=openssh-lpk,cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: openssh-lpk\n\
    olcAttributeTypes: ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' DESC 'OpenSSH Public key'\n  \
    EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )\n\
    olcObjectClasses: ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY\n  \
    MAY ( sshPublicKey $ uid ) )\n\n";

fn tree() -> String {
    let mut text =
        format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n");
    for name in ["people", "groups", "services", "policies"] {
        let _ = write!(text, "dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n\n");
    }
    // Locking is honoured, but nobody is locked for wrong passwords: tests give many.
    let _ = write!(
        text,
        "dn: cn=default,ou=policies,{BASE}\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\ncn: default\n\
         pwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 0\n\n\
         dn: cn=iam-sorry,ou=services,{BASE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
         cn: iam-sorry\nuserPassword: {PASSWORD}\n\n"
    );
    text
}
