//! Checks an export, line by line: needs nothing but the lines and the public key.
//!
//! Every finding names the record that it is about. Each lane is followed by itself ([`lane`]); what one says of another
//! (`heads`, `ends`), what a checkpoint signs ([`signed`]) and what is known from elsewhere is compared with the record
//! that it is about, whichever of the two stands first.

mod finding;
mod lane;
mod signed;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

pub use finding::{Break, Finding, Report};

use super::approval::Approval;
use super::canonical::from_hex;
use super::checkpoint::{Checkpoint, CheckpointKey};
use super::event::Phase;
use super::groups::parse_groups_line;
use super::header::{ExportHeader, InvalidHeader};
use super::lane::{ChainId, Hash, LaneHead, LaneId, RecordId};
use super::record::{Fields, InvalidRecord, Links, hash_of, is_list_of, split_export_line};
use super::signature::RequestSignature;
use finding::MOST_FINDINGS;
use lane::{Entry, Lane, Taken};
use signed::Signed;

/// How many records are remembered, over all lanes: so far behind its record a checkpoint may stand, or a record that names
/// it. Sinks and exports write them moments later.
const REMEMBERED: usize = 16_384;

/// Takes an export line by line. Of a sound one it keeps little more than its last 16,384 hashes, and a few words for
/// each lane.
#[derive(Debug, Default)]
pub struct Verifier {
    keys: Vec<CheckpointKey>,
    longest_unsigned: Option<u64>,
    /// The export is meant to be a part of the trail.
    part: bool,
    /// There was a header.
    begun: bool,
    report: Report,
    line: u64,
    lanes: BTreeMap<LaneId, Lane>,
    /// The lane of each record that is remembered, the oldest first.
    remembered: VecDeque<LaneId>,
    expected: Vec<LaneHead>,
    /// Lists of groups that stand in lines of their own.
    groups: HashSet<Hash>,
    signed: Signed,
    open: HashMap<String, RecordId>,
    /// Operations whose outcome came before their intent: instances' clocks differ.
    ended: HashSet<String>,
    approvals: Approvals,
    filtered: bool,
}

/// Decisions on requests for approval, and the records that name them.
#[derive(Debug, Default)]
struct Approvals {
    decisions: HashMap<RecordId, (Hash, String, String)>,
    named: Vec<(RecordId, Approval)>,
}

impl Verifier {
    /// With the public keys whose checkpoints count. Without any, checkpoints are passed over and nothing is proved against
    /// somebody who can write the database.
    pub fn new(keys: Vec<CheckpointKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// States that are known from elsewhere.
    #[must_use]
    pub fn expect(mut self, expected: impl IntoIterator<Item = LaneHead>) -> Self {
        for state in expected {
            let lane = self.lanes.entry(state.lane).or_insert_with(|| Lane::new(state.lane));
            lane.expect(state.seq, state.hash, &mut self.report);
            self.expected.push(state);
        }
        self
    }

    /// The record that a lane is meant to begin with, where it is not the first: what lies before is not missed. An export
    /// that begins so is a part of the trail, in which lanes may be named that ended before it.
    #[must_use]
    pub fn begins_at(mut self, record: RecordId) -> Self {
        if record.seq > 1 {
            self.lanes.entry(record.lane).or_insert_with(|| Lane::new(record.lane)).begins_at(record.seq);
            self.part = true;
        }
        self
    }

    /// The export is meant to be a part of the trail that begins where its header says.
    #[must_use]
    pub fn part(mut self) -> Self {
        self.part = true;
        self
    }

    /// How many records, of all lanes together, may follow the last checkpoint.
    #[must_use]
    pub fn longest_unsigned(mut self, records: u64) -> Self {
        self.longest_unsigned = Some(records);
        self
    }

    /// The next line, without its newline. Empty lines are no lines of an export either.
    pub fn line(&mut self, text: &str) {
        self.line += 1;
        if let Some((hash, record)) = split_export_line(text) {
            return self.record(hash, record);
        }
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            return self.checkpoint(&checkpoint);
        }
        let line = self.line;
        if let Some((digest, list)) = parse_groups_line(text) {
            if !is_list_of(&list, &digest) {
                return self.report.find(Finding::ChangedGroups { line });
            }
            self.groups.insert(digest);
            return;
        }
        match ExportHeader::read(text) {
            Ok(header) => self.header(&header),
            Err(InvalidHeader::Version(version)) => self.report.find(Finding::Version { line, version }),
            Err(InvalidHeader::Garbage) => {
                self.garbage("it is no record, no checkpoint, no list of groups and no header");
            }
        }
    }

    fn header(&mut self, header: &ExportHeader) {
        self.filtered |= header.filtered;
        self.on_chain(header.chain);
        let first = !std::mem::replace(&mut self.begun, true);
        for state in header.begins.iter() {
            let lane = self.lanes.entry(state.lane).or_insert_with(|| Lane::new(state.lane));
            if self.part && first {
                lane.goes_on_from(state.seq);
            }
            // What an earlier file ended with: the first record of the lane carries it, where none before is here.
            if state.seq > 0 && !self.filtered {
                self.expect_now(state, || format!("a header names record {}", state.record()));
            }
        }
    }

    /// The result.
    pub fn finish(mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        if report.records == 0 {
            report.find(Finding::Empty);
        }
        if self.filtered {
            report.find(Finding::Filtered);
        }
        for (id, lane) in &mut self.lanes {
            lane.finish(self.part, &mut report);
            let other =
                report.chain.is_some_and(|chain| lane.genesis().is_some_and(|it| it != chain.genesis(*id)));
            if other && !self.filtered {
                report.find(Finding::OtherGenesis(*id));
            }
        }
        self.approvals.finish(&self.lanes, self.part, &mut report);
        if !self.keys.is_empty() && !self.filtered {
            self.signed.finish(&self.lanes, self.longest_unsigned, &mut report);
        }
        let is_here = |lane: &&Lane| lane.head().is_some();
        report.lanes = self.lanes.values().filter(is_here).count() as u64;
        if !self.filtered {
            let live = self.lanes.values().filter(|lane| !lane.is_settled());
            report.heads = live.filter_map(Lane::head).collect();
        }
        let behind =
            |state: &LaneHead| self.lanes.get(&state.lane).is_some_and(|lane| lane.is_behind(state.seq));
        report.before = self.expected.into_iter().filter(behind).collect();
        let mut open: Vec<(RecordId, String)> =
            self.open.into_iter().map(|(id, record)| (record, id)).collect();
        open.sort_unstable();
        report.open = open;
        report
    }

    fn record(&mut self, stated: &str, text: &str) {
        match self.check_record(stated, text) {
            Ok(()) => {}
            Err(InvalidRecord::Version(version)) => {
                let line = self.line;
                self.report.find(Finding::Version { line, version });
            }
            Err(InvalidRecord::Garbage(why)) => self.garbage(&why),
        }
    }

    fn check_record(&mut self, stated: &str, text: &str) -> Result<(), InvalidRecord> {
        let garbage = |why: &str| InvalidRecord::Garbage(why.to_owned());
        let fields = Fields::parse(text)?;
        let (lane, previous, links) = (fields.lane()?, fields.previous()?, fields.links()?);
        let groups = fields.groups()?;
        let hash = from_hex(stated).ok_or_else(|| garbage("its hash is none"))?;
        let record = lane.record(fields.seq);
        if record.seq == 0 {
            return Err(garbage("records begin at 1"));
        }
        if links.names().any(|head| head.lane == lane) {
            return Err(garbage("it names its own lane"));
        }
        if hash_of(text) != hash {
            self.report.find(Finding::Changed(record));
        }
        if self.filtered {
            self.report.records += 1;
        } else {
            let entry = Entry { seq: record.seq, hash, previous, time_ms: fields.time_ms };
            if self.take(lane, entry) == Taken::Repeated {
                return Ok(());
            }
            self.follow(record, &links);
        }
        self.check_groups(record, groups);
        self.note_phase(record, &fields);
        self.check_signature(record, &fields);
        self.approvals.note(record, hash, &fields);
        if fields.action.as_deref() == Some(Break::ACTION) && self.report.breaks.len() < MOST_FINDINGS {
            self.report.breaks.extend(Break::read(record, text));
        }
        Ok(())
    }

    fn take(&mut self, id: LaneId, entry: Entry) -> Taken {
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(id));
        let before = lane.remembered();
        let taken = lane.take(entry, &mut self.report);
        if lane.remembered() > before {
            self.remembered.push_back(id);
        }
        if self.remembered.len() > REMEMBERED
            && let Some(oldest) = self.remembered.pop_front()
            && let Some(lane) = self.lanes.get_mut(&oldest)
        {
            lane.forget();
        }
        taken
    }

    /// What a record says of its own lane and of others.
    fn follow(&mut self, record: RecordId, links: &Links) {
        if record.seq == 1 && record.lane != LaneId::ZERO && links.heads.is_none() {
            self.report.find(Finding::OtherGenesis(record.lane));
        }
        for named in links.names() {
            let lane = self.lanes.entry(named.lane).or_insert_with(|| Lane::new(named.lane));
            lane.is_named_at(named.seq);
            self.expect_now(named, || format!("record {record} names record {}", named.record()));
            self.link(record, named);
        }
        for ended in links.ends.iter() {
            if let Some(lane) = self.lanes.get_mut(&ended.lane) {
                lane.end_at(ended.seq, &mut self.report);
            }
        }
        if links.closes
            && let Some(lane) = self.lanes.get_mut(&record.lane)
        {
            lane.end_at(record.seq, &mut self.report);
        }
    }

    /// A signature over `record` covers the state that it names as well.
    fn link(&mut self, record: RecordId, named: LaneHead) {
        let Some(lane) = self.lanes.get_mut(&record.lane) else { return };
        if lane.is_signed_to(record.seq) {
            signed::cover(&mut self.lanes, named.lane, named.seq);
        } else {
            lane.links.push((record.seq, named.lane, named.seq));
        }
    }

    /// Compares a record with what is known of it; `what` says by whom, where the record is too far back for that.
    fn expect_now(&mut self, state: LaneHead, what: impl FnOnce() -> String) {
        let lane = self.lanes.entry(state.lane).or_insert_with(|| Lane::new(state.lane));
        if !lane.expect(state.seq, state.hash, &mut self.report) {
            let why = format!("{}, which stands more than {REMEMBERED} records before it", what());
            self.garbage(&why);
        }
    }

    fn check_groups(&mut self, record: RecordId, (list, digest): (Option<&[String]>, Option<Hash>)) {
        let Some(digest) = digest else { return };
        let lane = self.lanes.get_mut(&record.lane);
        match (list, lane) {
            (Some(list), _) if !is_list_of(list, &digest) => {
                let line = self.line;
                self.report.find(Finding::ChangedGroups { line });
            }
            (Some(_), Some(lane)) if !self.filtered => lane.introduce(digest),
            (Some(_), _) => {
                self.groups.insert(digest);
            }
            (None, lane) => {
                if !self.groups.contains(&digest) && !lane.is_some_and(|lane| lane.has_groups(&digest)) {
                    self.report.find(Finding::UnknownGroups(record));
                }
            }
        }
    }

    fn check_signature(&mut self, record: RecordId, fields: &Fields<'_>) {
        match fields.signature.as_ref().map(RequestSignature::verify) {
            None => {}
            Some(Ok(_)) => self.report.signatures += 1,
            Some(Err(why)) => self.report.find(Finding::ForgedSignature { record, why }),
        }
    }

    fn note_phase(&mut self, record: RecordId, fields: &Fields<'_>) {
        let Some(operation) = fields.operation.as_deref() else { return };
        if fields.phase == Phase::Intent && !self.ended.remove(operation) {
            self.open.insert(operation.to_owned(), record);
        }
        // The first lane is one chain, in which an intent never comes late.
        let may_come_late = record.lane != LaneId::ZERO && !self.filtered;
        if fields.phase == Phase::Outcome && self.open.remove(operation).is_none() && may_come_late {
            self.ended.insert(operation.to_owned());
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let number = checkpoint.number;
        if self.keys.is_empty() {
            return; // says nothing, in either direction
        }
        let Some(key) = self.keys.iter().find(|key| key.id() == checkpoint.key_id) else {
            let key_id = checkpoint.key_id.clone();
            return self.report.find(Finding::UnknownKey { number, key_id });
        };
        if !checkpoint.verify(key) {
            return self.report.find(Finding::BadSignature { number });
        }
        self.on_chain(checkpoint.chain);
        if self.report.chain != Some(checkpoint.chain) {
            return;
        }
        if self.signed.has(checkpoint) {
            self.report.repeated += 1;
            return;
        }
        if self.filtered {
            return;
        }
        for head in checkpoint.heads.iter() {
            self.expect_now(head, || format!("checkpoint {number} covers record {}", head.record()));
        }
        self.signed.take(checkpoint, &mut self.lanes, &mut self.report);
    }

    /// Files of one trail may be put together, each with its header.
    fn on_chain(&mut self, chain: ChainId) {
        if *self.report.chain.get_or_insert(chain) != chain {
            let line = self.line;
            self.report.find(Finding::TwoChains { line });
        }
    }

    fn garbage(&mut self, why: &str) {
        let line = self.line;
        self.report.find(Finding::Garbage { line, why: why.to_owned() });
    }
}

impl Approvals {
    fn note(&mut self, record: RecordId, hash: Hash, fields: &Fields<'_>) {
        let Some(approval) = &fields.approval else { return };
        if approval.approvers.is_empty() {
            let person = fields.person_id().unwrap_or_default().to_owned();
            self.decisions.insert(record, (hash, approval.request.clone(), person));
        } else {
            self.named.push((record, approval.clone()));
        }
    }

    /// Each decision that is named must be there, on that request and by that person.
    fn finish(&self, lanes: &BTreeMap<LaneId, Lane>, part: bool, report: &mut Report) {
        for (record, approval) in &self.named {
            for approver in &approval.approvers {
                let named = LaneHead::parse(&approver.record);
                let decision = named.and_then(|named| Some((named, self.decisions.get(&named.record())?)));
                let fits = decision.is_some_and(|(named, (hash, request, person))| {
                    named.hash == *hash && *request == approval.request && *person == approver.person
                });
                // In a part of the trail it may lie before what is here.
                let lane = named.and_then(|named| lanes.get(&named.lane));
                let before =
                    part && named.is_some_and(|named| lane.is_none_or(|lane| lane.is_behind(named.seq)));
                if !fits && !before {
                    let decision = approver.record.clone();
                    report.find(Finding::NoApproval { record: *record, decision });
                }
            }
        }
    }
}
