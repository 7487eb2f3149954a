//! What an app notices of another app of the same proxy that storms: its round trips alone,
//! beside clients that are held, and beside a flood of connects.
//!
//! The flood takes processor time of the machine, whoever it is for. So the round trips are
//! also measured beside the same flood at a listener that is nobody's, and compared with that.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::descriptors::raise_open_files;
use support::fleet::{self, Fleet};
use support::sandbox::{Endpoint, Options};

use crate::load::{Group, Load, MESSAGE_BYTES};
use crate::report::{Table, number};
use crate::server::Server;
use crate::stats::Summary;
use crate::{Plan, Result};

/// The clients of the quiet app, each of which has a round trip a hundred times a second.
const QUIET: Group = Group::round_trips(16, MESSAGE_BYTES).every_ms(10);
/// The clients of the app that sleeps and has no pod that gets ready.
const HELD: usize = 10_000;
const FEW: usize = 500;
/// Descriptors that are not the held connections': the proxy has the same limit as this process.
const RESERVED: usize = 300;
/// The number of the app that storms; the other one is quiet.
const STORMING: usize = 1;
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the quiet app has beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Held,
    FloodElsewhere,
    Flood,
}

const ALL: [(Beside, &str); 4] = [
    (Beside::Nothing, "alone"),
    (Beside::Held, "beside held clients of another app"),
    (
        Beside::FloodElsewhere,
        "beside a flood of connects at no app",
    ),
    (Beside::Flood, "beside that flood at another app"),
];

/// What a round has shown of one of them.
#[derive(Clone, Copy)]
struct Sample {
    p50_us: f64,
    p99_us: f64,
    /// Connects of the flood in a second.
    flood: f64,
}

/// Measures; the table.
pub fn measure(plan: &Plan) -> Result<Table> {
    let server = Server::start(Ipv4Addr::LOCALHOST)?;
    let fleet = start(&server);
    let nobody = TcpListener::bind("127.0.0.1:0")?;
    let (rounds, time) = plan.choose(
        (12, Duration::from_secs(2)),
        (2, Duration::from_millis(300)),
    );
    let held = held(&fleet, plan)?;
    let mut samples: Vec<Vec<Sample>> = ALL.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for place in 0..ALL.len() {
            let n = (round + place) % ALL.len();
            let flooded = match ALL[n].0 {
                Beside::Flood => Some(fleet.addresses[STORMING]),
                Beside::FloodElsewhere => Some(nobody.local_addr()?),
                Beside::Nothing | Beside::Held => None,
            };
            let clients = match ALL[n].0 {
                Beside::Held => hold(&fleet, held)?,
                _ => Vec::new(),
            };
            samples[n].push(sample(fleet.addresses[0], flooded, &nobody, time)?);
            let_go(&fleet, clients)?;
        }
    }
    Ok(table(&samples, held))
}

/// One app is awake, whose pod is the server; the other one sleeps, and no pod of it gets ready.
fn start(server: &Server) -> Fleet {
    let options = Options {
        replicas: 1,
        start_delay: None,
        ..Options::default()
    };
    let program = env!("CARGO_BIN_EXE_zpa");
    let fleet = Fleet::start(program, 2, options, &[]);
    let endpoint = Endpoint::ready("server", server.address());
    fleet.sandbox.publish_slice("server", "IPv4", &[endpoint]);
    fleet
}

/// How many clients can be held: the app may have three quarters of all connections.
fn held(fleet: &Fleet, plan: &Plan) -> Result<usize> {
    let wanted = plan.choose(HELD, FEW);
    let files = usize::try_from(raise_open_files((wanted + RESERVED) as u64)?)?;
    let most = fleet.zpa.metric("zpa_connections_limit");
    let most = most.ok_or("zpa does not say how many connections it may have")?;
    let share = (most * 0.75) as usize;
    Ok(wanted.min(files - RESERVED).min(share))
}

fn hold(fleet: &Fleet, count: usize) -> Result<Vec<TcpStream>> {
    let address = fleet.addresses[STORMING];
    let clients: std::io::Result<Vec<TcpStream>> =
        (0..count).map(|_| TcpStream::connect(address)).collect();
    let clients = clients?;
    wait_for_held(fleet, |held| held >= count)?;
    Ok(clients)
}

/// Closes them with a reset, and waits until the proxy knows.
fn let_go(fleet: &Fleet, clients: Vec<TcpStream>) -> Result<()> {
    for client in clients {
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }
    wait_for_held(fleet, |held| held == 0)
}

fn wait_for_held(fleet: &Fleet, is_over: impl Fn(usize) -> bool) -> Result<()> {
    let app = fleet::name(STORMING);
    let series = format!("zpa_connections_open{{app=\"default/{app}\"}}");
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let open = fleet.zpa.metric(&series).unwrap_or(0.0) as usize;
        if is_over(open) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{app} has {open} connections still").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn sample(
    quiet: SocketAddr,
    flooded: Option<SocketAddr>,
    nobody: &TcpListener,
    time: Duration,
) -> Result<Sample> {
    let mut load = Load::open(quiet, &[QUIET])?;
    let (is_over, connects) = (AtomicBool::new(false), AtomicU64::new(0));
    nobody.set_nonblocking(true)?;
    let (outcomes, elapsed) = thread::scope(|scope| {
        if let Some(address) = flooded {
            let (is_over, connects) = (&is_over, &connects);
            scope.spawn(move || flood(address, nobody, is_over, connects));
        }
        let run = load.run(time);
        is_over.store(true, Relaxed);
        run
    })?;
    let latencies = &outcomes[0].latencies;
    Ok(Sample {
        p50_us: latencies.percentile_us(50.0),
        p99_us: latencies.percentile_us(99.0),
        flood: connects.load(Relaxed) as f64 / elapsed.as_secs_f64(),
    })
}

/// Connects and resets, one after the other, as fast as that is possible.
fn flood(address: SocketAddr, nobody: &TcpListener, is_over: &AtomicBool, connects: &AtomicU64) {
    while !is_over.load(Relaxed) {
        if let Ok(client) = TcpStream::connect(address) {
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
            connects.fetch_add(1, Relaxed);
        }
        // Those that came here: the queue is never full.
        drop(nobody.accept());
    }
}

fn table(samples: &[Vec<Sample>], held: usize) -> Table {
    let head = [
        "round trips of a quiet app, 16 connections, each 100 times a second",
        "p50, µs",
        "p99, µs",
        "p99 in the same round, to that alone",
        "connects a second beside it",
    ];
    let mut table = Table::new(head.map(str::to_owned).into());
    let median = |samples: &[Sample], of: fn(&Sample) -> f64| {
        number(Summary::of(samples.iter().map(of)).median)
    };
    for (n, (_, label)) in ALL.iter().enumerate() {
        let ratio = ratio(&samples[n], &samples[0]);
        table.add(vec![
            (*label).to_owned(),
            median(&samples[n], |it| it.p50_us),
            median(&samples[n], |it| it.p99_us),
            ratio,
            median(&samples[n], |it| it.flood),
        ]);
    }
    let of_flood = ratio(&samples[3], &samples[2]);
    table.note(&format!(
        "{held} clients are held. Medians of the rounds; of ratios their quartiles too. The p99 \
         beside the flood at an app is × {of_flood} of that beside the same flood at no app, which \
         takes the processors of the machine as well.",
    ));
    table
}

/// The p99 of one, as a multiple of the other's in the same round.
fn ratio(samples: &[Sample], to: &[Sample]) -> String {
    let ratios = samples
        .iter()
        .zip(to)
        .map(|(one, other)| one.p99_us / other.p99_us);
    let ratios = Summary::of(ratios);
    let [low, high] = ratios.quartiles.map(number);
    format!("{} ({low}–{high})", number(ratios.median))
}
