//! Shrinks a failing plan, as long as it breaks the same rule.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use crate::oracle::Violation;
use crate::plan::Plan;
use crate::world::{End, World};
use crate::{totals::Totals, world};

/// How many runs are spent on one failure.
const MAX_RUNS: usize = 3000;

/// Plays a plan; a panic in the code under test is a broken rule like others.
pub fn play(plan: &Plan, with_trace: bool) -> End {
    let played = panic::catch_unwind(AssertUnwindSafe(|| World::play(plan, with_trace)));
    played.unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or(why.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        world::End {
            totals: Totals::default(),
            history: Vec::new(),
            violation: Some(Violation {
                at: zpa::clock::Time::new(plan.horizon),
                rule: "nothing panics",
                what: text.unwrap_or_default(),
            }),
            trace: Vec::new(),
        }
    })
}

/// The smallest plan found that breaks the rule that `plan` breaks.
pub fn shrink(plan: &Plan, violation: &Violation) -> Plan {
    let mut search = Search {
        best: plan.clone(),
        rule: violation.rule,
        left: MAX_RUNS,
    };
    search.leave_out_apps();
    search.cut_off(violation);
    search.simplify();
    let mut size = search.best.actions.len() / 2;
    while size > 0 {
        search.drop_pieces(size);
        size /= 2;
    }
    search.drop_pieces(1);
    search.best
}

struct Search {
    best: Plan,
    rule: &'static str,
    left: usize,
}

impl Search {
    /// Takes `smaller` if it still fails.
    fn attempt(&mut self, smaller: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let violation = play(&smaller, false).violation;
        let same = violation.is_some_and(|found| found.rule == self.rule);
        if same {
            self.best = smaller;
        }
        same
    }

    /// Leaves out the apps that have nothing to do with it.
    fn leave_out_apps(&mut self) {
        for app in self.best.apps.clone() {
            let mut fewer = self.best.clone();
            fewer.leave_out(app.number);
            if !fewer.apps.is_empty() {
                self.attempt(fewer);
            }
        }
    }

    /// Nothing that is done after the failure has led to it.
    fn cut_off(&mut self, violation: &Violation) {
        let mut shorter = self.best.clone();
        shorter.actions.retain(|step| step.at <= violation.at);
        let last = violation.at.since(zpa::clock::Time::default());
        shorter.horizon = last.min(shorter.horizon);
        self.attempt(shorter);
    }

    /// Leaves out what is not an action.
    fn simplify(&mut self) {
        let simplifications: [fn(&mut Plan); 5] = [
            |plan| plan.drift = 0.0,
            |plan| plan.apps.iter_mut().for_each(|app| app.noise = 0.0),
            |plan| {
                plan.apps
                    .iter_mut()
                    .for_each(|app| app.critical_clients = 0.0)
            },
            |plan| plan.apps.iter_mut().for_each(|app| app.fallback = false),
            |plan| plan.apps.iter_mut().for_each(|app| app.shorter.clear()),
        ];
        for simplify in simplifications {
            let mut simpler = self.best.clone();
            simplify(&mut simpler);
            self.attempt(simpler);
        }
    }

    /// Leaves out `size` actions at a time.
    fn drop_pieces(&mut self, size: usize) {
        let mut from = 0;
        while from < self.best.actions.len() {
            let mut smaller = self.best.clone();
            let to = (from + size).min(smaller.actions.len());
            smaller.actions.drain(from..to);
            if !self.attempt(smaller) {
                from += size;
            }
        }
    }
}

/// Seconds with a fraction, for a trace.
pub fn seconds(at: zpa::clock::Time) -> f64 {
    let since: Duration = at.since(zpa::clock::Time::default());
    since.as_secs_f64()
}
