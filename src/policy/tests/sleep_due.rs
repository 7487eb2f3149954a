//! What keeps the app awake, and until when, as it is shown.

use std::time::Duration;

use super::fixture::{Fixture, TTL, scale};
use crate::cluster::{Outcome, Scale};
use crate::policy::{Config, KeepAwakeRule, SleepDue};

/// The rule, and in how long it ends.
fn shown(fixture: &Fixture) -> Option<(KeepAwakeRule, Option<Duration>)> {
    let SleepDue { at, rule } = fixture.policy.sleep_due()?;
    Some((rule, at.map(|at| at.since(fixture.now))))
}

#[test]
fn it_is_known_which_rule_keeps_the_app_awake_and_until_when() {
    let mut fixture = Fixture::start();
    assert_eq!(shown(&fixture), Some((KeepAwakeRule::Unread, None)));
    fixture.answers(scale(1, "1"));
    fixture.pods(true);
    assert_eq!(shown(&fixture), Some((KeepAwakeRule::IdleTtl, Some(TTL))));
    fixture.policy.set_can_wake(false, fixture.now);
    assert_eq!(shown(&fixture), Some((KeepAwakeRule::CannotWake, None)));
    fixture.policy.set_can_wake(true, fixture.now);
    fixture.opens(1);
    assert_eq!(shown(&fixture), Some((KeepAwakeRule::Connections, None)));
}

#[test]
fn a_rule_that_ends_later_than_the_idle_ttl_is_the_one_that_is_shown() {
    let hour = Duration::from_secs(3600);
    let mut fixture = Fixture::start();
    let Outcome::Scale(seen) = scale(1, "1") else {
        unreachable!()
    };
    fixture.answers(Outcome::Scale(Scale {
        ancestor_in_use_for: Some(hour),
        ..seen
    }));
    assert_eq!(
        shown(&fixture),
        Some((KeepAwakeRule::AncestorReplica, Some(hour)))
    );

    let mut fixture = Fixture::start_with(Config {
        idle_ttl: TTL,
        min_awake: hour,
        ..Config::default()
    });
    fixture.answers(scale(0, "1"));
    fixture.opens(1);
    fixture.answers(scale(1, "2"));
    fixture.pods(true);
    fixture.answers_as_before();
    fixture.closes_all();
    let Some((rule, Some(left))) = shown(&fixture) else {
        panic!("{:?}", shown(&fixture));
    };
    assert_eq!(rule, KeepAwakeRule::MinAwake);
    assert!(left > TTL && left <= hour, "{left:?}");
}

#[test]
fn while_it_sleeps_or_is_woken_nothing_keeps_it_awake() {
    for (label, fixture) in [
        ("asleep", Fixture::asleep()),
        ("waking", Fixture::waking()),
        ("scaling down", Fixture::scaling_down()),
    ] {
        assert_eq!(shown(&fixture), None, "{label}");
    }
}

#[test]
fn every_rule_has_a_name_and_an_explanation_of_its_own() {
    let rules = [
        KeepAwakeRule::Connections,
        KeepAwakeRule::Unread,
        KeepAwakeRule::CannotWake,
        KeepAwakeRule::NoLeases,
        KeepAwakeRule::IdleTtl,
        KeepAwakeRule::LongerLease,
        KeepAwakeRule::AncestorReplica,
        KeepAwakeRule::MinAwake,
        KeepAwakeRule::ScaleRefused,
        KeepAwakeRule::UndoneSleeps,
    ];
    let names: std::collections::BTreeSet<_> = rules.map(KeepAwakeRule::name).into();
    let texts: std::collections::BTreeSet<_> = rules.map(KeepAwakeRule::explain).into();
    assert_eq!((names.len(), texts.len()), (rules.len(), rules.len()));
}
