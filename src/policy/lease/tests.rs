use super::*;
use crate::backoff;

const TTL: Duration = Duration::from_secs(100);

fn at(seconds: u64) -> Time {
    Time::new(Duration::from_secs(seconds))
}

fn new() -> Lease {
    let config = Config {
        idle_ttl: TTL,
        ..Config::default()
    };
    Lease::new(&config, 1)
}

fn granted(sent: Time) -> Lease {
    let mut lease = new();
    lease.on_sent(sent);
    lease.on_renewed(sent);
    lease
}

/// Refused in that place for as long as it takes to be confirmed, and a moment.
fn refused_for_good(lease: &mut Lease, store: LeaseStore, from: u64) -> u64 {
    for second in 0..=30 {
        lease.on_forbidden(store, TTL, at(from + second));
    }
    from + 30
}

#[test]
fn lease_is_counted_from_the_sending_and_ends_at_four_fifths_of_the_ttl() {
    let lease = granted(at(1000));
    assert!(lease.is_valid(at(1079)));
    assert!(!lease.is_valid(at(1080)));
}

#[test]
fn one_that_a_shorter_one_hides_is_shown_again_and_lengthened_by_use_alone() {
    for (label, is_used, second, due, until) in [
        ("in use", true, 1060, Some(1060), Some(1140)),
        ("just renewed", true, 1003, Some(1005), Some(1085)),
        ("in use, and lapsed", true, 1090, Some(1090), Some(1170)),
        ("not in use", false, 1060, Some(1060), Some(1080)),
        ("neither in use nor in force", false, 1080, None, Some(1080)),
    ] {
        let mut lease = granted(at(1000));
        lease.on_hidden(is_used, Duration::from_secs(5), at(second));
        assert_eq!(lease.due(), due.map(at), "{label}");
        if let Some(due) = due.map(at) {
            lease.on_sent(due);
            lease.on_renewed(due);
        }
        assert_eq!(lease.valid_until, until.map(at), "{label}");
    }
    let mut lease = granted(at(1000));
    lease.on_hidden(false, Duration::from_secs(5), at(1060));
    lease.schedule_renewal(at(1061));
    lease.on_renewed(at(1060));
    assert_eq!(
        lease.valid_until,
        Some(at(1140)),
        "somebody has come meanwhile"
    );
}

#[test]
fn what_is_left_of_it_ends_with_it_and_is_nothing_where_none_is_needed() {
    let lease = granted(at(1000));
    assert_eq!(lease.remaining(at(1020)), Some(Duration::from_secs(60)));
    assert_eq!(lease.remaining(at(1081)), Some(Duration::ZERO));
    assert_eq!(new().remaining(at(5)), Some(Duration::ZERO));
    let single = Config {
        single: true,
        ..Config::default()
    };
    assert_eq!(Lease::new(&single, 1).remaining(at(11)), None);
}

#[test]
fn there_is_none_before_the_answer_and_none_once_the_app_is_at_zero() {
    let mut lease = new();
    lease.on_sent(at(1000));
    assert!(!lease.is_valid(at(1001)));
    lease.on_renewed(at(1000));
    lease.end();
    assert!(!lease.is_valid(at(1001)));
}

#[test]
fn it_is_renewed_at_a_quarter_of_the_ttl_while_a_connection_lives() {
    let mut lease = granted(at(1000));
    lease.schedule_renewal(at(1001));
    assert_eq!(lease.due(), Some(at(1025)));
    assert_eq!(lease.due_store(at(1024)), None);
    assert_eq!(lease.due_store(at(1025)), Some(LeaseStore::Status));
}

#[test]
fn clients_that_come_one_after_the_other_cost_ten_renewals_a_ttl() {
    let mut lease = granted(at(1000));
    let mut sent = 0;
    for now in (1000..1100).map(at) {
        lease.schedule_renewal(now);
        lease.on_last_close(now);
        if lease.due_store(now).is_some() {
            lease.on_sent(now);
            lease.on_renewed(now);
            sent += 1;
        }
    }
    assert_eq!(sent, 9, "at 1010, 1020 and so on");
}

#[test]
fn two_seconds_in_vain_let_connections_through_and_not_a_moment_less() {
    let mut lease = new();
    lease.on_open_connections(true, at(10));
    lease.on_failed(Duration::ZERO, TTL, at(10));
    assert!(!lease.fails_open(at(11)));
    assert!(lease.fails_open(at(12)));
    lease.on_none_waiting(at(12));
    assert!(lease.fails_open(at(13)), "the next one need not wait anew");
    lease.on_sent(at(14));
    lease.on_renewed(at(14));
    assert!(
        !lease.fails_open(at(1000)),
        "a success ends it, also after the lease has"
    );
}

#[test]
fn when_connections_stop_passing_by_themselves_is_known_before() {
    let mut lease = granted(at(1000));
    assert_eq!(lease.open_until(at(1079)), Some(at(1080)), "it ends");
    lease = new();
    lease.on_open_connections(true, at(10));
    lease.on_failed(Duration::ZERO, TTL, at(10));
    assert_eq!(lease.open_until(at(12)), None, "somebody waits");
    lease.on_none_waiting(at(12));
    let until = lease.open_until(at(12)).unwrap();
    assert!(lease.fails_open(at(10) + RECENT));
    assert!(until > at(10) + RECENT && !lease.fails_open(until));
}

#[test]
fn two_seconds_whose_end_nobody_was_there_to_see_begin_again() {
    let mut lease = new();
    lease.on_open_connections(true, at(10));
    lease.restart_after_stall(at(12));
    assert!(lease.fails_open(at(12)));
    lease.restart_after_stall(at(30));
    assert!(!lease.fails_open(at(30)));
    assert!(lease.fails_open(at(32)));
}

#[test]
fn one_refusal_moves_it_nowhere() {
    let mut lease = new();
    lease.on_forbidden(LeaseStore::Status, TTL, at(10));
    assert_eq!(lease.store(), Some(LeaseStore::Status));
    assert!(!lease.is_valid(at(10)));
}

/// With growing pauses, as where nobody is connected.
#[test]
fn a_refusal_is_repeated_soon_enough_to_be_confirmed() {
    for seed in 0..20 {
        let mut lease = Lease::new(&Config::default(), seed);
        let mut now = at(10);
        while !lease.status_permission.is_missing() {
            lease.on_forbidden(LeaseStore::Status, backoff::MAX_PAUSE, now);
            now = lease.due().expect("it is tried again");
            assert!(now.since(at(10)) < Duration::from_secs(45), "{seed}");
        }
    }
}

#[test]
fn what_is_forbidden_in_one_place_for_good_is_written_to_another_and_in_the_end_nowhere() {
    let mut lease = new();
    lease.on_last_close(at(10));
    let confirmed = refused_for_good(&mut lease, LeaseStore::Status, 10);
    assert_eq!(lease.store(), Some(LeaseStore::Annotation));
    assert_eq!(lease.due_store(at(confirmed)), Some(LeaseStore::Annotation));
    assert!(!lease.is_valid(at(confirmed)) && !lease.fails_open(at(confirmed)));
    let confirmed = refused_for_good(&mut lease, LeaseStore::Annotation, confirmed);
    assert_eq!(lease.store(), None);
    assert!(
        !lease.is_valid(at(confirmed)),
        "what is let through is counted"
    );
    assert!(lease.fails_open(at(confirmed)), "nobody waits for nothing");
    assert_eq!(lease.remaining(at(confirmed)), Some(Duration::ZERO));
}

#[test]
fn a_missing_permission_is_tried_again_each_minute_and_the_lease_holds_meanwhile() {
    let mut lease = new();
    let confirmed = refused_for_good(&mut lease, LeaseStore::Status, 10);
    lease.on_sent(at(confirmed));
    lease.on_renewed(at(confirmed));
    let retry = confirmed + 60;
    lease.on_last_close(at(retry - 1));
    assert_eq!(lease.due_store(at(retry - 1)), Some(LeaseStore::Annotation));
    assert_eq!(lease.due_store(at(retry)), Some(LeaseStore::Status));
    lease.on_sent(at(retry));
    lease.on_forbidden(LeaseStore::Status, TTL, at(retry));
    assert!(lease.is_valid(at(retry)), "no gate is shut for it");
    assert_eq!(lease.due_store(at(retry)), Some(LeaseStore::Annotation));
    lease.on_permission_granted(LeaseStore::Status);
    assert_eq!(lease.store(), Some(LeaseStore::Status));
}

#[test]
fn where_it_is_forbidden_everywhere_it_is_tried_again_also_after_a_sleep() {
    let mut lease = new();
    let confirmed = refused_for_good(&mut lease, LeaseStore::Status, 10);
    let confirmed = refused_for_good(&mut lease, LeaseStore::Annotation, confirmed);
    lease.end();
    assert_eq!(
        lease.due_store(at(confirmed + 10)),
        Some(LeaseStore::Status)
    );
    let mut lease = granted(at(1000));
    lease.schedule_renewal(at(1001));
    lease.end();
    assert_eq!(lease.due_at, None, "a lease that may be had is over");
}

#[test]
fn where_there_is_no_other_proxy_none_is_needed_and_none_is_renewed() {
    let config = Config {
        single: true,
        ..Config::default()
    };
    let mut lease = Lease::new(&config, 1);
    lease.schedule_renewal(at(1));
    lease.on_last_close(at(2));
    assert_eq!(lease.due(), None);
    assert!(lease.is_valid(at(1_000_000)));
}

#[test]
fn a_retry_after_is_waited_for_unless_somebody_waits() {
    let minute = Duration::from_secs(60);
    for (waiting, due) in [(false, 70), (true, 15)] {
        let mut lease = new();
        lease.on_open_connections(waiting, at(10));
        lease.on_failed(minute, Duration::from_secs(1), at(10));
        assert_eq!(lease.due(), Some(at(due)), "{waiting}");
    }
    let mut lease = new();
    lease.on_failed(minute, Duration::from_secs(1), at(10));
    lease.on_open_connections(true, at(12));
    assert_eq!(lease.due(), Some(at(15)), "also who comes later");
    let mut lease = new();
    lease.on_failed(minute, Duration::from_secs(1), at(10));
    lease.on_open_connections(true, at(20));
    assert_eq!(
        lease.due(),
        Some(at(20)),
        "and at once who comes long after"
    );
}
