//! From zero to a pod that is ready: what wakes the app, and what is done when
//! the wake is not answered as it should be.

use std::time::Duration;

use super::scene::{LOST, Scene, TTL, announce, read, scale, unmarked, write};
use crate::backoff;
use crate::cluster::Outcome;
use crate::policy::{Change, LONGEST_PAUSE_WAITING, POLL, Phase};

#[test]
fn the_first_connection_wakes_the_app_at_once_and_the_next_thousand_ask_for_nothing() {
    let mut scene = Scene::asleep();
    scene.opens(1);
    assert_eq!(scene.asked(), [write(2, "7")]);
    scene.opens(1000);
    scene.passes(Duration::from_millis(5));
    assert_eq!(scene.asked(), []);
}

#[test]
fn a_wake_does_not_wait_for_the_answer_to_a_poll() {
    let mut scene = Scene::asleep();
    scene.passes(POLL);
    assert_eq!(scene.asked(), [read()]);
    let poll = scene.policy.in_flight.as_ref().unwrap().id;
    scene.opens(1);
    assert_eq!(scene.asked(), [write(2, "7")]);
    scene.policy.reply(poll, scale(0, "7"), scene.now);
    assert!(matches!(scene.policy.phase, Phase::Waking { .. }));
    scene.answers(scale(2, "8"));
    assert!(matches!(scene.policy.phase, Phase::Starting { .. }));
}

#[test]
fn the_gate_opens_when_a_pod_is_ready_and_says_how_long_it_took() {
    let mut scene = Scene::waking();
    scene.answers(scale(2, "8"));
    assert_eq!(scene.asked(), [announce()], "while the pod starts");
    scene.covers(2);
    assert!(!scene.gate());
    scene.opens(2);
    scene.commands();
    scene.passes(Duration::from_secs(3));
    scene.pods(true);
    assert!(scene.gate());
    let took = Duration::from_secs(3);
    assert_eq!(scene.said(), [Change::Woke { took, held: 3 }]);
}

#[test]
fn a_pod_that_is_ready_before_the_write_is_answered_waits_for_the_answer() {
    let mut scene = Scene::waking();
    scene.pods(true);
    assert!(!scene.gate());
    scene.answers(scale(2, "8"));
    scene.covers(2);
    assert!(scene.gate());
}

#[test]
fn a_wake_that_meets_a_conflict_reads_and_writes_again_only_if_it_is_still_zero() {
    let mut scene = Scene::waking();
    scene.answers(Outcome::Conflict);
    assert_eq!(scene.asked(), [read()]);
    scene.answers(scale(0, "8"));
    assert_eq!(scene.asked(), [write(2, "8")]);
    scene.answers(Outcome::Conflict);
    scene.passes(LONGEST_PAUSE_WAITING);
    scene.commands();
    scene.answers(scale(1, "9"));
    let asked = scene.asked();
    assert_eq!(
        asked,
        [announce()],
        "others have woken it, to as many as they like"
    );
}

#[test]
fn a_wake_whose_reply_is_lost_is_read_before_it_is_written_again() {
    let mut scene = Scene::waking();
    scene.answers(LOST);
    scene.passes(LONGEST_PAUSE_WAITING);
    assert_eq!(scene.asked(), [read()]);
    scene.answers(scale(2, "8"));
    assert_eq!(scene.asked(), [announce()]);
    assert!(matches!(scene.policy.phase, Phase::Starting { .. }));
}

#[test]
fn a_wake_that_never_reached_the_api_server_is_sent_again() {
    let mut scene = Scene::waking();
    scene.answers(Outcome::Unreachable);
    scene.passes(LONGEST_PAUSE_WAITING);
    assert_eq!(scene.asked(), [write(2, "7")]);
}

#[test]
fn when_all_who_waited_have_gone_the_app_still_wakes_and_then_idles_off() {
    let mut scene = Scene::waking();
    scene.closes_all();
    scene.answers(Outcome::Unreachable);
    scene.passes(backoff::LONGEST);
    assert_eq!(scene.asked(), [write(2, "7")]);
    scene.answers(scale(2, "8"));
    scene.answers_as_before();
    scene.passes_quietly(TTL);
    scene.answers_as_before();
    assert_eq!(scene.policy.phase, Phase::Falling);
}

#[test]
fn while_asleep_the_scale_is_read_every_ten_seconds() {
    let mut scene = Scene::asleep();
    scene.passes_quietly(Duration::from_secs(60));
    assert_eq!(scene.asked().len(), 6);
}

#[test]
fn a_deployment_that_is_gone_is_not_taken_to_be_asleep() {
    let mut scene = Scene::asleep();
    scene.passes(POLL);
    scene.answers(Outcome::NotFound);
    assert_eq!(scene.policy.phase, Phase::Awake);
    scene.passes(POLL);
    scene.commands();
    scene.answers(scale(0, "1"));
    assert_eq!(scene.said(), [Change::FoundAsleep]);
}

#[test]
fn an_answer_to_nothing_that_was_asked_is_ignored() {
    let mut scene = Scene::awake();
    scene.policy.reply(999, scale(0, "3"), scene.now);
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn who_comes_after_a_failed_wake_waits_no_longer_than_the_pause_for_waiters() {
    let mut scene = Scene::waking();
    scene.closes_all();
    for _ in 0..12 {
        scene.answers(Outcome::Unreachable);
        scene.passes(scene.pause());
    }
    scene.answers(Outcome::Unreachable);
    scene.opens(1);
    let pause = scene.pause();
    assert!(pause <= LONGEST_PAUSE_WAITING, "{pause:?}");
}

#[test]
fn a_refusal_holds_nobody_who_waits_for_longer_than_other_failures_do() {
    let mut scene = Scene::waking();
    scene.answers(Outcome::Forbidden);
    scene.passes(LONGEST_PAUSE_WAITING);
    assert!(scene.in_flight().is_some(), "asked again");
}

#[test]
fn a_wake_that_is_answered_with_zero_is_not_repeated_without_a_pause() {
    let mut scene = Scene::waking();
    scene.answers(unmarked(0, "8"));
    assert!(
        scene.in_flight() != Some(write(2, "8")),
        "again at once, and so on for ever"
    );
}
