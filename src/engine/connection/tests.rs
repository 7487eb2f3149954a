//! Whole connections between scripted peers: every order of FIN, RST, half-close,
//! deadline and failed dial.

use std::io::ErrorKind;
use std::time::Duration;

use super::Time;
use super::Usage;
use super::{CloseReason, ConnectionPhase};

mod activity;
mod backup;
mod detached;
mod first_bytes;
mod greeting;
mod kernel;
mod preread;
mod properties;
mod rig;
mod waiting;
mod waiting_page;

use kernel::{Peer, open_wires};
use rig::{Act, LIMITS, Rig, Step};

use Act::{Accept, Bulk, Fin, Read, Reset, ResetAfter, Send};
use Step::{Backend, Backends, Client, Gate, Sleep, Wait};

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
fn a_connection_that_lives_for_a_while_is_kept_alive() {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.play(&[Backend(Accept), Wait(Duration::from_millis(9_999))]);
    assert!(!rig.dialled[0].is_kept_alive());
    rig.play(&[Wait(Duration::from_millis(1))]);
    assert!(rig.dialled[0].is_kept_alive());
}

#[test]
fn input_that_nobody_takes_is_one_event_and_not_one_a_segment() {
    for (label, send, read, receiver_is_backend) in [
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
        let (sender, receiver) = match receiver_is_backend {
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

/// Both have happened before the loop looks, and the client's event comes first. Whether
/// it ends the silence is found out by a look into both sockets.
#[test]
fn a_look_into_a_backend_that_has_reset_does_not_make_its_end_one_in_order() {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.port.rules.idle.silence = Some(Duration::from_millis(1));
    rig.play(&[
        Backend(Accept),
        Backend(Send("half")),
        Client(Fin),
        Wait(SECOND),
    ]);
    rig.take(Backend(Reset));
    rig.take(Client(Fin));
    rig.settle();
    assert_eq!(
        rig.story(),
        "client: half RST | backends: (gone) | backend/relaying: reset or gone"
    );
}

/// The RST comes while splice(2) writes what the pipe holds: splice(2) returns the bytes
/// before it, and has consumed the error. The next write fails with EPIPE, as after a FIN.
#[test]
fn a_backend_that_resets_while_bulk_is_spliced_to_it_has_not_ended_in_order() {
    let mut rig = Rig::scaled(400, WINDOW, 1, true, Usage::Counted);
    rig.place();
    rig.play(&[Backend(Accept), Backend(Send("half")), Client(Bulk(90))]);
    rig.take(Backend(ResetAfter(10)));
    rig.play(&[Client(Bulk(90))]);
    assert_eq!(
        rig.story(),
        "client: half RST | backends: 40000 bytes (gone) | backend/relaying: reset or gone"
    );
    assert_eq!(rig.leftovers(), [""; 0]);
}

/// The backend's bytes and its FIN are there when it accepts, so that they are written to the
/// client before anything is read from it, and the first write meets the client's RST.
#[test]
fn a_client_that_resets_while_an_early_answer_is_written_has_not_ended_in_order() {
    let mut rig = Rig::scaled(400, 1, 1, true, Usage::Counted);
    rig.place();
    rig.play(&[Backend(Bulk(7)), Client(Bulk(101)), Client(ResetAfter(1))]);
    rig.take(Backend(Accept));
    rig.take(Backend(Fin));
    rig.play(&[Backend(Read(100)); 10]);
    assert_eq!(
        rig.story(),
        "client: 400 bytes (gone) | backends: 40400 bytes RST | client/relaying: reset or gone"
    );
}

/// Most connections of a proxy are idle, and this is nearly all that one of them takes.
#[test]
fn a_connection_takes_no_more_than_168_bytes() {
    assert!(size_of::<super::Connection<mio::net::TcpStream>>() <= 168);
}
