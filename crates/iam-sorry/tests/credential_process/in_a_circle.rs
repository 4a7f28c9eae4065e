//! A profile that needs itself is stopped with an error, not a fork bomb (aws-vault#1176).

use crate::answer;
use crate::rig;
use testkit::Outcome;

/// The line that SDKs would run for ever.
fn line(profile: &str) -> String {
    format!("credential_process = \"{}\" credential-process {profile}\n", env!("CARGO_BIN_EXE_iam-sorry"))
}

#[test]
fn a_profile_whose_credential_process_is_ourselves_for_itself() {
    let rig = rig();
    rig.home.write_config(format!("[profile loop]\n{}", line("loop")));
    for args in [&["credential-process", "loop"][..], &["env", "loop"], &["exec", "loop", "--", "true"]] {
        rig.run(args).exits(3).says(&[
            "Profile 'loop' needs its own credentials",
            "loop -> loop",
            ".aws/config",
            "put keys of its own into [loop]",
        ]);
    }
}

#[test]
fn two_profiles_that_ask_for_each_other() {
    let rig = rig();
    rig.home.write_config(format!("[profile a]\n{}[profile b]\n{}", line("b"), line("a")));
    rig.run(&["credential-process", "a"]).exits(3).says(&["a -> b -> a"]);
}

#[test]
fn a_line_for_another_profile_is_followed_without_starting_anything() {
    let rig = rig();
    rig.home.write_config(format!(
        "[profile alias]\n{}[profile lost]\n{}",
        line("usermanager"),
        line("nobody")
    ));
    // Not `run`: here the secret is the result.
    let printed = Outcome::of(&mut rig.command(&["credential-process", "alias"])).ok().stdout;
    assert_eq!(answer(&printed).0, *rig.manager());
    rig.run(&["credential-process", "lost"]).exits(3).says(&["'nobody' not found", "[profile lost]"]);
}

/// The circle goes through a program that we start, so only the environment can tell.
#[test]
fn a_circle_through_another_program() {
    let rig = rig();
    let count = rig.home.path().join("count");
    let script = rig.home.write_script(
        "wrapper",
        &format!(
            "echo >>'{}'; exec '{}' credential-process role",
            count.display(),
            env!("CARGO_BIN_EXE_iam-sorry")
        ),
    );
    rig.home.write_config(format!(
        "[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = wrapped\n\
         [profile wrapped]\ncredential_process = {}\n",
        script.display()
    ));
    let ended = rig.run(&["credential-process", "role"]).exits(3);
    ended.says(&["role -> wrapped -> role", "credential_process of profile 'wrapped'"]);
    assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), 1);
}

/// A profile with keys of its own is no circle, whatever its line says: that is what `encrypt --process` makes.
#[test]
fn keys_behind_our_own_line_are_no_circle() {
    let rig = rig();
    rig.run(&["encrypt", "--process", "usermanager"]).ok();
    let mut command = rig.command(&["credential-process", "usermanager"]);
    let printed = Outcome::of(command.env("IAM_SORRY_PROCESS", "usermanager")).ok().stdout;
    assert_eq!(answer(&printed).0, *rig.manager());
}
