//! Renewing that the app is in use: when it is done, what it allows, and where
//! it is written when one place is forbidden.

use std::time::Duration;

use super::fixture::{
    Fixture, LOST, MOMENT, TTL, read, renew, renew_once_more, scale, with_token, without_token,
    write,
};
use crate::cluster::{LeaseStore, Outcome, Request};
use crate::policy::lease::Lease;
use crate::policy::{Change, Config, POLL, Phase};

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
    let (renewal, lease) = (Lease::renew_interval(TTL), Lease::duration(TTL));
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
    assert_eq!(fixture.asked(), [renew_once_more()]);
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

/// Answers what is asked for so long: renewals with a refusal where `refuses` says so,
/// and the rest as before.
fn refuses_renewals(fixture: &mut Fixture, time: Duration, refuses: impl Fn(LeaseStore) -> bool) {
    let end = fixture.now + time;
    while fixture.now < end {
        match fixture.in_flight() {
            Some(Request::RenewLease(renewal)) if refuses(renewal.store) => {
                fixture.answers(Outcome::Forbidden);
            }
            Some(_) => fixture.answers_as_before(),
            None => fixture.passes(fixture.pause()),
        }
    }
}

const LONG_ENOUGH: Duration = Duration::from_secs(40);

#[test]
fn where_the_status_may_not_be_patched_for_30_s_an_annotation_serves() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.hands_over();
    refuses_renewals(&mut fixture, LONG_ENOUGH, |store| {
        store == LeaseStore::Status
    });
    let store = LeaseStore::Annotation;
    assert_eq!(fixture.changes(), [Change::LeaseLocation(Some(store))]);
    fixture.passes_quietly(MOMENT);
    assert!(fixture.policy.has_lease(fixture.now));
    refuses_renewals(&mut fixture, TTL * 20, |store| store == LeaseStore::Status);
    assert_eq!(fixture.changes(), [], "no retry is worth a line");
    assert!(fixture.policy.has_lease(fixture.now));
}

#[test]
fn where_renewing_is_forbidden_connections_are_let_through_without_a_lease_and_none_sleeps() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    refuses_renewals(&mut fixture, LONG_ENOUGH * 2, |_| true);
    let changes = fixture.changes();
    assert_eq!(changes.last(), Some(&Change::LeaseLocation(None)));
    assert!(fixture.gate());
    assert!(!fixture.policy.has_lease(fixture.now), "it is counted");
    assert_eq!(fixture.policy.lease_left(fixture.now), Some(Duration::ZERO));
    fixture.hands_over();
    fixture.closes_all();
    refuses_renewals(&mut fixture, TTL * 20, |_| true);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert_eq!(fixture.changes(), [], "no retry is worth a line");
    fixture.opens(1);
    assert!(fixture.gate(), "and none shuts the gate");
    fixture.hands_over();
    fixture.closes_all();
    if fixture.in_flight().is_some() {
        fixture.answers_as_before();
    }
    fixture.passes_quietly(POLL * 2);
    assert!(fixture.policy.has_lease(fixture.now), "allowed again");
    fixture.passes_quietly(TTL * 2);
    assert_eq!(
        fixture.policy.phase,
        Phase::ConfirmingIdle,
        "and it may sleep"
    );
}

#[test]
fn where_renewing_is_forbidden_it_is_tried_each_ten_seconds_also_through_an_outage() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    refuses_renewals(&mut fixture, LONG_ENOUGH * 2, |_| true);
    assert_eq!(fixture.policy.lease_location(), None);
    fixture.hands_over();
    fixture.closes_all();
    let (mut last, end) = (fixture.now, fixture.now + TTL * 10);
    while fixture.now < end {
        match fixture.in_flight() {
            Some(Request::RenewLease(_)) => {
                let pause = fixture.now.since(last);
                assert!(pause <= POLL, "{pause:?}");
                last = fixture.now;
                fixture.answers(LOST);
            }
            Some(_) => fixture.answers(LOST),
            None => fixture.passes(fixture.pause()),
        }
    }
}

/// An API server that has just started refuses everything; a token that is being
/// replaced is answered with 401.
#[test]
fn one_refusal_of_the_first_renewal_costs_no_lease() {
    for refusal in [Outcome::Forbidden, Outcome::Unauthorized] {
        let mut fixture = Fixture::awake();
        fixture.opens(1);
        fixture.commands();
        fixture.answers(refusal.clone());
        assert!(!fixture.gate(), "{refusal:?}");
        fixture.passes(fixture.pause());
        assert_eq!(fixture.asked(), [renew()], "{refusal:?}");
        fixture.grants(1);
        assert!(fixture.policy.has_lease(fixture.now), "{refusal:?}");
        assert_eq!(fixture.policy.lease_location(), Some(LeaseStore::Status));
    }
}

#[test]
fn where_renewing_is_forbidden_a_cold_start_does_not_spin() {
    let mut fixture = Fixture::asleep();
    fixture.opens(1);
    fixture.answers(without_token(2, "8")); // scaled up; now Starting
    assert!(matches!(fixture.policy.phase, Phase::Starting { .. }));
    let mut turns = 0;
    let end = fixture.now + TTL * 10;
    while fixture.now < end {
        match fixture.in_flight() {
            Some(Request::RenewLease(_)) => fixture.answers(Outcome::Forbidden),
            Some(_) => fixture.answers(without_token(2, "8")),
            None => fixture.passes(fixture.pause()),
        }
        turns += 1;
    }
    assert!(turns < 500, "{turns} in ten minutes");
}

#[test]
fn one_refusal_does_not_stand_for_five_minutes_after_renewing_has_worked() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.commands();
    fixture.grants(1);
    fixture.hands_over();
    // the renewal meets an API server that has just started (403 until RBAC has synced)
    while !matches!(fixture.in_flight(), Some(Request::RenewLease(_))) {
        let due = fixture.policy.poll_timeout().unwrap();
        fixture.passes(due.since(fixture.now));
        if fixture.in_flight() == Some(read()) {
            fixture.answers_as_before();
        }
    }
    fixture.answers(Outcome::Forbidden);
    let start = fixture.now;
    while !matches!(fixture.in_flight(), Some(Request::RenewLease(_))) {
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

/// Another proxy that sees the same token for a TTL puts the app to sleep.
#[test]
fn while_a_connection_is_open_a_retry_after_never_outlasts_the_lease() {
    for (ttl, retry_after, is_open_at_failure) in [
        (30, 32, true),
        (60, 32, true),
        (60, 60, true),
        (300, 240, true),
        (600, 300, true),
        (3600, 300, true),
        (30, 300, false),
        (600, 300, false),
    ] {
        let label = format!("TTL {ttl} s, Retry-After {retry_after} s, {is_open_at_failure}");
        let ttl = Duration::from_secs(ttl);
        let mut fixture = Fixture::start_with(Config {
            idle_ttl: ttl,
            ..Config::default()
        });
        fixture.answers(scale(1, "1"));
        fixture.pods(true);
        fixture.opens(1);
        fixture.grants(1);
        fixture.hands_over();
        let granted = fixture.now;
        if !is_open_at_failure {
            fixture.closes_all();
        }
        let wanted = Duration::from_secs(retry_after);
        let retry_after = Some(wanted);
        let mut attempts = Vec::new();
        while fixture.now < granted + ttl {
            fixture.passes(fixture.pause());
            let failures = attempts.len();
            match fixture.in_flight() {
                Some(Request::RenewLease(_)) => {
                    attempts.push(fixture.now.since(granted));
                    fixture.answers(match failures % 2 {
                        0 => Outcome::Busy { retry_after },
                        _ => Outcome::Unknown { retry_after },
                    });
                }
                Some(_) => fixture.answers_as_before(),
                None => {}
            }
            if failures == 0 && attempts.len() == 1 && !is_open_at_failure {
                fixture.opens(1);
                fixture.hands_over();
            }
        }
        let in_time = |it: &&Duration| **it <= ttl * 4 / 5 + Duration::from_secs(1);
        let tried = attempts.iter().filter(in_time).count();
        assert!(tried >= 3, "{label}: {attempts:?}");
        let first_wait = attempts[1] - attempts[0];
        let respected = wanted.min(ttl / 2 - attempts[0]);
        assert!(first_wait >= respected, "{label}: {attempts:?}");
    }
}
