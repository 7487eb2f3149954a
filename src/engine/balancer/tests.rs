//! The order in which backends are picked.

use super::*;
use crate::engine::local_error::LocalError;

mod failures;
mod places;
mod properties;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

fn ipv6(n: u16) -> SocketAddr {
    SocketAddr::from(([0xfd, 0, 0, 0, 0, 0, 0, n], 80))
}

fn spec(n: u8) -> BackendSpec {
    BackendSpec {
        is_near: true,
        id: n.to_string(),
        addresses: vec![address(n)],
    }
}

/// A backend of both families, IPv6 first.
fn dual(n: u8) -> BackendSpec {
    BackendSpec {
        is_near: true,
        id: n.to_string(),
        addresses: vec![ipv6(n.into()), address(n)],
    }
}

fn with(specs: &[BackendSpec]) -> Balancer {
    let mut balancer = Balancer::new(1);
    assert_eq!(balancer.set(specs, at(0)), !specs.is_empty());
    balancer
}

fn pick(balancer: &mut Balancer, now: Time) -> Pick {
    balancer.pick(None, &mut DialRound::default(), now).unwrap()
}

/// Picks an address that answers.
fn connect(balancer: &mut Balancer, now: Time) -> Pick {
    let pick = pick(balancer, now);
    balancer.succeeded(pick.id, now);
    pick
}

/// Picks an address that fails.
fn fail(balancer: &mut Balancer, cause: DialFailure, now: Time) -> SocketAddr {
    let mut round = DialRound::default();
    let pick = balancer.pick(None, &mut round, now).unwrap();
    balancer.failed(pick.id, cause, &mut round, now);
    pick.address
}

/// The addresses of one round in which all fail.
fn round_of_failures(balancer: &mut Balancer, cause: DialFailure, now: Time) -> Vec<SocketAddr> {
    let mut round = DialRound::default();
    let mut tried = Vec::new();
    while let Some(pick) = balancer.pick(None, &mut round, now) {
        balancer.failed(pick.id, cause, &mut round, now);
        tried.push(pick.address);
    }
    tried
}

/// How many of so many connections, open at once, each address gets.
fn shares(balancer: &mut Balancer, count: usize, now: Time) -> BTreeMap<SocketAddr, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(connect(balancer, now).address).or_default() += 1;
    }
    shares
}

#[test]
fn connections_one_after_the_other_take_turns() {
    let mut balancer = with(&[spec(1), spec(2), spec(3)]);
    let mut served = BTreeMap::new();
    for _ in 0..120 {
        let pick = connect(&mut balancer, at(0));
        *served.entry(pick.address).or_insert(0) += 1;
        balancer.closed(pick.id, at(0));
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [40, 40, 40]);
}

#[test]
fn the_backend_with_the_fewest_connections_comes_first() {
    let mut balancer = with(&[spec(1), spec(2), spec(3)]);
    let picks: Vec<_> = (0..9).map(|_| connect(&mut balancer, at(0))).collect();
    let left = |pick: &&Pick| pick.address == address(2);
    for pick in picks.iter().filter(left) {
        balancer.closed(pick.id, at(0));
    }
    for _ in 0..3 {
        assert_eq!(connect(&mut balancer, at(0)).address, address(2));
    }
}

#[test]
fn several_processes_do_not_all_begin_with_the_same_backend() {
    let specs: Vec<_> = (1..=3).map(spec).collect();
    let mut first = BTreeMap::new();
    for seed in 0..300 {
        let mut balancer = Balancer::new(seed);
        balancer.set(&specs, at(0));
        *first.entry(pick(&mut balancer, at(0)).address).or_insert(0) += 1;
    }
    assert!(
        first.len() == 3 && first.values().all(|&n| n > 60),
        "{first:?}"
    );
}

#[test]
fn an_app_that_listens_on_one_family_costs_one_failed_dial() {
    let mut balancer = with(&[dual(1), dual(2)]);
    let mut round = DialRound::default();
    let first = balancer.pick(None, &mut round, at(0)).unwrap();
    assert!(first.address.is_ipv6());
    balancer.failed(first.id, DialFailure::Refused, &mut round, at(0));
    let second = balancer.pick(None, &mut round, at(0)).unwrap();
    assert_eq!(
        second.id.backend, first.id.backend,
        "the alternative comes before other backends"
    );
    balancer.succeeded(second.id, at(0));
    balancer.set(&[dual(1), dual(2), dual(3)], at(10));
    let mut ipv6 = 0;
    for ms in 0..60_000 {
        let mut round = DialRound::default();
        loop {
            let pick = balancer.pick(None, &mut round, at(ms)).unwrap();
            if !pick.address.is_ipv6() {
                balancer.succeeded(pick.id, at(ms));
                balancer.closed(pick.id, at(ms));
                break;
            }
            ipv6 += 1;
            balancer.failed(pick.id, DialFailure::Refused, &mut round, at(ms));
        }
    }
    assert!(
        ipv6 <= 1,
        "the backend that was listed with the first: {ipv6}"
    );
}

#[test]
fn the_family_of_a_backend_that_has_both_is_the_services_until_another_answers() {
    let mut balancer = with(&[dual(1)]);
    assert!(connect(&mut balancer, at(0)).address.is_ipv6());
    // Neither works for a while,
    let tried = round_of_failures(&mut balancer, DialFailure::Unanswered, at(0));
    assert_eq!(tried, [ipv6(1), address(1)]);
    // and IPv4 is the first that answers again.
    let mut round = DialRound::default();
    let first = balancer.pick(None, &mut round, at(0)).unwrap();
    balancer.failed(first.id, DialFailure::Unanswered, &mut round, at(0));
    let second = balancer.pick(None, &mut round, at(0)).unwrap();
    balancer.succeeded(second.id, at(0));
    assert_eq!(pick(&mut balancer, at(0)).address, second.address);
}

#[test]
fn a_backend_that_joins_others_gets_its_share_at_once_and_no_flood() {
    let mut balancer = with(&[spec(1), spec(2), spec(3)]);
    shares(&mut balancer, 300, at(0));
    balancer.set(&[spec(1), spec(2), spec(3), spec(4)], at(0));
    assert_eq!(
        shares(&mut balancer, 40, at(0))[&address(4)],
        10,
        "its share"
    );
    // Half of the handicap of 100 has faded, so that it may get 50 more.
    let shares_later = shares(&mut balancer, 60, at(15_000));
    assert!(
        (50..=55).contains(&shares_later[&address(4)]),
        "{shares_later:?}"
    );
    // Then it has as many as the others, but for those 50.
    let last = shares(&mut balancer, 40, at(30_000));
    assert_eq!(last[&address(4)], 40, "from now on the number decides");
}

#[test]
fn a_handicap_never_makes_a_backend_wait_for_more_than_the_least_loaded() {
    let mut balancer = with(&[spec(1)]);
    let old: Vec<_> = (0..100).map(|_| connect(&mut balancer, at(0))).collect();
    balancer.set(&[spec(1), spec(2)], at(0));
    // The old backend's connections end.
    old.iter().for_each(|pick| balancer.closed(pick.id, at(0)));
    assert_eq!(shares(&mut balancer, 40, at(0))[&address(2)], 20);
    // It leaves the list.
    balancer.set(&[spec(2)], at(0));
    assert_eq!(shares(&mut balancer, 40, at(0)).len(), 1);
}

#[test]
fn at_a_wake_nobody_is_handicapped() {
    let mut balancer = with(&[]);
    assert!(
        balancer.is_empty()
            && balancer
                .pick(None, &mut DialRound::default(), at(0))
                .is_none()
    );
    balancer.set(&[spec(1), spec(2)], at(0));
    assert_eq!(
        shares(&mut balancer, 10, at(0))
            .into_values()
            .collect::<Vec<_>>(),
        [5, 5]
    );
}

#[test]
fn a_backend_that_has_recovered_is_not_flooded_either() {
    let mut balancer = with(&[spec(1), spec(2)]);
    let failed = fail(&mut balancer, DialFailure::Refused, at(0));
    for _ in 0..100 {
        connect(&mut balancer, at(0));
    }
    let trial = connect(&mut balancer, at(1000));
    assert_eq!(trial.address, failed);
    assert_eq!(shares(&mut balancer, 40, at(1000))[&failed], 20);
}

#[test]
fn what_was_tried_is_not_tried_again_in_a_round() {
    let mut balancer = with(&[dual(1), dual(2)]);
    let tried = round_of_failures(&mut balancer, DialFailure::Unanswered, at(0));
    let distinct: BTreeSet<_> = tried.iter().collect();
    assert_eq!((tried.len(), distinct.len()), (4, 4));
}

#[test]
fn a_round_ends_before_it_has_tried_thousands() {
    let specs: Vec<_> = (1..=100).map(spec).collect();
    let mut balancer = with(&specs);
    balancer.set_fallback(Some(ipv6(9)));
    let tried = round_of_failures(&mut balancer, DialFailure::Unanswered, at(0));
    assert_eq!((tried.len(), tried.last()), (17, Some(&ipv6(9))));
    let again = round_of_failures(&mut balancer, DialFailure::Unanswered, at(0));
    assert!(
        !again[..16].iter().any(|it| tried[..16].contains(it)),
        "the next round tries others"
    );
}

#[test]
fn the_fallback_comes_last_and_only_if_nobody_is_there() {
    for (label, cause, expected) in [
        ("no answer", DialFailure::Unanswered, true),
        ("a refusal", DialFailure::Refused, false),
        ("a backend that breaks off", DialFailure::BrokeOff, false),
        (
            "an own address where nobody listens",
            DialFailure::SelfConnect,
            false,
        ),
        ("no port", DialFailure::Local(LocalError::NoPort), false),
    ] {
        let mut balancer = with(&[spec(1)]);
        balancer.set_fallback(Some(address(9)));
        let mut round = DialRound::default();
        let first = balancer.pick(None, &mut round, at(0)).unwrap();
        assert_eq!(first.address, address(1), "{label}");
        balancer.succeeded(first.id, at(0));
        balancer.failed(first.id, cause, &mut round, at(0));
        let second = balancer.pick(None, &mut round, at(0));
        assert_eq!(
            second.map(|pick| pick.address),
            expected.then(|| address(9)),
            "{label}"
        );
        if let Some(pick) = second {
            balancer.failed(pick.id, cause, &mut round, at(0));
            assert_eq!(balancer.pick(None, &mut round, at(0)), None, "{label}");
        }
        assert_eq!(balancer.in_use(), 0, "{label}");
    }
}

#[test]
fn the_fallback_is_counted_and_forgotten_like_a_backend_that_has_left() {
    let mut balancer = with(&[spec(1)]);
    balancer.set_fallback(Some(address(9)));
    let mut round = DialRound::default();
    let first = balancer.pick(None, &mut round, at(0)).unwrap();
    balancer.failed(first.id, DialFailure::Unanswered, &mut round, at(0));
    let fallback = balancer.pick(None, &mut round, at(0)).unwrap();
    balancer.succeeded(fallback.id, at(0));
    balancer.set(&[], at(0));
    assert!(balancer.is_empty());
    assert_eq!(balancer.address(fallback.id), Some(address(9)));
    balancer.closed(fallback.id, at(0));
    assert_eq!(
        (balancer.address(fallback.id), balancer.backends.len()),
        (None, 0)
    );
}

#[test]
fn a_backend_that_leaves_is_counted_and_not_dialled() {
    let mut balancer = with(&[spec(1)]);
    let open = connect(&mut balancer, at(0));
    assert!(!balancer.set(&[], at(0)));
    assert!(
        balancer.is_empty()
            && balancer
                .pick(None, &mut DialRound::default(), at(0))
                .is_none()
    );
    assert_eq!(balancer.address(open.id), Some(address(1)));
    balancer.closed(open.id, at(0));
    assert_eq!(
        (balancer.address(open.id), balancer.backends.len()),
        (None, 0)
    );
}

#[test]
fn a_backend_that_is_listed_anew_is_well_again() {
    let mut balancer = with(&[spec(1), spec(2)]);
    let open = connect(&mut balancer, at(0));
    fail(&mut balancer, DialFailure::Refused, at(0));
    assert_eq!(balancer.avoided(), 1);
    balancer.set(&[], at(0));
    assert_eq!(balancer.avoided(), 0);
    assert!(balancer.set(&[spec(1), spec(2)], at(0)));
    assert_eq!(balancer.avoided(), 0);
    assert_eq!(balancer.address(open.id), Some(open.address));
}

#[test]
fn a_list_without_news_says_so() {
    let mut balancer = with(&[spec(1)]);
    let other_address = BackendSpec {
        addresses: vec![address(1), ipv6(1)],
        ..spec(1)
    };
    let no_address = BackendSpec {
        addresses: Vec::new(),
        ..spec(3)
    };
    for (label, specs, joined) in [
        ("the same", vec![spec(1)], false),
        ("a second backend", vec![spec(1), spec(2)], true),
        (
            "a second address",
            vec![other_address.clone(), spec(2)],
            true,
        ),
        ("the same again", vec![other_address, spec(2)], false),
        ("an address less, a backend less", vec![spec(1)], false),
        ("an id twice", vec![spec(1), spec(1)], false),
        (
            "a backend without an address",
            vec![spec(1), no_address],
            false,
        ),
    ] {
        assert_eq!(balancer.set(&specs, at(0)), joined, "{label}");
    }
    assert_eq!(balancer.backends.len(), 1);
}

#[test]
fn an_address_that_a_backend_has_lost_keeps_its_connections_apart() {
    let mut balancer = with(&[dual(1)]);
    let open = connect(&mut balancer, at(0));
    assert_eq!(open.address, ipv6(1));
    balancer.set(&[spec(1)], at(0));
    assert_eq!(pick(&mut balancer, at(0)).address, address(1));
    assert_eq!(balancer.address(open.id), Some(ipv6(1)));
}

#[test]
fn a_backend_gets_no_more_connections_than_it_may_have() {
    let mut balancer = with(&[spec(1), spec(2)]);
    balancer.set_max_per_backend(NonZeroU32::new(2));
    assert_eq!(
        shares(&mut balancer, 4, at(0)),
        [(address(1), 2), (address(2), 2)].into()
    );
    assert!(balancer.is_full());
    assert_eq!(balancer.full(), 2);
    assert_eq!(balancer.pick(None, &mut DialRound::default(), at(0)), None);
}

#[test]
fn a_full_backend_has_room_again_when_a_connection_of_it_ends_however_it_ends() {
    type End = fn(&mut Balancer, AddressId);
    let endings: [(&str, End); 3] = [
        ("it is over", |balancer, id| balancer.closed(id, at(1))),
        ("its dial is given up", |balancer, id| {
            balancer.abandon(id, at(1))
        }),
        ("its dial has failed", |balancer, id| {
            balancer.failed(id, DialFailure::Refused, &mut DialRound::default(), at(1));
        }),
    ];
    for (label, end) in endings {
        let mut balancer = with(&[spec(1)]);
        balancer.set_max_per_backend(NonZeroU32::new(1));
        let id = pick(&mut balancer, at(0)).id;
        assert!(balancer.is_full(), "{label}");
        end(&mut balancer, id);
        assert!(!balancer.is_full(), "{label}");
        assert_eq!(pick(&mut balancer, at(1)).address, address(1), "{label}");
    }
}

#[test]
fn backends_are_full_only_as_far_as_they_are_listed() {
    let mut balancer = with(&[spec(1)]);
    balancer.set_max_per_backend(NonZeroU32::new(1));
    let id = pick(&mut balancer, at(0)).id;
    balancer.set(&[spec(1), spec(2)], at(1));
    assert!(!balancer.is_full(), "one has joined");
    balancer.set(&[], at(2));
    assert!(!balancer.is_full(), "there is none");
    balancer.set(&[spec(1)], at(3));
    assert!(balancer.is_full(), "it is back, with its connection");
    balancer.set(&[], at(4));
    balancer.closed(id, at(5));
    assert_eq!((balancer.full(), balancer.in_use()), (0, 0));
}

#[test]
fn a_limit_that_changes_holds_for_the_connections_that_are_there() {
    let mut balancer = with(&[spec(1)]);
    shares(&mut balancer, 3, at(0));
    for (most, is_full) in [
        (Some(2), true),
        (Some(3), true),
        (Some(4), false),
        (None, false),
    ] {
        balancer.set_max_per_backend(most.and_then(NonZeroU32::new));
        assert_eq!(balancer.is_full(), is_full, "{most:?}");
    }
}

/// A backend that rests, one that joins slowly, the fallback: none is given more.
#[test]
fn the_limit_holds_also_where_nothing_else_is_left() {
    let mut balancer = with(&[spec(1)]);
    balancer.set_max_per_backend(NonZeroU32::new(1));
    balancer.set_fallback(Some(address(9)));
    fail(&mut balancer, DialFailure::Unanswered, at(0));
    let mut round = DialRound::default();
    let ejected = balancer.pick(None, &mut round, at(1)).unwrap();
    assert_eq!(
        ejected.address,
        address(1),
        "it rests, and there is no other"
    );
    assert_eq!(
        balancer.pick(None, &mut DialRound::default(), at(1)),
        None,
        "it is full"
    );
    balancer.failed(ejected.id, DialFailure::Unanswered, &mut round, at(2));
    let fallback = balancer.pick(None, &mut round, at(2)).unwrap();
    assert_eq!(fallback.address, address(9));
    let tried = round_of_failures(&mut balancer, DialFailure::Unanswered, at(2));
    assert_eq!(tried, [address(1)], "the fallback is full");
}
