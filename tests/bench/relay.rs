//! The relay at work: the same load straight to the server and through each
//! proxy, in rounds, so that what the machine does besides meets all alike.

use std::time::Duration;

use crate::load::{Load, Outcome};
use crate::protocol::MESSAGE_BYTES;
use crate::proxies::{Kind, Way};
use crate::report::{Table, number};
use crate::stats::Summary;
use crate::{Plan, Result};

const MESSAGE: u64 = MESSAGE_BYTES as u64;
const MIB: u64 = 1 << 20;
const GIB: f64 = 1024.0 * MIB as f64;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// What chooses it on the command line.
    name: &'static str,
    label: &'static str,
    unit: Unit,
    clients: usize,
    reply_bytes: u64,
    reconnect: bool,
}

/// What a row is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// GiB/s · CPU s/GiB
    Throughput,
    /// p50 µs · p99 µs · CPU µs
    Latency,
    /// per s · p99 ms · CPU µs
    Rate,
}

const ROWS: [Row; 6] = [
    Row {
        name: "bulk-1",
        label: "1 stream down: GiB/s · CPU s/GiB",
        unit: Unit::Throughput,
        clients: 1,
        reply_bytes: 64 * MIB,
        reconnect: false,
    },
    Row {
        name: "bulk-16",
        label: "16 streams down: GiB/s · CPU s/GiB",
        unit: Unit::Throughput,
        clients: 16,
        reply_bytes: 16 * MIB,
        reconnect: false,
    },
    Row {
        name: "round-trips-1",
        label: "64 B round trips, 1 connection: p50 µs · p99 µs · CPU µs",
        unit: Unit::Latency,
        clients: 1,
        reply_bytes: MESSAGE,
        reconnect: false,
    },
    Row {
        name: "round-trips-64",
        label: "64 B round trips, 64 connections: per s · p99 ms · CPU µs",
        unit: Unit::Rate,
        clients: 64,
        reply_bytes: MESSAGE,
        reconnect: false,
    },
    Row {
        name: "connect-8",
        label: "connect, 64 B, close, 8 at once: per s · p99 ms · CPU µs",
        unit: Unit::Rate,
        clients: 8,
        reply_bytes: MESSAGE,
        reconnect: true,
    },
    Row {
        name: "connect-64",
        label: "connect, 64 B, close, 64 at once: per s · p99 ms · CPU µs",
        unit: Unit::Rate,
        clients: 64,
        reply_bytes: MESSAGE,
        reconnect: true,
    },
];

/// One way in one round of one row.
#[derive(Clone, Copy)]
struct Sample {
    /// What the row is about first.
    value: f64,
    p99_us: f64,
    /// Seconds of the proxy's processor time per GiB or per request.
    cpu: f64,
}

/// The rows that were asked for.
pub fn rows(plan: &Plan) -> Vec<Row> {
    let all = plan.includes("relay");
    let wanted = |row: &Row| all || plan.includes(row.name);
    ROWS.into_iter().filter(wanted).collect()
}

/// Measures the rows; the table.
pub fn measure(plan: &Plan, rows: &[Row]) -> Result<Table> {
    let mut ways = vec![Way::direct()?];
    ways.extend(Way::zpas(1)?);
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        match Way::rival(kind, 1, 2000)? {
            Ok(way) => ways.push(way),
            Err(why) => missing.push(why),
        }
    }
    let rounds = plan.choose(6, 2);
    let time = Duration::from_millis(plan.choose(1000, 300));
    let mut table = table(&ways, rounds);
    for row in rows {
        let samples =
            run_row(row, &ways, rounds, time).map_err(|error| format!("{}: {error}", row.name))?;
        table.add(cells(row, &samples));
    }
    for missing in missing {
        table.note(&format!("{} {}.", missing.kind.name(), missing.why));
    }
    Ok(table)
}

/// Each way's samples, in rounds that begin with another way each time.
fn run_row(row: &Row, ways: &[Way], rounds: usize, time: Duration) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); ways.len()];
    for way in ways {
        sample(row, way, time / 10).map_err(|e| format!("{}: {e}", way.name))?;
    }
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let n = (round + turn) % ways.len();
            let way = &ways[n];
            let sample = sample(row, way, time).map_err(|e| format!("{}: {e}", way.name))?;
            samples[n].push(sample);
        }
    }
    Ok(samples)
}

fn sample(row: &Row, way: &Way, time: Duration) -> Result<Sample> {
    let before = way.cpu_seconds()?;
    let load = Load {
        clients: row.clients,
        reply_bytes: row.reply_bytes,
        reconnect: row.reconnect,
        // For the ports' sake, again.
        time: if row.reconnect { time / 2 } else { time },
    };
    let outcome = load.run(way.address)?;
    Ok(judge(row.unit, &outcome, way.cpu_seconds()? - before))
}

fn judge(unit: Unit, outcome: &Outcome, cpu: f64) -> Sample {
    let seconds = outcome.elapsed.as_secs_f64();
    let gib = outcome.bytes as f64 / GIB;
    let requests = outcome.requests as f64;
    let (value, work) = match unit {
        Unit::Throughput => (gib / seconds, gib),
        Unit::Latency => (outcome.latencies.percentile_us(50.0), requests),
        Unit::Rate => (requests / seconds, requests),
    };
    Sample {
        value,
        p99_us: outcome.latencies.percentile_us(99.0),
        cpu: cpu / work,
    }
}

fn table(ways: &[Way], rounds: usize) -> Table {
    let mut head = vec![format!("relay, medians of {rounds} rounds")];
    head.extend(ways.iter().map(|way| way.name.clone()));
    head.push("zpa / direct".to_owned());
    head.extend(ways[2..].iter().map(|way| format!("zpa / {}", way.name)));
    head.extend(
        ways[2..]
            .iter()
            .map(|way| format!("CPU, zpa / {}", way.name)),
    );
    Table::new(head)
}

fn cells(row: &Row, samples: &[Vec<Sample>]) -> Vec<String> {
    let (direct, zpa) = (&samples[0], &samples[1]);
    let value = |s: &Sample| s.value;
    let mut cells = vec![row.label.to_owned()];
    cells.extend(samples.iter().map(|samples| cell(row.unit, samples)));
    cells.push(ratio(zpa, direct, value));
    cells.extend(samples[2..].iter().map(|other| ratio(zpa, other, value)));
    cells.extend(
        samples[2..]
            .iter()
            .map(|other| ratio(zpa, other, |s| s.cpu)),
    );
    cells
}

fn cell(unit: Unit, samples: &[Sample]) -> String {
    let value = Summary::of(samples.iter().map(|s| s.value));
    let p99_us = Summary::of(samples.iter().map(|s| s.p99_us)).median;
    let cpu = Summary::of(samples.iter().map(|s| s.cpu)).median;
    let mut parts = vec![format!(
        "{} ±{:.0} %",
        number(value.median),
        value.spread * 100.0
    )];
    match unit {
        Unit::Throughput => {}
        Unit::Latency => parts.push(number(p99_us)),
        Unit::Rate => parts.push(number(p99_us / 1e3)),
    }
    if cpu.is_finite() {
        let scale = if unit == Unit::Throughput { 1.0 } else { 1e6 };
        parts.push(number(cpu * scale));
    }
    parts.join(" · ")
}

/// The median of what one is to the other in each round.
fn ratio(one: &[Sample], other: &[Sample], value: impl Fn(&Sample) -> f64) -> String {
    let ratios = one.iter().zip(other).map(|(a, b)| value(a) / value(b));
    number(Summary::of(ratios).median)
}
