//! Renewing that the app is in use: when it is done, what it allows, and where
//! it is written when one place is forbidden.

use std::time::Duration;

use super::fixture::{Fixture, MOMENT, TTL, read, renew, scale, with_token, without_token, write};
use crate::cluster::{LeaseStore, Outcome, Request};
use crate::policy::lease::Lease;
use crate::policy::{Change, Command, Phase};

#[test]
fn while_awake_the_first_connection_renews_and_the_next_ask_for_nothing() {
    let mut fixture = Fixture::awake();
    assert!(!fixture.gate());
    fixture.opens(1);
    assert_eq!(fixture.asked(), [renew()]);
    assert!(!fixture.gate());
    fixture.passes(MOMENT);
    fixture.grants(1);
    assert!(fixture.gate());
    fixture.opens(100);
    assert!(fixture.gate());
    assert_eq!(fixture.asked(), []);
}

#[test]
fn the_gate_shuts_at_the_end_of_the_lease_and_a_new_renewal_opens_it() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.grants(1);
    fixture.hands_over();
    let (renewal, lease) = (Lease::renewal(TTL), Lease::length(TTL));
    fixture.passes(renewal);
    assert_eq!(
        fixture.asked().last(),
        Some(&renew()),
        "and the answer is late"
    );
    fixture.passes(lease - renewal - MOMENT);
    assert!(fixture.gate());
    fixture.passes(MOMENT);
    assert!(!fixture.gate());
    fixture.grants(1);
    assert!(fixture.gate());
    fixture.passes(renewal);
    assert!(!fixture.gate(), "it is counted from when it was sent");
}

#[test]
fn while_a_connection_lives_the_renewal_is_renewed_every_quarter_of_the_ttl() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.grants(1);
    fixture.hands_over();
    fixture.passes_quietly(TTL * 10 + MOMENT);
    assert_eq!(fixture.renewed, 41);
}

#[test]
fn the_last_close_renews_once_more() {
    let mut fixture = Fixture::awake();
    fixture.opens(2);
    fixture.grants(1);
    fixture.hands_over();
    fixture.passes_quietly(TTL / 5);
    fixture.commands();
    fixture.closes_all();
    assert_eq!(fixture.asked(), [renew()]);
    fixture.grants(1);
    fixture.passes_quietly(TTL - MOMENT);
    assert_eq!(fixture.renewed, 2, "and then no more");
}

#[test]
fn who_comes_after_somebody_has_left_a_wake_is_renewed_at_once() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.answers(with_token(0, "9", "ours"));
    fixture.closes_all();
    fixture.opens(1);
    fixture.commands();
    fixture.answers(scale(2, "10"));
    assert_eq!(fixture.asked(), [renew()]);
}

#[test]
fn a_renewal_that_finds_the_app_asleep_wakes_it() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.answers(with_token(0, "9", "ours"));
    assert!(!fixture.gate());
    assert_eq!(fixture.asked(), [renew(), write(2, "9")]);
}

#[test]
fn where_the_status_may_not_be_patched_an_annotation_serves_and_where_neither_may_nothing_is_held()
{
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.commands();
    fixture.answers(Outcome::Forbidden);
    let store = LeaseStore::Annotation;
    assert_eq!(
        fixture.commands().first(),
        Some(&Command::Report(Change::LeaseLocation(Some(store))))
    );
    assert!(!fixture.gate());
    fixture.answers(Outcome::Forbidden);
    assert_eq!(fixture.said(), [Change::LeaseLocation(None)]);
    assert!(fixture.gate());
}

fn forbidden_everywhere_and_starting() -> Fixture {
    let mut fixture = Fixture::asleep();
    fixture.opens(1);
    fixture.commands();
    fixture.answers(without_token(2, "8")); // scaled up; now Starting
    fixture
}

#[test]
fn where_renewing_is_forbidden_a_cold_start_does_not_spin() {
    let mut fixture = forbidden_everywhere_and_starting();
    assert!(matches!(fixture.policy.phase, Phase::Starting { .. }));
    assert!(matches!(
        fixture.in_flight(),
        Some(Request::RenewLease { .. })
    ));
    fixture.answers(Outcome::Forbidden);
    assert!(matches!(
        fixture.in_flight(),
        Some(Request::RenewLease { .. })
    ));
    fixture.answers(Outcome::Forbidden);
    for _ in 0..40 {
        fixture.passes(Duration::from_millis(100));
        if fixture.in_flight() == Some(read()) {
            fixture.answers(without_token(2, "8"));
        }
        let next = fixture.policy.poll_timeout().unwrap();
        assert!(
            next > fixture.now,
            "due {:?} ago, phase {:?}",
            fixture.now.since(next),
            fixture.policy.phase
        );
    }
}

#[test]
fn one_refusal_does_not_stand_for_five_minutes_after_renewing_has_worked() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.commands();
    fixture.grants(1);
    fixture.hands_over();
    // the renewal meets an API server that has just started (403 until RBAC has synced)
    while !matches!(fixture.in_flight(), Some(Request::RenewLease { .. })) {
        let due = fixture.policy.poll_timeout().unwrap();
        fixture.passes(due.since(fixture.now));
        if fixture.in_flight() == Some(read()) {
            fixture.answers_as_before();
        }
    }
    fixture.answers(Outcome::Forbidden);
    let start = fixture.now;
    while !matches!(fixture.in_flight(), Some(Request::RenewLease { .. })) {
        let due = fixture.policy.poll_timeout().unwrap();
        fixture.passes(due.since(fixture.now));
        if fixture.in_flight() == Some(read()) {
            fixture.answers_as_before();
        }
    }
    assert!(
        fixture.now.since(start) < TTL,
        "a connection is open, and for {:?} nothing tells the others",
        fixture.now.since(start)
    );
}
