//! Lanes: what several instances write is sound in whatever order their lines come, and nothing of it can be taken away,
//! added or exchanged.

use iam_sorry_core::audit::{ExportHeader, Finding, LaneHead, LaneHeads, LaneId, RecordId};
use proptest::prelude::*;

use crate::support::{chain, event, report, signer, verify};
use crate::trail::{Trail, line_of};

fn findings(trail: &Trail) -> Vec<Finding> {
    report(&trail.lines).findings
}

/// Two instances; one stops, one dies, and the next one goes on.
#[test]
fn starts_stops_and_takeovers_are_sound() {
    let mut trail = Trail::new();
    let one = trail.open();
    trail.write(one);
    trail.sign();
    let two = trail.open();
    trail.write(two);
    trail.write(one);
    trail.sign();
    trail.close(one);
    trail.sign(); // names a lane that is closed and that nobody names yet
    let three = trail.open();
    trail.write(three);
    trail.sign();
    trail.end(three, two);
    trail.sign();
    let result = report(&trail.lines);
    assert_eq!(result.findings, []);
    assert_eq!((result.records, result.lanes, result.unsigned), (9, 3, 0));
    assert_eq!((result.checkpoints, result.last_checkpoint), (5, Some(5)));
    let live: Vec<LaneId> = result.heads.iter().map(|head| head.lane).collect();
    assert_eq!(live, [three], "the others have ended, and are named");
}

#[test]
fn what_version_1_wrote_goes_on_in_lanes() {
    let mut trail = Trail::of_version_1(7);
    assert_eq!(report(&trail.lines).heads.to_string(), trail.heads().to_string());
    let one = trail.open();
    trail.write(one);
    trail.sign();
    let result = report(&trail.lines);
    assert_eq!(result.findings, []);
    assert_eq!((result.records, result.lanes, result.unsigned), (9, 2, 0));
    assert_eq!(result.open, [], "an operation of version 1 has its outcome in a lane");
    // The first record of the first lane says where it ends.
    trail.late(LaneId::ZERO);
    let late = |lane: LaneId| Finding::AfterEnd(lane.record(8));
    let mut forged = trail.lines.clone();
    let last = forged.len() - 1;
    forged[last] = crate::support::seal_v1(8, trail.heads().get(one).unwrap().hash, &event(9)).export_line();
    assert!(report(&forged).findings.contains(&late(LaneId::ZERO)));
}

#[test]
fn a_lane_that_was_taken_away_is_missed() {
    let mut trail = Trail::new();
    let one = trail.open();
    trail.write(one);
    let two = trail.open();
    let without = |trail: &Trail, lane: LaneId| -> Vec<String> {
        let named = format!("\"lane\":\"{lane}\"");
        trail.lines.iter().filter(|line| !line.contains(&named)).cloned().collect()
    };
    // The other lane's first record names it.
    let dropped = |lane: LaneId, seq| Finding::DroppedLane { known: lane.record(seq) };
    assert!(report(&without(&trail, one)).findings.contains(&dropped(one, 2)));
    // Nothing names the second one yet but a checkpoint, and a note.
    let noted = trail.heads();
    assert!(!report(&without(&trail, two)).findings.contains(&dropped(two, 1)));
    trail.sign();
    assert_eq!(report(&without(&trail, two)).findings, [dropped(two, 1)]);
    let mut verifier = verify(&[]).expect(noted.iter());
    without(&trail, two).iter().for_each(|line| verifier.line(line));
    assert_eq!(verifier.finish().findings, [dropped(two, 1)]);
}

#[test]
fn a_closing_record_that_was_taken_away_is_missed() {
    let mut trail = Trail::new();
    let one = trail.open();
    let closing = trail.close(one);
    let two = trail.open();
    trail.write(two);
    trail.sign();
    assert_eq!(findings(&trail), []);
    let at = line_of(&trail.lines, &closing);
    trail.lines.remove(at);
    assert_eq!(findings(&trail), [Finding::CutTail { last: one.record(1), known: 2 }]);
}

#[test]
fn nothing_follows_the_end_of_a_lane() {
    for dies in [false, true] {
        for signs in [false, true] {
            let mut trail = Trail::new();
            let (one, two) = (trail.open(), trail.open());
            trail.write(two);
            match dies {
                true => trail.end(one, two),
                false => trail.close(two),
            };
            let late = trail.late(two);
            if signs {
                trail.sign();
            }
            let after = Finding::AfterEnd(late.id());
            assert!(findings(&trail).contains(&after), "dies {dies}, signs {signs}: {:?}", findings(&trail));
            // Also where it stands before the record that says so.
            let line = trail.lines.remove(line_of(&trail.lines, &late));
            let end =
                trail.lines.iter().position(|line| line.contains("\"closes\"") || line.contains("\"ends\""));
            trail.lines.insert(end.unwrap(), line);
            assert!(!findings(&trail).is_empty());
            if dies {
                assert!(findings(&trail).contains(&after), "{:?}", findings(&trail));
            }
        }
    }
}

/// Two records that disagree on where a dead lane ended.
#[test]
fn a_lane_ends_once() {
    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    trail.end(one, two);
    trail.late(two);
    trail.end(one, two);
    assert!(findings(&trail).contains(&Finding::AfterEnd(two.record(2))));
}

#[test]
fn swapped_states_are_found() {
    // In a record: signed and hashed by nobody else, but the lanes are other ones.
    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    trail.write(two);
    let heads = trail.heads();
    let [a, b] = [heads.get(one).unwrap(), heads.get(two).unwrap()];
    let swapped: LaneHeads =
        [LaneHead { hash: b.hash, ..a }, LaneHead { hash: a.hash, ..b }].into_iter().collect();
    trail.sign_heads(swapped);
    assert_eq!(findings(&trail), [a, b].map(|head| Finding::Rebuilt(head.record())).as_slice());

    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    let named = trail.heads();
    let third = trail.open();
    let line = trail.lines.pop().unwrap();
    let [a, b] = [one, two].map(|lane| named.get(lane).unwrap().to_string()[17..].to_owned());
    let text = line.split_once("\"record\":").unwrap().1.strip_suffix('}').unwrap();
    let text = text.replace(&a, "?").replace(&b, &a).replace('?', &b);
    trail.lines.push(iam_sorry_core::audit::Record::parse(&text).unwrap().export_line());
    let found = findings(&trail);
    for lane in [one, two] {
        assert!(found.contains(&Finding::Rebuilt(lane.record(1))), "{found:?}");
    }
    assert_eq!(report(&trail.lines).heads.get(third).unwrap().seq, 1);
}

#[test]
fn a_checkpoint_that_leaves_out_a_lane_is_found() {
    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    trail.sign();
    trail.write(one);
    let mut heads = trail.heads();
    heads.remove(two);
    trail.sign_heads(heads);
    assert_eq!(findings(&trail), [Finding::OmittedLane { number: 2, lane: two }]);
    // Or takes back what the one before covered.
    let mut trail = Trail::new();
    let one = trail.open();
    let before = trail.heads();
    trail.write(one);
    trail.sign();
    trail.sign_heads(before);
    assert_eq!(findings(&trail)[0], Finding::OmittedLane { number: 2, lane: one });
}

/// Whoever can write the database keeps a lane from being signed, from its first record on.
#[test]
fn a_lane_that_is_never_signed_is_found() {
    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    trail.write(two);
    let mut heads = trail.heads();
    heads.remove(two);
    let late = event(9).time_ms + 3_600_001;
    let checkpoint = signer().sign(chain(), heads.clone(), late, None);
    trail.lines.push(checkpoint.export_line());
    assert_eq!(findings(&trail), [Finding::LeftOut(two.record(1))]);
    // A moment after the record it is only not signed yet.
    trail.lines.pop();
    trail.lines.push(signer().sign(chain(), heads, event(9).time_ms, None).export_line());
    let result = report(&trail.lines);
    assert_eq!((result.findings, result.unsigned), (vec![], 2));
    assert_eq!(result.heads.get(one).unwrap().seq, 1);
}

/// A database that was restored, with the service going on to sign: two histories have the same number.
#[test]
fn two_histories_of_checkpoints_are_found() {
    let mut trail = Trail::new();
    let one = trail.open();
    trail.sign();
    trail.write(one);
    let second = trail.sign();
    trail.write(one);
    let heads = trail.heads();
    let other = signer().sign(chain(), heads.clone(), 2, None);
    trail.lines.push(other.export_line());
    assert_eq!(findings(&trail)[0], Finding::ForkedCheckpoint { number: 1 });
    trail.lines.pop();
    trail.lines.push(signer().sign(chain(), heads, 2, Some(&other)).export_line());
    assert_eq!(findings(&trail)[0], Finding::ForkedCheckpoint { number: second.number });
}

#[test]
fn the_first_record_of_a_lane_names_the_others() {
    let mut trail = Trail::new();
    let one = trail.open();
    let mut writer = iam_sorry_core::audit::LaneWriter::new(chain(), LaneId::from_bytes([9; 8]));
    trail.lines.push(writer.seal(&event(2), &Default::default()).export_line());
    assert!(findings(&trail).contains(&Finding::OtherGenesis(LaneId::from_bytes([9; 8]))));
    // And none names itself.
    let own = LaneHead { lane: one, seq: 1, hash: [1; 32] };
    let mut writer = iam_sorry_core::audit::LaneWriter::new(chain(), one);
    let links =
        iam_sorry_core::audit::Links { heads: Some([own].into_iter().collect()), ..Default::default() };
    let line = writer.seal(&event(1), &links).export_line();
    assert!(matches!(&report(&[&trail.lines[0], &line]).findings[0], Finding::Garbage { line: 2, .. }));
}

/// A part begins in the middle of some lanes, and knows nothing of those that ended before.
#[test]
fn a_part_is_verified_as_the_part_it_is_meant_to_be() {
    let mut trail = Trail::new();
    let old = trail.open();
    trail.close(old);
    let (one, two) = (trail.open(), trail.open());
    trail.write(one);
    trail.sign();
    let cut = trail.lines.len();
    trail.write(one);
    trail.write(two);
    trail.open();
    trail.sign();
    let part = [&trail.lines[..1], &trail.lines[cut..]].concat();
    let run = |begin: &[RecordId]| {
        let key = signer().public_key().clone();
        let verifier = begin.iter().fold(verify(&[key]), |verifier, at| verifier.begins_at(*at));
        let mut verifier = verifier;
        part.iter().for_each(|line| verifier.line(line));
        verifier.finish()
    };
    let whole = run(&[one.record(3), two.record(2)]);
    assert_eq!(whole.findings, []);
    assert_eq!((whole.records, whole.unsigned), (3, 0));
    assert!(run(&[]).findings.contains(&Finding::Missing { lane: one, from: 1, to: 2 }));
    assert!(run(&[old.record(2)]).findings.contains(&Finding::DroppedLane { known: old.record(2) }));
}

/// Files of a sink that was rotated: each says where it goes on from, so one in between that is gone shows at once.
#[test]
fn a_header_says_where_a_file_goes_on_from() {
    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    trail.write(one);
    trail.sign();
    let mut cuts = vec![(trail.lines.len(), trail.heads())];
    trail.write(two);
    trail.close(one);
    trail.sign();
    cuts.push((trail.lines.len(), trail.heads()));
    let three = trail.open();
    trail.write(three);
    trail.sign();
    let header =
        |begins: &LaneHeads| ExportHeader { begins: begins.clone(), ..ExportHeader::new(chain()) }.line();
    let [first, second] = [0, 1].map(|n| (cuts[n].0, header(&cuts[n].1)));
    let files = [
        trail.lines[..first.0].to_vec(),
        [&[first.1][..], &trail.lines[first.0..second.0]].concat(),
        [&[second.1][..], &trail.lines[second.0..]].concat(),
    ];
    assert_eq!(report(&files.concat()).findings, []);
    let gap = report(&[&files[0][..], &files[2]].concat()).findings;
    assert!(gap.contains(&Finding::CutTail { last: two.record(1), known: 2 }), "{gap:?}");
    // Each alone is a part.
    for file in &files {
        let mut verifier = verify(&[signer().public_key().clone()]).part();
        file.iter().for_each(|line| verifier.line(line));
        let result = verifier.finish();
        assert_eq!((result.findings, result.unsigned), (vec![], 0));
    }
    assert!(!report(&files[1]).is_sound(), "and nothing else");
    // One whose header was changed does not fit its records.
    let state = |lane: LaneId, seq| LaneHead { lane, seq, hash: [1; 32] };
    for (begins, finding) in [
        (state(two, 1), Finding::Rebuilt(two.record(1))),
        (state(two, 3), Finding::CutTail { last: two.record(2), known: 3 }),
        (
            state(LaneId::from_bytes([7; 8]), 4),
            Finding::DroppedLane { known: LaneId::from_bytes([7; 8]).record(4) },
        ),
    ] {
        let mut whole = files.concat();
        whole[first.0] = header(&[begins].into_iter().collect());
        assert!(report(&whole).findings.contains(&finding), "{:?}", report(&whole).findings);
    }
    let zero: LaneHeads =
        [LaneHead { lane: three, seq: 0, hash: chain().genesis(three) }].into_iter().collect();
    let line = header(&zero);
    assert_eq!(
        ExportHeader::parse(&line).unwrap().begins,
        zero,
        "a lane may be named before its first record"
    );
}

/// What a schedule of instances does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Write(usize),
    Close(usize),
    End(usize, usize),
    Sign,
}

fn any_schedule() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..8_usize;
    let step = prop_oneof![
        2 => Just(Step::Open),
        8 => which.clone().prop_map(Step::Write),
        1 => which.clone().prop_map(Step::Close),
        1 => (which.clone(), which).prop_map(|(by, dead)| Step::End(by, dead)),
        2 => Just(Step::Sign),
    ];
    proptest::collection::vec(step, 1..60)
}

fn run(mut trail: Trail, schedule: &[Step]) -> Trail {
    trail.open();
    for step in schedule {
        let open = trail.open_lanes();
        let lane = |n: usize| open.get(n % open.len().max(1)).copied();
        match *step {
            Step::Open => drop(trail.open()),
            Step::Write(n) => drop(lane(n).map(|lane| trail.write(lane))),
            Step::Close(n) => drop(lane(n).map(|lane| trail.close(lane))),
            Step::End(by, dead) => {
                let (by, dead) = (lane(by), lane(dead));
                if let Some((by, dead)) = by.zip(dead).filter(|(by, dead)| by != dead) {
                    trail.end(by, dead);
                }
            }
            Step::Sign => drop(trail.sign()),
        }
    }
    trail
}

/// Another order of the same lines that keeps each lane's, and puts each checkpoint behind what it covers: lane after lane, as
/// far as that goes.
fn lane_after_lane(trail: &Trail) -> Vec<String> {
    let mut out = vec![trail.lines[0].clone()];
    let mut part: Vec<(String, String)> = Vec::new();
    for line in &trail.lines[1..] {
        let lane = line.split_once("\"lane\":\"").map(|(_, rest)| rest[..16].to_owned());
        match lane.filter(|_| line.contains("\"record\":")) {
            Some(lane) => part.push((lane, line.clone())),
            None => {
                part.sort_by(|(one, _), (other, _)| one.cmp(other));
                out.extend(part.drain(..).map(|(_, line)| line));
                out.push(line.clone());
            }
        }
    }
    part.sort_by(|(one, _), (other, _)| one.cmp(other));
    out.extend(part.into_iter().map(|(_, line)| line));
    out
}

proptest! {
    /// Whatever instances do, in whatever order their lines come: sound, and all of it signed once somebody signs.
    #[test]
    fn every_schedule_is_sound(schedule in any_schedule(), old in 0..4_u64) {
        let mut trail = run(if old > 0 { Trail::of_version_1(old) } else { Trail::new() }, &schedule);
        trail.sign();
        let result = report(&trail.lines);
        prop_assert_eq!(&result.findings, &[]);
        prop_assert_eq!(result.unsigned, 0);
        prop_assert_eq!(result.heads, trail.heads());
        let sorted = lane_after_lane(&trail);
        let sorted = report(&sorted);
        prop_assert_eq!(&sorted.findings, &[]);
        prop_assert_eq!((sorted.records, sorted.lanes, sorted.unsigned), (result.records, result.lanes, 0));
    }

    /// Any line of a signed trail taken away is missed, whatever instance wrote it; so is one that is exchanged with its
    /// neighbour of the same lane.
    #[test]
    fn every_line_is_missed(schedule in any_schedule(), at in any::<proptest::sample::Index>()) {
        let mut trail = run(Trail::new(), &schedule);
        trail.sign();
        let at = 1 + at.index(trail.lines.len() - 1);
        let last = at + 1 == trail.lines.len(); // the last signature: nothing could tell
        let taken = trail.lines.remove(at);
        let result = report(&trail.lines);
        let told = !result.is_sound() || result.unsigned > 0;
        // A checkpoint between two others is told by the later one, the first is not.
        let first_checkpoint = taken.contains("\"number\":1,");
        prop_assert!(told || last || first_checkpoint, "{taken}");
    }

    /// Any single character changed is found.
    #[test]
    fn every_changed_character_is_found(
        schedule in any_schedule(),
        line in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        new in any::<char>(),
    ) {
        let mut trail = run(Trail::new(), &schedule);
        trail.sign();
        let line = line.index(trail.lines.len());
        let mut characters: Vec<char> = trail.lines[line].chars().collect();
        let at = at.index(characters.len());
        prop_assume!(characters[at] != new);
        characters[at] = new;
        trail.lines[line] = characters.into_iter().collect();
        prop_assert!(!report(&trail.lines).is_sound(), "{}", trail.lines[line]);
    }
}
