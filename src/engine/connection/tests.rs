//! Whole connections between scripted peers: every order of FIN, RST, half-close,
//! deadline and failed dial.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::End;
use super::Phase;
use super::Round;
use super::Time;

mod kernel;
mod rig;

use kernel::{Peer, open_wires};
use rig::{Act, LIMITS, Rig, Step};

use Act::{Accept, Bulk, Fin, Read, Reset, Send};
use Step::{Backend, Backends, Client, Gate, Wait};

/// What a peer takes without reading, unless a test says otherwise.
const WINDOW: usize = 1000;

const SECOND: Duration = Duration::from_secs(1);

/// Plays each row and compares how the connection stands after it.
fn check(rows: &[(&str, &[Step], &str)]) {
    for (label, steps, expected) in rows {
        let mut rig = Rig::new(WINDOW, 1, true);
        rig.play(steps);
        assert_eq!(rig.story(), *expected, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
            assert_eq!(open_wires(), 0, "{label}");
        }
    }
}

#[test]
fn both_directions_end_in_every_order() {
    check(&[
        (
            "nothing has ended",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Send("answer")),
            ],
            "client: answer | backends: ask | open, relaying",
        ),
        (
            "the client ends its direction, and still gets its answer",
            &[
                Client(Send("ask")),
                Client(Fin),
                Backend(Accept),
                Backend(Send("answer")),
            ],
            "client: answer | backends: ask FIN | open, relaying",
        ),
        (
            "the client ends first",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Client(Fin),
                Backend(Send("answer")),
                Backend(Fin),
            ],
            "client: answer FIN | backends: ask FIN | both sides have ended",
        ),
        (
            "the backend ends first",
            &[
                Backend(Accept),
                Backend(Send("hello")),
                Backend(Fin),
                Client(Send("bye")),
                Client(Fin),
            ],
            "client: hello FIN | backends: bye FIN | both sides have ended",
        ),
        (
            "neither has sent a byte",
            &[Backend(Accept), Client(Fin), Backend(Fin)],
            "client: FIN | backends: FIN | both sides have ended",
        ),
    ]);
}

#[test]
fn a_reset_is_passed_on_after_the_bytes_before_it() {
    check(&[
        (
            "the client resets",
            &[Backend(Accept), Client(Send("ask")), Client(Reset)],
            "client: (gone) | backends: ask RST | client/relaying: reset or gone",
        ),
        (
            "the backend resets",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Send("half")),
                Backend(Reset),
            ],
            "client: half RST | backends: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "the client resets after its end",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Client(Fin),
                Client(Reset),
            ],
            "client: (gone) | backends: ask FIN RST | client/relaying: reset or gone",
        ),
        (
            "the backend resets after its end",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Send("all")),
                Backend(Fin),
                Backend(Reset),
            ],
            "client: all FIN RST | backends: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "the backend ends, and resets when the client goes on sending",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Send("all")),
                Backend(Fin),
                Client(Send("more")),
                Backend(Reset),
            ],
            "client: all FIN RST | backends: askmore (gone) | backend/relaying: reset or gone",
        ),
    ]);
}

#[test]
fn a_client_that_reads_late_gets_everything_before_the_reset() {
    check(&[
        (
            "not yet",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1050)),
                Backend(Reset),
            ],
            "client: 1000 bytes … | backends: ask (gone) | open, relaying",
        ),
        (
            "it reads",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1200)),
                Backend(Reset),
                Client(Read(150)),
                Wait(SECOND),
                Client(Read(50)),
                Wait(SECOND),
            ],
            "client: 1200 bytes RST | backends: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "just before a minute without reading is over",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1050)),
                Backend(Reset),
                Wait(Duration::from_millis(59_999)),
            ],
            "client: 1000 bytes … | backends: ask (gone) | open, relaying",
        ),
        (
            "a minute without reading is over",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1050)),
                Backend(Reset),
                Wait(Duration::from_secs(60)),
            ],
            "client: 1000 bytes RST | backends: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "a minute, but it has read meanwhile",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1060)),
                Backend(Reset),
                Wait(30 * SECOND),
                Client(Read(10)),
                Wait(31 * SECOND),
            ],
            "client: 1010 bytes … | backends: ask (gone) | open, relaying",
        ),
        (
            "it ends its direction meanwhile, so that both have",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1050)),
                Backend(Fin),
                Client(Send("more")),
                Backend(Reset),
                Client(Fin),
            ],
            "client: 1000 bytes … | backends: askmore (gone) | open, relaying",
        ),
        (
            "it resets too",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Bulk(1050)),
                Backend(Reset),
                Client(Reset),
            ],
            "client: 1000 bytes (gone) | backends: ask (gone) | client/relaying: reset or gone",
        ),
    ]);
}

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
            "client:  | backends: FIN | open, holding",
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
            "client:  | backends: FIN, ask | open, relaying",
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
fn a_connection_that_does_not_count_waits_for_no_gate_and_no_wake() {
    let (shut, open) = (false, true);
    for (label, pods, gate_open, steps, expected) in [
        (
            "no pod, the gate shut: it sleeps",
            0,
            shut,
            &[][..],
            "client: FIN | pods:  | zpa/holding: does not count, and no pod is ready",
        ),
        (
            "no pod, the gate open: the last one has just gone",
            0,
            open,
            &[],
            "client: FIN | pods:  | zpa/holding: does not count, and no pod is ready",
        ),
        (
            "a pod and no lease",
            1,
            shut,
            &[Client(Send("ask")), Pod(Accept), Pod(Send("answer"))],
            "client: answer | pods: ask | open, relaying",
        ),
        (
            "the gate is shut while a pod is dialled",
            1,
            open,
            &[Client(Send("ask")), Gate(false), Pod(Accept)],
            "client:  | pods: ask | open, relaying",
        ),
        (
            "the pod refuses, and takes it after a pause",
            1,
            shut,
            &[Client(Send("ask")), Pod(Reset), Wait(SECOND), Pod(Accept)],
            "client:  | pods: (gone), ask | open, relaying",
        ),
        (
            "the pod refuses and leaves: it sleeps",
            1,
            shut,
            &[Pod(Reset), Pods(0), Wait(SECOND)],
            "client: FIN | pods: (gone) | zpa/dialing: does not count, and no pod is ready",
        ),
        (
            "at the hold limit",
            1,
            shut,
            &[Wait(LIMITS.hold_timeout)],
            "client: RST | pods: (not taken) | zpa/dialing: no pod accepted in 1m0s",
        ),
    ] {
        let mut rig = Rig::excluded(WINDOW, pods, gate_open);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
        let counts = rig.shared.counts;
        assert_eq!(
            (counts.counted, counts.waiting, counts.uses),
            (0, 0, 0),
            "{label}"
        );
    }
}

/// The limit of the only pod is one connection, which is another's.
#[test]
fn a_connection_waits_while_every_pod_is_full() {
    for (label, is_counted, before, after) in [
        (
            "one that counts, in its turn",
            true,
            "client:  | pods:  | open, holding",
            "client:  | pods: ask | open, relaying",
        ),
        (
            "one that does not, after pauses",
            false,
            "client:  | pods:  | open, dialing",
            "client:  | pods: ask | open, relaying",
        ),
    ] {
        let mut rig = Rig::accepted(WINDOW, 1, true, is_counted);
        rig.shared.balancer.set_most_per_pod(NonZeroU32::new(1));
        let other = rig.shared.balancer.pick(&mut Round::default(), rig.now);
        let other = other.expect("the pod has room").id;
        rig.place();
        rig.play(&[Client(Send("ask")), Wait(SECOND)]);
        assert_eq!(rig.story(), before, "{label}");
        rig.shared.balancer.release(other, rig.now);
        rig.play(&[Wait(SECOND), Pod(Accept)]);
        assert_eq!(rig.story(), after, "{label}");
    }
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
        rig.shared.limits.abort_on_close = abort_on_close;
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
            "two seconds after a wake it is believed",
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
            "client:  | backends: FIN, FIN | open, dialing",
        ),
        (
            "after a byte from the client it is believed",
            &[Backend(Accept), Client(Send("a")), Backend(Fin)],
            "client: FIN | backends: a | open, relaying",
        ),
        (
            "after a byte of its own it is believed",
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
fn a_connection_that_has_ended_is_kept_until_a_small_window_has_taken_everything() {
    let mut rig = Rig::new(4, 1, true);
    rig.play(&[
        Backend(Accept),
        Client(Send("ask")),
        Client(Fin),
        Backend(Send("answer")),
        Backend(Fin),
    ]);
    assert_eq!(
        rig.story(),
        "client: answ … | backends: ask FIN | open, relaying"
    );
    rig.play(&[Client(Read(2))]);
    assert_eq!(
        rig.story(),
        "client: answer FIN | backends: ask FIN | both sides have ended"
    );
    assert_eq!((rig.orphaned, rig.leftovers()), (0, Vec::new()));
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
    assert_eq!(rig.shared.counts.failed_dials, 2);
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
fn a_connection_that_lives_for_a_while_is_kept_alive() {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.play(&[Backend(Accept), Wait(Duration::from_millis(9_999))]);
    assert!(!rig.dialled[0].is_kept_alive());
    rig.play(&[Wait(Duration::from_millis(1))]);
    assert!(rig.dialled[0].is_kept_alive());
}

#[test]
fn input_that_nobody_takes_is_one_event_and_not_one_a_segment() {
    for (label, send, read, receiver_is_pod) in [
        (
            "the client sends",
            Client(Bulk(150)),
            Backend(Read(1000)),
            true,
        ),
        (
            "the backend sends",
            Backend(Bulk(150)),
            Client(Read(1000)),
            false,
        ),
    ] {
        let mut rig = Rig::new(10, 1, true);
        rig.play(&[Backend(Accept), send]);
        let backend = rig.dialled[0].clone();
        let (sender, receiver) = match receiver_is_pod {
            true => (rig.client.clone(), backend),
            false => (backend, rig.client.clone()),
        };
        let before = sender.events();
        rig.play(&[send; 20]);
        // One shows that there is more, and one is what epoll_ctl(2) asks for.
        assert_eq!(sender.events() - before, 2, "{label}");
        for _ in 0..100 {
            rig.play(&[read]);
        }
        assert_eq!(receiver.received(), sender.sent(), "{label}");
        let before = sender.events();
        rig.play(&[send, send]);
        assert_eq!(
            sender.events() - before,
            2,
            "{label}: each is reported again"
        );
        rig.play(&[read]);
        assert_eq!(receiver.received(), sender.sent(), "{label}");
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..400usize).prop_map(Bulk),
        2 => Just(Fin),
        1 => Just(Reset),
        4 => (1..400usize).prop_map(Read),
        3 => Just(Accept),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => act().prop_map(Client),
        8 => act().prop_map(Backend),
        2 => (1..3000u64).prop_map(|ms| Wait(Duration::from_millis(ms))),
        1 => any::<bool>().prop_map(Gate),
        1 => (0..3u8).prop_map(Backends),
    ]
}

/// What is wrong with how a connection stands after its peers have read everything
/// and its time is up for whatever it may wait for.
fn wrong_end(rig: &Rig) -> Option<&'static str> {
    let (client, backend) = (&rig.client, rig.dialled.last());
    let backend = backend.filter(|backend| backend.is_connected());
    let all_arrived = backend.is_some_and(|backend| {
        client.received() == backend.sent() && backend.received() == client.sent()
    });
    let both_ended = backend.is_some_and(|backend| client.has_ended() && backend.has_ended());
    let any_reset = client.has_reset() || backend.is_some_and(Peer::has_reset);
    match (rig.end, backend) {
        (None, _) if client.has_reset() => Some("the client is gone"),
        (None, None) => Some("no backend has it"),
        (None, Some(backend)) if backend.has_reset() => Some("the backend is gone"),
        (None, Some(_)) if both_ended => Some("both have ended"),
        (None, Some(_)) if !all_arrived => Some("bytes are missing"),
        (Some(_), _) if rig.orphaned > 0 => Some("bytes were left to the kernel"),
        (Some(End::Finished), _) if !both_ended => Some("not both have ended"),
        (Some(End::Finished), _) if !all_arrived && !any_reset => Some("bytes are missing"),
        (Some(End::ClientGone(phase)), _) if !client.has_reset() => {
            let has_left = client.has_ended() && client.sent().is_empty();
            (phase == Phase::Relaying || !has_left).then_some("the client is there")
        }
        (Some(End::ClientGone(Phase::Relaying)), Some(backend)) => {
            let is_right = backend.has_reset()
                || backend.received() == client.sent() && backend.view().ends_with("RST");
            (!is_right)
                .then_some("the backend has not got it all, or takes the end for one in order")
        }
        (Some(End::BackendGone), Some(backend)) => {
            let is_right = client.has_reset()
                || client.received() == backend.sent() && client.view().ends_with("RST");
            (!is_right)
                .then_some("the client has not got it all, or takes the end for one in order")
        }
        (Some(End::Drained(_) | End::Refused(_)), _) => Some("nobody has asked for that"),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// In whatever order the two sides send, end, reset, read or wait, and however
    /// many events share a turn of the loop: no byte is lost, doubled or given to
    /// two backends; the end is passed on as it came; whatever was borrowed is given
    /// back; and a connection that is open waits for something that can come.
    #[test]
    fn every_order_of_events_ends_well(
        steps in prop::collection::vec((step(), any::<bool>()), 0..40),
        window in 0..200usize,
        pods_first in any::<bool>(),
    ) {
        let mut rig = Rig::new(window, 1, true);
        rig.pods_first = pods_first;
        rig.settle();
        for (step, shares_turn) in steps {
            rig.take(step);
            if !shares_turn {
                rig.settle();
            }
        }
        rig.settle();
        prop_assert_eq!(rig.wrong_bytes(), None, "{}", rig.story());
        // Both peers read whatever comes, and the time is up for whoever waits.
        rig.play(&[Gate(true), Backends(1)]);
        for _ in 0..100 {
            rig.play(&[Backend(Accept), Client(Read(100)), Backend(Read(100)), Wait(SECOND)]);
        }
        prop_assert_eq!(rig.wrong_bytes(), None, "{}", rig.story());
        prop_assert_eq!(wrong_end(&rig), None, "{}", rig.story());
        if !rig.is_open() {
            prop_assert_eq!(rig.leftovers(), [""; 0], "{}", rig.story());
        }
        drop(rig);
        prop_assert_eq!(open_wires(), 0);
    }
}
