//! What a person does in a day, on a desktop and on a phone.

use serde_json::json;
use testkit::{Browser, Creds};

use crate::rig::{Person, Rig, code};

#[test]
fn a_day_at_the_desk() {
    let rig = Rig::start();
    let person = Person::new(&rig, &rig.service.origin(), Browser::desktop(), 1280);
    day(&rig, &person, "dirk-desk");
}

#[test]
fn a_day_on_the_phone() {
    let rig = Rig::start();
    let person = Person::new(&rig, &rig.service.origin(), Browser::phone(), 390);
    day(&rig, &person, "dirk-phone");
}

#[test]
fn in_the_dark_nothing_is_lost() {
    let rig = Rig::start();
    let person = Person::new(&rig, &rig.service.origin(), Browser::start(360, 740), 360);
    person.browser.prefer_color_scheme("dark");
    person.goto("/");
    person.look("dark-sign-in");
    person.sign_in("erin", "erin-password");
    for page in ["/credentials", "/namespace", "/audit", "/rules", "/sessions", "/nowhere"] {
        person.goto(page);
        person.look(&format!("dark{}", page.replace('/', "-")));
    }
    // Who oversees sees everybody, and ends whom she must.
    let alices = rig.token("alice");
    person.goto("/sessions");
    person.click("Everybody's sessions");
    person.look("dark-everybody");
    let rows = person.browser.find_all("table[aria-labelledby=sessions] tbody tr");
    let alice = rows.iter().find(|row| row.text().contains("alice")).unwrap();
    alice.find("button").follow();
    assert_eq!(rig.service.api("GET", "/me", &alices, &json!(null)).unwrap().status, 401);
    person.goto("/audit?person=alice");
    assert!(person.browser.text().contains("alice"), "{}", person.browser.text());
    person.look("dark-audit-of-alice");
}

fn day(rig: &Rig, person: &Person<'_>, user: &str) {
    signing_in(person);
    creating(rig, person, user);
    policies(rig, person, user);
    temporary(rig, person, user);
    keys(rig, person, user);
    asking(person, user);
    reading(rig, person, user);
    sessions(rig, person);
    deleting(rig, person, user);
    leaving(person);
}

fn signing_in(person: &Person<'_>) {
    let browser = &person.browser;
    person.goto("/namespace");
    assert_eq!(person.place(), "/sign-in?next=%2Fnamespace");
    assert!(browser.text().contains(&format!("iam-sorry login {}", person.origin)), "{}", browser.text());
    person.look("sign-in");
    person.sign_in("alice", "wrong");
    assert_eq!(person.place(), "/sign-in");
    assert!(browser.find("[role=alert]").is_displayed());
    assert_eq!(browser.find("#username").property("value"), json!("alice"));
    assert_eq!(browser.find("#password").property("value"), json!(""));
    person.look("sign-in-refused");
    person.sign_in("alice", "alice-password");
    assert_eq!(person.place(), "/namespace", "{}", browser.text());
    let cookies = browser.cookies();
    let session = cookies.iter().find(|c| c["value"].as_str().unwrap().starts_with("iss_")).unwrap();
    assert_eq!(
        (&session["httpOnly"], &session["sameSite"], &session["path"]),
        (&json!(true), &json!("Lax"), &json!("/"))
    );
    person.look("users");
}

fn creating(rig: &Rig, person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    browser.find("#name").type_text(user);
    browser.find("#policy-1").click();
    person.click("Only check");
    assert!(person.note().contains("nothing was changed"), "{}", person.note());
    person.look("checked");
    assert!(
        rig.account.try_call("iam", "get_user", json!({"UserName": user})).is_err(),
        "a dry run made a user"
    );

    browser.find("#name").type_text("anna-x");
    person.click("Create user");
    assert_eq!(browser.find("h1").text(), "Not allowed to anybody", "{}", browser.text());
    person.look("refused");

    person.goto("/namespace");
    browser.find("#name").type_text(user);
    browser.find("#policy-1").click();
    person.click("Create user");
    assert_eq!(person.place(), format!("/namespace/users/{user}"), "{}", browser.text());
    assert!(person.note().contains(&format!("The IAM user {user} was created.")), "{}", person.note());
    person.look("created");
    let made = rig.account.call("iam", "get_user", json!({"UserName": user}));
    assert_eq!(made["User"]["Path"], "/iam-sorry/dirk/", "{made}");
    // A note is told once.
    browser.reload();
    assert!(browser.try_find(".note").is_none());
}

fn policies(rig: &Rig, person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    let attached = || {
        let answer = rig.account.call("iam", "list_attached_user_policies", json!({"UserName": user}));
        let mut names: Vec<String> = answer["AttachedPolicies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|policy| policy["PolicyName"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(attached(), ["Reading"]);
    browser.find("#attach").choose(&rig.policies[1]);
    person.click("Attach");
    assert!(person.note().contains("Writing was attached"), "{}", person.note());
    assert_eq!(attached(), ["Reading", "Writing"]);
    person.look("attached");
    browser.find("[aria-label='Detach Reading']").follow();
    assert!(person.note().contains("Reading was detached"), "{}", person.note());
    assert_eq!(attached(), ["Writing"]);
}

fn temporary(rig: &Rig, person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    person.click("Get temporary credentials");
    assert_eq!(browser.find("#target").property("value"), json!(format!("user:{user}")));
    person.look("credentials");
    // More than the rules allow: cut, and said.
    browser.find("#duration").choose("129600");
    person.click("Get credentials");
    assert_eq!(browser.find("h1").text(), format!("Credentials of {user}"), "{}", browser.text());
    person.look("issued");
    assert!(browser.find(".note.warn").text().contains("12 h"), "{}", browser.text());
    let creds = shown(person);
    assert!(creds.token.is_some());
    let arn = rig.account.whoami(&creds).unwrap();
    assert!(arn.ends_with(&format!("user/iam-sorry/dirk/{user}")), "{arn}");
    // What is copied is the same everywhere on the page.
    let environment = browser.find("#environment").text();
    assert!(
        environment.contains(&format!("export AWS_SECRET_ACCESS_KEY='{}'", creds.secret)),
        "{environment}"
    );
    let section = browser.find("#section").text();
    assert!(section.starts_with(&format!("[{user}]")) && section.contains(&creds.secret), "{section}");
    // Loading it again issues nothing and shows nothing.
    let before = rig.account.call("iam", "list_access_keys", json!({"UserName": user}));
    browser.reload();
    assert_eq!(browser.find("h1").text(), "Already done, and shown once", "{}", browser.text());
    assert!(!browser.source().contains(&creds.secret));
    person.look("shown-once");
    assert_eq!(before, rig.account.call("iam", "list_access_keys", json!({"UserName": user})));
    person.click("What you were issued");
    assert_eq!(person.place(), "/credentials");
    assert!(browser.text().contains(&creds.key), "{}", browser.text());
    assert!(!browser.source().contains(&creds.secret));
    person.look("grants");
}

fn keys(rig: &Rig, person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    person.goto(&format!("/namespace/users/{user}"));
    person.click("Create an access key");
    person.look("new-key");
    let first = shown(person);
    assert!(first.token.is_none() && first.key.starts_with("AKIA"), "{}", first.key);
    assert!(rig.account.keys(user).contains(&first.key));
    person.click("Done");
    person.look("with-key");
    browser.find(&format!("[aria-label='Rotate key {}']", first.key)).follow();
    let second = shown(person);
    assert_ne!(first.key, second.key);
    assert!(rig.account.whoami(&second).unwrap().contains(user));
    assert_eq!(rig.account.keys(user).len(), 2, "the old key waits until the new one is confirmed");
    person.look("rotated");
    browser.find("[aria-labelledby='old-key'] button").follow();
    assert!(person.note().contains(&format!("the old key {} was deleted", first.key)), "{}", person.note());
    assert_eq!(rig.account.keys(user), std::slice::from_ref(&second.key));
    browser.find(&format!("[aria-label='Delete key {}']", second.key)).follow();
    person.look("delete-key");
    assert!(browser.text().contains(&second.key));
    let button = browser.find("main button");
    assert!(button.text().starts_with(&format!("Delete {}", second.key)), "{}", button.text());
    button.follow();
    assert!(person.note().contains("was deleted"), "{}", person.note());
    assert!(!rig.account.keys(user).contains(&second.key));
}

fn asking(person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    person.click("Rules");
    person.look("rules");
    let listed = browser.find("table").text();
    assert!(listed.contains("twelve-hours-at-most") && listed.contains("forbids"), "{listed}");
    assert!(!listed.contains('/'), "names without folders: {listed}");
    browser.find("#action").choose("delete-user");
    browser.find("#resource").type_text(user);
    person.click("May I?");
    let answer = browser.find("#answer").text();
    assert!(
        answer.contains("Yes: delete-user") && answer.contains("owners-manage-their-namespaces"),
        "{answer}"
    );
    person.look("rules-yes");
    let field = browser.find("#resource");
    field.clear();
    field.type_text("ada-lab");
    person.click("May I?");
    let answer = browser.find("#answer").text();
    assert!(answer.contains("No: delete-user on ada-lab"), "{answer}");
    person.look("rules-no");
}

fn reading(rig: &Rig, person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    person.click("Audit");
    person.look("audit");
    assert!(browser.try_find("#person").is_none(), "alice is no auditor");
    assert!(browser.find(".chart svg").is_displayed());
    browser.find("#action").choose("create-user");
    person.click("Show");
    assert!(browser.url().contains("action=create-user"));
    person.look("audit-filtered");
    let actions: Vec<String> = browser
        .find_all("td[data-label=Action]")
        .iter()
        .map(|cell| cell.text().replace("Action", "").trim().to_owned())
        .collect();
    assert!(!actions.is_empty() && actions.iter().all(|action| action == "create-user"), "{actions:?}");
    browser.find("td[data-label=Record] a").follow();
    person.look("record");
    let text = browser.text();
    assert!(text.contains("Hash") && text.contains("owners-manage-their-namespaces"), "{text}");
    assert!(text.contains(user), "{text}");
    // Another person's records are none of hers: the sign-in of bob.
    rig.token("bob");
    person.goto("/audit");
    assert!(!browser.text().contains("bob"), "{}", browser.text());
}

fn sessions(rig: &Rig, person: &Person<'_>) {
    let browser = &person.browser;
    let other = rig.token("alice");
    assert_eq!(rig.service.api("GET", "/me", &other, &json!(null)).unwrap().status, 200);
    person.click("Sessions");
    person.look("sessions");
    let rows = browser.find_all("table[aria-labelledby=sessions] tbody tr");
    assert_eq!(rows.len(), 2);
    let foreign = rows.iter().find(|row| !row.text().contains("this one")).unwrap();
    foreign.find("button").follow();
    assert!(person.note().contains("The session was ended."), "{}", person.note());
    let answer = rig.service.api("GET", "/me", &other, &json!(null)).unwrap();
    assert_eq!((answer.status, code(&answer.json()).as_str()), (401, "SignInNeeded"));

    let home = home_with_key("<b>alice</b>@laptop");
    let key = std::fs::read_to_string(home.path().join(".ssh/id_ed25519.pub")).unwrap();
    browser.find("#public_key").type_text(key.trim());
    person.click("Register…");
    person.look("register-key");
    // Both steps as the page says: the command into a shell, what it prints into the form.
    let command = browser.find("#command").text();
    assert!(command.contains("\nname: alice\n"), "{command}");
    let signed = std::process::Command::new("sh").args(["-c", &command]).env("HOME", home.path()).output();
    let signed = signed.unwrap();
    assert!(signed.status.success(), "{signed:?}");
    browser.find("#signature").type_text(&String::from_utf8(signed.stdout).unwrap());
    person.click("Register the key");
    assert!(person.note().contains("may sign you in now"), "{}", browser.text());
    person.look("ssh-key");
    assert!(browser.text().contains("<b>alice</b>@laptop"));
    person.click("Remove");
    assert!(person.note().contains("signs nobody in any more"), "{}", person.note());
}

/// A home with an unprotected key of the usual name.
fn home_with_key(comment: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(home.path().join(".ssh/id_ed25519"))
        .status();
    assert!(made.unwrap().success());
    home
}

fn deleting(rig: &Rig, person: &Person<'_>, user: &str) {
    let browser = &person.browser;
    person.goto(&format!("/namespace/users/{user}"));
    person.click(&format!("Delete {user}…"));
    person.look("delete-user");
    let goes = browser.find("section.danger").text();
    assert!(goes.contains(&format!("the IAM user {user}")) && goes.contains("policy/Writing"), "{goes}");
    person.click("Keep it");
    assert_eq!(person.place(), format!("/namespace/users/{user}"));
    person.click(&format!("Delete {user}…"));
    person.click(&format!("Delete {user} and all of this"));
    assert!(person.note().contains(&format!("The IAM user {user} was deleted.")), "{}", person.note());
    person.look("deleted");
    assert!(rig.account.try_call("iam", "get_user", json!({"UserName": user})).is_err());
    person.goto(&format!("/namespace/users/{user}"));
    assert!(browser.text().contains("neither made nor adopted by this service"), "{}", browser.text());
    person.look("gone");
}

fn leaving(person: &Person<'_>) {
    let browser = &person.browser;
    person.click("Sign out");
    assert_eq!(person.place(), "/signed-out");
    person.look("signed-out");
    assert!(browser.cookies().iter().all(|c| !c["value"].as_str().unwrap().starts_with("iss_")));
    browser.back();
    person.goto("/credentials");
    assert_eq!(person.place(), "/sign-in");
}

/// The secrets on the page.
fn shown(person: &Person<'_>) -> Creds {
    let value = |id: &str| {
        person.browser.try_find(id).map(|field| field.property("value").as_str().unwrap().to_owned())
    };
    let mut creds = Creds::new(
        value("#access-key-id").unwrap_or_else(|| panic!("{}", person.browser.text())),
        value("#secret-access-key").unwrap(),
    );
    creds.token = value("#session-token");
    creds
}
