//! Everything at once: whatever happens, in whichever order.

use std::time::Duration;

use proptest::prelude::*;

use super::fixture::{Fixture, LOST, TTL, scale};
use crate::cluster::{Outcome, Request, Scale};
use crate::policy::Phase;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Open,
    HandOver,
    Close,
    Pods(bool),
    Answer(Outcome),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..70_000u64).prop_map(Step::Pass),
        Just(Step::Open),
        Just(Step::HandOver),
        Just(Step::Close),
        any::<bool>().prop_map(Step::Pods),
        outcome().prop_map(Step::Answer),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => (0..3u32, 0..100u32).prop_map(|(n, v)| scale(n, &v.to_string())),
        1 => Just(Outcome::Conflict),
        1 => Just(Outcome::Forbidden),
        1 => Just(Outcome::NotFound),
        1 => Just(Outcome::Unreachable),
        1 => Just(LOST),
        1 => Just(Outcome::Busy { retry_after: Some(Duration::from_secs(3)) }),
    ]
}

proptest! {
    /// Whatever happens, no write follows one of unknown outcome before a
    /// read, zero is written only after an idle TTL and under the version
    /// just read, and the gate is shut from then until the outcome is
    /// known.
    #[test]
    fn the_rules_hold_in_every_order_of_events(steps in prop::collection::vec(step(), 1..200)) {
        let mut fixture = Fixture::start();
        let mut idle_since = fixture.now;
        let mut last_read: Option<Scale> = None;
        let mut must_read = false;
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
                Step::Answer(outcome) => {
                    if let Some(asked) = fixture.policy.in_flight.clone() {
                        let wrote = matches!(asked.request, Request::WriteScale { .. });
                        match &outcome {
                            Outcome::Scale(scale) => {
                                last_read = Some(scale.clone());
                                must_read = false;
                            }
                            Outcome::Unknown { .. } | Outcome::Conflict => must_read |= wrote,
                            _ => {}
                        }
                        fixture.answers(outcome);
                    }
                }
            }
            for request in fixture.asked() {
                if let Request::WriteScale { replicas, guard } = request {
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
            let writing_zero = fixture.policy.phase == Phase::ScalingDown;
            prop_assert!(!(writing_zero && fixture.gate()));
        }
    }
}
