//! The IAM calls on a second emulator, moto, whose sessions are always user `moto`'s: so it also shows what becomes of
//! credentials that turn out to be somebody else's.

use serde_json::json;
use testkit::{Creds, Home, Moto, SshAgent};

#[test]
fn a_session_of_somebody_else_is_not_written_and_leaves_no_key() {
    let moto = Moto::start();
    let root = Creds::new("test", "test");
    let call = |op: &str, args| moto.aws().call("iam", op, args, &root).unwrap();
    for user in ["usermanager", "zoe"] {
        call("create_user", json!({ "UserName": user }));
    }
    let made = call("create_access_key", json!({ "UserName": "usermanager" }));
    let manager = Creds::from_json(&made["AccessKey"]);

    let mut home = Home::new();
    let agent = SshAgent::start();
    agent.add(&home.ssh_key("passphrase"), "passphrase", &[]);
    home.set_env("SSH_AUTH_SOCK", agent.socket());
    home.set_env("AWS_ENDPOINT_URL", moto.endpoint());
    home.write_credentials(manager.section("usermanager"));
    let run =
        |arguments: &[&str]| home.command(env!("CARGO_BIN_EXE_iam-sorry")).args(arguments).output().unwrap();
    assert!(run(&["--profile", "usermanager", "--encrypt"]).status.success());
    let before = home.credentials();

    let refused = run(&["--profile", "usermanager", "zoe"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("'moto'") && said.contains("not to the IAM user 'zoe'"), "{said}");
    assert_eq!(home.credentials(), before);
    let left = call("list_access_keys", json!({ "UserName": "zoe" }));
    assert_eq!(left["AccessKeyMetadata"], json!([]));
}
