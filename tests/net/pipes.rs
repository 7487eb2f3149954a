//! The pipes of bulk, against the kernel's limit of pipes for a user, which all containers of a
//! node share that run as the same user.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::fixture::{Fixture, listen};
use crate::network::{Network, POD};
use crate::until;

#[test]
fn pipes_are_given_back_within_two_minutes_of_bulk_and_taken_again_for_more() {
    let Some(network) = Network::for_minutes() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let pipe_ends = || fixture.process().pipe_ends().unwrap();
    let (client, server) = fixture.pair(&pod);
    fixture.settle();
    let before = pipe_ends();
    transfer(&server, &client);
    assert!(pipe_ends() > before, "bulk is spliced");
    until(Duration::from_secs(150), "they are closed", || {
        pipe_ends() == before
    });
    transfer(&server, &client);
    assert!(pipe_ends() > before, "and it is spliced again");
}

/// Moves so much that it is bulk.
fn transfer(mut from: &TcpStream, mut to: &TcpStream) {
    const LEN: usize = 16 << 20;
    thread::scope(|scope| {
        scope.spawn(move || from.write_all(&vec![7; LEN]).unwrap());
        let mut received = vec![0; LEN];
        to.read_exact(&mut received).unwrap();
        assert!(received.iter().all(|&byte| byte == 7));
    });
}
