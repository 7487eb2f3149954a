//! Connections whose bytes the receiver does not read: their memory in the proxy and in the queues
//! of its sockets.
//!
//! A receiver *stops* that asks for bulk and reads none of it. A client is *held* that
//! uploads to an app without a ready pod; HAProxy has such a queue for servers that
//! have as many connections as they may have (`maxconn`), nginx has none.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::process::Process;
use support::sockets::queue_bytes;

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
const TIMEOUT: Duration = Duration::from_secs(30);

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
    let mut contenders = Contender::zpas(&Place::Loopback, 1)?;
    let kinds = [Kind::HaProxy, Kind::HaProxyTuned, Kind::Nginx];
    for kind in plan.other_proxies(&kinds) {
        let other = Contender::other_proxy(&Place::Loopback, kind, 1, count)?;
        contenders.extend(other.ok());
    }
    let of = |contender: &Contender| holdings(contender, count, ask);
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
    let process = contender.process().ok_or("nobody to measure")?;
    let look = || -> Result<[f64; 2]> {
        wait_for_still_queues(process)?;
        let own = process.memory()?.anonymous;
        Ok([own, queue_bytes(process.0)?].map(|bytes| bytes as f64))
    };
    // What the first one needs is there for all others.
    let first = begin(contender.address)?;
    let before = look()?;
    let streams: Result<Vec<TcpStream>> = (0..count).map(|_| begin(contender.address)).collect();
    let streams = streams?;
    let after = look()?;
    for stream in streams.iter().chain([&first]) {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    Ok(Holdings {
        own: (after[0] - before[0]) / count as f64,
        queues: (after[1] - before[1]) / count as f64,
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

/// Waits until the queues do not change any more.
fn wait_for_still_queues(process: Process) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut last = (queue_bytes(process.0)?, Instant::now());
    while last.1.elapsed() < STILL {
        if Instant::now() > deadline {
            return Err(format!("the queues still move after {TIMEOUT:?}").into());
        }
        thread::sleep(Duration::from_millis(50));
        let now = queue_bytes(process.0)?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(())
}
