//! What must hold once everything is settled.

use std::collections::{BTreeMap, BTreeSet};

use iam_sorry_core::audit::{Event, ExportHeader, Phase, Verifier};
use iam_sorry_store::Store;

use crate::machine::Machine;
use crate::people::Heard;
use crate::trail::whole_trail;
use crate::world::{State, World};

/// A row of `operations`.
struct Row {
    id: String,
    person: String,
    key: String,
    action: String,
    state: u8,
    resource: String,
}

/// `OperationState::Done`.
const DONE: u8 = 1;

impl World {
    /// What does not hold between the store and AWS, or only does not yet: invariant 2.
    pub fn differences(&self) -> Vec<String> {
        let operations = self.operations();
        let mut wrong = self.users_are_as_the_store_says();
        wrong.extend(self.keys_are_as_the_store_says(&operations));
        wrong.extend(self.policies_are_as_the_store_says(&operations));
        wrong
    }

    /// Looks at everything that is left when nothing moves any more.
    pub async fn check_ending(&self, beside: &Store) {
        self.one_key_one_effect(&self.operations());
        self.trail_is_whole(beside).await;
    }

    fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match self.database().rows(sql, &[]) {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    fn operations(&self) -> Vec<Row> {
        // In the order in which they were begun, whatever the clocks of the machines said: two on one user never overlap.
        let sql =
            "SELECT id, person, idempotency_key, action, state, resource FROM operations ORDER BY rowid";
        let rows = self.rows(sql).into_iter().map(|row| {
            let [id, person, key, action, state, resource] =
                <[String; 6]>::try_from(row).expect("six columns");
            Row { id, person, key, action, state: state.parse().unwrap_or_default(), resource }
        });
        rows.collect()
    }

    /// Invariant 2, of users.
    fn users_are_as_the_store_says(&self) -> Vec<String> {
        let rows: BTreeMap<String, String> = self
            .rows("SELECT folded, arn FROM users")
            .into_iter()
            .map(|row| (row[0].clone(), row[1].clone()))
            .collect();
        let state = self.state();
        let mut wrong = Vec::new();
        let managed: BTreeSet<String> = state
            .aws
            .users()
            .iter()
            .filter(|(_, user)| user.tags.contains_key("managed-by"))
            .map(|(folded, _)| folded.clone())
            .collect();
        for folded in rows.keys().filter(|folded| !managed.contains(*folded)) {
            if !state.model.by_hand.contains(folded) {
                wrong.push(format!("the store has the user {folded}, and AWS does not"));
            }
        }
        for folded in managed.iter().filter(|folded| !rows.contains_key(*folded)) {
            // One that was being adopted and was given up keeps its tag.
            let adopted = state
                .model
                .operations
                .values()
                .any(|op| op.action == "adopt-user" && op.resource == **folded);
            if !state.model.by_hand.contains(folded) && !adopted {
                wrong.push(format!("AWS has the user {folded}, and the store does not"));
            }
        }
        wrong
    }

    /// Invariant 2, of keys.
    fn keys_are_as_the_store_says(&self, operations: &[Row]) -> Vec<String> {
        let granted: BTreeMap<String, String> = self
            .rows("SELECT access_key_id, operation FROM grants WHERE kind = 'access-key' AND deleted = 0")
            .into_iter()
            .map(|row| (row[0].clone(), row[1].clone()))
            .collect();
        let unaccounted: BTreeSet<String> = self
            .rows("SELECT access_key_id FROM unaccounted_keys")
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        let state = self.state();
        let mut wrong = Vec::new();
        for (folded, user) in state.aws.users() {
            for key in &user.keys {
                let id = &key.id;
                let Some(story) = state.model.keys.get(id) else { continue };
                let Some(made_by) = &story.made_by else { continue };
                if story.held {
                    if !granted.contains_key(id) && !state.model.by_hand.contains(folded) {
                        wrong.push(format!(
                            "somebody holds the secret of {id}, and the store does not know of it"
                        ));
                    }
                    continue;
                }
                if unaccounted.contains(id) {
                    continue;
                }
                let done = operations.iter().any(|row| row.id == *made_by && row.state == DONE);
                if !granted.contains_key(id) {
                    wrong.push(format!(
                        "AWS has {id} of {folded}, which {made_by} made, and the store does not know of it"
                    ));
                } else if !done {
                    wrong.push(format!("{id} of {folded} is granted by {made_by}, which is not done"));
                } else if !self.may_be_lost(&state, operations, made_by) {
                    wrong.push(format!(
                        "{id} of {folded} is granted by {made_by}, and its secret reached nobody"
                    ));
                }
            }
        }
        for id in granted.keys() {
            let there = state.aws.key(id).is_some();
            let by_hand = state.model.keys.get(id).is_none_or(|story| {
                state.model.by_hand.contains(&story.user)
                    || story.ended.as_ref().is_some_and(|(by, _)| by.contains("by hand"))
            });
            if !there && !by_hand {
                wrong.push(format!("the store says that {id} is there, and AWS does not have it"));
            }
        }
        wrong
    }

    /// Whether the answer with the secret may have been sent, and lost on the way or with its instance.
    fn may_be_lost(&self, state: &State, operations: &[Row], operation: &str) -> bool {
        let requests = &state.model.requests;
        let Some(row) = operations.iter().find(|row| row.id == operation) else { return false };
        requests.iter().any(|request| {
            let mine = row.person == format!("corp/uuid-p{}", request.person);
            let same = match &request.key {
                Some(key) => base(&row.key) == key,
                None => row.key.starts_with('~'),
            };
            // An instance that could not say more than that it does not know, and died before it knew more.
            let died = |machine: &Machine| !machine.is_up_in(state);
            mine && same
                && request.heard.iter().any(|(machine, heard)| match heard {
                    Heard::Nothing(_) => true,
                    Heard::Error(error) => error.detail.contains("settl") && died(machine),
                    _ => false,
                })
        })
    }

    /// Invariant 2, of policies.
    fn policies_are_as_the_store_says(&self, operations: &[Row]) -> Vec<String> {
        // What a deletion took away before it failed stays away, so nothing is known after one.
        let counts = |row: &&Row| row.state == DONE || row.action == "delete-user";
        let done = operations.iter().filter(counts);
        let state = self.state();
        let mut expected: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
        for row in done {
            let Some(operation) = state.model.operations.get(&row.id) else { continue };
            let arn = operation.plan["arn"].as_str().unwrap_or_default().to_owned();
            let user = expected.entry(row.resource.clone()).or_default();
            match row.action.as_str() {
                "create-user" => {
                    let policies = operation.plan["policies"].as_array().into_iter().flatten();
                    *user = Some(policies.filter_map(|arn| arn.as_str().map(str::to_owned)).collect());
                }
                "attach-policy" => user.iter_mut().for_each(|all| all.extend([arn.clone()])),
                "detach-policy" => user.iter_mut().for_each(|all| all.retain(|found| *found != arn)),
                // Nobody knows what an adopted user brought along.
                "adopt-user" | "delete-user" => *user = None,
                _ => {}
            }
        }
        let mut wrong = Vec::new();
        for (folded, policies) in expected {
            let (Some(user), Some(policies)) = (state.aws.user(&folded), policies) else { continue };
            let model = &state.model;
            if model.by_hand.contains(&folded) || model.policies_by_hand.contains(&folded) {
                continue;
            }
            let attached: BTreeSet<String> = user.attached.iter().cloned().collect();
            if attached != policies {
                wrong.push(format!("{folded} has the policies {attached:?}, and should have {policies:?}"));
            }
        }
        wrong
    }

    /// Invariant 4.
    fn one_key_one_effect(&self, operations: &[Row]) {
        let mut state = self.state();
        let mut wrong = Vec::new();
        for request in state.model.requests.iter().filter(|request| !request.heard.is_empty()) {
            let Some(key) = &request.key else { continue };
            let person = format!("corp/uuid-p{}", request.person);
            let done: Vec<_> = operations
                .iter()
                .filter(|row| row.state == DONE && row.person == person && base(&row.key) == key)
                .collect();
            if done.len() > 1 {
                let ids: Vec<_> = done.iter().map(|row| row.id.as_str()).collect();
                wrong.push(format!("{} under {key} was done more than once: {ids:?}", request.wish));
            }
            let refused = request.heard.iter().all(|(_, heard)| heard.says_not_done());
            if let (true, Some(row)) = (refused, done.first()) {
                wrong.push(format!(
                    "p{} heard that {} was not done, and {} did it",
                    request.person, request.wish, row.id
                ));
            }
            if request.dry && operations.iter().any(|row| row.person == person && base(&row.key) == key) {
                wrong.push(format!("the dry run of {} wrote an operation", request.wish));
            }
        }
        for text in wrong {
            self.violated(&mut state, 4, text);
        }
    }

    /// Invariant 3: the chain verifies, and every intent has one outcome.
    async fn trail_is_whole(&self, beside: &Store) {
        let records = whole_trail(beside).await;
        let mut wrong = Vec::new();
        let mut verifier = Verifier::new(Vec::new());
        verifier.line(&ExportHeader::new(beside.chain_id()).line());
        let (mut intents, mut outcomes) = (BTreeSet::new(), BTreeSet::new());
        for record in &records {
            verifier.line(&record.export_line());
            let event: Event = record.event().expect("an event");
            let Some(operation) = event.operation else { continue };
            // Lanes are read one after the other, so an outcome may come before its intent.
            let new = match event.phase {
                Phase::Intent => intents.insert(operation.clone()),
                Phase::Outcome => outcomes.insert(operation.clone()),
                Phase::Event => true,
            };
            if !new {
                wrong.push(format!("record {}: a second {:?} of {operation}", record.id(), event.phase));
            }
        }
        let report = verifier.finish();
        // Of a service that never came to start.
        if !records.is_empty() && !report.is_sound() {
            wrong.push(format!("the chain does not verify: {:?}", report.findings));
        }
        if intents != outcomes {
            wrong.push("some intent has no outcome, or some outcome no intent".to_owned());
        }
        let mut state = self.state();
        for text in wrong {
            self.violated(&mut state, 3, text);
        }
    }
}

/// The key that a person gave; an attempt after one that came to nothing adds to it.
fn base(key: &str) -> &str {
    match key.split_once('~') {
        Some((base, _)) if !base.is_empty() => base,
        _ => key,
    }
}
