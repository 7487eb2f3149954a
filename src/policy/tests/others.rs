//! What other proxies and people do to the Deployment: it is seen there, and
//! counts as use of the app.

use std::time::Duration;

use super::fixture::{Fixture, MOMENT, TTL, read, scale, with_token, without_token, write};
use crate::cluster::{Outcome, Request, Scale};
use crate::policy::{Change, Command, POLL, Phase};

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
fn an_app_that_is_scaled_up_after_each_sleep_is_told_of_once_and_sleeps_ever_later() {
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
    let set_backs = changes
        .iter()
        .filter(|change| matches!(change, Change::SetBack { .. }));
    assert_eq!(
        set_backs.collect::<Vec<_>>(),
        [&Change::SetBack { times: 2 }]
    );
}

#[test]
fn a_client_after_a_set_back_ends_the_growing_of_the_pauses() {
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
