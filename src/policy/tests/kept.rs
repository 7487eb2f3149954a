//! What the object keeps beside leases: how long an autoscaler that knows none takes
//! the app to be in use, and how many replicas there were before the sleep.

use std::time::Duration;

use super::fixture::{Fixture, TTL, read, scale, with_token, without_token, write};
use crate::cluster::{LeaseStore, Outcome, Renewal, Request, Rollout, Scale};
use crate::policy::rollout::ROLLOUT_DEADLINE;
use crate::policy::{Change, Config, Phase};

fn edited(outcome: Outcome, edit: impl FnOnce(&mut Scale)) -> Outcome {
    let Outcome::Scale(mut scale) = outcome else {
        panic!("a scale");
    };
    edit(&mut scale);
    Outcome::Scale(scale)
}

fn with_others(outcome: Outcome, left: Option<Duration>) -> Outcome {
    edited(outcome, |scale| scale.ancestor_in_use_for = left)
}

fn with_previous(outcome: Outcome, replicas: u32) -> Outcome {
    edited(outcome, |scale| scale.previous_replicas = Some(replicas))
}

#[test]
fn what_others_take_to_be_in_use_is_not_put_to_sleep_until_they_do_not() {
    let second = Duration::from_secs(1);
    for (label, left, is_idle_at, is_idle_before) in [
        ("none beside", None, TTL, true),
        ("over before our TTL", Some(TTL - second), TTL, true),
        ("a second longer", Some(second), TTL + second, false),
    ] {
        let mut fixture = Fixture::awake();
        fixture.passes_quietly(TTL);
        assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
        let left = left.filter(|_| !is_idle_before);
        fixture.answers(with_others(scale(1, "5"), left));
        let goes_on = fixture.policy.phase == Phase::ConfirmingIdle;
        assert_eq!(goes_on, is_idle_before, "{label}");
        if !goes_on {
            let rest = is_idle_at.saturating_sub(TTL);
            assert_eq!(fixture.pause(), rest, "{label}");
            fixture.passes(rest);
            assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle, "{label}");
        }
    }
}

#[test]
fn a_renewal_before_the_sleep_that_shows_others_ends_the_sleep() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    fixture.answers(scale(1, "5"));
    fixture.commands();
    fixture.answers(with_others(with_token(1, "6", "ours 1"), Some(TTL)));
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert!(!fixture.asked().contains(&write(0, "6")));
}

#[test]
fn a_reply_that_shows_no_lease_says_nothing_of_others() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL / 2);
    let until = fixture.now + TTL * 2;
    fixture.policy.ancestor_until = Some(until);
    fixture.policy.lease.on_last_close(fixture.now);
    fixture.policy.handle_timeout(fixture.now);
    fixture.answers(without_token(1, "6"));
    assert_eq!(fixture.policy.ancestor_until, Some(until));
}

fn start(wakes_to_previous: bool, single: bool) -> Fixture {
    Fixture::start_with(Config {
        idle_ttl: TTL,
        wakes_to_previous,
        single,
        ..Config::default()
    })
}

/// What the renewal that is on its way has the object keep.
fn kept(fixture: &Fixture) -> Option<u32> {
    match fixture.in_flight() {
        Some(Request::RenewLease(Renewal {
            previous_replicas,
            guard,
            ..
        })) => {
            assert!(guard.is_some(), "it comes before a sleep");
            previous_replicas
        }
        other => panic!("{other:?} in place of a renewal"),
    }
}

#[test]
fn the_renewal_before_a_sleep_keeps_the_count_unless_it_is_kept_already() {
    for (label, wakes_to_previous, single, before, expected) in [
        ("as set", true, false, None, Some(3)),
        ("also without other proxies", true, true, None, Some(3)),
        ("another count is kept", true, false, Some(5), Some(3)),
        ("the count is kept", true, false, Some(3), None),
        ("not set", false, false, None, None),
    ] {
        let mut fixture = start(wakes_to_previous, single);
        let shown = |version: &str| match before {
            Some(count) => with_previous(scale(3, version), count),
            None => scale(3, version),
        };
        fixture.answers(shown("1"));
        fixture.pods(true);
        fixture.passes_quietly(TTL);
        fixture.answers(shown("5"));
        assert_eq!(kept(&fixture), expected, "{label}");
        fixture.commands();
        fixture.answers(with_previous(with_token(3, "6", "ours 1"), 3));
        assert_eq!(fixture.asked(), [write(0, "6")], "{label}");
    }
}

#[test]
fn where_nothing_can_be_kept_a_proxy_without_others_sleeps_all_the_same() {
    let mut fixture = start(true, true);
    fixture.answers(without_token(3, "1"));
    fixture.pods(true);
    fixture.passes_quietly(TTL);
    fixture.commands();
    fixture.answers(without_token(3, "5"));
    assert_eq!(fixture.asked(), [write(0, "5")]);
}

#[test]
fn a_wake_asks_for_the_count_before_the_sleep_also_after_a_restart() {
    for (label, wakes_to_previous, shown, expected, is_logged) in [
        ("as kept", true, with_previous(scale(0, "7"), 3), 3, false),
        ("nothing is kept", true, scale(0, "7"), 1, true),
        (
            "a number is set",
            false,
            with_previous(scale(0, "7"), 3),
            1,
            false,
        ),
    ] {
        let mut fixture = start(wakes_to_previous, false);
        assert_eq!(fixture.asked(), [read()]);
        fixture.answers(shown);
        fixture.commands();
        fixture.opens(1);
        let expected_change = Change::PreviousUnknown { replicas: 1 };
        let commands = fixture.commands();
        let asked = format!("{:?}", write(expected, "7"));
        assert!(
            format!("{commands:?}").contains(&asked),
            "{label}: {commands:?}"
        );
        assert_eq!(
            format!("{commands:?}").contains(&format!("{expected_change:?}")),
            is_logged,
            "{label}"
        );
    }
}

#[test]
fn where_the_status_keeps_nothing_leases_go_into_the_annotation_from_the_start() {
    let mut fixture = Fixture::start_with(Config {
        idle_ttl: TTL,
        lease_store: LeaseStore::Annotation,
        ..Config::default()
    });
    assert_eq!(
        fixture.policy.lease_location(),
        Some(LeaseStore::Annotation)
    );
    fixture.answers(scale(1, "1"));
    fixture.pods(true);
    assert_eq!(
        fixture.changes(),
        [Change::Found { replicas: 1 }],
        "that is no news"
    );
    fixture.opens(1);
    let stores = fixture.asked().into_iter().map(|asked| match asked {
        Request::RenewLease(renewal) => Some(renewal.store),
        _ => None,
    });
    assert_eq!(stores.collect::<Vec<_>>(), [Some(LeaseStore::Annotation)]);
}

#[test]
fn an_annotation_of_our_own_hides_no_sleep_where_it_moves_no_generation() {
    for (moves, generation, has_slept) in [
        (true, 12, false),
        (false, 11, false),
        (false, 12, true),
        (true, 13, true),
    ] {
        let mut fixture = Fixture::start_with(Config {
            idle_ttl: TTL,
            lease_store: LeaseStore::Annotation,
            annotation_moves_generation: moves,
            ..Config::default()
        });
        let at = |outcome, generation| edited(outcome, |scale| scale.generation = Some(generation));
        fixture.answers(at(scale(1, "1"), 10));
        fixture.pods(true);
        fixture.passes(TTL / 2);
        fixture.answers(at(scale(1, "1"), 10));
        fixture.opens(1);
        fixture.answers(at(with_token(1, "2", "ours 1"), generation));
        let quarantined = format!("{:?}", fixture.commands()).contains("QuarantinePods");
        assert_eq!(quarantined, has_slept, "{moves} {generation}");
    }
}

const HALF: Rollout = Rollout {
    updated: 1,
    pods: 2,
};

fn set_rollout(fixture: &mut Fixture, rollout: Option<Rollout>) {
    let now = fixture.now;
    fixture.policy.set_rollout(rollout, now);
}

#[test]
fn a_rollout_counts_as_use_until_it_is_over() {
    let mut fixture = Fixture::awake();
    set_rollout(&mut fixture, Some(HALF));
    fixture.passes_quietly(TTL * 2);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    set_rollout(&mut fixture, None);
    let over = fixture.now;
    assert_eq!(
        fixture.policy.sleeps_at(),
        Some(over + TTL),
        "the idle time"
    );
    assert!(fixture.changes().contains(&Change::RolloutOver));
}

#[test]
fn a_rollout_without_progress_does_not_keep_it_awake_for_ever() {
    let mut fixture = Fixture::awake();
    set_rollout(&mut fixture, Some(HALF));
    let until = fixture.now + ROLLOUT_DEADLINE;
    assert!(TTL < ROLLOUT_DEADLINE);
    assert_eq!(fixture.policy.sleeps_at(), Some(until));
    set_rollout(&mut fixture, Some(HALF));
    assert_eq!(fixture.policy.sleeps_at(), Some(until), "no progress");
}

#[test]
fn a_rollout_that_the_read_before_the_sleep_shows_ends_the_sleep() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    set_rollout(&mut fixture, Some(HALF));
    fixture.answers(scale(1, "5"));
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert!(!fixture.asked().contains(&write(0, "5")));
}
