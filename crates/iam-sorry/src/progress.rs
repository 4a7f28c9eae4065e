//! Progress for refreshes: a spinner a profile on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::Output;

pub struct Bars {
    out: Output,
    many: bool,
    shown: Option<MultiProgress>,
    /// Where nothing moves on the screen: what was last said of each, without the seconds behind it.
    said: Mutex<BTreeMap<String, String>>,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    /// For `count` profiles at once.
    pub fn new(out: Output, count: usize) -> Self {
        let shown = out.animates().then(MultiProgress::new);
        Self { out, many: count > 1, shown, said: Mutex::default(), bars: Mutex::default() }
    }

    /// What is going on with one of them.
    pub fn step(&self, name: &str, text: &str) {
        let Some(shown) = &self.shown else {
            // A wait counts its seconds: on a terminal that is one line that moves, in a log it is told once.
            let what = text.split(" (").next().unwrap_or_default().to_owned();
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.insert(name.to_owned(), what.clone()) == Some(what) {
                return;
            }
            let line = if self.many { format!("{name}: {text}") } else { text.to_owned() };
            return self.out.progress(line);
        };
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = shown.add(ProgressBar::new_spinner());
            bar.set_style(ProgressStyle::default_spinner());
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("{name}: {text}"));
    }

    /// Takes them off the screen.
    pub fn clear(&self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.finish_and_clear();
        }
    }
}
