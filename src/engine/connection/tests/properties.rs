//! Any order of events, from both peers and the gate.

use proptest::prelude::*;

use super::*;
use crate::engine::connection::Usage;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..400usize).prop_map(Bulk),
        2 => Just(Fin),
        1 => Just(Reset),
        1 => (1..200usize).prop_map(ResetAfter),
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
    match (rig.close_reason, backend) {
        (None, _) if client.has_reset() => Some("the client is gone"),
        (None, None) => Some("no backend has it"),
        (None, Some(backend)) if backend.has_reset() => Some("the backend is gone"),
        (None, Some(_)) if both_ended => Some("both have ended"),
        (None, Some(_)) if !all_arrived => Some("bytes are missing"),
        (Some(_), _) if rig.orphaned > 0 => Some("bytes were left to the kernel"),
        (Some(CloseReason::Finished), _) if !both_ended => Some("not both have ended"),
        (Some(CloseReason::Finished), _) if !all_arrived && !any_reset => Some("bytes are missing"),
        (Some(CloseReason::ClientGone(phase)), _) if !client.has_reset() => {
            let has_left = client.has_ended() && client.sent().is_empty();
            (phase == ConnectionPhase::Relaying || !has_left).then_some("the client is there")
        }
        (Some(CloseReason::ClientGone(ConnectionPhase::Relaying)), Some(backend)) => {
            let is_right = backend.has_reset()
                || backend.received() == client.sent() && is_reset_as(backend, client);
            (!is_right)
                .then_some("the backend has not got it all, or takes the end for one in order")
        }
        (Some(CloseReason::BackendGone), Some(backend)) => {
            let is_right = client.has_reset()
                || client.received() == backend.sent() && is_reset_as(client, backend);
            (!is_right)
                .then_some("the client has not got it all, or takes the end for one in order")
        }
        (Some(CloseReason::Drained(_) | CloseReason::OutOfResources(_)), _) => {
            Some("nobody has asked for that")
        }
        _ => None,
    }
}

/// Whether `peer` sees a reset as the end of what `other` has sent: with a FIN before it
/// only if `other` has sent one.
fn is_reset_as(peer: &Peer, other: &Peer) -> bool {
    let view = peer.view();
    view.ends_with("RST") && (other.has_ended() || !view.ends_with("FIN RST"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// In whatever order the two sides send, end, reset, read or wait, and however
    /// many events share a turn of the loop: no byte is lost, doubled or given to
    /// two backends; the end is passed on as it came; whatever was borrowed is given
    /// back; and a connection that is open waits for something that can come.
    #[test]
    fn every_order_of_events_ends_well(
        steps in prop::collection::vec((step(), any::<bool>()), 0..40),
        window in 0..200usize,
        is_large in any::<bool>(),
        pods_first in any::<bool>(),
        silence in prop::option::of(1..2000u64),
        awaits_greeting in any::<bool>(),
        backup_after in prop::option::of(1..20_000u64),
    ) {
        // Some hundred bytes at a time are copied, some ten thousand are spliced.
        let scale = if is_large { 400 } else { 1 };
        let mut rig = Rig::scaled(scale, window, 1, true, Usage::Counted);
        rig.port.rules.awaits_greeting = awaits_greeting;
        if let Some(after) = backup_after {
            rig.port.rules.backup_after = Some(Duration::from_millis(after));
            rig.port.balancer.set_backup(&[([10, 0, 1, 1], 80).into()]);
        }
        rig.place();
        rig.port.rules.idle.silence = silence.map(Duration::from_millis);
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
