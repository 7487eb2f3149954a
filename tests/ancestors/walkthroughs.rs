//! The real binary with the args of each manifest, in a cluster that allows what
//! the manifest's roles allow and nothing else: the app wakes, is served, sleeps
//! when those args say so, and wakes again.
//!
//! The args are those of the fixture, unmodified, as far as something is judged
//! that does not take minutes; what they mean for the sleep is read off `/status`.
//! The sleep itself is then seen with one duration in place of theirs: of the
//! Python manifests the value of `--expiration-time`, and of the Go manifest, which
//! does not say how long, `ZPA_IDLE_TTL`.

use std::time::{Duration, Instant};

use serde_json::json;
use support::sandbox::{PodProgram, Resource, on};

use crate::case::{Case, GO, PYTHON_EXAMPLE, PYTHON_PAGE, start};
use crate::{echo, in_a_network_of_its_own};

/// The duration in place of theirs, in seconds.
const SHORT: &str = "1";

#[test]
fn the_go_page_runs_with_its_args_and_permissions() {
    in_a_network_of_its_own(|_| {
        walk(&GO, &GO.manifest().args, &[("ZPA_IDLE_TTL", SHORT)]);
    });
}

#[test]
fn the_python_page_runs_with_its_args_and_permissions() {
    in_a_network_of_its_own(|_| {
        let shortened = PYTHON_PAGE.manifest().args_with("--expiration-time", SHORT);
        walk(&PYTHON_PAGE, &shortened, &[]);
    });
}

#[test]
fn the_python_example_runs_with_its_args_and_permissions() {
    in_a_network_of_its_own(|_| {
        let shortened = PYTHON_EXAMPLE.manifest();
        let shortened = shortened.args_with("--expiration-time", SHORT);
        walk(&PYTHON_EXAMPLE, &shortened, &[]);
    });
}

/// The Go page's roles do not allow to read the Service, and its endpoints have two
/// ports: which is meant cannot be known, but the target leads there. (The Service is
/// called `localhost`, a name that leads somewhere without a name server.)
#[test]
fn where_the_port_of_the_service_cannot_be_known_the_target_is_dialled() {
    in_a_network_of_its_own(|_| {
        let sandbox = GO.sandbox(0);
        let pod = sandbox.server_at(([127, 0, 0, 1], 7000).into(), "behind", PodProgram::Echo);
        sandbox.create(
            Resource::Endpoints,
            json!({
                "metadata": { "name": "localhost" },
                "subsets": [{
                    "addresses": [{ "ip": "127.0.0.9" }],
                    "ports": [
                        { "name": "http", "port": 1, "protocol": "TCP" },
                        { "name": "metrics", "port": 2, "protocol": "TCP" },
                    ],
                }],
            }),
        );
        let args = GO.manifest().args_with("--endpoints", "localhost");
        let target = format!("localhost:{}", pod.address().port());
        let args: Vec<String> = args
            .into_iter()
            .map(|arg| {
                if arg.starts_with("--target=") {
                    format!("--target={target}")
                } else {
                    arg
                }
            })
            .collect();
        let zpa = start(&sandbox, &args, &[]);
        drop(echo(&zpa, "through the target"));
        assert_eq!(sandbox.state().replicas(), 1, "it was woken");
        let through = format!("the pods; the target {target} where no pod can be dialled");
        assert_eq!(zpa.status()["addresses"]["through"], through.as_str());
    });
}

fn walk(case: &Case, shortened: &[String], env: &[(&str, &str)]) {
    let sandbox = case.sandbox(0);
    let zpa = start(&sandbox, &case.manifest().args, &[]);
    zpa.expect_log("the flags are read as those of ");
    zpa.expect_log(case.warning);
    zpa.expect_ready();
    drop(echo(&zpa, "good morning"));
    assert_eq!(sandbox.state().replicas(), 1, "it was woken");
    let status = zpa.status();
    assert_eq!(status["settings"]["idle-ttl"], case.idle_ttl);
    assert_eq!(status["addresses"]["through"], case.through);
    assert_eq!(status["addresses"]["source"], "Endpoints", "as they may");
    assert_eq!(status["in_use"]["lease_location"], "an annotation");
    let (path, answer) = case.admin;
    assert_eq!(zpa.get(path), (200, answer.to_owned()));
    assert_eq!(zpa.get("/readyz").0, 200);
    drop(zpa);

    // In a cluster of its own: the lease of the page's long time would be respected.
    let sandbox = case.sandbox(0);
    let zpa = start(&sandbox, shortened, env);
    zpa.expect_ready();
    let client = echo(&zpa, "again");
    // Nobody is cut while there is a connection, however long it lasts.
    let connected = Instant::now();
    let slept = sandbox.wait_until(Duration::from_secs(3), |state| state.replicas() == 0);
    assert!(!slept, "it slept under a connection");
    assert!(connected.elapsed() >= Duration::from_secs(3));
    drop(client);
    let closed = Instant::now();
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
    assert!(closed.elapsed() >= Duration::from_secs(1), "after its time");
    drop(echo(&zpa, "and once more"));
    assert_eq!(sandbox.state().replicas(), 1, "it was woken again");
    let wakes = on("patch", "deployments/scale")
        .with(|exchange| exchange.replicas() == Some(1) && exchange.status == Some(200));
    assert_eq!(sandbox.count(&wakes), 2, "one write for each wake");
}
