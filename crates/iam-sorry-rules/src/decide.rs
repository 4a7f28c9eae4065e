//! Decisions as requests get them.

use crate::decision::{Decision, Explanation};
use crate::evaluate::with_guardrails_after;
use crate::guardrails;
use crate::input::{AuthzInput, SHORTEST_SECONDS};
use crate::rule_set::RuleSet;

impl RuleSet {
    /// Decides. Without a duration, credentials are decided for the shortest: whether they are allowed at all.
    pub fn decide(&self, input: &AuthzInput<'_>) -> Decision {
        let refusals = guardrails::before(&self.bounds, input);
        if !refusals.is_empty() {
            return Decision { allowed: false, reasons: refusals };
        }
        let seconds = input.duration_seconds.unwrap_or(SHORTEST_SECONDS);
        let most = self.most_seconds(input.action, input.resource);
        let evaluated =
            self.prepare(input).and_then(|prepared| self.run(&prepared, input, seconds.min(most)));
        match evaluated {
            Ok(decision) => with_guardrails_after(&self.bounds, input, seconds, most, decision),
            Err(problem) => {
                Decision { allowed: false, reasons: vec![guardrails::guardrail("request", problem.0)] }
            }
        }
    }

    /// Decides as a request is decided, durations being cut rather than refused, and says more about it.
    pub fn explain(&self, input: &AuthzInput<'_>) -> Explanation {
        let considered = self.prepare(input).map_or(0, |p| {
            let slices = p.slices.iter();
            slices.map(|slice| slice.num_of_policies()).sum()
        });
        let considered = (considered, self.rules.len());
        let (decision, longest_seconds) = self.evaluate(input);
        Explanation { decision, longest_seconds, considered }
    }

    /// Decides as a request is decided: durations are cut rather than refused, and if there is none, it is the longest
    /// that is allowed. The seconds are those of credentials that may be issued. A refusal of credentials says why not even
    /// the shortest are allowed.
    pub fn evaluate(&self, input: &AuthzInput<'_>) -> (Decision, Option<u32>) {
        if !input.action.has_duration() {
            return (self.decide(input), None);
        }
        let wanted = input.duration_seconds.unwrap_or(u32::MAX);
        match self.max_duration(input, wanted, SHORTEST_SECONDS) {
            Some((seconds, decision)) => (decision, Some(seconds)),
            None => {
                let duration_seconds = Some(wanted.min(SHORTEST_SECONDS));
                (self.decide(&AuthzInput { duration_seconds, ..*input }), None)
            }
        }
    }
}
