//! That a seed is a schedule: two runs of it do the same.

use crate::schedule::Workshop;

#[test]
fn two_runs_of_a_seed_are_the_same_to_the_last_event() {
    let (one, two) = (Workshop::new(), Workshop::new());
    for seed in 1..40 {
        let (first, again) = (one.run(seed, true), two.run(seed, true));
        assert_eq!(first.history, again.history, "seed {seed}");
        assert_eq!(first.digest, again.digest, "seed {seed}");
        assert_eq!(first.digest, two.run(seed, false).digest, "seed {seed}, without its history");
    }
}
