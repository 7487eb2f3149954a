//! From zero to a pod that is ready: what wakes the app, and what is done when
//! the wake is not answered as it should be.

use std::time::Duration;

use super::fixture::{Fixture, LOST, TTL, read, renew, scale, without_token, write};
use crate::backoff;
use crate::cluster::{Outcome, Permission};
use crate::policy::{Change, Command, MAX_PAUSE_WAITING, POLL, Phase};

#[test]
fn the_first_connection_wakes_the_app_at_once_and_the_next_thousand_ask_for_nothing() {
    let mut fixture = Fixture::asleep();
    fixture.opens(1);
    assert_eq!(fixture.asked(), [write(2, "7")]);
    fixture.opens(1000);
    fixture.passes(Duration::from_millis(5));
    assert_eq!(fixture.asked(), []);
}

#[test]
fn a_wake_does_not_wait_for_the_answer_to_a_poll() {
    let mut fixture = Fixture::asleep();
    fixture.passes(POLL);
    assert_eq!(fixture.asked(), [read()]);
    let poll = fixture.policy.in_flight.as_ref().unwrap().id;
    fixture.opens(1);
    assert_eq!(fixture.asked(), [write(2, "7")]);
    fixture.policy.reply(poll, scale(0, "7"), fixture.now);
    assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
    fixture.answers(scale(2, "8"));
    assert!(matches!(fixture.policy.phase, Phase::Starting { .. }));
}

#[test]
fn the_gate_opens_when_a_pod_is_ready_and_says_how_long_it_took() {
    let mut fixture = Fixture::waking();
    fixture.answers(scale(2, "8"));
    assert_eq!(fixture.asked(), [renew()], "while the pod starts");
    fixture.grants(2);
    assert!(!fixture.gate());
    fixture.opens(2);
    fixture.commands();
    fixture.passes(Duration::from_secs(3));
    fixture.pods(true);
    assert!(fixture.gate());
    let took = Duration::from_secs(3);
    assert_eq!(fixture.changes(), [Change::AddressReady { took, held: 3 }]);
}

#[test]
fn a_pod_that_is_ready_before_the_write_is_answered_waits_for_the_answer() {
    let mut fixture = Fixture::waking();
    fixture.pods(true);
    assert!(!fixture.gate());
    fixture.answers(scale(2, "8"));
    fixture.grants(2);
    assert!(fixture.gate());
}

#[test]
fn a_wake_that_meets_a_conflict_reads_and_writes_again_only_if_it_is_still_zero() {
    let mut fixture = Fixture::waking();
    fixture.answers(Outcome::Conflict);
    assert_eq!(fixture.asked(), [read()]);
    fixture.answers(scale(0, "8"));
    assert_eq!(fixture.asked(), [write(2, "8")]);
    fixture.answers(Outcome::Conflict);
    fixture.passes(MAX_PAUSE_WAITING);
    fixture.commands();
    fixture.answers(scale(1, "9"));
    let asked = fixture.asked();
    assert_eq!(
        asked,
        [renew()],
        "others have woken it, to as many as they like"
    );
}

#[test]
fn a_wake_whose_reply_is_lost_is_read_before_it_is_written_again() {
    let mut fixture = Fixture::waking();
    fixture.answers(LOST);
    fixture.passes(MAX_PAUSE_WAITING);
    assert_eq!(fixture.asked(), [read()]);
    fixture.answers(scale(2, "8"));
    assert_eq!(fixture.asked(), [renew()]);
    assert!(matches!(fixture.policy.phase, Phase::Starting { .. }));
}

#[test]
fn a_wake_that_never_reached_the_api_server_is_sent_again() {
    let mut fixture = Fixture::waking();
    fixture.answers(Outcome::Unreachable);
    fixture.passes(MAX_PAUSE_WAITING);
    assert_eq!(fixture.asked(), [write(2, "7")]);
}

#[test]
fn when_all_who_waited_have_gone_the_app_still_wakes_and_then_idles_off() {
    let mut fixture = Fixture::waking();
    fixture.closes_all();
    fixture.answers(Outcome::Unreachable);
    fixture.passes(backoff::MAX_PAUSE);
    assert_eq!(fixture.asked(), [write(2, "7")]);
    fixture.answers(scale(2, "8"));
    fixture.answers_as_before();
    fixture.passes_quietly(TTL);
    fixture.answers_as_before();
    fixture.answers_as_before();
    assert_eq!(fixture.policy.phase, Phase::ScalingDown);
}

#[test]
fn while_asleep_the_scale_is_read_every_ten_seconds() {
    let mut fixture = Fixture::asleep();
    fixture.passes_quietly(Duration::from_secs(60));
    assert_eq!(fixture.asked().len(), 6);
}

#[test]
fn a_deployment_that_is_gone_is_not_taken_to_be_asleep() {
    let mut fixture = Fixture::asleep();
    fixture.passes(POLL);
    fixture.answers(Outcome::NotFound);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    assert_eq!(fixture.policy.phase_name(), "missing");
    fixture.passes(POLL);
    fixture.commands();
    fixture.answers(scale(0, "1"));
    assert_eq!(fixture.changes(), [Change::Found { replicas: 0 }]);
}

#[test]
fn an_answer_to_nothing_that_was_asked_is_ignored() {
    let mut fixture = Fixture::awake();
    fixture.policy.reply(999, scale(0, "3"), fixture.now);
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn who_comes_after_a_failed_wake_waits_no_longer_than_the_pause_for_waiters() {
    let mut fixture = Fixture::waking();
    fixture.closes_all();
    for _ in 0..12 {
        fixture.answers(Outcome::Unreachable);
        fixture.passes(fixture.pause());
    }
    fixture.answers(Outcome::Unreachable);
    fixture.opens(1);
    let pause = fixture.pause();
    assert!(pause <= MAX_PAUSE_WAITING, "{pause:?}");
}

#[test]
fn a_refusal_holds_nobody_who_waits_for_longer_than_other_failures_do() {
    let mut fixture = Fixture::waking();
    fixture.answers(Outcome::Forbidden);
    fixture.passes(MAX_PAUSE_WAITING);
    assert!(fixture.in_flight().is_some(), "asked again");
}

#[test]
fn a_wake_that_is_answered_with_zero_is_not_repeated_without_a_pause() {
    let mut fixture = Fixture::waking();
    fixture.answers(without_token(0, "8"));
    assert!(
        fixture.in_flight() != Some(write(2, "8")),
        "again at once, and so on for ever"
    );
}

#[test]
fn a_poll_that_is_refused_while_asleep_leaves_the_version_that_a_wake_needs() {
    for refusal in [Outcome::Forbidden, Outcome::Unauthorized] {
        let mut fixture = Fixture::asleep();
        fixture.passes(POLL);
        fixture.answers(refusal);
        fixture.commands();
        fixture.opens(1);
        assert_eq!(fixture.asked(), [write(2, "7")]);
    }
}

#[test]
fn a_reply_that_does_not_come_is_waited_for_for_5_s_and_then_it_is_read() {
    let mut fixture = Fixture::waking();
    fixture.passes(MAX_PAUSE_WAITING - Duration::from_millis(1));
    assert_eq!(fixture.asked(), []);
    fixture.passes(Duration::from_millis(1));
    let commands = fixture.commands();
    assert_eq!(commands[0], Command::GaveUp(Permission::PatchScale));
    assert_eq!(fixture.in_flight(), Some(read()));
}

#[test]
fn a_request_that_hangs_is_waited_for_for_long_if_nobody_waits() {
    let mut fixture = Fixture::asleep();
    fixture.passes(POLL);
    fixture.commands();
    fixture.passes(backoff::MAX_PAUSE);
    assert_eq!(fixture.asked(), []);
    assert!(fixture.in_flight().is_some());
}

#[test]
fn a_retry_after_holds_nobody_for_longer_than_5_s() {
    let retry_after = Some(Duration::from_secs(60));
    for failure in [
        Outcome::Busy { retry_after },
        Outcome::Unknown { retry_after },
    ] {
        let mut fixture = Fixture::waking();
        fixture.answers(failure.clone());
        fixture.passes(MAX_PAUSE_WAITING);
        assert_eq!(fixture.asked().len(), 1, "{failure:?}");
    }
}
