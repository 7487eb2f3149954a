//! Connections of load balancers, which begin with a PROXY header, and the header that is
//! sent to backends.

use super::*;
use crate::engine::counters::CountedAs;
use crate::rules::proxy_protocol::Version;
use crate::rules::{Preread, Rules};

const HEADER: Preread = Preread {
    awaits_header: true,
    is_ignored: false,
};

const OF_A_CLIENT: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n";
/// The signature of version 2, a health check, no addresses.
const LOCAL: &str = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Ignores 192.0.2.8 and denies 192.0.2.9.
fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.sources.ignored = "192.0.2.8".parse().unwrap();
    rules.sources.denied = "192.0.2.9".parse().unwrap();
    rules
}

#[test]
fn a_connection_counts_once_a_load_balancer_has_said_whose_it_is() {
    let (shut, open) = (false, true);
    let no_header =
        |why: &str| format!("client: RST | backends:  | client/holding: {why}: no PROXY header");
    let held = "client:  | backends:  | open, holding".to_owned();
    let served = "client:  | backends: ask | open, relaying".to_owned();
    for (label, gate_open, steps, counted_as, expected) in [
        (
            "nothing yet",
            open,
            &[][..],
            CountedAs::Nothing,
            held.clone(),
        ),
        (
            "half of the header",
            open,
            &[Client(Send("PROXY TCP4 192"))],
            CountedAs::Nothing,
            held.clone(),
        ),
        (
            "all of it, while the gate is shut",
            shut,
            &[Client(Send(OF_A_CLIENT))],
            CountedAs::Waiting,
            held.clone(),
        ),
        (
            "all of it, and the first bytes: the backend gets these alone",
            open,
            &[
                Client(Send(OF_A_CLIENT)),
                Client(Send("ask")),
                Backend(Accept),
            ],
            CountedAs::Served,
            served.clone(),
        ),
        (
            "in two parts",
            open,
            &[
                Client(Send("PROXY TCP4 192.0.2.7 10.")),
                Client(Send("0.0.1 1 2\r\nask")),
                Backend(Accept),
            ],
            CountedAs::Served,
            served.clone(),
        ),
        (
            "a client that nobody knows",
            shut,
            &[Client(Send("PROXY UNKNOWN\r\n"))],
            CountedAs::Waiting,
            held.clone(),
        ),
        (
            "a client that is ignored, while a backend is there",
            shut,
            &[
                Client(Send("PROXY TCP4 192.0.2.8 10.0.0.1 1 2\r\nask")),
                Backend(Accept),
            ],
            CountedAs::Nothing,
            served.clone(),
        ),
        (
            "a client that is denied",
            open,
            &[Client(Send("PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n"))],
            CountedAs::Nothing,
            "client: RST | backends:  | zpa/holding: its client is denied".to_owned(),
        ),
        (
            "a health check, while a backend is there",
            shut,
            &[Client(Send(LOCAL)), Client(Send("ask")), Backend(Accept)],
            CountedAs::Nothing,
            served,
        ),
        (
            "no header",
            open,
            &[Client(Send("GET / HTTP/1.1"))],
            CountedAs::Nothing,
            no_header("does not begin like a header"),
        ),
        (
            "a wrong one",
            open,
            &[Client(Send("PROXY TCP4 1 2 3 4\r\n"))],
            CountedAs::Nothing,
            no_header("has a wrong address"),
        ),
        (
            "an end within it",
            open,
            &[Client(Send("PROXY TCP4")), Client(Fin)],
            CountedAs::Nothing,
            no_header("ends before the header does"),
        ),
        (
            "a bare check whether somebody listens",
            open,
            &[Client(Fin)],
            CountedAs::Nothing,
            "client: FIN | backends:  | client/holding: reset or gone".to_owned(),
        ),
        (
            "a reset",
            open,
            &[Client(Reset)],
            CountedAs::Nothing,
            "client: (gone) | backends:  | client/holding: reset or gone".to_owned(),
        ),
        (
            "just before its time is up",
            open,
            &[Client(Send("PROXY ")), Wait(Duration::from_millis(4_999))],
            CountedAs::Nothing,
            held,
        ),
        (
            "its time is up",
            open,
            &[Client(Send("PROXY ")), Wait(Duration::from_secs(5))],
            CountedAs::Nothing,
            no_header("sends no header in time"),
        ),
    ] {
        let mut rig = Rig::screened(rules(), HEADER, gate_open);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
        assert_eq!(rig.counted_as(), counted_as, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn a_health_check_of_a_load_balancer_wakes_nothing() {
    let mut rig = Rig::screened(rules(), HEADER, false);
    rig.play(&[Backends(0), Client(Send(LOCAL))]);
    let expected =
        "client: FIN | backends:  | zpa/holding: does not count, and no backend is ready";
    assert_eq!(rig.story(), expected);
    assert_eq!(rig.port.counts.uses, 0);
    let excluded = rig.port.counters.exclusions();
    let excluded: Vec<_> = excluded.into_iter().filter(|(_, n)| *n > 0).collect();
    assert_eq!(excluded, [(["local"], 1)]);
}

/// The client of the tests is 192.0.2.1:1234, and has connected to 10.0.0.1:80.
#[test]
fn a_backend_gets_the_address_of_the_client_before_the_first_byte() {
    let own = "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\n";
    for (label, is_handed_on, steps, expected) in [
        (
            "without a byte",
            false,
            &[Backend(Accept)][..],
            own.to_owned(),
        ),
        (
            "with bytes",
            false,
            &[Client(Send("ask")), Backend(Accept)],
            format!("{own}ask"),
        ),
        (
            "the next one too, where the first breaks off before a byte",
            false,
            &[
                Backend(Accept),
                Backend(Reset),
                Wait(SECOND),
                Backend(Accept),
                Client(Send("ask")),
            ],
            format!("{own}ask"),
        ),
        (
            "a client that a load balancer has handed on",
            true,
            &[
                Client(Send(OF_A_CLIENT)),
                Client(Send("ask")),
                Backend(Accept),
            ],
            format!("{OF_A_CLIENT}ask"),
        ),
        (
            "a health check, for which version 1 has no word",
            true,
            &[Client(Send(LOCAL)), Backend(Accept)],
            "PROXY UNKNOWN\r\n".to_owned(),
        ),
    ] {
        let mut rules = rules();
        rules.send_proxy_protocol = Some(Version::V1);
        let mut rig = if is_handed_on {
            Rig::screened(rules, HEADER, true)
        } else {
            Rig::new(WINDOW, 1, false)
        };
        rig.port.rules.send_proxy_protocol = Some(Version::V1);
        rig.play(&[Gate(true)]);
        rig.play(steps);
        let received = rig.dialled.last().map(Peer::received).unwrap();
        assert_eq!(String::from_utf8_lossy(&received), expected, "{label}");
        assert!(rig.is_open(), "{label}: {}", rig.story());
    }
}

/// The header is no byte of the client's: whoever has got it alone can be replaced.
#[test]
fn a_backend_that_has_gone_takes_no_header_and_another_is_dialled() {
    let mut rig = Rig::new(WINDOW, 1, false);
    rig.port.rules.send_proxy_protocol = Some(Version::V1);
    rig.play(&[Gate(true), Client(Send("ask"))]);
    rig.take(Backend(Accept));
    rig.take(Backend(Reset));
    rig.play(&[Wait(SECOND), Backend(Accept)]);
    let received = rig.dialled.last().map(Peer::received).unwrap();
    assert!(received.ends_with(b"\r\nask"), "{}", rig.story());
}

/// What is known of a client is on the heap, and only where something asks for it.
#[test]
fn a_header_is_kept_where_the_backend_or_the_balancer_asks_who_the_client_is() {
    for (label, has_affinity, sends_header, is_kept) in [
        ("nobody asks", false, false, false),
        ("the balancer", true, false, true),
        ("the backend", false, true, true),
    ] {
        let mut rules = rules();
        rules.send_proxy_protocol = sends_header.then_some(Version::V1);
        let mut rig = Rig::screened(rules, HEADER, false);
        let timeout = has_affinity.then_some(SECOND);
        let group = rig.port.group.clone();
        group.affinity.set_timeout(timeout);
        rig.port.join(&group);
        rig.play(&[Client(Send(OF_A_CLIENT))]);
        assert_eq!(rig.knows_client(), is_kept, "{label}");
    }
}

/// Its address is that of the load balancer, as far as the socket goes.
#[test]
fn a_client_whose_header_was_read_before_anybody_asked_is_bound_to_nothing() {
    let mut rig = Rig::screened(rules(), HEADER, false);
    rig.play(&[Client(Send(OF_A_CLIENT))]);
    let group = rig.port.group.clone();
    group.affinity.set_timeout(Some(SECOND));
    rig.port.join(&group);
    rig.play(&[Gate(true)]);
    assert_eq!(rig.dialled.len(), 1, "{}", rig.story());
    assert_eq!(group.affinity.len(), Some(0));
}
