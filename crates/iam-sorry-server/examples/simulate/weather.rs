//! How rough a schedule is: how often each kind of thing goes wrong, of a thousand times that it could.

use crate::rng::Rng;

/// See the module's text. All zero: a fine day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// A request to AWS is answered slowly, or only after it was given up.
    pub slow: u32,
    /// AWS says that it is asked too much.
    pub throttled: u32,
    /// AWS refuses the service, or fails by itself.
    pub refused: u32,
    /// A request never arrives, or its answer does not.
    pub lost: u32,
    /// Its effect comes after the service has given it up.
    pub late: u32,
    /// What was just made is unknown elsewhere at AWS for a while.
    pub lagging: u32,
    /// The way to the database is slow.
    pub store_slow: u32,
    /// The database is under load: a message takes up to 200 ms.
    pub store_busy: u32,
    /// The database takes the connection away, or is busy, full, or read-only.
    pub store_failing: u32,
    /// A commit's answer is lost.
    pub store_unsure: u32,
    /// At a narrow place, the instance is killed.
    pub kill: u32,
    /// At a narrow place, it stands still.
    pub pause: u32,
    /// At a narrow place, it is cut off from the database.
    pub cut: u32,
    /// At a narrow place, somebody sets its clock.
    pub step: u32,
    /// A task that could go on is put behind the others.
    pub shuffle: u32,
    /// An administrator does something by hand, of a thousand seconds.
    pub administrator: u32,
    /// The rules are replaced, of a thousand seconds.
    pub rules: u32,
    /// A person stops waiting for an answer.
    pub hang_up: u32,
}

impl Weather {
    /// Some of the days are fine, on some one thing goes wrong, and on some everything at once.
    pub fn of(rng: &mut Rng) -> Self {
        let mut weather =
            Self { shuffle: *rng.pick(&[0, 50, 200]), hang_up: *rng.pick(&[0, 50, 200]), ..Self::default() };
        let kinds = match rng.below(10) {
            0 | 1 => 0,
            2..=4 => 1,
            5..=7 => 3,
            _ => 12,
        };
        for _ in 0..kinds {
            weather.worsen(rng);
        }
        weather
    }

    fn worsen(&mut self, rng: &mut Rng) {
        match rng.below(16) {
            0 => self.slow = *rng.pick(&[20, 100]),
            1 => self.throttled = *rng.pick(&[20, 150]),
            2 => self.refused = *rng.pick(&[10, 60]),
            3 => self.lost = *rng.pick(&[20, 100, 300]),
            4 => self.late = *rng.pick(&[20, 100]),
            5 => self.lagging = *rng.pick(&[100, 500]),
            6 => self.store_slow = *rng.pick(&[10, 60]),
            7 => self.store_failing = *rng.pick(&[5, 40]),
            8 => self.store_unsure = *rng.pick(&[10, 60, 300]),
            9 => self.kill = *rng.pick(&[4, 15]),
            10 => self.pause = *rng.pick(&[4, 15]),
            11 => self.cut = *rng.pick(&[4, 15]),
            12 => self.step = 10,
            13 | 14 => self.store_busy = *rng.pick(&[300, 1_000]),
            _ => {
                self.administrator = *rng.pick(&[50, 200]);
                self.rules = *rng.pick(&[0, 60]);
            }
        }
    }
}
