//! What a watch of the Deployment adds: changes are known when they happen, and the
//! Deployment is read less often. Events come in any order with replies.

use std::time::Duration;

use super::fixture::{
    Fixture, LOST, MOMENT, TTL, read, renew, renew_at, scale, with_token, without_token, write,
};
use crate::clock::Time;
use crate::cluster::{Observation, Outcome, Scale};
use crate::policy::{Change, Command, Config, POLL, POLL_WATCHED, Phase, Policy};

/// Asleep at version 7, and watched.
fn asleep() -> Fixture {
    let mut fixture = Fixture::asleep();
    fixture.policy.set_watching(true, fixture.now);
    fixture
}

fn awake() -> Fixture {
    let mut fixture = Fixture::awake();
    fixture.policy.set_watching(true, fixture.now);
    fixture
}

#[test]
fn an_event_counts_if_its_version_is_newer_than_all_that_was_shown() {
    for (label, version, awake, asked) in [
        ("older", "6", false, &[][..]),
        ("older, with fewer digits than others have", "1", false, &[]),
        ("the version of the last reply", "7", false, &[]),
        ("newer", "8", true, &[]),
        ("newer by a digit", "10", true, &[]),
        ("not comparable", "v8", false, &[read()]),
    ] {
        let mut fixture = asleep();
        fixture.passes(Duration::from_secs(1));
        fixture.observes(scale(1, version));
        assert_eq!(fixture.policy.phase == Phase::Awake, awake, "{label}");
        assert_eq!(fixture.asked(), asked, "{label}");
    }
}

#[test]
fn an_event_that_must_be_read_is_a_second_after_the_last_reply_at_the_soonest() {
    let mut fixture = asleep();
    for _ in 0..3 {
        fixture.policy.observe(Observation::Changed, fixture.now);
        assert_eq!(fixture.asked(), []);
        fixture.passes(Duration::from_secs(1) - MOMENT);
        assert_eq!(fixture.asked(), []);
        fixture.passes(MOMENT);
        assert_eq!(fixture.asked(), [read()]);
        fixture.answers(scale(0, "7"));
    }
}

/// It may show what the request has done, or something older than its reply.
#[test]
fn an_event_that_comes_while_a_request_is_out_waits_for_the_reply() {
    for (label, event, reply, asked) in [
        (
            "the wake was made, and the reply is lost",
            scale(2, "8"),
            LOST,
            [renew()],
        ),
        (
            "somebody else has made it",
            scale(1, "9"),
            Outcome::Conflict,
            [renew()],
        ),
        (
            "a touch only: the wake is written at the new version, and nothing read before",
            scale(0, "8"),
            Outcome::Conflict,
            [write(2, "8")],
        ),
        (
            "older than the reply",
            scale(0, "8"),
            without_token(2, "9"),
            [renew()],
        ),
    ] {
        let mut fixture = asleep();
        fixture.opens(1);
        assert_eq!(fixture.asked(), [write(2, "7")]);
        fixture.observes(event);
        assert_eq!(fixture.asked(), [], "{label}");
        assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
        fixture.answers(reply);
        assert_eq!(fixture.asked(), asked, "{label}");
    }
}

#[test]
fn of_events_that_wait_the_newest_counts_also_if_an_older_one_is_repeated_after_it() {
    let mut fixture = asleep();
    fixture.opens(1);
    fixture.commands();
    fixture.observes(scale(0, "8"));
    fixture.observes(scale(1, "9"));
    fixture.observes(scale(0, "8"));
    fixture.answers(Outcome::Conflict);
    assert!(matches!(fixture.policy.phase, Phase::Starting { .. }));
}

#[test]
fn a_human_scales_to_zero_under_live_connections_and_the_next_one_wakes_without_a_read() {
    let mut fixture = awake();
    fixture.opens(1);
    fixture.grants(1);
    fixture.hands_over();
    fixture.commands();
    fixture.observes(scale(0, "8"));
    let commands = fixture.commands();
    assert!(commands.contains(&Command::QuarantinePods), "{commands:?}");
    assert!(!fixture.policy.has_lease(fixture.now));
    fixture.opens(1);
    assert_eq!(fixture.asked(), [write(2, "8")]);
}

#[test]
fn the_renewal_of_another_proxy_restarts_the_idle_clock_when_it_is_shown() {
    let mut fixture = awake();
    fixture.passes_quietly(TTL - Duration::from_secs(1));
    fixture.observes(with_token(1, "2", "another"));
    fixture.answers_as_before_if_asked();
    fixture.passes_quietly(TTL - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(MOMENT);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

#[test]
fn a_step_of_the_hpa_that_a_watch_shows_is_no_sign_of_use() {
    let mut fixture = awake();
    fixture.passes_quietly(TTL - Duration::from_secs(1));
    fixture.observes(scale(4, "2"));
    fixture.passes_quietly(Duration::from_secs(1));
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

/// It says that nobody is there, and is seen by all that have found the same.
#[test]
fn the_renewal_of_another_proxy_before_a_sleep_is_no_sign_of_use() {
    for (label, is_final_renewal, undone_sleeps) in
        [("a renewal", false, 0), ("the last one", true, 2)]
    {
        let mut fixture = awake();
        fixture.policy.undone_sleeps = 2;
        let Outcome::Scale(scale) = with_token(1, "2", "another") else {
            unreachable!("a scale is shown");
        };
        let observation = Observation::Scale(Scale {
            is_final_renewal,
            ..scale
        });
        fixture.policy.observe(observation, fixture.now);
        assert_eq!(fixture.policy.undone_sleeps, undone_sleeps, "{label}");
    }
}

/// Whether the write of zero was made is not known.
#[test]
fn no_event_leads_to_a_write_of_zero_and_one_shows_that_it_was_made() {
    for (label, event, phase) in [
        ("replicas", scale(1, "8"), "scaling_down"),
        (
            "a renewal of another",
            with_token(1, "8", "theirs"),
            "scaling_down",
        ),
        ("zero", scale(0, "8"), "asleep"),
    ] {
        let mut fixture = Fixture::scaling_down();
        fixture.policy.set_watching(true, fixture.now);
        fixture.answers(LOST);
        fixture.observes(event);
        assert_eq!(fixture.asked(), [], "{label}");
        assert_eq!(fixture.policy.phase_name(), phase, "{label}");
    }
}

#[test]
fn the_event_of_our_own_last_renewal_ends_no_sleep() {
    let mut fixture = awake();
    fixture.passes_quietly(TTL);
    fixture.commands();
    fixture.answers(scale(1, "5"));
    assert_eq!(fixture.asked(), [renew_at("5")]);
    fixture.observes(with_token(1, "6", "ours 1"));
    fixture.answers(with_token(1, "6", "ours 1"));
    assert_eq!(fixture.asked(), [write(0, "6")]);
    fixture.observes(with_token(1, "6", "ours 1"));
    fixture.answers(without_token(0, "7"));
    assert_eq!(fixture.changes(), [Change::SleepWritten { idle: TTL }]);
}

/// Events may be late by any time, so that they do not show that anybody could renew.
#[test]
fn events_are_no_sign_that_the_api_server_is_within_reach() {
    for (label, silent, sleeps) in [
        ("for half a TTL", TTL / 2, true),
        ("for longer", TTL / 2 + MOMENT, false),
    ] {
        let mut fixture = awake();
        fixture.passes_quietly(POLL + MOMENT);
        fixture.passes(Duration::from_secs(14));
        assert_eq!(fixture.in_flight(), None, "the event is taken in at once");
        fixture.observes(scale(1, "2"));
        fixture.passes((silent - Duration::from_secs(14)).saturating_sub(MOMENT));
        fixture.answers(scale(1, "3"));
        fixture.passes_quietly(TTL - POLL - silent);
        let is_idle = fixture.policy.phase == Phase::ConfirmingIdle;
        assert_eq!(is_idle, sleeps, "{label}");
    }
}

#[test]
fn what_is_watched_is_read_less_often_but_as_often_as_ever_before_a_sleep() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (ttl, watched, otherwise) in [
        (minutes(60), POLL_WATCHED, POLL),
        (minutes(2), POLL_WATCHED, POLL),
        (minutes(1), Duration::from_secs(15), POLL),
        (
            Duration::from_secs(20),
            Duration::from_secs(5),
            Duration::from_secs(4),
        ),
    ] {
        let config = Config {
            idle_ttl: ttl,
            ..Config::default()
        };
        for (is_watched, expected) in [(true, watched), (false, otherwise)] {
            let mut fixture = Fixture::start_with(config.clone());
            fixture.policy.set_watching(is_watched, fixture.now);
            fixture.answers(scale(0, "1"));
            assert_eq!(fixture.pause(), expected, "{ttl:?}, asleep");
            let mut fixture = Fixture::start_with(config.clone());
            fixture.policy.set_watching(is_watched, fixture.now);
            fixture.answers(scale(1, "1"));
            assert_eq!(fixture.pause(), expected.min(ttl * 3 / 5), "{ttl:?}, awake");
            fixture.passes_quietly(ttl - otherwise);
            fixture.answers_as_before_if_asked();
            let last = fixture.policy.seen.as_ref().unwrap().last;
            let label = format!("{ttl:?}, before a sleep");
            assert!(fixture.now.since(last) <= otherwise, "{label}");
            assert!(fixture.pause() <= otherwise, "{label}");
        }
    }
}

#[test]
fn a_watch_that_ends_is_followed_by_a_read_as_soon_as_without_one() {
    let mut fixture = asleep();
    fixture.passes_quietly(POLL + MOMENT);
    assert!(fixture.pause() > POLL);
    fixture.policy.set_watching(false, fixture.now);
    assert_eq!(fixture.pause(), POLL);
    fixture.passes_quietly(POLL + MOMENT);
    assert_eq!(fixture.pause(), POLL - MOMENT, "and so on");
}

/// An event of before the deletion is not of the object that comes next.
#[test]
fn what_has_waited_for_a_reply_that_there_is_no_deployment_is_forgotten() {
    let mut fixture = asleep();
    fixture.passes(POLL_WATCHED);
    assert_eq!(fixture.asked(), [read()]);
    fixture.observes(scale(1, "8"));
    fixture.answers(Outcome::NotFound);
    assert_eq!(fixture.policy.phase_name(), Phase::MISSING);
    fixture.observes(scale(1, "12"));
    assert_eq!(fixture.policy.phase_name(), "awake");
}

/// When something is asked in that time, while nothing happens and all is answered as before.
fn asked_in(fixture: &mut Fixture, time: Duration) -> Vec<Time> {
    let end = fixture.now + time;
    let mut asked = Vec::new();
    while let Some(next) = fixture.policy.poll_timeout().filter(|&at| at < end) {
        fixture.passes(next.since(fixture.now));
        if fixture.in_flight().is_some() {
            asked.push(fixture.now);
            fixture.answers_as_before();
        }
    }
    asked
}

#[test]
fn apps_that_sleep_take_turns_so_that_their_reads_do_not_grow_with_their_number() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for (apps, is_watching) in [(1, true), (10, true), (50, true), (500, true), (500, false)] {
        let mut fixture = asleep();
        fixture.policy.set_watching(is_watching, fixture.now);
        fixture.policy.set_apps(apps);
        let asked = asked_in(&mut fixture, DAY);
        let each_minute = asked.len() as f64 * apps as f64 / (24.0 * 60.0);
        let label = format!("{apps} apps: {each_minute} a minute");
        match apps {
            // TTL / 4 is 15 s.
            1 => assert!((3.9..4.1).contains(&each_minute), "{label}"),
            _ => assert!((25.0..45.0).contains(&each_minute), "{label}"),
        }
        let gaps = asked.windows(2).map(|pair| pair[1].since(pair[0]));
        let shortest = gaps.min().unwrap() * apps as u32;
        assert!(
            apps == 1 || shortest > Duration::from_secs(apps as u64),
            "{label}"
        );
    }
}

/// From the first minute on, because a connection without a request is closed after one.
#[test]
fn apps_that_start_together_have_their_turns_one_after_the_other_from_the_start() {
    const APPS: u64 = 500;
    let mut each_minute = [0; 60];
    for app in 0..APPS {
        let mut policy = Policy::new(Config::default(), app, Time::default());
        policy.set_apps(APPS as usize);
        policy.set_watching(true, Time::default());
        let mut now = Time::default();
        loop {
            policy.handle_timeout(now);
            while let Some(command) = policy.poll_command() {
                if let Command::Send { id, .. } = command {
                    policy.reply(id, Outcome::Scale(Scale::of(0, "1")), now);
                    let minute = now.since(Time::default()).as_secs() / 60;
                    each_minute[minute as usize] += 1;
                }
            }
            now = policy.poll_timeout().unwrap();
            if now.since(Time::default()) >= Duration::from_secs(3600) {
                break;
            }
        }
    }
    let [first, others @ ..] = each_minute;
    assert!(first >= APPS, "all of them at the start: {first}");
    let (least, most) = (others.iter().min(), others.iter().max());
    assert!(*least.unwrap() > 0 && *most.unwrap() < 60, "{others:?}");
}

#[test]
fn an_app_that_is_awake_among_many_is_read_as_often_as_its_sleep_requires() {
    let mut fixture = awake();
    fixture.policy.set_apps(500);
    let slept = asked_in(&mut fixture, TTL + TTL / 10);
    let gaps = slept.windows(2).map(|pair| pair[1].since(pair[0]));
    assert!(gaps.max().unwrap() <= TTL / 4);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle, "after one TTL");
}
