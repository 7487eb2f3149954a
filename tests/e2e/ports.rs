//! Several ports of one app.

use super::*;
use std::net::SocketAddr;

use serde_json::Value;
use support::sandbox::{OtherPort, PodProgram};

/// An app that also has a database port, at which it sends a hundred bytes.
fn with_database(replicas: u32) -> Sandbox {
    Sandbox::start(Options {
        replicas,
        other_ports: vec![OtherPort {
            name: "postgres",
            number: 5432,
            app: PodProgram::Source(100),
        }],
        ..Options::default()
    })
}

/// What `/status` says of the port of that name.
fn port(zpa: &Zpa, name: &str) -> Value {
    let status = zpa.status();
    let ports = status["ports"].as_array().unwrap();
    let found = ports.iter().find(|port| port["name"] == name);
    found
        .unwrap_or_else(|| panic!("{name} in {status}"))
        .clone()
}

fn address(zpa: &Zpa, name: &str) -> SocketAddr {
    port(zpa, name)["listen"].as_str().unwrap().parse().unwrap()
}

fn expect_a_hundred_bytes(mut client: TcpStream) {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 100);
}

#[test]
fn each_listener_leads_to_its_port_and_all_keep_the_app_awake_through_a_sleep_and_a_wake() {
    let sandbox = with_database(0);
    let listen = ("ZPA_LISTEN", "127.0.0.1:0=http,127.0.0.1:0=5432");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, listen]);
    settle_asleep(&sandbox, &zpa);
    let database = address(&zpa, "5432");
    assert_ne!(database, zpa.address());
    // A wake by the second port, and the first one served as well.
    expect_a_hundred_bytes(zpa.connect_to(database));
    let mut client = zpa.connect();
    echo(&mut client, "through the first");
    expect_one_patch(&sandbox, 1);
    expect_metrics(
        &zpa,
        &[
            ("zpa_connections_total{port=\"http\"}", 1.0),
            ("zpa_connections_total{port=\"5432\"}", 1.0),
            ("zpa_connections_total{app=\"default/myapp\"}", 2.0),
            ("zpa_backends{port=\"5432\"}", 1.0),
            ("zpa_wakes_total", 1.0),
        ],
    );
    assert_eq!(port(&zpa, "http")["open"], 1);
    drop(client);
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
    // And a wake by the first.
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
    echo(&mut zpa.connect(), "awake again");
    assert_eq!(patches(&sandbox, 1), 2);
}

#[test]
fn one_connection_at_any_port_keeps_the_app_awake() {
    let sandbox = with_database(1);
    let listen = ("ZPA_LISTEN", "127.0.0.1:0=5432,127.0.0.1:0=http");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, listen]);
    zpa.expect_ready();
    let mut kept = zpa.connect_to(address(&zpa, "http"));
    for _ in 0..3 {
        echo(&mut kept, "still here");
        expect_a_hundred_bytes(zpa.connect());
        sandbox.wait_until(Duration::from_millis(500), |_| false);
    }
    assert_eq!(patches(&sandbox, 0), 0);
}

#[test]
fn a_port_that_the_service_lacks_makes_it_unready_is_named_and_holds_up_no_other() {
    let sandbox = with_database(1);
    let listen = ("ZPA_LISTEN", "127.0.0.1:0=http,127.0.0.1:0=mysql");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, listen]);
    let why = "the Service myapp has no TCP port mysql; it has 80 (http), 5432 (postgres): \
               set --listen to one of them";
    zpa.expect_page("/readyz", "it is named", |status, body| {
        status == 503 && body.contains(why)
    });
    zpa.expect_log(why);
    assert_eq!(port(&zpa, "mysql")["problem"], why);
    assert_eq!(port(&zpa, "http")["problem"], Value::Null);
    echo(&mut zpa.connect(), "the other port");
    assert_eq!(patches(&sandbox, 0), 0, "it could not wake it for all");
}
