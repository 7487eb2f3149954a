//! What other proxies and people do to the Deployment: it is seen there, and
//! counts as use of the app.

use std::time::Duration;

use super::scene::{MOMENT, Scene, TTL, marked, read, scale, unmarked, write};
use crate::cluster::{Outcome, Scale};
use crate::policy::{Command, POLL, Phase};

#[test]
fn somebody_else_scaling_it_starts_the_clock_again() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL - Duration::from_secs(1));
    scene.policy.due = scene.now;
    scene.passes(Duration::ZERO);
    scene.answers(scale(4, "9"));
    scene.passes_quietly(TTL - Duration::from_secs(1));
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn a_judgement_that_finds_other_replicas_than_before_waits_another_ttl() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL);
    scene.commands();
    scene.answers(scale(3, "5"));
    assert_eq!(scene.asked(), []);
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn a_human_scales_to_zero_under_live_connections_and_the_next_one_wakes() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.covers(1);
    scene.hands_over();
    scene.commands();
    scene.pods(false);
    assert_eq!(scene.asked(), [], "nobody waits");
    scene.opens(1);
    assert_eq!(scene.asked(), [read()]);
    scene.answers(scale(0, "8"));
    assert_eq!(scene.asked(), [write(2, "8")]);
}

#[test]
fn an_app_that_somebody_else_wakes_has_a_whole_ttl() {
    let mut scene = Scene::asleep();
    scene.passes_quietly(TTL * 10);
    scene.pods(true);
    assert_eq!(
        scene.asked().last(),
        Some(&read()),
        "the new pod is reason enough to look"
    );
    scene.answers(scale(1, "8"));
    assert_eq!(scene.policy.phase, Phase::Awake);
    scene.passes_quietly(TTL - Duration::from_millis(1));
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn pods_are_condemned_when_the_scale_may_have_gone_to_zero_and_back_unseen() {
    let mut scene = Scene::awake();
    for (label, seen, condemned) in [
        ("the first look shows no change", 4, false),
        ("one write cannot have gone both ways", 5, false),
        ("two can", 7, true),
    ] {
        scene.passes(POLL);
        scene.commands();
        let Outcome::Scale(shown) = scale(1, "1") else {
            panic!("a scale");
        };
        scene.answers(Outcome::Scale(Scale {
            generation: Some(seen),
            ..shown
        }));
        let found = scene.commands().contains(&Command::CondemnPods);
        assert_eq!(found, condemned, "{label}");
    }
}

#[test]
fn an_announcement_of_another_proxy_starts_the_idle_clock_again() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL - Duration::from_secs(1));
    scene.policy.due = scene.now;
    scene.passes(Duration::ZERO);
    scene.answers(marked(1, "3", "another's"));
    scene.passes_quietly(TTL - MOMENT);
    assert_eq!(scene.policy.phase, Phase::Awake);
    scene.passes_quietly(MOMENT);
    assert_eq!(scene.policy.phase, Phase::Judging);
}

#[test]
fn a_judgement_that_finds_another_mark_than_before_waits_another_ttl() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL);
    scene.commands();
    scene.answers(marked(1, "5", "another's"));
    assert_eq!(scene.asked(), []);
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn a_judgement_that_cannot_see_the_mark_any_more_waits_another_ttl() {
    let mut scene = Scene::awake();
    scene.passes_quietly(TTL);
    scene.commands();
    scene.answers(unmarked(1, "5"));
    assert_eq!(scene.asked(), []);
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn where_marks_can_never_be_seen_the_own_connections_alone_count() {
    let mut scene = Scene::start();
    scene.answers(unmarked(1, "1"));
    scene.passes_quietly(TTL);
    scene.commands();
    scene.answers(unmarked(1, "5"));
    assert_eq!(scene.asked(), [write(0, "5")]);
}

#[test]
fn a_conflict_in_which_another_has_announced_ends_the_sleep() {
    let mut scene = Scene::falling();
    scene.answers(Outcome::Conflict);
    assert_eq!(scene.asked(), [read()]);
    scene.answers(marked(1, "9", "another's"));
    assert_eq!(scene.asked(), []);
    assert_eq!(scene.policy.phase, Phase::Awake);
}
