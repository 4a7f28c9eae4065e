//! Durations are cut, not refused: the longest that the rules and guardrails allow.

use crate::decision::{Decision, Reason, ReasonKind};
use crate::evaluate::{Prepared, with_guardrails_after};
use crate::guardrails;
use crate::input::AuthzInput;
use crate::rule_set::RuleSet;
use iam_sorry_core::timestamp::human_duration;

/// At most so many durations that rules mention are tried, the longest first.
const MOST_TRIED: usize = 64;

impl RuleSet {
    /// The longest duration in seconds, `at_least` to `asked`, that rules and guardrails allow, with the decision on it;
    /// where it is shorter than asked, the decision says so and why (`u32::MAX` asks for the longest there is, which is
    /// no cut). None where not even `at_least` is allowed, or
    /// where only durations between numbers that no rule mentions would be: then [`RuleSet::decide`] says why not.
    ///
    /// A rule that compares the duration with a number changes its answer at that number only, so the numbers that rules
    /// and context mention are tried; bisection in steps of a minute finds what rules that calculate leave. Whatever is
    /// returned was decided itself, as a whole: nothing is inferred.
    pub fn max_duration(&self, input: &AuthzInput<'_>, asked: u32, at_least: u32) -> Option<(u32, Decision)> {
        let most = self.most_seconds(input.action, input.resource);
        let top = asked.min(most);
        if top < at_least || !guardrails::before(&self.bounds, input).is_empty() {
            return None;
        }
        let prepared = self.prepare(input).ok()?;
        let mut search = Search { rules: self, prepared, input, most, shortest_refused: None };
        let (seconds, mut decision) = search.run(top, at_least)?;
        if seconds < asked && asked != u32::MAX {
            let (rule, why) = match search.shortest_refused {
                Some((_, refusal)) => (refusal.rule_names().join(", "), refusal.texts().join("; ")),
                None => ("guardrail:duration".into(), format!("guardrail duration: at most {most} seconds")),
            };
            let text = format!("cut from {} to {}: {why}", human(asked), human(seconds));
            decision.reasons.push(Reason { kind: ReasonKind::Cut, rule, file: String::new(), text });
        }
        Some((seconds, decision))
    }
}

fn human(seconds: u32) -> String {
    if seconds.is_multiple_of(60) { human_duration(i64::from(seconds)) } else { format!("{seconds} seconds") }
}

struct Search<'a> {
    rules: &'a RuleSet,
    prepared: Prepared<'a>,
    input: &'a AuthzInput<'a>,
    most: u32,
    shortest_refused: Option<(u32, Decision)>,
}

impl Search<'_> {
    fn run(&mut self, top: u32, at_least: u32) -> Option<(u32, Decision)> {
        if let Some(decision) = self.allows(top) {
            return Some((top, decision));
        }
        let (mentioned, exact) = self.mentioned(top, at_least);
        let mut refused = top;
        let mut best = None;
        for seconds in mentioned {
            if let Some(decision) = self.allows(seconds) {
                best = Some((seconds, decision));
                break;
            }
            refused = seconds;
        }
        let (mut seconds, mut decision) = match best {
            Some(best) if exact => return Some(best),
            Some(best) => best,
            None => (at_least, self.allows(at_least)?),
        };
        // Between `seconds` (allowed) and `refused` (not), in whole minutes.
        let (mut low, mut high) = (seconds / 60, refused.div_ceil(60));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.allows(middle * 60) {
                Some(longer) => (low, seconds, decision) = (middle, middle * 60, longer),
                None => high = middle,
            }
        }
        Some((seconds, decision))
    }

    fn allows(&mut self, seconds: u32) -> Option<Decision> {
        let decision = self.rules.run(&self.prepared, self.input, seconds).ok()?;
        let decision = with_guardrails_after(&self.rules.bounds, self.input, seconds, self.most, decision);
        if decision.allowed {
            return Some(decision);
        }
        if self.shortest_refused.as_ref().is_none_or(|(shortest, _)| seconds < *shortest) {
            self.shortest_refused = Some((seconds, decision));
        }
        None
    }

    /// The durations at which a rule could change its answer (the number itself for `<=`, one less for `<`), longest
    /// first, and whether these are all there are.
    fn mentioned(&self, top: u32, at_least: u32) -> (Vec<u32>, bool) {
        let mut exact = true;
        // What else in the context is a whole number; the hour and the weekday are shorter than any session.
        let mut numbers = vec![i64::try_from(self.input.sign_in_age_seconds).unwrap_or(i64::MAX)];
        for rule in self.rules.rules_in(&self.prepared) {
            exact &= !rule.calculates;
            numbers.extend(&rule.numbers);
        }
        let near = numbers.into_iter().flat_map(|n| [n, n.saturating_sub(1)]);
        let near = near.filter_map(|n| u32::try_from(n).ok());
        let mut all: Vec<u32> = near.filter(|n| (at_least..top).contains(n)).chain([at_least]).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.dedup();
        exact &= all.len() <= MOST_TRIED;
        all.truncate(MOST_TRIED);
        (all, exact)
    }
}
