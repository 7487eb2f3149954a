//! The rows that are measured on a network.

use std::time::Duration;

use crate::load::Group;
use crate::network::Distance;
use crate::rows::{BULK_ON_NETWORK, BenchRow, CPU_EACH, MIB, P99_MS, PER_S, SERVED};

/// A row that is measured on a network.
#[derive(Clone, Copy)]
pub struct NetworkRow {
    pub row: BenchRow,
    pub distance: Distance,
    /// How often, and for how long each time.
    pub rounds: usize,
    pub time: Duration,
}

/// First those that leave nothing behind.
pub const NETWORK_ROWS: [NetworkRow; 3] = [
    NetworkRow {
        row: BenchRow {
            name: "far-1",
            label: "1 stream down, 20 ms away, 0.1 % lost",
            groups: &[Group::streams_down(1, MIB)],
            metrics: BULK_ON_NETWORK,
            one_core: false,
        },
        distance: Distance::FarAndLossy,
        rounds: 5,
        time: Duration::from_secs(3),
    },
    NetworkRow {
        row: BenchRow {
            name: "far-16",
            label: "16 streams down, 20 ms away, 0.1 % lost",
            groups: &[Group::streams_down(16, MIB)],
            metrics: BULK_ON_NETWORK,
            one_core: false,
        },
        distance: Distance::FarAndLossy,
        rounds: 5,
        time: Duration::from_secs(3),
    },
    NetworkRow {
        row: BenchRow {
            name: "connect-minute",
            label: "connect, 64 B, close, 64 at once, for a minute through 4000 ports",
            groups: &[Group::connections(64).that_may_fail()],
            metrics: &[PER_S, SERVED, P99_MS, CPU_EACH],
            one_core: false,
        },
        distance: Distance::None,
        rounds: 1,
        time: Duration::from_secs(60),
    },
];
