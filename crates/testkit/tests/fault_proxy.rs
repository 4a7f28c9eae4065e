//! Each fault of the proxy arrives as such at a real client (boto3, which retries nothing here).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Account, Aws, AwsError, Creds, Fault, FaultProxy, Ministack};

struct Rig {
    account: Account,
    proxy: FaultProxy,
    aws: Aws,
    manager: Creds,
}

impl Rig {
    fn new() -> Rig {
        let account = Ministack::shared().account();
        let manager = account.manager("manager");
        let proxy = FaultProxy::start(&account);
        let aws = Aws::at(proxy.endpoint());
        Rig { account, proxy, aws, manager }
    }

    fn whoami(&self, creds: &Creds) -> Result<Value, AwsError> {
        self.aws.call("sts", "get_caller_identity", json!({}), creds)
    }

    fn code(&self) -> String {
        self.whoami(&self.manager).map_or_else(|error| error.code, |_| "ok".to_owned())
    }

    fn create_key(&self, user: &str) -> Result<Creds, AwsError> {
        let answer = self.aws.call("iam", "create_access_key", json!({"UserName": user}), &self.manager)?;
        Ok(Creds::from_json(&answer["AccessKey"]))
    }
}

#[test]
fn signatures_survive_the_way_through_and_calls_are_counted() {
    let rig = Rig::new();
    rig.account.user("a+b=c,d@e");
    rig.create_key("a+b=c,d@e").expect("a key");
    assert_eq!(rig.code(), "ok");
    assert_eq!(rig.proxy.calls()[0].user_name.as_deref(), Some("a+b=c,d@e"));
    let wrong = Creds::new(rig.manager.key.clone(), "wrong");
    assert_eq!(rig.whoami(&wrong).expect_err("a bad signature").code, "SignatureDoesNotMatch");
    assert_eq!(rig.proxy.actions(), ["CreateAccessKey", "GetCallerIdentity", "GetCallerIdentity"]);
    assert_eq!(rig.proxy.count("GetCallerIdentity"), 2);
    let calls = rig.proxy.calls();
    assert_eq!(calls[1].access_key, rig.manager.key);
    assert_eq!((calls[1].forwarded, calls[2].forwarded), (Some(200), Some(403)));
    assert!(!format!("{calls:?} {:?}", rig.proxy).contains(&rig.manager.secret));
    rig.proxy.clear_calls();
    assert_eq!(rig.proxy.calls(), []);
}

#[test]
fn statuses_and_throttling_come_as_often_as_they_were_ordered() {
    let rig = Rig::new();
    rig.proxy.fault_times("GetCallerIdentity", 2, Fault::Throttle);
    rig.proxy.fault_once("*", Fault::Status(503, "ServiceUnavailable"));
    // Both apply to the first request; the first given one answers.
    assert_eq!(rig.code(), "Throttling");
    assert_eq!(rig.code(), "Throttling");
    assert_eq!(rig.code(), "ok");
    rig.proxy.fault("GetCallerIdentity", Fault::Status(500, "InternalFailure"));
    let error = rig.whoami(&rig.manager).expect_err("a fault");
    assert_eq!((error.code.as_str(), error.status), ("InternalFailure", 500));
    rig.proxy.clear_faults();
    assert_eq!(rig.code(), "ok");
    assert_eq!(rig.proxy.calls().iter().filter(|call| call.forwarded.is_some()).count(), 2);
}

#[test]
fn a_new_key_is_refused_at_first() {
    let rig = Rig::new();
    rig.account.user("new");
    rig.proxy.fault("*", Fault::NewKeyRefused(2));
    let key = rig.create_key("new").expect("the manager's own key is not new");
    for _ in 0..2 {
        let error = rig.whoami(&key).expect_err("too new");
        assert_eq!((error.code.as_str(), error.status), ("InvalidClientTokenId", 403));
    }
    rig.whoami(&key).expect("valid now");

    rig.proxy.clear_faults();
    rig.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(3600)));
    assert_eq!(rig.whoami(&key).expect_err("younger than an hour").code, "InvalidClientTokenId");
    rig.proxy.clear_faults();
    rig.proxy.fault("*", Fault::KeyNotValidYet(Duration::ZERO));
    rig.whoami(&key).expect("older than nothing");
}

#[test]
fn a_user_has_two_keys_at_most() {
    let rig = Rig::new();
    rig.account.user("full");
    rig.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    rig.create_key("full").expect("the first");
    rig.create_key("full").expect("the second");
    let error = rig.create_key("full").expect_err("the third");
    assert_eq!((error.code.as_str(), error.status), ("LimitExceeded", 409));
    assert_eq!(rig.account.keys("full").len(), 2);
}

#[test]
fn a_reset_comes_before_and_a_lost_answer_after_the_deed() {
    let rig = Rig::new();
    rig.account.user("u");
    rig.proxy.fault_once("CreateAccessKey", Fault::Reset);
    assert_eq!(rig.create_key("u").expect_err("reset").status, 0);
    assert_eq!(rig.account.keys("u").len(), 0);
    rig.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    assert_eq!(rig.create_key("u").expect_err("no answer").status, 0);
    assert_eq!(rig.account.keys("u").len(), 1);
    rig.proxy.fault_once("CreateAccessKey", Fault::CutResponse(40));
    let error = rig.create_key("u").expect_err("half an answer");
    assert_eq!(error.status, 0, "{error}");
    assert_eq!(rig.account.keys("u").len(), 2);
}

#[test]
fn another_clock_refuses_and_says_its_time() {
    let rig = Rig::new();
    for (seconds, word) in [(3600, "Signature expired"), (-3600, "Signature not yet current")] {
        rig.proxy.clear_faults();
        rig.proxy.fault("*", Fault::DateSkew(seconds));
        let error = rig.whoami(&rig.manager).expect_err("too far off");
        assert_eq!(error.code, "SignatureDoesNotMatch");
        assert!(error.message.starts_with(word), "{error}");
    }
    rig.proxy.clear_faults();
    rig.proxy.fault("*", Fault::DateSkew(60));
    assert_eq!(rig.code(), "ok");
}

#[test]
fn hooks_run_on_their_side_of_the_deed() {
    let rig = Rig::new();
    rig.account.user("h");
    let (before, after) = (Arc::new(AtomicUsize::new(9)), Arc::new(AtomicUsize::new(9)));
    let look = |seen: &Arc<AtomicUsize>| {
        let (seen, account) = (Arc::clone(seen), rig.account.clone());
        Arc::new(move |call: &testkit::Call| {
            assert_eq!(call.user_name.as_deref(), Some("h"));
            seen.store(account.keys("h").len(), Ordering::SeqCst);
        })
    };
    rig.proxy.fault("CreateAccessKey", Fault::BeforeForward(look(&before)));
    rig.proxy.fault("CreateAccessKey", Fault::AfterForward(look(&after)));
    rig.create_key("h").expect("a key");
    assert_eq!((before.load(Ordering::SeqCst), after.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn a_hang_lasts_until_the_proxy_ends_and_slow_still_answers() {
    let Rig { proxy, aws, manager, account } = Rig::new();
    proxy.fault_once("*", Fault::Slow(Duration::from_millis(10)));
    aws.call("sts", "get_caller_identity", json!({}), &manager).expect("late");
    proxy.fault("*", Fault::Hang);
    let waiting = std::thread::spawn(move || aws.call("sts", "get_caller_identity", json!({}), &manager));
    while proxy.calls().len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!waiting.is_finished());
    assert_eq!(proxy.calls()[1].forwarded, None);
    drop(proxy);
    assert_eq!(waiting.join().expect("no panic").expect_err("no answer").status, 0);
    assert_eq!(account.keys("manager").len(), 1);
}
