//! That a seed is a schedule: two runs of it do the same, also in another process.

use std::process::Command;

use crate::plants;
use crate::schedule::Workshop;

#[test]
fn two_runs_of_a_seed_are_the_same_to_the_last_event() {
    let (one, two) = (Workshop::new(None), Workshop::new(None));
    for seed in 1..40 {
        let (first, again) = (one.run(seed, true), two.run(seed, true));
        assert_eq!(first.history, again.history, "seed {seed}");
        assert_eq!(first.digest, again.digest, "seed {seed}");
        assert_eq!(first.digest, two.run(seed, false).digest, "seed {seed}, without its history");
    }
}

/// Set in the process that [`another_process_goes_through_the_same_schedule`] starts.
const CHILD: &str = "SIMULATE_PRINT_HISTORY";

#[test]
fn another_process_goes_through_the_same_schedule() {
    let history = || Workshop::new(None).run(7, true).history.join("\n");
    if std::env::var_os(CHILD).is_some() {
        println!("{}", history());
        return;
    }
    let program = std::env::current_exe().unwrap();
    let this = "tests::another_process_goes_through_the_same_schedule";
    let output =
        Command::new(program).args(["--exact", this, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let here = history();
    assert!(here.lines().count() > 20, "{here}");
    assert!(printed.contains(&here), "{printed}\n\nand here:\n{here}");
}

/// A fault whose name is misspelt in the code is none, so one of each crate is looked for here; all are by
/// `scripts/simulate --planted`.
#[test]
fn planted_faults_are_found() {
    for name in ["acts-without-beats", "grants-not-written", "lost-answer-means-nothing"] {
        let workshop = Workshop::new(Some(plants::parse(name).unwrap()));
        assert!((1..2_000).any(|seed| workshop.run(seed, false).violation.is_some()), "{name}");
    }
    assert!(plants::parse("none").is_err());
}
