//! Any order of events.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Lists the backends whose bits are set, with both families if `true`.
    List(u8, bool),
    /// So many connections are allowed for each backend; 0 for any number.
    Limit(u32),
    /// A new connection dials.
    Dial,
    /// Something becomes of one of the connections.
    Connect(usize),
    Fail(usize, u8),
    Leave(usize),
    Wait(u16),
}

/// One connection.
struct Client {
    round: DialRound,
    pick: Pick,
    is_connected: bool,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (any::<u8>(), any::<bool>()).prop_map(|(backends, dual)| Step::List(backends, dual)),
        1 => (0..4u32).prop_map(Step::Limit),
        6 => Just(Step::Dial),
        4 => (0..64usize).prop_map(Step::Connect),
        3 => (0..64usize, 0..6u8).prop_map(|(at, cause)| Step::Fail(at, cause)),
        2 => (0..64usize).prop_map(Step::Leave),
        3 => (0..20_000u16).prop_map(Step::Wait),
    ]
}

fn cause(n: u8) -> DialFailure {
    [
        DialFailure::Refused,
        DialFailure::Unreachable,
        DialFailure::Unanswered,
        DialFailure::SelfConnect,
        DialFailure::Local(LocalError::NoPort),
        DialFailure::Local(LocalError::NoMemory),
    ][usize::from(n)]
}

fn specs(backends: u8, dual: bool) -> Vec<BackendSpec> {
    let listed = (0..8u8).filter(|n| backends & (1 << n) != 0);
    listed
        .map(|n| BackendSpec {
            is_near: n % 3 != 0,
            ..if dual { super::dual(n) } else { spec(n) }
        })
        .collect()
}

/// What must hold at any time.
fn check(balancer: &Balancer, clients: &[Client], listed: &[BackendSpec]) {
    assert_eq!(balancer.in_use() as usize, clients.len());
    for client in clients {
        assert_eq!(balancer.address(client.pick.id), Some(client.pick.address));
    }
    let (mut ready, mut ramping, mut ejected) = (0, 0, 0);
    for (key, backend) in &balancer.backends {
        match backend.rank {
            Rank::Unlisted => assert!(!backend.is_listed && backend.connections > 0),
            Rank::Ready {
                is_near,
                load,
                last_pick,
            } => {
                assert_eq!(is_near, backend.is_near);
                ready += 1;
                assert_eq!((load, last_pick), (backend.connections, backend.last_pick));
                assert!(
                    balancer
                        .order
                        .ready(is_near)
                        .any(|it| it == (load, last_pick, *key))
                );
            }
            Rank::InSlowStart => {
                ramping += 1;
                assert!(balancer.order.ramping().contains(key));
            }
            Rank::Avoided { .. } => {
                ejected += 1;
                assert!(balancer.order.avoided().any(|it| it == *key));
            }
        }
    }
    let in_order = [true, false].map(|near| balancer.order.ready(near).count());
    assert_eq!(in_order.iter().sum::<usize>(), ready);
    assert_eq!(balancer.order.ramping().len(), ramping);
    assert_eq!(balancer.order.avoided().count(), ejected);
    assert_eq!(ready + ramping + ejected, listed.len());
    let full = balancer.backends.values();
    let full = full.filter(|backend| backend.is_full(balancer.max_per_backend));
    assert_eq!(balancer.full(), full.count());
}

proptest! {
    #[test]
    fn counts_and_order_hold_whatever_happens(
        seed: u64,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut balancer = Balancer::new(seed);
        let mut clients: Vec<Client> = Vec::new();
        let (mut listed, mut now) = (Vec::new(), at(0));
        for step in steps {
            match step {
                Step::List(backends, dual) => {
                    listed = specs(backends, dual);
                    balancer.set(&listed, now);
                }
                Step::Limit(most) => balancer.set_max_per_backend(NonZeroU32::new(most)),
                Step::Dial => {
                    let mut round = DialRound::default();
                    let has_room = !listed.is_empty() && !balancer.is_full();
                    let pick = balancer.pick(None, &mut round, now);
                    // Whatever rests, somebody is dialled who has room.
                    prop_assert_eq!(pick.is_some(), has_room);
                    if let Some(pick) = pick {
                        let backend = &balancer.backends[&pick.id.backend];
                        prop_assert!(backend.connections <= balancer.max_per_backend);
                    }
                    clients.extend(pick.map(|pick| Client { round, pick, is_connected: false }));
                }
                Step::Connect(at) => {
                    let dialling = clients.iter_mut().filter(|it| !it.is_connected);
                    if let Some(client) = { dialling }.nth(at) {
                        client.is_connected = true;
                        balancer.succeeded(client.pick.id, now);
                    }
                }
                Step::Fail(at, n) if at < clients.len() => {
                    let client = &mut clients[at];
                    let cause = if client.is_connected { DialFailure::BrokeOff } else { cause(n) };
                    balancer.failed(client.pick.id, cause, &mut client.round, now);
                    client.is_connected = false;
                    let tried = client.pick;
                    match balancer.pick(None, &mut client.round, now) {
                        Some(pick) => {
                            prop_assert_ne!(pick.id, tried.id);
                            client.pick = pick;
                        }
                        None => drop(clients.swap_remove(at)),
                    }
                }
                Step::Leave(at) if at < clients.len() => {
                    let client = clients.swap_remove(at);
                    if client.is_connected { balancer.closed(client.pick.id, now) } else { balancer.abandon(client.pick.id, now) }
                }
                Step::Wait(ms) => now = now + Duration::from_millis(ms.into()),
                Step::Fail(..) | Step::Leave(_) => {}
            }
            check(&balancer, &clients, &listed);
        }
    }

    /// Whatever the lengths of connections, no backend of those that answer ever has
    /// more than one connection more than another when it is picked.
    #[test]
    fn the_least_loaded_is_picked(
        seed: u64,
        backends in 1..8u8,
        ends in proptest::collection::vec(proptest::option::of(0..200usize), 1..200),
    ) {
        let specs: Vec<_> = (0..backends).map(spec).collect();
        let mut balancer = Balancer::new(seed);
        balancer.set(&specs, at(0));
        let mut open: Vec<Pick> = Vec::new();
        let mut loads: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        loads.extend(specs.iter().map(|spec| (spec.addresses[0], 0)));
        for end in ends {
            match end.filter(|at| *at < open.len()) {
                Some(at) => {
                    let pick = open.swap_remove(at);
                    balancer.closed(pick.id, super::at(0));
                    *loads.get_mut(&pick.address).unwrap() -= 1;
                }
                None => {
                    let pick = connect(&mut balancer, super::at(0));
                    let least = *loads.values().min().unwrap();
                    prop_assert_eq!(loads[&pick.address], least);
                    *loads.get_mut(&pick.address).unwrap() += 1;
                    open.push(pick);
                }
            }
        }
    }

    /// Connections one after the other: no backend gets more than one more than another.
    #[test]
    fn turns_are_even(seed: u64, backends in 1..40u8, connections in 1..200usize) {
        let specs: Vec<_> = (0..backends).map(spec).collect();
        let mut balancer = Balancer::new(seed);
        balancer.set(&specs, at(0));
        let mut served: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for _ in 0..connections {
            let pick = connect(&mut balancer, at(0));
            balancer.closed(pick.id, at(0));
            *served.entry(pick.address).or_default() += 1;
        }
        let least = match served.len() {
            all if all == usize::from(backends) => *served.values().min().unwrap(),
            _ => 0,
        };
        prop_assert!(served.values().max().unwrap() - least <= 1);
    }
}
