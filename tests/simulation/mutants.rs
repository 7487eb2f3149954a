//! Tests of the oracle: simulations with one fault in a proxy or in the cluster, each of which a
//! rule must detect.

use std::collections::BTreeSet;

use crate::deployment::Flaws;
use crate::oracle::SLEEPS;
use crate::plan::{Mutant, Plan};
use crate::shrink::play;

/// Enough for each of them.
const SEEDS: u64 = 100;

/// The rules that are broken in the runs of the first seeds, one after the other.
fn broken(change: impl Fn(&mut Plan)) -> impl Iterator<Item = &'static str> {
    (0..SEEDS).filter_map(move |seed| {
        let mut plan = Plan::draw(seed);
        change(&mut plan);
        play(&plan, false).violation.map(|violation| violation.rule)
    })
}

/// That the rule is broken where a process has several apps, and none where it has one.
#[track_caller]
fn assert_noticed_beside_others(rule: &str, mutant: Mutant) {
    assert_noticed(rule, |plan| plan.mutant = mutant);
    let alone = |plan: &mut Plan| {
        *plan = plan.alone(0);
        plan.mutant = mutant;
    };
    assert_eq!(broken(alone).next(), None, "by one app alone");
}

#[track_caller]
fn assert_noticed(rule: &str, change: impl Fn(&mut Plan)) {
    let mut others = BTreeSet::new();
    for broken in broken(change) {
        if broken == rule {
            return;
        }
        others.insert(broken);
    }
    panic!("{rule} is not among {others:?}");
}

#[test]
fn a_server_that_ignores_guards_is_noticed() {
    let rule = "nobody sleeps under the lease of another";
    assert_noticed(rule, |plan| plan.flaws.ignores_guards = true);
}

#[test]
fn renewals_that_are_not_written_are_noticed() {
    let rule = "nobody sleeps under the lease of another";
    assert_noticed(rule, |plan| plan.flaws.forgets_renewals = true);
}

#[test]
fn an_app_that_cannot_be_woken_is_noticed() {
    let rule = "who is held is served";
    assert_noticed(rule, |plan| plan.flaws.refuses_wakes = true);
}

#[test]
fn an_app_that_never_sleeps_is_noticed() {
    let rule = SLEEPS;
    let flaws = Flaws {
        refuses_sleeps: true,
        ..Flaws::default()
    };
    assert_noticed(rule, |plan| plan.flaws = flaws);
}

#[test]
fn a_proxy_that_does_not_see_its_connections_is_noticed() {
    let rule = "who is held is served";
    assert_noticed(rule, |plan| plan.mutant = Mutant::NoCounts);
}

#[test]
fn a_gate_that_is_never_shut_is_noticed() {
    let rule = "nothing is forwarded without a lease";
    assert_noticed(rule, |plan| plan.mutant = Mutant::Gateless);
}

#[test]
fn a_clock_that_runs_twice_as_fast_is_noticed() {
    let rule = "the app sleeps no sooner than a TTL after the last connection";
    assert_noticed(rule, |plan| plan.mutant = Mutant::Fast);
}

#[test]
fn a_proxy_that_asks_everything_eight_times_is_noticed() {
    let rule = "requests per minute have a ceiling";
    assert_noticed(rule, |plan| plan.mutant = Mutant::Eager);
}

/// A pod that takes no connection has the fewest, so that such a proxy prefers it.
#[test]
fn a_choice_that_prefers_the_failing_pod_is_noticed() {
    let rule = "nobody waits for a pod that has failed beside another";
    assert_noticed(rule, |plan| plan.mutant = Mutant::Forgetful);
}

/// As one whose first refusal is confirmed: it goes on without a lease for minutes.
#[test]
fn a_refusal_that_is_confirmed_at_once_is_noticed() {
    let rule = "nothing is forwarded without a lease";
    assert_noticed(rule, |plan| plan.flaws.confirms_at_once = true);
}

#[test]
fn a_lease_that_cannot_be_read_and_is_taken_for_none_is_noticed() {
    let rule = "nobody sleeps under the lease of another";
    assert_noticed(rule, |plan| plan.flaws.hides_leases = true);
}

#[test]
fn a_longer_lease_that_is_taken_for_a_short_one_is_noticed() {
    let rule = "nobody sleeps under the lease of another";
    assert_noticed(rule, |plan| plan.flaws.hides_ttls = true);
}

#[test]
fn a_port_that_is_lost_without_notice_is_detected() {
    let rule = "who could not wake the app does not put it to sleep";
    assert_noticed(rule, |plan| plan.flaws.hides_ports = true);
}

#[test]
fn a_proxy_that_waits_for_a_reply_for_too_long_is_noticed() {
    let rule = "no reply holds a client for longer than 5 s";
    assert_noticed(rule, |plan| plan.mutant = Mutant::Late);
}

#[test]
fn a_loop_that_never_waits_is_noticed() {
    assert_noticed("the loop does not spin", |plan| plan.mutant = Mutant::Busy);
}

#[test]
fn replies_that_reach_another_app_are_noticed() {
    let rule = "a proxy with connections uses the lease that it has renewed";
    assert_noticed_beside_others(rule, Mutant::Misrouting);
}

#[test]
fn a_gate_that_is_that_of_all_apps_is_noticed() {
    let rule = "nothing is forwarded without a lease";
    assert_noticed_beside_others(rule, Mutant::OneGate);
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let trace = |seed| play(&Plan::draw(seed), true).trace;
    for seed in 0..5 {
        assert!(trace(seed) == trace(seed), "seed {seed}");
    }
}
