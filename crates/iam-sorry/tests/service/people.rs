//! Users and policies, one and many.

use crate::rig::Department;

#[test]
fn a_user_from_beginning_to_end() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let (reading, writing) = (&department.policies[0], &department.policies[1]);
    alice
        .run(&["users", "create", "dirk-a", "--dry-run"])
        .ok()
        .prints(&["✓ Would be done: IAM user 'dirk-a' is created"]);
    alice.run(&["users", "show", "dirk-a"]).exits(4);
    alice
        .run(&["users", "create", "dirk-a", "--policy", reading])
        .ok()
        .prints(&["✓ IAM user 'dirk-a' is created"]);
    alice.run(&["users", "list"]).ok().prints(&["NAME", "dirk-a", "dirk"]);
    alice.run(&["users", "show", "dirk-a"]).ok().prints(&[reading, "Boundary:", "Namespace:  dirk"]);
    alice.run(&["policies", "list"]).ok().prints(&[reading, writing]);
    alice.run(&["policies", "attach", "dirk-a", writing]).ok();
    alice.run(&["policies", "list", "dirk-a"]).ok().prints(&[reading, writing]);
    alice.run(&["policies", "detach", "dirk-a", reading]).ok();
    assert_eq!(alice.run(&["policies", "list", "dirk-a"]).ok().stdout.trim(), writing);
    // What no rule and no list allows.
    alice.run(&["policies", "attach", "dirk-a", "arn:aws:iam::aws:policy/AdministratorAccess"]).exits(4);
    alice.run(&["users", "create", "ada-x"]).exits(4);
    alice.run(&["users", "create", "dirk-*"]).exits(2);
    alice
        .run(&["explain", "create-user", "dirk-b"])
        .ok()
        .prints(&["allowed", "owners-manage-their-namespaces"]);
    alice.run(&["explain", "create-user", "ada-b"]).ok().prints(&["not allowed"]);

    alice.run(&["users", "delete", "dirk-a"]).exits(2).says(&["--yes"]);
    alice.run(&["users", "delete", "dirk-a", "--yes"]).ok().prints(&["✓ IAM user 'dirk-a' is deleted"]);
    alice.run(&["users", "show", "dirk-a"]).exits(4);
}

/// A user's account may be named, and goes without saying if there is one only.
#[test]
fn a_user_by_its_account() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    alice
        .run(&["users", "create", "default/dirk-a"])
        .ok()
        .prints(&["✓ IAM user 'default/dirk-a' is created"]);
    let shown = alice.run(&["users", "show", "dirk-a"]).ok();
    assert!(!shown.stdout.contains("default"), "{}", shown.stdout);
    assert_eq!(alice.run(&["users", "show", "default/dirk-a"]).ok().stdout, shown.stdout);
    alice.run(&["policies", "attach", "default/dirk-a", &department.policies[0]]).ok();
    alice.run(&["policies", "list", "dirk-a"]).ok().prints(&[&department.policies[0]]);
    alice.run(&["explain", "create-user", "default/ada-b"]).ok().prints(&["not allowed"]);

    let no_account = ["This service has no account \"archive\"", "Its accounts: default"];
    let made: &[&[&str]] = &[
        &["users", "create", "archive/dirk-a"],
        &["users", "show", "archive/dirk-a"],
        &["users", "delete", "archive/dirk-a", "--yes"],
        &["keys", "create", "archive/dirk-a"],
        &["policies", "attach", "archive/dirk-a", &department.policies[0]],
        &["explain", "create-user", "archive/dirk-a"],
    ];
    for command in made {
        alice.run(command).exits(4).says(&no_account);
    }
    // What can't be an account or a user begins nothing.
    for name in ["Archive/dirk-a", "-x/dirk-a", "a/b/c", "/dirk-a", "default/"] {
        alice.run(&["users", "create", "--", name]).exits(2).says(&["can't be"]);
    }
    alice.run(&["users", "delete", "default/dirk-a", "--yes"]).ok();
    alice.run(&["users", "show", "dirk-a"]).exits(4);
}

/// A class: all that can be made is made, what failed is told with its line, and a second run does the rest.
#[test]
fn a_class_from_a_file() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let mut lines: Vec<String> =
        (1..=20).map(|n| format!("dirk-s{n:02},{}", department.policies[0])).collect();
    lines[6] = "ada-x,".to_owned();
    let file = alice.home.path().join("class.csv");
    let write =
        |lines: &[String]| std::fs::write(&file, format!("name,policies\n{}\n", lines.join("\n"))).unwrap();
    write(&lines);
    let path = file.display().to_string();
    let begun = alice.run(&["users", "create", "--file", &path]).exits(4);
    let begun = begun.prints(&["✓ 19 created"]).says(&[
        "1 of 20 could not be created:",
        "line 8, ada-x: ",
        "is skipped",
    ]);
    assert!(begun.stderr.contains("dirk-s01: created"), "{}", begun.stderr);

    // The same again: nothing is made twice.
    alice.run(&["users", "create", "--file", &path]).exits(4).prints(&["✓ 0 created, 19 there already"]);
    // One that was deleted meanwhile comes back; one that lost its policy gets it again.
    alice.run(&["users", "delete", "dirk-s03", "--yes"]).ok();
    alice.run(&["policies", "detach", "dirk-s04", &department.policies[0]]).ok();
    // A dry run gives no policy back either.
    let tried = alice.run(&["users", "create", "--file", &path, "--dry-run"]).exits(4);
    tried.prints(&["✓ 1 would be created, 18 there already"]).says(&["dirk-s03: would be created"]);
    assert_eq!(alice.run(&["policies", "list", "dirk-s04"]).ok().stdout.trim(), "");
    alice.run(&["users", "show", "dirk-s03"]).exits(4);
    lines[6] = format!("dirk-s07,{}", department.policies[0]);
    write(&lines);
    alice.run(&["users", "create", "--file", &path]).ok().prints(&["✓ 2 created, 18 there already"]);
    assert_eq!(alice.run(&["policies", "list", "dirk-s04"]).ok().stdout.trim(), department.policies[0]);
    let listed = alice.run(&["users", "list", "--json"]).ok().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 20);

    alice.run(&["users", "delete", "--file", &path, "--yes"]).ok().prints(&["✓ 20 deleted"]);
    alice
        .run(&["users", "delete", "--file", &path, "--yes"])
        .ok()
        .prints(&["✓ 0 deleted, 20 not the service's (any more)"]);
    // A file that can't be used begins nothing.
    std::fs::write(&file, "dirk-a\ndirk-b/c/d\nDIRK-A\n").unwrap();
    alice.run(&["users", "create", "--file", &path]).exits(2).says(&[
        "nothing was begun",
        "line 2",
        "line 3",
    ]);
    // Nothing of the runs is left, all of them being finished.
    let runs = alice.home.path().join(".local/state/iam-sorry/runs");
    assert_eq!(std::fs::read_dir(runs).unwrap().count(), 1, "the first file's, which never succeeded");
}

/// kill -9 in the middle of a class: run again, everybody is there once.
#[test]
fn a_class_whose_run_was_killed_is_taken_up_again() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;
    let department = Department::new();
    let alice = department.signed_in("alice");
    let file = alice.home.path().join("class.txt");
    let names: Vec<String> = (1..=40).map(|n| format!("dirk-k{n:02}")).collect();
    std::fs::write(&file, names.join("\n")).unwrap();
    let path = file.display().to_string();
    let arguments = ["users", "create", "--file", &path];
    let mut child = alice.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let made =
        lines.by_ref().map(|line| line.unwrap()).filter(|line| line.ends_with(": created")).take(7).count();
    assert_eq!(made, 7);
    child.kill().unwrap();
    child.wait().unwrap();

    let again = alice.run(&arguments).ok();
    let counted: Vec<usize> = again.stdout.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counted.iter().sum::<usize>(), 40, "{}", again.stdout);
    assert!(counted[1] >= 7, "{}", again.stdout);
    let listed = alice.run(&["users", "list", "--json"]).ok().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut found: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|user| user["name"].as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, names);
}
