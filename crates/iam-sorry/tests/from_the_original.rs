//! What the original's later versions had (docs/from-the-original.md): the sound part works, the rest says what to do.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{Creds, Fault, MachineOnAws, Outcome};

const MANAGER: &str = "dirk-iam-sorry";

/// A machine with an administrator's profile `admin`, plain.
fn with_admin() -> MachineOnAws {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let admin = machine.account.manager("root-admin");
    machine.home.write_credentials(admin.section("admin"));
    machine
}

fn create(machine: &MachineOnAws) -> Outcome {
    machine.run(&["--profile", "admin", "--create-iam-sorry", MANAGER])
}

fn users(machine: &MachineOnAws) -> Vec<String> {
    let answer = machine.account.call("iam", "list_users", json!({}));
    let users = answer["Users"].as_array().unwrap();
    users.iter().map(|user| user["UserName"].as_str().unwrap().to_owned()).collect()
}

fn policies(machine: &MachineOnAws, user: &str) -> Vec<String> {
    let answer = machine.account.call("iam", "list_user_policies", json!({"UserName": user}));
    answer["PolicyNames"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn answering(machine: &MachineOnAws, args: &[&str], answers: &str) -> Outcome {
    Outcome::piped(answers, &mut machine.command(args))
}

#[test]
fn a_manager_is_made_sealed_and_serves_its_namespace_at_once() {
    let machine = with_admin();
    for user in ["dirk", "dirk-hpc", "jane"] {
        machine.account.user(user);
    }
    let ended =
        create(&machine).ok().prints(&["✓ IAM user 'dirk-iam-sorry' created", "'iam-sorry-dirk'", "sealed"]);
    let key = machine.opened("iam-sorry");
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(&key.secret), "the secret is never shown");
    assert!(!machine.home.credentials().contains(&key.secret), "nor written");
    assert!(machine.field("iam-sorry", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2."));
    assert_eq!(machine.account.keys(MANAGER), [key.key.as_str()]);
    assert_eq!(machine.acts_as("iam-sorry"), MANAGER);
    assert!(machine.journal().is_empty());

    // The default manager profile, with nothing named.
    machine.run(&["dirk"]).ok().prints(&["✓ IAM user: dirk"]);
    machine.run(&["refresh", "dirk-hpc"]).ok();
    assert_eq!(machine.acts_as("dirk"), "dirk");

    // By its name it is told before AWS is asked; without the note in the file, IAM's policy says no.
    machine.proxy.clear_calls();
    machine.run(&["jane"]).exits(2).says(&[
        "'dirk' and 'dirk-*'",
        "'jane' is not one of them",
        "--profile MANAGER",
    ]);
    assert!(machine.proxy.calls().is_empty());
    let text = machine.home.credentials();
    machine.home.write_credentials(text.replace("iam_sorry_namespace = dirk\n", ""));
    machine.run(&["jane"]).exits(4).says(&["AWS refused iam:GetUser"]);
    assert!(machine.account.keys("jane").is_empty());

    // Its own key it may rotate.
    machine.run(&["rotate", "iam-sorry"]).ok();
    assert_ne!(machine.opened("iam-sorry").key, key.key);
}

#[test]
fn making_it_again_mends_the_policy_and_nothing_else() {
    let machine = with_admin();
    create(&machine).ok();
    let (before, keys) = (machine.home.credentials(), machine.account.keys(MANAGER));
    let gone = json!({"UserName": MANAGER, "PolicyName": "iam-sorry-dirk"});
    machine.account.call("iam", "delete_user_policy", gone);
    create(&machine).ok().prints(&["was there already", "holds its access key already"]);
    assert_eq!(policies(&machine, MANAGER), ["iam-sorry-dirk"]);
    assert_eq!((machine.home.credentials(), machine.account.keys(MANAGER)), (before, keys));
}

#[test]
fn a_user_who_was_there_before_is_taken_only_on_demand_and_never_deleted() {
    let machine = with_admin();
    machine.account.user(MANAGER);
    create(&machine).exits(4).says(&["exists already; nothing was changed", "--yes"]);
    assert!(policies(&machine, MANAGER).is_empty() && machine.account.keys(MANAGER).is_empty());
    machine.proxy.fault("GetSessionToken", Fault::Status(400, "ValidationError"));
    machine.run(&["--profile", "admin", "--create-iam-sorry", MANAGER, "--yes"]).exits(4);
    assert!(users(&machine).contains(&MANAGER.to_owned()));
    machine.proxy.clear_faults();
    machine.run(&["--profile", "admin", "--create-iam-sorry", MANAGER, "--yes"]).ok();
    assert_eq!(machine.acts_as("iam-sorry"), MANAGER);
}

#[test]
fn whatever_step_fails_what_was_made_is_taken_back() {
    for step in ["PutUserPolicy", "CreateAccessKey", "GetSessionToken", "GetCallerIdentity"] {
        let machine = with_admin();
        let before = machine.home.credentials();
        machine.proxy.fault(step, Fault::Status(400, "ValidationError"));
        create(&machine).exits(4).says(&["'dirk-iam-sorry', made a moment ago, is deleted again"]);
        assert_eq!(users(&machine), ["root-admin"], "{step}");
        assert_eq!(machine.home.credentials(), before, "{step}");
        assert!(machine.journal().is_empty(), "{step}");
    }
}

/// Runs `--create-iam-sorry` and sends it a signal in the middle of a request.
fn signalled(machine: &MachineOnAws, action: &str, after: bool, signal: Signal) -> ExitStatus {
    let victim: Arc<Mutex<Option<Pid>>> = Arc::default();
    let hook = {
        let victim = Arc::clone(&victim);
        Arc::new(move |_: &testkit::Call| {
            // Gone where a run that is over asks again.
            let _ = kill_process(victim.lock().unwrap().unwrap(), signal);
        })
    };
    machine
        .proxy
        .fault_once(action, if after { Fault::AfterForward(hook) } else { Fault::BeforeForward(hook) });
    let mut slot = victim.lock().unwrap();
    let mut command = machine.command(&["--profile", "admin", "--create-iam-sorry", MANAGER]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    *slot = Pid::from_raw(i32::try_from(child.id()).unwrap());
    drop(slot);
    let status = child.wait_with_output().unwrap().status;
    machine.proxy.wait_until_idle();
    status
}

#[test]
fn interrupted_it_takes_back_what_it_made() {
    for action in ["CreateUser", "PutUserPolicy", "CreateAccessKey", "GetSessionToken"] {
        let machine = with_admin();
        let status = signalled(&machine, action, true, Signal::INT);
        assert_eq!(status.code(), Some(130), "{action}");
        assert_eq!(users(&machine), ["root-admin"], "{action}");
        assert!(!machine.home.credentials().contains("[iam-sorry]"), "{action}");
        assert!(machine.journal().is_empty(), "{action}");
    }
}

#[test]
fn killed_at_every_step_the_next_run_finishes_with_one_key() {
    std::thread::scope(|scope| {
        for action in
            ["CreateUser", "PutUserPolicy", "CreateAccessKey", "GetSessionToken", "GetCallerIdentity"]
        {
            for after in [false, true] {
                scope.spawn(move || {
                    let case = format!("{action}, after: {after}");
                    let machine = with_admin();
                    let status = signalled(&machine, action, after, Signal::KILL);
                    assert_eq!(status.signal(), Some(9), "{case}");
                    machine.run(&["--profile", "admin", "--create-iam-sorry", MANAGER, "--yes"]).ok();
                    let key = machine.opened("iam-sorry").key;
                    if action == "CreateAccessKey" {
                        // Made, and its ID never written down: nothing proves whose it is.
                        let keys = machine.account.keys(MANAGER);
                        let found = keys.iter().find(|id| **id != key).unwrap();
                        machine.assert_found(MANAGER, found);
                    }
                    assert_eq!(machine.account.keys(MANAGER), [key.as_str()], "{case}");
                    assert_eq!(policies(&machine, MANAGER), ["iam-sorry-dirk"], "{case}");
                    assert!(machine.journal().is_empty(), "{case}");
                });
            }
        }
    });
}

#[test]
fn what_can_be_refused_is_refused_before_aws_is_asked() {
    let machine = with_admin();
    machine
        .home
        .write_credentials(machine.home.credentials() + &Creds::new("AKIAOTHER", "s").section("iam-sorry"));
    let before = machine.home.credentials();
    for (args, code, says) in [
        (&["--profile", "admin", "--create-iam-sorry", "usermanager"][..], 2, "usermanager-iam-sorry"),
        (&["--profile", "admin", "--create-iam-sorry", "a b"], 2, "can't be an IAM user name"),
        (&["--create-iam-sorry", MANAGER], 2, "--profile ADMIN"),
        (&["--profile", "iam-sorry", "--create-iam-sorry", MANAGER], 2, "can't be both"),
        (&["--profile", "admin", "--create-iam-sorry", MANAGER], 3, "holds other credentials"),
        (&["--profile", "nobody", "--create-iam-sorry", MANAGER, "boss"], 3, "'nobody' not found"),
    ] {
        machine.run(args).exits(code).says(&[says]);
    }
    machine.agent().remove(&machine.ssh_key);
    machine.run(&["--profile", "admin", "--create-iam-sorry", MANAGER, "boss"]).exits(5);
    assert_eq!(machine.proxy.calls().len(), 0);
    assert_eq!(machine.home.credentials(), before);
}

#[test]
fn who_may_not_make_users_is_told_who_may() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let weak = machine.account.user_allowed("weak", &["iam:GetUser"]);
    machine.home.write_credentials(weak.section("admin"));
    create(&machine).exits(4).says(&["AWS refused iam:CreateUser", "--profile ADMIN"]);
}

/// A machine with nothing but a manager's key in the environment, as an administrator handed it over.
fn handed_over(actions: &[&str]) -> (MachineOnAws, Creds) {
    let mut machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let key = machine.account.user_allowed(MANAGER, actions);
    machine.home.set_env("AWS_ACCESS_KEY_ID", &key.key);
    machine.home.set_env("AWS_SECRET_ACCESS_KEY", &key.secret);
    (machine, key)
}

#[test]
fn the_first_run_seals_the_key_that_was_handed_over_and_rotates_it_away() {
    let (machine, old) = handed_over(&["iam:*"]);
    let ended =
        machine.run(&["--yes"]).ok().says(&[&old.key, "IAM user 'dirk-iam-sorry'", "iam-sorry unset"]);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(&old.secret));
    let new = machine.opened("iam-sorry");
    assert_ne!(new.key, old.key);
    assert_eq!(machine.account.keys(MANAGER), [new.key.as_str()]);
    assert_eq!(machine.field("iam-sorry", "iam_sorry_namespace").as_deref(), Some("dirk"));
    assert!(!machine.home.credentials().contains(&old.secret));
    // Set up once; from now on the bare command is the one it was.
    machine.run(&["--yes"]).exits(3).says(&["'default' profile does not exist"]);
}

#[test]
fn the_first_run_asks_and_keeps_the_key_where_it_is_told_to() {
    let (machine, old) = handed_over(&["iam:*"]);
    answering(&machine, &[], "n\n").ok().prints(&["Aborted."]);
    assert_eq!(machine.home.credentials(), "");
    machine.run::<&str>(&[]).exits(2).says(&["--yes"]);
    answering(&machine, &[], "y\nn\n").ok().says(&["iam-sorry rotate 'iam-sorry'"]);
    assert_eq!(machine.opened("iam-sorry").key, old.key);
    assert_eq!(machine.account.keys(MANAGER), [old.key.as_str()]);
}

/// In CI a key in the environment is the rule, and it must never be rotated away by a mistyped manager's name.
#[test]
fn where_a_manager_is_named_the_key_in_the_environment_is_left_alone() {
    let (mut machine, old) = handed_over(&["iam:*"]);
    machine.run(&["--profile", "usermanager", "--yes"]).exits(3);
    machine.home.set_env("AWS_PROFILE", "usermanager");
    machine.run(&["--yes"]).exits(3);
    assert_eq!(machine.home.credentials(), "");
    assert_eq!(machine.account.keys(MANAGER), [old.key.as_str()]);
}

#[test]
fn a_key_that_may_not_rotate_itself_is_stored_and_the_rest_is_told() {
    let (machine, old) = handed_over(&["iam:GetUser"]);
    machine.run(&["--yes"]).exits(4).says(&["has it too", "iam-sorry rotate 'iam-sorry'"]);
    assert_eq!(machine.opened("iam-sorry").key, old.key);
    assert_eq!(machine.account.keys(MANAGER), [old.key.as_str()]);
}

#[test]
fn a_session_or_a_root_key_does_not_become_a_manager() {
    let (mut machine, old) = handed_over(&["iam:*"]);
    let root = machine.account.root();
    machine.home.set_env("AWS_SESSION_TOKEN", "token");
    machine.run(&["--yes"]).exits(3).says(&["are temporary", "--create-iam-sorry"]);
    machine.home.set_env("AWS_SESSION_TOKEN", "");
    machine.home.set_env("AWS_ACCESS_KEY_ID", &root.key);
    machine.home.set_env("AWS_SECRET_ACCESS_KEY", &root.secret);
    machine.run(&["--yes"]).exits(4).says(&["root user", "A manager is an IAM user"]);
    assert_eq!(machine.home.credentials(), "");
    assert_eq!(machine.account.keys(MANAGER), [old.key.as_str()]);
}

#[test]
fn profiles_and_fix_profiles() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    machine
        .home
        .write_credentials("[default]\naws_access_key_id = A\n\n[two words]\n[c]\nregion = eu-west-1\n");
    machine.home.write_config(
        "# mine\n[default]\nregion = eu-central-1\n\n[profile c]\noutput = json\n\
         [profile r]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = c\n\
         [profile broken]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = gone\n[profile bare]\n",
    );
    let names = machine.run(&["--profiles"]).ok().stdout;
    assert_eq!(names, "default\nc\nr\nbroken\nbare\ntwo words\n");

    let mut command = machine.command(&["--fix-profiles"]);
    let ended = Outcome::of(command.env_remove("AWS_DEFAULT_REGION"));
    ended
        .ok()
        .prints(&[
            "'two words'",
            "(region eu-central-1)",
            "'c'",
            "(region eu-west-1)",
            "Role profile 'r' is fine",
        ])
        .says(&["'broken' names 'gone'", "'bare' is only in"]);
    let config = machine.home.config();
    assert!(
        config.starts_with("# mine\n[default]\nregion = eu-central-1\n\n[profile c]\noutput = json\n"),
        "{config}"
    );
    let read = machine
        .home
        .venv_command("aws")
        .args(["configure", "get", "region", "--profile", "two words"])
        .output();
    assert_eq!(String::from_utf8(read.unwrap().stdout).unwrap(), "eu-central-1\n");
    machine.run(&["--fix-profiles"]).ok().prints(&["Every profile"]);
    assert_eq!(machine.home.config(), config);
}

#[test]
fn reset_asks_and_loses_no_key_by_accident() {
    let machine = with_admin();
    machine.run(&["--reset"]).ok().prints(&["No changes were made"]);
    create(&machine).ok();
    machine.home.write_config("[profile iam-sorry]\nregion = us-east-1\n[profile x]\nregion = us-east-1\n");
    let (before, id) = (machine.home.credentials(), machine.opened("iam-sorry").key);
    machine.run(&["--reset", "--yes"]).exits(3).says(&[&id, "--lose-key", "iam-sorry rename"]);
    machine.run(&["--reset"]).exits(2).says(&[&id, "There is no terminal"]);
    answering(&machine, &["--reset"], "n\n").ok().prints(&["Aborted."]);
    assert_eq!(machine.home.credentials(), before);
    answering(&machine, &["--reset"], "y\n").ok().says(&["list-access-keys --user-name dirk-iam-sorry"]);
    assert!(
        !machine.home.credentials().contains("[iam-sorry]") && machine.home.credentials().contains("[admin]")
    );
    assert_eq!(machine.home.config(), "[profile x]\nregion = us-east-1\n");

    create(&machine).exits(4);
    machine
        .home
        .write_credentials(machine.home.credentials() + &Creds::new("AKIALOST", "s").section("iam-sorry"));
    machine.run(&["--reset", "--lose-key", "--yes"]).ok();
    assert!(!machine.home.credentials().contains("AKIALOST"));
}

#[test]
fn the_printed_policies_are_json_held_to_the_namespace() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let printed = |args: &[&str]| -> Value { serde_json::from_str(&machine.run(args).ok().stdout).unwrap() };
    assert_eq!(printed(&["--print-policy", "dirk"]), printed(&["policy", "--namespace", "dirk"]));
    assert_eq!(printed(&["--print-policy"]), printed(&["--print-policy", "tester"]), "the login name");
    let admin = printed(&["--print-admin-policy", "dirk"]);
    assert_eq!(admin, printed(&["policy", "--namespace", "dirk", "--create-users"]));
    for bad in ["*", "dirk-", "a/b", "dirk*"] {
        machine.run(&["--print-policy", bad]).exits(2);
        machine.run(&["--print-admin-policy", bad]).exits(2);
    }
}

/// The original's `--print-admin-policy` let its holder make and tag any user of the account. The emulator knows no
/// iam:PermissionsBoundary in conditions, so with the condition it refuses every CreateUser; what the resources alone
/// allow is seen without it.
#[test]
fn who_holds_the_admin_policy_reaches_nobody_outside_the_namespace() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let mut policy: Value =
        serde_json::from_str(&machine.run(&["--print-admin-policy", "dirk"]).ok().stdout).unwrap();
    let holder = machine.account.user_allowed(MANAGER, &["sts:GetCallerIdentity"]);
    machine.account.put_policy(MANAGER, &policy);
    machine.account.user("jane");
    let may = |op: &str, args: Value| match machine.account.call_as(&holder, "iam", op, args) {
        Ok(_) => true,
        Err(error) if error.code == "AccessDenied" => false,
        Err(error) => panic!("{op}: {error}"),
    };
    assert!(!may("create_user", json!({"UserName": "dirk-free"})), "without a boundary");
    assert!(!may("tag_user", json!({"UserName": "jane", "Tags": [{"Key": "owner", "Value": "dirk"}]})));
    assert!(!may("create_access_key", json!({"UserName": "jane"})));
    assert!(!may("delete_user_permissions_boundary", json!({"UserName": MANAGER})));
    assert!(!may("put_user_policy", json!({"UserName": MANAGER, "PolicyName": "x", "PolicyDocument": "{}"})));

    let create = policy["Statement"].as_array_mut().unwrap().last_mut().unwrap();
    assert_eq!(create["Action"], "iam:CreateUser");
    create.as_object_mut().unwrap().remove("Condition").unwrap();
    machine.account.put_policy(MANAGER, &policy);
    assert!(may("create_user", json!({"UserName": "dirk-hpc"})));
    assert!(may("create_access_key", json!({"UserName": "dirk-hpc"})));
    for outside in ["jane-hpc", "dirks", "x-dirk"] {
        assert!(!may("create_user", json!({"UserName": outside})), "{outside}");
    }
}

#[test]
fn what_is_not_kept_says_what_to_do_instead() {
    let machine = with_admin();
    let chown = ["--profile", "admin", "jane-hpc", "--chown", "jane"];
    machine.run(&chown).exits(2).says(&[
        "bound nobody",
        "iam-sorry policy --users jane-hpc",
        "--user-name jane ",
    ]);
    machine.run(&["--print-lambda-policy"]).exits(2).says(&["not our business"]);
    machine.run(&["--profiles", "list"]).exits(2);
    machine.run(&["--reset", "--profiles"]).exits(2);
    // A name that IAM does not know is never made into a user.
    machine.run(&["--profile", "admin", "drik"]).exits(4).says(&["IAM knows no user 'drik'"]);
    assert_eq!(users(&machine), ["root-admin"]);
}

#[test]
fn eval_without_a_name_is_the_profile_that_is_set_or_default() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let text = [Creds::new("AKIAD", "d").section("default"), Creds::new("AKIAX", "x").section("x")].concat();
    machine.home.write_credentials(text);
    machine.run(&["--eval"]).ok().prints(&["AKIAD"]);
    machine.run(&["--profile", "x", "--eval"]).ok().prints(&["AKIAX"]);
    machine.run(&["--eval", "x"]).ok().prints(&["AKIAX"]);
}
