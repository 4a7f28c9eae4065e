//! Progress of refreshes: a spinner for each profile on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::Output;

pub struct Bars {
    out: Output,
    many: bool,
    multi: Option<MultiProgress>,
    /// Without a terminal: the last step printed for each profile, without its seconds.
    last_step: Mutex<BTreeMap<String, String>>,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    /// Progress of `count` profiles at the same time.
    pub fn new(out: Output, count: usize) -> Self {
        let multi = out.animates().then(MultiProgress::new);
        Self { out, many: count > 1, multi, last_step: Mutex::default(), bars: Mutex::default() }
    }

    /// Shows the current step of one profile.
    pub fn step(&self, name: &str, text: &str) {
        let Some(multi) = &self.multi else {
            // A wait counts its seconds: a terminal updates one line, and a log gets one line in all.
            let step_text = text.split(" (").next().unwrap_or_default().to_owned();
            let mut last_step = self.last_step.lock().unwrap_or_else(PoisonError::into_inner);
            if last_step.insert(name.to_owned(), step_text.clone()) == Some(step_text) {
                return;
            }
            let line = if self.many { format!("{name}: {text}") } else { text.to_owned() };
            return self.out.progress(line);
        };
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = multi.add(ProgressBar::new_spinner());
            bar.set_style(ProgressStyle::default_spinner());
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("{name}: {text}"));
    }

    /// Removes the spinners from the screen.
    pub fn clear(&self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.finish_and_clear();
        }
    }
}
