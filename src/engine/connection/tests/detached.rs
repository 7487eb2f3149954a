//! Silent connections whose client's side stays open while the app sleeps.

use proptest::prelude::*;

use super::*;
use crate::engine::memory::MemoryBudget;
use crate::rules::Rules;
use crate::rules::first_bytes::WakeOn;
use crate::rules::idle::{IdleRules, SilentConnections};
use crate::rules::proxy_protocol::Version;

const MINUTE: Duration = Duration::from_secs(60);

fn rules() -> Rules {
    Rules {
        idle: IdleRules {
            silence: Some(MINUTE),
            silent: SilentConnections::Detach,
            ..IdleRules::default()
        },
        ..Rules::default()
    }
}

fn rig_with(rules: Rules) -> Rig {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.port.set_rules(rules);
    rig
}

/// A request and its answer, and then nothing for a minute.
const SILENT: [Step; 4] = [
    Backend(Accept),
    Client(Send("ask")),
    Backend(Send("answer")),
    Wait(MINUTE),
];
const WAKE: [Step; 3] = [Backends(1), Gate(true), Backend(Accept)];

#[test]
fn a_silent_client_is_detached_and_its_next_byte_goes_to_another_backend() {
    for (label, steps, counted, story) in [
        (
            "asleep",
            &[Sleep][..],
            (0, 0, 1, 1),
            "client: answer | backends: ask FIN | open, relaying",
        ),
        (
            "long asleep, beyond the hold limit",
            &[Sleep, Wait(60 * MINUTE)],
            (0, 0, 1, 1),
            "client: answer | backends: ask FIN | open, relaying",
        ),
        (
            "its next byte",
            &[Sleep, Wait(60 * MINUTE), Client(Send("more"))],
            (1, 1, 2, 0),
            "client: answer | backends: ask FIN | open, holding",
        ),
        (
            "nobody serves it within the hold limit",
            &[Sleep, Wait(60 * MINUTE), Client(Send("more")), Wait(MINUTE)],
            (0, 0, 2, 0),
            "client: answer RST | backends: ask FIN | zpa/holding: no backend ready in 1m0s",
        ),
        (
            "the client ends its side",
            &[Sleep, Client(Fin)],
            (0, 0, 1, 0),
            "client: answer FIN | backends: ask FIN | both sides have ended",
        ),
        (
            "the client resets it, or vanishes",
            &[Sleep, Client(Reset)],
            (0, 0, 1, 0),
            "client: answer (gone) | backends: ask FIN | client/relaying: reset or gone",
        ),
        (
            "the client gives up while it is held again",
            &[Sleep, Client(Send("more")), Client(Reset)],
            (0, 0, 2, 0),
            "client: answer (gone) | backends: ask FIN | client/holding: reset or gone",
        ),
    ] {
        let mut rig = rig_with(rules());
        rig.play(&SILENT);
        rig.play(steps);
        assert_eq!(rig.story(), story, "{label}");
        let counts = rig.port.counts;
        let is = (counts.counted, counts.waiting, counts.uses, counts.detached);
        assert_eq!(is, counted, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn what_follows_a_wake_is_a_connection_like_any_other() {
    let again: &[Step] = &[Sleep, Wait(MINUTE), Client(Send("more"))];
    for (label, steps, story) in [
        (
            "the next answer",
            &[Backend(Send("!"))][..],
            "client: answer! | backends: ask FIN, more | open, relaying",
        ),
        (
            "the backend resets it before a byte: that cannot be done again",
            &[Backend(Reset)],
            "client: answer RST | backends: ask FIN, more (gone) | backend/relaying: reset or gone",
        ),
        (
            "an ordinary end",
            &[Backend(Send("!")), Backend(Fin), Client(Fin)],
            "client: answer! FIN | backends: ask FIN, more FIN | both sides have ended",
        ),
        (
            "another sleep",
            &[
                Backend(Send("!")),
                Wait(MINUTE),
                Sleep,
                Client(Send("third")),
            ],
            "client: answer! | backends: ask FIN, more FIN | open, holding",
        ),
    ] {
        let mut rig = rig_with(rules());
        rig.play(&SILENT);
        rig.play(again);
        rig.play(&WAKE);
        rig.play(steps);
        assert_eq!(rig.story(), story, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn what_is_owed_or_awaited_is_reset_and_not_detached() {
    let ended = "zpa/relaying: does not count, and the app sleeps";
    for (label, steps, story) in [
        (
            "the client awaits an answer",
            &[Backend(Accept), Client(Send("ask")), Wait(MINUTE), Sleep][..],
            "client: RST | backends: ask RST",
        ),
        (
            "a side has ended",
            &[
                Backend(Accept),
                Client(Send("ask")),
                Backend(Send("answer")),
                Client(Fin),
                Wait(MINUTE),
                Sleep,
            ],
            "client: answer RST | backends: ask FIN RST",
        ),
        (
            "a byte of the backend waits for the gate",
            &[
                Backend(Accept),
                Gate(false),
                Wait(MINUTE),
                Backend(Send("news")),
                Sleep,
            ],
            "client: RST | backends: RST",
        ),
    ] {
        let mut rig = rig_with(rules());
        rig.play(steps);
        assert_eq!(rig.story(), format!("{story} | {ended}"), "{label}");
    }
    let mut rig = rig_with(rules());
    rig.play(&[Backend(Accept), Backend(Bulk(1050)), Wait(MINUTE), Sleep]);
    assert_eq!(
        rig.close_reason,
        Some(CloseReason::Asleep),
        "bytes are on the way"
    );
    let mut rig = rig_with(rules());
    rig.accepts = false;
    rig.play(&SILENT);
    rig.play(&[Sleep]);
    assert_eq!(
        rig.close_reason,
        Some(CloseReason::Asleep),
        "the proxy drains"
    );
}

/// Nothing may be read from what the event of the client's byte has reported before.
#[test]
fn a_byte_that_waits_when_the_app_sleeps_is_served_after_the_wake() {
    for in_one_turn in [false, true] {
        let mut rig = rig_with(rules());
        rig.play(&SILENT);
        rig.play(&[Gate(false)]);
        rig.take(Client(Send("more")));
        if !in_one_turn {
            rig.settle();
        }
        rig.take(Sleep);
        rig.settle();
        assert_eq!(rig.port.counts.waiting, 1, "{in_one_turn}");
        rig.play(&WAKE);
        let story = "client: answer | backends: ask FIN, more | open, relaying";
        assert_eq!(rig.story(), story, "{in_one_turn}");
    }
}

/// The pod's answer comes before its window has room for the rest of the request.
#[test]
fn what_is_flushed_to_the_backend_awaits_an_answer_too() {
    let mut rig = Rig::new(50, 1, true);
    rig.port.set_rules(rules());
    rig.play(&[
        Backend(Accept),
        Client(Bulk(160)),
        Backend(Send("100 Continue")),
        Client(Read(100)),
        Backend(Read(200)),
        Wait(MINUTE),
        Sleep,
    ]);
    assert_eq!(rig.dialled[0].received().len(), 160);
    assert_eq!(
        rig.close_reason,
        Some(CloseReason::Asleep),
        "{}",
        rig.story()
    );
}

/// Its client's socket keeps the buffer that it was given a share for.
#[test]
fn a_detached_connection_keeps_its_share_of_the_memory_for_bulk() {
    let mut rig = Rig::scaled(400, WINDOW, 1, true, Usage::Counted);
    rig.shared.memory = MemoryBudget::new(Some(1 << 30), 10);
    rig.port.set_rules(rules());
    rig.place();
    rig.play(&[Backend(Accept), Client(Bulk(90)), Client(Bulk(90))]);
    assert_eq!(rig.shared.memory.bulk_connections(), 1);
    rig.play(&[Backend(Send("thanks")), Wait(MINUTE), Sleep]);
    assert_eq!(rig.port.counts.detached, 1, "{}", rig.story());
    assert_eq!(rig.shared.memory.bulk_connections(), 1);
    rig.play(&[Client(Fin)]);
    assert_eq!(rig.shared.memory.bulk_connections(), 0);
}

#[test]
fn the_idle_timeout_ends_a_detached_connection() {
    let mut rules = rules();
    rules.idle.idle_timeout = Some(2 * MINUTE);
    let mut rig = rig_with(rules);
    rig.play(&SILENT);
    rig.play(&[Sleep, Wait(MINUTE - SECOND)]);
    assert!(rig.is_open());
    rig.play(&[Wait(SECOND)]);
    let story = "client: answer FIN | backends: ask FIN | zpa/relaying: no byte in 2m0s";
    assert_eq!(rig.story(), story);
    assert_eq!(rig.leftovers(), [""; 0]);
}

#[test]
fn its_next_bytes_are_inspected_as_the_first_ones_of_a_connection() {
    for (bytes, counted) in [("GET / HTTP/1.1", 1), ("nonsense", 0)] {
        let mut rules = rules();
        rules.first_bytes.wake_on = WakeOn::Http;
        let mut rig = rig_with(rules);
        rig.play(&SILENT);
        rig.play(&[Sleep, Client(Send(bytes))]);
        assert_eq!(rig.port.counts.counted, counted, "{bytes}");
        assert_eq!(rig.is_open(), counted > 0, "{bytes}");
    }
}

#[test]
fn each_backend_gets_the_proxy_header_and_the_log_has_the_age_since_the_accept() {
    let mut rules = rules();
    rules.send_proxy_protocol = Some(Version::V1);
    let mut rig = rig_with(rules);
    rig.play(&SILENT);
    rig.play(&[Sleep, Client(Send("more"))]);
    rig.play(&WAKE);
    let starts_with_header = |peer: &Peer| peer.received().starts_with(b"PROXY ");
    assert_eq!(rig.dialled.len(), 2);
    assert!(
        rig.dialled.iter().all(starts_with_header),
        "{}",
        rig.story()
    );
    rig.play(&[Wait(SECOND)]);
    assert_eq!(rig.age(), Some(MINUTE + SECOND));
}

/// Whether a side sees the end of a stream that the other one has not ended, without all of it.
fn is_cut(from: &Peer, to: &Peer) -> bool {
    let sees_fin = to.view().ends_with("FIN");
    sees_fin && !from.has_ended() && to.received().len() < from.sent().len()
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..100usize).prop_map(Bulk),
        1 => Just(Fin),
        4 => (1..400usize).prop_map(Read),
        3 => Just(Accept),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => act().prop_map(Client),
        6 => act().prop_map(Backend),
        2 => (1..3000u64).prop_map(|ms| Wait(Duration::from_millis(ms))),
        2 => any::<bool>().prop_map(Gate),
        2 => Just(Backends(1)),
        2 => Just(Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// However the app sleeps and wakes between the bytes: the backends together get what the
    /// client has sent, in its order and once, and the client gets nothing but what they have
    /// sent; whatever was borrowed is given back.
    #[test]
    fn no_byte_is_lost_or_doubled_over_sleeps(
        steps in prop::collection::vec((step(), any::<bool>()), 0..60),
        pods_first in any::<bool>(),
    ) {
        let mut rules = rules();
        rules.idle.silence = Some(SECOND);
        let mut rig = rig_with(rules);
        rig.pods_first = pods_first;
        rig.settle();
        for (step, shares_turn) in steps {
            rig.take(step);
            if !shares_turn {
                rig.settle();
            }
        }
        rig.settle();
        for _ in 0..100 {
            rig.play(&WAKE);
            rig.play(&[Client(Read(100)), Backend(Read(100)), Wait(SECOND)]);
        }
        let got: Vec<u8> = rig.dialled.iter().flat_map(Peer::received).collect();
        let sent = rig.client.sent();
        prop_assert!(sent.starts_with(&got), "{}", rig.story());
        if rig.is_open() && !rig.client.has_ended() {
            prop_assert_eq!(got.len(), sent.len(), "{}", rig.story());
        }
        let offered: usize = rig.dialled.iter().map(|it| it.sent().len()).sum();
        prop_assert!(rig.client.received().len() <= offered, "{}", rig.story());
        if rig.close_reason == Some(CloseReason::Asleep)
            && let [backend] = &rig.dialled[..]
        {
            let is_cut = is_cut(&rig.client, backend) || is_cut(backend, &rig.client);
            prop_assert!(!is_cut, "{}", rig.story());
        }
        if !rig.is_open() {
            prop_assert_eq!(rig.leftovers(), [""; 0], "{}", rig.story());
        }
        drop(rig);
        prop_assert_eq!(open_wires(), 0);
    }
}
