//! The [`MemoryBudget`] bounds the bytes in the kernel's queues of the sockets.
//!
//! Those bytes are charged to the container, and a process beyond the container's limit
//! (`memory.max` of cgroup v2) is killed. By default a socket takes 128 KiB before it is
//! read, and under bulk the kernel raises its buffers to 6 MiB for receiving and 4 MiB for
//! sending (`tcp_rmem` and `tcp_wmem`, tcp(7)). Therefore
//!
//! - a *held* connection may send 16 KiB in advance. Its window scale is that of any other
//!   socket, and once it is read the kernel raises its buffer as usual:
//!   [`MemoryBudget::buffer_sizes`].
//! - with a limit, each queue of a new connection gets a share of the memory for queues,
//!   by the number of open connections.
//! - with a limit, a connection that moves *bulk* gets a share of a part of that memory,
//!   by the number of such connections. A receive buffer that the kernel has raised beyond
//!   its share is *frozen* (`SO_BUF_LOCK`: the kernel raises it no more), and no more unsent
//!   bytes than a share are written (`TCP_NOTSENT_LOWAT`): [`MemoryBudget::fit`]. A buffer is
//!   not made smaller than a window of two segments, as long as there is memory for that: a
//!   sender that has seen a larger window waits for its persist timer before it sends less
//!   than a segment (RFC 9293, 3.8.6.2), 200 ms or more for each window.
//! - the share is taken back once the connection has been silent for some seconds with empty
//!   queues: [`MemoryBudget::take_back`]. One that stalls keeps it, because its bytes wait.
//!
//! With n open connections the next one gets 1/n of the memory, and keeps it when more come. At
//! worst N connections were given 1 + 1/2 + … + 1/N of it, which grows with the logarithm of
//! N. Without a limit, no socket option is set for a connection.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use log::debug;
use socket2::{SockRef, Socket};

use crate::clock::Time;
use crate::sys;

/// The receive buffer of a held connection, in bytes of kernel memory; half of that is
/// window.
const HELD_BYTES: u64 = 16 * 1024;

/// The least receive buffer in bytes; the kernel raises smaller ones.
const MIN_BYTES: u64 = 8 * 1024;

/// The initial receive buffer of a socket in bytes, with the kernel's defaults
/// (`tcp_rmem`, tcp(7)).
const DEFAULT_BYTES: u64 = 128 * 1024;

/// The largest share in bytes; the kernel's own limits are lower.
const MAX_BYTES: u64 = 1 << 30;

/// The memory of the process without its connections, in bytes: its heap at most, its
/// program, and the kernel's structures for it.
const FIXED_BYTES: u64 = 24 << 20;

/// The kernel's memory for the two sockets of a connection with empty queues, in bytes:
/// sockets, files, epoll entries. The bench measures it (`idle`).
const SOCKETS_BYTES: u64 = 8 * 1024;

/// The least memory of a connection with bytes in its queues.
const CONNECTION_BYTES: u64 = SOCKETS_BYTES + MIN_BYTES;

/// Bulk connections share one part in [`BULK_PART`] of the memory for queues.
const BULK_PART: u64 = 32;

/// Buffers of two segments share one part in [`FLOOR_PART`] of the memory for queues.
const FLOOR_PART: u64 = 4;

/// The interval at which the bulk connections are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The number of queues of a connection: for receiving and for sending, of two sockets.
const QUEUES: u64 = 4;

/// The number of connections that fit into `limit` bytes, each with bytes in its queues.
pub fn connections_within(limit: u64) -> usize {
    let connections = limit.saturating_sub(FIXED_BYTES) / CONNECTION_BYTES;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

/// The budget: see the [module](self).
#[derive(Debug)]
pub struct MemoryBudget {
    /// The most bytes in the queues of all sockets, if there is a limit.
    room: Option<u64>,
    /// The number of connections among which it is divided: a power of two.
    divisor: usize,
    /// The keys of the connections that have a share of the memory for bulk.
    bulk: BTreeSet<usize>,
    /// The first key of those that are to be looked at.
    next_check: usize,
    /// When they are looked at again.
    checks_due: Time,
}

/// How much may wait in a new socket, in bytes; `None` for what the kernel sees fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferSizes {
    /// To be read: the receive buffer at first.
    received: Option<u64>,
    /// Bytes in the send buffer that were not sent yet (`TCP_NOTSENT_LOWAT`).
    unsent: Option<u64>,
}

/// The share that a connection has of the budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct BulkShare {
    /// Whether it counts as a bulk connection.
    is_bulk: bool,
    /// Whether the receive buffers of client and backend are frozen.
    frozen: [bool; 2],
    /// The binary logarithm of the share that was set last.
    share_log2: u8,
}

impl BulkShare {
    /// The backend's socket is gone. The client's keeps its buffer, and so the connection its
    /// share.
    pub fn forget_backend(&mut self) {
        self.frozen[1] = false;
        // The unsent bytes are limited anew, those of the next backend's socket too.
        self.share_log2 = 0;
    }
}

impl MemoryBudget {
    /// The budget of at most `connections` within `limit` bytes.
    pub fn new(limit: Option<u64>, connections: usize) -> Self {
        let objects = SOCKETS_BYTES.saturating_mul(connections as u64);
        let taken = FIXED_BYTES.saturating_add(objects);
        MemoryBudget {
            room: limit.map(|limit| limit.saturating_sub(taken)),
            divisor: 1,
            bulk: BTreeSet::new(),
            next_check: 0,
            checks_due: Time::default(),
        }
    }

    /// The queue sizes of the next socket. `held`: its connection will be held.
    pub fn buffer_sizes(&mut self, open: usize, held: bool) -> BufferSizes {
        let share = self.room.map(|room| {
            self.set_divisor(open);
            (room / QUEUES / self.divisor as u64).clamp(MIN_BYTES, MAX_BYTES)
        });
        let share = share.filter(|&share| share < DEFAULT_BYTES);
        let held = held.then_some(HELD_BYTES);
        BufferSizes {
            received: share.into_iter().chain(held).min(),
            unsent: share,
        }
    }

    /// Those of a socket that is to receive `bytes` before it is read, as far as there is
    /// memory for them.
    pub fn buffer_sizes_to_peek(&mut self, open: usize, bytes: usize) -> BufferSizes {
        let share = self.buffer_sizes(open, false);
        let received = BufferSizes::receiving(bytes).received;
        BufferSizes {
            received: share.received.into_iter().chain(received).min(),
            ..share
        }
    }

    /// For how many connections the room is divided while so many are open; it never
    /// changes where there is no limit.
    pub fn divisor(&mut self, open: usize) -> usize {
        if self.room.is_some() {
            self.set_divisor(open);
        }
        self.divisor
    }

    /// Adapts the divisor to the number of open connections. It goes down only at a quarter,
    /// so that a number that goes up and down by one changes nothing.
    fn set_divisor(&mut self, open: usize) {
        if open >= self.divisor || open < self.divisor / 4 {
            self.divisor = (open + 1).next_power_of_two();
        }
    }

    /// The share of each queue of a bulk connection.
    fn bulk_share(&self) -> Option<u64> {
        let share = self.part_for_bulk(BULK_PART)?;
        Some(share.clamp(MIN_BYTES, MAX_BYTES))
    }

    /// What each bulk connection gets of one part in so many.
    fn part_for_bulk(&self, part: u64) -> Option<u64> {
        Some(self.room? / part / self.bulk.len().max(1) as u64)
    }

    /// Fits the socket buffers of a bulk connection to its share.
    pub fn fit(
        &mut self,
        key: usize,
        bulk_share: &mut BulkShare,
        sockets: [Option<SockRef<'_>>; 2],
    ) {
        if self.room.is_none() {
            return;
        }
        if !bulk_share.is_bulk {
            bulk_share.is_bulk = true;
            self.bulk.insert(key);
        }
        let shares = self.bulk_share().zip(self.part_for_bulk(FLOOR_PART));
        let Some((share, most_floor)) = shares else {
            return;
        };
        for (socket, frozen) in sockets.iter().flatten().zip(&mut bulk_share.frozen) {
            // An error means that the socket is about to be closed.
            if let Err(why) = fit_receive_buffer(socket, share, most_floor, frozen) {
                debug!("a receive buffer keeps its size: {why}");
            }
        }
        let logarithm = share.ilog2() as u8;
        if bulk_share.share_log2 != logarithm {
            bulk_share.share_log2 = logarithm;
            for socket in sockets.iter().flatten() {
                let _ = socket.set_tcp_notsent_lowat(share as u32);
            }
        }
    }

    /// How many connections have a share of the memory for bulk.
    #[cfg(test)]
    pub fn bulk_connections(&self) -> usize {
        self.bulk.len()
    }

    /// The next bulk connection to be looked at, whether it is silent. Each is returned once in
    /// [`CHECK_EVERY`] at most.
    pub fn next_check(&mut self, now: Time) -> Option<usize> {
        if now < self.checks_due {
            return None;
        }
        let next = self.bulk.range(self.next_check..).next().copied();
        match next {
            Some(key) => self.next_check = key + 1,
            None => {
                self.next_check = 0;
                self.checks_due = now + CHECK_EVERY;
            }
        }
        next
    }

    /// Takes the share of a silent connection back. The kernel may raise its buffers again.
    pub fn take_back(
        &mut self,
        key: usize,
        bulk_share: &mut BulkShare,
        sockets: [Option<SockRef<'_>>; 2],
    ) {
        self.return_share(key, *bulk_share);
        for (socket, frozen) in sockets.iter().flatten().zip(bulk_share.frozen) {
            // An error means that the socket is about to be closed.
            if frozen && let Err(why) = sys::freeze_receive_buffer(&**socket, false) {
                debug!("a receive buffer stays frozen: {why}");
            }
        }
        *bulk_share = BulkShare::default();
    }

    /// Returns the share of a connection at its end.
    pub fn return_share(&mut self, key: usize, bulk_share: BulkShare) {
        if bulk_share.is_bulk {
            self.bulk.remove(&key);
        }
    }
}

/// Freezes a receive buffer that the kernel has raised beyond `share`, shrinks one that is
/// beyond twice the share, and unfreezes one that is below a quarter of it. The share is two
/// segments at least, if these are not more than `most_floor`.
///
/// A buffer that is shrunk may drop segments on their way to it, which are sent again.
/// That happens once: it is about to be read, and does not grow so far again.
fn fit_receive_buffer(
    socket: &Socket,
    share: u64,
    most_floor: u64,
    frozen: &mut bool,
) -> io::Result<()> {
    let bytes = socket.recv_buffer_size()? as u64;
    let share = match bytes >= share {
        true => share.max(most_floor.min(two_segments(socket)?)),
        false => share,
    };
    let freeze = if *frozen {
        bytes > share / 4
    } else {
        bytes >= share
    };
    if bytes > 2 * share {
        socket.set_recv_buffer_size(share as usize / 2)?;
        *frozen = true;
    } else if freeze != *frozen {
        sys::freeze_receive_buffer(socket, freeze)?;
        *frozen = freeze;
    }
    Ok(())
}

/// The receive buffer whose window has two segments of what the peer sends: a window is half of
/// its buffer.
fn two_segments(socket: &Socket) -> io::Result<u64> {
    Ok(4 * u64::from(sys::received_segment_bytes(socket)?))
}

impl BufferSizes {
    /// Sizes with an initial receive window of `bytes`, which is twice as much memory.
    pub fn receiving(bytes: usize) -> BufferSizes {
        BufferSizes {
            received: Some(2 * bytes as u64),
            unsent: None,
        }
    }

    /// The same of a socket that is sent no more than `unsent` bytes in advance.
    pub fn of_admin(bytes: usize, unsent: u64) -> BufferSizes {
        BufferSizes {
            unsent: Some(unsent),
            ..BufferSizes::receiving(bytes)
        }
    }

    /// Applies the sizes to a socket; a listening socket passes them to the sockets that
    /// it accepts. Once a socket is read, the kernel raises its receive buffer as usual.
    ///
    /// # Errors
    /// `SO_BUF_LOCK` is unknown before Linux 5.14. The receive buffer is left alone then,
    /// because without it the kernel never raises a size that was set.
    pub fn apply(self, socket: &Socket, default_buffer: u64) -> io::Result<()> {
        // Zero is the kernel's default.
        socket.set_tcp_notsent_lowat(self.unsent.unwrap_or(0) as u32)?;
        sys::freeze_receive_buffer(socket, false)?;
        let received = self.received.unwrap_or(default_buffer).min(default_buffer);
        // The kernel doubles the value that is set (socket(7), SO_RCVBUF).
        socket.set_recv_buffer_size(received as usize / 2)?;
        sys::freeze_receive_buffer(socket, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const MIB: u64 = 1 << 20;

    /// The budget of the container that the manifests ask for.
    fn budget() -> MemoryBudget {
        MemoryBudget::new(Some(256 * MIB), 10_000)
    }

    #[test]
    fn without_a_limit_only_those_who_are_held_are_restricted() {
        let mut budget = MemoryBudget::new(None, 100_000);
        assert_eq!(budget.buffer_sizes(50_000, false), BufferSizes::default());
        let held = BufferSizes {
            received: Some(HELD_BYTES),
            unsent: None,
        };
        assert_eq!(budget.buffer_sizes(50_000, true), held);
        assert_eq!(budget.bulk_share(), None);
    }

    #[test]
    fn what_is_peeked_at_has_a_window_of_its_own_within_the_share() {
        let mut budget = MemoryBudget::new(None, 100_000);
        let sizes = budget.buffer_sizes_to_peek(50_000, 20_000);
        assert_eq!(sizes, BufferSizes::receiving(20_000));
        let mut budget = MemoryBudget::new(Some(30 * MIB), 1000);
        let received = budget.buffer_sizes_to_peek(1000, 20_000).received;
        assert_eq!(received, budget.buffer_sizes(1000, false).received);
    }

    #[test]
    fn held_connections_have_room_in_the_container_that_the_manifests_ask_for() {
        let mut budget = budget();
        let held: u64 = (0..10_000)
            .filter_map(|open| budget.buffer_sizes(open, true).received)
            .sum();
        assert!(
            FIXED_BYTES + 10_000 * SOCKETS_BYTES + held < 200 * MIB,
            "{held}"
        );
    }

    #[test]
    fn bulk_that_stalls_has_room_too_in_whatever_order_it_comes() {
        let mut budget = budget();
        let mut total = 0;
        for open in 0..2_000 {
            let received = budget.buffer_sizes(open, false).received;
            let received = received.unwrap_or(DEFAULT_BYTES);
            budget.bulk.insert(open);
            let share = budget.bulk_share().unwrap();
            // To be read from one side, at twice the share as the kernel doubles
            // it, and to be sent to the other.
            total += received.max(2 * share) + share;
        }
        assert!(
            FIXED_BYTES + 2_000 * SOCKETS_BYTES + total < 256 * MIB,
            "{total}"
        );
    }

    #[test]
    fn one_alone_has_as_much_as_it_needs() {
        let mut budget = budget();
        assert_eq!(budget.buffer_sizes(1, false), BufferSizes::default());
        assert!(budget.bulk_share().unwrap() > 4 * MIB);
    }

    #[test]
    fn a_number_that_goes_up_and_down_by_one_changes_nothing() {
        let mut budget = budget();
        let at = |budget: &mut MemoryBudget, open| budget.buffer_sizes(open, false).received;
        let many = at(&mut budget, 2048);
        assert!(many.is_some());
        assert_eq!(at(&mut budget, 2047), many);
        assert_eq!(at(&mut budget, 1030), many);
        assert!(at(&mut budget, 1020) > many);
    }

    #[test]
    fn the_number_of_connections_follows_from_the_limit() {
        for (label, limit, least, most) in [
            ("the manifests' limit", 256 * MIB, 10_000, 20_000),
            ("a small one", 64 * MIB, 2_000, 4_000),
            ("less than the program takes", 16 * MIB, 1, 1),
        ] {
            let connections = connections_within(limit);
            assert!(
                (least..=most).contains(&connections),
                "{label}: {connections}"
            );
        }
    }

    /// A client, and the server's side with that receive buffer.
    fn pair(receive_buffer: u64) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sizes = BufferSizes {
            received: Some(receive_buffer),
            unsent: None,
        };
        let socket = SockRef::from(&listener);
        sizes.apply(&socket, DEFAULT_BYTES).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        (client, server)
    }

    fn fill(mut client: &TcpStream) {
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 65536]).is_ok() {}
    }

    /// How many bytes wait to be read.
    fn queued(server: &TcpStream) -> u64 {
        server.peek(&mut vec![0; 1 << 20]).unwrap() as u64
    }

    #[test]
    fn of_who_is_held_no_more_is_taken() {
        let (client, server) = pair(HELD_BYTES);
        fill(&client);
        assert!(queued(&server) <= HELD_BYTES, "{}", queued(&server));
        let size = SockRef::from(&server).recv_buffer_size().unwrap();
        assert_eq!(size as u64, HELD_BYTES);
    }

    #[test]
    fn a_receive_buffer_grows_until_it_is_frozen() {
        const SHARE: u64 = 256 * 1024;
        let (mut client, mut server) = pair(HELD_BYTES);
        let mut budget = MemoryBudget::new(Some(1 << 40), 1);
        budget.room = Some(SHARE * BULK_PART);
        let mut bulk_share = BulkShare::default();
        let mut buffer = vec![0; 65536];
        let mut exchange =
            |rounds: usize, budget: &mut MemoryBudget, bulk_share: &mut BulkShare| {
                for _ in 0..rounds {
                    client.write_all(&[0; 16384]).unwrap();
                    server.read_exact(&mut buffer[..16384]).unwrap();
                    let sockets = [SockRef::from(&server), SockRef::from(&client)];
                    budget.fit(0, bulk_share, sockets.map(Some));
                }
                SockRef::from(&server).recv_buffer_size().unwrap() as u64
            };
        let grown = exchange(2000, &mut budget, &mut bulk_share);
        assert!(grown > HELD_BYTES, "{grown}");
        let size = exchange(2000, &mut budget, &mut bulk_share);
        assert!(size < 4 * SHARE, "{size}");
        assert_eq!(budget.bulk_connections(), 1);
        budget.return_share(0, bulk_share);
        assert_eq!(budget.bulk_connections(), 0);
    }

    #[test]
    fn each_bulk_connection_is_looked_at_once_in_a_while() {
        let mut budget = budget();
        budget.bulk = BTreeSet::from([3, 5, 9]);
        let seconds = |seconds: u64| Time::default() + Duration::from_secs(seconds);
        let looked_at = |budget: &mut MemoryBudget, now| {
            let next = || budget.next_check(now);
            std::iter::from_fn(next).collect::<Vec<_>>()
        };
        assert_eq!(budget.next_check(seconds(10)), Some(3));
        budget.bulk.remove(&5);
        budget.bulk.insert(4);
        assert_eq!(looked_at(&mut budget, seconds(10)), [4, 9]);
        assert_eq!(looked_at(&mut budget, seconds(10)), [0; 0]);
        assert_eq!(looked_at(&mut budget, seconds(11)), [3, 4, 9]);
    }
}
