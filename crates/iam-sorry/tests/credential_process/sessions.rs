//! `--session`: a session in place of permanent keys, kept until it nears its end.

use crate::answer;
use crate::rig;
use testkit::Outcome;

#[test]
fn permanent_keys_are_handed_out_as_they_are() {
    let rig = rig();
    // Not `run`: here the secret is the result.
    let printed = Outcome::of(&mut rig.command(&["credential-process", "usermanager"])).ok().stdout;
    let (creds, at) = answer(&printed);
    assert_eq!(creds, *rig.manager());
    assert_eq!(at, None, "permanent keys have no Expiration");
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
}

#[test]
fn a_session_stands_in_for_the_sealed_keys_and_is_kept() {
    let rig = rig();
    let first = rig.run(&["credential-process", "--session", "usermanager"]).ok().stdout;
    let (creds, at) = answer(&first);
    assert!(creds.token.is_some() && at.is_some());
    assert!(rig.account.whoami(&creds).unwrap().ends_with(":user/usermanager"));
    assert!(!first.contains(&rig.manager().secret));

    // Kept: the same again, without a request, and without the agent.
    let mut command =
        rig.command(&["exec", "usermanager", "--session", "--", "sh", "-c", "echo $AWS_SESSION_TOKEN"]);
    let again = rig.outcome(command.env_remove("SSH_AUTH_SOCK")).ok();
    assert_eq!(Some(again.stdout.trim()), creds.token.as_deref());
    let env = rig.run(&["env", "usermanager", "--session", "--shell", "json"]).ok();
    assert!(env.stdout.contains(&creds.key), "{}", env.stdout);
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);

    // Another length is another session.
    rig.run(&["credential-process", "--session", "--duration", "1", "usermanager"]).ok();
    assert_eq!(rig.proxy.count("GetSessionToken"), 2);

    let state = rig.home.path().join(".local/state/iam-sorry/cache");
    assert_eq!(rig.home.mode(".local/state/iam-sorry/cache"), 0o700);
    for entry in std::fs::read_dir(state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(rig.home.mode(&path), 0o600, "{}", path.display());
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&rig.manager().secret));
    }
}

#[test]
fn a_session_wants_the_code_of_the_profiles_mfa_device() {
    let rig = rig();
    rig.home.write_config("[profile usermanager]\nmfa_serial = arn:aws:iam::000000000000:mfa/usermanager\n");
    let ended = rig.run(&["credential-process", "--session", "usermanager"]);
    ended.exits(2).says(&["MFA code of arn:aws:iam::000000000000:mfa/usermanager", "--mfa-code"]);
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
    let ended = rig.run(&["--mfa-code", "12345", "credential-process", "--session", "usermanager"]);
    ended.exits(2).says(&["six digits"]);
}
