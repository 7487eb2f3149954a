//! What is done before anything is known.

use super::scene::{Scene, announce, read, scale, write};
use crate::backoff;
use crate::cluster::Outcome;
use crate::policy::{Change, Command, Phase};

#[test]
fn at_the_start_it_reads_and_writes_nothing() {
    let mut scene = Scene::start();
    assert_eq!(scene.asked(), [read()]);
    scene.answers(scale(3, "1"));
    assert_eq!(scene.asked(), []);
    assert_eq!(scene.policy.phase, Phase::Awake);
}

#[test]
fn at_the_start_an_app_at_zero_is_asleep_without_any_write() {
    let mut scene = Scene::start();
    scene.commands();
    scene.answers(scale(0, "7"));
    assert_eq!(
        scene.commands(),
        [Command::CondemnPods, Command::Say(Change::FoundAsleep)]
    );
    assert!(!scene.gate());
}

#[test]
fn a_connection_before_the_first_answer_announces_and_then_wakes() {
    let mut scene = Scene::start();
    scene.commands();
    scene.opens(1);
    assert_eq!(
        scene.asked(),
        [announce()],
        "whose answer shows the scale as well"
    );
    scene.answers(scale(0, "7"));
    assert_eq!(scene.asked(), [write(2, "7")]);
}

#[test]
fn an_unreachable_api_server_at_the_start_is_asked_again_and_nothing_sleeps() {
    let mut scene = Scene::start();
    scene.commands();
    for _ in 0..100 {
        scene.answers(Outcome::Unreachable);
        assert_eq!(scene.asked(), [], "not before the pause is over");
        let next = scene.policy.next_deadline().unwrap();
        assert!(next.since(scene.now) <= backoff::LONGEST);
        scene.now = next;
        scene.policy.tick(next);
        assert_eq!(scene.asked(), [read()]);
    }
}
