//! Proxies with unequal idle TTLs, played on cue.

use std::collections::BTreeSet;

use crate::oracle::ClientResult;
use crate::plan::{Action, Plan};
use crate::scenarios::{TTL, at, for_as_long_as, ms, once, play_well, sleeps};

/// The first place has a third of the TTL of the others.
fn first_is_shorter(seed: u64, slots: usize) -> Plan {
    let mut plan = Plan::quiet(seed, slots, TTL);
    plan.shorter = Some((TTL / 3, BTreeSet::from([0])));
    plan
}

#[test]
fn a_proxy_with_a_shorter_ttl_respects_the_longer_lease_that_it_has_seen() {
    for moment in 0..40 {
        let comes = ms(1_000 + moment * 250);
        let plan =
            first_is_shorter(moment, 2).with(comes, Action::Connect(1, for_as_long_as(TTL * 4)));
        let end = play_well(&plan);
        assert_eq!(
            end.totals.told(ClientResult::Served),
            1,
            "came at {comes:?}"
        );
        let slept = sleeps(&end)[0].at;
        assert!(slept >= at(comes + TTL * 5), "slept at {slept:?}");
    }
}

#[test]
fn connections_through_both_at_the_same_time_cut_nobody_off() {
    for moment in 0..20 {
        let mut plan = first_is_shorter(moment, 2)
            .with(ms(5_000), Action::Connect(1, for_as_long_as(TTL * 4)));
        for time in 0..30 {
            let comes = ms(5_000 + moment * 50) + TTL / 4 * time;
            plan = plan.with(comes, Action::Connect(0, once()));
        }
        let end = play_well(&plan);
        assert_eq!(end.totals.told(ClientResult::Served), 31);
    }
}

#[test]
fn a_proxy_with_a_shorter_ttl_alone_sleeps_after_its_own() {
    let end = play_well(&first_is_shorter(1, 2));
    let slept = sleeps(&end)[0].at;
    assert!(
        slept >= at(TTL / 3) && slept < at(TTL / 2),
        "slept at {slept:?}"
    );
}
