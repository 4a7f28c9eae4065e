//! The reconciler beside people at work: it takes what is abandoned, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use iam_sorry_core::api::{CredentialsRequest, Options, ProblemCode};
use iam_sorry_core::audit::{Event, Phase};
use iam_sorry_server::actions::settings::ActionSettings;
use iam_sorry_store::{Finish, ManagedUser, NewOperation, OperationState};
use serde_json::json;
use testkit::{Call, Fault, Hook};

use crate::scene::{Instance, Scene, code, dirk, user_ref};
use crate::verbs::Verbs as _;
use crate::whole_trail::whole_trail;

/// Stops requests to AWS about one user until they are let go.
struct Gate {
    armed: Arc<AtomicBool>,
    arrived: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Gate {
    /// Its own half is the hook for the proxy.
    fn of(user: &'static str) -> (Self, Hook) {
        let (arriving, arrived) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let (gone, armed) = (Mutex::new(gone), Arc::new(AtomicBool::new(false)));
        let watched = armed.clone();
        let hook: Hook = Arc::new(move |call: &Call| {
            if call.user_name.as_deref() == Some(user) && watched.swap(false, Ordering::SeqCst) {
                let _ = arriving.send(());
                let _ = gone.lock().unwrap().recv_timeout(Duration::from_secs(60));
            }
        });
        (Self { armed, arrived, go }, hook)
    }

    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn wait(&self) {
        self.arrived.recv_timeout(Duration::from_secs(60)).expect("the request arrives");
    }

    fn open(&self) {
        self.go.send(()).unwrap();
    }
}

fn start_key(running: &Instance, user: &'static str) -> tokio::task::JoinHandle<Result<String, ProblemCode>> {
    let service = running.service.clone();
    running.spawn(async move {
        match service.create_access_key(&dirk(), None, user, Options::default()).await {
            Ok(iam_sorry_server::operations::action::RunOutput::Acted(key)) => Ok(key.access_key_id),
            Ok(_) => panic!("a dry run"),
            Err(refusal) => Err(refusal.code),
        }
    })
}

/// Two operations are open: the first is abandoned, the second is at work. The reconciler lists both, and while it settles
/// the first, the second finishes. It was then taken for abandoned, and its key, which its owner had just been given, was
/// deleted at AWS; of that there was no record.
#[test]
fn an_operation_that_finishes_while_another_is_settled_keeps_its_key() {
    let scene = Scene::new();
    let running = scene.start();
    for user in ["dirk-a", "dirk-b", "dirk-c"] {
        running.create(user).unwrap();
    }
    let (lost, hold_lost) = Gate::of("dirk-a");
    let (busy, hold_busy) = Gate::of("dirk-b");
    let (look, hold_look) = Gate::of("dirk-a");
    scene.proxy.fault("CreateAccessKey", Fault::AfterForward(hold_lost));
    scene.proxy.fault("CreateAccessKey", Fault::AfterForward(hold_busy));
    scene.proxy.fault("ListAccessKeys", Fault::BeforeForward(hold_look));
    lost.arm();
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let abandoned = start_key(&running, "dirk-a");
    lost.wait();
    busy.arm();
    let working = start_key(&running, "dirk-b");
    busy.wait();
    // From here on every list of the reconciler has both, the abandoned one first.
    look.arm();
    lost.open();
    assert_eq!(code_of(running.run(abandoned).unwrap()), ProblemCode::AwsUnavailable);
    look.wait();
    busy.open();
    let delivered = running.run(working).unwrap().expect("a key");
    look.open();
    running.settled();
    // One more settled operation: the round of the reconciler that had both is over.
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    assert_eq!(code(running.new_key(&scene, "dirk-c")), ProblemCode::AwsUnavailable);
    running.settled();
    assert_eq!(scene.account.keys("dirk-b"), [delivered]);
}

/// A scene whose reconciler looks twenty times a second.
fn impatient() -> Scene {
    let mut scene = Scene::new();
    let settle_seconds = 1;
    scene.actions =
        ActionSettings { settle_seconds, reconcile_every: Duration::from_millis(50), ..scene.actions };
    scene
}

/// An administrator makes a key for the user while a CreateAccessKey of the service is under way.
fn administrator_meanwhile(scene: &Scene, made: &Arc<Mutex<String>>) -> Hook {
    let (account, made) = (scene.account.clone(), made.clone());
    Arc::new(move |call: &Call| {
        let user = call.user_name.as_deref().expect("a user");
        *made.lock().unwrap() = account.key(user).key;
    })
}

fn about(running: &Instance, key: &str) -> Vec<Event> {
    let trail = running.trail().into_iter();
    trail.filter(|event| event.details.get("access-key-id").is_some_and(|id| id == key)).collect()
}

/// The request never arrived, and an administrator made a key in the same second: everything fits, and it is not the
/// service's.
#[test]
fn an_administrators_key_of_the_same_second_is_not_deleted() {
    let scene = impatient();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let made = Arc::default();
    scene.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(administrator_meanwhile(&scene, &made)));
    scene.proxy.fault_once("CreateAccessKey", Fault::Reset);
    assert_eq!(code(running.new_key(&scene, "dirk-a")), ProblemCode::AwsUnavailable);
    running.settled();
    let made = made.lock().unwrap().clone();
    assert_eq!(scene.account.keys("dirk-a"), std::slice::from_ref(&made));
    assert_eq!(scene.unaccounted(&running), std::slice::from_ref(&made));
    let [found] = about(&running, &made).try_into().unwrap();
    assert_eq!((found.action.as_str(), found.phase), ("unaccounted-key", Phase::Event));
    assert_eq!(found.details["found"], "deactivated");
    assert_eq!(scene.proxy.count("DeleteAccessKey"), 0);
    let ready = running.run(running.service.unaccounted_readiness()).unwrap();
    assert!(ready.starts_with("1 unaccounted for"), "{ready}");

    // The administrator says whose it is.
    let args = json!({"UserName": "dirk-a", "AccessKeyId": made, "Status": "Active"});
    scene.account.call("iam", "update_access_key", args);
    let start = std::time::Instant::now();
    while !running.run(running.service.store().unaccounted_keys()).unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "it is looked at now and then");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(about(&running, &made)[1].details["accounted-for"], "somebody activated it");
    assert_eq!(running.run(running.service.unaccounted_readiness()).unwrap(), "all accounted for");
    assert_eq!(scene.status_of("dirk-a", &made).as_deref(), Some("Active"));
}

/// One of two is the service's, and nothing says which.
#[test]
fn of_two_keys_that_fit_none_is_touched() {
    let scene = impatient();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let made = Arc::default();
    scene.proxy.fault_once("CreateAccessKey", Fault::AfterForward(administrator_meanwhile(&scene, &made)));
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    assert_eq!(code(running.new_key(&scene, "dirk-a")), ProblemCode::AwsUnavailable);
    running.settled();
    let mut keys = scene.account.keys("dirk-a");
    keys.sort();
    let found = running.run(running.service.store().unaccounted_keys()).unwrap();
    let mut ids: Vec<_> = found.iter().map(|key| key.access_key_id.clone()).collect();
    ids.sort();
    assert_eq!((keys.len(), &ids), (2, &keys));
    for key in &found {
        assert!(!key.deactivated, "{key:?}");
        assert_eq!(scene.status_of("dirk-a", &key.access_key_id).as_deref(), Some("Active"));
        assert_eq!(about(&running, &key.access_key_id)[0].details["found"], "left as it is");
    }
    // Its owner is asked for, and decides.
    let options = iam_sorry_core::api::DeleteKey::default();
    running.run(running.service.delete_access_key(&dirk(), None, "dirk-a", &ids[0], options)).unwrap();
    assert_eq!(running.run(running.service.store().unaccounted_keys()).unwrap().len(), 1);
}

#[test]
fn a_key_that_was_there_before_is_not_suspected() {
    let scene = impatient();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let theirs = scene.account.key("dirk-a").key;
    scene.proxy.fault_once("CreateAccessKey", Fault::Reset);
    assert_eq!(code(running.new_key(&scene, "dirk-a")), ProblemCode::AwsUnavailable);
    running.settled();
    assert_eq!(scene.account.keys("dirk-a"), std::slice::from_ref(&theirs));
    assert_eq!(scene.status_of("dirk-a", &theirs).as_deref(), Some("Active"));
    assert!(scene.unaccounted(&running).is_empty());
}

/// For a session nobody looks which keys the user has. A key that somebody made in the second before the intent could be the
/// session's only if AWS's clocks disagreed: it is shown, and not touched. (One that is older is not even suspected, so a machine
/// that is slow may need another try to meet that second.)
#[test]
fn a_key_from_the_second_before_a_session_is_shown_and_not_touched() {
    let scene = impatient();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let request = || CredentialsRequest {
        user: Some("dirk-a".into()),
        role: None,
        duration_seconds: None,
        dry_run: false,
    };
    for attempt in 0..20 {
        let theirs = scene.account.key("dirk-a").key;
        let second =
            |now: std::time::SystemTime| now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let made = second(std::time::SystemTime::now());
        while second(std::time::SystemTime::now()) == made {
            std::thread::sleep(Duration::from_millis(10));
        }
        running.run(running.service.list_keys(&dirk(), &user_ref("dirk-a"))).unwrap(); // AWS says what time it is
        scene.proxy.fault_once("CreateAccessKey", Fault::Reset);
        let refusal = running.run(running.service.issue_credentials(&dirk(), None, request())).unwrap_err();
        assert_eq!(refusal.code, ProblemCode::AwsUnavailable, "{refusal}");
        running.settled();
        assert_eq!(scene.status_of("dirk-a", &theirs).as_deref(), Some("Active"), "{attempt}");
        let found = running.run(running.service.store().unaccounted_keys()).unwrap();
        if let [found] = &found[..] {
            assert_eq!((&found.access_key_id, found.deactivated), (&theirs, false));
            assert_eq!(about(&running, &theirs)[0].details["found"], "left as it is");
            return;
        }
        scene.account.delete_key("dirk-a", &theirs);
    }
    panic!("never within the second");
}

/// The rules decided about the user as it was when the request came; then it waited for its turn, and meanwhile the user got
/// another owner.
#[test]
fn a_decision_about_a_user_that_changed_meanwhile_is_not_acted_on() {
    let scene = impatient();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let (gate, hold) = Gate::of("dirk-a");
    scene.proxy.fault("AttachUserPolicy", Fault::AfterForward(hold));
    gate.arm();
    let (service, policy_arn) = (running.service.clone(), scene.policies[0].clone());
    let attaching = running.spawn(async move {
        let change = iam_sorry_core::api::PolicyChange { policy_arn, dry_run: false };
        service.attach_policy(&dirk(), None, "dirk-a", change).await
    });
    gate.wait();
    scene.proxy.clear_calls();
    let making = start_key(&running, "dirk-a");
    // The list comes after the decision, and before the turn.
    while scene.proxy.count("ListAccessKeys") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let store = running.service.store();
    let row = running.run(store.user(&user_ref("dirk-a"))).unwrap().unwrap();
    let intent = running.trail().into_iter().rfind(|event| event.phase == Phase::Intent).unwrap();
    let new = NewOperation {
        id: "by-somebody-else".into(),
        person: "corp/somebody".into(),
        idempotency_key: "k".into(),
        action: "adopt-user".into(),
        account: row.user.account.clone(),
        resource: "dirk-a".into(),
        exclusive: false,
        request_hash: String::new(),
        plan: "{}".into(),
    };
    let finish = Finish {
        operation: new.id.clone(),
        epoch: 0,
        state: OperationState::Done,
        result: "{}".into(),
        event: intent.clone(),
        grants: Vec::new(),
        deleted_keys: Vec::new(),
        user: Some(ManagedUser { owner: "corp/somebody".into(), ..row }),
        deleted_user: None,
        unaccounted: Vec::new(),
        rotation: None,
    };
    running.run(async {
        store.begin(new, intent).await.unwrap();
        store.finish(finish).await.unwrap()
    });
    gate.open();
    running.run(attaching).unwrap().unwrap();
    assert_eq!(running.run(making).unwrap().unwrap_err(), ProblemCode::Busy);
    assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
}

/// What is taken back by the reconciler is in the trail before it is gone at AWS, and so is what a worker takes back.
#[test]
fn nothing_is_deleted_that_no_record_speaks_of() {
    let scene = impatient();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let database = iam_sorry_store::Settings::sqlite(scene.database());
    let seen: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let hook: Hook = {
        let seen = seen.clone();
        Arc::new(move |call: &Call| {
            let key = call.target_key.clone().expect("a key");
            let store = iam_sorry_store::Store::open_beside(&database, "looking").unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let records = runtime.block_on(whole_trail(&store));
            let known = records
                .iter()
                .map(|record| record.event().unwrap())
                .any(|event| event.details.get("undoing").is_some_and(|what| what.contains(&key)));
            seen.lock().unwrap().push((key, known));
        })
    };
    scene.proxy.fault("DeleteAccessKey", Fault::BeforeForward(hook));
    // The worker takes it back: its session can't be had.
    scene.proxy.fault_once("GetSessionToken", Fault::Status(403, "AccessDenied"));
    let request = CredentialsRequest {
        user: Some("dirk-a".into()),
        role: None,
        duration_seconds: Some(900),
        dry_run: false,
    };
    assert_eq!(
        code(running.run(running.service.issue_credentials(&dirk(), None, request.clone())).map(drop)),
        ProblemCode::AwsRefused
    );
    // The reconciler does: the worker, which has noted its id, dies.
    let (held, hold) = Gate::of("dirk-a");
    scene.proxy.fault("DeleteAccessKey", Fault::BeforeForward(hold));
    held.arm();
    let service = running.service.clone();
    drop(running.spawn(async move { service.issue_credentials(&dirk(), None, request).await.map(drop) }));
    held.wait();
    running.die();
    held.open();
    let next = scene.start();
    next.settled();
    assert!(scene.account.keys("dirk-a").is_empty());
    let seen = seen.lock().unwrap();
    // The second is the end of a session's key, which its plan and its note speak of.
    assert!(seen.len() >= 2 && seen[0].1, "{seen:?}");
    let reconciled = next.trail().into_iter().filter(|event| event.details.contains_key("undoing"));
    assert!(reconciled.count() >= 2);
}

fn code_of(result: Result<String, ProblemCode>) -> ProblemCode {
    result.expect_err("its answer was lost")
}
