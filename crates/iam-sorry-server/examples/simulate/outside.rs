//! What happens beside the service and its people: an administrator works at AWS by hand, holders use their keys, rules are
//! replaced, machines are stopped in good order.

use std::time::Duration;

use testkit::IamFields;
use tokio::time::sleep;

use crate::happened;
use crate::instance::{RuleSets, RulesAre, policies_of_the_list};
use crate::people::{NAMES, OLD_NAME};
use crate::rng::Rng;
use crate::world::World;

/// A user that is none of the service's business.
pub const STRANGER: &str = "operator";

impl World {
    /// The account as the service finds it.
    pub fn furnish(&self) {
        let now = self.now();
        let mut state = self.state();
        for (name, path) in [(STRANGER, "/"), (OLD_NAME, "/")] {
            let fields = IamFields::from([("Path".to_owned(), path.to_owned())]);
            state.aws.make_user(name, &fields, now).expect("a new user");
            let key = state.aws.make_key(name, now).expect("a key");
            self.made_by_hand(&mut state, name, &key);
        }
    }

    /// Until it is dropped.
    pub async fn administrator(self, mut rng: Rng) {
        loop {
            sleep(Duration::from_millis(rng.range(200..2_000))).await;
            let weather = self.state().weather;
            if rng.chance(weather.administrator) {
                self.by_hand(&mut rng);
            }
            // Holders use their keys in any weather.
            if rng.chance(60) {
                self.use_a_key(&mut rng);
            }
        }
    }

    fn use_a_key(&self, rng: &mut Rng) {
        let now = self.now();
        let mut state = self.state();
        let held: Vec<String> = state
            .aws
            .users()
            .values()
            .flat_map(|user| &user.keys)
            .filter(|key| key.active && state.model.keys.get(&key.id).is_some_and(|story| story.held))
            .map(|key| key.id.clone())
            .collect();
        if held.is_empty() {
            return;
        }
        let id = rng.pick(&held).clone();
        let service = *rng.pick(&["s3", "sts"]);
        state.aws.use_key(&id, service, now);
        happened!(self, state, "holder", "uses {id} for {service}");
    }

    fn by_hand(&self, rng: &mut Rng) {
        let now = self.now();
        let mut state = self.state();
        let name = if rng.chance(200) { OLD_NAME } else { *rng.pick(&NAMES) };
        let folded = name.to_ascii_lowercase();
        let keys: Vec<String> = state
            .aws
            .user(name)
            .map(|user| user.keys.iter().map(|key| key.id.clone()).collect())
            .unwrap_or_default();
        state.count("done by hand");
        match rng.below(8) {
            0 | 1 => {
                if let Ok(key) = state.aws.make_key(name, now) {
                    happened!(self, state, "admin", "makes {key} for {name}");
                    self.made_by_hand(&mut state, name, &key);
                }
            }
            2 => {
                if let Some(key) = keys.first() {
                    happened!(self, state, "admin", "deletes {key} of {name}");
                    if let Some(user) = state.aws.user_mut(name) {
                        user.keys.retain(|found| found.id != *key);
                    }
                    self.ended_by_hand(&mut state, key);
                }
            }
            3 | 4 => {
                if let Some(key) = keys.last() {
                    let active = rng.chance(500);
                    happened!(self, state, "admin", "sets {key} of {name} active={active}");
                    let user = state.aws.user_mut(name);
                    let found = user.and_then(|user| user.keys.iter_mut().find(|found| found.id == *key));
                    if let Some(found) = found {
                        found.active = active;
                    }
                    self.ended_by_hand(&mut state, key);
                }
            }
            5 => {
                let arn = rng.pick(&policies_of_the_list()).clone();
                if let Some(user) = state.aws.user_mut(name) {
                    match user.attached.iter().position(|found| *found == arn) {
                        Some(at) => drop(user.attached.remove(at)),
                        None => user.attached.push(arn.clone()),
                    }
                    happened!(self, state, "admin", "attaches or detaches {arn} at {name}");
                    state.model.policies_by_hand.insert(folded);
                }
            }
            6 => {
                if state.aws.remove(name).is_some() {
                    happened!(self, state, "admin", "deletes {name}");
                    for key in &keys {
                        self.ended_by_hand(&mut state, key);
                    }
                    state.model.by_hand.insert(folded);
                }
            }
            _ => {
                if state.aws.make_user(name, &IamFields::new(), now).is_ok() {
                    happened!(self, state, "admin", "makes {name}, which is not the service's");
                    state.model.by_hand.insert(folded);
                }
            }
        }
    }

    /// Replaces the rules on each machine, within the seconds in which each looks at its files.
    pub async fn legislator(self, mut rng: Rng, sets: RuleSets) {
        loop {
            sleep(Duration::from_millis(rng.range(200..2_000))).await;
            let weather = self.state().weather;
            if !rng.chance(weather.rules) {
                continue;
            }
            let are = *rng.pick(&RulesAre::ALL);
            let machines = self.state().machines.len();
            for machine in 0..machines {
                let (world, sets, after) = (self.clone(), sets.clone(), rng.below(2_000));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(after)).await;
                    world.replace_rules(machine, are, &sets);
                });
            }
        }
    }

    pub fn replace_rules(&self, machine: usize, are: RulesAre, sets: &RuleSets) {
        {
            let mut state = self.state();
            happened!(self, state, format_args!("m{machine}"), "has other rules: {are:?}");
            state.count("rules replaced");
            state.machines[machine].rules.are = are;
            state.machines[machine].rules.handle.store(sets.set(are));
        }
        self.rules_are(machine, are);
    }

    /// Stops machines in good order, such as for a new version.
    pub async fn upgrades(self, mut rng: Rng) {
        loop {
            sleep(Duration::from_millis(rng.range(2_000..40_000))).await;
            let machines = self.state().machines.len() as u64;
            let machine = rng.below(machines) as usize;
            if self.machine(machine).is_some() {
                self.stop(machine);
            }
        }
    }
}
