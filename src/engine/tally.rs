//! What has become of the connections, for those who watch from outside.

use super::end::{End, Phase};
use crate::metrics::Histogram;

const ALL: &[Phase] = &[Phase::Holding, Phase::Dialing, Phase::Relaying];

/// Every reason, and the phases in which it occurs.
const REASONS: [(&str, &[Phase]); 6] = [
    ("finished", &[Phase::Relaying]),
    ("client_gone", ALL),
    ("backend_gone", &[Phase::Relaying]),
    ("held_too_long", &[Phase::Holding, Phase::Dialing]),
    ("drained", ALL),
    ("refused", &[Phase::Holding]),
];

/// What the engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now, in any phase.
    pub open: usize,
    /// Those of them that wait for a pod: held, or being dialled.
    pub waiting: usize,
    /// Connections that were handed to a pod since the start.
    pub handed_over: u64,
    /// Connections closed at the hold limit since the start.
    pub held_too_long: u64,
    /// Dials that pods have failed since the start.
    pub failed_dials: u64,
    /// How often no address has taken a connection in a whole round, for other than
    /// reasons of this machine.
    pub exhausted: u64,
}

/// Counts by kind, since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// From accept to a pod.
    pub hold: Histogram,
    ends: [[u64; ALL.len()]; REASONS.len()],
}

impl Tally {
    /// A connection has ended.
    pub(super) fn ended(&mut self, end: End) {
        let (reason, phase) = match end {
            End::Finished => (0, Phase::Relaying),
            End::ClientGone(phase) => (1, phase),
            End::BackendGone => (2, Phase::Relaying),
            End::HeldTooLong(phase, _) => (3, phase),
            End::Drained(phase) => (4, phase),
            End::Refused(phase) => (5, phase),
        };
        self.ends[reason][phase as usize] += 1;
    }

    /// How many connections have ended, by reason and phase: each pair that
    /// occurs, from zero.
    pub fn ends(&self) -> Vec<([&'static str; 2], u64)> {
        let rows = REASONS.iter().zip(&self.ends);
        rows.flat_map(|((reason, phases), counts)| {
            let count = |phase: &Phase| ([*reason, phase.name()], counts[*phase as usize]);
            phases.iter().map(count)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_end_is_counted_under_its_reason_and_phase() {
        let limit = Duration::from_secs(1);
        let mut seen = 0;
        for (end, labels) in [
            (End::Finished, ["finished", "relaying"]),
            (End::ClientGone(Phase::Holding), ["client_gone", "holding"]),
            (End::ClientGone(Phase::Dialing), ["client_gone", "dialing"]),
            (
                End::ClientGone(Phase::Relaying),
                ["client_gone", "relaying"],
            ),
            (End::BackendGone, ["backend_gone", "relaying"]),
            (
                End::HeldTooLong(Phase::Holding, limit),
                ["held_too_long", "holding"],
            ),
            (
                End::HeldTooLong(Phase::Dialing, limit),
                ["held_too_long", "dialing"],
            ),
            (End::Drained(Phase::Relaying), ["drained", "relaying"]),
            (End::Refused(Phase::Holding), ["refused", "holding"]),
        ] {
            let mut tally = Tally::default();
            tally.ended(end);
            let counted: Vec<_> = tally.ends().into_iter().filter(|(_, n)| *n > 0).collect();
            assert_eq!(counted, [(labels, 1)], "{end}");
            seen += 1;
        }
        let pairs = Tally::default().ends().len();
        assert_eq!((seen, pairs), (9, 11), "drained has two phases more");
    }
}
