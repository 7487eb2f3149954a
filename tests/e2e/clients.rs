//! The rules about clients, through the real binary.

use super::*;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A client that connects from `source`, an address of the loopback network.
pub fn connect_from(zpa: &Zpa, source: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&zpa.address().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn an_ignored_client_wakes_nothing_is_served_while_awake_and_keeps_nothing_awake() {
    let sandbox = asleep();
    let ignored = ("ZPA_IGNORE_SOURCES", "127.0.0.2");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ignored]);
    settle_asleep(&sandbox, &zpa);
    let mut check = connect_from(&zpa, [127, 0, 0, 2]);
    let closed = check.read(&mut [0]).unwrap();
    assert_eq!((closed, patches(&sandbox, 1)), (0, 0), "asleep: closed");
    let mut client = zpa.connect();
    echo(&mut client, "good morning");
    let mut check = connect_from(&zpa, [127, 0, 0, 2]);
    echo(&mut check, "well?");
    drop(client);
    zpa.expect_log("scaled to 0 after");
    let mut rest = Vec::new();
    let _cut = check.read_to_end(&mut rest);
    assert_eq!(rest, b"", "it was open, and the app sleeps all the same");
    expect_one_patch(&sandbox, 0);
}

#[test]
fn a_denied_client_is_reset() {
    let sandbox = awake();
    let denied = ("ZPA_DENY_SOURCES", "127.0.0.2,127.0.0.64/26");
    let zpa = start_zpa(&sandbox, &[LONG_TTL, denied]);
    for source in [[127, 0, 0, 2], [127, 0, 0, 127]] {
        expect_reset(&mut connect_from(&zpa, source));
    }
    echo(&mut connect_from(&zpa, [127, 0, 0, 128]), "let in");
}

#[test]
fn a_silent_connection_does_not_keep_the_app_awake_and_is_closed_when_it_sleeps() {
    let sandbox = awake();
    let silent = ("ZPA_SILENT_AFTER", "500ms");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, silent]);
    let mut client = zpa.connect();
    echo(&mut client, "only this");
    zpa.expect_log("scaled to 0 after");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an end in order");
    assert_eq!(rest, b"");
    expect_one_patch(&sandbox, 0);
    let mut client = zpa.connect();
    echo(&mut client, "it wakes again");
}
