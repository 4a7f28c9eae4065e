//! The machines that instances run on: they are started, killed, stopped, paused, cut off from the database, and their clocks
//! are set.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use iam_sorry_server::service::Service;
use iam_sorry_server::simulation::{Admission, Host, On};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::happened;
use crate::instance;
use crate::world::{State, World};

/// More polls than any schedule needs: one that reaches it waits for something without an end.
const MOST_POLLS: u64 = 3_000_000;

/// One machine, as the world knows it.
pub struct MachineState {
    /// Goes up at each start: what belongs to an earlier one is dead.
    pub generation: u32,
    up: bool,
    paused_until: Option<Instant>,
    /// Its clock against the true time, milliseconds.
    pub clock_offset_ms: i64,
    pub cut_until: Instant,
    /// Goes up at each cut: connections from before it are gone.
    pub cuts: u32,
    /// Since when it answers.
    pub service: Option<Service>,
    /// Which rules are in force.
    pub rules: instance::LiveRules,
    tasks: BTreeMap<u64, Waker>,
    waiting: Vec<Waker>,
    ended: watch::Sender<u32>,
    stop: watch::Sender<bool>,
    polls: u64,
}

/// A start of a machine.
#[derive(Clone)]
pub struct Machine {
    pub world: World,
    pub index: usize,
    pub generation: u32,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Host for Machine {
    fn admit(&self, task: u64, context: &mut Context<'_>) -> Admission {
        let mut state = self.world.state();
        let State { machines, shuffling, weather, violation, .. } = &mut *state;
        let machine = &mut machines[self.index];
        if machine.generation != self.generation || !machine.up {
            return Admission::Dead;
        }
        machine.polls += 1;
        if machine.polls > MOST_POLLS && violation.is_none() {
            self.world.violated(&mut state, 8, format!("{self} is polled without an end"));
            return Admission::Dead;
        }
        machine.tasks.insert(task, context.waker().clone());
        if machine.paused_until.is_some() {
            machine.waiting.push(context.waker().clone());
            return Admission::Wait;
        }
        if shuffling.chance(weather.shuffle) {
            context.waker().wake_by_ref();
            return Admission::Wait;
        }
        Admission::Run
    }

    fn ended(&self, task: u64) {
        let mut state = self.world.state();
        let machine = &mut state.machines[self.index];
        if machine.generation == self.generation {
            machine.tasks.remove(&task);
        }
    }

    fn now_ms(&self) -> i64 {
        let offset = self.world.state().machines[self.index].clock_offset_ms;
        self.world.now_ms() + offset
    }
}

impl Machine {
    /// This start of it as the host of tasks.
    pub fn host(&self) -> Arc<dyn Host> {
        Arc::new(self.clone())
    }

    /// Whether this start of it is the one that runs.
    pub fn is_up(&self) -> bool {
        self.is_up_in(&self.world.state())
    }

    /// The same for who holds the state.
    pub fn is_up_in(&self, state: &State) -> bool {
        let machine = &state.machines[self.index];
        machine.up && machine.generation == self.generation
    }

    /// Waits until this start of it has ended, in whatever way.
    pub async fn has_ended(&self) {
        let mut ended = self.world.state().machines[self.index].ended.subscribe();
        let generation = self.generation;
        let _ = ended.wait_for(|ended| *ended >= generation).await;
    }

    /// Ends this start of it: every task is dropped where it is.
    pub fn end(&self) {
        let (tasks, waiting, service) = {
            let mut state = self.world.state();
            let machine = &mut state.machines[self.index];
            if machine.generation != self.generation || !machine.up {
                return;
            }
            machine.up = false;
            machine.paused_until = None;
            machine.ended.send_replace(self.generation);
            let taken = (
                std::mem::take(&mut machine.tasks),
                std::mem::take(&mut machine.waiting),
                machine.service.take(),
            );
            state.trouble_until = state.trouble_until.max(Instant::now());
            taken
        };
        // Outside of the lock: each is polled once more, and dropped then.
        tasks.into_values().chain(waiting).for_each(Waker::wake);
        drop(service);
    }

    fn pause(&self, lasts: Duration) {
        let until = Instant::now() + lasts;
        let mut state = self.world.state();
        self.world.trouble(&mut state, lasts);
        state.machines[self.index].paused_until = Some(until);
        drop(state);
        let this = self.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            this.go_on(Some(until));
        });
    }

    /// Ends a pause; `Some`: the one that lasts until then.
    pub fn go_on(&self, pause: Option<Instant>) {
        let mut state = self.world.state();
        let machine = &mut state.machines[self.index];
        let is_it = pause.is_none_or(|until| machine.paused_until == Some(until));
        if machine.generation != self.generation || machine.paused_until.is_none() || !is_it {
            return;
        }
        machine.paused_until = None;
        let waiting = std::mem::take(&mut machine.waiting);
        happened!(self.world, state, self, "goes on");
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Its connections to the database are gone, and it gets no others for a while.
    pub fn cut_off(&self, state: &mut State, why: &str) {
        let lasts = Duration::from_millis(*state.rng.pick(&[500, 4_000, 9_000, 17_000, 24_000, 35_000]));
        happened!(
            self.world,
            state,
            self,
            "is cut off from the database for {} ms: {why}",
            lasts.as_millis()
        );
        state.count("cut off");
        self.world.trouble(state, lasts);
        let machine = &mut state.machines[self.index];
        machine.cut_until = machine.cut_until.max(Instant::now() + lasts);
        machine.cuts += 1;
    }

    /// A place where it matters whether the machine goes on. `weight`: how much.
    pub async fn narrow(&self, weight: u32, place: &'static str) {
        if self.strike(weight, place) {
            // Dead, it never comes back from here; paused, not before it goes on.
            tokio::task::yield_now().await;
        }
    }

    /// The same where nobody waits. Whether the machine must not go on.
    pub fn strike(&self, weight: u32, place: &'static str) -> bool {
        let mut state = self.world.state();
        let machine = &state.machines[self.index];
        if machine.generation != self.generation || !machine.up || machine.paused_until.is_some() {
            return true;
        }
        let weather = state.weather;
        if state.rng.chance(weather.kill * weight) {
            happened!(self.world, state, self, "is killed: {place}");
            state.count("killed");
            drop(state);
            self.end();
            return true;
        }
        if state.rng.chance(weather.pause * weight) {
            let lasts = Duration::from_millis(*state.rng.pick(&[600, 3_000, 9_000, 15_000, 22_000, 40_000]));
            happened!(self.world, state, self, "stands still for {} ms: {place}", lasts.as_millis());
            state.count("paused");
            drop(state);
            self.pause(lasts);
            return true;
        }
        if state.rng.chance(weather.cut * weight) {
            self.cut_off(&mut state, place);
            return false;
        }
        if state.rng.chance(weather.step * weight) {
            let by = *state.rng.pick(&[-3_600_000, -30_000, -2_000, 2_000, 30_000, 200_000, 264_000_000]);
            happened!(self.world, state, self, "its clock is set by {by} ms: {place}");
            state.count("clock set");
            state.machines[self.index].clock_offset_ms += by;
        }
        false
    }
}

impl World {
    /// Adds machines, which are not running yet.
    pub fn add_machines(&self, count: usize, rules: &instance::RuleSets) {
        let mut state = self.state();
        for _ in 0..count {
            state.machines.push(MachineState {
                generation: 0,
                up: false,
                paused_until: None,
                clock_offset_ms: 0,
                cut_until: Instant::now(),
                cuts: 0,
                service: None,
                rules: rules.live(),
                tasks: BTreeMap::new(),
                waiting: Vec::new(),
                ended: watch::Sender::new(0),
                stop: watch::Sender::new(false),
                polls: 0,
            });
        }
    }

    /// The start of it that runs.
    pub fn machine(&self, index: usize) -> Option<Machine> {
        let state = self.state();
        let machine = &state.machines[index];
        machine.up.then(|| Machine { world: self.clone(), index, generation: machine.generation })
    }

    /// One that answers, and its service.
    pub fn any_service(&self) -> Option<(Machine, Service)> {
        let mut state = self.state();
        let ready: Vec<usize> =
            (0..state.machines.len()).filter(|index| state.machines[*index].service.is_some()).collect();
        if ready.is_empty() {
            return None;
        }
        let index = *state.rng.pick(&ready);
        let machine = &state.machines[index];
        let service = machine.service.clone()?;
        Some((Machine { world: self.clone(), index, generation: machine.generation }, service))
    }

    /// Asks a machine to stop in good order.
    pub fn stop(&self, index: usize) {
        let mut state = self.state();
        let generation = state.machines[index].generation;
        happened!(self, state, format_args!("m{index}.{generation}"), "is stopped");
        state.count("stopped");
        state.machines[index].stop.send_replace(true);
    }

    /// Starts a machine again and again, for as long as this is polled.
    pub async fn keep_up(self, index: usize, parts: instance::Ingredients) {
        loop {
            let (machine, stop) = {
                let mut state = self.state();
                let machine = &mut state.machines[index];
                machine.generation += 1;
                machine.up = true;
                machine.polls = 0;
                machine.stop.send_replace(false);
                let generation = machine.generation;
                let stop = machine.stop.subscribe();
                let started = Machine { world: self.clone(), index, generation };
                happened!(self, state, started, "is started");
                (started, stop)
            };
            let work = instance::run(machine.clone(), parts.clone(), stop);
            let task = tokio::spawn(On::new(machine.host(), work));
            machine.has_ended().await;
            let pause = Duration::from_millis({
                let mut state = self.state();
                let long = if parts.alone { 3_000 } else { 30_000 };
                *state.rng.pick(&[50, 1_000, 5_000, long])
            });
            self.trouble(&mut self.state(), pause);
            sleep(pause).await;
            drop(task);
        }
    }
}
