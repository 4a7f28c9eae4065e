//! A group is not its name: somebody who may create groups somewhere below `groups_base` gains nothing by it, and frees nobody
//! from a rule (issue 9, number 8).

use iam_sorry_core::api::{ExplainRequest, Explanation, ProblemCode};
use iam_sorry_server::sessions::NewSession;
use testkit::Slapd;

use crate::rig::{HERE, OpenSshKey, Rig};
use crate::setup::Setup;

const OWNERS: &str =
    "permit (principal, action, resource)\nwhen { resource has owners && principal in resource.owners };";
const NOT_SUSPENDED: &str = "permit (principal, action, resource);\n\
    @id(\"suspended\") forbid (principal in IamSorry::Group::\"suspended\", action, resource);";

fn department() -> (Slapd, Rig) {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(&login(&slapd, &folder), folder, |methods| methods);
    (slapd, rig)
}

fn login(slapd: &Slapd, folder: &tempfile::TempDir) -> String {
    format!("[ssh]\n[limits]\nrefusal_milliseconds = 0\n[ldap]\n{}", Setup::plain(slapd).toml(folder))
}

/// A place below `groups_base` where anybody may create groups, and a group there.
fn self_service(slapd: &Slapd, name: &str, member: &str) -> String {
    let base = slapd.groups_base();
    let dn = format!("cn={name},ou=self-service,{base}");
    slapd.modify(&format!(
        "dn: ou=self-service,{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: self-service\n\n\
         dn: {dn}\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\nmember: {}\n",
        slapd.person_dn(member)
    ));
    dn
}

impl Rig {
    async fn signed_in(&self, name: &str) -> NewSession {
        self.by_password(name, &format!("{name}-password"), HERE).await.unwrap()
    }

    /// Whether the person of the session may look at the user `dirk-x`, and why.
    async fn may(&self, session: &NewSession) -> Explanation {
        let caller = self.caller(session).await.unwrap();
        let request = ExplainRequest {
            action: "create-user".into(),
            resource: "dirk-x".into(),
            policy_arn: None,
            duration_seconds: None,
        };
        self.service.explain(&caller, request).await.unwrap()
    }
}

#[tokio::test]
async fn a_second_group_of_the_name_lifts_no_forbid() {
    let (slapd, rig) = department();
    rig.set_rules(NOT_SUSPENDED, "person:nobody");
    slapd.add_group("suspended", &[&slapd.person_dn("alice")]);
    let (alice, bob) = (rig.signed_in("alice").await, rig.signed_in("bob").await);
    assert!(!rig.may(&alice).await.allowed && rig.may(&bob).await.allowed);

    self_service(&slapd, "Suspended", "bob");
    rig.wait(15 * 60);
    for session in [&alice, &rig.signed_in("alice").await, &bob, &rig.signed_in("bob").await] {
        let said = rig.may(session).await;
        assert!(!said.allowed, "{said:?}");
        assert!(said.reasons[0].contains("suspended"), "{said:?}");
    }
    assert!(rig.may(&rig.signed_in("erin").await).await.allowed, "who is in neither");
}

#[tokio::test]
async fn a_second_group_of_the_name_takes_no_namespace_and_a_dn_keeps_it() {
    let (slapd, rig) = department();
    rig.set_rules(OWNERS, "group:Lab-Dirk");
    let (alice, bob) = (rig.signed_in("alice").await, rig.signed_in("bob").await);
    assert!(rig.may(&alice).await.allowed && !rig.may(&bob).await.allowed);

    let theirs = self_service(&slapd, "lab-dirk", "bob");
    rig.wait(15 * 60);
    let (alice_again, bob_again) = (rig.signed_in("alice").await, rig.signed_in("bob").await);
    for session in [&alice, &alice_again, &bob, &bob_again] {
        let said = rig.may(session).await;
        assert!(!said.allowed, "{said:?}");
        assert!(said.reasons.iter().any(|reason| reason.contains("ambiguous")), "{said:?}");
    }
    rig.service.look_at_group_names().await.unwrap();
    let [ambiguous] = rig.service.ambiguous_group_names().try_into().unwrap();
    assert_eq!(
        (ambiguous.name.as_str(), &ambiguous.used_by[..]),
        ("lab-dirk", &["namespace \"dirk\"".to_owned()][..])
    );
    assert!(ambiguous.groups.contains(&theirs) && ambiguous.groups.len() == 2, "{ambiguous:?}");

    // The way out, and what the records call them.
    for owner in [
        format!("group:CN=lab-dirk, {}", slapd.groups_base()),
        "group:".to_owned() + &id_of(&slapd, "lab-dirk"),
    ] {
        rig.set_rules(OWNERS, &owner);
        assert!(rig.may(&alice).await.allowed && rig.may(&alice_again).await.allowed, "{owner}");
        assert!(!rig.may(&bob).await.allowed && !rig.may(&bob_again).await.allowed, "{owner}");
    }
    let record = rig.trail().await.into_iter().find(|record| record.person.name == "bob").unwrap();
    assert!(record.person.groups.contains(&theirs), "{record:?}");
    rig.service.look_at_group_names().await.unwrap();
    assert_eq!(rig.service.ambiguous_group_names(), []);
}

/// `corp/UUID` of a group.
fn id_of(slapd: &Slapd, group: &str) -> String {
    let output = std::process::Command::new("ldapsearch")
        .args(["-x", "-LLL", "-H", &slapd.url(), "-D", &slapd.service_dn(), "-w", slapd.service_password()])
        .args(["-b", &format!("cn={group},{}", slapd.groups_base()), "-s", "base", "entryUUID"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("entryUUID: ")).unwrap();
    format!("corp/{id}")
}

/// Groups of one name are noticed whatever kind they are, and hundreds of them keep nobody from signing in.
#[tokio::test]
async fn any_number_of_groups_of_any_kind_make_a_name_ambiguous_and_nothing_else() {
    let (slapd, rig) = department();
    rig.set_rules(OWNERS, "group:lab-dirk");
    let base = slapd.groups_base();
    let group = |n: u32| {
        format!(
            "dn: cn=lab-dirk,ou=place-{n},{base}\nchangetype: add\nobjectClass: posixGroup\ncn: lab-dirk\n\
             gidNumber: {n}\nmemberUid: bob\n\n"
        )
    };
    let place = |n: u32| {
        format!(
            "dn: ou=place-{n},{base}\nchangetype: add\nobjectClass: organizationalUnit\nou: place-{n}\n\n"
        )
    };
    slapd.modify(&(place(50_000) + &group(50_000)));
    assert!(!rig.may(&rig.signed_in("alice").await).await.allowed);
    assert!(!rig.may(&rig.signed_in("bob").await).await.allowed);
    // More than slapd gives in one answer.
    slapd.modify(
        &(50_001..50_600).map(|n| place(n) + &group(n)).collect::<String>().replace("memberUid: bob\n", ""),
    );
    let alice = rig.signed_in("alice").await;
    assert!(!rig.may(&alice).await.allowed);
    rig.service.look_at_group_names().await.unwrap();
    assert_eq!(rig.service.ambiguous_group_names()[0].groups.len(), 0, "too many to list");
}

/// The same over two places that groups come from.
#[tokio::test]
async fn a_group_of_the_file_and_one_of_the_directory_are_not_one() {
    let slapd = Slapd::department();
    let (ada, folder) = (OpenSshKey::new("ed25519"), tempfile::tempdir().unwrap());
    let file = folder.path().join("people.toml");
    let people =
        format!("[[people]]\nname = \"ada\"\ngroups = [\"lab-dirk\", \"ops\"]\nkeys = [\"{}\"]\n", ada.line);
    std::fs::write(&file, people).unwrap();
    let login = login(&slapd, &folder).replace("[ssh]\n", &format!("[ssh]\nfile = {file:?}\n"));
    let rig = Rig::with(&login, folder, |methods| methods);
    let (ada, alice) = (rig.by_key(&ada).await.unwrap(), rig.signed_in("alice").await);

    rig.set_rules(OWNERS, "group:ops");
    assert!(!rig.may(&ada).await.allowed, "whether the directory has such a group, nobody has asked yet");
    rig.service.look_at_group_names().await.unwrap();
    assert!(rig.may(&ada).await.allowed && !rig.may(&alice).await.allowed);

    rig.set_rules(OWNERS, "group:lab-dirk");
    rig.service.look_at_group_names().await.unwrap();
    assert!(!rig.may(&ada).await.allowed && !rig.may(&alice).await.allowed);
    let groups = &rig.service.ambiguous_group_names()[0].groups;
    assert_eq!(*groups, [format!("cn=lab-dirk,{}", slapd.groups_base()), "file/lab-dirk".to_owned()]);
    rig.set_rules(OWNERS, "group:file/lab-dirk");
    assert!(rig.may(&ada).await.allowed && !rig.may(&alice).await.allowed);
}

/// A session that a version before opened knows groups by bare names: worth nothing until the directory was asked.
#[tokio::test]
async fn a_session_of_a_version_before_is_looked_up_at_once() {
    let (slapd, rig) = department();
    rig.set_rules(OWNERS, "group:lab-dirk");
    let session = rig.signed_in("alice").await;
    let person = rig.caller(&session).await.unwrap().identity;
    let database = rusqlite::Connection::open(rig.folder.path().join("store.db")).unwrap();
    let old = format!(
        r#"{{"issuer":"corp","subject":"{}","name":"alice","groups":["lab-dirk","lab-ada"],"method":"ldap"}}"#,
        person.subject
    );
    assert_eq!(database.execute("UPDATE sessions SET identity = ?1", [&old]).unwrap(), 1);
    // Another instance, which has nothing in memory.
    let second = rig.second(&login(&slapd, &rig.folder));
    let authz_request = || {
        let token = secrecy::ExposeSecret::expose_secret(&session.answer.token).to_owned();
        let second = second.clone();
        async move { second.caller_by_token(crate::rig::origin(HERE), &token).await }
    };
    slapd.pause();
    assert_eq!(authz_request().await.unwrap_err().code, ProblemCode::DirectoryUnavailable);
    slapd.resume();
    rig.wait(61);
    let identity = wait_for(async || authz_request().await.ok()).await.identity;
    assert_eq!(identity.groups.labels(), ["lab-dirk"]);
    let kept = rig.store.session(&session.id).await.unwrap().unwrap();
    assert_eq!(kept.identity, identity, "and it is written down");
}

/// Asks until there is an answer, for a minute.
async fn wait_for<T>(authz_request: impl AsyncFn() -> Option<T>) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(answer) = authz_request().await {
            return answer;
        }
        assert!(std::time::Instant::now() < end, "nothing in a minute");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
