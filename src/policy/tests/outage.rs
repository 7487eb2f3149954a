//! An API server that does not answer, or does so again: who is let through
//! all the same, and who must have the time to renew before the app sleeps.

use std::time::Duration;

use super::fixture::{Fixture, LOST, MOMENT, TTL, renew, scale};
use crate::backoff;
use crate::cluster::Outcome;
use crate::policy::{Change, MAX_PAUSE_WAITING, POLL, Phase, lease};

#[test]
fn an_api_server_that_is_down_while_awake_puts_nothing_to_sleep() {
    let mut fixture = Fixture::awake();
    for outcome in [
        Outcome::Unreachable,
        LOST,
        Outcome::Forbidden,
        Outcome::Unauthorized,
    ] {
        fixture.passes(backoff::MAX_PAUSE);
        fixture.answers(outcome);
    }
    fixture.passes(TTL);
    fixture.answers(LOST);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.opens(1);
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn an_api_server_that_comes_back_as_the_ttl_ends_cuts_nobody_who_could_not_renew() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL - POLL);
    fixture.answers(LOST);
    fixture.passes(POLL);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.answers(scale(1, "5"));
    assert_eq!(fixture.policy.phase, Phase::Awake, "it was out of reach");
    fixture.passes_quietly(POLL * 2 - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes(MOMENT);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.commands();
    fixture.answers(scale(1, "5"));
    fixture.announces_that_nobody_is_there("5", "6");
}

#[test]
fn after_half_a_ttl_without_an_answer_a_whole_ttl_begins() {
    let mut fixture = Fixture::awake();
    fixture.passes(TTL);
    fixture.answers(scale(1, "1"));
    assert_eq!(
        fixture.policy.phase,
        Phase::Awake,
        "others may need a lease"
    );
    fixture.passes_quietly(TTL - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(MOMENT * 2);
    assert_ne!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn nobody_is_let_through_without_lease_before_it_was_tried() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    for _ in 0..20 {
        fixture.answers(LOST);
        fixture.passes_unanswered(MAX_PAUSE_WAITING);
    }
    assert!(
        fixture.policy.gate_open(fixture.now),
        "the server does not answer"
    );
    fixture.hands_over();
    fixture.closes_all();
    fixture.passes(MAX_PAUSE_WAITING);
    fixture.answers(LOST);
    fixture.passes(Duration::from_secs(11));
    assert!(
        !fixture.policy.gate_open(fixture.now),
        "it may answer again"
    );
    fixture.commands();
    fixture.opens(1);
    assert_eq!(fixture.asked(), [renew()]);
}

#[test]
fn when_renewing_fails_for_two_seconds_connections_are_let_through_and_it_is_said() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.answers(Outcome::Unreachable);
    fixture.passes(lease::FAIL_OPEN_AFTER - MOMENT);
    assert!(!fixture.gate());
    fixture.commands();
    fixture.passes(MOMENT);
    assert!(fixture.gate());
    assert_eq!(fixture.changes(), [Change::WithoutLease { waiting: 1 }]);
    fixture.hands_over();
    fixture.opens(1);
    assert!(
        fixture.gate(),
        "the next one is not held for another two seconds"
    );
}

#[test]
fn an_api_server_that_does_not_answer_at_all_lets_connections_through_as_well() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.passes(lease::FAIL_OPEN_AFTER);
    assert!(fixture.gate());
}

#[test]
fn no_failure_opens_the_gate_of_an_app_that_is_known_to_be_asleep() {
    let mut fixture = Fixture::waking();
    fixture.answers(Outcome::Unreachable);
    fixture.pods(true);
    fixture.passes(lease::FAIL_OPEN_AFTER * 10);
    assert!(!fixture.gate());
}

#[test]
fn who_comes_while_the_outcome_of_the_sleep_is_unknown_waits_no_longer_than_the_pause_for_waiters()
{
    let mut fixture = Fixture::scaling_down();
    fixture.answers(LOST);
    for _ in 0..12 {
        fixture.passes(fixture.pause());
        fixture.answers(Outcome::Unreachable);
    }
    fixture.opens(1);
    let pause = fixture.pause();
    assert!(pause <= MAX_PAUSE_WAITING, "{pause:?}");
}

#[test]
fn an_api_server_that_goes_down_as_the_app_falls_asleep_does_not_shut_the_gate_for_ever() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(LOST);
    fixture.opens(1);
    fixture.answers(Outcome::Unreachable);
    fixture.passes(lease::FAIL_OPEN_AFTER);
    assert!(fixture.gate());
}
