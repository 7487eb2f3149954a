//! Windows of a schedule, and orders by annotations.

use std::time::Duration;

use super::fixture::{Fixture, MOMENT, TTL, read, scale, write};
use crate::clock::Time;
use crate::cluster::{AnnotationOverrides, Outcome, OverrideKey, Scale};
use crate::policy::{
    Change, Command, Config, KeepAwakeRule, Phase, SleepDue, WakeDelay, WakeReason, Windows,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The object with these orders, and the token that all tests begin with.
fn ordered(replicas: u32, version: &str, orders: AnnotationOverrides) -> Outcome {
    let Outcome::Scale(shown) = scale(replicas, version) else {
        unreachable!("it is a scale");
    };
    Outcome::Scale(Scale {
        overrides: Some(orders),
        ..shown
    })
}

fn paused() -> AnnotationOverrides {
    AnnotationOverrides {
        is_paused: true,
        ..AnnotationOverrides::default()
    }
}

fn wake(value: &str) -> AnnotationOverrides {
    AnnotationOverrides {
        wake: Some(value.to_owned()),
        ..AnnotationOverrides::default()
    }
}

/// An app that is asleep, whose annotations order nothing.
fn asleep() -> Fixture {
    let mut fixture = Fixture::start();
    fixture.answers(ordered(0, "7", AnnotationOverrides::default()));
    fixture.policy.set_watching(true, fixture.now);
    fixture.commands();
    fixture
}

fn is_asleep(fixture: &Fixture) -> bool {
    matches!(fixture.policy.phase, Phase::Asleep { .. })
}

fn without_wakes(until: Time) -> Windows {
    Windows {
        no_wake_end: Some(until),
        ..Windows::default()
    }
}

fn kept_awake(until: Time) -> Windows {
    Windows {
        schedule_end: Some(until),
        ..Windows::default()
    }
}

#[test]
fn a_window_wakes_it_without_a_connection_and_keeps_it_awake_to_its_end() {
    let mut fixture = asleep();
    let end = fixture.now + HOUR;
    fixture.policy.set_windows(kept_awake(end), fixture.now);
    let commands = fixture.commands();
    assert!(commands.iter().any(|command| matches!(
        command,
        Command::Log(Change::WakingByOverride {
            by: WakeReason::Schedule
        })
    )));
    assert_eq!(fixture.in_flight(), Some(write(2, "7")));
    fixture.answers(scale(2, "8"));
    fixture.pods(true);
    fixture.answers_as_before_if_asked();
    assert_eq!(fixture.policy.phase, Phase::Awake);
    let due = SleepDue {
        at: Some(end),
        rule: KeepAwakeRule::Override,
    };
    assert_eq!(fixture.policy.sleep_due(), Some(due));
    fixture.passes_quietly(HOUR - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes(MOMENT);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

#[test]
fn in_a_window_without_wakes_connections_wait_for_its_end() {
    let mut fixture = asleep();
    let end = fixture.now + HOUR;
    fixture.policy.set_windows(without_wakes(end), fixture.now);
    fixture.opens(1);
    let delayed = Change::WakeDelayed {
        by: WakeDelay::NoWake,
        wait: Some(HOUR),
    };
    assert_eq!(fixture.changes(), [delayed]);
    fixture.passes_quietly(HOUR - MOMENT);
    assert!(is_asleep(&fixture));
    assert_eq!(fixture.changes(), [], "it was said");
    fixture.passes(MOMENT);
    assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
}

#[test]
fn an_order_wakes_it_in_a_window_without_wakes() {
    let mut fixture = asleep();
    let end = fixture.now + HOUR;
    fixture.policy.set_windows(without_wakes(end), fixture.now);
    fixture.observes(ordered(0, "8", wake("now")));
    assert_eq!(fixture.in_flight(), Some(write(2, "8")));
}

#[test]
fn a_pause_writes_no_scale_in_either_direction_and_ends() {
    let mut fixture = asleep();
    fixture.observes(ordered(0, "8", paused()));
    assert_eq!(fixture.changes(), [Change::Paused(true)]);
    fixture.opens(1);
    let delayed = Change::WakeDelayed {
        by: WakeDelay::Paused,
        wait: None,
    };
    assert_eq!(fixture.changes(), [delayed]);
    fixture.passes_quietly(HOUR);
    assert!(is_asleep(&fixture));
    fixture.observes(ordered(0, "9", AnnotationOverrides::default()));
    assert_eq!(fixture.in_flight(), Some(write(2, "9")));
    fixture.answers(ordered(2, "10", paused()));
    fixture.pods(true);
    fixture.answers_as_before_if_asked();
    fixture.closes_all();
    fixture.answers_as_before_if_asked();
    fixture.passes_quietly(TTL * 3);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    let due = SleepDue {
        at: None,
        rule: KeepAwakeRule::Paused,
    };
    assert_eq!(fixture.policy.sleep_due(), Some(due));
}

#[test]
fn in_a_dry_run_connections_are_dialled_and_that_it_would_sleep_is_said_once() {
    let mut fixture = Fixture::start_with(Config {
        idle_ttl: TTL,
        dry_run: true,
        ..Config::default()
    });
    fixture.answers(scale(1, "1"));
    fixture.pods(true);
    fixture.opens(1);
    assert!(fixture.gate(), "no lease is needed");
    fixture.hands_over();
    fixture.closes_all();
    fixture.commands();
    for day in 0..2 {
        fixture.passes_quietly(TTL * 5);
        let commands = fixture.commands();
        let said = commands.iter().filter(
            |command| matches!(command, Command::Log(Change::WouldSleep { idle }) if *idle == TTL),
        );
        assert_eq!(said.count(), usize::from(day == 0));
        let writes = |command: &&Command| match command {
            Command::Send { request, .. } => !request.is_read(),
            _ => false,
        };
        assert_eq!(commands.iter().find(writes), None);
    }
    let due = SleepDue {
        at: None,
        rule: KeepAwakeRule::DryRun,
    };
    assert_eq!(fixture.policy.sleep_due(), Some(due));
    fixture.opens(1);
    fixture.closes_all();
    assert_eq!(fixture.policy.sleeps_at(), Some(fixture.now + TTL), "again");
}

#[test]
fn in_a_dry_run_nobody_wakes_it() {
    let mut fixture = Fixture::start_with(Config {
        dry_run: true,
        ..Config::default()
    });
    fixture.answers(scale(0, "7"));
    fixture.commands();
    fixture.opens(1);
    let delayed = Change::WakeDelayed {
        by: WakeDelay::DryRun,
        wait: None,
    };
    assert_eq!(fixture.changes(), [delayed]);
    fixture.passes_quietly(HOUR);
    assert!(is_asleep(&fixture));
}

#[test]
fn a_pause_ends_the_repetitions_of_a_wake_that_has_failed() {
    let mut fixture = asleep();
    fixture.opens(1);
    assert_eq!(fixture.asked(), [write(2, "7")]);
    fixture.answers(Outcome::Conflict);
    assert_eq!(fixture.asked(), [read()]);
    fixture.answers(ordered(0, "8", paused()));
    assert!(is_asleep(&fixture));
    fixture.passes_quietly(HOUR);
    assert!(!fixture.asked().contains(&write(2, "8")));
}

#[test]
fn a_pause_stops_a_sleep_that_is_being_confirmed() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.answers(ordered(1, "5", paused()));
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert_eq!(fixture.in_flight(), None);
}

/// An annotation stays on the object after the wake that it has ordered.
#[test]
fn a_value_that_changes_wakes_it_once_and_one_that_was_there_at_the_start_does_not() {
    let mut fixture = Fixture::start();
    fixture.answers(ordered(0, "7", wake("monday")));
    fixture.policy.set_watching(true, fixture.now);
    fixture.commands();
    assert!(is_asleep(&fixture), "it was there");
    fixture.observes(ordered(0, "8", wake("monday")));
    assert!(is_asleep(&fixture), "it has not changed");
    fixture.observes(ordered(0, "9", AnnotationOverrides::default()));
    assert!(is_asleep(&fixture), "it was removed");
    fixture.observes(ordered(0, "10", wake("monday")));
    assert_eq!(fixture.in_flight(), Some(write(2, "10")));
    fixture.answers(ordered(2, "11", wake("monday")));
    fixture.pods(true);
    fixture.answers_as_before_if_asked();
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.observes(ordered(0, "12", wake("monday")));
    assert!(is_asleep(&fixture), "one value wakes it once");
}

#[test]
fn a_wake_that_is_ordered_while_it_is_awake_starts_its_idle_time_again() {
    let mut fixture = Fixture::start();
    fixture.answers(ordered(1, "1", AnnotationOverrides::default()));
    fixture.pods(true);
    fixture.policy.set_watching(true, fixture.now);
    fixture.passes_quietly(TTL / 2);
    fixture.observes(ordered(1, "2", wake("now")));
    assert_eq!(fixture.policy.sleeps_at(), Some(fixture.now + TTL));
}

#[test]
fn a_value_that_cannot_be_read_is_said_once_and_orders_nothing() {
    let mut fixture = asleep();
    let invalid = AnnotationOverrides {
        invalid: Some(OverrideKey::KeepAwakeUntil),
        ..AnnotationOverrides::default()
    };
    for (version, changes) in [
        (
            "8",
            &[Change::InvalidAnnotation(OverrideKey::KeepAwakeUntil)][..],
        ),
        ("9", &[]),
    ] {
        fixture.observes(ordered(0, version, invalid.clone()));
        assert_eq!(fixture.changes(), changes);
        assert!(is_asleep(&fixture));
    }
}

#[test]
fn a_time_to_keep_it_awake_is_for_whoever_has_a_clock() {
    let mut fixture = asleep();
    let orders = AnnotationOverrides {
        keep_awake_until: Some(1_795_575_600),
        ..AnnotationOverrides::default()
    };
    fixture.observes(ordered(0, "8", orders));
    assert_eq!(fixture.policy.annotated_awake_until(), Some(1_795_575_600));
    let windows = Windows {
        annotation_end: Some(fixture.now + HOUR),
        ..Windows::default()
    };
    fixture.policy.set_windows(windows, fixture.now);
    let waking = Change::WakingByOverride {
        by: WakeReason::KeepAwakeUntil,
    };
    assert!(fixture.changes().contains(&waking));
}

/// Otherwise the loop would turn for ever when the delay has passed.
#[test]
fn a_delay_ends_when_something_else_scales_it_up() {
    let mut fixture = asleep();
    let end = fixture.now + HOUR;
    fixture.policy.set_windows(without_wakes(end), fixture.now);
    fixture.opens(1);
    assert_eq!(fixture.policy.delayed_by(), Some(WakeDelay::NoWake));
    fixture.observes(scale(1, "8"));
    assert_eq!(fixture.policy.delayed_by(), None);
    fixture.passes_quietly(HOUR * 2);
    assert!(fixture.policy.poll_timeout() > Some(fixture.now));
}

/// The window of another proxy, whose clock is ahead, has ended.
#[test]
fn in_its_last_seconds_a_window_keeps_it_awake_and_wakes_it_no_more() {
    let mut fixture = asleep();
    let end = fixture.now + Duration::from_secs(9);
    fixture.policy.set_windows(kept_awake(end), fixture.now);
    assert!(is_asleep(&fixture));
    fixture.observes(scale(1, "8"));
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert!(fixture.policy.sleeps_at() >= Some(end));
}

#[test]
fn an_order_that_comes_while_it_is_being_woken_is_done_with_that_wake() {
    let mut fixture = asleep();
    fixture.opens(1);
    fixture.answers(Outcome::Conflict);
    fixture.answers(ordered(0, "8", wake("now")));
    assert_eq!(fixture.in_flight(), Some(write(2, "8")));
    fixture.answers(ordered(2, "9", wake("now")));
    fixture.pods(true);
    fixture.closes_all();
    fixture.answers_as_before_if_asked();
    fixture.observes(ordered(0, "10", wake("now")));
    assert!(is_asleep(&fixture), "it was done");
}
