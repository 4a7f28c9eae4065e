use proptest::prelude::*;

use super::*;

const INTENT: i64 = 1_761_480_000;
const UNTIL: i64 = INTENT + 30;

fn id(number: usize) -> String {
    format!("AKIA{number:016}")
}

fn attempt<'a>(before: Option<&'a [String]>, found: &'a [String]) -> Attempt<'a> {
    Attempt {
        key_id: None,
        before,
        window: Window { intent: INTENT, until: UNTIL },
        first_use: FirstUse::AfterNote,
        found,
        settled: true,
    }
}

/// A key that fits in every respect.
fn fitting(number: usize) -> Candidate {
    Candidate {
        key: ListedKey { id: id(number), active: true, created: Timestamp::from_unix(INTENT + 1) },
        used: LastUsed::Never,
        accounted_for: false,
    }
}

fn made_at(number: usize, at: i64) -> Candidate {
    let mut candidate = fitting(number);
    candidate.key.created = Timestamp::from_unix(at);
    candidate
}

fn used(service: &str) -> LastUsed {
    LastUsed::At(Timestamp::from_unix(INTENT + 2).unwrap(), service.into())
}

#[test]
fn a_key_that_fits_alone_is_deactivated_and_of_several_none_is_touched() {
    let before = [id(9)];
    let attempt = attempt(Some(&before), &[]);
    assert_eq!(fate(&attempt, Delivered::No, &[fitting(1)]), Fate::Deactivate(id(1)));
    let both = Fate::Show(vec![id(1), id(2)]);
    assert_eq!(fate(&attempt, Delivered::No, &[fitting(1), fitting(2)]), both);
    assert_eq!(fate(&attempt, Delivered::No, &[]), Fate::Nothing);
    // The user's old key is none of them.
    assert_eq!(fate(&attempt, Delivered::No, &[fitting(9), fitting(1)]), Fate::Deactivate(id(1)));
}

#[test]
fn the_ends_of_the_window() {
    let none: [String; 0] = [];
    let attempt = attempt(Some(&none), &[]);
    for (at, expected) in [
        (INTENT - 3, Fate::Nothing),
        (INTENT - 2, Fate::Deactivate(id(1))),
        (UNTIL, Fate::Deactivate(id(1))),
        (UNTIL + 1, Fate::Nothing),
    ] {
        assert_eq!(fate(&attempt, Delivered::No, &[made_at(1, at)]), expected, "{}", at - INTENT);
    }
}

/// If nobody looked which keys there were, a key from the two seconds of allowance before the intent is shown at most.
#[test]
fn without_a_list_from_before_a_key_from_before_the_intent_is_not_touched() {
    let attempt = attempt(None, &[]);
    assert_eq!(fate(&attempt, Delivered::No, &[made_at(1, INTENT - 1)]), Fate::Show(vec![id(1)]));
    assert_eq!(fate(&attempt, Delivered::No, &[made_at(1, INTENT)]), Fate::Deactivate(id(1)));
}

#[test]
fn once_several_fitted_one_that_is_left_is_no_proof() {
    let (none, found): ([String; 0], _) = ([], [id(1), id(2)]);
    assert_eq!(fate(&attempt(Some(&none), &found), Delivered::No, &[fitting(2)]), Fate::Show(vec![id(2)]));
    // A key that was about to be deactivated when the process died is deactivated by the next look.
    let found = [id(1)];
    assert_eq!(fate(&attempt(Some(&none), &found), Delivered::No, &[fitting(1)]), Fate::Deactivate(id(1)));
    assert_eq!(fate(&attempt(Some(&none), &found), Delivered::No, &[fitting(2)]), Fate::Show(vec![id(2)]));
}

/// Only the service may have used a key before it knew its ID for certain, and only at STS.
#[test]
fn a_used_key_is_somebodys() {
    let none: [String; 0] = [];
    let mut attempt = attempt(Some(&none), &[]);
    let mut candidate = fitting(1);
    for (first_use, service, expected) in [
        (FirstUse::AfterNote, "sts", Fate::Nothing),
        (FirstUse::AfterNote, "s3", Fate::Nothing),
        (FirstUse::BesideNote, "sts", Fate::Show(vec![id(1)])),
        (FirstUse::BesideNote, "s3", Fate::Nothing),
    ] {
        attempt.first_use = first_use;
        candidate.used = used(service);
        let found = fate(&attempt, Delivered::No, std::slice::from_ref(&candidate));
        assert_eq!(found, expected, "{first_use:?} {service}");
    }
}

#[test]
fn a_noted_key_goes_unless_it_was_delivered() {
    let before = [id(1)];
    let mut attempt = attempt(Some(&before), &[]);
    let noted = id(7);
    attempt.key_id = Some(&noted);
    attempt.settled = false;
    assert_eq!(fate(&attempt, Delivered::No, &[]), Fate::Delete(id(7)));
    assert_eq!(fate(&attempt, Delivered::Yes, &[]), Fate::Stays(id(7)));
    assert_eq!(fate(&attempt, Delivered::Unknown, &[]), Fate::DeliveryUnknown(id(7)));
    attempt.key_id = Some(&before[0]);
    assert_eq!(fate(&attempt, Delivered::No, &[]), Fate::TooFresh, "it was there before");
}

#[test]
fn a_suspect_is_accounted_for_by_what_somebody_does_with_it() {
    let listed = |active| ListedKey { id: id(1), active, created: None };
    let found = Timestamp::from_unix(INTENT).unwrap();
    let suspect = |deactivated| Suspect { key_id: id(1), deactivated, found };
    let at = |seconds: i64| LastUsed::At(Timestamp::from_unix(INTENT + seconds).unwrap(), "sts".into());
    for (deactivated, listed, used, expected) in [
        (true, None, LastUsed::Unknown, Standing::Deleted),
        (true, Some(listed(false)), LastUsed::Unknown, Standing::Undecided),
        (true, Some(listed(true)), LastUsed::Unknown, Standing::Activated),
        // Used before it was deactivated, by somebody who must activate it again.
        (true, Some(listed(false)), at(9), Standing::Undecided),
        (false, None, LastUsed::Unknown, Standing::Deleted),
        (false, Some(listed(true)), LastUsed::Never, Standing::Undecided),
        (false, Some(listed(false)), LastUsed::Never, Standing::Undecided),
        (false, Some(listed(true)), at(0), Standing::Undecided),
        (false, Some(listed(true)), at(1), Standing::Used),
    ] {
        let found = standing(&suspect(deactivated), listed.as_ref(), &used);
        assert_eq!(found, expected, "{deactivated} {listed:?} {used:?}");
        assert_eq!(found.accounted_for().is_none(), found == Standing::Undecided);
    }
}

fn any_used() -> impl Strategy<Value = LastUsed> {
    let at = (INTENT - 5..UNTIL + 5, prop_oneof!["sts", "STS", "s3"]);
    prop_oneof![
        3 => Just(LastUsed::Never),
        1 => Just(LastUsed::Unknown),
        2 => at.prop_map(|(at, service)| LastUsed::At(Timestamp::from_unix(at).unwrap(), service)),
    ]
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let key = (0..6_usize, any::<bool>(), proptest::option::weighted(0.9, INTENT - 5..UNTIL + 5));
    (key, any_used(), proptest::bool::weighted(0.2)).prop_map(
        |((number, active, at), used, accounted_for)| {
            let created = at.and_then(Timestamp::from_unix);
            Candidate { key: ListedKey { id: id(number), active, created }, used, accounted_for }
        },
    )
}

/// Keys of one user: no ID twice.
fn any_list() -> impl Strategy<Value = Vec<Candidate>> {
    proptest::collection::vec(any_candidate(), 0..5).prop_map(|mut list| {
        list.sort_by(|a, b| a.key.id.cmp(&b.key.id));
        list.dedup_by(|a, b| a.key.id == b.key.id);
        list
    })
}

#[derive(Clone, Debug)]
struct Written {
    key_id: Option<String>,
    before: Option<Vec<String>>,
    found: Vec<String>,
    first_use: FirstUse,
    settled: bool,
}

impl Written {
    fn attempt(&self) -> Attempt<'_> {
        Attempt {
            key_id: self.key_id.as_deref(),
            before: self.before.as_deref(),
            window: Window { intent: INTENT, until: UNTIL },
            first_use: self.first_use,
            found: &self.found,
            settled: self.settled,
        }
    }
}

fn any_written() -> impl Strategy<Value = Written> {
    let some_ids = || proptest::collection::vec((0..6_usize).prop_map(id), 0..3);
    let first_use = prop_oneof![Just(FirstUse::AfterNote), Just(FirstUse::BesideNote)];
    (
        proptest::option::weighted(0.3, (0..6_usize).prop_map(id)),
        proptest::option::weighted(0.7, some_ids()),
        some_ids(),
        first_use,
        proptest::bool::weighted(0.8),
    )
        .prop_map(|(key_id, before, found, first_use, settled)| Written {
            key_id,
            before,
            found,
            first_use,
            settled,
        })
}

fn any_delivered() -> impl Strategy<Value = Delivered> {
    prop_oneof![Just(Delivered::Yes), Just(Delivered::No), Just(Delivered::Unknown)]
}

/// The keys that the fate names as perhaps the program's.
fn named(fate: &Fate) -> Vec<&str> {
    match fate {
        Fate::Deactivate(id) => vec![id],
        Fate::Show(ids) => ids.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

proptest! {
    /// Nothing is deleted but the very key that the journal noted.
    #[test]
    fn only_a_noted_key_is_deleted(written in any_written(), delivered in any_delivered(), list in any_list()) {
        let before = |id: &String| written.before.as_ref().is_some_and(|before| before.contains(id));
        match fate(&written.attempt(), delivered, &list) {
            Fate::Delete(id) => {
                prop_assert_eq!(Some(&id), written.key_id.as_ref());
                prop_assert_eq!(delivered, Delivered::No);
                prop_assert!(!before(&id));
            }
            Fate::Stays(id) | Fate::DeliveryUnknown(id) => prop_assert_eq!(Some(&id), written.key_id.as_ref()),
            Fate::TooFresh => prop_assert!(!written.settled),
            // With a noted key nothing else is ever meant.
            other => prop_assert!(written.key_id.iter().all(before), "{:?}", other),
        }
    }

    /// A key that somebody else accounts for, uses, had before or made at another time is neither touched nor named.
    #[test]
    fn a_key_that_does_not_fit_is_not_named(written in any_written(), list in any_list()) {
        let attempt = written.attempt();
        let decided = fate(&attempt, Delivered::No, &list);
        for id in named(&decided) {
            let found = list.iter().find(|c| c.key.id == id).expect("named, and not listed");
            let at = found.key.created.expect("named, and of unknown age").unix();
            prop_assert!((INTENT - ALLOWANCE..=UNTIL).contains(&at));
            prop_assert!(!found.accounted_for);
            prop_assert!(written.before.as_ref().is_none_or(|before| !before.contains(&found.key.id)));
            match &found.used {
                LastUsed::At(_, by) => prop_assert!(
                    written.first_use == FirstUse::BesideNote && by.eq_ignore_ascii_case("sts")
                ),
                LastUsed::Never | LastUsed::Unknown => {}
            }
        }
    }

    /// A key is deactivated only if it was never used, and no other key can be the one.
    #[test]
    fn a_key_is_deactivated_only_alone(written in any_written(), list in any_list()) {
        let attempt = written.attempt();
        if let Fate::Deactivate(id) = fate(&attempt, Delivered::No, &list) {
            let it = list.iter().find(|c| c.key.id == id).expect("listed");
            prop_assert_eq!(&it.used, &LastUsed::Never);
            prop_assert!(attempt.before.is_some() || it.key.created.is_some_and(|at| at.unix() >= INTENT));
            prop_assert!(written.found.iter().all(|found| *found == id), "others were found before");
            let others: Vec<Candidate> = list.iter().filter(|c| c.key.id != id).cloned().collect();
            prop_assert!(named(&fate(&attempt, Delivered::No, &others)).is_empty());
        }
    }

    /// One more key that fits makes the rule more careful, never less.
    #[test]
    fn another_key_that_fits_stops_every_touch(written in any_written(), list in any_list()) {
        let mut more = list.clone();
        more.push(fitting(7));
        let touched = |list: &[Candidate]| match fate(&written.attempt(), Delivered::No, list) {
            Fate::Deactivate(id) => Some(id),
            _ => None,
        };
        if touched(&list).is_some() {
            prop_assert_eq!(touched(&more), None);
        }
    }

    /// A key that the attempt made, and whose ID nobody noted, is never passed over: a person hears of it at least.
    #[test]
    fn a_lost_key_is_always_named(written in any_written(), list in any_list(), after in 0..UNTIL - INTENT, active: bool) {
        let mut lost = made_at(8, INTENT + after);
        lost.key.active = active;
        let mut list = list;
        list.push(lost);
        let written = Written { key_id: None, settled: true, ..written };
        let decided = fate(&written.attempt(), Delivered::No, &list);
        let lost = id(8);
        prop_assert!(named(&decided).contains(&lost.as_str()), "{:?}", decided);
    }
}
