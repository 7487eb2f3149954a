//! Whole connections between scripted peers: every order of FIN, RST, half-close,
//! deadline and failed dial.

use std::io::ErrorKind;
use std::time::Duration;

mod kernel;
mod rig;

use kernel::{Peer, open_wires};
use rig::{Act, LIMITS, Rig, Step};

use Act::{Accept, Bulk, Fin, Read, Reset, Send};
use Step::{Client, Gate, Pod, Pods, Wait};

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
            &[Pod(Accept), Client(Send("ask")), Pod(Send("answer"))],
            "client: answer | pods: ask | open, relaying",
        ),
        (
            "the client ends its direction, and still gets its answer",
            &[
                Client(Send("ask")),
                Client(Fin),
                Pod(Accept),
                Pod(Send("answer")),
            ],
            "client: answer | pods: ask FIN | open, relaying",
        ),
        (
            "the client ends first",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Client(Fin),
                Pod(Send("answer")),
                Pod(Fin),
            ],
            "client: answer FIN | pods: ask FIN | both/relaying: finished",
        ),
        (
            "the pod ends first",
            &[
                Pod(Accept),
                Pod(Send("hello")),
                Pod(Fin),
                Client(Send("bye")),
                Client(Fin),
            ],
            "client: hello FIN | pods: bye FIN | both/relaying: finished",
        ),
        (
            "neither has sent a byte",
            &[Pod(Accept), Client(Fin), Pod(Fin)],
            "client: FIN | pods: FIN | both/relaying: finished",
        ),
    ]);
}

#[test]
fn a_reset_is_passed_on_after_the_bytes_before_it() {
    check(&[
        (
            "the client resets",
            &[Pod(Accept), Client(Send("ask")), Client(Reset)],
            "client: (gone) | pods: ask RST | client/relaying: reset or gone",
        ),
        (
            "the pod resets",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Send("half")),
                Pod(Reset),
            ],
            "client: half RST | pods: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "the client resets after its end",
            &[Pod(Accept), Client(Send("ask")), Client(Fin), Client(Reset)],
            "client: (gone) | pods: ask FIN RST | client/relaying: reset or gone",
        ),
        (
            "the pod resets after its end",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Send("all")),
                Pod(Fin),
                Pod(Reset),
            ],
            "client: all FIN RST | pods: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "the pod ends, and resets when the client goes on sending",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Send("all")),
                Pod(Fin),
                Client(Send("more")),
                Pod(Reset),
            ],
            "client: all FIN RST | pods: askmore (gone) | backend/relaying: reset or gone",
        ),
    ]);
}

#[test]
fn a_client_that_reads_late_gets_everything_before_the_reset() {
    check(&[
        (
            "not yet",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Bulk(1050)),
                Pod(Reset),
            ],
            "client: 1000 bytes … | pods: ask (gone) | open, relaying",
        ),
        (
            "it reads",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Bulk(1200)),
                Pod(Reset),
                Client(Read(150)),
                Wait(SECOND),
                Client(Read(50)),
                Wait(SECOND),
            ],
            "client: 1200 bytes RST | pods: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "just before a minute without reading is over",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Bulk(1050)),
                Pod(Reset),
                Wait(Duration::from_millis(59_999)),
            ],
            "client: 1000 bytes … | pods: ask (gone) | open, relaying",
        ),
        (
            "a minute without reading is over",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Bulk(1050)),
                Pod(Reset),
                Wait(Duration::from_secs(60)),
            ],
            "client: 1000 bytes RST | pods: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "a minute, but it has read meanwhile",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Bulk(1060)),
                Pod(Reset),
                Wait(30 * SECOND),
                Client(Read(10)),
                Wait(31 * SECOND),
            ],
            "client: 1010 bytes … | pods: ask (gone) | open, relaying",
        ),
        (
            "it resets too",
            &[
                Pod(Accept),
                Client(Send("ask")),
                Pod(Bulk(1050)),
                Pod(Reset),
                Client(Reset),
            ],
            "client: 1000 bytes (gone) | pods: ask (gone) | client/relaying: reset or gone",
        ),
    ]);
}

#[test]
fn a_connection_that_no_pod_has_taken_yet() {
    check(&[
        (
            "a client that resets while a pod is dialled is gone",
            &[Client(Send("ask")), Client(Reset)],
            "client: (gone) | pods: (not taken) | client/dialing: reset or gone",
        ),
        (
            "a pod that refuses is dialled again after a pause",
            &[Pod(Reset), Wait(SECOND), Pod(Accept), Client(Send("ask"))],
            "client:  | pods: (gone), ask | open, relaying",
        ),
        (
            "a pod that does not answer in time is dialled again after a pause",
            &[
                Wait(2 * SECOND),
                Wait(SECOND),
                Pod(Accept),
                Client(Send("ask")),
            ],
            "client:  | pods: (not taken), ask | open, relaying",
        ),
        (
            "a pod that is new is dialled at once",
            &[Pod(Reset), Pods(2), Pod(Accept), Client(Send("ask"))],
            "client:  | pods: (gone), ask | open, relaying",
        ),
        (
            "just before the hold limit",
            &[Wait(Duration::from_millis(59_999))],
            "client:  | pods: (not taken) | open, dialing",
        ),
        (
            "the hold limit",
            &[Wait(60 * SECOND)],
            "client: RST | pods: (not taken) | zpa/dialing: no pod accepted in 1m0s",
        ),
        (
            "a pod that takes it when the gate is shut again gets no byte",
            &[Client(Send("ask")), Gate(false), Pod(Accept)],
            "client:  | pods: FIN | open, holding",
        ),
        (
            "and another one does when it opens",
            &[
                Client(Send("ask")),
                Gate(false),
                Pod(Accept),
                Gate(true),
                Pod(Accept),
            ],
            "client:  | pods: FIN, ask | open, relaying",
        ),
    ]);
}

#[test]
fn a_connection_that_is_held() {
    for (label, steps, expected) in [
        (
            "nothing is read",
            &[Client(Send("ask")), Client(Fin)][..],
            "client:  | pods:  | open, holding",
        ),
        (
            "the client resets",
            &[Client(Send("ask")), Client(Reset)],
            "client: (gone) | pods:  | client/holding: reset or gone",
        ),
        (
            "the hold limit",
            &[Wait(LIMITS.hold_timeout)],
            "client: RST | pods:  | zpa/holding: no pod ready in 1m0s",
        ),
        (
            "the gate opens",
            &[Client(Send("ask")), Client(Fin), Gate(true), Pod(Accept)],
            "client:  | pods: ask FIN | open, relaying",
        ),
    ] {
        let mut rig = Rig::new(WINDOW, 1, false);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
    }
}

#[test]
fn a_pod_that_breaks_off_is_replaced_until_a_byte_has_gone_either_way() {
    check(&[
        (
            "before the first byte",
            &[
                Pod(Accept),
                Pod(Reset),
                Wait(SECOND),
                Pod(Accept),
                Client(Send("ask")),
            ],
            "client:  | pods: (gone), ask | open, relaying",
        ),
        (
            "after a byte from the client",
            &[Pod(Accept), Client(Send("a")), Pod(Reset)],
            "client: RST | pods: a (gone) | backend/relaying: reset or gone",
        ),
        (
            "after a byte from the pod",
            &[Pod(Accept), Pod(Send("a")), Pod(Reset)],
            "client: a RST | pods: (gone) | backend/relaying: reset or gone",
        ),
        (
            "before the first byte of a client that has ended its direction",
            &[
                Pod(Accept),
                Client(Fin),
                Pod(Reset),
                Wait(SECOND),
                Pod(Accept),
            ],
            "client:  | pods: (gone), FIN | open, relaying",
        ),
    ]);
}

#[test]
fn addresses_that_fail_at_once_are_followed_by_the_next() {
    let mut rig = Rig::new(WINDOW, 3, false);
    rig.refusals = [ErrorKind::NetworkUnreachable, ErrorKind::ConnectionRefused].into();
    rig.play(&[Gate(true), Pod(Accept), Client(Send("ask"))]);
    assert_eq!(rig.story(), "client:  | pods: ask | open, relaying");
    assert_eq!(rig.shared.counts.failed_dials, 2);
}

#[test]
fn pauses_between_rounds_grow_to_a_second() {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.play(&[]);
    let mut dials = Vec::new();
    while dials.len() < 10 {
        rig.play(&[Pod(Reset)]);
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
    rig.play(&[Pod(Accept), Wait(Duration::from_millis(9_999))]);
    assert!(!rig.dialled[0].is_kept_alive());
    rig.play(&[Wait(Duration::from_millis(1))]);
    assert!(rig.dialled[0].is_kept_alive());
}
