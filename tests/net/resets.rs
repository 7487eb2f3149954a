//! Resets at critical moments.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use support::program::TEST_TIMEOUT;
use support::streams::read_some;

use crate::fixture::{Fixture, listen};
use crate::network::{Network, POD};
use crate::until;

#[test]
fn a_client_that_resets_after_it_has_half_closed_takes_the_pods_side_with_it() {
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (client, server) = fixture.pair(&pod);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_some(&server, &mut [0]).unwrap(), 0);
    reset(client);
    expect_reset(&server, TEST_TIMEOUT);
    fixture.zpa.expect_log("client/relaying: reset or gone");
}

#[test]
fn a_pod_that_resets_after_it_has_half_closed_takes_the_clients_side_with_it() {
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (client, server) = fixture.pair(&pod);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_some(&client, &mut [0]).unwrap(), 0);
    reset(server);
    expect_reset(&client, TEST_TIMEOUT);
    fixture.zpa.expect_log("backend/relaying: reset or gone");
}

/// A write that fails takes the error of the socket with it, and what a read
/// finds afterwards looks like an orderly end.
#[test]
fn a_pod_that_resets_while_the_client_speaks_does_not_look_as_if_it_had_finished() {
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (mut client, server) = fixture.pair(&pod);
    while_it_stands_still(&fixture, || {
        client.write_all(b"more").unwrap();
        reset(server);
    });
    let end = read_some(&client, &mut [0; 16]).map_err(|e| e.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_client_that_resets_while_the_pod_speaks_does_not_look_as_if_it_had_finished() {
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (client, mut server) = fixture.pair(&pod);
    while_it_stands_still(&fixture, || {
        server.write_all(b"more").unwrap();
        reset(client);
    });
    let end = read_some(&server, &mut [0; 16]).map_err(|e| e.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

/// What is owed to a peer that is there keeps a connection for a minute; one
/// that is gone as well is owed nothing.
#[test]
fn a_pod_that_resets_while_it_owes_acknowledgements_to_a_client_that_has_reset_is_let_go() {
    let Some(network) = Network::new() else {
        return;
    };
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &[]);
    let (mut other_client, mut other_server) = fixture.pair(&pod);
    SockRef::from(&pod).set_recv_buffer_size(2048).unwrap();
    let (mut client, server) = fixture.pair(&pod);
    client.write_all(&[7; 10_000]).unwrap();
    reset(client);
    // By the time that this is through, the reset has arrived.
    other_client.write_all(b"?").unwrap();
    other_server.read_exact(&mut [0]).unwrap();
    reset(server);
    fixture.zpa.expect_log("client/relaying: reset or gone");
}

/// Does `work` in such a way that `zpa` finds all of it at once, in that order.
pub fn while_it_stands_still(fixture: &Fixture, work: impl FnOnce()) {
    fixture.zpa.signal("STOP");
    until(TEST_TIMEOUT, "it stands still", || {
        let status = fs::read_to_string(format!("/proc/{}/stat", fixture.zpa.id())).unwrap();
        status.contains(") T ")
    });
    work();
    fixture.zpa.signal("CONT");
}

/// Closes with an RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Waits until the connection is reset. Whoever has had a FIN before reads no
/// error any more, but the socket has one.
#[track_caller]
pub fn expect_reset(stream: &TcpStream, limit: Duration) {
    until(limit, "it is reset", || {
        let error = stream.take_error().unwrap().map(|e| e.kind());
        // The second is what a reset is called after a FIN.
        assert!(matches!(
            error,
            None | Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        ));
        error.is_some()
    });
}
