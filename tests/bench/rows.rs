//! The rows about the relay, and the purpose of each.

use crate::load::{Group, Outcome};
use crate::proxies::Kind;

const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
const GIB: f64 = 1024.0 * MIB as f64;
const MESSAGE: u64 = crate::load::MESSAGE_BYTES;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct BenchRow {
    /// Its argument on the command line.
    pub name: &'static str,
    pub label: &'static str,
    /// What loads it; [`Metric`]s look at the first group unless they say.
    pub groups: &'static [Group],
    /// What is said of it, the most important first.
    pub metrics: &'static [Metric],
    /// Whether all of it shares a core. When a connection has one message under
    /// way, one thread works at a time, and where each of them happens to be put
    /// makes more of a difference than all that it does.
    pub one_core: bool,
}

/// Something that is measured.
#[derive(Clone, Copy)]
pub struct Metric {
    /// What it is, without its unit, for ratios.
    pub name: &'static str,
    pub unit: &'static str,
    /// What it is in a sample.
    pub of: fn(&Sample) -> f64,
    pub better: Better,
    /// Whether it is a cost of the proxy. For the direct connection it is one of client and server,
    /// so that there is no ratio.
    pub is_proxy_cost: bool,
}

/// Which of two is to be preferred.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// What one contender (direct, or a proxy) did in one round.
pub struct Sample {
    pub groups: Vec<Outcome>,
    pub seconds: f64,
    /// Processor time of the proxy in that time, in seconds; without one, of the
    /// client and the server.
    pub cpu_seconds: f64,
}

impl Sample {
    fn requests(&self) -> f64 {
        self.groups[0].requests as f64
    }

    fn failures(&self) -> f64 {
        self.groups[0].failures as f64
    }

    /// The GiB of the group that moved most; the others are negligible beside it.
    fn gib(&self) -> f64 {
        let most = self.groups.iter().map(|group| group.bytes).max();
        most.unwrap_or(0) as f64 / GIB
    }

    fn percentile_us(&self, percent: f64) -> f64 {
        self.groups[0].latencies.percentile_us(percent)
    }
}

const GIB_PER_S: Metric = Metric {
    name: "throughput",
    unit: "GiB/s",
    of: |sample| sample.gib() / sample.seconds,
    better: Better::More,
    is_proxy_cost: false,
};
const MIB_PER_S: Metric = Metric {
    name: "throughput",
    unit: "MiB/s",
    of: |sample| sample.gib() * 1024.0 / sample.seconds,
    better: Better::More,
    is_proxy_cost: false,
};
const CPU_PER_GIB: Metric = Metric {
    name: "CPU",
    unit: "CPU s/GiB",
    of: |sample| sample.cpu_seconds / sample.gib(),
    better: Better::Less,
    is_proxy_cost: true,
};
pub const PER_S: Metric = Metric {
    name: "rate",
    unit: "per s",
    of: |sample| sample.requests() / sample.seconds,
    better: Better::More,
    is_proxy_cost: false,
};
pub const CPU_EACH: Metric = Metric {
    name: "CPU",
    unit: "CPU µs",
    of: |sample| sample.cpu_seconds / sample.requests() * 1e6,
    better: Better::Less,
    is_proxy_cost: true,
};
pub const SERVED: Metric = Metric {
    name: "served",
    unit: "% served",
    of: |sample| sample.requests() / (sample.requests() + sample.failures()) * 100.0,
    better: Better::More,
    is_proxy_cost: false,
};
const P50_US: Metric = Metric {
    name: "p50",
    unit: "p50 µs",
    of: |sample| sample.percentile_us(50.0),
    better: Better::Less,
    is_proxy_cost: false,
};
const P50_MS: Metric = Metric {
    name: "p50",
    unit: "p50 ms",
    of: |sample| sample.percentile_us(50.0) / 1e3,
    better: Better::Less,
    is_proxy_cost: false,
};
pub const P99_MS: Metric = Metric {
    name: "p99",
    unit: "p99 ms",
    of: |sample| sample.percentile_us(99.0) / 1e3,
    better: Better::Less,
    is_proxy_cost: false,
};

const BULK: &[Metric] = &[GIB_PER_S, CPU_PER_GIB];
pub const BULK_ON_NETWORK: &[Metric] = &[MIB_PER_S, CPU_PER_GIB];
const RATE: &[Metric] = &[PER_S, P99_MS, CPU_EACH];

pub const ROWS: [BenchRow; 10] = [
    BenchRow {
        name: "bulk-1",
        label: "1 stream down",
        groups: &[Group::streams_down(1, 32 * MIB)],
        metrics: BULK,
        one_core: false,
    },
    BenchRow {
        name: "bulk-16",
        label: "16 streams down",
        groups: &[Group::streams_down(16, 8 * MIB)],
        metrics: BULK,
        one_core: false,
    },
    BenchRow {
        name: "both-ways-16",
        label: "16 streams both ways",
        groups: &[Group {
            clients: 16,
            request_bytes: 8 * MIB,
            reply_bytes: 8 * MIB,
            both_ways: true,
            reconnect: false,
            every: None,
            may_fail: false,
        }],
        metrics: BULK,
        one_core: false,
    },
    BenchRow {
        name: "round-trips-1",
        label: "64 B round trips, 1 connection",
        groups: &[Group::round_trips(1, MESSAGE)],
        metrics: &[P50_US, CPU_EACH],
        one_core: true,
    },
    BenchRow {
        name: "round-trips-64",
        label: "64 B round trips, 64 connections",
        groups: &[Group::round_trips(64, MESSAGE)],
        metrics: RATE,
        one_core: false,
    },
    BenchRow {
        name: "round-trips-1000",
        label: "64 B round trips, 1000 connections",
        groups: &[Group::round_trips(1000, MESSAGE)],
        metrics: RATE,
        one_core: false,
    },
    BenchRow {
        name: "round-trips-4k",
        label: "4 KiB round trips, 1000 connections",
        groups: &[Group::round_trips(1000, 4 * KIB)],
        metrics: RATE,
        one_core: false,
    },
    BenchRow {
        name: "connect-64",
        label: "connect, 64 B, close, 64 at once",
        groups: &[Group::connections(64)],
        metrics: RATE,
        one_core: false,
    },
    BenchRow {
        name: "beside-bulk",
        label: "64 B round trips, 16 connections, beside 2 streams down",
        groups: &[
            Group::round_trips(16, MESSAGE),
            Group::streams_down(2, 8 * MIB),
        ],
        // Whoever answers sooner is asked more often, which leaves less for the
        // streams: how many round trips there were belongs to it.
        metrics: &[P50_MS, P99_MS, PER_S, GIB_PER_S],
        one_core: false,
    },
    BenchRow {
        name: "beside-bulk-paced",
        label: "the same, each connection 100 times a second",
        groups: &[
            Group::round_trips(16, MESSAGE).every_ms(10),
            Group::streams_down(2, 8 * MIB),
        ],
        metrics: &[P50_MS, P99_MS, GIB_PER_S, CPU_PER_GIB],
        one_core: false,
    },
];

impl BenchRow {
    /// Whether the processes of a proxy that has one for each connection would
    /// stay few, or would be what is measured.
    pub fn suits(&self, kind: Kind) -> bool {
        let clients: usize = self.groups.iter().map(|group| group.clients).sum();
        let reconnects = self.groups.iter().any(|group| group.reconnect);
        !kind.forks() || clients == 1 || reconnects
    }

    /// Its label with the units.
    pub fn title(&self) -> String {
        let units: Vec<&str> = self.metrics.iter().map(|metric| metric.unit).collect();
        format!("{}: {}", self.label, units.join(" · "))
    }
}
