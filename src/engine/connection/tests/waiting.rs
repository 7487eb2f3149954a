//! Connections that no backend has taken yet: held, dialled, refused, or closed before
//! the first byte.

use std::num::NonZeroU32;

use super::super::{DialRound, Usage};
use super::*;

#[test]
fn a_connection_that_no_backend_has_taken_yet() {
    check(&[
        (
            "a client that resets while a backend is dialled is gone",
            &[Client(Send("ask")), Client(Reset)],
            "client: (gone) | backends: (not taken) | client/dialing: reset or gone",
        ),
        (
            "a backend that refuses is dialled again after a pause",
            &[
                Backend(Reset),
                Wait(SECOND),
                Backend(Accept),
                Client(Send("ask")),
            ],
            "client:  | backends: (gone), ask | open, relaying",
        ),
        (
            "a backend that does not answer in time is dialled again after a pause",
            &[
                Wait(2 * SECOND),
                Wait(SECOND),
                Backend(Accept),
                Client(Send("ask")),
            ],
            "client:  | backends: (not taken), ask | open, relaying",
        ),
        (
            "a backend that is new is dialled at once",
            &[
                Backend(Reset),
                Backends(2),
                Backend(Accept),
                Client(Send("ask")),
            ],
            "client:  | backends: (gone), ask | open, relaying",
        ),
        (
            "just before the hold limit",
            &[Wait(Duration::from_millis(59_999))],
            "client:  | backends: (not taken) | open, dialing",
        ),
        (
            "the hold limit",
            &[Wait(60 * SECOND)],
            "client: RST | backends: (not taken) | zpa/dialing: no backend accepted in 1m0s",
        ),
        (
            "a backend that takes it when the gate is shut again gets no byte",
            &[Client(Send("ask")), Gate(false), Backend(Accept)],
            "client:  | backends: RST | open, holding",
        ),
        (
            "and another one does when it opens",
            &[
                Client(Send("ask")),
                Gate(false),
                Backend(Accept),
                Gate(true),
                Backend(Accept),
            ],
            "client:  | backends: RST, ask | open, relaying",
        ),
    ]);
}

#[test]
fn a_connection_that_is_held() {
    for (label, steps, expected) in [
        (
            "nothing is read",
            &[Client(Send("ask")), Client(Fin)][..],
            "client:  | backends:  | open, holding",
        ),
        (
            "the client resets",
            &[Client(Send("ask")), Client(Reset)],
            "client: (gone) | backends:  | client/holding: reset or gone",
        ),
        (
            "the hold limit",
            &[Wait(LIMITS.hold_timeout)],
            "client: RST | backends:  | zpa/holding: no backend ready in 1m0s",
        ),
        (
            "the gate opens",
            &[
                Client(Send("ask")),
                Client(Fin),
                Gate(true),
                Backend(Accept),
            ],
            "client:  | backends: ask FIN | open, relaying",
        ),
    ] {
        let mut rig = Rig::new(WINDOW, 1, false);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
    }
}

#[test]
fn what_is_wrong_with_the_app_is_in_the_reason_at_the_hold_limit() {
    let mut rig = Rig::new(WINDOW, 1, false);
    rig.port.wake_trouble = Some("ErrImagePull");
    rig.play(&[Wait(LIMITS.hold_timeout)]);
    let end = "client: RST | backends:  | zpa/holding: no backend ready in 1m0s: ErrImagePull";
    assert_eq!(rig.story(), end);
    assert_eq!(rig.port.counts.wake_failed, 0);
}

#[test]
fn a_client_that_ends_its_direction_while_it_waits() {
    let served = false;
    let dropped = true;
    for (label, abort_on_close, gate_open, steps, expected) in [
        (
            "held, without a byte: it has nothing to be answered",
            served,
            false,
            &[Client(Fin)][..],
            "client: FIN | backends:  | client/holding: reset or gone",
        ),
        (
            "held, after bytes: it may await its reply",
            served,
            false,
            &[Client(Send("ask")), Client(Fin)],
            "client:  | backends:  | open, holding",
        ),
        (
            "held, after bytes, where such clients are dropped",
            dropped,
            false,
            &[Client(Send("ask")), Client(Fin)],
            "client: RST | backends:  | client/holding: reset or gone",
        ),
        (
            "held, with bytes and no end, where such clients are dropped",
            dropped,
            false,
            &[Client(Send("ask"))],
            "client:  | backends:  | open, holding",
        ),
        (
            "while a backend is dialled, without a byte: it may await a greeting",
            served,
            true,
            &[Client(Fin), Backend(Accept), Backend(Send("hello"))],
            "client: hello | backends: FIN | open, relaying",
        ),
        (
            "while a backend is dialled that then refuses, without a byte",
            served,
            true,
            &[Client(Fin), Backend(Reset)],
            "client: FIN | backends: (gone) | client/dialing: reset or gone",
        ),
        (
            "while a backend is dialled that then refuses, after bytes",
            served,
            true,
            &[
                Client(Send("ask")),
                Client(Fin),
                Backend(Reset),
                Wait(SECOND),
                Backend(Accept),
            ],
            "client:  | backends: (gone), ask FIN | open, relaying",
        ),
        (
            "while a backend is dialled, where such clients are dropped",
            dropped,
            true,
            &[Client(Send("ask")), Client(Fin)],
            "client: RST | backends: (not taken) | client/dialing: reset or gone",
        ),
        (
            "between two rounds, without a byte",
            served,
            true,
            &[Backend(Reset), Client(Fin)],
            "client: FIN | backends: (gone) | client/dialing: reset or gone",
        ),
        (
            "when a backend has taken it, where such clients are dropped",
            dropped,
            true,
            &[Backend(Accept), Client(Send("ask")), Client(Fin)],
            "client:  | backends: ask FIN | open, relaying",
        ),
    ] {
        let mut rig = Rig::new(WINDOW, 1, gate_open);
        rig.port.limits.abort_on_close = abort_on_close;
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_backend_that_closes_in_order_before_the_first_byte() {
    check(&[
        (
            "right after a wake it is tried again",
            &[
                Backend(Accept),
                Backend(Fin),
                Wait(10 * MS),
                Backend(Accept),
                Client(Send("ask")),
            ],
            "client:  | backends: FIN, ask | open, relaying",
        ),
        (
            "just before two seconds after a wake, too",
            &[
                Backend(Accept),
                Wait(1999 * MS),
                Backend(Fin),
                Wait(10 * MS),
                Backend(Accept),
            ],
            "client:  | backends: FIN,  | open, relaying",
        ),
        (
            "two seconds after a wake it counts",
            &[Backend(Accept), Wait(2000 * MS), Backend(Fin)],
            "client: FIN | backends:  | open, relaying",
        ),
        (
            "two seconds after the last wake",
            &[
                Gate(false),
                Backend(Accept),
                Wait(10 * SECOND),
                Gate(true),
                Backend(Accept),
                Wait(1999 * MS),
                Backend(Fin),
            ],
            "client:  | backends: RST, FIN | open, dialing",
        ),
        (
            "after a byte from the client it counts",
            &[Backend(Accept), Client(Send("a")), Backend(Fin)],
            "client: FIN | backends: a | open, relaying",
        ),
        (
            "after a byte of its own it counts",
            &[Backend(Accept), Backend(Send("a")), Backend(Fin)],
            "client: a FIN | backends:  | open, relaying",
        ),
        (
            "after the client's end it is an answer to that",
            &[Backend(Accept), Client(Fin), Backend(Fin)],
            "client: FIN | backends: FIN | both sides have ended",
        ),
    ]);
}

#[test]
fn a_backend_that_has_closed_when_it_is_noticed_to_have_accepted_gets_no_byte() {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.play(&[Client(Send("ask"))]);
    rig.take(Backend(Accept));
    rig.take(Backend(Fin));
    rig.play(&[Wait(10 * MS), Backend(Accept)]);
    assert_eq!(
        rig.story(),
        "client:  | backends: FIN, ask | open, relaying"
    );
}

#[test]
fn a_backend_that_closes_every_time_is_tried_eight_times_in_all() {
    let mut rig = Rig::new(WINDOW, 1, true);
    for tries in 1..8 {
        rig.play(&[Backend(Accept), Backend(Fin)]);
        assert_eq!(rig.client.view(), "", "after {tries} tries");
        while rig.dialled.len() == tries {
            rig.play(&[Wait(10 * MS)]);
        }
    }
    rig.play(&[Backend(Accept), Backend(Fin)]);
    assert_eq!(rig.client.view(), "FIN");
    assert!(rig.now < Time::from_millis(1300), "{:?}", rig.now);
}

#[test]
fn a_backend_that_breaks_off_is_replaced_until_a_byte_has_gone_either_way() {
    check(&[
        (
            "before the first byte",
            &[
                Backend(Accept),
                Backend(Reset),
                Wait(SECOND),
                Backend(Accept),
                Client(Send("ask")),
            ],
            "client:  | backends: (gone), ask | open, relaying",
        ),
        (
            "after a byte from the client",
            &[Backend(Accept), Client(Send("a")), Backend(Reset)],
            "client: RST | backends: a (gone) | backend/relaying: reset or gone",
        ),
        (
            "after a byte from the backend",
            &[Backend(Accept), Backend(Send("a")), Backend(Reset)],
            "client: a RST | backends: (gone) | backend/relaying: reset or gone",
        ),
        (
            "before the first byte, and the client has left without one",
            &[
                Backend(Accept),
                Client(Fin),
                Backend(Reset),
                Wait(SECOND),
                Backend(Accept),
            ],
            "client: FIN | backends: (gone) | client/dialing: reset or gone",
        ),
    ]);
}

#[test]
fn addresses_that_fail_at_once_are_followed_by_the_next() {
    let mut rig = Rig::new(WINDOW, 3, false);
    rig.refusals = [ErrorKind::NetworkUnreachable, ErrorKind::ConnectionRefused].into();
    rig.play(&[Gate(true), Backend(Accept), Client(Send("ask"))]);
    assert_eq!(rig.story(), "client:  | backends: ask | open, relaying");
    assert_eq!(rig.port.counts.failed_dials, 2);
}

#[test]
fn pauses_between_rounds_grow_to_a_second() {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.play(&[]);
    let mut dials = Vec::new();
    while dials.len() < 10 {
        rig.play(&[Backend(Reset)]);
        let start = rig.now;
        let before = rig.dialled.len();
        while rig.dialled.len() == before {
            rig.play(&[Wait(Duration::from_millis(10))]);
        }
        dials.push(rig.now.since(start).as_millis());
    }
    assert_eq!(dials, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
}
#[test]
fn a_connection_that_does_not_count_waits_for_no_gate_and_no_wake() {
    let (shut, open) = (false, true);
    for (label, backends, gate_open, steps, expected) in [
        (
            "no backend, the gate shut: it sleeps",
            0,
            shut,
            &[][..],
            "client: FIN | backends:  | zpa/holding: does not count, and no backend is ready",
        ),
        (
            "no backend, the gate open: the last one has just gone",
            0,
            open,
            &[],
            "client: FIN | backends:  | zpa/holding: does not count, and no backend is ready",
        ),
        (
            "a backend and no lease",
            1,
            shut,
            &[
                Client(Send("ask")),
                Backend(Accept),
                Backend(Send("answer")),
            ],
            "client: answer | backends: ask | open, relaying",
        ),
        (
            "the gate is shut while a backend is dialled",
            1,
            open,
            &[Client(Send("ask")), Gate(false), Backend(Accept)],
            "client:  | backends: ask | open, relaying",
        ),
        (
            "the backend refuses, and takes it after a pause",
            1,
            shut,
            &[
                Client(Send("ask")),
                Backend(Reset),
                Wait(SECOND),
                Backend(Accept),
            ],
            "client:  | backends: (gone), ask | open, relaying",
        ),
        (
            "the backend refuses and leaves: it sleeps",
            1,
            shut,
            &[Backend(Reset), Backends(0), Wait(SECOND)],
            "client: FIN | backends: (gone) | zpa/dialing: does not count, and no backend is ready",
        ),
        (
            "at the hold limit",
            1,
            shut,
            &[Wait(LIMITS.hold_timeout)],
            "client: RST | backends: (not taken) | zpa/dialing: no backend accepted in 1m0s",
        ),
    ] {
        let mut rig = Rig::excluded(WINDOW, backends, gate_open);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
        let counts = rig.port.counts;
        assert_eq!(
            (counts.counted, counts.waiting, counts.uses),
            (0, 0, 0),
            "{label}"
        );
    }
}

/// The limit of the only backend is one connection, which is another's.
#[test]
fn a_connection_waits_while_every_backend_is_full() {
    for (label, usage, before, after) in [
        (
            "one that counts, in its turn",
            Usage::Counted,
            "client:  | backends:  | open, holding",
            "client:  | backends: ask | open, relaying",
        ),
        (
            "one that does not, after pauses",
            Usage::Uncounted,
            "client:  | backends:  | open, dialing",
            "client:  | backends: ask | open, relaying",
        ),
    ] {
        let mut rig = Rig::accepted(WINDOW, 1, true, usage);
        rig.port.balancer.set_max_per_backend(NonZeroU32::new(1));
        let other = rig
            .port
            .balancer
            .pick(None, &mut DialRound::default(), rig.now);
        let other = other.expect("the backend has room").id;
        rig.place();
        rig.play(&[Client(Send("ask")), Wait(SECOND)]);
        assert_eq!(rig.story(), before, "{label}");
        rig.port.balancer.closed(other, rig.now);
        rig.play(&[Wait(SECOND), Backend(Accept)]);
        assert_eq!(rig.story(), after, "{label}");
    }
}
