//! The instance dies between any two steps of every action; the next one settles what it left, within seconds.
//!
//! Here "dies" means that all its tasks stop where they are (and, where the answer of AWS is held back, that nobody hears
//! it); `nothing_half_done` kills the real program.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use iam_sorry_core::api::{CreateUser, CredentialsRequest, DeleteKey, KeyStatus, Options, PolicyChange};
use iam_sorry_core::audit::{Outcome, Phase};
use iam_sorry_server::actions::update_access_key::UpdateAccessKey;
use iam_sorry_server::operations::action::{Mode, RunOutput};
use iam_sorry_server::service::Service;
use serde_json::json;
use testkit::Fault;

use crate::scene::{Instance, Scene, dirk, user_ref};
use crate::verbs::Verbs as _;

/// What is done, and every request to AWS that it makes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Create,
    Delete,
    Attach,
    Detach,
    NewKey,
    Rotate,
    Confirm,
    Restore,
    DeleteKey,
    UpdateKey,
    Session,
    Role,
    Adopt,
}

impl Doing {
    fn requests(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["CreateUser", "AttachUserPolicy"],
            Self::Delete => {
                &["GetUser", "DeleteAccessKey", "DeleteLoginProfile", "DetachUserPolicy", "DeleteUser"]
            }
            Self::Attach => &["GetUser", "AttachUserPolicy"],
            Self::Detach => &["GetUser", "DetachUserPolicy"],
            Self::NewKey => &["GetUser", "CreateAccessKey"],
            Self::DeleteKey => &["GetUser", "ListAccessKeys", "DeleteAccessKey"],
            Self::Rotate => &["CreateAccessKey", "GetCallerIdentity", "UpdateAccessKey"],
            Self::Confirm => &["GetUser", "ListAccessKeys", "GetAccessKeyLastUsed", "DeleteAccessKey"],
            Self::Restore => {
                &["ListAccessKeys", "UpdateAccessKey", "GetAccessKeyLastUsed", "DeleteAccessKey"]
            }
            Self::Session => {
                &["GetUser", "CreateAccessKey", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"]
            }
            Self::Role => &["AssumeRole"],
            Self::UpdateKey => &["GetUser", "ListAccessKeys", "UpdateAccessKey"],
            Self::Adopt => &["PutUserPermissionsBoundary", "TagUser", "ListAccessKeys"],
        }
    }

    /// What must be there before. Gives the access key, where it makes one.
    fn prepare(self, scene: &Scene, running: &Instance) -> String {
        match self {
            Self::Create | Self::Role => String::new(),
            Self::Adopt => {
                let args = json!({"UserName": "dirk-a", "Path": "/iam-sorry/dirk/"});
                scene.account.call("iam", "create_user", args);
                String::new()
            }
            _ => {
                let with_policy = matches!(self, Self::Delete | Self::Detach);
                let policies = if with_policy { vec![scene.policies[0].clone()] } else { vec![] };
                let request = CreateUser { name: "dirk-a".into(), policies, dry_run: false };
                running.run(running.service.create_user(&dirk(), None, request)).unwrap();
                // A key of the same minute that must survive whatever happens.
                let key = running.new_key(scene, "dirk-a").unwrap().access_key_id;
                if !matches!(self, Self::Confirm | Self::Restore) {
                    return key;
                }
                let (caller, none) = (dirk(), Options::default());
                let rotated =
                    running.run(running.service.rotate_key(&caller, None, "dirk-a", &key, none)).unwrap();
                match (self, rotated) {
                    (Self::Confirm, RunOutput::Acted(new)) => new.access_key_id,
                    _ => key,
                }
            }
        }
    }

    async fn run(self, service: Service, key: String, policy: String, role: String) {
        let (caller, none) = (dirk(), Options::default());
        let issue = |user: Option<&str>, role: Option<String>| CredentialsRequest {
            user: user.map(str::to_owned),
            role,
            duration_seconds: Some(900),
            dry_run: false,
        };
        let _ = match self {
            Self::Create => {
                let request = CreateUser { name: "dirk-a".into(), policies: vec![policy], dry_run: false };
                service.create_user(&caller, None, request).await.map(drop)
            }
            Self::Delete => service.delete_user(&caller, None, "dirk-a", none).await.map(drop),
            Self::Attach => {
                let change = PolicyChange { policy_arn: policy, dry_run: false };
                service.attach_policy(&caller, None, "dirk-a", change).await.map(drop)
            }
            Self::Detach => {
                let change = PolicyChange { policy_arn: policy, dry_run: false };
                service.detach_policy(&caller, None, "dirk-a", change).await.map(drop)
            }
            Self::DeleteKey => {
                let options = DeleteKey { force: true, dry_run: false };
                service.delete_access_key(&caller, None, "dirk-a", &key, options).await.map(drop)
            }
            Self::NewKey => service.create_access_key(&caller, None, "dirk-a", none).await.map(drop),
            Self::Confirm => service.confirm_key(&caller, None, "dirk-a", &key, none).await.map(drop),
            Self::Restore => service.restore_key(&caller, None, "dirk-a", &key, none).await.map(drop),
            Self::Rotate => service.rotate_key(&caller, None, "dirk-a", &key, none).await.map(drop),
            Self::Session => {
                service.issue_credentials(&caller, None, issue(Some("dirk-a"), None)).await.map(drop)
            }
            Self::Role => service.issue_credentials(&caller, None, issue(None, Some(role))).await.map(drop),
            Self::UpdateKey => {
                let action = UpdateAccessKey::new(user_ref("dirk-a"), &key, false).unwrap();
                service.run(&caller, None, action, Mode::Act).await.map(drop)
            }
            Self::Adopt => service.adopt_user(&caller, None, "dirk-a", none).await.map(drop),
        };
    }
}

/// Dies when AWS is asked for `request`, before or after AWS has done it. `meanwhile` is what happens in IAM before anybody
/// hears of it.
fn dies(
    doing: Doing,
    scene: &Scene,
    request: &'static str,
    done: bool,
    meanwhile: impl FnOnce(),
) -> (String, String) {
    let what = format!("{doing:?}, at {request}, {}", if done { "done" } else { "not done" });
    let running = scene.start();
    let key = doing.prepare(scene, &running);
    if matches!(doing, Doing::Session) {
        // The intent of a session does not list the keys that were there, which would be one more request. So one of the
        // seconds just before it could be its own, by clocks that count whole seconds; this one is not to be.
        std::thread::sleep(Duration::from_secs(3));
    }
    let (asked, authz_request) = mpsc::channel();
    let (dead, death) = mpsc::channel::<()>();
    let death = std::sync::Mutex::new(death);
    let hold: testkit::Hook = Arc::new(move |_| {
        let _ = asked.send(());
        let _ = death.lock().unwrap().recv_timeout(Duration::from_secs(20));
    });
    // Held back until the instance is dead. "Not done" is a request that never reaches AWS.
    if done {
        scene.proxy.fault_once(request, Fault::AfterForward(hold));
    } else {
        scene.proxy.fault_once(request, Fault::BeforeForward(hold));
        scene.proxy.fault_once(request, Fault::Reset);
    }
    let work = doing.run(running.service.clone(), key.clone(), scene.policies[0].clone(), scene.role.clone());
    let working = running.spawn(work);
    authz_request.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{what}: never asked"));
    meanwhile();
    drop(working);
    running.die();
    let _ = dead.send(());
    (key, what)
}

fn dies_at(doing: Doing, request: &'static str, done: bool) {
    let scene = Scene::new();
    let (key, what) = dies(doing, &scene, request, done, || {});
    let next = scene.start();
    next.settled();
    scene.assert_accounted_for(&next);
    let trail = next.trail();
    let last = trail.iter().rfind(|event| event.phase == Phase::Outcome).unwrap();
    assert_eq!(last.outcome, Some(Outcome::Reconciled), "{what}: {last:#?}");
    // Each intent has one outcome.
    let count = |phase| trail.iter().filter(|event| event.phase == phase).count();
    assert_eq!(count(Phase::Intent), count(Phase::Outcome), "{what}");
    // The answer that would have told the key's id was lost, so nothing proves whose it is.
    let unproved = request == "CreateAccessKey" && done;
    let suspects = scene.unaccounted(&next);
    assert_eq!(suspects.len(), usize::from(unproved), "{what}: {suspects:?}");
    let mut keys = scene.users_in_iam().first().map(|(_, keys)| keys.clone()).unwrap_or_default();
    keys.retain(|key| !suspects.contains(key));
    match doing {
        Doing::Delete => assert!(scene.users_in_iam().is_empty(), "{what}"),
        Doing::Create if request == "CreateUser" && !done => {
            assert!(scene.users_in_iam().is_empty(), "{what}")
        }
        Doing::Create | Doing::Attach => {
            assert_eq!(scene.attached("dirk-a"), [scene.policies[0].clone()], "{what}")
        }
        Doing::Detach => assert!(scene.attached("dirk-a").is_empty(), "{what}"),
        Doing::DeleteKey => assert!(keys.is_empty(), "{what}: {keys:?}"),
        Doing::Adopt => assert!(scene.user("dirk-a")["Tags"].to_string().contains("iam-sorry"), "{what}"),
        Doing::NewKey | Doing::Session => assert_eq!(keys, [key], "{what}"),
        Doing::Confirm | Doing::Rotate | Doing::Restore => {
            assert_eq!(keys, std::slice::from_ref(&key), "{what}");
            let listed = next.run(next.service.list_keys(&dirk(), &user_ref("dirk-a"))).unwrap();
            assert_eq!(listed[0].status, KeyStatus::Active, "{what}");
        }
        Doing::UpdateKey => {
            assert_eq!(keys, std::slice::from_ref(&key), "{what}");
            assert_eq!(scene.status_of("dirk-a", &key).as_deref(), Some("Inactive"), "{what}");
        }
        Doing::Role => {}
    }
}

fn at_every_step(doing: Doing) {
    std::thread::scope(|threads| {
        for done in [false, true] {
            threads.spawn(move || doing.requests().iter().for_each(|request| dies_at(doing, request, done)));
        }
    });
}

#[test]
fn while_creating_a_user() {
    at_every_step(Doing::Create);
}

#[test]
fn while_deleting_a_user() {
    at_every_step(Doing::Delete);
}

#[test]
fn while_attaching_a_policy() {
    at_every_step(Doing::Attach);
}

#[test]
fn while_detaching_a_policy() {
    at_every_step(Doing::Detach);
}

#[test]
fn while_deleting_a_key() {
    at_every_step(Doing::DeleteKey);
}

#[test]
fn while_deactivating_a_key() {
    at_every_step(Doing::UpdateKey);
}

#[test]
fn while_making_a_key() {
    at_every_step(Doing::NewKey);
}

#[test]
fn while_rotating_a_key() {
    at_every_step(Doing::Rotate);
}

#[test]
fn while_confirming_a_key() {
    at_every_step(Doing::Confirm);
}

#[test]
fn while_restoring_a_key() {
    at_every_step(Doing::Restore);
}

#[test]
fn while_issuing_a_users_session() {
    at_every_step(Doing::Session);
}

#[test]
fn while_assuming_a_role() {
    at_every_step(Doing::Role);
}

#[test]
fn while_adopting_a_user() {
    at_every_step(Doing::Adopt);
}

/// In IAM, by somebody else.
fn remove_the_user(scene: &Scene) {
    let call = |operation: &str, args| scene.account.call("iam", operation, args);
    for id in scene.account.keys("dirk-a") {
        call("delete_access_key", json!({"UserName": "dirk-a", "AccessKeyId": id}));
    }
    for arn in scene.attached("dirk-a") {
        call("detach_user_policy", json!({"UserName": "dirk-a", "PolicyArn": arn}));
    }
    call("delete_user", json!({"UserName": "dirk-a"}));
}

/// vault#5190: nothing is tried again for ever at a user that is no longer there.
#[test]
fn what_was_left_open_at_a_user_who_was_removed_meanwhile_comes_to_an_end() {
    let cases = [
        (Doing::Attach, "AttachUserPolicy"),
        (Doing::Detach, "DetachUserPolicy"),
        (Doing::NewKey, "CreateAccessKey"),
        (Doing::Session, "CreateAccessKey"),
        (Doing::Session, "GetSessionToken"),
        (Doing::Session, "DeleteAccessKey"),
        (Doing::Rotate, "CreateAccessKey"),
        (Doing::Rotate, "UpdateAccessKey"),
        (Doing::Confirm, "DeleteAccessKey"),
        (Doing::Restore, "UpdateAccessKey"),
        (Doing::DeleteKey, "DeleteAccessKey"),
        (Doing::Delete, "DetachUserPolicy"),
    ];
    std::thread::scope(|threads| {
        for case in cases {
            threads.spawn(move || {
                let (doing, request) = case;
                let scene = Scene::new();
                let (_, what) = dies(doing, &scene, request, true, || remove_the_user(&scene));
                let next = scene.start();
                next.settled();
                let trail = next.trail();
                let last = trail.iter().rfind(|event| event.phase == Phase::Outcome).unwrap();
                assert_eq!(last.outcome, Some(Outcome::Reconciled), "{what}: {last:#?}");
                // Where its row is still there, deleting it is done; and the name is free again.
                if next.run(next.service.store().user(&user_ref("dirk-a"))).unwrap().is_some() {
                    let none = Options::default();
                    let deleted = next.run(next.service.delete_user(&dirk(), None, "dirk-a", none)).unwrap();
                    assert!(deleted.notes[0].contains("deleted without this service"), "{what}: {deleted:?}");
                }
                next.create("dirk-a").unwrap();
                let open = next.run(next.service.store().open_operations()).unwrap();
                assert!(open.is_empty(), "{what}: {open:#?}");
            });
        }
    });
}
