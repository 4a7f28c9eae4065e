//! What a run measured: how many answers of which kind, how fast, how long each took.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// The answers to one client.
#[derive(Default)]
pub struct Figures {
    /// Of answers with a 2xx status, in microseconds.
    latencies: Vec<u32>,
    others: BTreeMap<String, u64>,
    /// The first answer that was no success, for whoever wonders.
    example: Option<String>,
}

impl Figures {
    pub fn good(&mut self, took: Duration) {
        self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn bad(&mut self, kind: String, text: &str) {
        *self.others.entry(kind).or_default() += 1;
        self.example.get_or_insert_with(|| text.chars().take(500).collect());
    }

    pub fn add(&mut self, other: Figures) {
        self.latencies.extend(other.latencies);
        for (kind, count) in other.others {
            *self.others.entry(kind).or_default() += count;
        }
        self.example = self.example.take().or(other.example);
    }

    /// As JSON; the rate is that of the successes.
    pub fn report(mut self, elapsed: Duration) -> Value {
        self.latencies.sort_unstable();
        let quantile = |part: f64| {
            let last = self.latencies.len().checked_sub(1)?;
            let index = (part * last as f64).round() as usize;
            Some(f64::from(self.latencies[index]) / 1000.0)
        };
        json!({
            "seconds": elapsed.as_secs_f64(),
            "done": self.latencies.len(),
            "per_second": self.latencies.len() as f64 / elapsed.as_secs_f64(),
            "p50_ms": quantile(0.5),
            "p90_ms": quantile(0.9),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
            "failed": self.others,
            "example": self.example,
        })
    }
}
