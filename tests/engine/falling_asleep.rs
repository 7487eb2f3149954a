//! An app that falls asleep with many connections that do not count.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use zpa::engine::Limits;
use zpa::rules::Rules;

use crate::clients::connect_from;
use crate::rig::{APP, LIMITS, PROCESS, Rig, backend};

/// As many connections that do not count, with the pod's ends of them.
fn ignored(count: usize) -> (Rig, Vec<TcpStream>, Vec<TcpStream>) {
    let pod = backend();
    let limits = Limits {
        max_connections: 2 * count,
        ..PROCESS
    };
    let mut rig = Rig::within(limits, LIMITS);
    let mut rules = Rules::default();
    rules.sources.ignored = "127.0.0.2".parse().unwrap();
    rig.engine.set_rules(APP, &rules);
    rig.set_gate(true);
    rig.set_backends(&[&pod]);
    let clients = (0..count).map(|_| connect_from(&rig, [127, 0, 0, 2]));
    let clients: Vec<_> = clients.collect();
    let servers = (0..count).map(|_| rig.accept(&pod)).collect();
    rig.until("all are served", |e| {
        e.counts(APP).forwarded == count as u64
    });
    (rig, clients, servers)
}

#[test]
fn when_an_app_sleeps_a_turn_ends_some_of_its_connections_and_not_all() {
    let (mut rig, _clients, _servers) = ignored(200);
    rig.set_gate(false);
    rig.engine.end_uncounted(APP);
    let mut open = 200;
    rig.until("all have ended", |engine| {
        let left = engine.counts(APP).open;
        assert!(open - left <= 32, "{} in one turn", open - left);
        open = left;
        open == 0
    });
}

#[test]
fn once_an_app_sleeps_no_byte_goes_over_a_connection_that_is_about_to_end() {
    let (mut rig, mut clients, mut servers) = ignored(200);
    rig.set_gate(false);
    rig.engine.end_uncounted(APP);
    for client in &mut clients {
        client.write_all(b"late").unwrap();
    }
    rig.until("all have ended", |e| e.counts(APP).open == 0);
    for server in &mut servers {
        server.set_nonblocking(true).unwrap();
        let end = server.read(&mut [0; 4]).map_err(|e| e.kind());
        assert!(
            matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
            "{end:?}"
        );
    }
}
