//! The reconciler beside people at work: it takes what is abandoned, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use iam_sorry_core::api::{Options, ProblemCode};
use testkit::{Call, Fault, Hook};

use crate::scene::{Running, Scene, code, dirk};

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

fn start_key(running: &Running, user: &'static str) -> tokio::task::JoinHandle<Result<String, ProblemCode>> {
    let service = running.service.clone();
    running.spawn(async move {
        match service.create_access_key(&dirk(), None, user, Options::default()).await {
            Ok(iam_sorry_server::services::Given::New(key)) => Ok(key.access_key_id),
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

fn code_of(result: Result<String, ProblemCode>) -> ProblemCode {
    result.expect_err("its answer was lost")
}
