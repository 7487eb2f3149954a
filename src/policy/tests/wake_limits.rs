//! The limit of wakes in a minute, and the least times awake and asleep.

use std::num::NonZeroU32;
use std::time::Duration;

use super::fixture::{Fixture, MOMENT, TTL, read, scale, with_token, write};
use crate::clock::Time;
use crate::cluster::{Outcome, Request};
use crate::policy::{Change, Config, Phase, WakeDelay};

const MINUTE: Duration = Duration::from_secs(60);

/// An app that is asleep, with these limits.
fn asleep(min_awake: Duration, wakes_per_minute: Option<u32>) -> Fixture {
    let mut fixture = Fixture::start_with(Config {
        idle_ttl: TTL,
        wake_replicas: 2,
        min_awake,
        wakes_per_minute: wakes_per_minute.and_then(NonZeroU32::new),
        ..Config::default()
    });
    fixture.answers(scale(0, "7"));
    fixture.commands();
    fixture
}

/// Wakes it, and something else scales it to zero again when nobody waits any more.
fn wake_and_undo(fixture: &mut Fixture) {
    fixture.opens(1);
    assert_eq!(fixture.asked(), [write(2, "7")]);
    fixture.answers(scale(2, "8"));
    fixture.closes_all();
    while fixture.in_flight() != Some(read()) {
        fixture.answers_as_before_if_asked();
        fixture.passes(fixture.pause());
    }
    fixture.answers(scale(0, "9"));
    fixture.commands();
    assert!(matches!(fixture.policy.phase, Phase::Asleep { .. }));
}

#[test]
fn a_wake_over_the_limit_waits_until_a_minute_after_the_first_and_is_said_once() {
    let mut fixture = asleep(Duration::ZERO, Some(1));
    let start = fixture.now;
    wake_and_undo(&mut fixture);
    fixture.opens(1);
    assert!(matches!(fixture.policy.phase, Phase::Asleep { .. }));
    let changes = fixture.changes();
    assert!(
        matches!(
            changes[..],
            [Change::WakeDelayed { by: WakeDelay::WakesPerMinute, wait: Some(wait) }]
                if wait <= MINUTE
        ),
        "{changes:?}"
    );
    let before = (start + MINUTE).since(fixture.now) - MOMENT;
    fixture.passes_quietly(before);
    assert!(matches!(fixture.policy.phase, Phase::Asleep { .. }));
    assert_eq!(fixture.changes(), [], "it was said");
    assert!(
        fixture.pause() <= MOMENT,
        "it is known when the wake is due"
    );
    fixture.passes(MOMENT);
    assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
}

#[test]
fn without_a_limit_a_wake_follows_another_at_once() {
    let mut fixture = asleep(Duration::ZERO, None);
    wake_and_undo(&mut fixture);
    fixture.opens(1);
    assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
}

#[test]
fn after_a_sleep_it_is_woken_only_when_its_least_time_asleep_has_passed() {
    let mut fixture = Fixture::start_with(Config {
        idle_ttl: TTL,
        wake_replicas: 2,
        min_asleep: MINUTE,
        ..Config::default()
    });
    fixture.answers(scale(1, "1"));
    fixture.pods(true);
    fixture.passes_quietly(TTL);
    fixture.answers(scale(1, "5"));
    fixture.answers(with_token(1, "6", "ours 1"));
    // A connection that comes while zero is written waits for that time too.
    fixture.opens(1);
    fixture.commands();
    let asleep = fixture.now;
    fixture.answers(scale(0, "7"));
    assert!(matches!(fixture.policy.phase, Phase::Asleep { .. }));
    let delayed = Change::WakeDelayed {
        by: WakeDelay::MinAsleep,
        wait: Some(MINUTE),
    };
    assert!(fixture.changes().contains(&delayed));
    fixture.passes_quietly((asleep + MINUTE).since(fixture.now) - MOMENT);
    assert!(matches!(fixture.policy.phase, Phase::Asleep { .. }));
    fixture.passes(MOMENT);
    assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
}

#[test]
fn what_the_first_read_shows_is_no_sleep_that_has_just_been() {
    let mut fixture = Fixture::start_with(Config {
        min_asleep: MINUTE,
        ..Config::default()
    });
    fixture.answers(scale(0, "7"));
    fixture.opens(1);
    assert!(matches!(fixture.policy.phase, Phase::Waking { .. }));
}

/// What the first read of a proxy shows is no wake: its idle clock starts anyway.
#[test]
fn after_a_wake_it_stays_awake_for_its_least_time_and_sleeps_then() {
    for (label, min_awake, sleeps_after) in [
        ("shorter than the idle TTL", TTL / 2, TTL),
        ("longer", TTL * 3, TTL * 3),
    ] {
        let mut fixture = asleep(min_awake, None);
        fixture.opens(1);
        fixture.commands();
        fixture.answers(scale(2, "8"));
        fixture.answers_as_before_if_asked();
        fixture.pods(true);
        fixture.answers_as_before_if_asked();
        assert!(fixture.gate(), "{label}");
        let woken = fixture.now;
        fixture.closes_all();
        fixture.answers_as_before_if_asked();
        let sleeps_at = fixture.policy.sleeps_at();
        assert_eq!(sleeps_at, Some(woken + sleeps_after), "{label}");
    }
}

#[test]
fn wakes_that_something_else_undoes_are_delayed_from_the_second_on_and_reported_once() {
    let mut fixture = asleep(Duration::ZERO, None);
    fixture.opens(1);
    let mut version = 7;
    let (mut reported, mut pauses) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let asleep_since = fixture.now;
        for _ in 0..20 {
            match fixture.in_flight() {
                Some(Request::WriteScale { .. }) => break,
                Some(_) => fixture.answers(scale(0, &version.to_string())),
                None => fixture.passes(fixture.pause()),
            }
        }
        assert_eq!(fixture.in_flight(), Some(write(2, &version.to_string())));
        pauses.push(fixture.now.since(asleep_since).as_secs());
        fixture.answers(scale(2, &(version + 1).to_string()));
        version += 2;
        fixture.observes(scale(0, &version.to_string()));
        reported.extend(fixture.changes());
    }
    assert_eq!(pauses, [0, 0, 1, 2]);
    reported.retain(|change| matches!(change, Change::WakeUndone { .. }));
    assert_eq!(reported, [Change::WakeUndone { times: 2 }]);
}

/// The object of two proxies, and somebody who scales it to zero a moment after each wake.
struct Fought {
    proxies: [Fixture; 2],
    replicas: u32,
    version: u64,
    wakes: usize,
    undone_at: Option<Time>,
}

impl Fought {
    fn write(&mut self, replicas: u32, now: Time) {
        (self.replicas, self.version) = (replicas, self.version + 1);
        if replicas > 0 {
            self.wakes += 1;
            self.undone_at = Some(now + Duration::from_millis(300));
        }
        for proxy in &mut self.proxies {
            proxy.observes(scale(replicas, &self.version.to_string()));
        }
    }

    fn answer(&mut self, index: usize) {
        let now = self.proxies[index].now;
        while let Some(request) = self.proxies[index].in_flight() {
            let current = self.version.to_string();
            let outcome = match request {
                Request::WriteScale { guard, .. } if guard.0 != current => Outcome::Conflict,
                Request::WriteScale { replicas, .. } => {
                    (self.replicas, self.version) = (replicas, self.version + 1);
                    self.wakes += 1;
                    self.undone_at = Some(now + Duration::from_millis(300));
                    let shown = scale(replicas, &self.version.to_string());
                    self.proxies[1 - index].observes(shown.clone());
                    shown
                }
                _ => scale(self.replicas, &current),
            };
            self.proxies[index].answers(outcome);
        }
    }
}

#[test]
fn two_proxies_whose_wakes_are_undone_do_not_end_each_other_s_pauses() {
    let proxies = [(); 2].map(|()| {
        let mut proxy = asleep(Duration::ZERO, None);
        proxy.opens(1);
        proxy
    });
    let mut fought = Fought {
        proxies,
        replicas: 0,
        version: 7,
        wakes: 0,
        undone_at: None,
    };
    let mut reported = 0;
    for _ in 0..6_000 {
        for index in 0..2 {
            fought.proxies[index].passes(Duration::from_millis(100));
            fought.answer(index);
        }
        let now = fought.proxies[0].now;
        if fought.undone_at.take_if(|at| *at <= now).is_some() {
            fought.write(0, now);
        }
        for proxy in &mut fought.proxies {
            let changes = proxy.changes().into_iter();
            reported += changes
                .filter(|it| matches!(it, Change::WakeUndone { .. }))
                .count();
        }
    }
    // Ten minutes: six pauses that double, and one a minute then, at two proxies.
    assert!((8..40).contains(&fought.wakes), "{} wakes", fought.wakes);
    assert!(reported <= 2, "{reported} reports");
}
