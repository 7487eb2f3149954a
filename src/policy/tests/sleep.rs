//! From the last close to zero: the idle clock, the idle check, the write of
//! zero, and all that can come in between or of it.

use std::time::Duration;

use super::fixture::{
    Fixture, LOST, TTL, read, renew, renew_at, scale, with_token, without_token, write,
};
use crate::backoff;
use crate::cluster::{Outcome, Request};
use crate::policy::{Change, Config, POLL, Phase};

#[test]
fn just_before_the_idle_ttl_nothing_is_judged() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL - Duration::from_millis(1));
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn at_the_idle_ttl_it_is_read_and_renewed_once_more_and_zero_is_written_under_that_version() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.commands();
    fixture.answers(scale(1, "5"));
    fixture.announces_that_nobody_is_there("5", "6");
    assert!(!fixture.gate());
    fixture.answers(without_token(0, "7"));
    assert_eq!(fixture.changes(), [Change::SleepWritten { idle: TTL }]);
}

#[test]
fn an_open_connection_keeps_the_app_awake_for_ever() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.hands_over();
    fixture.passes_quietly(TTL * 50);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert!(!fixture.asked().contains(&write(0, "1")));
}

#[test]
fn the_idle_clock_starts_at_the_last_close() {
    let mut fixture = Fixture::awake();
    fixture.opens(2);
    fixture.hands_over();
    fixture.passes_quietly(TTL * 2);
    fixture.closes_all();
    fixture.passes_quietly(TTL - Duration::from_millis(1));
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(Duration::from_millis(1));
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

#[test]
fn a_connection_that_comes_and_goes_between_two_looks_starts_the_clock_again() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL - Duration::from_secs(1));
    fixture.connections.uses += 1;
    fixture.closes_all();
    fixture.passes_quietly(TTL - Duration::from_secs(1));
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn whatever_the_hpa_has_made_of_it_the_sleep_is_to_zero() {
    let mut fixture = Fixture::start();
    fixture.answers(scale(5, "1"));
    fixture.passes_quietly(TTL);
    fixture.commands();
    fixture.answers(scale(5, "2"));
    fixture.announces_that_nobody_is_there("2", "3");
}

#[test]
fn a_connection_during_the_idle_check_ends_it() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    fixture.commands();
    fixture.opens(1);
    assert_eq!(fixture.asked(), [renew()]);
    fixture.grants(1);
    assert!(fixture.gate());
    assert_eq!(fixture.asked(), []);
}

#[test]
fn a_connection_while_the_write_of_zero_is_on_its_way_is_held_and_wakes_the_app() {
    let mut fixture = Fixture::scaling_down();
    fixture.opens(1);
    assert!(!fixture.gate());
    assert_eq!(fixture.asked(), []);
    fixture.answers(scale(0, "6"));
    assert_eq!(
        fixture.asked(),
        [write(2, "6")],
        "under the version of our own write"
    );
}

#[test]
fn a_conflict_with_a_connection_waiting_lets_it_through_under_a_lease() {
    let mut fixture = Fixture::scaling_down();
    fixture.opens(1);
    fixture.answers(Outcome::Conflict);
    assert_eq!(fixture.asked(), [renew()]);
    fixture.grants(1);
    assert!(fixture.gate());
}

#[test]
fn a_storm_of_conflicts_is_met_with_pauses() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(Outcome::Conflict);
    fixture.answers(with_token(1, "9", "ours 1"));
    fixture.commands();
    fixture.answers(Outcome::Conflict);
    assert_eq!(fixture.asked(), []);
    assert!(fixture.policy.poll_timeout().unwrap() > fixture.now);
}

#[test]
fn after_a_lost_reply_it_reads_before_it_writes() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(LOST);
    assert!(!fixture.gate());
    assert_eq!(fixture.asked(), []);
    fixture.passes(backoff::MAX_PAUSE);
    assert_eq!(fixture.asked(), [read()]);
    fixture.answers(with_token(1, "6", "ours 1"));
    assert_eq!(fixture.asked(), [], "others may have to renew");
    fixture.passes_quietly(POLL * 2);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

#[test]
fn who_comes_after_a_lost_reply_is_renewed_which_shows_what_has_become_of_it() {
    for (replicas, next) in [(0, vec![write(2, "6")]), (1, vec![])] {
        let mut fixture = Fixture::scaling_down();
        fixture.answers(LOST);
        fixture.opens(1);
        assert!(!fixture.gate());
        assert_eq!(fixture.asked(), [renew()]);
        fixture.answers(with_token(replicas, "6", "ours"));
        assert_eq!(fixture.asked(), next);
        assert_eq!(fixture.gate(), replicas > 0);
    }
}

#[test]
fn a_write_of_zero_that_is_refused_leaves_the_app_awake() {
    for refusal in [
        Outcome::Forbidden,
        Outcome::Unreachable,
        Outcome::Busy { retry_after: None },
    ] {
        let mut fixture = Fixture::scaling_down();
        fixture.answers(refusal.clone());
        fixture.opens(1);
        fixture.grants(1);
        assert!(fixture.gate(), "{refusal:?}");
    }
}

#[test]
fn a_retry_after_is_waited_for() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(Outcome::Busy {
        retry_after: Some(Duration::from_secs(40)),
    });
    fixture.passes(Duration::from_secs(39));
    assert_eq!(fixture.asked(), []);
    fixture.passes(Duration::from_secs(1));
    assert_eq!(fixture.asked(), [read()]);
}

#[test]
fn a_last_renewal_that_fails_leaves_the_app_awake() {
    for (label, failure) in [
        ("renewed by another", Outcome::Conflict),
        ("refused", Outcome::Forbidden),
        ("refused, the token being replaced", Outcome::Unauthorized),
        ("lost", LOST),
    ] {
        let mut fixture = Fixture::awake();
        fixture.passes_quietly(TTL);
        fixture.answers(scale(1, "5"));
        assert_eq!(fixture.in_flight().map(|it| it.is_read()), Some(false));
        fixture.commands();
        fixture.answers(failure);
        fixture.passes(backoff::MAX_PAUSE);
        assert_eq!(fixture.asked(), [read()], "{label}");
        fixture.answers(with_token(1, "6", "another's"));
        assert_eq!(fixture.asked(), [], "{label}");
        assert_eq!(fixture.policy.phase, Phase::Awake, "{label}");
    }
}

#[test]
fn who_comes_during_the_last_renewal_is_let_through_under_it() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    fixture.answers(scale(1, "5"));
    fixture.commands();
    fixture.opens(1);
    assert_eq!(fixture.asked(), []);
    fixture.grants(1);
    assert!(fixture.gate());
}

#[test]
fn whoever_cannot_wake_the_app_does_not_put_it_to_sleep() {
    let mut fixture = Fixture::awake();
    fixture.policy.set_can_wake(false, fixture.now);
    fixture.passes_quietly(TTL * 3);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.policy.set_can_wake(true, fixture.now);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.policy.set_can_wake(false, fixture.now);
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn where_there_is_no_other_proxy_zero_is_written_under_the_version_just_read() {
    let config = Config {
        idle_ttl: TTL,
        single: true,
        ..Config::default()
    };
    let mut fixture = Fixture::start_with(config);
    fixture.answers(without_token(1, "1"));
    fixture.pods(true);
    fixture.opens(1);
    assert!(fixture.gate(), "no lease is needed");
    fixture.closes_all();
    fixture.commands();
    fixture.passes_quietly(TTL);
    fixture.answers(without_token(1, "5"));
    assert_eq!(fixture.asked().last(), Some(&write(0, "5")));
}

#[test]
fn a_conflict_after_the_last_renewal_leads_straight_to_zero_if_nobody_has_renewed_since() {
    for (label, token, is_over) in [
        ("our last renewal is shown still", "ours 1", true),
        ("somebody else has renewed", "theirs", false),
    ] {
        let mut fixture = Fixture::scaling_down();
        fixture.answers(Outcome::Conflict);
        assert_eq!(fixture.asked(), [read()], "{label}");
        fixture.answers(with_token(1, "8", token));
        let expected = is_over.then(|| write(0, "8"));
        assert_eq!(fixture.asked().last(), expected.as_ref(), "{label}");
    }
}

#[test]
fn a_sleep_that_begins_anew_makes_a_last_renewal_of_its_own() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(Outcome::Conflict);
    fixture.policy.set_can_wake(false, fixture.now);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.policy.set_can_wake(true, fixture.now);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.commands();
    fixture.answers(with_token(1, "8", "ours 1"));
    assert_eq!(fixture.asked(), [renew_at("8")]);
}

#[test]
fn any_other_failure_of_the_write_has_the_last_renewal_made_once_more() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(LOST);
    fixture.passes(fixture.pause());
    fixture.commands();
    assert_eq!(fixture.in_flight(), Some(read()));
    fixture.answers(with_token(1, "8", "ours 1"));
    assert!(!fixture.asked().contains(&write(0, "8")));
}

/// A Role without the scale, or an admission policy that wants a replica. Each attempt renews the
/// lease, which keeps the other proxies from the sleep.
#[test]
fn a_zero_that_is_refused_again_and_again_is_written_once_in_two_ttls() {
    for refusal in [Outcome::Forbidden, LOST] {
        let mut fixture = Fixture::awake();
        let end = fixture.now + TTL * 40;
        let mut attempts = Vec::new();
        while fixture.now < end {
            match fixture.in_flight() {
                Some(Request::WriteScale { replicas: 0, .. }) => {
                    attempts.push(fixture.now);
                    fixture.answers(refusal.clone());
                }
                Some(_) => fixture.answers_as_before(),
                None => fixture.passes(fixture.pause().max(Duration::from_millis(1))),
            }
            fixture.commands();
        }
        let gaps = attempts.windows(2).map(|pair| pair[1].since(pair[0]));
        let gaps: Vec<Duration> = gaps.skip(1).collect();
        assert!(gaps.len() > 10, "{refusal:?}: it is tried again: {gaps:?}");
        assert!(
            gaps.iter().all(|it| *it >= TTL * 2),
            "{refusal:?}: {gaps:?}"
        );
    }
}
