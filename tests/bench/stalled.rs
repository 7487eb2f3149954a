//! Connections whose bytes nobody takes: what they hold in the proxy and in the queues
//! of its sockets.
//!
//! A receiver *stops* that asks for bulk and reads none of it. A client is *held* that
//! uploads to an app without a ready pod; HAProxy has such a queue for servers that
//! have as many connections as they may have (`maxconn`), nginx has none.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::network::Place;
use crate::protocol::{Request, Run};
use crate::proxies::{Contender, Kind};
use crate::report::{Table, number};
use crate::{Plan, Result};

/// How many receivers stop: each may take ten MiB of the kernel's.
const STOPPED: usize = 50;
/// How many clients are held.
const HELD: usize = 1_000;
/// What each of them asks for, or sends: more than any queue takes.
const BULK_BYTES: u64 = 64 << 20;
/// The queues are full when they have been the same for so long.
const STILL: Duration = Duration::from_millis(500);
/// How long they may take to be.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection takes, in bytes.
struct Holdings {
    own: f64,
    queues: f64,
}

type Value = fn(&Holdings) -> f64;

/// Measures; the tables.
pub fn measure(plan: &Plan) -> Result<Vec<Table>> {
    Ok(vec![stopped(plan)?, held(plan)?])
}

fn stopped(plan: &Plan) -> Result<Table> {
    let count = plan.choose(STOPPED, 10);
    let direct = Contender::direct(&Place::Loopback)?;
    // The client's queue and the server's are there without a proxy too.
    let without = holdings(&direct, count, ask)?.queues;
    let mut contenders = Contender::zpas(&Place::Loopback, 1)?;
    let kinds = [Kind::HaProxy, Kind::HaProxyTuned, Kind::Nginx];
    for kind in plan.other_proxies(&kinds) {
        let other = Contender::other_proxy(&Place::Loopback, kind, 1, count)?;
        contenders.extend(other.ok());
    }
    let of = |contender: &Contender| {
        let holdings = holdings(contender, count, ask)?;
        Ok(Holdings {
            queues: holdings.queues - without,
            ..holdings
        })
    };
    table(
        &format!("{count} receivers that have stopped"),
        &contenders,
        of,
    )
}

fn held(plan: &Plan) -> Result<Table> {
    let count = plan.choose(HELD, 100);
    let mut contenders = Contender::zpas(&Place::Loopback, 0)?;
    for kind in plan.other_proxies(&[Kind::HaProxy]) {
        let other = Contender::queue(&Place::Loopback, kind, count)?;
        contenders.extend(other.ok());
    }
    let of = |contender: &Contender| holdings(contender, count, upload);
    table(&format!("{count} uploads that are held"), &contenders, of)
}

fn table(
    label: &str,
    contenders: &[Contender],
    of: impl Fn(&Contender) -> Result<Holdings>,
) -> Result<Table> {
    let all: Result<Vec<Holdings>> = contenders
        .iter()
        .map(|it| of(it).map_err(|why| format!("{label}: {}: {why}", it.name).into()))
        .collect();
    let all = all?;
    let mut head = vec![label.to_owned()];
    head.extend(contenders.iter().map(|it| it.name.clone()));
    let mut table = Table::new(head);
    let rows: [(&str, Value); 2] = [
        ("memory of its own for each, bytes", |it| it.own),
        ("in the queues of its sockets, KiB", |it| it.queues / 1024.0),
    ];
    for (label, value) in rows {
        let cells = all.iter().map(|it| number(value(it)));
        table.add([label.to_owned()].into_iter().chain(cells).collect());
    }
    Ok(table)
}

/// What each of so many connections takes, which `begin` begins.
fn holdings(
    contender: &Contender,
    count: usize,
    begin: fn(SocketAddr) -> Result<TcpStream>,
) -> Result<Holdings> {
    let own = || match contender.process() {
        Some(process) => Ok::<_, crate::Error>(process.memory()?.anonymous as f64),
        None => Ok(0.0),
    };
    // What the first one needs is there for all others.
    let first = begin(contender.address)?;
    wait_for_still_queues(&[&first])?;
    let before = (own()?, queue_bytes()?);
    let streams: Result<Vec<TcpStream>> = (0..count).map(|_| begin(contender.address)).collect();
    let streams = streams?;
    wait_for_still_queues(&streams.iter().collect::<Vec<_>>())?;
    let after = (own()?, queue_bytes()?);
    for stream in streams.iter().chain([&first]) {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    Ok(Holdings {
        own: (after.0 - before.0) / count as f64,
        queues: (after.1 - before.1) / count as f64,
    })
}

/// Asks for bulk, of which nothing is going to be read.
fn ask(address: SocketAddr) -> Result<TcpStream> {
    begin(address, 0, BULK_BYTES)
}

/// Announces bulk, of which as much is sent as is taken.
fn upload(address: SocketAddr) -> Result<TcpStream> {
    begin(address, BULK_BYTES, 0)
}

fn begin(address: SocketAddr, body_bytes: u64, reply_bytes: u64) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let request = Request {
        serial: u64::from(stream.local_addr()?.port()),
        body_bytes,
        reply_bytes,
        both_ways: false,
    };
    stream.write_all(&request.header())?;
    stream.set_nonblocking(true)?;
    if body_bytes > 0 {
        fill(&stream, request.body())?;
    }
    Ok(stream)
}

/// Sends until nothing more is taken.
fn fill(mut stream: &TcpStream, mut body: Run) -> Result<()> {
    loop {
        match stream.write(body.next(body.total)) {
            Ok(sent) => body.done += sent as u64,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits until the queues of the machine do not change any more.
fn wait_for_still_queues(streams: &[&TcpStream]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = (queue_bytes()?, Instant::now());
    while last.1.elapsed() < STILL {
        if Instant::now() > deadline {
            return Err(format!("{} queues still move after {PATIENCE:?}", streams.len()).into());
        }
        thread::sleep(Duration::from_millis(20));
        let now = queue_bytes()?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(())
}

/// What waits in all TCP sockets of this network namespace's machine, in bytes: `mem`
/// of `/proc/net/sockstat`, in pages (proc(5)).
fn queue_bytes() -> Result<f64> {
    const PAGE: f64 = 4096.0;
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let mut words = line
        .unwrap_or_default()
        .split(' ')
        .skip_while(|it| *it != "mem");
    let pages = words.nth(1).ok_or("/proc/net/sockstat has no mem of TCP")?;
    Ok(pages.parse::<f64>()? * PAGE)
}
