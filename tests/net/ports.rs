//! Connections that the client ends first, and the local ports in TIME_WAIT that they leave towards
//! the pods.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::program::TEST_TIMEOUT;

use crate::fixture::{Fixture, listen};
use crate::loss::{read_pattern, write_pattern};
use crate::network::{Network, POD};

/// What a client asks for.
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

#[test]
fn six_hundred_clients_who_end_first_are_served_through_two_hundred_ports() {
    const PORTS: u16 = 200;
    const CLIENTS: usize = 600;
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &[POD], &[]);
    fixture.network.track_connections();
    let _pod = fixture.echo_at(POD);
    give_ports(&fixture, PORTS);
    let address = fixture.zpa.address();
    fixture.network.clients.enter(|| {
        for _ in 0..CLIENTS {
            let mut client = connect(address);
            client.write_all(REQUEST).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            assert_eq!(got, REQUEST);
        }
    });
    fixture.zpa.expect_log_times("finished", CLIENTS);
    assert_eq!(fixture.zpa.logged("dialling"), 0, "{}", fixture.zpa.log());
    // The kernel has ports left for those who connect elsewhere, as to the API server.
    let elsewhere = fixture.network.middle.enter(|| {
        let connects = (0..20).map(|_| TcpStream::connect(address));
        connects.collect::<io::Result<Vec<_>>>()
    });
    assert_eq!(elsewhere.unwrap().len(), 20);
}

/// Any packet may be lost: a SYN, a FIN, the last acknowledgement of a pod's FIN, so
/// that the pod still has the old connection when the port is used again.
#[test]
fn ports_that_are_used_again_lose_no_byte_under_loss_and_with_slow_readers() {
    const PORTS: u16 = 60;
    const WORKERS: usize = 6;
    const CLIENTS: usize = 240;
    const LEN: usize = 150_000;
    const ONE_IN: u32 = 50;
    let Some(network) = Network::new() else {
        return;
    };
    let settings = [("ZPA_CONNECT_TIMEOUT", "10s")];
    let pod = listen(&network);
    let fixture = Fixture::awake(network, &[POD], &settings);
    fixture.network.track_connections();
    give_ports(&fixture, PORTS);
    fixture.network.lose_one_packet_in(ONE_IN);
    let (address, next) = (fixture.zpa.address(), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| serve(&pod, CLIENTS, LEN));
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < CLIENTS {
                    fixture.network.clients.enter(|| visit(address, LEN));
                }
            });
        }
    });
    fixture.zpa.expect_log_times("finished", CLIENTS);
}

/// So many local ports for connections to pods. Those to the API server have theirs
/// from the usual range already.
fn give_ports(fixture: &Fixture, count: u16) {
    let range = format!("20001 {}", 20_000 + count);
    let range = ("ipv4/ip_local_port_range", range.as_str());
    fixture.network.middle.set(range).unwrap();
}

/// Serves so many connections: reads to the end, and answers with so many bytes.
fn serve(pod: &TcpListener, connections: usize, len: usize) {
    thread::scope(|scope| {
        for _ in 0..connections {
            let (mut server, _) = pod.accept().unwrap();
            server.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            server.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
            scope.spawn(move || {
                let mut got = Vec::new();
                server.read_to_end(&mut got).unwrap();
                assert_eq!(got, REQUEST);
                write_pattern(&server, len, 1);
            });
        }
    });
}

/// Asks, ends its side, and then takes its time to read the answer.
fn visit(address: SocketAddr, len: usize) {
    let client = connect(address);
    (&client).write_all(REQUEST).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // It is about a reader whose window is shut for a while, not about when.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(read_pattern(&client, 1), (len, None));
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    client.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    client
}
