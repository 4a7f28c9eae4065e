//! Rules are swapped whole while decisions are made, and a bad set never replaces a good one.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{Action, AuthzInput, Decision, Resource, RuleSet, RuleSettings};
use iam_sorry_server::authz::rules::{LiveRules, Reload, RuleFiles};

fn settings() -> RuleSettings {
    toml::from_str("[[namespace]]\nname = \"dirk\"\n[guardrails]\npermissions_boundary = \"none\"\n").unwrap()
}

fn open(folder: &Path) -> LiveRules {
    LiveRules::open(RuleFiles { files: vec![folder.to_owned()] }, settings()).unwrap()
}

/// Replaces the file as an editor that means well does.
fn put(folder: &Path, name: &str, text: &str) {
    let new = folder.join(".new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

fn decide(rules: &RuleSet, action: Action) -> Decision {
    let identity = Identity {
        issuer: "corp".into(),
        subject: "1".into(),
        name: "alice".into(),
        groups: Default::default(),
        method: Method::SshKey,
    };
    rules.decide(&AuthzInput {
        identity: &identity,
        action,
        resource: &Resource::parse(Action::ShowUser, "dirk-1", rules.first_account()).unwrap(),
        policy_arn: None,
        duration_seconds: None,
        sign_in_age_seconds: 0,
        key_registered_by: None,
        address: IpAddr::from([127, 0, 0, 1]),
        now: Timestamp::EPOCH,
        managed: true,
        owner: None,
    })
}

fn permit(action: &str) -> String {
    format!("@id(\"{action}\") permit (principal, action == IamSorry::Action::\"{action}\", resource);\n")
}

#[test]
fn what_changes_is_in_force_after_it_stood_still_for_a_look() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.cedar", &permit("showUser"));
    put(folder.path(), "notes.txt", "no rule at all");
    let live = open(folder.path());
    let before = live.current();
    assert!(decide(&before, Action::ShowUser).allowed);
    assert_eq!(live.look(), Reload::Unchanged);

    put(folder.path(), "b.cedar", &permit("deleteUser"));
    assert_eq!(live.look(), Reload::Unchanged, "seen for the first time");
    assert!(!decide(&live.current(), Action::DeleteUser).allowed);
    assert!(matches!(live.look(), Reload::Loaded { rules: 2, .. }));
    assert!(decide(&live.current(), Action::DeleteUser).allowed);
    assert!(!decide(&before, Action::DeleteUser).allowed, "who has the old set keeps it");

    std::fs::remove_file(folder.path().join("a.cedar")).unwrap();
    assert!(matches!(live.reload(), Reload::Loaded { rules: 1, .. }), "at once on SIGHUP");
    assert!(!decide(&live.current(), Action::ShowUser).allowed);
    assert_eq!(live.reload(), Reload::Unchanged);
    // Touched, but the same.
    put(folder.path(), "b.cedar", &permit("deleteUser"));
    assert_eq!((live.look(), live.look()), (Reload::Unchanged, Reload::Unchanged));
}

#[test]
fn a_bad_set_never_replaces_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let good = permit("showUser");
    put(folder.path(), "a.cedar", &good);
    let live = open(folder.path());
    let digest = live.status().digest;
    for bad in [
        "permit (principal, action",
        "permit (principal, action, resource) when { principal.nonsense };",
        "@id(\"x\") permit (principal, action, resource);\n@id(\"x\") permit (principal, action, resource);",
        "forbid (principal, action, resource == IamSorry::User::\"elsewhere\");",
    ] {
        put(folder.path(), "a.cedar", bad);
        assert!(matches!(live.reload(), Reload::Refused(_)), "{bad}");
        let status = live.status();
        assert!(status.problem.as_ref().is_some_and(|p| p.contains("a.cedar:")), "{status:?}");
        assert_eq!((status.digest, status.rules), (digest.clone(), 1));
        assert!(decide(&live.current(), Action::ShowUser).allowed);
    }
    std::fs::write(folder.path().join("a.cedar"), [0xff, 0xfe]).unwrap();
    assert!(matches!(live.reload(), Reload::Refused(_)));
    // Put back as it was: nothing to load, and nothing wrong any more.
    put(folder.path(), "a.cedar", &good);
    assert_eq!(live.reload(), Reload::Unchanged);
    assert_eq!(live.status().problem, None);
    // Gone altogether is not "no rules": the files that the configuration names must be there.
    let one = RuleFiles { files: vec![folder.path().join("a.cedar")] };
    let live = LiveRules::open(one, settings()).unwrap();
    std::fs::remove_file(folder.path().join("a.cedar")).unwrap();
    assert!(matches!(live.look(), Reload::Refused(_)));
    assert!(decide(&live.current(), Action::ShowUser).allowed);
    assert!(LiveRules::open(RuleFiles { files: vec![folder.path().join("none")] }, settings()).is_err());
}

#[test]
fn rules_that_everybody_may_change_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.cedar");
    std::fs::write(&file, permit("showUser")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let problems = LiveRules::open(RuleFiles { files: vec![file] }, settings()).unwrap_err();
    assert!(problems[0].to_string().contains("chmod o-w"), "{}", problems[0]);
}

/// No audit, no action: what can't be recorded does not come into force, and is tried again by itself.
#[test]
fn a_change_that_cannot_be_recorded_waits() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.cedar", &permit("showUser"));
    let live = open(folder.path());
    let before = live.status().digest;
    let (works, recorded) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (can, done, old) = (works.clone(), recorded.clone(), before.clone());
    live.record_changes(Box::new(move |in_force, next| {
        assert_eq!((in_force.digest().whole().as_ref(), next.len()), (old.as_str(), 2));
        if !can.load(Ordering::Relaxed) {
            return Err("the disk is full".into());
        }
        done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }));
    put(folder.path(), "b.cedar", &permit("deleteUser"));
    assert_eq!(live.reload(), Reload::Unrecorded("the disk is full".into()));
    let status = live.status();
    assert_eq!((&status.digest, status.rules), (&before, 1));
    assert!(status.problem.is_some_and(|problem| problem.contains("can't be recorded: the disk is full")));
    assert!(!decide(&live.current(), Action::DeleteUser).allowed);
    // The files stand still; the looks go on all the same.
    assert_eq!(live.look(), Reload::Unchanged);
    assert!(matches!(live.look(), Reload::Unrecorded(_)));
    works.store(true, Ordering::Relaxed);
    assert_eq!(live.look(), Reload::Unchanged);
    assert!(matches!(live.look(), Reload::Loaded { rules: 2, .. }));
    assert!(decide(&live.current(), Action::DeleteUser).allowed);
    assert_eq!((live.status().problem, recorded.load(Ordering::Relaxed)), (None, 1));
    assert_eq!((live.look(), live.look()), (Reload::Unchanged, Reload::Unchanged));
}

/// Two sets that each allow exactly one of two actions: no decision may ever see both, or neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_see_one_set_or_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [permit("showUser"), permit("deleteUser")];
    put(folder.path(), "a.cedar", &sets[0]);
    let live = Arc::new(open(folder.path()));
    let (done, decided) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let deciders: Vec<_> = (0..2)
        .map(|_| {
            let (live, done, decided) = (live.clone(), done.clone(), decided.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let rules = live.current();
                    let allowed =
                        [Action::ShowUser, Action::DeleteUser].map(|action| decide(&rules, action).allowed);
                    assert_ne!(allowed[0], allowed[1]);
                    decided.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let watch = tokio::spawn(live.clone().watch(Duration::from_millis(2)));
    let mut digests = vec![live.status().digest];
    for round in 1..=10 {
        put(folder.path(), "a.cedar", &sets[round % 2]);
        while live.status().digest == digests[round - 1] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        digests.push(live.status().digest);
    }
    watch.abort();
    done.store(true, Ordering::Relaxed);
    deciders.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(decided.load(Ordering::Relaxed) > 0);
    assert_eq!(digests[0], digests[2]);
    assert_ne!(digests[0], digests[1]);
}
