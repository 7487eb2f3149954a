//! The limits that the ports of one app share.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::time::Duration;

use zpa::clock::Time;
use zpa::engine::{BackendSpec, PortId};
use zpa::rules::Rules;

use crate::rig::{APP, LIMITS, PORT, Rig, backend};

const SECOND: PortId = PortId { app: APP, index: 1 };

/// An app that is awake, with two ports of one pod.
struct TwoPorts {
    rig: Rig,
    pod: [TcpListener; 2],
}

impl TwoPorts {
    fn new(rules: &Rules) -> TwoPorts {
        let mut rig = Rig::new(LIMITS);
        let any = ([127, 0, 0, 1], 0).into();
        assert_eq!(rig.engine.add_port(APP, any, LIMITS).unwrap(), SECOND);
        rig.engine.set_rules(APP, rules);
        TwoPorts {
            rig,
            pod: [backend(), backend()],
        }
    }

    fn wake(&mut self) {
        for (port, listener) in [PORT, SECOND].into_iter().zip(&self.pod) {
            let spec = BackendSpec {
                is_near: true,
                id: "uid of the pod".to_owned(),
                addresses: vec![listener.local_addr().unwrap()],
            };
            let now = self.rig.now();
            self.rig.engine.set_backends(port, &[spec], now);
        }
        self.rig.set_gate(true);
    }

    /// Turns at that time, in which whatever is going to happen at once happens.
    fn settle_at(&mut self, now: Time) {
        for _ in 0..50 {
            self.rig.engine.wait(Some(Duration::ZERO), now).unwrap();
            self.rig.engine.dispatch(now);
        }
    }

    /// How many clients of each port were dialled for.
    fn dialled(&self) -> [u64; 2] {
        [PORT, SECOND].map(|port| {
            let counts = self.rig.engine.port_counts(port);
            counts.accepted - counts.waiting as u64
        })
    }

    fn connect(&self, port: PortId) -> TcpStream {
        TcpStream::connect(self.rig.engine.local_addr(port).unwrap()).unwrap()
    }
}

#[test]
fn a_pod_has_no_more_connections_than_it_may_have_at_all_ports_together() {
    let mut app = TwoPorts::new(&Rules {
        max_connections_per_pod: NonZeroU32::new(1),
        ..Rules::default()
    });
    app.wake();
    let first = app.connect(PORT);
    let server = app.rig.accept(&app.pod[0]);
    let mut second = app.connect(SECOND);
    second.write_all(b"at the other port").unwrap();
    app.rig.until("it waits", |e| e.counts(APP).accepted == 2);
    app.rig.settle();
    assert_eq!(
        (app.rig.counts().forwarded, app.rig.counts().waiting),
        (1, 1)
    );
    assert!(app.rig.counts().is_full);
    for port in [PORT, SECOND] {
        assert_eq!(app.rig.engine.full_backends(port), 1);
    }
    drop((first, server));
    let mut server = app.rig.accept(&app.pod[1]);
    app.rig.expect(&mut server, b"at the other port");
}

#[test]
fn a_release_has_one_pace_at_all_ports_and_the_order_in_which_clients_came() {
    let mut app = TwoPorts::new(&Rules {
        release_rate: "1".parse().unwrap(),
        ..Rules::default()
    });
    let mut clients = Vec::new();
    for (number, port) in (1..).zip([SECOND, PORT, PORT, SECOND]) {
        clients.push(app.connect(port));
        app.rig
            .until("it is held", |e| e.counts(APP).waiting == number);
    }
    app.wake();
    let start = app.rig.now();
    for (seconds, dialled) in (0..).zip([[0, 1], [1, 1], [2, 1], [2, 2]]) {
        app.settle_at(start + Duration::from_secs(seconds));
        assert_eq!(app.dialled(), dialled, "after {seconds} s");
    }
}

/// Nobody goes ahead of those who wait for the pace at the other port.
#[test]
fn who_comes_during_a_release_has_its_turn_at_the_other_port_too() {
    let mut app = TwoPorts::new(&Rules {
        release_rate: "1".parse().unwrap(),
        ..Rules::default()
    });
    let _held = [app.connect(PORT), app.connect(PORT)];
    app.rig
        .until("they are held", |e| e.counts(APP).waiting == 2);
    app.wake();
    let start = app.rig.now();
    app.settle_at(start);
    assert_eq!(app.dialled(), [1, 0]);
    let _late = app.connect(SECOND);
    for (seconds, dialled) in (0..).zip([[1, 0], [2, 0], [2, 1]]) {
        app.settle_at(start + Duration::from_secs(seconds));
        assert_eq!(app.dialled(), dialled, "after {seconds} s");
    }
    assert_eq!(app.rig.counts().accepted, 3);
}
