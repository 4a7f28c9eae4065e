//! One schedule, from its seed to what was found.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use iam_sorry_server::actions::settings::ActionSettings;
use iam_sorry_store::Store;
use iam_sorry_store::simulation::{Commit, Database, Fault, Point, Step, Wire};
use tokio::time::{Instant, sleep, timeout};

use crate::happened;
use crate::instance::{Ingredients, RuleSets, RulesAre};
use crate::people::Visitor;
use crate::rng::Rng;
use crate::weather::Weather;
use crate::world::{Violation, World};

/// An operation may stay open for so long once nothing goes wrong any more.
const OPEN: Duration = Duration::from_secs(30);

/// How long the last answers may take, once nothing goes wrong any more.
const LAST_ANSWERS: Duration = Duration::from_secs(120);

/// What a thread keeps from one schedule to the next.
pub struct Workshop {
    database: Database,
    rules: RuleSets,
    secret: PathBuf,
    plant: Option<&'static str>,
    _folder: tempfile::TempDir,
}

impl Workshop {
    /// With a planted fault in the service's code, or none.
    pub fn new(plant: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, testkit::IamAccount::SERVICE_KEY.1).expect("a file");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, private).expect("its mode");
        let database = Database::new().expect("a database");
        Self { database, rules: RuleSets::load(), secret, plant, _folder: folder }
    }

    /// Runs the schedule of a seed.
    pub fn run(&self, seed: u64, recording: bool) -> Found {
        self.database.mark().expect("a database that was reset");
        iam_sorry_core::planted::plant(self.plant);
        iam_sorry_server::simulation::seed(Some(seed));
        fastrand::seed(seed);
        iam_sorry_aws::simulation::set_clock(Some(iam_sorry_server::simulation::now_ms));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        // Which branch of a `select!` is looked at first, and who hears first of a change. Without the flag, which
        // scripts/simulate sets, these alone are not the seed's.
        #[cfg(tokio_unstable)]
        runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        let runtime = runtime.build().expect("a runtime");
        let run = || runtime.block_on(self.schedule(seed, recording));
        let found =
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Found::panicked(seed, &*panic));
        drop(runtime);
        self.database.reset();
        found
    }

    async fn schedule(&self, seed: u64, recording: bool) -> Found {
        let mut rng = Rng::new(seed, 0);
        let weather = Weather::of(&mut rng);
        let world = World::new(seed, weather, self.database.clone(), recording);
        world.tell_database_the_time();
        let machines = *rng.pick(&[1, 1, 2, 2, 3]);
        let parts = Ingredients {
            actions: ActionSettings {
                key_in_use_minutes: *rng.pick(&[60, 0]),
                retired_key_hours: *rng.pick(&[72, 0]),
                ..ActionSettings::default()
            },
            alone: machines == 1 && rng.chance(500),
            audit: None,
            secret: self.secret.clone(),
        };
        world.add_machines(machines, &self.rules);
        world.furnish();
        {
            let mut state = world.state();
            happened!(
                world,
                state,
                "seed",
                "{seed}: {machines} machines, alone={}, {weather:?}",
                parts.alone
            );
        }
        let mut beside = Vec::new();
        for machine in 0..machines {
            beside.push(tokio::spawn(world.clone().keep_up(machine, parts.clone())));
        }
        beside.push(tokio::spawn(world.clone().administrator(Rng::new(seed, 4))));
        if rng.chance(200) {
            beside.push(tokio::spawn(world.clone().upgrades(Rng::new(seed, 6))));
        }
        if weather.rules > 0 {
            beside.push(tokio::spawn(world.clone().legislator(Rng::new(seed, 5), self.rules.clone())));
        }
        let people = rng.range(2..5);
        let (wishes, leisure) = (rng.range(2..6), *rng.pick(&[0, 300, 3_000, 9_000]));
        let visitors: Vec<_> = (0..people)
            .map(|number| Visitor {
                number: number as usize,
                world: world.clone(),
                rng: Rng::new(seed, 100 + number),
                wishes,
                leisure,
            })
            .map(|visitor| tokio::spawn(visitor.go()))
            .collect();
        let mut all = tokio::spawn(futures_util::future::join_all(visitors));
        let rough = Duration::from_secs(rng.range(20..150));
        let answered = timeout(rough, &mut all).await.is_ok();
        self.calm(&world);
        if !answered && timeout(LAST_ANSWERS, &mut all).await.is_err() {
            world.violated(&mut world.state(), 8, "somebody still waits for an answer".to_owned());
        }
        self.settle(&world).await;
        beside.iter().for_each(tokio::task::JoinHandle::abort);
        let checker = Store::open_simulated(&self.database, "checker", std::sync::Arc::new(Clear));
        let (checker, work) = checker.expect("a store");
        let _working = tokio::spawn(work);
        world.check_ending(&checker).await;
        Found::of(&world, seed)
    }

    /// Nothing goes wrong from here on.
    fn calm(&self, world: &World) {
        let machines = {
            let mut state = world.state();
            happened!(world, state, "seed", "nothing goes wrong from here on");
            state.weather = Weather { shuffle: state.weather.shuffle, ..Weather::default() };
            state.model.calm_since = Some(Instant::now());
            for machine in &mut state.machines {
                machine.clock_offset_ms = 0;
                machine.cut_until = Instant::now();
            }
            state.machines.len()
        };
        for index in 0..machines {
            if let Some(machine) = world.machine(index) {
                machine.go_on(None);
            }
            world.replace_rules(index, RulesAre::Open, &self.rules);
        }
    }

    /// Waits until nothing is open: invariant 7.
    async fn settle(&self, world: &World) {
        let last_look = Instant::now() + OPEN;
        loop {
            world.look_at_operations();
            let waiting = {
                let state = world.state();
                let calm = state.model.calm_since.unwrap_or_else(Instant::now);
                let trouble = state.trouble_until;
                let operations = state.model.operations.iter();
                let open = operations.filter(|(_, operation)| operation.closed.is_none());
                // Other work may have been begun since, by a person's last request.
                open.map(|(id, op)| (id.clone(), op.opened.max(calm).max(trouble)))
                    .min_by_key(|(_, since)| *since)
            };
            if let Some((id, since)) = waiting {
                if since.elapsed() > OPEN {
                    let mut state = world.state();
                    let text = format!("{id} is open {} s after the last trouble", since.elapsed().as_secs());
                    world.violated(&mut state, 7, text);
                    return;
                }
            } else {
                // A key that reached nobody is taken back by an operation of the service's own.
                let differences = world.differences();
                if differences.is_empty() {
                    return;
                }
                if Instant::now() > last_look {
                    let mut state = world.state();
                    differences.into_iter().for_each(|text| world.violated(&mut state, 2, text));
                    return;
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What came of a schedule.
pub struct Found {
    pub seed: u64,
    pub violation: Option<Violation>,
    pub history: Vec<String>,
    /// The same for every run of the same seed.
    pub digest: u64,
    pub events: u64,
    pub simulated: Duration,
    pub counters: BTreeMap<&'static str, u64>,
}

impl Found {
    /// Invariant 8: no task of the service's may panic.
    fn panicked(seed: u64, panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        Self {
            seed,
            violation: Some(Violation { invariant: 8, text: format!("panicked: {text}") }),
            history: Vec::new(),
            digest: 0,
            events: 0,
            simulated: Duration::ZERO,
            counters: BTreeMap::new(),
        }
    }

    fn of(world: &World, seed: u64) -> Self {
        let heads =
            world.database().rows("SELECT n, seq, hash FROM lanes ORDER BY n", &[]).unwrap_or_default();
        let mut state = world.state();
        let text = format!("{heads:?}");
        let digest = text
            .bytes()
            .fold(state.digest, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        Self {
            seed,
            violation: state.violation.clone(),
            history: state.history.take().unwrap_or_default(),
            digest,
            events: state.events,
            simulated: world.elapsed(),
            counters: std::mem::take(&mut state.counters),
        }
    }
}

/// A way on which nothing goes wrong.
#[derive(Debug)]
struct Clear;

impl Wire for Clear {
    fn pass(&self, _: Point) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }

    fn fault(&self, _: Step) -> Option<Fault> {
        None
    }

    fn commit(&self) -> Commit {
        Commit::Done
    }

    fn committed(&self) {}
}
