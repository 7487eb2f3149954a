//! From the last close to zero: the idle clock, the judgement, the write of
//! zero, and all that can come in between or of it.

use std::time::Duration;

use super::scene::{LOST, Scene, TTL, announce, marked, read, scale, write};
use crate::backoff;
use crate::cluster::Outcome;
use crate::policy::{Change, POLL, Phase};

#[test]
fn just_before_the_idle_ttl_nothing_is_judged() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL - Duration::from_millis(1));
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn at_the_idle_ttl_the_scale_is_read_afresh_and_zero_is_written_under_its_version() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL);
    assert_eq!(scene.policy.phase, Phase::Judging);
    scene.commands();
    scene.answers(scale(1, "5"));
    assert_eq!(scene.asked(), [write(0, "5")]);
    assert!(!scene.gate());
    scene.answers(scale(0, "6"));
    assert_eq!(scene.said(), [Change::Slept { idle: TTL }]);
}

#[test]
fn an_open_connection_keeps_the_app_awake_for_ever() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.hands_over();
    scene.passes_quietly(TTL * 50);
    assert_eq!(scene.policy.phase, Phase::Awake);
    assert!(!scene.asked().contains(&write(0, "1")));
}

#[test]
fn the_idle_clock_starts_at_the_last_close() {
    let mut scene = Scene::awake();
    scene.opens(2);
    scene.hands_over();
    scene.passes_quietly(TTL * 2);
    scene.closes_all();
    scene.passes_quietly(TTL - Duration::from_millis(1));
    assert_eq!(scene.policy.phase, Phase::Awake);
    scene.passes_quietly(Duration::from_millis(1));
    assert_eq!(scene.policy.phase, Phase::Judging);
}

#[test]
fn a_connection_that_comes_and_goes_between_two_looks_starts_the_clock_again() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL - Duration::from_secs(1));
    scene.connections.accepted += 1;
    scene.closes_all();
    scene.passes_quietly(TTL - Duration::from_secs(1));
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn whatever_the_hpa_has_made_of_it_the_sleep_is_to_zero() {
    let mut scene = Scene::start();
    scene.answers(scale(5, "1"));
    scene.passes_quietly(TTL);
    scene.commands();
    scene.answers(scale(5, "2"));
    assert_eq!(scene.asked(), [write(0, "2")]);
}

#[test]
fn a_connection_during_the_judgement_ends_it() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL);
    scene.commands();
    scene.opens(1);
    assert_eq!(scene.asked(), [announce()]);
    scene.covers(1);
    assert!(scene.gate());
    assert_eq!(scene.asked(), []);
}

#[test]
fn a_connection_while_the_write_of_zero_is_on_its_way_is_held_and_wakes_the_app() {
    let mut scene = Scene::falling();
    scene.opens(1);
    assert!(!scene.gate());
    assert_eq!(scene.asked(), []);
    scene.answers(scale(0, "6"));
    assert_eq!(
        scene.asked(),
        [write(2, "6")],
        "under the version of our own write"
    );
}

#[test]
fn a_conflict_is_judged_anew_from_a_fresh_read() {
    let mut scene = Scene::falling();
    scene.answers(Outcome::Conflict);
    assert_eq!(scene.asked(), [read()]);
    scene.answers(scale(1, "9"));
    assert_eq!(scene.asked(), [write(0, "9")]);
}

#[test]
fn a_conflict_with_a_connection_waiting_lets_it_through_under_cover() {
    let mut scene = Scene::falling();
    scene.opens(1);
    scene.answers(Outcome::Conflict);
    assert_eq!(scene.asked(), [announce()]);
    scene.covers(1);
    assert!(scene.gate());
}

#[test]
fn a_storm_of_conflicts_is_met_with_pauses() {
    let mut scene = Scene::falling();
    scene.answers(Outcome::Conflict);
    scene.answers(scale(1, "9"));
    scene.commands();
    scene.answers(Outcome::Conflict);
    assert_eq!(scene.asked(), []);
    assert!(scene.policy.next_deadline().unwrap() > scene.now);
}

#[test]
fn after_a_lost_reply_it_reads_before_it_writes() {
    let mut scene = Scene::falling();
    scene.answers(LOST);
    assert!(!scene.gate());
    assert_eq!(scene.asked(), []);
    scene.passes(backoff::LONGEST);
    assert_eq!(scene.asked(), [read()]);
    scene.answers(scale(1, "6"));
    assert_eq!(scene.asked(), [], "others may have to announce");
    scene.passes_quietly(POLL * 2);
    assert_eq!(scene.policy.phase, Phase::Judging);
}

#[test]
fn who_comes_after_a_lost_reply_is_announced_which_shows_what_has_become_of_it() {
    for (replicas, next) in [(0, vec![write(2, "6")]), (1, vec![])] {
        let mut scene = Scene::falling();
        scene.answers(LOST);
        scene.opens(1);
        assert!(!scene.gate());
        assert_eq!(scene.asked(), [announce()]);
        scene.answers(marked(replicas, "6", "ours"));
        assert_eq!(scene.asked(), next);
        assert_eq!(scene.gate(), replicas > 0);
    }
}

#[test]
fn a_write_of_zero_that_is_refused_leaves_the_app_awake() {
    for refusal in [
        Outcome::Forbidden,
        Outcome::Unreachable,
        Outcome::Busy { retry_after: None },
    ] {
        let mut scene = Scene::falling();
        scene.answers(refusal.clone());
        scene.opens(1);
        scene.covers(1);
        assert!(scene.gate(), "{refusal:?}");
    }
}

#[test]
fn a_retry_after_is_waited_for() {
    let mut scene = Scene::falling();
    scene.answers(Outcome::Busy {
        retry_after: Some(Duration::from_secs(40)),
    });
    scene.passes(Duration::from_secs(39));
    assert_eq!(scene.asked(), []);
    scene.passes(Duration::from_secs(1));
    assert_eq!(scene.asked(), [read()]);
}
