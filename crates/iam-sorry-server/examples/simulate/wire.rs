//! The way between an instance and the database: it can be slow, cut, or lose an answer.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use iam_sorry_store::simulation::{Commit, Fault, Point, Step, Wire};
use tokio::time::{Instant, sleep, sleep_until};

use crate::happened;
use crate::machine::Machine;
use crate::world::State;

/// See the module's text.
pub struct SimulatedWire {
    machine: Machine,
    /// What was cut since is connected anew.
    cuts: std::sync::atomic::AtomicU32,
}

impl fmt::Debug for SimulatedWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wire of {}", self.machine)
    }
}

impl SimulatedWire {
    pub fn new(machine: Machine) -> Self {
        Self { machine, cuts: 0.into() }
    }

    fn is_cut(&self, state: &State) -> bool {
        state.machines[self.machine.index].cut_until > Instant::now()
    }
}

impl Wire for SimulatedWire {
    fn pass(&self, point: Point) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let machine = self.machine.clone();
        Box::pin(async move {
            match point {
                Point::Write => machine.narrow(1, "a write is on its way").await,
                Point::WriteAnswer => machine.narrow(1, "a write was answered").await,
                Point::Read | Point::ReadAnswer => {}
            }
            let delay = {
                let mut state = machine.world.state();
                let (slow, busy) = (state.weather.store_slow, state.weather.store_busy);
                let least = u64::from(matches!(point, Point::Write));
                match state.rng.chance(slow) {
                    true => {
                        let delay = state.rng.range(500..8_000);
                        happened!(machine.world, state, machine, "{point:?} takes {delay} ms on its way");
                        state.count("slow database");
                        machine.world.trouble(&mut state, Duration::from_millis(delay));
                        delay
                    }
                    false if state.rng.chance(busy) => state.rng.range(5..200),
                    false => state.rng.range(least..4),
                }
            };
            if delay > 0 {
                sleep(Duration::from_millis(delay)).await;
            }
            let cut_until = machine.world.state().machines[machine.index].cut_until;
            if cut_until > Instant::now() {
                sleep_until(cut_until).await;
            }
        })
    }

    fn fault(&self, step: Step) -> Option<Fault> {
        let world = &self.machine.world;
        world.tell_database_the_time();
        let mut state = world.state();
        if self.is_cut(&state) {
            return Some(Fault::Lost);
        }
        let cuts = state.machines[self.machine.index].cuts;
        if self.cuts.swap(cuts, std::sync::atomic::Ordering::Relaxed) != cuts && step != Step::Connect {
            return Some(Fault::Lost);
        }
        // There are many statements in a transaction.
        let failing = if step == Step::Statement {
            state.weather.store_failing / 8
        } else {
            state.weather.store_failing
        };
        if !state.rng.chance(failing) {
            return None;
        }
        let fault =
            state.rng.weighted(&[(6, Fault::Lost), (3, Fault::Busy), (1, Fault::Full), (1, Fault::ReadOnly)]);
        happened!(world, state, self.machine, "the database fails it at {step:?}: {fault:?}");
        state.count("database failed");
        world.trouble(&mut state, Duration::from_secs(2));
        Some(fault)
    }

    fn commit(&self) -> Commit {
        let world = &self.machine.world;
        let mut state = world.state();
        let weather = state.weather;
        if state.rng.chance(weather.store_unsure) {
            let committed = state.rng.chance(700);
            happened!(
                world,
                state,
                self.machine,
                "the answer to a commit is lost; it is on disk: {committed}"
            );
            state.count("commit unsure");
            if state.rng.chance(200) {
                // Such as when it fails over.
                self.machine.cut_off(&mut state, "it does not come back at once");
            }
            world.trouble(&mut state, Duration::from_secs(1));
            return Commit::Unknown { committed };
        }
        if state.rng.chance(weather.store_failing) {
            happened!(world, state, self.machine, "a commit fails");
            state.count("commit failed");
            world.trouble(&mut state, Duration::from_secs(1));
            return Commit::Failed(Fault::Lost);
        }
        Commit::Done
    }

    fn committed(&self) {
        let world = &self.machine.world;
        world.look_at_operations();
    }
}
