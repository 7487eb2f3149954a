//! What other proxies and people do to the Deployment: it is seen there, and
//! counts as use of the app.

use std::time::Duration;

use super::fixture::{
    Fixture, MOMENT, TTL, read, renew, renew_once_more, scale, with_token, without_token, write,
};
use crate::clock::Time;
use crate::cluster::{Outcome, Request, Scale};
use crate::policy::{Change, Command, Config, MAX_PAUSE_WAITING, POLL, Phase};

/// An HPA takes its steps by the load of the pods, connections or not.
#[test]
fn steps_from_one_number_to_another_are_no_sign_of_use() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL - Duration::from_secs(1));
    fixture.policy.due = fixture.now;
    fixture.passes(Duration::ZERO);
    fixture.answers(scale(4, "9"));
    fixture.passes_quietly(Duration::from_secs(1));
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
    fixture.commands();
    fixture.answers(scale(3, "10"));
    fixture.announces_that_nobody_is_there("10", "11");
}

#[test]
fn an_operator_scales_to_zero_under_live_connections_and_the_next_one_wakes() {
    let mut fixture = Fixture::awake();
    fixture.opens(1);
    fixture.grants(1);
    fixture.hands_over();
    fixture.commands();
    fixture.pods(false);
    assert_eq!(fixture.asked(), [], "nobody waits");
    fixture.opens(1);
    assert_eq!(fixture.asked(), [read()]);
    fixture.answers(scale(0, "8"));
    assert_eq!(fixture.asked(), [write(2, "8")]);
}

#[test]
fn an_app_that_somebody_else_wakes_has_a_whole_ttl() {
    let mut fixture = Fixture::asleep();
    fixture.passes_quietly(TTL * 10);
    fixture.pods(true);
    assert_eq!(
        fixture.asked().last(),
        Some(&read()),
        "the new pod is reason enough to look"
    );
    fixture.answers(scale(1, "8"));
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(TTL - Duration::from_millis(1));
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn pods_are_quarantined_when_the_scale_may_have_gone_to_zero_and_back_unseen() {
    let mut fixture = Fixture::awake();
    for (label, seen, quarantined) in [
        ("the first look shows no change", 4, false),
        ("one write cannot have gone both ways", 5, false),
        ("two can", 7, true),
    ] {
        fixture.passes(POLL);
        fixture.commands();
        let Outcome::Scale(shown) = scale(1, "1") else {
            panic!("a scale");
        };
        fixture.answers(Outcome::Scale(Scale {
            generation: Some(seen),
            ..shown
        }));
        let found = fixture.commands().contains(&Command::QuarantinePods);
        assert_eq!(found, quarantined, "{label}");
    }
}

#[test]
fn a_renewal_of_another_proxy_starts_the_idle_clock_again() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL - Duration::from_secs(1));
    fixture.policy.due = fixture.now;
    fixture.passes(Duration::ZERO);
    fixture.answers(with_token(1, "3", "another's"));
    fixture.passes_quietly(TTL - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(MOMENT);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

#[test]
fn an_idle_check_that_finds_another_lease_token_than_before_waits_another_ttl() {
    let mut fixture = Fixture::awake();
    fixture.passes_quietly(TTL);
    fixture.commands();
    fixture.answers(with_token(1, "5", "another's"));
    assert_eq!(fixture.asked(), []);
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

#[test]
fn whoever_cannot_see_the_leases_of_others_never_puts_the_app_to_sleep() {
    let mut fixture = Fixture::start();
    let end = fixture.now + TTL * 20;
    while fixture.now < end {
        match fixture.in_flight() {
            Some(Request::Read) => fixture.answers(Outcome::Forbidden),
            Some(_) => fixture.answers(without_token(1, "1")),
            None => fixture.passes(fixture.pause()),
        }
    }
    let asked = fixture.asked();
    assert!(asked.contains(&Request::ReadScale));
    assert!(asked.iter().all(Request::is_read), "{asked:?}");
}

#[test]
fn where_nothing_may_be_read_each_is_asked_for_in_its_turn_with_a_pause_between() {
    let mut fixture = Fixture::start();
    let (minute, end) = (fixture.now + TTL, fixture.now + TTL * 2);
    let mut asked = Vec::new();
    while fixture.now < end {
        match fixture.in_flight() {
            Some(_) => fixture.answers(Outcome::Forbidden),
            None => fixture.passes(fixture.pause()),
        }
        let now = fixture.asked();
        if fixture.now > minute {
            asked.extend(now);
        }
    }
    assert!(asked.len() <= 12, "in a minute: {asked:?}");
    let alternate = asked.windows(2).all(|two| two[0] != two[1]);
    assert!(alternate, "{asked:?}");
}

/// The first refusal of a permission is no reason to do without it, whoever meets it.
#[test]
fn one_refusal_of_the_first_read_leads_to_another_one() {
    for refusal in [Outcome::Forbidden, Outcome::Unauthorized] {
        let mut fixture = Fixture::start();
        fixture.commands();
        fixture.answers(refusal);
        fixture.passes(fixture.pause());
        assert_eq!(fixture.asked(), [read()]);
    }
}

fn with_ttl(token: &str, ttl: Duration) -> Outcome {
    let Outcome::Scale(shown) = with_token(1, "1", token) else {
        panic!("a scale");
    };
    Outcome::Scale(Scale {
        lease_ttl: Some(ttl),
        ..shown
    })
}

#[test]
fn the_longer_lease_of_another_proxy_is_respected_and_the_difference_is_said_once() {
    let mut fixture = Fixture::awake();
    for token in ["first", "second"] {
        fixture.passes(POLL);
        fixture.answers(with_ttl(token, TTL * 3));
    }
    let changes = fixture.changes();
    let theirs = TTL * 3;
    assert_eq!(changes, [Change::OtherTtl { theirs }]);
    fixture.passes_quietly(TTL * 3 - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(MOMENT);
    assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle);
}

/// Time passes up to `end`, in which each read shows what the object shows then.
fn passes_with(fixture: &mut Fixture, end: Time, shown: impl Fn(Time) -> Outcome) {
    while fixture.now < end && fixture.policy.phase == Phase::Awake {
        match fixture.in_flight() {
            Some(_) => fixture.answers(shown(fixture.now)),
            None => fixture.passes(fixture.pause().min(end.since(fixture.now))),
        }
    }
}

/// One proxy has fifteen times our TTL and renews once; another has five times our TTL,
/// and has a connection until the longest lease is forgotten.
#[test]
fn of_three_ttls_the_one_between_is_respected_when_the_longest_is_forgotten() {
    let (middle, longest) = (TTL * 5, TTL * 15);
    for (label, closes) in [
        ("a moment before", longest * 2 - MOMENT),
        ("a while before", longest * 2 - TTL),
        ("long after", longest * 2 + TTL),
    ] {
        let mut fixture = Fixture::awake();
        fixture.passes(POLL);
        let start = fixture.now;
        fixture.answers(with_ttl("longest", longest));
        let shown = |now: Time| {
            let used = now.since(start);
            let renewals = if used < closes {
                used.as_secs() / (middle / 4).as_secs()
            } else {
                u64::MAX
            };
            with_ttl(&format!("middle {renewals}"), middle)
        };
        passes_with(&mut fixture, start + closes, shown);
        assert_eq!(fixture.policy.phase, Phase::Awake, "{label}: in use");
        passes_with(&mut fixture, start + closes + middle * 4 / 5, shown);
        assert_eq!(fixture.policy.phase, Phase::Awake, "{label}: leased");
        passes_with(&mut fixture, start + closes + longest, shown);
        assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle, "{label}");
    }
}

/// Others, whose TTLs may be longer, ask at least every five seconds while somebody
/// waits: they must have the time to renew.
#[test]
fn after_an_outage_a_short_ttl_is_no_reason_to_sleep_before_others_can_have_renewed() {
    let second = Duration::from_secs(1);
    for (ttl, expected) in [
        (second * 3, MAX_PAUSE_WAITING * 2),
        (second * 10, second * 10),
        (second * 60, second * 60),
    ] {
        let mut fixture = Fixture::start_with(Config {
            idle_ttl: ttl,
            ..Config::default()
        });
        fixture.answers(scale(1, "1"));
        fixture.pods(true);
        fixture.passes_unanswered(ttl);
        fixture.answers(scale(1, "1"));
        let sleeps_at = fixture.policy.sleeps_at().unwrap();
        assert_eq!(sleeps_at.since(fixture.now), expected, "{ttl:?}");
    }
}

/// A proxy with a shorter TTL respects our lease only if it has seen it.
#[test]
fn a_shorter_lease_than_ours_is_answered_by_a_renewal_while_the_app_is_used_from_here() {
    let (used, closed) = (renew(), renew_once_more());
    for (label, ttl, closes, waits, expected) in [
        ("with a connection", TTL / 3, false, TTL * 2, Some(&used)),
        (
            "soon after the last one",
            TTL / 3,
            true,
            TTL / 2,
            Some(&closed),
        ),
        ("a TTL after the last one", TTL / 3, true, TTL * 5 / 4, None),
        ("an equal lease", TTL, false, TTL * 2, None),
        ("a longer lease", TTL * 3, false, TTL * 2, None),
    ] {
        let mut fixture = Fixture::awake();
        // Else it would be idle after a TTL.
        fixture.policy.set_can_wake(false, fixture.now);
        fixture.opens(1);
        fixture.grants(1);
        fixture.hands_over();
        if closes {
            fixture.closes_all();
        }
        fixture.passes_quietly(waits);
        while fixture.in_flight() != Some(read()) {
            fixture.answers_as_before_if_asked();
            fixture.passes(fixture.pause());
        }
        fixture.commands();
        fixture.answers(with_ttl("theirs", ttl));
        assert_eq!(fixture.asked().first(), expected, "{label}");
    }
}

#[test]
fn the_deployment_is_read_twice_within_a_shorter_ttl_while_the_app_is_used_from_here() {
    let second = Duration::from_secs(1);
    for (label, ttl, opens, expected) in [
        ("much shorter", second * 3, true, second * 3 / 2),
        ("a little shorter", second * 40, true, POLL),
        ("with no connection for a TTL", second * 3, false, POLL),
    ] {
        let mut fixture = Fixture::awake();
        fixture.policy.set_can_wake(false, fixture.now);
        fixture.passes_quietly(TTL);
        if opens {
            fixture.opens(1);
            fixture.grants(1);
            fixture.hands_over();
        }
        fixture.answers_as_before_if_asked();
        while fixture.in_flight() != Some(read()) {
            fixture.passes(fixture.pause());
        }
        fixture.answers(with_ttl("theirs", ttl));
        fixture.answers_as_before_if_asked();
        assert_eq!(fixture.policy.due.since(fixture.now), expected, "{label}");
    }
}

#[test]
fn a_conflict_in_which_another_has_renewed_ends_the_sleep() {
    let mut fixture = Fixture::scaling_down();
    fixture.answers(Outcome::Conflict);
    assert_eq!(fixture.asked(), [read()]);
    fixture.answers(with_token(1, "9", "another's"));
    assert_eq!(fixture.asked(), []);
    assert_eq!(fixture.policy.phase, Phase::Awake);
}

/// KEDA with a minimum of one, or a GitOps tool that applies `spec.replicas`.
#[test]
fn an_app_that_is_scaled_up_after_each_sleep_is_reported_once_and_sleeps_ever_later() {
    let mut fixture = Fixture::asleep();
    let mut changes = Vec::new();
    for (round, doublings) in [0, 0, 1, 2, 3, 4, 5, 5].into_iter().enumerate() {
        fixture.passes_quietly(POLL);
        fixture.answers(scale(1, "8"));
        let ttl = TTL * (1 << doublings);
        fixture.passes_quietly(ttl - MOMENT);
        assert_eq!(fixture.policy.phase, Phase::Awake, "round {round}");
        fixture.passes_quietly(MOMENT);
        assert_eq!(fixture.policy.phase, Phase::ConfirmingIdle, "round {round}");
        fixture.answers(scale(0, "9"));
        changes.extend(fixture.changes());
    }
    let undone_sleeps = changes
        .iter()
        .filter(|change| matches!(change, Change::SleepUndone { .. }));
    assert_eq!(
        undone_sleeps.collect::<Vec<_>>(),
        [&Change::SleepUndone { times: 2 }]
    );
}

#[test]
fn a_client_after_an_undone_sleep_ends_the_growing_of_the_pauses() {
    let mut fixture = Fixture::asleep();
    for _ in 0..4 {
        fixture.passes_quietly(POLL);
        fixture.answers(scale(1, "8"));
        fixture.passes_quietly(POLL);
        fixture.answers(scale(0, "9"));
    }
    fixture.passes_quietly(POLL);
    fixture.answers(scale(1, "8"));
    fixture.pods(true);
    fixture.answers_as_before_if_asked();
    fixture.opens(1);
    fixture.answers_as_before();
    fixture.closes_all();
    fixture.answers_as_before_if_asked();
    fixture.passes_quietly(TTL - MOMENT);
    assert_eq!(fixture.policy.phase, Phase::Awake);
    fixture.passes_quietly(POLL);
    assert_ne!(fixture.policy.phase, Phase::Awake);
}
