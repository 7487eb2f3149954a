//! An API server that does not answer, or does so again: who is let through
//! all the same, and who must have the time to announce before the app sleeps.

use std::time::Duration;

use super::scene::{LOST, MOMENT, Scene, TTL, announce, scale};
use crate::cluster::Outcome;
use crate::policy::{Change, LONGEST_PAUSE_WAITING, POLL, POLL_FORBIDDEN, Phase, cover};

#[test]
fn an_api_server_that_is_down_while_awake_puts_nothing_to_sleep() {
    let mut scene = Scene::awake();
    for outcome in [Outcome::Unreachable, LOST, Outcome::Forbidden] {
        scene.passes(POLL_FORBIDDEN);
        scene.answers(outcome);
    }
    scene.passes(TTL);
    scene.answers(LOST);
    assert_eq!(scene.policy.phase, Phase::Judging);
    scene.opens(1);
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn an_api_server_that_comes_back_as_the_ttl_ends_cuts_nobody_who_could_not_announce() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL - POLL);
    scene.answers(LOST);
    scene.passes(POLL);
    assert_eq!(scene.policy.phase, Phase::Judging);
    scene.answers(scale(1, "5"));
    assert_eq!(scene.policy.phase, Phase::Awake, "it was out of reach");
    scene.passes_quietly(POLL * 2 - MOMENT);
    assert_eq!(scene.policy.phase, Phase::Awake);
    scene.passes(MOMENT);
    assert_eq!(scene.policy.phase, Phase::Judging);
    scene.answers(scale(1, "5"));
    assert_eq!(scene.policy.phase, Phase::Falling);
}

#[test]
fn after_half_a_ttl_without_an_answer_a_whole_ttl_begins() {
    let mut scene = Scene::awake();
    scene.passes(TTL);
    scene.answers(scale(1, "1"));
    assert_eq!(scene.policy.phase, Phase::Awake, "others may need cover");
    scene.passes_quietly(TTL - MOMENT);
    assert_eq!(scene.policy.phase, Phase::Awake);
    scene.passes_quietly(MOMENT * 2);
    assert_ne!(scene.policy.phase, Phase::Awake);
}

#[test]
fn nobody_is_let_through_without_cover_before_it_was_tried() {
    let mut scene = Scene::awake();
    scene.opens(1);
    for _ in 0..20 {
        scene.answers(LOST);
        scene.passes_unanswered(LONGEST_PAUSE_WAITING);
    }
    assert!(
        scene.policy.gate_open(scene.now),
        "the server does not answer"
    );
    scene.hands_over();
    scene.closes_all();
    scene.passes(LONGEST_PAUSE_WAITING);
    scene.answers(LOST);
    scene.passes(Duration::from_secs(11));
    assert!(!scene.policy.gate_open(scene.now), "it may answer again");
    scene.commands();
    scene.opens(1);
    assert_eq!(scene.asked(), [announce()]);
}

#[test]
fn when_announcing_fails_for_two_seconds_connections_are_let_through_and_it_is_said() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.answers(Outcome::Unreachable);
    scene.passes(cover::FAIL_OPEN_AFTER - MOMENT);
    assert!(!scene.gate());
    scene.commands();
    scene.passes(MOMENT);
    assert!(scene.gate());
    assert_eq!(scene.said(), [Change::Uncovered { waiting: 1 }]);
    scene.hands_over();
    scene.opens(1);
    assert!(
        scene.gate(),
        "the next one is not held for another two seconds"
    );
}

#[test]
fn an_api_server_that_does_not_answer_at_all_lets_connections_through_as_well() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.passes(cover::FAIL_OPEN_AFTER);
    assert!(scene.gate());
}

#[test]
fn no_failure_opens_the_gate_of_an_app_that_is_known_to_be_asleep() {
    let mut scene = Scene::waking();
    scene.answers(Outcome::Unreachable);
    scene.pods(true);
    scene.passes(cover::FAIL_OPEN_AFTER * 10);
    assert!(!scene.gate());
}

#[test]
fn who_comes_while_the_outcome_of_the_sleep_is_unknown_waits_no_longer_than_the_pause_for_waiters()
{
    let mut scene = Scene::falling();
    scene.answers(LOST);
    for _ in 0..12 {
        scene.passes(scene.pause());
        scene.answers(Outcome::Unreachable);
    }
    scene.opens(1);
    let pause = scene.pause();
    assert!(pause <= LONGEST_PAUSE_WAITING, "{pause:?}");
}

#[test]
fn an_api_server_that_goes_down_as_the_app_falls_asleep_does_not_shut_the_gate_for_ever() {
    let mut scene = Scene::falling();
    scene.answers(LOST);
    scene.opens(1);
    scene.answers(Outcome::Unreachable);
    scene.passes(cover::FAIL_OPEN_AFTER);
    assert!(scene.gate());
}
