//! Open and silent connections: their memory and descriptors, and that they take no processor time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use support::descriptors::raise_open_files;
use support::process::{Busy, Memory, Process, kernel_memory, watch};

use crate::load::{exchange, probe};
use crate::network::Place;
use crate::proxies::{Contender, Kind};
use crate::report::{Table, number};
use crate::{Plan, Result};

/// How many connections to open, if the limit of open files allows.
const CONNECTIONS: usize = 100_000;
/// The same for a quick run.
const FEW: usize = 2_000;
/// Descriptors that are not connections': the bench's own, or the 176 of `zpa`.
const RESERVED: u64 = 200;
/// How many connections to have between two addresses: there are 28,000 ports,
/// and others need some as well.
const PER_ADDRESS: usize = 20_000;
/// Until the last timer of what went before, HAProxy's connect timeout of 1 s,
/// has been dealt with.
const REST: Duration = Duration::from_millis(1500);
/// How long closed connections may take to be gone.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What one proxy has shown.
struct Findings {
    connections: usize,
    /// At its start.
    fresh: Memory,
    /// After the first connection: what it needs once is there.
    before: Holdings,
    /// With all of them open.
    open: Holdings,
    /// What the kernel has taken for both sides of it, in bytes.
    kernel: f64,
    /// What it takes without a proxy.
    kernel_direct: f64,
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

/// How many connections there can be, and what allows no more.
struct Setup {
    connections: usize,
    limit: Option<String>,
}

impl Setup {
    fn make(plan: &Plan) -> Result<Setup> {
        let wanted = plan.choose(CONNECTIONS, FEW);
        // The client's and the server's end of each connection are here, and
        // the two of a proxy's are there; its limit is inherited from here.
        let files = raise_open_files(wanted as u64 * 2 + RESERVED)?;
        let possible = usize::try_from(files.saturating_sub(RESERVED) / 2)?;
        let limit = (possible < wanted).then(|| {
            format!(
                "The hard limit of {files} open files allows no more connections, of which \
                 each takes two."
            )
        });
        Ok(Setup {
            connections: wanted.min(possible),
            limit,
        })
    }

    fn servers(&self) -> usize {
        self.connections.div_ceil(PER_ADDRESS)
    }
}

/// Measures; the table.
pub fn measure(plan: &Plan) -> Result<Table> {
    let setup = Setup::make(plan)?;
    let time = plan.choose(Duration::from_secs(5), Duration::from_secs(1));
    let kernel_direct = kernel_of(&Contender::direct(&Place::Loopback)?, setup.connections)?;
    let mut contenders = Contender::zpas(&Place::Loopback, setup.servers())?;
    for kind in plan.other_proxies(&[Kind::HaProxy, Kind::Nginx]) {
        contenders.extend(
            Contender::other_proxy(&Place::Loopback, kind, setup.servers(), setup.connections)?
                .ok(),
        );
    }
    let all: Result<Vec<Findings>> = contenders
        .iter()
        .map(|contender| {
            let findings = measure_one(contender, setup.connections, kernel_direct, time);
            findings.map_err(|e| format!("idle: {}: {e}", contender.name).into())
        })
        .collect();
    let all = all?;
    let mut head = vec![format!("{} idle connections", setup.connections)];
    head.extend(contenders.iter().map(|contender| contender.name.clone()));
    let mut table = Table::new(head);
    for (label, cell) in lines() {
        let cells = all.iter().map(cell);
        table.add([label.to_owned()].into_iter().chain(cells).collect());
    }
    if let Some(limit) = &setup.limit {
        table.note(limit);
    }
    Ok(table)
}

/// What the kernel takes for connections without a proxy.
fn kernel_of(contender: &Contender, connections: usize) -> Result<f64> {
    let before = kernel_memory();
    let clients = open(contender.address, connections)?;
    let kernel = kernel_memory() - before;
    close(clients);
    Ok(kernel)
}

fn measure_one(
    contender: &Contender,
    connections: usize,
    kernel_direct: f64,
    time: Duration,
) -> Result<Findings> {
    let process = contender.process().ok_or("nobody to measure")?;
    let fresh = process.memory()?;
    let idle_descriptors = process.descriptors()?;
    drop(probe(contender.address)?);
    let before = holdings_at_rest(process, idle_descriptors)?;
    let kernel_before = kernel_memory();
    let mut clients = open(contender.address, connections)?;
    // First, because to look into /proc makes the kernel remember what was seen.
    let kernel = kernel_memory() - kernel_before;
    let open = Holdings::of(process)?;
    thread::sleep(REST);
    let busy = watch(process, time)?;
    // All of them are still there.
    clients.iter_mut().try_for_each(exchange)?;
    close(clients);
    let after = holdings_at_rest(process, before.descriptors)?;
    Ok(Findings {
        connections,
        fresh,
        before,
        open,
        kernel,
        kernel_direct,
        busy,
        after,
    })
}

/// Connections over which a message has gone, from as many addresses as they
/// need ports.
fn open(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let stream = |n: usize| -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(further) = u8::try_from(n / PER_ADDRESS)?.checked_sub(1) {
            let source = IpAddr::from(Ipv4Addr::new(127, 0, 1, further));
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect(&address.into())?;
        let mut stream = socket.into();
        exchange(&mut stream)?;
        Ok(stream)
    };
    (0..count).map(stream).collect()
}

/// Closes them with a reset, after which nothing is left of them anywhere.
fn close(clients: Vec<TcpStream>) {
    for client in clients {
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }
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
    let deadline = Instant::now() + TIMEOUT;
    // A wake opens a connection or two to the API server.
    while process.descriptors()? > descriptors + 4 {
        if Instant::now() > deadline {
            return Err(format!("connections are still open after {TIMEOUT:?}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Holdings::of(process)
}

type Cell = fn(&Findings) -> String;

fn lines() -> [(&'static str, Cell); 8] {
    [
        ("memory of its own per connection, bytes", |f| {
            let grown = f.open.memory.anonymous as f64 - f.before.memory.anonymous as f64;
            number(grown / f.connections as f64)
        }),
        ("memory of the kernel for its side of one, bytes", |f| {
            number((f.kernel - f.kernel_direct) / f.connections as f64)
        }),
        ("descriptors per connection", |f| {
            let opened = f.open.descriptors as f64 - f.before.descriptors as f64;
            number(opened / f.connections as f64)
        }),
        ("resident at its start, MiB (of its own)", |f| mib(f.fresh)),
        ("resident with all of them open", |f| mib(f.open.memory)),
        ("resident after they were closed", |f| mib(f.after.memory)),
        ("processor time while nothing happens, ms/s", |f| {
            number(f.busy.cpu.as_secs_f64() * 1e3 / f.busy.time.as_secs_f64())
        }),
        ("wake-ups per s while nothing happens", |f| {
            number(f.busy.wake_ups as f64 / f.busy.time.as_secs_f64())
        }),
    ]
}

fn mib(memory: Memory) -> String {
    let mib = |bytes: u64| number(bytes as f64 / f64::from(1 << 20));
    format!("{} ({})", mib(memory.resident), mib(memory.anonymous))
}
