//! The real binary with the args of each manifest, in a cluster that allows what
//! the manifest's roles allow and nothing else: the app wakes, is served, sleeps
//! when those args say so, and wakes again.
//!
//! The args are those of the fixture, unmodified, as far as something is judged
//! that does not take minutes; what they mean for the sleep is read off `/status`.
//! The sleep itself is then seen with one duration in place of theirs: of the
//! Python manifests the value of `--expiration-time`, and of the Go manifest, which
//! does not say how long, `ZPA_IDLE_TTL`.

use std::process::Command;
use std::time::{Duration, Instant};

use support::program::Zpa;
use support::sandbox::{Options, Sandbox, on};

use crate::manifest::Manifest;
use crate::{echo, in_a_network_of_its_own};

/// The duration in place of theirs, in seconds.
const SHORT: &str = "1";

/// A manifest, the app that it is for, and what its args mean.
struct Case {
    fixture: &'static str,
    namespace: &'static str,
    app: &'static str,
    service: &'static str,
    idle_ttl: &'static str,
    /// What `/status` says of where connections go.
    through: &'static str,
    /// A path of the ancestor's on its admin port, and the answer.
    admin: (&'static str, &'static str),
}

const GO: Case = Case {
    fixture: "go.yaml",
    namespace: "default",
    app: "myapp",
    service: "myapp",
    idle_ttl: "1h0m0s",
    through: "the pods; the target myapp:80 where no pod can be dialled",
    admin: ("/healthz", "ok\n"),
};

const PYTHON_PAGE: Case = Case {
    fixture: "python-page.yaml",
    namespace: "my-app",
    app: "my-app-deployment",
    service: "my-app-svc",
    idle_ttl: "10m0s",
    through: "the pods; the target my-app-svc:80 where no pod can be dialled",
    admin: ("/healthz", "ok\n"),
};

#[test]
fn the_go_page_runs_with_its_args_and_rights() {
    in_a_network_of_its_own(|_| {
        walk(&GO, &GO.manifest().args, &[("ZPA_IDLE_TTL", SHORT)]);
    });
}

#[test]
fn the_python_page_runs_with_its_args_and_rights() {
    in_a_network_of_its_own(|_| {
        let shortened = PYTHON_PAGE.manifest().args_with("--expiration-time", SHORT);
        walk(&PYTHON_PAGE, &shortened, &[]);
    });
}

impl Case {
    fn manifest(&self) -> Manifest {
        Manifest::fixture(self.fixture)
    }

    /// Its app asleep, and a cluster that allows what the manifest allows.
    fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::start(Options {
            namespace: self.namespace.to_owned(),
            name: self.app.to_owned(),
            service: Some(self.service.to_owned()),
            ..Options::default()
        });
        sandbox.set_rules(self.manifest().rules);
        sandbox
    }
}

/// Starts the program as the kubelet would: with those args, the environment of a
/// container, and the credentials of a service account.
fn start(sandbox: &Sandbox, args: &[String], env: &[(&str, &str)]) -> Zpa {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .args(args)
        .env_clear()
        .env("HOSTNAME", "zpa-5d9c7")
        .env(
            "KUBERNETES_SERVICE_HOST",
            sandbox.address().ip().to_string(),
        )
        .env(
            "KUBERNETES_SERVICE_PORT",
            sandbox.address().port().to_string(),
        )
        // In a container they are where the program looks by itself.
        .env("ZPA_CREDENTIALS", sandbox.credentials())
        .envs(env.iter().copied());
    Zpa::spawn(command)
}

fn walk(case: &Case, shortened: &[String], env: &[(&str, &str)]) {
    let sandbox = case.sandbox();
    let zpa = start(&sandbox, &case.manifest().args, &[]);
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
