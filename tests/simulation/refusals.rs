//! Scenarios with refusals: 401 and 403, for a moment or for good, at start and later, to one proxy
//! or to all. None cuts a connection, and none makes a client wait longer than it lasts, plus a
//! pause.

use crate::deployment::{Permissions, Who};
use crate::oracle::ClientResult;
use crate::plan::{Action, Plan};
use crate::scenarios::{TTL, at, for_as_long_as, ms, once, play_well, sleeps};
use crate::trouble::Trouble;
use crate::world::End;

const REFUSALS: [Trouble; 2] = [Trouble::Unauthorized, Trouble::Forbidden];

/// Everybody was served, and nobody without a lease.
#[track_caller]
fn assert_all_served(end: &End, clients: u64, label: &str) {
    assert_eq!(end.totals.count(ClientResult::Served), clients, "{label}");
    assert_eq!(
        end.totals.results.len(),
        1,
        "{label}: {:?}",
        end.totals.results
    );
}

/// Both proxies are started again while everything is refused to them, as by an API
/// server that has just started.
#[test]
fn proxies_that_start_while_everything_is_refused_serve_soon_after_and_cut_nobody() {
    for trouble in REFUSALS {
        for refused in [ms(50), ms(1000), ms(3000), ms(25_000)] {
            let start = TTL;
            let back = start + refused;
            let plan = Plan::quiet(1, 2, TTL)
                .with(start, Action::Hit(None, trouble, refused))
                .with(start + ms(1), Action::Kill(0, ms(10)))
                .with(start + ms(1), Action::Kill(1, ms(10)))
                .with(
                    back + ms(12_000),
                    Action::Connect(0, for_as_long_as(TTL * 3)),
                )
                .with(back + ms(13_000), Action::Connect(1, once()));
            let end = play_well(&plan);
            assert_all_served(&end, 2, &format!("{trouble:?} for {refused:?}"));
        }
    }
}

#[test]
fn one_refusal_of_the_first_read_makes_nobody_sleep_under_a_connection_of_another() {
    for trouble in REFUSALS {
        let start = TTL;
        let mut plan = Plan::quiet(1, 2, TTL)
            .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 6)))
            .with(start, Action::Hit(Some(1), trouble, ms(100)))
            .with(start + ms(1), Action::Kill(1, ms(10)));
        plan.apps[0].role = Permissions::ALL;
        assert_all_served(&play_well(&plan), 1, &format!("{trouble:?}"));
    }
}

#[test]
fn one_refusal_of_the_first_renewal_makes_nobody_sleep_under_that_connection() {
    for trouble in REFUSALS {
        for role in [Permissions::SHIPPED, Permissions::ALL] {
            let comes = ms(10_000);
            let mut plan = Plan::quiet(1, 2, TTL)
                .with(comes - ms(1), Action::Hit(Some(0), trouble, ms(1000)))
                .with(comes, Action::Connect(0, for_as_long_as(TTL * 4)));
            plan.apps[0].role = role;
            assert_all_served(&play_well(&plan), 1, &format!("{trouble:?}"));
        }
    }
}

#[test]
fn a_poll_that_is_refused_while_asleep_costs_the_next_wake_nothing() {
    for trouble in REFUSALS {
        let refused = ms(11_000);
        let mut plan = Plan::quiet(1, 1, TTL)
            .with(TTL, Action::Hit(None, trouble, refused))
            .with(TTL + refused + ms(1), Action::Scale(0, Who::Operator))
            .with(TTL + refused + ms(2), Action::Connect(0, once()));
        plan.apps[0].replicas = 0;
        assert_all_served(&play_well(&plan), 1, &format!("{trouble:?}"));
    }
}

/// The permission comes back after minutes, and what it is for is done again within seconds.
#[test]
fn permissions_that_come_back_after_minutes_are_used_again_within_seconds() {
    for (label, permissions) in [
        ("none at all", Permissions::NONE),
        (
            "no leases written",
            Permissions {
                status: false,
                annotation: false,
                ..Permissions::ALL
            },
        ),
        (
            "nothing read",
            Permissions {
                read: false,
                read_scale: false,
                ..Permissions::ALL
            },
        ),
    ] {
        let (gone, away) = (ms(20_000), TTL * 3);
        let plan = Plan::quiet(1, 2, TTL)
            .with(gone, Action::Restrict(None, permissions, away))
            .with(
                gone + away + ms(12_000),
                Action::Connect(0, for_as_long_as(TTL * 2)),
            );
        let end = play_well(&plan);
        assert_all_served(&end, 1, label);
        let slept: Vec<_> = sleeps(&end).iter().map(|change| change.at).collect();
        assert!(
            slept.iter().all(|slept| *slept > at(gone + away)),
            "{label}: {slept:?}"
        );
        assert!(!slept.is_empty(), "{label}: in the end it sleeps");
    }
}

#[test]
fn where_nobody_may_write_a_lease_the_app_stays_awake_and_nobody_is_cut_off() {
    let permissions = Permissions {
        status: false,
        annotation: false,
        ..Permissions::ALL
    };
    let gone = ms(20_000);
    let plan = Plan::quiet(1, 3, TTL)
        .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 8)))
        .with(gone, Action::Restrict(None, permissions, TTL * 12));
    let end = play_well(&plan);
    assert_eq!(end.totals.count(ClientResult::Served), 1);
    let slept: Vec<_> = sleeps(&end).iter().map(|change| change.at).collect();
    assert!(slept.iter().all(|slept| *slept > at(gone + TTL * 12)));
}
