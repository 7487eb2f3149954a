//! Failed dials: pauses, trials, and suspicion.

use super::*;
use crate::engine::local_error::LocalError;

#[test]
fn a_backend_that_swallows_syns_delays_the_first_client_alone() {
    let mut balancer = with(&[spec(1), spec(2), spec(3)]);
    let mut paid = Vec::new();
    // A client each 100 ms for a minute, one after the other.
    let mut now = 0;
    while now < 60_000 {
        let mut round = DialRound::default();
        let start = now;
        loop {
            let pick = balancer.pick(None, &mut round, at(now)).unwrap();
            if pick.address != address(2) {
                balancer.succeeded(pick.id, at(now));
                balancer.closed(pick.id, at(now));
                break;
            }
            now += match pick.is_trial {
                true => TRIAL_TIMEOUT.as_millis() as u64,
                false => 2000,
            };
            balancer.failed(pick.id, DialFailure::Unanswered, &mut round, at(now));
        }
        paid.push(now - start);
        now += 100;
    }
    paid.retain(|&ms| ms > 0);
    // The pauses of 1, 2, 4, 8, 16 and 30 s end within the minute.
    assert_eq!(paid[0], 2000);
    assert!(paid[1..].iter().all(|&ms| ms == 250), "{paid:?}");
    assert!((6..=7).contains(&paid.len()), "{paid:?}");
}

#[test]
fn clients_who_come_at_once_are_sent_to_a_silent_backend_until_it_is_on_trial() {
    let mut balancer = with(&[spec(1), spec(2)]);
    let mut sent = Vec::new();
    for ms in 0..1000 {
        let pick = pick(&mut balancer, at(ms));
        if pick.address == address(2) {
            sent.push(ms)
        } else {
            balancer.succeeded(pick.id, at(ms));
            balancer.closed(pick.id, at(ms));
        }
    }
    // By its load it is left alone even before.
    assert!(sent.len() == 1 && sent[0] <= 1, "{sent:?}");
    // With long connections at the other one it is not.
    let mut balancer = with(&[spec(1), spec(2)]);
    let mut last = 0;
    for ms in 0..1000 {
        let pick = pick(&mut balancer, at(ms));
        if pick.address == address(2) {
            last = ms
        } else {
            balancer.succeeded(pick.id, at(ms))
        }
    }
    assert!((245..=251).contains(&last), "{last}");
}

#[test]
fn a_backend_on_trial_that_answers_after_all_gets_its_share_again() {
    let mut balancer = with(&[spec(1), spec(2)]);
    let slow = pick(&mut balancer, at(0));
    let other = connect(&mut balancer, at(300));
    balancer.closed(other.id, at(300));
    assert_eq!(connect(&mut balancer, at(300)).address, other.address);
    balancer.succeeded(slow.id, at(400));
    balancer.closed(slow.id, at(400));
    assert_eq!(connect(&mut balancer, at(400)).address, slow.address);
}

/// The end of the pause of the backend at that address, if it rests.
fn avoidance_end(balancer: &Balancer, address: SocketAddr) -> Option<Time> {
    let mut backends = balancer.backends.values();
    let backend = backends
        .find(|backend| backend.address(0) == Some(address))
        .unwrap();
    match backend.rank {
        Rank::Avoided { until } => Some(until),
        _ => None,
    }
}

#[test]
fn pauses_double_from_one_second_to_thirty_and_begin_anew_after_a_success() {
    let mut balancer = with(&[spec(1)]);
    let mut now = at(0);
    for full_ms in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        assert_eq!(fail(&mut balancer, DialFailure::Refused, now), address(1));
        let until = avoidance_end(&balancer, address(1)).unwrap();
        let (pause, full) = (until.since(now), Duration::from_millis(full_ms));
        assert!(
            pause > full * 79 / 100 && pause <= full,
            "{pause:?} of {full:?}"
        );
        now = until;
    }
    let served = connect(&mut balancer, now);
    balancer.closed(served.id, now);
    fail(&mut balancer, DialFailure::Refused, now);
    let until = avoidance_end(&balancer, address(1)).unwrap();
    assert!(until.since(now) <= Duration::from_secs(1));
}

#[test]
fn a_failure_long_after_the_last_one_is_a_first_one() {
    for (label, gap_s, longest_s) in [("soon after", 100, 2), ("long after", 120, 1)] {
        let mut balancer = with(&[spec(1)]);
        fail(&mut balancer, DialFailure::Refused, at(0));
        // It serves on, and none of its connections ends.
        connect(&mut balancer, at(2000));
        let now = at(gap_s * 1000);
        fail(&mut balancer, DialFailure::Refused, now);
        let pause = avoidance_end(&balancer, address(1)).unwrap().since(now);
        let longest = Duration::from_secs(longest_s);
        assert!(
            longest * 3 / 4 < pause && pause <= longest,
            "{label}: {pause:?}"
        );
    }
}

#[test]
fn dials_that_were_under_way_when_the_first_failed_say_nothing_new() {
    let mut balancer = with(&[spec(1)]);
    let mut picks: Vec<_> = (0..100).map(|_| pick(&mut balancer, at(0))).collect();
    for pick in picks.drain(..) {
        balancer.failed(
            pick.id,
            DialFailure::Refused,
            &mut DialRound::default(),
            at(10),
        );
    }
    let until = avoidance_end(&balancer, address(1)).unwrap();
    assert!(until.since(at(10)) <= Duration::from_secs(1));
}

#[test]
fn an_address_that_rests_is_tried_last_and_never_left_out() {
    let mut balancer = with(&[spec(1), spec(2), spec(3)]);
    let first = fail(&mut balancer, DialFailure::Refused, at(0));
    let second = fail(&mut balancer, DialFailure::Refused, at(500));
    // The third one has the most connections by far.
    for _ in 0..100 {
        let served = connect(&mut balancer, at(600)).address;
        assert!(served != first && served != second);
    }
    let tried = round_of_failures(&mut balancer, DialFailure::Refused, at(600));
    assert_eq!(
        tried[1..],
        [first, second],
        "the one first whose pause ends first"
    );
    assert_eq!(tried.len(), 3);
}

#[test]
fn after_a_pause_one_connection_at_a_time_tries_the_address() {
    let mut balancer = with(&[spec(1), spec(2)]);
    let failed = fail(&mut balancer, DialFailure::Unanswered, at(0));
    connect(&mut balancer, at(1000));
    let trial = pick(&mut balancer, at(1000));
    assert_eq!((trial.address, trial.is_trial), (failed, true));
    for _ in 0..10 {
        let pick = connect(&mut balancer, at(1001));
        assert!(pick.address != failed && !pick.is_trial);
    }
    balancer.succeeded(trial.id, at(1002));
    assert!(shares(&mut balancer, 10, at(1002))[&failed] >= 5);
}

#[test]
fn a_trial_of_the_only_backend_has_the_usual_time() {
    let mut balancer = with(&[spec(1)]);
    fail(&mut balancer, DialFailure::Unanswered, at(0));
    assert!(!pick(&mut balancer, at(2000)).is_trial);
}

#[test]
fn a_trial_whose_client_leaves_is_the_next_ones() {
    let mut balancer = with(&[spec(1), spec(2)]);
    let failed = fail(&mut balancer, DialFailure::Refused, at(0));
    connect(&mut balancer, at(0));
    for (label, start, end, is_next) in [
        ("at once", 1000, 1010, true),
        ("when it is overdue", 1010, 1260, false),
    ] {
        let trial = pick(&mut balancer, at(start));
        assert_eq!(trial.address, failed, "{label}");
        balancer.abandon(trial.id, at(end));
        let next = pick(&mut balancer, at(end));
        assert_eq!(next.address == failed, is_next, "{label}");
        balancer.abandon(next.id, at(end));
    }
}

#[test]
fn a_backend_that_takes_connections_and_breaks_off_rests_for_longer_each_time() {
    let mut balancer = with(&[spec(1)]);
    let mut now = at(0);
    for full_s in [1, 2, 4] {
        let pick = connect(&mut balancer, now);
        balancer.failed(
            pick.id,
            DialFailure::BrokeOff,
            &mut DialRound::default(),
            now,
        );
        let until = avoidance_end(&balancer, address(1)).unwrap();
        assert!(until.since(now) > Duration::from_secs(full_s) * 3 / 4);
        now = until;
    }
    assert_eq!(balancer.in_use(), 0);
}

#[test]
fn errors_of_this_machine_are_blamed_on_no_backend() {
    for (label, error, tried) in [
        ("each address has ports of its own", LocalError::NoPort, 3),
        ("and rules of its own", LocalError::Forbidden, 3),
        (
            "a descriptor is needed for any",
            LocalError::NoDescriptor,
            1,
        ),
        ("memory is too", LocalError::NoMemory, 1),
    ] {
        let mut balancer = with(&[spec(1), spec(2), spec(3)]);
        balancer.set_fallback(Some(address(9)));
        let cause = DialFailure::Local(error);
        assert_eq!(
            round_of_failures(&mut balancer, cause, at(0)).len(),
            tried,
            "{label}"
        );
        assert_eq!((balancer.avoided(), balancer.in_use()), (0, 0), "{label}");
        let mut round = DialRound::default();
        round.record(
            AddressId {
                backend: 0,
                address: 0,
            },
            cause,
        );
        assert!(!round.has_failed(), "{label}");
    }
}
