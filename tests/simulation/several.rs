//! Several apps of the same processes: what happens to one shows nowhere at another. Beside others
//! that sleep and to which nothing happens, its run is the same to the last event.

use zpa::clock::Time;

use crate::plan::{Action, Plan};
use crate::shrink::play;
use crate::totals::Totals;
use crate::world::{End, Line};

/// How many runs are compared.
const SEEDS: u64 = 20;

/// A rollout is left out: a process ends when all of its apps have drained.
fn without_rollouts(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    plan.actions
        .retain(|step| !matches!(step.action, Action::Rollout(_)));
    plan
}

/// What happens to one of the apps up to the last action. A run goes on after it for as long as
/// its longest TTL takes.
fn lines_of(end: &End, app: usize, horizon: Time) -> Vec<&Line> {
    let of_app = |line: &&Line| line.app == Some(app) && line.at <= horizon;
    end.trace.iter().filter(of_app).collect()
}

#[test]
fn what_happens_to_one_app_shows_nowhere_at_another_of_the_same_process() {
    let (mut totals, mut compared) = (Totals::default(), 0);
    for seed in 0..SEEDS {
        let plan = without_rollouts(seed);
        if plan.apps.len() == 1 {
            continue;
        }
        let together = play(&plan, true);
        assert_eq!(together.violation, None, "seed {seed}");
        for app in plan.apps.iter().map(|app| app.number) {
            let calm = play(&plan.calm_beside(app), true);
            let horizon = Time::new(plan.horizon);
            let [calm, together] = [&calm, &together].map(|end| lines_of(end, app, horizon));
            let mut lines = calm.iter().zip(&together);
            if let Some((calm, troubled)) = lines.find(|(calm, troubled)| calm != troubled) {
                panic!("seed {seed}, app {app}: {troubled:?} in place of {calm:?}");
            }
            assert_eq!(calm.len(), together.len(), "seed {seed}, app {app}");
            compared += together.len();
        }
        totals.add(together.totals);
    }
    println!("{compared} lines, {totals}");
    assert!(totals.apps > SEEDS && totals.wakes > SEEDS, "{totals}");
    for fault in ["permissions missing for all", "pods never ready"] {
        assert!(totals.faults.contains_key(fault), "{totals}");
    }
}
