//! `zpa` in a container with the memory limit that the manifests ask for: a control
//! group of version 2, to which the kernel charges what waits in its sockets. Beyond
//! the limit the kernel kills it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::descriptors::raise_open_files;
use support::program::Zpa;
use support::streams::read_some;

use crate::fixture::{Fixture, listen};
use crate::network::{Network, POD, restricted, skipped};
use crate::until;

/// `resources.limits.memory` in `manifests/base`.
const LIMIT: u64 = 256 << 20;
/// `ZPA_MAX_CONNECTIONS` there.
const CONNECTIONS: usize = 10_000;
/// How many receivers stop.
const STALLED: usize = 2_000;
/// Descriptors of the test that are not connections'.
const RESERVED: usize = 500;
/// How many of the held ones stay to be served.
const STAY: usize = 10;
/// How long all of this may take where the machine is emulated.
const LONG: Duration = Duration::from_secs(600);

const SETTINGS: [(&str, &str); 2] = [("ZPA_LOG", "info"), ("ZPA_MAX_CONNECTIONS", "10000")];

/// Where version 2 is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group with the limit, until dropped.
struct Container(PathBuf);

impl Container {
    /// One, or none and a word about why not.
    fn new() -> Option<Container> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let root = Path::new(ROOT);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("zpa-{}-{number}", std::process::id()));
        // Version 1 is mounted below the same place, which is no group then.
        let made = fs::read_to_string(root.join("cgroup.controllers"))
            .and_then(|_| fs::write(root.join("cgroup.subtree_control"), "+memory"))
            .and_then(|()| fs::create_dir(&path))
            .and_then(|()| fs::write(path.join("memory.max"), LIMIT.to_string()));
        match made {
            Ok(()) => Some(Container(path)),
            Err(why) => {
                skipped(&format!(
                    "takes root and the memory controller of cgroup v2, which `make vm` has: {why}"
                ));
                None
            }
        }
    }

    /// `zpa` in it.
    fn program(&self) -> Command {
        let mut shell = Command::new("sh");
        let enter = format!("echo $$ >{}/cgroup.procs", self.0.display());
        shell.args(["-c", &format!("{enter} && exec \"$0\"")]);
        shell.arg(env!("CARGO_BIN_EXE_zpa"));
        shell
    }

    /// How much is charged to it, in bytes.
    fn charged(&self) -> u64 {
        self.number("memory.current")
    }

    /// The most that ever was.
    fn peak(&self) -> u64 {
        self.number("memory.peak")
    }

    /// How much of it waits in sockets.
    fn in_sockets(&self) -> u64 {
        self.field("memory.stat", "sock")
    }

    /// How often the kernel has killed in it.
    fn killed(&self) -> u64 {
        self.field("memory.events", "oom_kill")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn number(&self, file: &str) -> u64 {
        self.read(file).trim().parse().unwrap()
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The process in it may have ended a moment ago.
        let _ = fs::remove_dir(&self.0);
    }
}

/// As many as wanted, if the limit of open files allows: `ends` of each are here.
fn possible(wanted: usize, ends: usize) -> usize {
    let allowed = raise_open_files((2 * wanted + RESERVED) as u64).unwrap() as usize;
    let count = wanted.min(allowed.saturating_sub(RESERVED) / ends);
    if count < wanted {
        restricted(&format!(
            "{count} connections in place of {wanted}: the limit of open files"
        ));
    }
    count
}

#[test]
fn ten_thousand_held_uploads_kill_nobody_and_who_stays_is_served() {
    let Some(network) = Network::new() else {
        return;
    };
    let Some(container) = Container::new() else {
        return;
    };
    let count = possible(CONNECTIONS, 1);
    let fixture = Fixture::asleep_as(container.program(), network, &SETTINGS);
    let before = container.charged();
    let clients = fixture.connect_many(count);
    clients.iter().for_each(modest);
    let mut sent = fill_all(clients.iter());
    until(LONG, "all are accepted", || open(&fixture) == count);
    expect_health(&fixture);
    assert_eq!(container.killed(), 0);
    report(&container, "held", before, count);

    let mut clients = clients;
    let (stay, sent) = (
        clients.split_off(count - STAY),
        sent.split_off(count - STAY),
    );
    for client in &clients {
        SockRef::from(client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    drop(clients);
    until(LONG, "the others have left", || open(&fixture) == STAY);
    let _pod = fixture.echo_at(POD);
    fixture.publish(&[POD]);
    for (mut client, sent) in stay.into_iter().zip(sent) {
        client.set_nonblocking(false).unwrap();
        let mut echoed = vec![0; sent];
        client.read_exact(&mut echoed).unwrap();
        assert!(echoed.iter().all(|byte| *byte == BYTE));
    }
}

#[test]
fn receivers_that_stop_amid_bulk_kill_nobody_and_the_others_flow() {
    /// So much reaches each before it stops.
    const BULK: usize = 192 * 1024;
    let Some(network) = Network::new() else {
        return;
    };
    let Some(container) = Container::new() else {
        return;
    };
    let count = possible(STALLED, 2);
    let pod = listen(&network);
    let fixture = Fixture::awake_as(container.program(), network, &[POD], &SETTINGS);
    let mut echoing = Echo::start(&fixture, &pod);
    echoing.round_trips();
    let before = container.charged();
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for number in 0..count {
        let (client, server) = fixture.pair(&pod);
        let (sender, receiver) = match number % 2 {
            0 => (client, server),
            _ => (server, client),
        };
        modest(&sender);
        receiver.set_nonblocking(true).unwrap();
        transfer(&sender, &receiver, BULK);
        senders.push(sender);
        receivers.push(receiver);
        if number % 100 == 0 {
            echoing.round_trips();
            println!(
                "{number} receivers have stopped, {} KiB",
                container.charged() >> 10
            );
        }
    }
    fill_all(senders.iter());
    expect_health(&fixture);
    echoing.round_trips();
    assert_eq!(container.killed(), 0);
    assert_eq!(open(&fixture), count + 1, "and nobody was cut");
    report(&container, "stalled", before, count);
}

/// Prints what each of them costs.
fn report(container: &Container, what: &str, before: u64, count: usize) {
    let charged = container.charged();
    let each = charged.saturating_sub(before) / count as u64;
    println!(
        "{count} {what} connections: {each} bytes each, {} of them in sockets' queues; {} KiB in \
         all, {} KiB at most",
        container.in_sockets() / count as u64,
        charged >> 10,
        container.peak() >> 10,
    );
}

/// What everybody sends.
const BYTE: u8 = b'u';

/// Lets the other end's kernel keep little, which is not what is measured.
fn modest(stream: &TcpStream) {
    SockRef::from(stream)
        .set_send_buffer_size(32 * 1024)
        .unwrap();
    stream.set_nonblocking(true).unwrap();
}

/// Writes until nobody takes a byte any more; returns how much each has taken.
fn fill_all<'a>(streams: impl Iterator<Item = &'a TcpStream> + Clone) -> Vec<usize> {
    const QUIET: Duration = Duration::from_secs(2);
    let mut taken: Vec<usize> = streams.clone().map(|_| 0).collect();
    let (start, mut last) = (Instant::now(), Instant::now());
    while last.elapsed() < QUIET {
        for (mut stream, taken) in streams.clone().zip(&mut taken) {
            match stream.write(&[BYTE; 65_536]) {
                Ok(len) => {
                    *taken += len;
                    last = Instant::now();
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(start.elapsed() < LONG, "the bytes must be somewhere");
        thread::sleep(Duration::from_millis(5)); // Not all of the processor.
    }
    taken
}

/// Moves bytes from one end to the other, as fast as they go.
fn transfer(mut sender: &TcpStream, receiver: &TcpStream, bytes: usize) {
    let (mut received, mut buffer) = (0, vec![0; 65_536]);
    let start = Instant::now();
    while received < bytes {
        let _ = sender.write(&[BYTE; 65_536]);
        match read_some(receiver, &mut buffer) {
            Ok(len) => received += len,
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
        assert!(start.elapsed() < LONG, "only {received} bytes came");
    }
}

/// A connection over which small messages go to and fro.
struct Echo(TcpStream);

impl Echo {
    fn start(fixture: &Fixture, pod: &TcpListener) -> Echo {
        let (client, mut server) = fixture.pair(pod);
        // Between two messages there may be minutes.
        server.set_read_timeout(None).unwrap();
        thread::spawn(move || {
            let mut message = [0; 64];
            while server.read_exact(&mut message).is_ok() && server.write_all(&message).is_ok() {}
        });
        Echo(client)
    }

    fn round_trips(&mut self) {
        for number in 0..20 {
            let mut echoed = [0; 64];
            self.0.write_all(&[number; 64]).unwrap();
            self.0.read_exact(&mut echoed).unwrap();
            assert_eq!(echoed, [number; 64]);
        }
    }
}

fn expect_health(fixture: &Fixture) {
    assert_eq!(ask(fixture, |zpa| zpa.get("/healthz").0), 200);
}

fn open(fixture: &Fixture) -> usize {
    ask(fixture, |zpa| zpa.metric("zpa_connections_open")).unwrap() as usize
}

/// The admin port is on the loopback of the middle.
fn ask<T: Send>(fixture: &Fixture, question: impl FnOnce(&Zpa) -> T + Send) -> T {
    fixture.network.middle.enter(|| question(&fixture.zpa))
}
