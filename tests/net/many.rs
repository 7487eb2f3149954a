//! Many connections at once: held, slow, and stalled.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::memory::{PER_CONNECTION, ceiling};
use support::program::TEST_TIMEOUT;
use support::sandbox::on;
use zpa::engine::{BLOCK_BYTES, MAX_BLOCKS};

use crate::fixture::{Fixture, expect_calm, listen};
use crate::network::{Network, POD, restricted};
use crate::open_files::OpenFiles;
use crate::resets::while_it_stands_still;
use crate::until;

/// How many connections are held at once, if the limit of open files allows.
const HELD: usize = 10_000;
/// The pool of blocks for what slow receivers have not taken yet.
const POOL: u64 = (MAX_BLOCKS * BLOCK_BYTES) as u64;
/// Blocks that are not full to the last byte.
const SLACK: u64 = 1 << 20;

#[test]
fn ten_thousand_connections_to_a_sleeping_app_are_one_write_and_served_in_order() {
    let Some(network) = Network::new() else {
        return;
    };
    let open_files = OpenFiles::take(2 * HELD);
    let count = open_files.count / 2;
    if count < HELD {
        restricted(&format!(
            "{count} connections in place of {HELD}: the limit of open files"
        ));
    }
    // Not debug: a line for each connection would be most of the memory.
    let fixture = Fixture::asleep(network, &[("ZPA_LOG", "info")]);
    let pod = fixture.listen();
    let before = fixture.process().memory().unwrap().anonymous;

    let mut clients = fixture.connect_many(count);
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u32).to_be_bytes()).unwrap();
    }
    fixture
        .sandbox
        .expect("it wakes", |state| state.replicas() == 1);
    until(TEST_TIMEOUT, "all are accepted", || {
        fixture.process().descriptors().unwrap() >= count
    });
    let held = fixture.process().memory().unwrap().anonymous - before;
    let each = held / count as u64;
    assert!(each <= PER_CONNECTION, "{each} bytes for each of {count}");

    fixture.publish(&[POD]);
    let served: Vec<u32> = (0..count).map(|_| serve_number(&pod)).collect();
    for (number, mut client) in clients.into_iter().enumerate() {
        crate::expect(&mut client, &(number as u32).to_be_bytes());
    }
    assert_in_order(&served);
    let patch = on("patch", "deployments/scale");
    assert_eq!(fixture.sandbox.count(&patch), 1);
}

/// Takes one connection, and sends back the number that it brings.
fn serve_number(pod: &TcpListener) -> u32 {
    let (mut stream, _) = pod.accept().unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut number = [0; 4];
    stream.read_exact(&mut number).unwrap();
    stream.write_all(&number).unwrap();
    u32::from_be_bytes(number)
}

/// Dials of one turn are on their way together, and the kernel may let one of
/// them pass another; none is passed by those of a later turn.
#[track_caller]
fn assert_in_order(served: &[u32]) {
    const TURN: usize = 64;
    for (place, &number) in served.iter().enumerate() {
        let moved = place.abs_diff(number as usize);
        assert!(moved < 2 * TURN, "number {number} came at place {place}");
    }
}

#[test]
fn slow_readers_fill_bounded_buffers_and_the_others_are_served_beside_them() {
    // More of them than there are blocks.
    const SLOW: usize = MAX_BLOCKS + 16;
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (mut client, mut server) = fixture.pair(&pod);
    let echoing = thread::spawn(move || {
        let mut buffer = [0; 64];
        while server.read_exact(&mut buffer).is_ok() && server.write_all(&buffer).is_ok() {}
    });

    let pairs: Vec<_> = (0..SLOW).map(|_| fixture.pair(&pod)).collect();
    let (mut readers, writers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let (over, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let held = thread::scope(|scope| {
        for writer in &writers {
            scope.spawn(|| flood(writer));
        }
        scope.spawn(|| read_slowly(&mut readers, &taken, &over));
        until(TEST_TIMEOUT, "they have all filled their buffers", || {
            taken.load(Ordering::Relaxed) > 20 * SLOW
        });
        round_trips(&mut client);
        let held = fixture.process().memory().unwrap().anonymous;
        over.store(true, Ordering::Relaxed);
        for writer in &writers {
            SockRef::from(writer)
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
        }
        held
    });
    drop((client, fixture));
    echoing.join().unwrap();
    assert!(
        held <= ceiling(SLOW + 1, MAX_BLOCKS, BLOCK_BYTES),
        "{held} bytes"
    );
}

/// Some round trips of 64 bytes; a time-out ends them if they are starved.
fn round_trips(client: &mut TcpStream) {
    for number in 0..501 {
        let (sent, mut got) = ([number as u8; 64], [0; 64]);
        client.write_all(&sent).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
    }
}

/// After so many bytes every stream here begins anew.
const PERIOD: usize = 251;

/// Byte `at` of every stream here.
fn byte(at: usize) -> u8 {
    (at % PERIOD) as u8
}

/// Writes until the connection is shut down.
fn flood(mut stream: &TcpStream) {
    let mut at = 0;
    loop {
        let bytes: Vec<u8> = (at..at + 65_536).map(byte).collect();
        if stream.write_all(&bytes).is_err() {
            return;
        }
        at += bytes.len();
    }
}

/// Takes a little from each now and then, and counts how often there was any.
fn read_slowly(readers: &mut [TcpStream], taken: &AtomicUsize, over: &AtomicBool) {
    let mut read = vec![0; readers.len()];
    let start = Instant::now();
    let mut buffer = [0; 8192];
    for reader in readers.iter() {
        reader.set_nonblocking(true).unwrap();
    }
    while !over.load(Ordering::Relaxed) && start.elapsed() < TEST_TIMEOUT {
        for (reader, at) in readers.iter_mut().zip(&mut read) {
            if let Ok(len) = reader.read(&mut buffer) {
                assert!((0..len).all(|n| buffer[n] == byte(*at + n)));
                *at += len;
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        thread::sleep(Duration::from_millis(20)); // This is what makes them slow.
    }
}

/// What the kernel receives for a socket that nobody reads from, so that a read
/// fills a block: least, at first, most.
const WIDE: (&str, &str) = ("ipv4/tcp_rmem", "4096 1048576 2097152");

#[test]
fn when_all_write_and_none_reads_memory_ends_at_its_bound_and_nothing_is_lost() {
    // Directions that stand still: four times as many as there are blocks and
    // more, so that all are in use whatever else holds some of the bytes.
    const STUCK: usize = 2 * MAX_BLOCKS + 8;
    let Some(network) = Network::new() else {
        return;
    };
    network.middle.set(WIDE).unwrap();
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    drop(fixture.pair(&pod));
    fixture.zpa.expect_log("finished");
    let before = fixture.process().memory().unwrap().anonymous;
    let mut ends: Vec<End> = Vec::new();
    for _ in 0..STUCK {
        let (client, server) = fixture.pair(&pod);
        let at = ends.len();
        ends.extend([End::new(client, at + 1), End::new(server, at)]);
    }

    // It is to find as much at once as it ever reads at once.
    while_it_stands_still(&fixture, || fill(&mut ends));
    let mut held = 0;
    until(TEST_TIMEOUT, "it holds as much as it may", || {
        fill(&mut ends);
        held = fixture.process().memory().unwrap().anonymous;
        held >= before + POOL - SLACK
    });
    assert!(
        held <= ceiling(STUCK, MAX_BLOCKS, BLOCK_BYTES),
        "{held} bytes for {STUCK} pairs"
    );
    expect_calm(fixture.process());

    let written: Vec<usize> = ends.iter().map(|end| end.written).collect();
    let pattern = pattern();
    for end in &mut ends {
        end.read_to(written[end.other], &pattern);
    }
}

/// One end of a connection that does not block.
struct End {
    stream: TcpStream,
    /// Where the end is from which its bytes come.
    other: usize,
    written: usize,
}

impl End {
    fn new(stream: TcpStream, other: usize) -> End {
        // The kernel is to hold little, so that it is soon full.
        SockRef::from(&stream).set_send_buffer_size(32_768).unwrap();
        stream.set_nonblocking(true).unwrap();
        End {
            stream,
            other,
            written: 0,
        }
    }

    /// Whether the kernel has taken anything of the pattern.
    fn write(&mut self, pattern: &[u8]) -> bool {
        match self.stream.write(&pattern[self.written % PERIOD..]) {
            Ok(len) => {
                self.written += len;
                len > 0
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    fn read_to(&mut self, len: usize, pattern: &[u8]) {
        self.stream.set_nonblocking(false).unwrap();
        self.stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (mut got, mut buffer) = (0, vec![0; pattern.len() - PERIOD]);
        while got < len {
            // Unlike a read it goes on after an interruption, which with a
            // time-out is what a machine does that has stood still (signal(7)).
            let wanted = buffer.len().min(len - got);
            self.stream.read_exact(&mut buffer[..wanted]).unwrap();
            let expected = &pattern[got % PERIOD..][..wanted];
            assert!(buffer[..wanted] == *expected, "a byte is wrong after {got}");
            got += wanted;
        }
    }
}

/// The beginning of every stream here, with which it goes on from any place.
fn pattern() -> Vec<u8> {
    (0..65_536 + PERIOD).map(byte).collect()
}

/// Writes everywhere until nobody has taken a byte for a while.
fn fill(ends: &mut [End]) {
    const QUIET: Duration = Duration::from_millis(500);
    let (start, pattern) = (Instant::now(), pattern());
    let mut last = start;
    while last.elapsed() < QUIET {
        let moved = ends.iter_mut().map(|end| end.write(&pattern));
        if moved.filter(|&moved| moved).count() > 0 {
            last = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(
            start.elapsed() < TEST_TIMEOUT,
            "the bytes must be somewhere"
        );
    }
}
