//! A wake by each of two ready gates, side by side: the kubelet's probe, with its period, and the
//! first connection that the pod accepts (`--ready-gate accept`).
//!
//! The pods of the sandbox listen a while after their creation, and are listed as ready by the
//! first probe after that. Each way has a cluster of its own; since they mostly wait, all of them
//! wake at the same time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::program::Zpa;
use support::sandbox::{Options, Sandbox, State};

use crate::report::{Table, number};
use crate::{Plan, Result};

/// The shortest that there is.
const IDLE_TTL: &str = "1s";
/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// After how long the app listens, and the period of its probe: one second, and the ten of
/// Kubernetes where no period is set; early and late in it.
const WAYS: [(Duration, Duration); 4] = [
    (Duration::from_millis(150), Duration::from_secs(1)),
    (Duration::from_millis(750), Duration::from_secs(1)),
    (Duration::from_millis(1500), Duration::from_secs(10)),
    (Duration::from_millis(7500), Duration::from_secs(10)),
];

/// Measures; the table.
pub fn measure(plan: &Plan) -> Result<Table> {
    let wakes = plan.choose(5, 1);
    let runs = WAYS
        .map(|way| ["probe", "accept"].map(|gate| thread::spawn(move || median(way, gate, wakes))));
    let head = [
        "wake: connect → client's first byte, median",
        "`--ready-gate probe`, s",
        "`--ready-gate accept`, s",
        "quicker by",
        "wakes of each",
    ];
    let mut table = Table::new(head.map(str::to_owned).into());
    for ((listens, period), gates) in WAYS.into_iter().zip(runs) {
        let [probe, accept] = gates.map(|run| run.join().map_err(|_| "a way has panicked"));
        let (probe, accept) = (probe??.as_secs_f64(), accept??.as_secs_f64());
        let (listens, period) = (listens.as_secs_f64(), period.as_secs());
        table.add(vec![
            format!("the app listens after {listens} s, and is probed each {period} s"),
            number(probe),
            number(accept),
            format!("× {}", number(probe / accept)),
            wakes.to_string(),
        ]);
    }
    Ok(table)
}

/// The median duration of so many wakes.
fn median(
    (listens, period): (Duration, Duration),
    gate: &'static str,
    wakes: usize,
) -> Result<Duration> {
    let sandbox = Sandbox::start(Options {
        start_delay: Some(listens),
        probe_period: period,
        ..Options::default()
    });
    let settings = [
        ("ZPA_IDLE_TTL", IDLE_TTL),
        ("ZPA_READY_GATE", gate),
        ("ZPA_LOG", "info"),
    ];
    let zpa = Zpa::start(env!("CARGO_BIN_EXE_zpa"), &sandbox, &settings);
    let mut all = Vec::new();
    for _ in 0..wakes {
        let is_asleep = |state: &State| state.replicas() == 0 && state.pods() == 0;
        if !sandbox.wait_until(TIMEOUT, is_asleep) {
            return Err(format!("not asleep within {TIMEOUT:?}").into());
        }
        all.push(wake(&zpa)?);
    }
    all.sort_unstable();
    Ok(all[all.len() / 2])
}

/// How long a client waits for its first byte, which the app echoes.
fn wake(zpa: &Zpa) -> Result<Duration> {
    let connecting = Instant::now();
    let mut client = TcpStream::connect(zpa.address())?;
    client.set_read_timeout(Some(TIMEOUT))?;
    client.write_all(b"?")?;
    let mut byte = [0];
    client.read_exact(&mut byte)?;
    let took = connecting.elapsed();
    match &byte {
        b"?" => Ok(took),
        _ => Err("the reply is not what was sent".into()),
    }
}
