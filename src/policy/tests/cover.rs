//! Announcing that the app is in use: when it is done, what it allows, and where
//! it is written when one place is forbidden.

use std::time::Duration;

use super::scene::{MOMENT, Scene, TTL, announce, marked, read, scale, unmarked, write};
use crate::cluster::{Outcome, Request, Via};
use crate::policy::cover::Cover;
use crate::policy::{Change, Command, Phase};

#[test]
fn while_awake_the_first_connection_announces_and_the_next_ask_for_nothing() {
    let mut scene = Scene::awake();
    assert!(!scene.gate());
    scene.opens(1);
    assert_eq!(scene.asked(), [announce()]);
    assert!(!scene.gate());
    scene.passes(MOMENT);
    scene.covers(1);
    assert!(scene.gate());
    scene.opens(100);
    assert!(scene.gate());
    assert_eq!(scene.asked(), []);
}

#[test]
fn the_gate_shuts_at_the_end_of_the_cover_and_a_new_announcement_opens_it() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.covers(1);
    scene.hands_over();
    let (renewal, cover) = (Cover::renewal(TTL), Cover::length(TTL));
    scene.passes(renewal);
    assert_eq!(
        scene.asked().last(),
        Some(&announce()),
        "and the answer is late"
    );
    scene.passes(cover - renewal - MOMENT);
    assert!(scene.gate());
    scene.passes(MOMENT);
    assert!(!scene.gate());
    scene.covers(1);
    assert!(scene.gate());
    scene.passes(renewal);
    assert!(!scene.gate(), "it is counted from when it was sent");
}

#[test]
fn while_a_connection_lives_the_announcement_is_renewed_every_quarter_of_the_ttl() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.covers(1);
    scene.hands_over();
    scene.passes_quietly(TTL * 10 + MOMENT);
    assert_eq!(scene.announced, 41);
}

#[test]
fn the_last_close_announces_once_more() {
    let mut scene = Scene::awake();
    scene.opens(2);
    scene.covers(1);
    scene.hands_over();
    scene.passes_quietly(TTL / 5);
    scene.commands();
    scene.closes_all();
    assert_eq!(scene.asked(), [announce()]);
    scene.covers(1);
    scene.passes_quietly(TTL - MOMENT);
    assert_eq!(scene.announced, 2, "and then no more");
}

#[test]
fn who_comes_after_somebody_has_left_a_wake_is_announced_at_once() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.answers(marked(0, "9", "ours"));
    scene.closes_all();
    scene.opens(1);
    scene.commands();
    scene.answers(scale(2, "10"));
    assert_eq!(scene.asked(), [announce()]);
}

#[test]
fn an_announcement_that_finds_the_app_asleep_wakes_it() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.answers(marked(0, "9", "ours"));
    assert!(!scene.gate());
    assert_eq!(scene.asked(), [announce(), write(2, "9")]);
}

#[test]
fn where_the_status_may_not_be_patched_an_annotation_serves_and_where_neither_may_nothing_is_held()
{
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.commands();
    scene.answers(Outcome::Forbidden);
    let via = Via::Annotation;
    assert_eq!(
        scene.commands().first(),
        Some(&Command::Say(Change::AnnouncesVia(Some(via))))
    );
    assert!(!scene.gate());
    scene.answers(Outcome::Forbidden);
    assert_eq!(scene.said(), [Change::AnnouncesVia(None)]);
    assert!(scene.gate());
}

fn forbidden_everywhere_and_starting() -> Scene {
    let mut scene = Scene::asleep();
    scene.opens(1);
    scene.commands();
    scene.answers(unmarked(2, "8")); // scaled up; now Starting
    scene
}

#[test]
fn where_announcing_is_forbidden_a_cold_start_does_not_spin() {
    let mut scene = forbidden_everywhere_and_starting();
    assert!(matches!(scene.policy.phase, Phase::Starting { .. }));
    assert!(matches!(scene.in_flight(), Some(Request::Announce { .. })));
    scene.answers(Outcome::Forbidden);
    assert!(matches!(scene.in_flight(), Some(Request::Announce { .. })));
    scene.answers(Outcome::Forbidden);
    for _ in 0..40 {
        scene.passes(Duration::from_millis(100));
        if scene.in_flight() == Some(read()) {
            scene.answers(unmarked(2, "8"));
        }
        let next = scene.policy.next_deadline().unwrap();
        assert!(
            next > scene.now,
            "due {:?} ago, phase {:?}",
            scene.now.since(next),
            scene.policy.phase
        );
    }
}

#[test]
fn one_refusal_does_not_stand_for_five_minutes_after_announcing_has_worked() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.commands();
    scene.covers(1);
    scene.hands_over();
    // the renewal meets an API server that has just started (403 until RBAC has synced)
    while !matches!(scene.in_flight(), Some(Request::Announce { .. })) {
        let due = scene.policy.next_deadline().unwrap();
        scene.passes(due.since(scene.now));
        if scene.in_flight() == Some(read()) {
            scene.answers_as_before();
        }
    }
    scene.answers(Outcome::Forbidden);
    let start = scene.now;
    while !matches!(scene.in_flight(), Some(Request::Announce { .. })) {
        let due = scene.policy.next_deadline().unwrap();
        scene.passes(due.since(scene.now));
        if scene.in_flight() == Some(read()) {
            scene.answers_as_before();
        }
    }
    assert!(
        scene.now.since(start) < TTL,
        "a connection is open, and for {:?} nothing tells the others",
        scene.now.since(start)
    );
}
