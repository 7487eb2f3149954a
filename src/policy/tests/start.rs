//! What is done before anything is known.

use super::fixture::{Fixture, read, renew, scale, write};
use crate::backoff;
use crate::cluster::Outcome;
use crate::policy::{Change, Command, Phase};

#[test]
fn at_the_start_it_reads_and_writes_nothing() {
    let mut fixture = Fixture::start();
    assert_eq!(fixture.asked(), [read()]);
    assert_eq!(fixture.policy.phase_name(), "unknown");
    fixture.answers(scale(3, "1"));
    assert_eq!(fixture.asked(), []);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert_eq!(fixture.policy.phase_name(), "awake");
}

#[test]
fn at_the_start_an_app_at_zero_is_asleep_without_any_write() {
    let mut fixture = Fixture::start();
    fixture.commands();
    fixture.answers(scale(0, "7"));
    assert_eq!(
        fixture.commands(),
        [
            Command::QuarantinePods,
            Command::Log(Change::Found { replicas: 0 })
        ]
    );
    assert!(!fixture.gate());
}

#[test]
fn a_connection_before_the_first_answer_renews_and_then_wakes() {
    let mut fixture = Fixture::start();
    fixture.commands();
    fixture.opens(1);
    assert_eq!(
        fixture.asked(),
        [renew()],
        "whose answer shows the scale as well"
    );
    fixture.answers(scale(0, "7"));
    assert_eq!(fixture.asked(), [write(2, "7")]);
}

#[test]
fn an_unreachable_api_server_at_the_start_is_asked_again_and_nothing_sleeps() {
    let mut fixture = Fixture::start();
    fixture.commands();
    for _ in 0..100 {
        fixture.answers(Outcome::Unreachable);
        assert_eq!(fixture.asked(), [], "not before the pause is over");
        let next = fixture.policy.poll_timeout().unwrap();
        assert!(next.since(fixture.now) <= backoff::MAX_PAUSE);
        fixture.now = next;
        fixture.policy.handle_timeout(next);
        assert_eq!(fixture.asked(), [read()]);
    }
}
