//! Backends that are near, and backends of clients that come back.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn far(n: u8) -> BackendSpec {
    BackendSpec {
        is_near: false,
        ..spec(n)
    }
}

fn client(n: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, n]))
}

/// One with affinity.
fn with_affinity(specs: &[BackendSpec]) -> Balancer {
    let balancer = with(specs);
    balancer.group.affinity.set_timeout(Some(HOUR));
    balancer
}

/// Connects a client; the address and the identity.
fn come(balancer: &mut Balancer, client: Option<IpAddr>, now: Time) -> Pick {
    let pick = balancer.pick(client, &mut DialRound::default(), now);
    let pick = pick.unwrap();
    balancer.succeeded(pick.id, now);
    pick
}

#[test]
fn backends_that_are_near_get_all_connections_and_share_them() {
    let mut balancer = with(&[far(1), spec(2), far(3), spec(4)]);
    let expected = BTreeMap::from([(address(2), 5), (address(4), 5)]);
    assert_eq!(shares(&mut balancer, 10, at(0)), expected);
    assert_eq!(balancer.near(), 2);
}

#[test]
fn others_are_dialled_where_no_near_one_accepts_or_has_room() {
    let mut balancer = with(&[far(1), spec(2)]);
    let mut round = DialRound::default();
    let first = balancer.pick(None, &mut round, at(0)).unwrap();
    assert_eq!(first.address, address(2));
    balancer.failed(first.id, DialFailure::Refused, &mut round, at(0));
    let second = balancer.pick(None, &mut round, at(0)).unwrap();
    assert_eq!(second.address, address(1), "in the same round");
    balancer.succeeded(second.id, at(0));
    assert_eq!(
        connect(&mut balancer, at(500)).address,
        address(1),
        "it is ejected"
    );
    let trial = pick(&mut balancer, at(2000));
    assert_eq!(trial.address, address(2), "it is tried again");
    assert!(trial.is_trial, "the other is there");

    let mut balancer = with(&[far(1), spec(2)]);
    balancer.set_max_per_backend(NonZeroU32::new(2));
    let expected = BTreeMap::from([(address(1), 2), (address(2), 2)]);
    assert_eq!(
        shares(&mut balancer, 4, at(0)),
        expected,
        "the near one is full"
    );
}

#[test]
fn a_backend_may_come_near_and_go_far_while_it_is_listed() {
    let mut balancer = with(&[spec(1), spec(2)]);
    balancer.set(&[far(1), spec(2)], at(0));
    assert_eq!(
        shares(&mut balancer, 3, at(0)),
        BTreeMap::from([(address(2), 3)])
    );
    balancer.set(&[spec(1), spec(2)], at(0));
    let expected = BTreeMap::from([(address(1), 3)]);
    assert_eq!(shares(&mut balancer, 3, at(0)), expected, "it has fewer");
}

#[test]
fn a_client_comes_back_to_its_backend_and_others_go_elsewhere() {
    let mut balancer = with_affinity(&[spec(1), spec(2)]);
    let first = come(&mut balancer, client(1), at(0)).address;
    for _ in 0..5 {
        assert_eq!(come(&mut balancer, client(1), at(1)).address, first);
    }
    let other = come(&mut balancer, client(2), at(1)).address;
    assert_ne!(other, first);
    assert_eq!(
        come(&mut balancer, None, at(1)).address,
        other,
        "it has fewer"
    );
    let later = at(1) + HOUR;
    assert_eq!(
        come(&mut balancer, client(1), later).address,
        other,
        "forgotten"
    );
}

/// As those of a browser, or of a pool that is filled.
#[test]
fn connections_of_a_client_that_are_dialled_at_once_go_to_one_backend() {
    let mut balancer = with_affinity(&[spec(1), spec(2), spec(3)]);
    let picks: BTreeSet<SocketAddr> = (0..6)
        .map(|_| balancer.pick(client(1), &mut DialRound::default(), at(0)))
        .map(|pick| pick.unwrap().address)
        .collect();
    assert_eq!(picks.len(), 1, "{picks:?}");
}

#[test]
fn a_client_whose_backend_fails_is_full_or_gone_is_bound_to_another() {
    let mut balancer = with_affinity(&[spec(1), spec(2)]);
    let mut round = DialRound::default();
    let first = balancer.pick(client(1), &mut round, at(0)).unwrap();
    balancer.failed(first.id, DialFailure::Refused, &mut round, at(0));
    let second = balancer.pick(client(1), &mut round, at(0)).unwrap();
    assert_ne!(second.address, first.address);
    balancer.succeeded(second.id, at(0));
    let again = come(&mut balancer, client(1), at(60_000)).address;
    assert_eq!(again, second.address, "though the other has fewer");

    balancer.set_max_per_backend(NonZeroU32::new(2));
    let elsewhere = come(&mut balancer, client(1), at(60_000)).address;
    assert_eq!(elsewhere, first.address, "its own is full");

    balancer.set_max_per_backend(None);
    let n = if first.address == address(1) { 2 } else { 1 };
    balancer.set(&[spec(n)], at(60_000));
    let left = come(&mut balancer, client(1), at(60_000)).address;
    assert_eq!(left, second.address, "its own is listed no more");
}

#[test]
fn the_ports_of_an_app_bind_a_client_together() {
    let group = Rc::<PortGroup>::default();
    group.affinity.set_timeout(Some(HOUR));
    let mut ports = [1, 2].map(Balancer::new);
    for port in &mut ports {
        port.share_with(&group);
        port.set(&[spec(1), spec(2), spec(3)], at(0));
    }
    let [control, data] = &mut ports;
    for n in 1..20 {
        let first = come(control, client(n), at(0)).address;
        assert_eq!(come(data, client(n), at(0)).address, first);
    }
}

/// The first pod that was ready after a wake was far.
#[test]
fn a_client_leaves_a_far_backend_as_soon_as_a_near_one_takes_connections() {
    let mut balancer = with_affinity(&[far(1)]);
    assert_eq!(come(&mut balancer, client(1), at(0)).address, address(1));
    balancer.set(&[far(1), spec(2)], at(0));
    assert_eq!(come(&mut balancer, client(1), at(1)).address, address(2));
    balancer.set(&[far(1), spec(2), spec(3)], at(1));
    assert_eq!(
        come(&mut balancer, client(1), at(2)).address,
        address(2),
        "it stays"
    );
}

/// As in a rollout that adds a port.
#[test]
fn a_client_keeps_its_backend_though_another_port_has_others() {
    let group = Rc::<PortGroup>::default();
    group.affinity.set_timeout(Some(HOUR));
    let mut ports = [1, 2].map(Balancer::new);
    for port in &mut ports {
        port.share_with(&group);
    }
    let [web, new] = &mut ports;
    web.set(&[spec(1)], at(0));
    assert_eq!(come(web, client(1), at(0)).address, address(1));
    web.set(&[spec(1), spec(2)], at(0));
    new.set(&[spec(2)], at(0));
    assert_eq!(come(new, client(1), at(0)).address, address(2));
    assert_eq!(come(web, client(1), at(0)).address, address(1), "it serves");
    web.set(&[spec(2)], at(0));
    come(new, client(1), at(0));
    let bound = group.affinity.backend_of(client(1).unwrap(), at(0));
    assert_eq!(bound.as_deref(), Some("2"), "the other is gone");
}
