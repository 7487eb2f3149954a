//! The policy as a table of what it does when. Each test is a sentence; a
//! `Scene` plays the parts of the engine and of the API server.

mod scene;

use self::scene::{LOST, MOMENT, Scene, TTL, announce, marked, read, scale, unmarked, write};
use super::*;

// --- Start ---

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

// --- Awake ---

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

// --- Falling asleep ---

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

// --- Asleep and waking ---

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

// --- Several proxies ---

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

#[test]
fn an_announcement_that_finds_the_app_asleep_wakes_it() {
    let mut scene = Scene::awake();
    scene.opens(1);
    scene.answers(marked(0, "9", "ours"));
    assert!(!scene.gate());
    assert_eq!(scene.asked(), [announce(), write(2, "9")]);
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

// --- Pauses ---
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
fn who_comes_while_the_outcome_of_the_sleep_is_unknown_waits_no_longer_than_the_pause_for_waiters()
{
    let mut scene = Scene::falling();
    scene.answers(LOST);
    for _ in 0..12 {
        let due = scene.policy.next_deadline().unwrap();
        scene.passes(due.since(scene.now));
        scene.answers(Outcome::Unreachable);
    }
    scene.opens(1);
    let due = scene.policy.next_deadline().unwrap();
    assert!(
        due.since(scene.now) <= LONGEST_PAUSE_WAITING,
        "{:?}",
        due.since(scene.now)
    );
}

#[test]
fn who_comes_after_a_failed_wake_waits_no_longer_than_the_pause_for_waiters() {
    let mut scene = Scene::waking();
    scene.closes_all();
    for _ in 0..12 {
        scene.answers(Outcome::Unreachable);
        let due = scene.policy.next_deadline().unwrap();
        scene.passes(due.since(scene.now));
    }
    scene.answers(Outcome::Unreachable);
    scene.opens(1);
    let due = scene.policy.next_deadline().unwrap();
    assert!(
        due.since(scene.now) <= LONGEST_PAUSE_WAITING,
        "{:?}",
        due.since(scene.now)
    );
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

#[test]
fn an_api_server_that_goes_down_as_the_app_falls_asleep_does_not_shut_the_gate_for_ever() {
    let mut scene = Scene::falling();
    scene.answers(LOST);
    scene.opens(1);
    scene.answers(Outcome::Unreachable);
    scene.passes(cover::FAIL_OPEN_AFTER);
    assert!(scene.gate());
}

// --- Everything at once ---

mod anything {
    use super::*;
    use proptest::prelude::*;

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
            let mut scene = Scene::start();
            let mut idle_since = scene.now;
            let mut last_read: Option<Scale> = None;
            let mut must_read = false;
            for step in steps {
                match step {
                    Step::Pass(ms) => scene.passes(Duration::from_millis(ms)),
                    Step::Open => scene.opens(1),
                    Step::HandOver => scene.hands_over(),
                    Step::Close => {
                        if scene.connections.open > 0 {
                            idle_since = scene.now;
                        }
                        scene.closes_all();
                    }
                    Step::Pods(dialable) => scene.pods(dialable),
                    Step::Answer(outcome) => {
                        if let Some(asked) = scene.policy.in_flight.clone() {
                            let wrote = matches!(asked.request, Request::WriteScale { .. });
                            match &outcome {
                                Outcome::Scale(scale) => {
                                    last_read = Some(scale.clone());
                                    must_read = false;
                                }
                                Outcome::Unknown { .. } | Outcome::Conflict => must_read |= wrote,
                                _ => {}
                            }
                            scene.answers(outcome);
                        }
                    }
                }
                for request in scene.asked() {
                    if let Request::WriteScale { replicas, guard } = request {
                        prop_assert!(!must_read, "a write after an unknown outcome");
                        let read = last_read.clone().expect("a write before any read");
                        prop_assert_eq!(guard, read.version);
                        prop_assert_eq!(replicas > 0, read.replicas == 0);
                        if replicas == 0 {
                            prop_assert_eq!(scene.connections.open, 0);
                            prop_assert!(scene.now.since(idle_since) >= TTL);
                        }
                    }
                }
                let writing_zero = scene.policy.phase == Phase::Falling;
                prop_assert!(!(writing_zero && scene.gate()));
            }
        }
    }
}
