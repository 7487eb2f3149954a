//! The memory budget: how much may wait in the kernel's queues of the sockets.
//!
//! What waits there is charged to the container that the socket belongs to, and
//! beyond the container's limit (`memory.max` of cgroup v2) a process is killed. By
//! default a socket takes 128 KiB before anybody reads, and bulk makes the kernel
//! raise that to 6 MiB to be read and 4 MiB to be sent (`tcp_rmem` and `tcp_wmem`,
//! tcp(7)). So
//!
//! - whoever is *held* may send 16 KiB in advance. The window scale is that of any
//!   socket, and once somebody reads the kernel raises the buffer as ever.
//!   [`MemoryBudget::queues`]
//! - with a limit, each queue of a new connection gets its share of the room, by the
//!   number of those that are open.
//! - with a limit, *bulk* gets its share of a part of the room, by the number of
//!   bulk connections: where the kernel has raised a receive buffer beyond that, it
//!   is frozen, and no more is written than that beyond what the peer can take
//!   (`TCP_NOTSENT_LOWAT`). [`MemoryBudget::fit`]
//!
//! The share of the n-th is 1/n, so that all shares together grow with the logarithm
//! of their number, also if each was given when there were as few as never since.
//! Without a limit nothing is asked of the kernel on the way of a connection.

use std::io;

use log::debug;
use socket2::{SockRef, Socket};

use crate::sys;

/// The receive buffer of a connection that is held, in bytes of the kernel's memory;
/// half of that is window.
const HELD_BYTES: u64 = 16 * 1024;

/// The least receive buffer, in bytes: below it the kernel sets its own least one.
const LEAST_BYTES: u64 = 8 * 1024;

/// The receive buffer that a socket has at first where nobody has changed the kernel's
/// defaults (`tcp_rmem`, tcp(7)).
const DEFAULT_BYTES: u64 = 128 * 1024;

/// The most that a share is good for: the kernel's own limits are lower.
const MOST_BYTES: u64 = 1 << 30;

/// What the process takes beside its connections, in bytes: its own ceiling, its
/// program, and what the kernel keeps for it.
const FIXED_BYTES: u64 = 24 << 20;

/// What the kernel takes for the two sockets of a connection whose queues are empty,
/// in bytes: sockets, files and their place in epoll. The bench measures it (`idle`).
const OBJECT_BYTES: u64 = 8 * 1024;

/// What a connection takes at least that has something in its queues, in bytes.
const CONNECTION_BYTES: u64 = OBJECT_BYTES + LEAST_BYTES;

/// The part of the room that bulk shares.
const BULK_PART: u64 = 32;

/// How many queues a connection has: to be read and to be sent, of both its sockets.
const QUEUES: u64 = 4;

/// How many connections have room within `limit` bytes, each with something in its
/// queues.
pub fn connections_within(limit: u64) -> usize {
    let connections = limit.saturating_sub(FIXED_BYTES) / CONNECTION_BYTES;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

/// The budget, and who has a share of it.
#[derive(Debug)]
pub struct MemoryBudget {
    /// How many bytes the queues of all sockets may hold, if that is limited.
    room: Option<u64>,
    /// For how many open connections it is divided: a power of two.
    level: usize,
    /// How many connections move bulk, or have moved it.
    bulk: usize,
}

/// How much may wait in a new socket, in bytes; `None` for what the kernel sees fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// To be read: the receive buffer at first.
    received: Option<u64>,
    /// To be sent, beyond what the peer can take.
    unsent: Option<u64>,
}

/// What a connection has been given of the budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grant {
    /// It counts as one that moves bulk.
    is_bulk: bool,
    /// The receive buffers that are frozen: the client's and the backend's.
    frozen: [bool; 2],
    /// The logarithm of the share that was last set.
    share: u8,
}

impl MemoryBudget {
    /// The budget of so many connections within `limit` bytes.
    pub fn new(limit: Option<u64>, connections: usize) -> Self {
        let objects = OBJECT_BYTES.saturating_mul(connections as u64);
        let taken = FIXED_BYTES.saturating_add(objects);
        MemoryBudget {
            room: limit.map(|limit| limit.saturating_sub(taken)),
            level: 1,
            bulk: 0,
        }
    }

    /// How much may wait in the next socket. `held`: nobody is going to read from it
    /// for now.
    pub fn queues(&mut self, open: usize, held: bool) -> Queues {
        let share = self.room.map(|room| {
            self.set_level(open);
            (room / QUEUES / self.level as u64).clamp(LEAST_BYTES, MOST_BYTES)
        });
        let share = share.filter(|&share| share < DEFAULT_BYTES);
        let held = held.then_some(HELD_BYTES);
        Queues {
            received: share.into_iter().chain(held).min(),
            unsent: share,
        }
    }

    /// Follows the number of open connections, down not before it is a quarter: a
    /// number that goes up and down by one changes nothing.
    fn set_level(&mut self, open: usize) {
        if open >= self.level || open < self.level / 4 {
            self.level = (open + 1).next_power_of_two();
        }
    }

    /// The share of each connection that moves bulk, for each of its queues.
    fn bulk_share(&self) -> Option<u64> {
        let share = self.room? / BULK_PART / self.bulk.max(1) as u64;
        Some(share.clamp(LEAST_BYTES, MOST_BYTES))
    }

    /// Keeps a connection that moves bulk within its share.
    pub fn fit(&mut self, grant: &mut Grant, sockets: [Option<SockRef<'_>>; 2]) {
        if self.room.is_none() {
            return;
        }
        if !grant.is_bulk {
            grant.is_bulk = true;
            self.bulk += 1;
        }
        let Some(share) = self.bulk_share() else {
            return;
        };
        for (socket, frozen) in sockets.iter().flatten().zip(&mut grant.frozen) {
            // A socket that is beyond all options is about to be closed.
            if let Err(why) = fit_receive_buffer(socket, share, frozen) {
                debug!("a receive buffer keeps its size: {why}");
            }
        }
        let logarithm = share.ilog2() as u8;
        if grant.share != logarithm {
            grant.share = logarithm;
            for socket in sockets.iter().flatten() {
                let _ = socket.set_tcp_notsent_lowat(share as u32);
            }
        }
    }

    /// The connection is closed.
    pub fn release(&mut self, grant: Grant) {
        self.bulk -= usize::from(grant.is_bulk);
    }
}

/// Freezes a receive buffer that the kernel has raised beyond `share`, at most twice
/// as far, and lets one grow again that is far below.
///
/// One that is shrunk may have to drop what is on its way to it, which is sent again:
/// once, as it is about to be emptied and never grows so far again.
fn fit_receive_buffer(socket: &Socket, share: u64, frozen: &mut bool) -> io::Result<()> {
    let bytes = socket.recv_buffer_size()? as u64;
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

impl Queues {
    /// At first `bytes` may wait to be read: twice as much memory.
    pub fn receiving(bytes: usize) -> Queues {
        Queues {
            received: Some(2 * bytes as u64),
            unsent: None,
        }
    }

    /// Has a socket keep to this, or one that listens those that it accepts. Once
    /// somebody reads the kernel raises the receive buffer as ever.
    ///
    /// # Errors
    /// The kernel cannot do that: `SO_BUF_LOCK` is unknown before Linux 5.14. The
    /// receive buffer is left alone then, as a size that is set stays for good there.
    pub fn apply(self, socket: &Socket, default_buffer: u64) -> io::Result<()> {
        // To be sent: zero is the kernel's default.
        socket.set_tcp_notsent_lowat(self.unsent.unwrap_or(0) as u32)?;
        sys::freeze_receive_buffer(socket, false)?;
        let received = self.received.unwrap_or(default_buffer).min(default_buffer);
        // The kernel doubles what it is told (socket(7), SO_RCVBUF).
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
        assert_eq!(budget.queues(50_000, false), Queues::default());
        let held = Queues {
            received: Some(HELD_BYTES),
            unsent: None,
        };
        assert_eq!(budget.queues(50_000, true), held);
        assert_eq!(budget.bulk_share(), None);
    }

    #[test]
    fn held_connections_have_room_in_the_container_that_the_manifests_ask_for() {
        let mut budget = budget();
        let held: u64 = (0..10_000)
            .filter_map(|open| budget.queues(open, true).received)
            .sum();
        assert!(
            FIXED_BYTES + 10_000 * OBJECT_BYTES + held < 200 * MIB,
            "{held}"
        );
    }

    #[test]
    fn bulk_that_stalls_has_room_too_in_whatever_order_it_comes() {
        let mut budget = budget();
        let mut total = 0;
        for open in 0..2_000 {
            let received = budget.queues(open, false).received;
            let received = received.unwrap_or(DEFAULT_BYTES);
            budget.bulk += 1;
            let share = budget.bulk_share().unwrap();
            // To be read from one side, at twice the share as the kernel doubles
            // it, and to be sent to the other.
            total += received.max(2 * share) + share;
        }
        assert!(
            FIXED_BYTES + 2_000 * OBJECT_BYTES + total < 256 * MIB,
            "{total}"
        );
    }

    #[test]
    fn one_alone_has_as_much_as_it_needs() {
        let mut budget = budget();
        assert_eq!(budget.queues(1, false), Queues::default());
        assert!(budget.bulk_share().unwrap() > 4 * MIB);
    }

    #[test]
    fn a_number_that_goes_up_and_down_by_one_changes_nothing() {
        let mut budget = budget();
        let at = |budget: &mut MemoryBudget, open| budget.queues(open, false).received;
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
        let queues = Queues {
            received: Some(receive_buffer),
            unsent: None,
        };
        let socket = SockRef::from(&listener);
        queues.apply(&socket, DEFAULT_BYTES).unwrap();
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
        let mut grant = Grant::default();
        let mut buffer = vec![0; 65536];
        let mut exchange = |rounds: usize, budget: &mut MemoryBudget, grant: &mut Grant| {
            for _ in 0..rounds {
                client.write_all(&[0; 16384]).unwrap();
                server.read_exact(&mut buffer[..16384]).unwrap();
                let sockets = [SockRef::from(&server), SockRef::from(&client)];
                budget.fit(grant, sockets.map(Some));
            }
            SockRef::from(&server).recv_buffer_size().unwrap() as u64
        };
        let grown = exchange(2000, &mut budget, &mut grant);
        assert!(grown > HELD_BYTES, "{grown}");
        let size = exchange(2000, &mut budget, &mut grant);
        assert!(size < 4 * SHARE, "{size}");
        assert_eq!(budget.bulk, 1);
        budget.release(grant);
        assert_eq!(budget.bulk, 0);
    }
}
