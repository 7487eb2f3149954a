//! Packets that are lost on the way, so that everything takes longer and comes
//! in other pieces.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use support::program::TEST_TIMEOUT;
use support::streams::read_some;
use zpa::sys::unacknowledged;

use crate::fixture::{Fixture, listen};
use crate::network::{Network, POD};
use crate::resets::reset;
use crate::until;

/// One packet in so many is lost, each way.
const ONE_IN: u32 = 20;

#[test]
fn megabytes_each_way_and_a_half_close_arrive_byte_by_byte() {
    const LEN: usize = 8 << 20;
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    fixture.network.lose_one_in(ONE_IN);
    let (client, server) = fixture.pair(&pod);
    thread::scope(|scope| {
        for (stream, seed) in [(&client, 1), (&server, 2)] {
            scope.spawn(move || {
                write_pattern(stream, LEN, seed);
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
        for (stream, seed) in [(&client, 2), (&server, 1)] {
            scope.spawn(move || {
                assert_eq!(read_pattern(stream, seed), (LEN, None));
            });
        }
    });
    fixture.zpa.expect_log_times("finished", 1);
}

/// A reset makes the kernel that sends it forget what has to be sent again.
#[test]
fn what_a_pod_sends_before_it_resets_arrives_before_the_reset() {
    const LEN: usize = 200_000;
    const PAIRS: usize = 20;
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let pairs: Vec<_> = (0..PAIRS).map(|_| fixture.pair(&pod)).collect();
    fixture.network.lose_one_in(ONE_IN);
    thread::scope(|scope| {
        for (client, server) in pairs {
            scope.spawn(move || {
                write_pattern(&server, LEN, 3);
                until(TEST_TIMEOUT, "zpa has it all", || {
                    unacknowledged(&server).unwrap() == 0
                });
                reset(server);
            });
            scope.spawn(move || {
                let reset = Some(ErrorKind::ConnectionReset);
                assert_eq!(read_pattern(&client, 3), (LEN, reset));
            });
        }
    });
}

/// Byte `at` of the stream with that seed.
fn byte(at: usize, seed: usize) -> u8 {
    (at * 7 + seed) as u8
}

/// Writes so many bytes of the stream with that seed.
pub fn write_pattern(mut stream: &TcpStream, len: usize, seed: usize) {
    let bytes: Vec<u8> = (0..len).map(|at| byte(at, seed)).collect();
    stream.write_all(&bytes).unwrap();
}

/// Reads to the end; returns how many bytes came, and the error if it is one.
pub fn read_pattern(stream: &TcpStream, seed: usize) -> (usize, Option<ErrorKind>) {
    let (mut len, mut buffer) = (0, [0; 65_536]);
    loop {
        match read_some(stream, &mut buffer) {
            Ok(0) => return (len, None),
            Ok(more) => {
                let right = |n: usize| buffer[n] == byte(len + n, seed);
                assert!((0..more).all(right), "a byte is wrong after {len}");
                len += more;
            }
            Err(e) => return (len, Some(e.kind())),
        }
    }
}
