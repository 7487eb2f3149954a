//! The counters of connections: [`Counts`], on which the policy decides, and [`Tally`] with
//! the counters by label for `/metrics`. A connection *counts* as use of the app, or does not.

use std::iter::Sum;

use super::end::{End, Phase};
use crate::metrics::Histogram;
use crate::rules::sources::Admission;

const ALL: &[Phase] = &[Phase::Holding, Phase::Dialing, Phase::Relaying];

/// Every reason, and the phases in which it occurs.
const REASONS: [(&str, &[Phase]); 15] = [
    ("finished", &[Phase::Relaying]),
    ("client_gone", ALL),
    ("backend_gone", &[Phase::Relaying]),
    ("held_too_long", &[Phase::Holding, Phase::Dialing]),
    ("drained", ALL),
    ("refused", &[Phase::Holding]),
    ("excluded", &[Phase::Holding, Phase::Dialing]),
    ("asleep", &[Phase::Relaying]),
    ("idle", &[Phase::Relaying]),
    ("half_closed", &[Phase::Relaying]),
    ("denied", &[Phase::Holding]),
    ("no_header", &[Phase::Holding]),
    ("probe", &[Phase::Holding]),
    ("no_bytes", &[Phase::Holding]),
    ("source_limit", &[Phase::Holding]),
];

/// What the engine has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now, in any phase.
    pub open: usize,
    /// Those of them that count as use of the app.
    pub counted: usize,
    /// Those of the counted ones that wait for a backend: held, or being dialled.
    pub waiting: usize,
    /// Those of the waiting ones that a backend serves, and whose next byte waits for the gate.
    pub resuming: usize,
    /// How often a connection has begun to count since the start.
    pub uses: u64,
    /// Connections that were handed to a backend since the start.
    pub handed_over: u64,
    /// Those of them that counted as no use of the app, and need no lease.
    pub handed_over_uncounted: u64,
    /// Connections closed at the hold limit since the start.
    pub held_too_long: u64,
    /// Dials that backends have failed since the start.
    pub failed_dials: u64,
    /// How often a connection has tried all addresses and none has accepted it, not counting
    /// errors of this machine.
    pub exhausted: u64,
    /// Whether every backend of a port has as many connections as it may have.
    pub is_full: bool,
}

/// How a connection counts as use of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedAs {
    /// Nothing: it neither wakes the app nor keeps it awake.
    Nothing,
    /// It waits for a backend.
    Waiting,
    /// A backend serves it, and its next byte waits for the gate.
    Resuming,
    /// A backend serves it.
    Served,
}

/// The rule by which a connection does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Its source is denied.
    Denied,
    /// Its source is ignored.
    Ignored,
    /// No byte has gone over it for so long that it does not count any more.
    Silent,
    /// It is a load balancer's own, as its PROXY header says.
    Local,
    /// Its first bytes do not look as they must.
    FirstBytes,
    /// It is a health check.
    Probe,
    /// Its source has as many connections as it may have.
    SourceLimit,
}

/// Every exclusion, as it is called in metrics.
const EXCLUSIONS: [&str; 7] = [
    "denied",
    "ignored",
    "silent",
    "local",
    "first_bytes",
    "probe",
    "source_limit",
];

impl Counts {
    /// Counts a connection as something else than before.
    pub(super) fn recount(&mut self, before: CountedAs, after: CountedAs) {
        let counted = |it: CountedAs| usize::from(it != CountedAs::Nothing);
        let waiting =
            |it: CountedAs| usize::from(matches!(it, CountedAs::Waiting | CountedAs::Resuming));
        let resuming = |it: CountedAs| usize::from(it == CountedAs::Resuming);
        self.counted = self.counted + counted(after) - counted(before);
        self.waiting = self.waiting + waiting(after) - waiting(before);
        self.resuming = self.resuming + resuming(after) - resuming(before);
        self.uses += u64::from(before == CountedAs::Nothing && after != CountedAs::Nothing);
    }
}

impl Sum for Counts {
    /// The sum over several ports.
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Counts {
        counts.fold(Counts::default(), |sum, it| Counts {
            accepted: sum.accepted + it.accepted,
            open: sum.open + it.open,
            counted: sum.counted + it.counted,
            waiting: sum.waiting + it.waiting,
            resuming: sum.resuming + it.resuming,
            uses: sum.uses + it.uses,
            handed_over: sum.handed_over + it.handed_over,
            handed_over_uncounted: sum.handed_over_uncounted + it.handed_over_uncounted,
            held_too_long: sum.held_too_long + it.held_too_long,
            failed_dials: sum.failed_dials + it.failed_dials,
            exhausted: sum.exhausted + it.exhausted,
            is_full: sum.is_full || it.is_full,
        })
    }
}

/// Counts by kind, since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// From accept to a backend.
    pub hold: Histogram,
    /// The bytes that backends have taken of clients.
    pub bytes_up: u64,
    /// The bytes that clients have taken of backends.
    pub bytes_down: u64,
    ends: [[u64; ALL.len()]; REASONS.len()],
    exclusions: [u64; EXCLUSIONS.len()],
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
            End::Excluded(phase) => (6, phase),
            End::Asleep => (7, Phase::Relaying),
            End::Idle(_) => (8, Phase::Relaying),
            End::HalfClosed(_) => (9, Phase::Relaying),
            End::Denied => (10, Phase::Holding),
            End::NoHeader(_) => (11, Phase::Holding),
            End::Probe => (12, Phase::Holding),
            End::NoBytes => (13, Phase::Holding),
            End::SourceLimit => (14, Phase::Holding),
        };
        self.ends[reason][phase as usize] += 1;
    }

    /// A connection was let in, or was not.
    pub(super) fn admitted(&mut self, admission: Admission) {
        match admission {
            Admission::Counted => {}
            Admission::Ignored => self.excluded(Exclusion::Ignored),
            Admission::Denied => self.excluded(Exclusion::Denied),
        }
    }

    /// A connection does not count.
    pub(super) fn excluded(&mut self, exclusion: Exclusion) {
        self.exclusions[exclusion as usize] += 1;
    }

    /// How many connections did not count, by the rule: each from zero.
    pub fn exclusions(&self) -> Vec<([&'static str; 1], u64)> {
        let names = EXCLUSIONS.iter().zip(&self.exclusions);
        names.map(|(name, count)| ([*name], *count)).collect()
    }

    /// How many bytes were passed on, by direction.
    pub fn bytes(&self) -> Vec<([&'static str; 1], u64)> {
        vec![
            (["to_pods"], self.bytes_up),
            (["to_clients"], self.bytes_down),
        ]
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
            (End::Excluded(Phase::Holding), ["excluded", "holding"]),
            (End::Excluded(Phase::Dialing), ["excluded", "dialing"]),
            (End::Asleep, ["asleep", "relaying"]),
            (End::Idle(limit), ["idle", "relaying"]),
            (End::HalfClosed(limit), ["half_closed", "relaying"]),
            (End::Denied, ["denied", "holding"]),
            (End::NoHeader("is none"), ["no_header", "holding"]),
            (End::Probe, ["probe", "holding"]),
            (End::NoBytes, ["no_bytes", "holding"]),
            (End::SourceLimit, ["source_limit", "holding"]),
        ] {
            let mut tally = Tally::default();
            tally.ended(end);
            let counted: Vec<_> = tally.ends().into_iter().filter(|(_, n)| *n > 0).collect();
            assert_eq!(counted, [(labels, 1)], "{end}");
            seen += 1;
        }
        let pairs = Tally::default().ends().len();
        assert_eq!((seen, pairs), (19, 21), "drained has two phases more");
    }

    #[test]
    fn every_exclusion_is_counted_under_its_name() {
        for (exclusion, name) in [
            (Exclusion::Denied, "denied"),
            (Exclusion::Ignored, "ignored"),
            (Exclusion::Silent, "silent"),
            (Exclusion::Local, "local"),
            (Exclusion::FirstBytes, "first_bytes"),
            (Exclusion::Probe, "probe"),
            (Exclusion::SourceLimit, "source_limit"),
        ] {
            let mut tally = Tally::default();
            tally.excluded(exclusion);
            let counted: Vec<_> = tally
                .exclusions()
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .collect();
            assert_eq!(counted, [([name], 1)]);
        }
    }

    #[test]
    fn connections_are_counted_as_use_of_the_app_while_they_count() {
        use CountedAs::{Nothing, Resuming, Served, Waiting};
        let mut counts = Counts::default();
        for (label, before, after, expected) in [
            ("one comes and waits", Nothing, Waiting, (1, 1, 1)),
            ("another that does not count", Nothing, Nothing, (1, 1, 1)),
            ("the first is served", Waiting, Served, (1, 0, 1)),
            ("the second begins to count", Nothing, Served, (2, 0, 2)),
            ("its backend breaks off", Served, Waiting, (2, 1, 2)),
            ("it ends", Waiting, Nothing, (1, 0, 2)),
            ("the first falls silent", Served, Nothing, (0, 0, 2)),
            ("its next byte waits", Nothing, Resuming, (1, 1, 3)),
            ("the lease is there", Resuming, Served, (1, 0, 3)),
            ("it ends too", Served, Nothing, (0, 0, 3)),
        ] {
            counts.recount(before, after);
            let is = (counts.counted, counts.waiting, counts.uses);
            assert_eq!(is, expected, "{label}");
            assert_eq!(counts.resuming, usize::from(after == Resuming), "{label}");
        }
    }
}
