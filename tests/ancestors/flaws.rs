//! Situations that broke an ancestor, with its own args. Those that are not about
//! an ancestor's own flags, annotations or ports are tested where they belong:
//! `manifests/COMING-FROM.md` has the names of all of these tests.

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use support::streams::read_some;

use crate::case::{GO, PYTHON_EXAMPLE, PYTHON_PAGE, start};
use crate::{echo, in_a_network_of_its_own};

/// The Go ancestor scaled down within a second of its start where the annotation
/// of before was past; the Python one did not wait for its whole time either.
#[test]
fn annotations_of_before_a_restart_put_nothing_to_sleep() {
    in_a_network_of_its_own(|_| {
        for case in [&GO, &PYTHON_PAGE] {
            let sandbox = case.sandbox(1);
            sandbox.edit(|object| {
                let annotations = &mut object["metadata"]["annotations"];
                annotations["zero-pod-autoscaler/scale-down-at"] = json!("2022-12-13T00:00:00Z");
                annotations["traffic-pod-autoscaler/last-call-at"] =
                    json!("2022-12-13T00:00:00.000000+00:00");
            });
            let started = Instant::now();
            let args = case.manifest().args;
            let args: Vec<String> = args
                .into_iter()
                .filter(|arg| !arg.starts_with("--expiration-time"))
                .collect();
            let _zpa = start(&sandbox, &args, &[("ZPA_IDLE_TTL", "2s")]);
            sandbox.expect("it sleeps", |state| state.replicas() == 0);
            assert!(
                started.elapsed() >= Duration::from_secs(2),
                "{}: after a whole TTL",
                case.fixture
            );
        }
    });
}

/// One failed client turned the Go ancestor's `/healthz` to 503 until another
/// succeeded, and with a liveness probe ended everybody's connections.
#[test]
fn a_client_that_waits_in_vain_leaves_healthz_alone() {
    in_a_network_of_its_own(|_| {
        let sandbox = GO.sandbox(0);
        sandbox.never_ready();
        let zpa = start(
            &sandbox,
            &GO.manifest().args,
            &[("ZPA_HOLD_TIMEOUT", "200ms")],
        );
        zpa.expect_ready();
        let mut client = zpa.connect();
        client.write_all(b"in vain").unwrap();
        let why = read_some(&client, &mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(why, Err(ErrorKind::ConnectionReset));
        assert_eq!(zpa.get("/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(zpa.get("/readyz").0, 200);
    });
}

/// An ancestor without a flag for the port for probes went on without it: in a
/// pod beside a container that listens there.
#[test]
fn a_port_for_probes_that_nobody_has_asked_for_and_is_taken_is_done_without() {
    in_a_network_of_its_own(|_| {
        let _other = TcpListener::bind("127.0.0.1:8080").unwrap();
        let sandbox = GO.sandbox(0);
        let zpa = start(&sandbox, &GO.manifest().args, &[]);
        zpa.expect_log("going on without health, readiness, metrics and status");
        drop(echo(&zpa, "all the same"));
    });
}

/// The Go ancestor confirmed a wake by a connect to the target in its only loop,
/// and ended when that failed.
#[test]
fn a_target_whose_name_leads_nowhere_ends_nothing() {
    in_a_network_of_its_own(|_| {
        let sandbox = GO.sandbox(0);
        let mut zpa = start(&sandbox, &GO.manifest().args, &[]);
        // This network has no name server.
        zpa.expect_log("cannot look up the target myapp:80");
        drop(echo(&zpa, "through the pods"));
        assert!(zpa.is_running());
    });
}

/// A wake froze everything else that the Python ancestor did.
#[test]
fn while_clients_wait_for_a_wake_its_admin_port_answers() {
    in_a_network_of_its_own(|_| {
        let sandbox = PYTHON_EXAMPLE.sandbox(0);
        sandbox.never_ready();
        let zpa = start(&sandbox, &PYTHON_EXAMPLE.manifest().args, &[]);
        zpa.expect_ready();
        let _waiting = [zpa.connect(), zpa.connect()];
        sandbox.expect("it wakes", |state| state.replicas() == 1);
        zpa.expect_status("both wait", |status| status["connections"]["waiting"] == 2);
        assert_eq!(zpa.get("/ping"), (200, PYTHON_EXAMPLE.admin.1.to_owned()));
    });
}

/// The Python ancestor's metrics were JSON with an entry for each connection ever.
#[test]
fn its_metrics_do_not_grow_with_the_connections() {
    in_a_network_of_its_own(|_| {
        let sandbox = PYTHON_EXAMPLE.sandbox(0);
        let zpa = start(&sandbox, &PYTHON_EXAMPLE.manifest().args, &[]);
        drop(echo(&zpa, "the first"));
        // Some are there while no connection is open alone.
        let lines = || {
            zpa.expect_metric("zpa_connections_open", 0.0);
            zpa.get("/metrics").1.lines().count()
        };
        let after_one = lines();
        for count in 0..50 {
            drop(echo(&zpa, &format!("number {count}")));
        }
        assert_eq!(zpa.metric("zpa_connections_total"), Some(51.0));
        assert_eq!(lines(), after_one);
    });
}
