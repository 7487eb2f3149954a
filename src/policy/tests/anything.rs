//! Everything at once: whatever happens, in whichever order.

use std::time::Duration;

use proptest::prelude::*;

use super::fixture::{Fixture, LOST, TTL, scale};
use crate::cluster::{AnnotationOverrides, Outcome, Request, Scale};
use crate::policy::{Config, Phase, Windows};

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Open,
    HandOver,
    Close,
    Pods(bool),
    Answer(Outcome),
    Windows(Option<u64>, Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..70_000u64).prop_map(Step::Pass),
        Just(Step::Open),
        Just(Step::HandOver),
        Just(Step::Close),
        any::<bool>().prop_map(Step::Pods),
        outcome().prop_map(Step::Answer),
        (window(), window()).prop_map(|(keep_awake, no_wake)| Step::Windows(keep_awake, no_wake)),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => (0..3u32, 0..100u32, orders()).prop_map(|(n, v, orders)| ordered(n, v, orders)),
        1 => Just(Outcome::Conflict),
        1 => Just(Outcome::Forbidden),
        1 => Just(Outcome::NotFound),
        1 => Just(Outcome::Unreachable),
        1 => Just(LOST),
        1 => Just(Outcome::Busy { retry_after: Some(Duration::from_secs(3)) }),
    ]
}

/// How long a window is still open, if it is.
fn window() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..100_000u64)
}

fn orders() -> impl Strategy<Value = Option<AnnotationOverrides>> {
    let wake = prop::option::of(Just("now".to_owned()));
    let orders =
        (prop::bool::weighted(0.2), wake).prop_map(|(is_paused, wake)| AnnotationOverrides {
            is_paused,
            wake,
            ..AnnotationOverrides::default()
        });
    prop::option::of(orders)
}

fn ordered(replicas: u32, version: u32, orders: Option<AnnotationOverrides>) -> Outcome {
    match scale(replicas, &version.to_string()) {
        Outcome::Scale(scale) => Outcome::Scale(Scale {
            overrides: orders,
            ..scale
        }),
        other => other,
    }
}

proptest! {
    /// Whatever happens, no write follows one of unknown outcome before a
    /// read, zero is written only after an idle TTL and under the version
    /// just read, and the gate is shut from then until the outcome is
    /// known. While it is paused, the scale is not written, and in a dry run nothing.
    #[test]
    fn the_rules_hold_in_every_order_of_events(
        steps in prop::collection::vec(step(), 1..200),
        dry_run in prop::bool::weighted(0.2),
    ) {
        let mut fixture = Fixture::start_with(Config {
            idle_ttl: TTL,
            wake_replicas: 2,
            dry_run,
            ..Config::default()
        });
        let mut idle_since = fixture.now;
        let mut last_read: Option<Scale> = None;
        let mut must_read = false;
        let mut is_paused = false;
        for step in steps {
            match step {
                Step::Pass(ms) => fixture.passes(Duration::from_millis(ms)),
                Step::Open => fixture.opens(1),
                Step::HandOver => fixture.hands_over(),
                Step::Close => {
                    if fixture.connections.open > 0 {
                        idle_since = fixture.now;
                    }
                    fixture.closes_all();
                }
                Step::Pods(dialable) => fixture.pods(dialable),
                Step::Windows(keep_awake, no_wake) => {
                    let end = |ms| fixture.now + Duration::from_millis(ms);
                    let windows = Windows {
                        schedule_end: keep_awake.map(end),
                        annotation_end: None,
                        no_wake_end: no_wake.map(end),
                    };
                    fixture.policy.set_windows(windows, fixture.now);
                }
                Step::Answer(outcome) => {
                    if let Some(asked) = fixture.policy.in_flight.clone() {
                        let wrote = matches!(asked.request, Request::WriteScale { .. });
                        match &outcome {
                            Outcome::Scale(scale) => {
                                last_read = Some(scale.clone());
                                must_read = false;
                                let orders = scale.overrides.as_ref();
                                is_paused = orders.map_or(is_paused, |it| it.is_paused);
                            }
                            Outcome::Unknown { .. } | Outcome::Conflict => must_read |= wrote,
                            _ => {}
                        }
                        fixture.answers(outcome);
                    }
                }
            }
            for request in fixture.asked() {
                prop_assert!(!dry_run || request.is_read(), "{request:?} in a dry run");
                if let Request::WriteScale { replicas, guard } = request {
                    prop_assert!(!is_paused, "a write during a pause");
                    prop_assert!(!must_read, "a write after an unknown outcome");
                    let read = last_read.clone().expect("a write before any read");
                    prop_assert_eq!(guard, read.version);
                    prop_assert_eq!(replicas > 0, read.replicas == 0);
                    if replicas == 0 {
                        prop_assert_eq!(fixture.connections.open, 0);
                        prop_assert!(fixture.now.since(idle_since) >= TTL);
                    }
                }
            }
            // A time in the past would have the loop turn for ever.
            prop_assert!(fixture.policy.poll_timeout().is_none_or(|at| at > fixture.now));
            let writing_zero = fixture.policy.phase == Phase::ScalingDown;
            prop_assert!(!(writing_zero && fixture.gate()));
        }
    }
}
