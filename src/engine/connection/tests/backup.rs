//! Connections that wait for too long, and are dialled to the backup target.

use std::net::SocketAddr;

use super::*;
use crate::engine::connection::Usage;
use crate::rules::Rules;
use crate::rules::answer::HoldAnswer;

const MINUTE: Duration = LIMITS.hold_timeout;
const AFTER: Duration = Duration::from_secs(5);

/// A connection that is held, with so many backends, and so many addresses of a backup target.
fn rig(backends: u8, backup: u8, backup_after: Option<Duration>) -> Rig {
    let mut rig = Rig::accepted(WINDOW, backends, backends > 0, Usage::Counted);
    rig.port.set_rules(Rules {
        backup_after,
        ..Rules::default()
    });
    let address = |n: u8| SocketAddr::from(([10, 0, 1, n], 80));
    let addresses: Vec<_> = (0..backup).map(address).collect();
    rig.port.balancer.set_backup(&addresses);
    rig.place();
    rig
}

#[test]
fn at_the_hold_limit_or_sooner_the_backup_target_gets_the_client() {
    let served = "client: sorry | backends: ask | open, relaying";
    for (label, after, steps, story) in [
        (
            "just before the hold limit",
            None,
            &[Client(Send("ask")), Wait(MINUTE - SECOND)][..],
            "client:  | backends:  | open, holding",
        ),
        (
            "at it",
            None,
            &[
                Client(Send("ask")),
                Wait(MINUTE),
                Backend(Accept),
                Backend(Send("sorry")),
            ],
            served,
        ),
        (
            "sooner",
            Some(AFTER),
            &[
                Client(Send("ask")),
                Wait(AFTER),
                Backend(Accept),
                Backend(Send("sorry")),
            ],
            served,
        ),
        (
            "the app that wakes meanwhile, and sleeps, does not matter",
            Some(AFTER),
            &[
                Client(Send("ask")),
                Wait(AFTER),
                Backend(Accept),
                Backends(1),
                Gate(true),
                Wait(2 * MINUTE),
                Sleep,
                Backend(Send("sorry")),
            ],
            served,
        ),
        (
            "not sooner than a pod",
            Some(AFTER),
            &[
                Client(Send("ask")),
                Backends(1),
                Gate(true),
                Backend(Accept),
                Wait(MINUTE),
            ],
            "client:  | backends: ask | open, relaying",
        ),
        (
            "an end without a byte is an answer",
            Some(AFTER),
            &[Wait(AFTER), Backend(Accept), Backend(Fin), Client(Fin)],
            "client: FIN | backends: FIN | both sides have ended",
        ),
        (
            "the client gives up while it is dialled",
            Some(AFTER),
            &[Wait(AFTER), Client(Reset)],
            "client: (gone) | backends: (not taken) | client/dialing: reset or gone",
        ),
    ] {
        let mut rig = rig(0, 1, after);
        rig.play(steps);
        let story_now = rig.story().replace("backends: , ask", "backends: ask");
        assert_eq!(story_now, story, "{label}");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn it_counts_as_no_use_and_as_none_that_a_pod_has_served() {
    let mut rig = rig(0, 1, None);
    rig.play(&[Wait(MINUTE)]);
    let counts = rig.port.counts;
    assert_eq!((counts.counted, counts.waiting, counts.uses), (0, 0, 1));
    assert!(!rig.is_held(), "no turn of a release is wasted on it");
    rig.play(&[Backend(Accept), Wait(MINUTE)]);
    let counts = rig.port.counts;
    assert_eq!((counts.forwarded, counts.held_too_long), (0, 0));
    let excluded = rig.port.counters.exclusions();
    assert!(excluded.contains(&(["backup"], 1)), "{excluded:?}");
    assert!(!rig.is_served_uncounted(), "no pod serves it");
}

#[test]
fn every_address_is_dialled_once_and_then_the_client_is_answered() {
    let limit = "zpa/holding: no backend ready in 1m0s";
    let mut rig = rig(0, 3, None);
    rig.port.rules.hold_answer = Some(HoldAnswer::Redis);
    rig.play(&[Wait(MINUTE), Backend(Reset)]);
    assert_eq!(rig.dialled.len(), 2, "it has refused");
    rig.play(&[Backend(Accept), Backend(Reset)]);
    assert_eq!(rig.dialled.len(), 3, "it broke off before a byte");
    rig.play(&[Wait(LIMITS.connect_timeout)]);
    assert_eq!(rig.dialled.len(), 3, "the last did not answer");
    assert_eq!(rig.port.counts.held_too_long, 1);
    rig.play(&[Client(Fin)]);
    assert!(rig.client.received().starts_with(b"-LOADING"));
    assert_eq!(rig.close_reason.unwrap().to_string(), limit);
    assert_eq!(rig.leftovers(), [""; 0]);
}

#[test]
fn a_backup_target_that_fails_early_is_dialled_again_at_the_hold_limit() {
    let mut rig = rig(0, 1, Some(AFTER));
    rig.play(&[Wait(AFTER), Backend(Reset)]);
    assert_eq!((rig.dialled.len(), rig.is_held()), (1, true));
    assert_eq!(rig.port.counts.waiting, 1);
    rig.play(&[Wait(MINUTE - AFTER - SECOND)]);
    assert_eq!(rig.dialled.len(), 1);
    rig.play(&[Wait(SECOND), Backend(Accept)]);
    assert_eq!(rig.dialled.len(), 2);
    rig.play(&[Backend(Send("sorry"))]);
    assert_eq!(rig.client.received(), b"sorry");
}

#[test]
fn a_dial_to_a_pod_or_a_pause_is_given_up_for_it_and_without_one_nothing_changes() {
    for failed in [false, true] {
        let mut rig = rig(1, 1, Some(AFTER));
        let steps = [Client(Send("ask")), Backend(Reset)];
        rig.play(&steps[..1 + usize::from(failed)]);
        let dialled = rig.dialled.len();
        rig.play(&[Wait(AFTER)]);
        assert_eq!(rig.dialled.len(), dialled + 1, "{failed}");
        rig.play(&[
            Backend(Accept),
            Backend(Send("sorry")),
            Backend(Fin),
            Client(Fin),
        ]);
        assert_eq!(rig.client.received(), b"sorry", "{failed}");
        assert_eq!(rig.leftovers(), [""; 0], "{failed}");
    }
    let mut rig = rig(0, 0, Some(AFTER));
    rig.play(&[Wait(AFTER)]);
    assert!(rig.is_open());
    rig.play(&[Wait(MINUTE)]);
    assert_eq!(rig.client.view(), "RST");
}

#[test]
fn an_app_that_cannot_start_leads_to_the_backup_target_at_once() {
    let mut rig = rig(0, 1, None);
    rig.port.wake_failure = Some("no image");
    rig.check_hold_limit();
    rig.play(&[]);
    assert_eq!(rig.dialled.len(), 1);
    rig.play(&[Backend(Reset)]);
    let end = "client: RST | backends: (gone) | zpa/holding: the app cannot start: no image";
    assert_eq!(rig.story(), end);
    assert_eq!(rig.port.counts.held_too_long, 0);
    assert_eq!(rig.port.counts.wake_failed, 1);
}

#[test]
fn who_does_not_count_waits_for_nothing_and_gets_no_backup() {
    let mut rig = Rig::accepted(WINDOW, 0, false, Usage::Uncounted);
    rig.port.balancer.set_backup(&[([10, 0, 1, 1], 80).into()]);
    rig.place();
    rig.play(&[]);
    assert!(!rig.is_open() && rig.dialled.is_empty());
}
