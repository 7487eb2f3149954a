//! The choice of pods, and addresses that lead back to the proxy.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use support::sandbox::Endpoint;
use support::streams::read_some;

use crate::echo;
use crate::fixture::Fixture;
use crate::network::{MIDDLE, Network, OTHER_POD, POD, THIRD_POD};

#[test]
fn clients_who_come_one_after_the_other_are_spread_evenly() {
    const EACH: usize = 20;
    let pods = [POD, OTHER_POD, THIRD_POD];
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &pods, &[]);
    let _servers = pods.map(|pod| fixture.echo_at(pod));
    for visit in 1..=EACH * pods.len() {
        echo(&mut fixture.connect(), "hello");
        // The next one finds that this one has left.
        fixture.zpa.expect_log_times("finished", visit);
    }
    for pod in pods {
        let served = format!("relaying to {pod}:80");
        fixture.zpa.expect_logged(&served, EACH);
    }
}

/// Where a Service is given the name that the app's had, its endpoints are the proxy.
#[test]
fn an_address_of_our_own_is_not_dialled_through_to_ourselves() {
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &[], &[]);
    list(&fixture, SocketAddr::from((MIDDLE, 8080)));
    let mut client = fixture.connect();
    client.write_all(b"anybody there?").unwrap();
    fixture.zpa.expect_log("leads back to this proxy");
    // A pod that joins serves it, and in all that time nobody else has come.
    let _pod = fixture.echo_at(POD);
    fixture.publish(&[POD]);
    crate::expect(&mut client, b"anybody there?");
    fixture.zpa.expect_logged("accepted from", 1);
}

/// Where nobody listens at an address of this machine, and its port is one that the
/// kernel gives to those who connect, a socket may be connected to itself.
#[test]
fn a_socket_that_is_connected_to_itself_serves_nobody() {
    const PORT: u16 = 50_000;
    let Some(network) = Network::new() else {
        return;
    };
    let fixture = Fixture::awake(network, &[], &[]);
    // Few enough for the kernel to come upon that port soon, and enough for those who
    // connect to the API server.
    let range = format!("{PORT} {}", PORT + 7);
    let range = ("ipv4/ip_local_port_range", range.as_str());
    fixture.network.middle.set(range).unwrap();
    list(
        &fixture,
        SocketAddr::from((Ipv4Addr::new(10, 0, 1, 1), PORT)),
    );
    let mut client = fixture.connect();
    client.write_all(b"echo?").unwrap();
    fixture.zpa.expect_log("was connected to itself (");
    let timeout = Some(Duration::from_millis(100));
    client.set_read_timeout(timeout).unwrap();
    let got = read_some(&client, &mut [0; 16]).map_err(|e| e.kind());
    assert_eq!(got, Err(ErrorKind::WouldBlock), "its own bytes");
    assert_eq!(fixture.zpa.logged("relaying"), 0, "{}", fixture.zpa.log());
}

/// Lists one pod at that address.
fn list(fixture: &Fixture, address: SocketAddr) {
    let pod = Endpoint::ready("pod-of-another-kind", address);
    fixture.sandbox.publish_slice("elsewhere", "IPv4", &[pod]);
}
