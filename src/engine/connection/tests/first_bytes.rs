//! Connections that count by their first bytes, health checks that are answered, and the
//! answer to a client that has reached the hold limit.

use super::*;
use crate::engine::counters::CountedAs;
use crate::rules::answer::HoldAnswer;
use crate::rules::first_bytes::ProbeAnswer;
use crate::rules::{Preread, Rules};

const BYTES: Preread = Preread {
    awaits_header: false,
    is_ignored: false,
};

/// Wakes on HTTP, and answers checks of `/well`.
fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.first_bytes.wake_on = "http".parse().unwrap();
    rules.first_bytes.probes.answer = Some(ProbeAnswer::Ok);
    rules.first_bytes.probes.paths = vec!["/well".to_owned()];
    rules
}

const REQUEST: &str = "GET / HTTP/1.1\r\n\r\n";
const CHECK: &str = "GET /well HTTP/1.1\r\n\r\n";

/// The rules by which it did not count.
fn excluded(rig: &Rig) -> Vec<&'static str> {
    let all = rig.port.counters.exclusions().into_iter();
    let counted = all.filter(|(_, count)| *count > 0);
    counted.map(|([name], _)| name).collect()
}

#[test]
fn a_connection_counts_once_its_first_bytes_look_as_they_must() {
    let (asleep, awake) = (0, 1);
    let held = "client:  | backends:  | open, holding".to_owned();
    let served = |bytes: &str| format!("client:  | backends: {bytes} | open, relaying");
    let closed = |how: &str| {
        format!("client: {how} | backends:  | zpa/holding: does not count, and no backend is ready")
    };
    for (label, backends, steps, counted_as, rule, expected) in [
        (
            "a bare connect",
            awake,
            &[][..],
            CountedAs::Nothing,
            None,
            held.clone(),
        ),
        (
            "a bare check whether somebody listens",
            asleep,
            &[Client(Fin)],
            CountedAs::Nothing,
            None,
            "client: FIN | backends:  | client/holding: reset or gone".to_owned(),
        ),
        (
            "the start of a request",
            awake,
            &[Client(Send("GET /"))],
            CountedAs::Nothing,
            None,
            held.clone(),
        ),
        (
            "a request, while the app sleeps",
            asleep,
            &[Client(Send(REQUEST))],
            CountedAs::Waiting,
            None,
            held.clone(),
        ),
        (
            "a request, of which the backend gets every byte",
            awake,
            &[
                Client(Send("GET /")),
                Client(Send(" HTTP/1.1\r\n\r\n")),
                Backend(Accept),
            ],
            CountedAs::Served,
            None,
            served(REQUEST.trim()),
        ),
        (
            "a request whose client has ended its direction",
            awake,
            &[Client(Send(REQUEST)), Client(Fin), Backend(Accept)],
            CountedAs::Served,
            None,
            served("GET / HTTP/1.1\r\n\r\n FIN"),
        ),
        (
            "other bytes, while the app sleeps",
            asleep,
            &[Client(Send("EHLO x\r\n"))],
            CountedAs::Nothing,
            Some("first_bytes"),
            closed("RST"),
        ),
        (
            "other bytes, while a backend is there",
            awake,
            &[Client(Send("EHLO x\r\n")), Backend(Accept)],
            CountedAs::Nothing,
            Some("first_bytes"),
            served("EHLO x"),
        ),
        (
            "too few bytes, and the end",
            asleep,
            &[Client(Send("GE")), Client(Fin)],
            CountedAs::Nothing,
            Some("first_bytes"),
            closed("RST"),
        ),
        (
            "a check, while a backend is there",
            awake,
            &[Client(Send(CHECK)), Backend(Accept)],
            CountedAs::Nothing,
            Some("probe"),
            format!(
                "client:  | backends: {} bytes | open, relaying",
                CHECK.len()
            ),
        ),
        (
            "just before the hold limit",
            awake,
            &[Wait(Duration::from_millis(59_999))],
            CountedAs::Nothing,
            None,
            held,
        ),
        (
            "the hold limit",
            awake,
            &[Wait(LIMITS.hold_timeout)],
            CountedAs::Nothing,
            None,
            "client: FIN | backends:  | client/holding: its first bytes do not come".to_owned(),
        ),
    ] {
        let mut rig = Rig::screened(rules(), BYTES, true);
        rig.play(&[Backends(backends)]);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
        assert_eq!(rig.counted_as(), counted_as, "{label}");
        assert_eq!(excluded(&rig), Vec::from_iter(rule), "{label}");
        if let Some(backend) = rig.dialled.last() {
            assert_eq!(backend.received(), rig.client.sent(), "{label}: every byte");
        }
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

/// The kernel forgets an answer if bytes of the client are left unread.
#[test]
fn a_check_is_answered_while_the_app_sleeps_and_its_bytes_are_taken() {
    for (label, probe, status) in [
        ("well", ProbeAnswer::Ok, "HTTP/1.1 200 OK\r\n"),
        (
            "not well",
            ProbeAnswer::Unavailable,
            "HTTP/1.1 503 Service Unavailable\r\n",
        ),
    ] {
        for is_ignored in [false, true] {
            let mut rules = rules();
            rules.first_bytes.probes.answer = Some(probe);
            let preread = Preread {
                is_ignored,
                ..BYTES
            };
            let mut rig = Rig::asleep(rules, preread);
            rig.play(&[Client(Send(CHECK)), Client(Send("more"))]);
            let answer = String::from_utf8(rig.client.received()).unwrap();
            assert!(answer.starts_with(status), "{label}: {answer}");
            assert!(
                rig.client.view().ends_with("FIN"),
                "{label}: {}",
                rig.story()
            );
            assert!(rig.is_open(), "{label}: until the client ends");
            rig.play(&[Client(Fin)]);
            assert_eq!(rig.close_reason, Some(CloseReason::Probe), "{label}");
            assert!(rig.client.view().ends_with("FIN"), "{label}: no reset");
            assert_eq!(rig.port.counts.uses, 0, "{label}");
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn a_check_without_an_answer_is_closed_while_the_app_sleeps() {
    let mut rules = rules();
    rules.first_bytes.probes.answer = None;
    let mut rig = Rig::asleep(rules, BYTES);
    rig.play(&[Client(Send(CHECK))]);
    assert_eq!(
        rig.close_reason,
        Some(CloseReason::UncountedNoPod(ConnectionPhase::Holding))
    );
    assert_eq!(excluded(&rig), ["probe"]);
}

fn held_in_vain(answer: &str, before: &[Step]) -> Rig {
    let mut rig = Rig::new(WINDOW, 1, false);
    rig.port.rules.hold_answer = Some(answer.parse().unwrap());
    rig.play(before);
    rig.play(&[Wait(LIMITS.hold_timeout)]);
    rig
}

#[test]
fn a_client_at_the_hold_limit_is_answered_and_counts_no_more() {
    for (label, before) in [
        ("held", &[Client(Send("ask"))][..]),
        ("dialled in vain", &[Client(Send("ask")), Gate(true)]),
        (
            "between two rounds",
            &[Client(Send("ask")), Gate(true), Backend(Reset), Gate(false)],
        ),
        ("silent", &[]),
    ] {
        let mut rig = held_in_vain("redis", before);
        let said = String::from_utf8(rig.client.received()).unwrap();
        assert!(said.starts_with("-LOADING"), "{label}: {}", rig.story());
        assert_eq!(rig.counted_as(), CountedAs::Nothing, "{label}");
        assert_eq!(rig.port.counts.held_too_long, 1, "{label}");
        rig.play(&[Gate(true), Client(Fin)]);
        assert!(
            matches!(rig.close_reason, Some(CloseReason::HeldTooLong(..))),
            "{label}"
        );
        assert_eq!(rig.leftovers(), [""; 0], "{label}");
    }
}

/// libpq asks for encryption first, and shows no error that comes in answer to that.
#[test]
fn postgres_is_refused_encryption_before_it_gets_the_error() {
    let mut rig = Rig::new(WINDOW, 1, false);
    rig.port.rules.hold_answer = Some(HoldAnswer::Postgres);
    rig.client.send(&[0, 0, 0, 8, 4, 210, 22, 47]);
    rig.play(&[Wait(LIMITS.hold_timeout)]);
    assert_eq!(rig.client.view(), "N");
    rig.client.send(&[0, 0, 0, 9, 0, 3, 0, 0, 0]);
    rig.settle();
    let said = rig.client.received();
    assert!(said.starts_with(b"NE"), "{said:?}");
    assert!(said.windows(5).any(|it| it == b"57P03"), "{said:?}");
    assert!(rig.client.view().ends_with("FIN"));
}

#[test]
fn who_does_not_end_is_closed_after_two_seconds_and_who_goes_on_sending_is_reset() {
    let mut rig = held_in_vain("ftp", &[]);
    rig.play(&[Wait(Duration::from_millis(1_999))]);
    assert!(rig.is_open());
    rig.play(&[Wait(Duration::from_millis(1))]);
    assert!(!rig.is_open());
    let mut rig = held_in_vain("ftp", &[]);
    rig.play(&[Client(Bulk(300_000))]);
    assert!(rig.client.view().ends_with("RST"), "{}", rig.story());
}

#[test]
fn who_takes_no_answer_is_closed_after_two_seconds() {
    let mut rig = Rig::new(0, 1, false);
    let long = "x".repeat(5000);
    rig.port.rules.hold_answer = Some(HoldAnswer::Bytes(long.as_bytes().into()));
    rig.play(&[Wait(LIMITS.hold_timeout)]);
    assert!(rig.is_open());
    rig.play(&[Client(Read(2500))]);
    assert!(rig.is_open());
    rig.play(&[Client(Read(2500))]);
    assert_eq!(rig.client.received().len(), 5000);
    assert!(rig.client.view().ends_with("FIN"), "{}", rig.story());
    rig.play(&[Wait(2 * SECOND)]);
    assert!(!rig.is_open());
}
