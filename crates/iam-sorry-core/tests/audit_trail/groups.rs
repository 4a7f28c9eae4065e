//! Groups: written out once in a lane, and named by their digest from then on.

use iam_sorry_core::audit::{
    Event, Finding, LaneWriter, Person, Record, groups_digest, groups_line, to_ocsf,
};

use crate::support::{chain, chained, event, export, hex, lane, report};

/// Of a person in so many groups, named as a directory names them.
fn crowded(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("research-group-{n:03}-members")).collect()
}

fn of(groups: Vec<String>, seq: u64) -> Event {
    let event = event(seq);
    Event { person: Person { groups, ..event.person }, ..event }
}

#[test]
fn a_long_list_stands_there_once() {
    let groups = crowded(500);
    let records = chained((1..=10).map(|seq| of(groups.clone(), seq)));
    assert_eq!(records[0].event().unwrap().person.groups, groups);
    assert_eq!(records[0].groups_digest(), None, "the list is in it");
    for record in &records[1..] {
        assert_eq!(record.event().unwrap().person.groups, Vec::<String>::new());
        assert_eq!(record.groups_digest(), Some(groups_digest(&groups)));
    }
    assert_eq!(report(&export(&records, &[10])).findings, []);
    let ocsf = to_ocsf(&records[5], Some(&groups)).unwrap();
    assert_eq!(ocsf["actor"]["user"]["groups"].as_array().unwrap().len(), 500);
    // How much longer records are than those of somebody in one group: 21 times before, now a tenth.
    let size = |records: &[Record]| records.iter().map(|record| record.line.len()).sum::<usize>() as f64;
    let (few, many) =
        (chained((1..=1000).map(event)), chained((1..=1000).map(|seq| of(groups.clone(), seq))));
    let ratio = size(&many) / size(&few);
    assert!(ratio < 1.2, "{ratio}");
}

/// Short lists are written out each time: their digest would be longer.
#[test]
fn a_short_list_is_not_named() {
    let records = chained((1..=3).map(|seq| of(crowded(2), seq)));
    for record in &records {
        assert_eq!((record.event().unwrap().person.groups, record.groups_digest()), (crowded(2), None));
        assert!(!record.line.contains("groups_digest"));
    }
}

/// What was not kept can't be named.
#[test]
fn a_list_that_was_taken_back_is_written_out_again() {
    let mut writer = LaneWriter::new(chain(), lane());
    let event = of(crowded(9), 2);
    writer.seal(&of(vec![], 1), &Default::default());
    let before = writer.head();
    let first = writer.seal(&event, &Default::default());
    assert_eq!(writer.introduced(&event.person.groups), Some(groups_digest(&event.person.groups)));
    writer.back_to(before);
    assert_eq!(writer.seal(&event, &Default::default()), first);
    let second = writer.seal(&event, &Default::default());
    assert_eq!(second.groups_digest(), Some(groups_digest(&event.person.groups)));
    assert_eq!(writer.introduced(&event.person.groups), None);
}

#[test]
fn a_changed_list_is_found() {
    let records = chained((1..=3).map(|seq| of(crowded(9), seq)));
    let mut lines = export(&records, &[3]);
    // Hashed anew, all of it: only the digest tells.
    let line = records[0].line.replace("research-group-004-members", "research-group-999-members");
    lines[1] = Record::parse(&line).unwrap().export_line();
    assert!(report(&lines).findings.contains(&Finding::ChangedGroups { line: 2 }));
}

#[test]
fn a_digest_without_its_list_is_found() {
    let records = chained((1..=3).map(|seq| of(crowded(9), seq)));
    let digest = hex(&groups_digest(&crowded(9)));
    // The list itself taken out of the record that has it.
    let start = records[0].line.find("\"groups\":").unwrap();
    let end = records[0].line.find("\"groups_digest\"").unwrap();
    let line = [&records[0].line[..start], &records[0].line[end..]].concat();
    assert!(line.contains(&digest));
    let mut lines = export(&records, &[3]);
    lines[1] = Record::parse(&line).unwrap().export_line();
    let found = report(&lines).findings;
    assert!(found.contains(&Finding::UnknownGroups(lane().record(1))), "{found:?}");
    assert!(found.contains(&Finding::UnknownGroups(lane().record(3))), "{found:?}");
}

/// A list in another lane is of no use: a lane stands by itself.
#[test]
fn a_list_is_looked_for_in_its_own_lane() {
    let mut trail = crate::trail::Trail::new();
    let (one, two) = (trail.open(), trail.open());
    for lane in [one, two] {
        let first = trail.write_event(lane, &of(crowded(9), 5));
        assert_eq!(first.groups_digest(), None, "each lane has its own");
    }
    trail.write_event(two, &of(crowded(9), 6));
    assert_eq!(report(&trail.lines[..]).findings.len(), 2, "not signed");
    let named = trail.lines.pop().unwrap();
    trail.lines.pop();
    let text = named.split_once("\"record\":").unwrap().1.strip_suffix('}').unwrap();
    let previous = Record::parse_export_line(&trail.lines[2]).unwrap().hash_hex();
    let own = Record::parse(text).unwrap();
    let text = text.replace(&hex(&own.previous), &previous).replace("\"seq\":3", "\"seq\":2");
    trail.lines.push(Record::parse(&text).unwrap().export_line());
    assert!(report(&trail.lines).findings.contains(&Finding::UnknownGroups(two.record(2))));
}

/// In a part of a trail, lines of their own give the lists that its records name.
#[test]
fn a_part_gives_its_lists_in_lines() {
    let records = chained((1..=5).map(|seq| of(crowded(9), seq)));
    let lines = |list: Option<String>| {
        let mut lines = export(&records[2..], &[5]);
        lines.splice(1..1, list);
        lines
    };
    let run = |lines: &[String]| {
        let key = crate::support::signer().public_key().clone();
        let mut verifier = crate::support::verify(&[key]).begins_at(lane().record(3));
        lines.iter().for_each(|line| verifier.line(line));
        verifier.finish().findings
    };
    let line = groups_line(&crowded(9));
    assert_eq!(run(&lines(Some(line.clone()))), []);
    assert_eq!(run(&lines(None))[0], Finding::UnknownGroups(lane().record(3)));
    let changed = line.replace("004", "999");
    assert_eq!(run(&lines(Some(changed)))[0], Finding::ChangedGroups { line: 2 });
    let spaced = line.replace("\",\"", "\", \"");
    assert!(matches!(run(&lines(Some(spaced)))[0], Finding::Garbage { line: 2, .. }));
}
