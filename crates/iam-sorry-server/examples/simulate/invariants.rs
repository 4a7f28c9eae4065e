//! What must hold in every schedule, checked while it runs where that can be told, and the rest at its end (`ending`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use testkit::MemoryUser;
use tokio::time::Instant;

use crate::cloud::Call;
use crate::happened;
use crate::instance::RulesAre;
use crate::machine::Machine;
use crate::people::{Heard, Wish};
use crate::world::{State, World};

/// What is known of the service's work without asking it.
#[derive(Default)]
pub struct Model {
    pub requests: Vec<Request>,
    pub operations: BTreeMap<String, Operation>,
    pub keys: BTreeMap<String, KeyStory>,
    /// Users whom somebody changed by hand, folded: nothing more is known of them.
    pub by_hand: BTreeSet<String>,
    /// The same of their policies only.
    pub policies_by_hand: BTreeSet<String>,
    /// When nothing goes wrong any more.
    pub calm_since: Option<Instant>,
}

/// What a person asked for, and heard, each time.
pub struct Request {
    pub person: usize,
    pub wish: Wish,
    pub key: Option<String>,
    pub dry: bool,
    pub heard: Vec<(Machine, Heard)>,
}

/// An operation, as the store has it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub action: String,
    pub resource: String,
    pub plan: Value,
    pub opened: Instant,
    pub closed: Option<Instant>,
    /// The machine whose instance began it.
    machine: usize,
    /// The rules have allowed it at some time since its intent was written.
    allowed: bool,
    /// A change at AWS was its own.
    acted: bool,
}

impl Operation {
    fn plan_is(&self, field: &str, value: &str) -> bool {
        self.plan[field].as_str() == Some(value)
    }

    fn policies(&self) -> Vec<String> {
        let list = self.plan["policies"].as_array().into_iter().flatten();
        let arns = list.chain(self.plan.get("arn"));
        arns.filter_map(|arn| arn.as_str().map(str::to_owned)).collect()
    }
}

/// What became of an access key.
#[derive(Clone, Debug)]
pub struct KeyStory {
    pub user: String,
    /// The operation that made it; none: somebody made it by hand.
    pub made_by: Option<String>,
    /// Somebody has its secret.
    pub held: bool,
    /// By which operation, or by hand, it was deleted or deactivated; and whether its end was asked for.
    pub ended: Option<(String, bool)>,
}

/// What AWS had before a change.
pub struct Before(Option<MemoryUser>);

impl World {
    /// A person begins to ask for something.
    pub fn wished(&self, person: usize, wish: &Wish, key: Option<&str>, dry: bool) -> usize {
        let mut state = self.state();
        let key = key.map(str::to_owned);
        state.model.requests.push(Request { person, wish: wish.clone(), key, dry, heard: Vec::new() });
        state.model.requests.len() - 1
    }

    /// A person hears of it.
    pub fn heard(&self, person: usize, request: usize, machine: &Machine, heard: &Heard) {
        let mut state = self.state();
        let who = format!("p{person}");
        match heard {
            Heard::Done { operation, changed, key } => {
                let key = key.as_deref().unwrap_or("");
                happened!(
                    self,
                    state,
                    who,
                    "hears from {machine}: done ({operation}, changed={changed}) {key}"
                );
                state.count("requests done");
            }
            Heard::Seen => happened!(self, state, who, "hears from {machine}: seen"),
            Heard::Error(error) => {
                let text = error.detail.lines().next().unwrap_or_default();
                happened!(self, state, who, "hears from {machine}: {}: {text}", error.code.as_str());
                state.count("requests refused");
                if error.code == iam_sorry_core::api::ProblemCode::Internal {
                    self.violated(
                        &mut state,
                        8,
                        format!("{machine} answers with a mistake of its own: {text}"),
                    );
                }
            }
            Heard::Nothing(why) => {
                happened!(self, state, who, "hears nothing from {machine}: {why}");
                state.count("requests without an answer");
            }
        }
        if let Heard::Done { key: Some(key), .. } = heard
            && key.starts_with("AKIA")
        {
            self.handed_out(&mut state, key);
        }
        state.model.requests[request].heard.push((machine.clone(), heard.clone()));
    }

    /// Invariant 1, at the moment when a secret reaches a person.
    fn handed_out(&self, state: &mut State, key: &str) {
        let Some(story) = state.model.keys.get_mut(key) else {
            return self.violated(
                state,
                1,
                format!("the secret of {key} was handed out, which AWS never made"),
            );
        };
        let twice = std::mem::replace(&mut story.held, true);
        let ended = story.ended.clone();
        if twice {
            self.violated(state, 4, format!("the secret of {key} was handed out twice"));
        }
        if let Some((by, false)) = ended {
            self.violated(state, 1, format!("the secret of {key} was handed out after {by} ended it"));
        }
    }

    /// Somebody made a key by hand.
    pub fn made_by_hand(&self, state: &mut State, user: &str, key: &str) {
        let story = KeyStory { user: user.to_ascii_lowercase(), made_by: None, held: true, ended: None };
        state.model.keys.insert(key.to_owned(), story);
    }

    /// Somebody ended a key by hand.
    pub fn ended_by_hand(&self, state: &mut State, key: &str) {
        if let Some(story) = state.model.keys.get_mut(key) {
            story.ended = Some(("somebody by hand".to_owned(), true));
        }
    }

    /// After each commit: which operations are open.
    pub fn look_at_operations(&self) {
        let sql = "SELECT id FROM operations WHERE state = 0";
        let open = self.database().rows(sql, &[]).unwrap_or_default();
        let mut state = self.state();
        let now = Instant::now();
        let listed: BTreeSet<&str> = open.iter().filter_map(|row| row.first()).map(String::as_str).collect();
        for (id, operation) in &mut state.model.operations {
            if operation.closed.is_none() && !listed.contains(id.as_str()) {
                operation.closed = Some(now);
            }
        }
        let new: Vec<String> = listed
            .into_iter()
            .filter(|id| !state.model.operations.contains_key(*id))
            .map(str::to_owned)
            .collect();
        drop(state);
        for id in new {
            let sql = "SELECT action, resource, plan, instance, person FROM operations WHERE id = ?1";
            let Some(row) = self.database().rows(sql, &[&id]).unwrap_or_default().into_iter().next() else {
                continue;
            };
            self.opened(id, &row, now);
        }
    }

    fn opened(&self, id: String, row: &[String], now: Instant) {
        let [action, resource, plan, instance, person] = row else { return };
        let machine = instance[1..].split('-').next().and_then(|index| index.parse().ok()).unwrap_or(0);
        let mut operation = Operation {
            action: action.clone(),
            resource: resource.clone(),
            plan: serde_json::from_str(plan).unwrap_or_default(),
            opened: now,
            closed: None,
            machine,
            // What the service does on its own account, no rule decides about.
            allowed: person.is_empty(),
            acted: false,
        };
        let mut state = self.state();
        happened!(
            self,
            state,
            format_args!("m{machine}"),
            "has written the intent of {id}: {action} {resource}"
        );
        let rules = state.machines[machine].rules.are;
        operation.allowed |= rules.allow(action, &operation.policies());
        state.model.operations.insert(id, operation);
    }

    /// Other rules are in force on a machine.
    pub fn rules_are(&self, machine: usize, are: RulesAre) {
        let mut state = self.state();
        for operation in state.model.operations.values_mut() {
            if operation.machine == machine && operation.closed.is_none() {
                operation.allowed |= are.allow(&operation.action, &operation.policies());
            }
        }
    }

    /// What AWS has of the user that a request is about.
    pub fn before(&self, state: &State, call: &Call) -> Before {
        if !call.is_change() {
            return Before(None);
        }
        Before(state.aws.user(call.field("UserName")).cloned())
    }

    /// The service has changed something at AWS just now.
    pub fn changed(&self, state: &mut State, call: &Call, before: Before, answer: &str) {
        let user = call.field("UserName").to_ascii_lowercase();
        let open =
            state.model.operations.iter_mut().find(|(_, op)| op.closed.is_none() && op.resource == user);
        let open = open.map(|(id, operation)| {
            let first = !std::mem::replace(&mut operation.acted, true);
            (id.clone(), operation.clone(), first)
        });
        self.is_within_an_operation(state, call, open.as_ref().map(|(id, op, _)| (id.as_str(), op)));
        self.is_the_services_own(state, call, &before, open.as_ref().map(|(_, op, _)| op));
        if let Some((id, operation, true)) = &open
            && !operation.allowed
        {
            let rules = state.machines[operation.machine].rules.are;
            let text = format!(
                "{call} for {id} ({}), which the rules ({rules:?}) forbid since its intent",
                operation.action
            );
            self.violated(state, 6, text);
        }
        self.follow_keys(state, call, open.as_ref().map(|(id, op, _)| (id.as_str(), op)), answer);
        if call.action == "DeleteUser" {
            for story in state.model.keys.values_mut().filter(|story| story.user == user) {
                story.ended.get_or_insert_with(|| ("the end of its user".to_owned(), true));
            }
        }
    }

    /// Invariant 3: an intent that names it is on disk, and no outcome yet.
    fn is_within_an_operation(&self, state: &mut State, call: &Call, open: Option<(&str, &Operation)>) {
        let key = call.field("AccessKeyId");
        let made_by = state.model.keys.get(key).and_then(|story| story.made_by.clone());
        let named = open.is_some_and(|(id, op)| names(id, op, call, made_by.as_deref()));
        // A key whose id could not be written down in time is taken back later; the trail says so before.
        let said = || {
            let sql = "SELECT count(*) FROM audit WHERE line LIKE '%undoing%' || ?1 || '%'";
            let rows = self.database().rows(sql, &[key]).unwrap_or_default();
            rows.first().and_then(|row| row.first()).is_some_and(|count| count != "0")
        };
        if !(named || call.action == "DeleteAccessKey" && made_by.is_some() && said()) {
            let open = open.map(|(id, op)| format!("; open is {id} ({})", op.action)).unwrap_or_default();
            self.violated(state, 3, format!("{call}, and no open operation names it{open}"));
        }
    }

    /// Invariant 5: it is made by the service, or being taken into its care.
    fn is_the_services_own(&self, state: &mut State, call: &Call, before: &Before, open: Option<&Operation>) {
        let own = match &before.0 {
            Some(user) => {
                let tagged = user.tags.get("managed-by").is_some_and(|value| value == "iam-sorry");
                let adopting = open.is_some_and(|op| op.action == "adopt-user");
                adopting || (tagged && user.path.starts_with("/iam-sorry/"))
            }
            None => {
                call.field("Path").starts_with("/iam-sorry/dirk/")
                    && call.field("PermissionsBoundary") == crate::instance::boundary()
                    && call.fields.values().any(|value| value == "iam-sorry")
            }
        };
        if !own {
            self.violated(state, 5, format!("{call}, and that user is not the service's"));
        }
    }

    /// Invariant 1 and 5: a key that somebody holds ends only where that was asked for.
    fn follow_keys(&self, state: &mut State, call: &Call, open: Option<(&str, &Operation)>, answer: &str) {
        let user = call.field("UserName").to_ascii_lowercase();
        if call.action == "CreateAccessKey" {
            let id = answer
                .split("<AccessKeyId>")
                .nth(1)
                .and_then(|rest| rest.split('<').next())
                .unwrap_or_default();
            let made_by = open.map(|(id, _)| id.to_owned());
            let story = KeyStory { user, made_by, held: false, ended: None };
            state.model.keys.insert(id.to_owned(), story);
            happened!(self, state, "aws", "made {id}");
            return;
        }
        let ends = call.action == "DeleteAccessKey"
            || (call.action == "UpdateAccessKey" && call.field("Status") == "Inactive");
        let key = call.field("AccessKeyId");
        let Some(story) = state.model.keys.get_mut(key) else { return };
        if !ends {
            story.ended = None;
            return;
        }
        let asked = open.is_some_and(|(_, op)| is_asked_for(op, key));
        // The one thing that may happen to a key that somebody made by hand: it looks like one whose answer was lost.
        let suspected = call.action == "UpdateAccessKey" && story.made_by.is_none();
        let by = open.map_or_else(|| "nobody".to_owned(), |(id, op)| format!("{} {id}", op.action));
        story.ended = Some((by.clone(), asked || suspected));
        if story.held && !asked && !suspected {
            let invariant = if story.made_by.is_some() { 1 } else { 5 };
            let text =
                format!("{call} by {by}, while somebody holds its secret and nobody asked for its end");
            self.violated(state, invariant, text);
        }
    }
}

/// Whether the operation is one for the end of this key.
fn is_asked_for(op: &Operation, key: &str) -> bool {
    match op.action.as_str() {
        // A user that was just made, and goes again with whatever somebody has attached to it meanwhile.
        "delete-user" | "create-user" => true,
        "delete-access-key" => op.plan_is("key", key),
        "rotate-key" | "confirm-key" | "retire-key" => op.plan_is("old", key),
        "restore-key" => op.plan_is("new", key),
        _ => false,
    }
}

/// Whether the change is one that the operation's intent speaks of.
fn names(id: &str, op: &Operation, call: &Call, made_by: Option<&str>) -> bool {
    let key = call.field("AccessKeyId");
    let own_key = made_by == Some(id);
    let takes_away = call.action.starts_with("De") || call.action.starts_with("Remove");
    match (op.action.as_str(), call.action.as_str()) {
        ("create-user", "CreateUser") => true,
        ("create-user", "AttachUserPolicy") => op.policies().iter().any(|arn| arn == call.field("PolicyArn")),
        ("create-user" | "delete-user", _) => takes_away,
        ("adopt-user", "PutUserPermissionsBoundary" | "UpdateUser" | "TagUser") => true,
        ("attach-policy", "AttachUserPolicy") | ("detach-policy", "DetachUserPolicy") => {
            op.plan_is("arn", call.field("PolicyArn"))
        }
        ("create-access-key" | "issue-credentials" | "rotate-key", "CreateAccessKey") => true,
        ("create-access-key" | "issue-credentials", "DeleteAccessKey") => own_key,
        // What fits, and may be the key of a lost answer, is deactivated.
        ("create-access-key" | "issue-credentials", "UpdateAccessKey") => {
            call.field("Status") == "Inactive" && (own_key || made_by.is_none())
        }
        ("rotate-key", "DeleteAccessKey") => own_key,
        ("rotate-key", "UpdateAccessKey") => {
            op.plan_is("old", key) || (call.field("Status") == "Inactive" && (own_key || made_by.is_none()))
        }
        ("delete-access-key", "DeleteAccessKey") => op.plan_is("key", key),
        ("confirm-key" | "retire-key", "DeleteAccessKey") => op.plan_is("old", key),
        ("restore-key", "UpdateAccessKey") => op.plan_is("old", key) && call.field("Status") == "Active",
        ("restore-key", "DeleteAccessKey") => op.plan_is("new", key),
        _ => false,
    }
}
