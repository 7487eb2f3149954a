//! The clients: every kind of use. The app is an echo server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::AddAssign;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use zpa::backoff::Random;

use crate::TEST_TIMEOUT;

/// How many clients there are at a time.
const CLIENTS: usize = 24;

/// A connection that takes nothing for so long is stalled.
const MOMENT: Duration = Duration::from_millis(100);

/// The clients of one round.
pub struct Clients {
    pub address: SocketAddr,
    /// When to begin no new connection.
    pub until: Instant,
    /// Whether pods may reset connections.
    pub rough: bool,
}

/// What was done.
#[derive(Default)]
pub struct Counts {
    pub connections: u64,
    /// Those that a pod has broken off.
    pub broken: u64,
    /// Bytes that came back as they were sent.
    pub bytes: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.connections += other.connections;
        self.broken += other.broken;
        self.bytes += other.bytes;
    }
}

impl Clients {
    /// Connects, speaks and leaves, many at a time.
    pub fn play(&self, random: &mut Random) -> Counts {
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| random.bits()).collect();
        thread::scope(|scope| {
            let clients: Vec<_> = seeds
                .into_iter()
                .map(|seed| scope.spawn(move || self.come_and_go(Random::new(seed))))
                .collect();
            let mut all = Counts::default();
            for client in clients {
                all += client.join().expect("every byte is right");
            }
            all
        })
    }

    fn come_and_go(&self, mut random: Random) -> Counts {
        let mut counts = Counts::default();
        while Instant::now() < self.until {
            let mut visit = Visit::begin(self.address, random.clone());
            counts.connections += 1;
            match visit.go() {
                Ok(()) => {}
                Err(e) if self.rough && is_reset(&e) => counts.broken += 1,
                Err(e) => panic!("nothing excuses this: {visit:?}: {e:?}"),
            }
            counts.bytes += visit.verified as u64;
            random = visit.random;
        }
        counts
    }
}

/// A pod that breaks off shows as a reset; never as an orderly end.
fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // The last is what shutdown(2) says to it.
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected
    )
}

/// One connection.
#[derive(Debug)]
struct Visit {
    /// What the client does.
    kind: u64,
    stream: TcpStream,
    random: Random,
    written: usize,
    verified: usize,
}

impl Visit {
    fn begin(address: SocketAddr, random: Random) -> Visit {
        let stream = TcpStream::connect(address).expect("zpa accepts");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        Visit {
            kind: 0,
            stream,
            random,
            written: 0,
            verified: 0,
        }
    }

    fn go(&mut self) -> io::Result<()> {
        self.kind = self.choose(13);
        match self.kind {
            0..3 => self.chat(),
            3 => self.ask_once(),
            4 => self.stay_silent(),
            5 => self.send_much(Duration::ZERO, Duration::ZERO),
            6 => self.send_much(Duration::ZERO, Duration::from_millis(2)),
            7 => self.leave_in_the_middle(),
            8 => self.leave_at_once(),
            9 => self.leave_soon(),
            10 => self.stall(),
            11 => self.leave_stalled(),
            _ => self.leave_after_a_half_close(),
        }
    }

    /// A number from 0 to below `end`.
    fn choose(&mut self, end: u64) -> u64 {
        self.random.bits() % end
    }

    /// Messages there and back, and one of three ends.
    fn chat(&mut self) -> io::Result<()> {
        for _ in 0..self.choose(20) {
            let len = self.choose(2000) as usize + 1;
            self.write(len)?;
            self.read(len)?;
        }
        match self.choose(3) {
            0 => self.end_in_order(),
            1 => {
                self.will_reset();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A request that ends with its half-close, as it may while it is held.
    fn ask_once(&mut self) -> io::Result<()> {
        self.write(100)?;
        self.stream.shutdown(Shutdown::Write)?;
        self.read(100)?;
        self.expect_end()
    }

    fn stay_silent(&mut self) -> io::Result<()> {
        thread::sleep(Duration::from_millis(self.choose(800)));
        self.write(1)?;
        self.read(1)?;
        self.end_in_order()
    }

    /// A reader that takes nothing for a while, and then all.
    fn stall(&mut self) -> io::Result<()> {
        let stall = Duration::from_millis(self.choose(1000));
        self.send_much(stall, Duration::ZERO)
    }

    /// Bytes both ways at the same time, which are read after a stall and with
    /// pauses: a slow reader.
    fn send_much(&mut self, stall: Duration, pause: Duration) -> io::Result<()> {
        let len = (256 << 10) + self.choose(1 << 20) as usize;
        let writer = self.stream.try_clone()?;
        thread::scope(|scope| {
            let writing = scope.spawn(move || {
                write_pattern(&writer, 0, len)?;
                writer.shutdown(Shutdown::Write)
            });
            thread::sleep(stall);
            while self.verified < len {
                self.read(16_384.min(len - self.verified))?;
                thread::sleep(pause);
            }
            writing.join().expect("a thread that does not panic")?;
            self.expect_end()
        })
    }

    /// Sends and takes some, and resets.
    fn leave_in_the_middle(&mut self) -> io::Result<()> {
        let len = self.choose(300_000) as usize;
        self.will_reset();
        // More than the way there holds would wait for what is never read.
        self.write(len.min(60_000))?;
        let some = self.choose(len.min(60_000) as u64 + 1) as usize;
        self.read(some)
    }

    /// Speaks, waits a little, and resets, however far it has come.
    fn leave_soon(&mut self) -> io::Result<()> {
        self.will_reset();
        self.write(100)?;
        thread::sleep(Duration::from_millis(self.choose(300)));
        Ok(())
    }

    /// Sends until nothing more is taken, reads nothing, and resets.
    fn leave_stalled(&mut self) -> io::Result<()> {
        const MAX_BYTES: usize = 8 << 20;
        self.will_reset();
        let pause = Duration::from_millis(self.choose(200));
        self.stream.set_write_timeout(Some(MOMENT + pause))?;
        while self.written < MAX_BYTES {
            match self.write(65_536) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    fn leave_at_once(&mut self) -> io::Result<()> {
        if self.choose(2) == 0 {
            self.will_reset();
        }
        Ok(())
    }

    /// Sends its FIN, and then resets without waiting for the reply.
    fn leave_after_a_half_close(&mut self) -> io::Result<()> {
        self.write(10_000)?;
        self.stream.shutdown(Shutdown::Write)?;
        self.will_reset();
        Ok(())
    }

    fn end_in_order(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.expect_end()
    }

    /// The drop of the stream is going to send an RST.
    fn will_reset(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn write(&mut self, len: usize) -> io::Result<()> {
        write_pattern(&self.stream, self.written, len)?;
        self.written += len;
        Ok(())
    }

    fn read(&mut self, len: usize) -> io::Result<()> {
        let mut got = vec![0; len];
        self.stream.read_exact(&mut got)?;
        let right = |(n, &got): (usize, &u8)| got == byte(self.verified + n);
        assert!(got.iter().enumerate().all(right), "a byte is wrong");
        self.verified += len;
        Ok(())
    }

    fn expect_end(&mut self) -> io::Result<()> {
        // Unlike a read it goes on after an interruption.
        let len = self.stream.read_to_end(&mut Vec::new())?;
        assert_eq!(len, 0, "bytes that nobody has sent");
        Ok(())
    }
}

/// Byte `at` of every stream.
fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

fn write_pattern(mut stream: &TcpStream, from: usize, len: usize) -> io::Result<()> {
    let bytes: Vec<u8> = (from..from + len).map(byte).collect();
    stream.write_all(&bytes)
}
