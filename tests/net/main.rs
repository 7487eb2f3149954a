//! The real `zpa` on a network on which packets can vanish, and with many clients.
//!
//! Every promise about faults of the network, and where it is shown:
//!
//! | promise | here | elsewhere |
//! |---|---|---|
//! | 10,000 connections while asleep are one write, bounded memory, in order | `many` | |
//! | a client that resets while it is held frees its slot at once | | `engine`, `e2e::walkthroughs` |
//! | a client that half-closes while it is held is served | | `engine`, `e2e::walkthroughs` |
//! | a pod that is ready but refuses, a Service that is not routed yet: pauses that grow | `vanishing` | `engine`, `e2e::walkthroughs` |
//! | an address that swallows SYNs is followed by the next, and the first client alone pays | `vanishing` | `engine` |
//! | those who come one after the other are spread evenly over the pods | `balancing` | `engine::balancer` |
//! | an address of our own, a socket connected to itself: refused and logged | `balancing` | |
//! | clients who end first use up no ports, and nothing is lost by that | `ports` | |
//! | a pod that dies before any byte is replaced | | `engine`, `e2e::walkthroughs` |
//! | a pod that dies with the client's bytes is not replaced | `resets`, `vanishing` | `engine` |
//! | what a pod sends before its reset arrives, however slowly | `loss` | `engine` |
//! | 50 MiB and a half-close each way | `loss` | `engine` |
//! | a half-closed peer that vanishes or resets is given up | `vanishing`, `resets` | |
//! | a slow reader fills bounded buffers, and others are served beside it | `many` | `engine` |
//! | when both write and neither reads nothing grows | `many` | `engine` |
//! | a peer that vanishes is given up, and the app may sleep | `vanishing` | |
//! | so is one that owes an acknowledgement | `vanishing` | |
//! | without descriptors nothing spins, and it recovers by itself | `exhaustion` | |
//! | beyond the connection limit clients wait and none is killed | `exhaustion` | `engine` |
//! | an accepted client for whose pod there is no descriptor, or no port, waits | `exhaustion` | |
//! | a SIGTERM under traffic costs nobody a byte | `ending` | `e2e::faults` |
//! | a target by name is dialled whatever a name server says of IPv6 | `resolver` | |
//! | what waits in sockets kills nobody within the limit of a container | `container`, in `make vm` | `engine` |
//! | pipes are given back when there is no bulk | `pipes` | `engine::buffers` |
//! | 500 apps that sleep make no more than 60 requests a minute | `fleet` | `policy`, the benches |
//! | an idle connection costs two descriptors, 300 bytes and no wake-up | `idle` | the benches |
//!
//! The networks are namespaces, which take root; a test that gets none prints that it is
//! skipped. `make net` runs them with those that take minutes, because that
//! is how long the kernel waits before it gives up a peer.

mod balancing;
mod container;
mod ending;
mod exhaustion;
mod fixture;
mod fleet;
mod idle;
mod loss;
mod many;
mod network;
mod open_files;
mod pipes;
mod ports;
mod resets;
mod resolver;
mod vanishing;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Sends a text through an echo server and expects it back.
#[track_caller]
fn echo(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    expect(stream, text.as_bytes());
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

/// Waits until `over`.
#[track_caller]
fn until(limit: Duration, what: &str, mut over: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !over() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
