//! A backend that is to send the first byte.

use super::*;
use crate::engine::balancer::DialRound;
use crate::rules::Rules;
use crate::rules::proxy_protocol::Version;

fn rig(backends: u8) -> Rig {
    let mut rig = Rig::accepted(WINDOW, backends, true, Usage::Counted);
    rig.port.set_rules(Rules {
        awaits_greeting: true,
        ..Rules::default()
    });
    rig.place();
    rig
}

const HALF_A_MINUTE: Duration = Duration::from_secs(30);

#[test]
fn no_byte_of_the_client_is_sent_before_the_greeting() {
    for (label, steps, story) in [
        (
            "no greeting yet",
            &[Client(Send("me first")), Backend(Accept)][..],
            "client:  | backends:  | open, dialing",
        ),
        (
            "the greeting",
            &[
                Client(Send("me first")),
                Backend(Accept),
                Wait(SECOND),
                Backend(Send("hello")),
            ],
            "client: hello | backends: me first | open, relaying",
        ),
        (
            "it comes with the accept",
            &[Backend(Send("hello")), Backend(Accept)],
            "client: hello | backends:  | open, relaying",
        ),
        (
            "it is all that comes",
            &[
                Backend(Accept),
                Backend(Send("421")),
                Backend(Fin),
                Client(Fin),
            ],
            "client: 421 FIN | backends: FIN | both sides have ended",
        ),
        (
            "the client gives up before",
            &[Backend(Accept), Client(Reset)],
            "client: (gone) | backends: RST | client/dialing: reset or gone",
        ),
    ] {
        let mut rig = rig(1);
        rig.play(steps);
        assert_eq!(rig.story(), story, "{label}");
        assert_eq!(rig.port.balancer.avoided(), 0, "{label}: it may be slow");
        if !rig.is_open() {
            assert_eq!(rig.leftovers(), [""; 0], "{label}");
        }
    }
}

#[test]
fn a_backend_that_ends_or_is_silent_without_a_greeting_is_dialled_again_with_the_same_bytes() {
    for (label, end) in [
        ("FIN", &[Backend(Fin)][..]),
        ("RST", &[Backend(Reset)]),
        ("silence", &[Wait(HALF_A_MINUTE)]),
    ] {
        let mut rig = rig(1);
        rig.play(&[Client(Send("me first"))]);
        // More often than a backend may close early without the rule.
        for dials in 1..10 {
            rig.play(&[Backend(Accept)]);
            assert_eq!(rig.dialled.len(), dials, "{label}");
            if label == "silence" && dials > 1 {
                break;
            }
            rig.play(end);
            let ended = rig.dialled[dials - 1].view();
            assert_ne!(ended, "FIN", "{label}: it might take nothing for all");
            rig.play(&[Wait(SECOND)]);
        }
        rig.play(&[Backend(Accept), Backend(Send("hello"))]);
        assert!(
            rig.story().ends_with("me first | open, relaying"),
            "{}",
            rig.story()
        );
        assert_eq!(rig.client.received(), b"hello");
        assert_eq!(rig.port.counts.forwarded, 1, "{label}");
    }
    let mut rig = rig(1);
    rig.play(&[Backend(Accept), Backend(Fin), Wait(LIMITS.hold_timeout)]);
    let story = rig.story();
    assert!(story.contains("no backend accepted in 1m0s"), "{story}");
    assert_eq!(rig.leftovers(), [""; 0]);
}

/// Its accepts are no answers: clients go to the one that greets, and none waits for long at the
/// other after its ejection.
#[test]
fn a_backend_that_only_accepts_is_avoided_like_one_that_does_not_answer() {
    let mut rig = rig(2);
    rig.play(&[Backend(Accept), Wait(HALF_A_MINUTE)]);
    assert_eq!(rig.dialled.len(), 2, "the other one");
    assert_eq!(rig.port.balancer.avoided(), 1);
    rig.play(&[Backend(Accept), Backend(Send("hello"))]);
    assert_eq!(rig.port.balancer.avoided(), 1, "it has not greeted");
    let mut round = DialRound::default();
    let later = rig.now + SECOND;
    let trial = std::iter::from_fn(|| rig.port.balancer.pick(None, &mut round, later));
    assert!(trial.take(3).any(|pick| pick.is_trial));
}

#[test]
fn a_gate_that_is_shut_meanwhile_has_the_connection_held() {
    let mut rig = rig(1);
    let story = "client:  | backends: RST | open, holding";
    rig.play(&[Backend(Accept), Gate(false), Backend(Send("hello"))]);
    assert_eq!(rig.story(), story);
    rig.play(&[Gate(true), Backend(Accept), Backend(Send("hello"))]);
    assert_eq!(rig.client.received(), b"hello");
}

#[test]
fn the_proxy_header_is_sent_before_the_greeting_for_which_the_backend_may_wait() {
    let mut rig = rig(1);
    rig.port.rules.send_proxy_protocol = Some(Version::V1);
    rig.play(&[Client(Send("me first")), Backend(Accept)]);
    assert!(rig.dialled[0].received().starts_with(b"PROXY "));
    assert!(rig.dialled[0].received().ends_with(b"\r\n"));
    assert_eq!(rig.client.received(), b"");
}
