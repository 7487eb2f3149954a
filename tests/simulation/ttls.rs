//! Scenarios with unequal idle TTLs.

use std::time::Duration;

use crate::oracle::ClientResult;
use crate::plan::{Action, Plan};
use crate::scenarios::{TTL, at, for_as_long_as, ms, once, play_well, sleeps};

/// The first places have these TTLs, the others `TTL`.
fn with_shorter(seed: u64, slots: usize, shorter: &[Duration]) -> Plan {
    let mut plan = Plan::quiet(seed, slots, TTL);
    plan.apps[0].shorter = shorter.iter().copied().enumerate().collect();
    plan
}

#[test]
fn a_proxy_with_a_shorter_ttl_respects_the_longer_lease_that_it_has_seen() {
    for moment in 0..40 {
        let comes = ms(1_000 + moment * 250);
        let plan = with_shorter(moment, 2, &[TTL / 3])
            .with(comes, Action::Connect(1, for_as_long_as(TTL * 4)));
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            1,
            "came at {comes:?}"
        );
        let slept = sleeps(&end)[0].at;
        assert!(slept >= at(comes + TTL * 5), "slept at {slept:?}");
    }
}

/// The renewals of both come at the same moments, again and again: those of the shorter
/// lease hide the longer one for longer than it is remembered.
#[test]
fn a_shorter_lease_that_is_renewed_at_the_same_moments_hides_no_longer_one() {
    let shorter = TTL / 4;
    for moment in 0..40 {
        let comes = ms(5_000);
        let mut plan = with_shorter(moment, 2, &[shorter])
            .with(comes, Action::Connect(1, for_as_long_as(TTL * 8)));
        let first = comes + ms(moment * 10);
        let last = first + TTL * 4;
        let mut at = first;
        while at < last {
            plan = plan.with(at, Action::Connect(0, once()));
            at += shorter;
        }
        let clients = plan.actions.len() as u64;
        let end = play_well(&plan);
        let label = format!("{moment}: {:?}", end.totals.results);
        assert_eq!(end.totals.count(ClientResult::Served), clients, "{label}");
    }
}

/// The longest lease was seen first and is forgotten first; the one between is renewed
/// all the while.
#[test]
fn of_three_ttls_the_one_between_is_respected_when_the_longest_is_over() {
    for moment in 0..20 {
        let [short, middle] = [TTL / 5, TTL / 2];
        let comes = ms(2_000 + moment * 100);
        let plan = with_shorter(moment, 3, &[short, middle])
            .with(comes, Action::Connect(2, once()))
            .with(comes + ms(50), Action::Connect(1, for_as_long_as(TTL * 6)));
        let end = play_well(&plan);
        let label = format!("{moment}: {:?}", end.totals.results);
        assert_eq!(end.totals.count(ClientResult::Served), 2, "{label}");
    }
}

#[test]
fn connections_through_both_at_the_same_time_cut_nobody_off() {
    for moment in 0..20 {
        let mut plan = with_shorter(moment, 2, &[TTL / 3])
            .with(ms(5_000), Action::Connect(1, for_as_long_as(TTL * 4)));
        for time in 0..30 {
            let comes = ms(5_000 + moment * 50) + TTL / 4 * time;
            plan = plan.with(comes, Action::Connect(0, once()));
        }
        let end = play_well(&plan);
        assert_eq!(end.totals.count(ClientResult::Served), 31);
    }
}

#[test]
fn a_proxy_with_a_shorter_ttl_alone_sleeps_after_its_own() {
    let end = play_well(&with_shorter(1, 2, &[TTL / 3]));
    let slept = sleeps(&end)[0].at;
    assert!(
        slept >= at(TTL / 3) && slept < at(TTL / 2),
        "slept at {slept:?}"
    );
}
