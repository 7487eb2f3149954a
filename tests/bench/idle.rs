//! Connections that are open and silent: what they hold, and that they cost no
//! time.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::raise_open_files;
use crate::load::probe;
use crate::process::{Busy, Memory, Process, watch};
use crate::proxies::{Kind, Way};
use crate::report::{Table, number};
use crate::{Plan, Result};

/// How many connections to open, if the limit of open files allows.
const CONNECTIONS: usize = 10_000;
/// Descriptors that are not connections'.
const RESERVED: u64 = 100;
/// How long closed connections may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one proxy has shown.
struct Findings {
    connections: usize,
    /// At its start; the app sleeps.
    fresh: Memory,
    /// After the first connection: what it needs once is there.
    before: Holdings,
    /// With all of them open.
    open: Holdings,
    /// Doing nothing with all of them open.
    busy: Busy,
    /// After all of them were closed.
    after: Holdings,
}

/// What a process holds.
#[derive(Clone, Copy)]
struct Holdings {
    memory: Memory,
    descriptors: usize,
}

/// How many connections this process can have open; its children, started
/// later, as many.
fn make_room() -> Result<usize> {
    // The client's and the server's end of each connection are here.
    let wanted = CONNECTIONS as u64 * 2 + RESERVED;
    let possible = raise_open_files(wanted)?.saturating_sub(RESERVED) / 2;
    Ok(CONNECTIONS.min(usize::try_from(possible)?))
}

/// Measures; the table.
pub fn measure(plan: &Plan) -> Result<Table> {
    let count = make_room()?;
    let time = plan.choose(Duration::from_secs(2), Duration::from_millis(500));

    let (mut head, mut all) = (vec![format!("{count} idle connections")], Vec::new());
    let mut ways = Way::zpas(1)?;
    for kind in plan.rivals(&[Kind::HaProxy, Kind::Nginx]) {
        ways.extend(Way::rival(kind, 1, count)?.ok());
    }
    for way in &ways {
        all.push(measure_one(way, count, time)?);
        head.push(way.name.clone());
    }
    let mut table = Table::new(head);
    for (label, cell) in lines() {
        let cells = all.iter().map(cell);
        table.add([label.to_owned()].into_iter().chain(cells).collect());
    }
    if count < CONNECTIONS {
        table.note("The limit of open files allows no more connections.");
    }
    Ok(table)
}

fn measure_one(way: &Way, connections: usize, time: Duration) -> Result<Findings> {
    let process = way.process().ok_or("nobody to measure")?;
    let fresh = process.memory()?;
    let idle_descriptors = process.descriptors()?;
    drop(probe(way.address)?);
    let before = holdings_at_rest(process, idle_descriptors)?;
    let clients: Vec<TcpStream> = (0..connections)
        .map(|_| probe(way.address))
        .collect::<Result<_>>()?;
    let open = Holdings::of(process)?;
    let busy = watch(process, time)?;
    drop(clients);
    let after = holdings_at_rest(process, before.descriptors)?;
    Ok(Findings {
        connections,
        fresh,
        before,
        open,
        busy,
        after,
    })
}

impl Holdings {
    fn of(process: Process) -> Result<Holdings> {
        Ok(Holdings {
            memory: process.memory()?,
            descriptors: process.descriptors()?,
        })
    }
}

/// What it holds once it has noticed that connections were closed.
fn holdings_at_rest(process: Process, descriptors: usize) -> Result<Holdings> {
    let deadline = Instant::now() + PATIENCE;
    // A wake opens a connection or two to the API server.
    while process.descriptors()? > descriptors + 4 {
        if Instant::now() > deadline {
            return Err(format!("connections are still open after {PATIENCE:?}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Holdings::of(process)
}

type Cell = fn(&Findings) -> String;

fn lines() -> [(&'static str, Cell); 6] {
    [
        ("memory of its own per connection, bytes", |f| {
            let grown = f.open.memory.anonymous as f64 - f.before.memory.anonymous as f64;
            number(grown / f.connections as f64)
        }),
        ("descriptors per connection", |f| {
            let opened = f.open.descriptors as f64 - f.before.descriptors as f64;
            number(opened / f.connections as f64)
        }),
        ("resident at its start, MiB (of its own)", |f| mib(f.fresh)),
        ("resident with all of them open", |f| mib(f.open.memory)),
        ("resident after they were closed", |f| mib(f.after.memory)),
        (
            "processor time while nothing happens, ms/s · wake-ups per s",
            |f| {
                let seconds = f.busy.time.as_secs_f64();
                let ms = f.busy.cpu.as_secs_f64() * 1e3 / seconds;
                let wake_ups = f.busy.wake_ups as f64 / seconds;
                format!("{} · {}", number(ms), number(wake_ups))
            },
        ),
    ]
}

fn mib(memory: Memory) -> String {
    let mib = |bytes: u64| number(bytes as f64 / f64::from(1 << 20));
    format!("{} ({})", mib(memory.resident), mib(memory.anonymous))
}
