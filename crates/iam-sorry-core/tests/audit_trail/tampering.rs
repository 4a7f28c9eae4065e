//! Every way to tamper with a trail, and what the verification says.

use iam_sorry_core::audit::{
    ChainId, CheckpointSigner, ExportHeader, Finding, LaneHead, LaneHeads, Record, RecordId, new_key_pem,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::support::{chain, chained, event, export, forge, lane, report, sealed, signer, verify};

/// A record of the only lane.
fn id(seq: u64) -> RecordId {
    lane().record(seq)
}

fn missing(from: u64, to: u64) -> Finding {
    Finding::Missing { lane: lane(), from, to }
}

fn unsigned(from: u64, to: u64) -> Finding {
    Finding::Unsigned { lane: lane(), from, to }
}

fn heads(record: &Record) -> LaneHeads {
    [record.head()].into_iter().collect()
}

fn findings(lines: &[String]) -> Vec<Finding> {
    report(lines).findings
}

/// Ten records with checkpoints behind 4 and 10; line 0 is the header.
fn lines() -> Vec<String> {
    export(&sealed(10), &[4, 10])
}

fn line_of(lines: &[String], seq: u64) -> usize {
    lines
        .iter()
        .position(|line| line.contains("\"record\"") && line.contains(&format!("\"seq\":{seq},")))
        .unwrap()
}

#[test]
fn a_changed_field_is_found() {
    let mut lines = lines();
    let at = line_of(&lines, 6);
    lines[at] = lines[at].replace("alice", "mallory");
    assert_eq!(findings(&lines), [Finding::Changed(id(6))]);
}

#[test]
fn a_changed_field_with_a_new_hash_is_found_at_the_next_record() {
    let mut records = sealed(10);
    let line = records[5].line.replace("alice", "mallory");
    records[5] = Record::parse(&line).unwrap();
    assert_eq!(findings(&export(&records, &[4, 10])), [Finding::Unlinked(id(7))]);
}

#[test]
fn a_removed_record_is_found() {
    let mut removed = lines();
    removed.remove(line_of(&lines(), 6));
    assert_eq!(findings(&removed), [missing(6, 6)]);
    let mut removed = lines();
    removed.remove(1);
    assert_eq!(findings(&removed), [missing(1, 1)]);
}

#[test]
fn a_swapped_pair_is_found() {
    let mut lines = lines();
    let at = line_of(&lines, 6);
    lines.swap(at, at + 1);
    assert_eq!(findings(&lines), [Finding::OutOfOrder(id(6))]);
}

#[test]
fn a_cut_tail_is_found_where_a_later_state_is_known() {
    let records = sealed(10);
    // A checkpoint that a sink kept.
    let mut cut = export(&records[..7], &[4]);
    assert!(report(&cut).is_sound(), "nothing in it tells of more");
    cut.push(export(&records, &[4, 10]).pop().unwrap());
    assert_eq!(findings(&cut), [Finding::CutTail { last: id(7), known: 10 }]);
    // A note of the last verification.
    let noted = LaneHead::parse(&format!("{}:10:{}", lane(), records[9].hash_hex())).unwrap();
    let mut verifier = verify(&[signer().public_key().clone()]).expect([noted]);
    for line in export(&records[..7], &[4]) {
        verifier.line(&line);
    }
    assert_eq!(verifier.finish().findings, [Finding::CutTail { last: id(7), known: 10 }]);
    for text in ["", "10", "0:00", "10:xyz", &format!("0:{}", "0".repeat(64))] {
        assert_eq!(LaneHead::parse(text), None, "{text}");
    }
}

#[test]
fn a_rebuilt_chain_is_found_by_its_checkpoints() {
    let honest = export(&sealed(10), &[4, 10]);
    let mut events: Vec<_> = (1..=10).map(event).collect();
    events[2].person.name = "mallory".into();
    let forged = chained(events);
    // All hashes fit; the signed ones do not.
    let mut lines = export(&forged, &[]);
    lines.insert(5, honest[5].clone());
    lines.push(honest[12].clone());
    assert_eq!(findings(&lines), [Finding::Rebuilt(id(4)), Finding::Rebuilt(id(10))]);
    // Without its checkpoints it is all unsigned.
    assert_eq!(findings(&export(&forged, &[])), [unsigned(1, 10)]);
    // With one of another key.
    let other = CheckpointSigner::from_pem(&new_key_pem(&Zeroizing::new([6; 32]))).unwrap();
    let mut lines = export(&forged, &[]);
    lines.push(other.sign(chain(), heads(&forged[9]), 1, None).export_line());
    let key_id = other.public_key().id();
    assert_eq!(findings(&lines), [Finding::UnknownKey { number: 1, key_id }, unsigned(1, 10)]);
    // With one that says it is of ours.
    let mut forgery = other.sign(chain(), heads(&forged[9]), 1, None);
    forgery.key_id = signer().public_key().id();
    let mut lines = export(&forged, &[]);
    lines.push(forgery.export_line());
    assert_eq!(findings(&lines), [Finding::BadSignature { number: 1 }, unsigned(1, 10)]);
    // Against a note.
    let noted = sealed(10)[9].head();
    let mut verifier = verify(&[]).expect([noted]);
    export(&forged, &[]).iter().for_each(|line| verifier.line(line));
    assert_eq!(verifier.finish().findings, [Finding::Rebuilt(id(10))]);
}

#[test]
fn a_rebuilt_tail_behind_the_last_checkpoint_is_bounded() {
    let lines = export(&sealed(10), &[4]);
    let run = |most| {
        let mut verifier = verify(&[signer().public_key().clone()]).longest_unsigned(most);
        lines.iter().for_each(|line| verifier.line(line));
        verifier.finish().findings
    };
    assert_eq!(run(6), []);
    assert_eq!(run(5), [unsigned(5, 10)]);
}

#[test]
fn a_checkpoint_that_was_taken_away_is_missed() {
    let mut lines = export(&sealed(12), &[4, 8, 12]);
    lines.retain(|line| !line.contains("\"number\":2,"));
    assert_eq!(findings(&lines), [Finding::MissingCheckpoint { number: 2 }]);
}

#[test]
fn an_inserted_record_is_found() {
    let records = sealed(10);
    // With the number of one that is there.
    let mut lines = lines();
    lines.insert(8, forge(6, records[4].hash, &event(99)).export_line());
    assert_eq!(findings(&lines), [Finding::Again(id(6))]);
    // With a number of its own, and all behind it renumbered by hand.
    let mut forged = records.clone();
    forged.insert(5, forge(6, records[4].hash, &event(99)));
    for record in &mut forged[6..] {
        let seq = record.seq;
        let line = record.line.replace(&format!("\"seq\":{seq},"), &format!("\"seq\":{},", seq + 1));
        *record = Record::parse(&line).unwrap();
    }
    assert!(findings(&export(&forged, &[4])).contains(&Finding::Unlinked(id(7))));
}

#[test]
fn a_record_twice_is_counted_and_no_finding() {
    let mut lines = lines();
    let at = line_of(&lines, 6);
    lines.insert(at, lines[at].clone());
    let report = report(&lines);
    assert_eq!((report.findings, report.records, report.repeated), (vec![], 10, 1));
}

/// Sent again from farther back than hashes are remembered: the hash of the last one vouches for all before it.
#[test]
fn a_long_block_again_is_no_finding_and_a_forged_one_is() {
    let records = sealed(17_000);
    let mut lines = export(&records, &[100, 16_900]);
    let signed = lines.iter().position(|line| line.contains("\"number\":2,")).unwrap();
    let block = lines[..=signed].to_vec();
    let whole = lines.len();
    lines.extend_from_slice(&block);
    let again = report(&lines);
    assert_eq!((again.findings, again.records, again.repeated), (vec![], 17_000, 16_902));
    assert_eq!(again.open, report(&lines[..whole]).open, "an intent again opens nothing");

    // It ends before it reaches what is remembered: nothing vouches for it.
    let mut short = lines[..whole + 50].to_vec();
    assert_eq!(findings(&short), [Finding::Again(id(1))]);
    short.push(lines[whole - 1].clone());
    assert_eq!(findings(&short), [Finding::Again(id(1))]);

    // One in it was made anew, and all behind it.
    let forged = forge(50, records[48].hash, &event(77));
    let at = whole + line_of(&lines[whole..], 50);
    let genuine = std::mem::replace(&mut lines[at], forged.export_line());
    assert!(!report(&lines).is_sound());
    lines[at] = genuine.replace("alice", "mallory");
    assert!(!report(&lines).is_sound());
    let mut tail = forged;
    for line in &mut lines[at + 1..] {
        if line.contains("\"record\"") {
            tail = forge(tail.seq + 1, tail.hash, &event(tail.seq + 1));
            *line = tail.export_line();
        }
    }
    assert!(!report(&lines).is_sound());
}

/// A checkpoint that is sent again takes nothing from those that came after it.
#[test]
fn a_checkpoint_again_is_counted_and_hides_nothing() {
    let lines = export(&sealed(12), &[4, 8, 12]);
    let at = |number: u64| {
        let its = format!("\"number\":{number},");
        lines.iter().position(|line| line.contains(&its)).unwrap()
    };
    let mut again = lines.clone();
    again.insert(at(2) + 1, lines[at(1)].clone());
    let report = report(&again);
    assert_eq!((report.findings, report.checkpoints, report.repeated), (vec![], 3, 1));
    again.remove(at(2));
    assert_eq!(findings(&again), [Finding::MissingCheckpoint { number: 2 }]);
}

#[test]
fn another_trail_is_noticed() {
    let other = ChainId::from_random([4; 16]);
    let mut lines = lines();
    lines[0] = ExportHeader::new(other).line();
    assert_eq!(
        findings(&lines),
        [
            Finding::TwoChains { line: 6 },
            Finding::TwoChains { line: 13 },
            Finding::OtherGenesis(lane()),
            unsigned(1, 10)
        ]
    );
}

#[test]
fn a_part_is_verified_as_the_part_it_is_meant_to_be() {
    let records = sealed(10);
    let mut lines = vec![ExportHeader::new(chain()).line()];
    lines.push(signer().sign(chain(), heads(&records[3]), 1, None).export_line());
    lines.extend(records[4..].iter().map(Record::export_line));
    assert_eq!(findings(&lines), [missing(1, 4)]);
    let run = |lines: &[String]| {
        let mut verifier = verify(&[signer().public_key().clone()]).begins_at(id(5));
        lines.iter().for_each(|line| verifier.line(line));
        verifier.finish().findings
    };
    assert_eq!(run(&lines), []);
    // The checkpoint before it vouches for its beginning.
    let wrong: LaneHeads = [LaneHead { hash: [1; 32], ..records[3].head() }].into_iter().collect();
    lines[1] = signer().sign(chain(), wrong, 1, None).export_line();
    assert_eq!(run(&lines), [Finding::Rebuilt(id(4))]);
}

#[test]
fn a_filtered_export_says_that_it_proves_nothing() {
    let records = sealed(10);
    let mut lines = vec![ExportHeader { filtered: true, ..ExportHeader::new(chain()) }.line()];
    lines.extend(records.iter().step_by(2).map(Record::export_line));
    assert!(findings(&lines).contains(&Finding::Filtered));
    // A changed record is found all the same.
    lines[2] = lines[2].replace("alice", "mallory");
    assert!(findings(&lines).contains(&Finding::Changed(id(3))));
}

#[test]
fn unknown_versions_and_garbage_are_said() {
    let mut lines = lines();
    lines[2] = lines[2].replace("\"v\":2", "\"v\":3");
    assert!(findings(&lines).contains(&Finding::Version { line: 3, version: 3 }));
    lines[2] = "Killed".into();
    assert!(matches!(&findings(&lines)[0], Finding::Garbage { line: 3, .. }));
    assert_eq!(findings(&[]), [Finding::Empty]);
}

#[test]
fn a_file_of_something_else_fills_no_memory() {
    let mut verifier = verify(&[]);
    for _ in 0..5000 {
        verifier.line("{}");
    }
    let report = verifier.finish();
    assert_eq!((report.findings.len(), report.count), (1000, 5001));
}

proptest! {
    /// Every single character of an export, replaced by any other, is found.
    #[test]
    fn every_changed_character_is_found(line in 0_usize..13, at in any::<proptest::sample::Index>(), new in any::<char>()) {
        let mut lines = lines();
        let mut characters: Vec<char> = lines[line].chars().collect();
        let at = at.index(characters.len());
        prop_assume!(characters[at] != new);
        characters[at] = new;
        lines[line] = characters.into_iter().collect();
        prop_assert!(!report(&lines).is_sound(), "{}", lines[line]);
    }

    /// Blocks that are sent again, anywhere behind where they stand first, are no finding; with one character changed in
    /// such a block, or one line of it in another's place, they are.
    #[test]
    fn blocks_again_are_no_finding_unless_anything_in_them_differs(
        blocks in proptest::collection::vec((any::<proptest::sample::Index>(), 1_usize..8, 0_usize..6), 1..4),
        spoilt in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        new in any::<char>(),
    ) {
        let honest = export(&sealed(12), &[4, 8, 12]);
        let mut copies = Vec::new(); // where they go, and what
        for (from, count, later) in &blocks {
            let from = from.index(honest.len());
            let to = (from + count).min(honest.len());
            copies.push(((to + later).min(honest.len()), honest[from..to].to_vec()));
        }
        copies.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let mut lines: Vec<(String, bool)> = honest.iter().map(|line| (line.clone(), false)).collect();
        for (place, block) in copies {
            lines.splice(place..place, block.into_iter().map(|line| (line, true)));
        }
        let text = |lines: &[(String, bool)]| lines.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>();
        let whole = report(&text(&lines));
        prop_assert_eq!(&whole.findings, &[]);
        prop_assert_eq!((whole.records, whole.checkpoints), (12, 3));
        let headers = lines.iter().filter(|(line, copy)| *copy && line.contains("format")).count();
        prop_assert_eq!(whole.repeated as usize, lines.len() - honest.len() - headers);

        let copied: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].1).collect();
        let line = copied[spoilt.index(copied.len())];
        let mut characters: Vec<char> = lines[line].0.chars().collect();
        let at = at.index(characters.len());
        prop_assume!(characters[at] != new);
        characters[at] = new;
        lines[line].0 = characters.into_iter().collect();
        prop_assert!(!report(&text(&lines)).is_sound(), "{}", lines[line].0);
    }

    /// Any set of records taken away, whatever stays, is found, as long as a later state is known.
    #[test]
    fn every_removal_is_found(keep in proptest::collection::vec(any::<bool>(), 10)) {
        prop_assume!(keep.contains(&false));
        let mut index = 0;
        let mut left = lines();
        left.retain(|line| {
            if !line.contains("\"record\"") { return true; }
            index += 1;
            keep[index - 1]
        });
        prop_assert!(!report(&left).is_sound());
    }

    /// Any other order is found.
    #[test]
    fn every_other_order_is_found(order in Just((0_usize..10).collect::<Vec<_>>()).prop_shuffle()) {
        let sorted: Vec<usize> = (0..10).collect();
        prop_assume!(order != sorted);
        let records = sealed(10);
        let mut lines = vec![ExportHeader::new(chain()).line()];
        lines.extend(order.iter().map(|at| records[*at].export_line()));
        lines.push(signer().sign(chain(), heads(&records[9]), 1, None).export_line());
        prop_assert!(!report(&lines).is_sound());
    }

    /// A record from anywhere put in anywhere is found.
    #[test]
    fn every_insertion_is_found(at in 1_usize..13, seq in 1_u64..30, previous in 0_usize..10) {
        // Behind the end it is no insertion: only the next checkpoint could tell.
        prop_assume!((seq, previous) != (11, 9));
        let mut lines = lines();
        let record = forge(seq, sealed(10)[previous].hash, &event(77));
        lines.insert(at, record.export_line());
        prop_assert!(!report(&lines).is_sound());
    }
}
