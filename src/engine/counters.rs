//! [`Counts`]: the numbers of connections, on which the policy decides. [`Counters`]: those by
//! label for `/metrics`. A connection *counts* as use of the app, or does not.

use std::iter::Sum;
use std::time::Duration;

use super::close_reason::{CloseReason, ConnectionPhase};
use crate::metrics::Histogram;
use crate::rules::sources::Admission;

const ALL: &[ConnectionPhase] = &[
    ConnectionPhase::Holding,
    ConnectionPhase::Dialing,
    ConnectionPhase::Relaying,
];

/// Every reason, and the phases in which it occurs.
const REASONS: [(&str, &[ConnectionPhase]); 17] = [
    ("finished", &[ConnectionPhase::Relaying]),
    ("client_gone", ALL),
    ("backend_gone", &[ConnectionPhase::Relaying]),
    (
        "held_too_long",
        &[ConnectionPhase::Holding, ConnectionPhase::Dialing],
    ),
    ("drained", ALL),
    ("out_of_resources", &[ConnectionPhase::Holding]),
    (
        "uncounted_no_pod",
        &[ConnectionPhase::Holding, ConnectionPhase::Dialing],
    ),
    ("asleep", &[ConnectionPhase::Relaying]),
    ("idle", &[ConnectionPhase::Relaying]),
    ("half_closed", &[ConnectionPhase::Relaying]),
    ("denied", &[ConnectionPhase::Holding]),
    ("no_header", &[ConnectionPhase::Holding]),
    ("probe", &[ConnectionPhase::Holding]),
    ("no_bytes", &[ConnectionPhase::Holding]),
    ("source_limit", &[ConnectionPhase::Holding]),
    (
        "wake_failed",
        &[ConnectionPhase::Holding, ConnectionPhase::Dialing],
    ),
    ("waiting_page", &[ConnectionPhase::Holding]),
];

/// The numbers of connections of a port, or of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now, in any phase.
    pub open: usize,
    /// The open connections that count as use of the app.
    pub counted: usize,
    /// The counted connections that wait for a backend: held, or being dialled.
    pub waiting: usize,
    /// The waiting connections that a backend serves, and whose next byte waits for the gate.
    pub resuming: usize,
    /// The open connections that were detached when the app slept, and await the client's next
    /// byte.
    pub detached: usize,
    /// The times that a connection has begun to count since the start.
    pub uses: u64,
    /// Connections that were handed to a backend since the start.
    pub forwarded: u64,
    /// The handed over connections that did not count as use of the app, and need no lease.
    pub forwarded_uncounted: u64,
    /// Connections closed at the hold limit since the start.
    pub held_too_long: u64,
    /// Connections closed because the app could not start, since the start.
    pub wake_failed: u64,
    /// Dials that backends have failed since the start.
    pub failed_dials: u64,
    /// The times that a connection has tried all addresses and none has accepted it, without
    /// errors of this machine.
    pub exhausted: u64,
    /// Whether every backend of a port has as many connections as it may have.
    pub is_full: bool,
}

/// How a connection counts as use of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedAs {
    /// No use: it neither wakes the app nor keeps it awake.
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
    /// It has carried no byte for so long that it does not count any more.
    Silent,
    /// It is a load balancer's own, as its PROXY header says.
    Local,
    /// Its first bytes are not those that are required.
    FirstBytes,
    /// It is a health check.
    Probe,
    /// Its source is at its limit of connections.
    SourceLimit,
    /// The backup target has accepted it.
    Backup,
}

/// The names of the exclusions in metrics.
const EXCLUSIONS: [&str; 8] = [
    "denied",
    "ignored",
    "silent",
    "local",
    "first_bytes",
    "probe",
    "source_limit",
    "backup",
];

impl Counts {
    /// Counts a connection as `after` instead of `before`.
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
            detached: sum.detached + it.detached,
            uses: sum.uses + it.uses,
            forwarded: sum.forwarded + it.forwarded,
            forwarded_uncounted: sum.forwarded_uncounted + it.forwarded_uncounted,
            held_too_long: sum.held_too_long + it.held_too_long,
            wake_failed: sum.wake_failed + it.wake_failed,
            failed_dials: sum.failed_dials + it.failed_dials,
            exhausted: sum.exhausted + it.exhausted,
            is_full: sum.is_full || it.is_full,
        })
    }
}

/// The counters of a port since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// The time from accept to a backend.
    pub hold: Histogram,
    /// The longest wait for a backend that has ended, in whatever way. Zero before the first.
    pub longest_wait: Duration,
    /// The times that a connection was held again after it was detached.
    pub reattached: u64,
    /// The bytes that backends have taken of clients.
    pub bytes_up: u64,
    /// The bytes that clients have taken of backends.
    pub bytes_down: u64,
    closed: [[u64; ALL.len()]; REASONS.len()],
    exclusions: [u64; EXCLUSIONS.len()],
}

impl Counters {
    /// Counts a connection that was closed.
    pub(super) fn closed(&mut self, reason: CloseReason) {
        let (reason, phase) = match reason {
            CloseReason::Finished => (0, ConnectionPhase::Relaying),
            CloseReason::ClientGone(phase) => (1, phase),
            CloseReason::BackendGone => (2, ConnectionPhase::Relaying),
            CloseReason::HeldTooLong(phase, ..) => (3, phase),
            CloseReason::Drained(phase) => (4, phase),
            CloseReason::OutOfResources(phase) => (5, phase),
            CloseReason::UncountedNoPod(phase) => (6, phase),
            CloseReason::Asleep => (7, ConnectionPhase::Relaying),
            CloseReason::Idle(_) => (8, ConnectionPhase::Relaying),
            CloseReason::HalfClosed(_) => (9, ConnectionPhase::Relaying),
            CloseReason::Denied => (10, ConnectionPhase::Holding),
            CloseReason::NoHeader(_) => (11, ConnectionPhase::Holding),
            CloseReason::Probe => (12, ConnectionPhase::Holding),
            CloseReason::NoBytes => (13, ConnectionPhase::Holding),
            CloseReason::SourceLimit => (14, ConnectionPhase::Holding),
            CloseReason::WakeFailed(phase, _) => (15, phase),
            CloseReason::WaitingPage => (16, ConnectionPhase::Holding),
        };
        self.closed[reason][phase as usize] += 1;
    }

    /// Counts a wait for a backend that has ended.
    pub(super) fn waited(&mut self, wait: Duration) {
        self.longest_wait = self.longest_wait.max(wait);
    }

    /// Counts the admission of a connection.
    pub(super) fn admitted(&mut self, admission: Admission) {
        match admission {
            Admission::Counted => {}
            Admission::Ignored => self.excluded(Exclusion::Ignored),
            Admission::Denied => self.excluded(Exclusion::Denied),
        }
    }

    /// Counts a connection that does not count as use.
    pub(super) fn excluded(&mut self, exclusion: Exclusion) {
        self.exclusions[exclusion as usize] += 1;
    }

    /// The connections that did not count, by the rule; zeros included.
    pub fn exclusions(&self) -> Vec<([&'static str; 1], u64)> {
        let names = EXCLUSIONS.iter().zip(&self.exclusions);
        names.map(|(name, count)| ([*name], *count)).collect()
    }

    /// The bytes that were relayed, by direction.
    pub fn bytes(&self) -> Vec<([&'static str; 1], u64)> {
        vec![
            (["to_pods"], self.bytes_up),
            (["to_clients"], self.bytes_down),
        ]
    }

    /// The connections that were closed, by reason and phase; zeros of each pair that can occur
    /// included.
    pub fn closed_by_reason(&self) -> Vec<([&'static str; 2], u64)> {
        let rows = REASONS.iter().zip(&self.closed);
        rows.flat_map(|((reason, phases), counts)| {
            let count =
                |phase: &ConnectionPhase| ([*reason, phase.name()], counts[*phase as usize]);
            phases.iter().map(count)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_under_its_reason_and_phase() {
        let limit = Duration::from_secs(1);
        let mut seen = 0;
        for (end, labels) in [
            (CloseReason::Finished, ["finished", "relaying"]),
            (
                CloseReason::ClientGone(ConnectionPhase::Holding),
                ["client_gone", "holding"],
            ),
            (
                CloseReason::ClientGone(ConnectionPhase::Dialing),
                ["client_gone", "dialing"],
            ),
            (
                CloseReason::ClientGone(ConnectionPhase::Relaying),
                ["client_gone", "relaying"],
            ),
            (CloseReason::BackendGone, ["backend_gone", "relaying"]),
            (
                CloseReason::HeldTooLong(ConnectionPhase::Holding, limit, None),
                ["held_too_long", "holding"],
            ),
            (
                CloseReason::HeldTooLong(ConnectionPhase::Dialing, limit, None),
                ["held_too_long", "dialing"],
            ),
            (
                CloseReason::Drained(ConnectionPhase::Relaying),
                ["drained", "relaying"],
            ),
            (
                CloseReason::OutOfResources(ConnectionPhase::Holding),
                ["out_of_resources", "holding"],
            ),
            (
                CloseReason::UncountedNoPod(ConnectionPhase::Holding),
                ["uncounted_no_pod", "holding"],
            ),
            (
                CloseReason::UncountedNoPod(ConnectionPhase::Dialing),
                ["uncounted_no_pod", "dialing"],
            ),
            (CloseReason::Asleep, ["asleep", "relaying"]),
            (CloseReason::Idle(limit), ["idle", "relaying"]),
            (CloseReason::HalfClosed(limit), ["half_closed", "relaying"]),
            (CloseReason::Denied, ["denied", "holding"]),
            (CloseReason::NoHeader("is none"), ["no_header", "holding"]),
            (CloseReason::Probe, ["probe", "holding"]),
            (CloseReason::NoBytes, ["no_bytes", "holding"]),
            (CloseReason::SourceLimit, ["source_limit", "holding"]),
            (
                CloseReason::WakeFailed(ConnectionPhase::Holding, "no image"),
                ["wake_failed", "holding"],
            ),
            (
                CloseReason::WakeFailed(ConnectionPhase::Dialing, "no image"),
                ["wake_failed", "dialing"],
            ),
            (CloseReason::WaitingPage, ["waiting_page", "holding"]),
        ] {
            let mut counters = Counters::default();
            counters.closed(end);
            let counted: Vec<_> = counters
                .closed_by_reason()
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .collect();
            assert_eq!(counted, [(labels, 1)], "{end}");
            seen += 1;
        }
        let pairs = Counters::default().closed_by_reason().len();
        assert_eq!((seen, pairs), (22, 24), "drained has two phases more");
    }

    #[test]
    fn the_help_of_the_metrics_names_every_reason_and_every_exclusion() {
        let is_named = |metric: &str, value: &str| {
            let metric = crate::metrics::TABLE.iter().find(|it| it.name == metric);
            let help = metric.expect("it is in the table").help;
            assert!(help.contains(&format!("`{value}`")), "{value}: {help}");
        };
        for (reason, _) in REASONS {
            is_named("zpa_connections_closed_total", reason);
        }
        for rule in EXCLUSIONS {
            is_named("zpa_connections_excluded_total", rule);
        }
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
            (Exclusion::Backup, "backup"),
        ] {
            let mut counters = Counters::default();
            counters.excluded(exclusion);
            let counted: Vec<_> = counters
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
