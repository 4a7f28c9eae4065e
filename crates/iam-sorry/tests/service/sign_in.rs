//! Signing in and out, on a machine without a browser.

use std::os::unix::fs::PermissionsExt as _;

use testkit::{ConnectProxy, KeyKind, Outcome, PASSPHRASE, TestCa};

use crate::fake::{Fake, json};
use crate::rig::{Department, Person};

/// Two commands: sign in, and ask who one is.
#[test]
fn by_ssh_key_and_out_again() {
    let department = Department::new();
    let alice = department.person("alice");
    let origin = alice.origin.clone();
    alice.run(&["login", &origin]).ok().prints(&[
        &format!("✓ Signed in to Physics AWS ({origin}) as alice"),
        "✓ Groups: lab-dirk",
        "✓ The session ends at",
    ]);
    alice.run(&["whoami"]).ok().prints(&[
        "Name:          alice",
        "Signed in by:  ssh-key",
        "Namespaces:    dirk",
    ]);
    let json: serde_json::Value =
        serde_json::from_str(&alice.run(&["whoami", "--json"]).ok().stdout).unwrap();
    assert_eq!(json["identity"]["name"], "alice");
    assert_eq!(json["session"]["current"], true);

    // The token lies in one file, for the person alone.
    let file = alice.home.path().join(".local/state/iam-sorry/service.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let state: serde_json::Value = serde_json::from_str(&alice.state()).unwrap();
    let token = state["sessions"][0]["token"].as_str().unwrap().to_owned();
    let key = alice.home.fingerprint(&alice.ssh_key);
    assert_eq!(state["sessions"][0]["key"], key.as_str());

    let doctor = alice.run(&["doctor", "--offline"]);
    let session = format!("session: at {origin} as alice, for ");
    assert!(doctor.stdout.contains(&session), "{}", doctor.stdout);

    let row = alice.run(&["sessions", "list"]).ok().stdout;
    assert!(row.contains("this one") && row.contains("127.0.0.1"), "{row}");

    // Handed to a machine where nothing is configured.
    let elsewhere = department.stranger();
    let mut with_token = elsewhere.command(&["whoami", "--server", &origin]);
    Outcome::of(with_token.env("IAM_SORRY_TOKEN", &token)).ok().prints(&["alice"]);

    alice.run(&["logout"]).ok().prints(&["✓ Signed out of"]);
    assert!(!alice.state().contains(&token));
    alice.run(&["whoami"]).exits(3).says(&["not signed in", "iam-sorry login"]);
    // And the token is worth nothing any more.
    let mut with_token = alice.command(&["whoami"]);
    with_token.env("IAM_SORRY_SERVER", &origin).env("IAM_SORRY_TOKEN", &token);
    Outcome::of(&mut with_token).exits(3).says(&["Your session has ended"]);
    assert!(!department.service.log().contains(&token));
}

/// The token that lies in a person's session file.
fn stored_token(person: &Person) -> String {
    let state: serde_json::Value = serde_json::from_str(&person.state()).unwrap();
    state["sessions"][0]["token"].as_str().unwrap().to_owned()
}

/// What the service says to whoever has this token.
fn status_of(department: &Department, token: &str) -> u16 {
    department.service.api("GET", "/me", token, &serde_json::Value::Null).unwrap().status
}

/// A session that the service was not told about is none that was signed out of: it stays, for the next try.
#[test]
fn a_sign_out_that_the_service_did_not_hear_of_is_none() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let token = stored_token(&alice);
    let refused = alice.run(&["logout", "--ca-file", "/nonexistent"]).exits(2);
    let refused = refused.says(&["/nonexistent can't be read", "You are not signed out of"]);
    assert_eq!(refused.stdout, "");
    assert_eq!((stored_token(&alice), status_of(&department, &token)), (token.clone(), 200));

    // Nobody there: forgotten here, since a service that is gone for good could not be left otherwise.
    department.service.stop();
    let refused = alice.run(&["logout"]).exits(4);
    let refused = refused.says(&["can't be reached", "forgotten here", "may still hold there until "]);
    assert_eq!(refused.stdout, "");
    assert!(!alice.state().contains(&token));
    department.service.run();
    assert_eq!(status_of(&department, &token), 200);
}

/// Whether a session has ended is for the service to say, not for this machine's clock.
#[test]
fn a_session_that_looks_expired_here_is_ended_there() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let token = stored_token(&alice);
    let mut state: serde_json::Value = serde_json::from_str(&alice.state()).unwrap();
    state["sessions"][0]["expires_at"] = "2020-01-01T00:00:00Z".into();
    alice.home.write_mode(".local/state/iam-sorry/service.json", state.to_string(), 0o600);
    alice.run(&["whoami"]).exits(3).says(&["Your session has ended"]);
    alice.run(&["logout"]).ok().prints(&["✓ Signed out of"]);
    assert!(!alice.state().contains(&token));
    assert_eq!(status_of(&department, &token), 401);
    // Outcome by somebody else meanwhile: there is none any more, so one is signed out.
    alice.run(&["login", &alice.origin]).ok();
    let ended = department.service.api("POST", "/logout", &stored_token(&alice), &serde_json::Value::Null);
    assert_eq!(ended.unwrap().status, 204);
    alice.run(&["logout"]).ok().prints(&["✓ Signed out of"]);
}

/// A token that was handed over is ended, and the session of `login` is another.
#[test]
fn a_token_of_the_environment_is_signed_out_and_the_stored_session_stays() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let handed = stored_token(&alice);
    alice.run(&["login", &alice.origin]).ok();
    let stored = stored_token(&alice);
    let with_token = |args: &[&str], token: &str| {
        let mut logout = alice.command(args);
        logout.env("IAM_SORRY_SERVER", &alice.origin).env("IAM_SORRY_TOKEN", token);
        Outcome::of(&mut logout)
    };
    with_token(&["logout"], &handed)
        .ok()
        .prints(&["✓ Signed out of", "the session of IAM_SORRY_TOKEN"])
        .says(&["The session of 'iam-sorry login' there stays", "without IAM_SORRY_TOKEN"]);
    assert_eq!(stored_token(&alice), stored);
    assert_eq!((status_of(&department, &handed), status_of(&department, &stored)), (401, 200));
    // The same one twice is one.
    with_token(&["logout"], &stored).ok().prints(&["✓ Signed out of"]);
    assert!(!alice.state().contains(&stored));
    assert_eq!(status_of(&department, &stored), 401);
}

/// It was handed over for the service of IAM_SORRY_SERVER, and another one must not see it.
#[test]
fn a_token_of_the_environment_is_for_the_service_of_the_environment() {
    let department = Department::new();
    let alice = department.person("alice");
    let other = Fake::start(|_, _, stream| json(stream, "200 OK", "{}"));
    for args in [&["logout", &other.origin][..], &["whoami", "--server", &other.origin]] {
        let mut command = alice.command(args);
        command.env("IAM_SORRY_SERVER", &alice.origin).env("IAM_SORRY_TOKEN", "iss_for-that-service-alone");
        Outcome::of(&mut command).exits(3).says(&["not signed in to", &other.origin]);
    }
    assert_eq!(other.asked().len(), 0);
}

/// Without an agent the key file's passphrase is asked for; a stranger's key is refused without a word about why.
#[test]
fn by_the_key_file_and_with_a_strangers_key() {
    let department = Department::new();
    let alice = department.person("alice");
    let askpass = alice.home.write_script("askpass", &format!("echo '{}'", PASSPHRASE));
    let mut login = alice.command(&["login", &alice.origin]);
    login.env("SSH_AUTH_SOCK", "").env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
    Outcome::of(&mut login).ok().prints(&["as alice"]);

    let stranger = department.stranger();
    let refused = stranger.run(&["login", &stranger.origin]).exits(4);
    let key = stranger.home.fingerprint(&stranger.ssh_key);
    let refused = refused.says(&["Tried: ", &key, "--ldap"]);
    assert!(stranger.state().is_empty(), "{}", refused.stderr);
}

/// The signature is bound to the address that was dialled: a relay that passes the service's challenge on, and its
/// victim's signature back, gets nothing.
#[test]
fn a_relay_in_the_middle_gets_no_session() {
    use std::io::{Read as _, Write as _};
    let department = Department::new();
    let alice = department.person("alice");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let relay = listener.local_addr().unwrap().to_string();
    let address = department.service.address();
    let (here, there) = (relay.clone(), address.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut from = stream.unwrap();
            // One request and one answer, with the addresses put right in both, as an attacker would.
            from.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                request.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            let request = String::from_utf8_lossy(&request).replace(&here, &there);
            let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            let mut to = std::net::TcpStream::connect(&there).unwrap();
            to.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = to.read_to_string(&mut answer);
            let _ = from.write_all(answer.replace(&there, &here).as_bytes());
        }
    });
    alice.run(&["login", &format!("http://{relay}")]).exits(4).says(&["Tried: "]);
    assert!(alice.state().is_empty());
    // Directly, the same key is good.
    alice.run(&["login", &alice.origin]).ok();
}

#[test]
fn by_password() {
    let department = Department::new();
    let alice = department.person("alice");
    let login = |password: &str| {
        let askpass = alice.home.write_script("askpass", &format!("echo '{password}'"));
        let mut login = alice.command(&["login", &alice.origin, "--ldap", "--user", "alice"]);
        login.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        Outcome::of(&mut login)
    };
    let refused = login("wrong").exits(4);
    assert!(!refused.stderr.contains("wrong-"), "{}", refused.stderr);
    login("").exits(2).says(&["An empty password signs nobody in"]);
    login("alice-password").ok().prints(&["as alice"]);
    alice.run(&["whoami"]).ok().prints(&["Signed in by:  ldap"]);
    assert!(
        !alice.state().contains("alice-password") && !department.service.log().contains("alice-password")
    );
    // Nobody to ask: it fails at once.
    alice.run(&["login", &alice.origin, "--ldap", "--user", "alice"]).exits(2).says(&["no terminal"]);
}

/// A second machine: its key, which lies in its agent alone, signs that it is hers, and is taken out again.
#[test]
fn a_registered_key_signs_in_until_it_is_taken_out() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let laptop = department.stranger();
    laptop.run(&["login", &laptop.origin]).exits(4);
    let public = laptop.ssh_key.with_extension("pub").display().to_string();
    let fingerprint = laptop.home.fingerprint(&laptop.ssh_key);
    laptop.by_password("alice").ok();
    std::fs::rename(&laptop.ssh_key, laptop.home.path().join("elsewhere")).unwrap();
    laptop.run(&["ssh-keys", "add", &public]).ok().prints(&[&fingerprint, "as alice"]);
    std::fs::rename(laptop.home.path().join("elsewhere"), &laptop.ssh_key).unwrap();
    alice.run(&["ssh-keys", "list"]).ok().prints(&[&fingerprint, "ldap"]);
    laptop.run(&["login", &laptop.origin]).ok().prints(&["as alice"]);
    laptop.run(&["whoami"]).ok().prints(&["Signed in by:  ssh-key, registered by ldap"]);
    let sessions = alice.run(&["sessions", "list", "--json"]).ok().stdout;
    let sessions: serde_json::Value = serde_json::from_str(&sessions).unwrap();
    let other = sessions.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    alice.run(&["sessions", "end", other["id"].as_str().unwrap()]).ok();
    laptop.run(&["whoami"]).exits(3).says(&["Your session has ended"]);
    alice.run(&["ssh-keys", "remove", &public]).ok();
    laptop.run(&["login", &laptop.origin]).exits(4);
}

/// The public half is no secret. Who has it alone registers nothing, and its owner does not become them.
#[test]
fn nobody_registers_a_key_that_they_do_not_hold() {
    let department = Department::new();
    let (mallory, victim) = (department.signed_in("bob"), department.stranger());
    let copied = mallory.home.path().join("victim.pub");
    std::fs::copy(victim.ssh_key.with_extension("pub"), &copied).unwrap();
    let refused = mallory.run(&["ssh-keys", "add", &copied.display().to_string()]).exits(5);
    refused.says(&["registering that key", &victim.home.fingerprint(&victim.ssh_key)]);
    mallory.run(&["ssh-keys", "list"]).ok();
    victim.run(&["login", &victim.origin]).exits(4).says(&["Tried: "]);
    assert!(victim.state().is_empty());
}

/// bob's entry has a copy of alice's key. She says who she is once; from then on the key has to be hers.
#[test]
fn a_key_that_two_people_claim_signs_in_who_is_named() {
    let department = Department::new();
    let alice = department.person("alice");
    department.register("bob", &alice);
    let asked = alice.run(&["login", &alice.origin]).exits(4);
    let command = format!("iam-sorry login {} --user corp/alice", alice.origin);
    let asked = asked.says(&["corp/alice, corp/bob", &command]);
    assert!(alice.state().is_empty(), "{asked:?}");
    let typed: Vec<&str> = command.split(' ').skip(1).collect();
    alice.run(&typed).ok().prints(&["as alice"]);
    // The same key at the same address: no question any more.
    alice.run(&["login", &alice.origin]).ok().prints(&["as alice"]);
    // Hers is gone from the directory, the copy is there: refused, not signed in as bob.
    department.slapd.set_ssh_keys("alice", &[]);
    let refused = alice.run(&["login", &alice.origin]).exits(4);
    refused.says(&[
        "signed alice in here the last time",
        &format!("iam-sorry login {} --user NAME", alice.origin),
    ]);
    alice.run(&["login", &alice.origin, "--user", "carol"]).exits(4);
    alice.run(&["login", &alice.origin, "--user", "bob"]).ok().prints(&["as bob"]);
}

/// The rule of docs/rules.md: a password brings no key past it, however many keys it registers.
#[test]
fn changes_want_an_ssh_key_that_no_password_brought_in() {
    let page = include_str!("../../../../docs/rules.md");
    let rule = page.split("```cedar\n").find(|block| block.starts_with("@id(\"changes-want-an-ssh-key\")"));
    let department = Department::with_rules(rule.unwrap().split("```").next().unwrap());
    let may_not = |person: &Person| {
        let refused = person.run(&["users", "create", "dirk-x"]).exits(4);
        refused.says(&["changes-want-an-ssh-key"]);
    };
    let thief = department.stranger();
    thief.by_password("alice").ok();
    may_not(&thief);
    let key = |machine: &Person| machine.ssh_key.display().to_string();
    thief.run(&["ssh-keys", "add", &key(&thief)]).ok();
    thief.run(&["login", &thief.origin]).ok().prints(&["as alice"]);
    may_not(&thief);
    let second = thief.home.ssh_key_as("second", KeyKind::Ed25519, PASSPHRASE, 16);
    thief.agent().add(&second, PASSPHRASE, &[]);
    thief.run(&["ssh-keys", "add", &second.display().to_string()]).ok();
    thief.run(&["login", &thief.origin, "--ssh-key", &second.display().to_string()]).ok();
    may_not(&thief);

    let alice = department.signed_in("alice");
    alice.run(&["users", "create", "dirk-x"]).ok();
}

/// Signs in as soon as the service answers.
fn log_in_when_ready(department: &Department, login: impl Fn() -> Outcome) {
    let begun = std::time::Instant::now();
    loop {
        let login = login();
        if login.code == 0 {
            return;
        }
        let waited = begun.elapsed().as_secs();
        assert!(waited < 60, "{login:?}\n{}", department.service.log());
    }
}

/// Over TLS, with a certificate authority of the department's own; nothing is said to a service that can't prove who it is.
#[test]
fn over_tls() {
    let ca = TestCa::new();
    let (department, origin) = Department::with_tls(&ca);
    let alice = department.person_at("alice", &origin);
    let (ca_file, other) = (ca.file().display().to_string(), TestCa::new());
    log_in_when_ready(&department, || alice.run(&["login", &origin, "--ca-file", &ca_file]));
    let mut whoami = alice.command(&["whoami"]);
    whoami.env("IAM_SORRY_CA_FILE", &ca_file);
    Outcome::of(&mut whoami).ok().prints(&["alice"]);
    alice.run(&["whoami"]).exits(4).says(&["The TLS connection to", "--ca-file FILE"]);
    let other_file = other.file().display().to_string();
    alice.run(&["whoami", "--ca-file", &other_file]).exits(4).says(&["The TLS connection to"]);
    alice.run(&["whoami", "--ca-file", "/nonexistent"]).exits(2);
}

/// Many login nodes have no other way out. The proxy sees TLS, and what it refuses is said as its refusal.
#[test]
fn through_a_proxy() {
    let ca = TestCa::new();
    let (department, origin) = Department::with_tls(&ca);
    let alice = department.person_at("alice", &origin);
    let run = |args: &[&str], proxy: &str, no_proxy: &str| {
        let mut command = alice.command(args);
        command.env("IAM_SORRY_CA_FILE", ca.file()).env("HTTPS_PROXY", proxy).env("NO_PROXY", no_proxy);
        Outcome::of(&mut command)
    };
    let proxy = ConnectProxy::start();
    log_in_when_ready(&department, || run(&["login", &origin], &proxy.url("me:hunter2@"), ""));
    run(&["whoami"], &proxy.url("me:hunter2@"), "example.org").ok().prints(&["alice"]);
    let heads = proxy.heads();
    let place = origin.trim_start_matches("https://");
    assert!(heads.len() > 1);
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {place} HTTP/1.1\r\n")), "{head}");
        // me:hunter2
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic bwu6ahvudgvymg=="), "{head}");
        assert!(!head.to_ascii_lowercase().contains("bearer"), "{head}");
    }

    let closed = format!("http://me:hunter2@127.0.0.1:{}", testkit::free_port());
    let refuses = ConnectProxy::answering("407 Proxy Authentication Required").url("me:hunter2@");
    for (proxy, said) in [
        (&refuses, "does not let us through (407 Proxy Authentication Required)"),
        (&closed, "can't be reached: Connection refused"),
    ] {
        let ended = run(&["whoami"], proxy, "").exits(4);
        let ended = ended.says(&["the proxy 127.0.0.1:", "(HTTPS_PROXY)", said]);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        // What NO_PROXY names is reached without it.
        run(&["whoami"], proxy, "example.org, 127.0.0.0/8").ok();
    }
    for proxy in [
        "socks5://me:hunter2@127.0.0.1:1080",
        "http://",
        "me:hunter2@:x",
        "https://127.0.0.1",
        "http://me:hunter2@",
    ] {
        let ended = run(&["whoami"], proxy, "").exits(2);
        let ended = ended.says(&["HTTPS_PROXY", "http://proxy.example.org:3128"]);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
}
