//! What becomes of a connection over which no byte goes.

use super::*;
use crate::engine::counters::CountedAs;
use crate::rules::idle::{IdleRules, SilentConnections};

const MINUTE: Duration = Duration::from_secs(60);

const IDLE: IdleRules = IdleRules {
    idle_timeout: Some(MINUTE),
    half_close_timeout: None,
    silence: None,
    silent: SilentConnections::Close,
};
const HALF_CLOSE: IdleRules = IdleRules {
    idle_timeout: None,
    half_close_timeout: Some(MINUTE),
    silence: None,
    silent: SilentConnections::Close,
};
const SILENCE: IdleRules = IdleRules {
    idle_timeout: None,
    half_close_timeout: None,
    silence: Some(MINUTE),
    silent: SilentConnections::Close,
};

fn rig(idle: IdleRules) -> Rig {
    let mut rig = Rig::new(WINDOW, 1, true);
    rig.port.rules.idle = idle;
    rig
}

const ALMOST: Duration = Duration::from_millis(59_999);

#[test]
fn a_connection_without_a_byte_is_closed_at_its_timeout_and_not_before() {
    let asked: &[Step] = &[
        Backend(Accept),
        Client(Send("ask")),
        Backend(Send("answer")),
    ];
    let ended: &[Step] = &[Backend(Accept), Client(Send("ask")), Client(Fin)];
    for (label, rules, before, steps, expected) in [
        (
            "just before",
            IDLE,
            asked,
            &[Wait(ALMOST)][..],
            "client: answer | backends: ask | open, relaying",
        ),
        (
            "at it, both sides see an end",
            IDLE,
            asked,
            &[Wait(MINUTE)],
            "client: answer FIN | backends: ask FIN | zpa/relaying: no byte in 1m0s",
        ),
        (
            "a byte of the client's begins it anew",
            IDLE,
            asked,
            &[Wait(ALMOST), Client(Send("!")), Wait(ALMOST)],
            "client: answer | backends: ask! | open, relaying",
        ),
        (
            "a byte of the pod's, too",
            IDLE,
            asked,
            &[Wait(ALMOST), Backend(Send("!")), Wait(MINUTE)],
            "client: answer! FIN | backends: ask FIN | zpa/relaying: no byte in 1m0s",
        ),
        (
            "without any byte it begins when the pod takes it",
            IDLE,
            &[Backend(Accept)],
            &[Wait(MINUTE)],
            "client: FIN | backends: FIN | zpa/relaying: no byte in 1m0s",
        ),
        (
            "who has not taken everything sees a reset",
            IDLE,
            &[Backend(Accept), Backend(Bulk(1050))],
            &[Wait(MINUTE)],
            "client: 1000 bytes RST | backends: RST | zpa/relaying: no byte in 1m0s",
        ),
        (
            "closed by half, just before",
            HALF_CLOSE,
            ended,
            &[Wait(ALMOST)],
            "client:  | backends: ask FIN | open, relaying",
        ),
        (
            "closed by half",
            HALF_CLOSE,
            ended,
            &[Wait(MINUTE)],
            "client: FIN | backends: ask FIN | zpa/relaying: one side has ended, and no byte in 1m0s",
        ),
        (
            "closed by half later",
            HALF_CLOSE,
            asked,
            &[Wait(MINUTE), Wait(MINUTE), Client(Fin), Wait(ALMOST)],
            "client: answer | backends: ask FIN | open, relaying",
        ),
        (
            "closed by half, and the other side goes on",
            HALF_CLOSE,
            ended,
            &[Wait(ALMOST), Backend(Send("part")), Wait(ALMOST)],
            "client: part | backends: ask FIN | open, relaying",
        ),
        (
            "not closed at all",
            HALF_CLOSE,
            asked,
            &[Wait(MINUTE), Wait(MINUTE)],
            "client: answer | backends: ask | open, relaying",
        ),
        (
            "no rule",
            IdleRules::default(),
            ended,
            &[Wait(MINUTE), Wait(60 * MINUTE)],
            "client:  | backends: ask FIN | open, relaying",
        ),
    ] {
        let mut rig = rig(rules);
        rig.play(before);
        rig.play(steps);
        assert_eq!(rig.story(), expected, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

/// How it counts after these steps: as what, and how often it has begun to.
fn usage(rig: &Rig) -> (usize, usize, u64) {
    let counts = rig.port.counts;
    (counts.counted, counts.waiting, counts.uses)
}

#[test]
fn a_silent_connection_does_not_count_until_its_next_byte() {
    let asked = [Backend(Accept), Client(Send("ask"))];
    for (label, steps, counted, story) in [
        (
            "just before",
            &[Wait(ALMOST)][..],
            1,
            "client:  | backends: ask | open, relaying",
        ),
        (
            "silent",
            &[Wait(MINUTE)],
            0,
            "client:  | backends: ask | open, relaying",
        ),
        (
            "a byte of the client's",
            &[Wait(MINUTE), Client(Send("!"))],
            1,
            "client:  | backends: ask! | open, relaying",
        ),
        (
            "a byte of the pod's",
            &[Wait(MINUTE), Backend(Send("!"))],
            1,
            "client: ! | backends: ask | open, relaying",
        ),
        (
            "silent again",
            &[Wait(MINUTE), Backend(Send("!")), Wait(MINUTE)],
            0,
            "client: ! | backends: ask | open, relaying",
        ),
        (
            "an end is no byte",
            &[Wait(MINUTE), Client(Fin)],
            0,
            "client:  | backends: ask FIN | open, relaying",
        ),
        (
            "both ends",
            &[Wait(MINUTE), Client(Fin), Backend(Fin)],
            0,
            "client: FIN | backends: ask FIN | both sides have ended",
        ),
        (
            "a reset",
            &[Wait(MINUTE), Backend(Reset)],
            0,
            "client: RST | backends: ask (gone) | backend/relaying: reset or gone",
        ),
    ] {
        let mut rig = rig(SILENCE);
        rig.play(&asked);
        rig.play(steps);
        assert_eq!(rig.story(), story, "{label}");
        assert_eq!(usage(&rig).0, counted, "{label}");
        let excluded = rig.port.counters.exclusions();
        assert_eq!(
            excluded.iter().any(|(_, n)| *n > 0),
            label != "just before",
            "{label}"
        );
    }
}

/// Without a lease nothing is forwarded: the app may be put to sleep at any moment.
#[test]
fn a_byte_that_ends_a_silence_waits_for_the_gate_and_wakes_whoever_opens_it() {
    let silent = [
        Backend(Accept),
        Client(Send("ask")),
        Gate(false),
        Wait(MINUTE),
    ];
    for (label, steps, expected, story) in [
        (
            "the client's byte waits",
            &[Client(Send("!"))][..],
            (1, 1, 2),
            "client:  | backends: ask | open, relaying",
        ),
        (
            "so does the pod's",
            &[Backend(Send("!"))],
            (1, 1, 2),
            "client:  | backends: ask | open, relaying",
        ),
        (
            "more bytes wait, too",
            &[Client(Send("!")), Client(Send("?")), Backend(Send("!"))],
            (1, 1, 2),
            "client:  | backends: ask | open, relaying",
        ),
        (
            "the gate opens",
            &[
                Client(Send("!")),
                Client(Send("?")),
                Backend(Send("!")),
                Gate(true),
            ],
            (1, 0, 2),
            "client: ! | backends: ask!? | open, relaying",
        ),
        (
            "the client gives up before",
            &[Client(Send("!")), Client(Reset)],
            (0, 0, 2),
            "client: (gone) | backends: ask! RST | client/relaying: reset or gone",
        ),
        (
            "the pod breaks off before",
            &[Client(Send("!")), Backend(Reset)],
            (0, 0, 2),
            "client: RST | backends: ask (gone) | backend/relaying: reset or gone",
        ),
        (
            "the client ends its direction before",
            &[Client(Send("!")), Client(Fin), Gate(true)],
            (1, 0, 2),
            "client:  | backends: ask! FIN | open, relaying",
        ),
    ] {
        let mut rig = rig(SILENCE);
        rig.play(&silent);
        assert_eq!(usage(&rig).0, 0, "{label}");
        rig.play(steps);
        assert_eq!(rig.story(), story, "{label}");
        assert_eq!(usage(&rig), expected, "{label}");
    }
}

#[test]
fn what_is_served_and_does_not_count_is_known_when_the_app_sleeps() {
    let mut rig = rig(SILENCE);
    rig.play(&[Backend(Accept), Client(Send("ask"))]);
    assert!(!rig.is_served_uncounted(), "it counts");
    rig.play(&[Wait(MINUTE)]);
    assert!(rig.is_served_uncounted(), "it is silent");
    rig.play(&[Gate(false), Client(Send("!"))]);
    assert!(rig.is_served_uncounted(), "its byte waits");
    rig.play(&[Gate(true)]);
    assert!(!rig.is_served_uncounted(), "it counts again");
    let mut held = Rig::new(WINDOW, 0, false);
    held.play(&[]);
    assert!(!held.is_served_uncounted(), "no pod serves it");
    assert_eq!(held.counted_as(), CountedAs::Waiting);
}

/// It takes what fits into its window, and answers the probes of the kernel for ever.
#[test]
fn who_does_not_read_the_last_bytes_falls_under_the_rules_about_silence_too() {
    let both_ended: &[Step] = &[
        Backend(Accept),
        Client(Fin),
        Backend(Bulk(90)),
        Backend(Fin),
        Wait(SECOND),
    ];
    for (label, rules, steps, counted, is_open) in [
        (
            "no rule",
            IdleRules::default(),
            &[Wait(60 * MINUTE)][..],
            1,
            true,
        ),
        ("just before", IDLE, &[Wait(ALMOST - SECOND)], 1, true),
        ("at the idle timeout", IDLE, &[Wait(MINUTE)], 0, false),
        ("half-close timeout", HALF_CLOSE, &[Wait(MINUTE)], 0, false),
        ("silence", SILENCE, &[Wait(MINUTE)], 0, true),
        (
            "it reads now and then",
            IDLE,
            &[
                Wait(ALMOST - SECOND),
                Client(Read(10)),
                Wait(ALMOST),
                Client(Read(10)),
                Wait(ALMOST),
            ],
            1,
            true,
        ),
    ] {
        let mut rig = Rig::new(50, 1, true);
        rig.port.rules.idle = rules;
        rig.play(both_ended);
        assert!(rig.is_open(), "{label}: {}", rig.story());
        rig.play(steps);
        assert_eq!(
            (rig.port.counts.counted, rig.is_open()),
            (counted, is_open),
            "{label}"
        );
        if !is_open {
            assert!(rig.story().contains("RST"), "{label}: {}", rig.story());
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}
