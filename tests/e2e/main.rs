//! The real binary between real clients and the sandbox's cluster.

mod admin;
mod apps_file;
mod check;
mod check_in_pod;
mod check_installed;
mod clients;
mod commands;
mod completion;
mod descriptors;
mod discover;
mod endpoints;
mod events;
mod faults;
mod fleet;
mod hung_calls;
mod install;
mod kubeconfig;
mod log;
mod many_endpoints;
mod overrides;
mod panics;
mod places;
mod ports;
mod proxy_protocol;
mod removal;
mod server_name;
mod settings;
mod several_proxies;
mod side_by_side;
mod slow_wake;
mod source_files;
mod status;
mod targets;
mod uninstall;
mod uninstall_several;
mod wake;
mod walkthroughs;
mod watched_by_name;
mod webhook;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use support::program::{TEST_TIMEOUT, Zpa};
use support::sandbox::{self, Options, Sandbox, on};
use support::streams::read_some;

/// A TTL that is over before a test gets impatient.
const SHORT_TTL: (&str, &str) = ("ZPA_IDLE_TTL", "1s");
/// A TTL that no test sees the end of.
const LONG_TTL: (&str, &str) = ("ZPA_IDLE_TTL", "1h");

/// The `zpa` of this build, for several apps of the sandbox, which the caller names.
fn command_of_apps(sandbox: &Sandbox, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .env_clear()
        .envs(sandbox.env())
        .env_remove("ZPA_DEPLOYMENT")
        .env_remove("ZPA_SERVICE")
        .env("ZPA_LOG", "debug")
        .env("ZPA_DRAIN_DELAY", "0")
        .envs(settings.iter().copied());
    command
}

/// Starts the `zpa` of this build in front of the sandbox's app.
fn start_zpa(sandbox: &Sandbox, settings: &[(&str, &str)]) -> Zpa {
    Zpa::start(env!("CARGO_BIN_EXE_zpa"), sandbox, settings)
}

/// A sandbox whose app sleeps.
fn asleep() -> Sandbox {
    Sandbox::start(Options::default())
}

/// A sandbox whose app has one ready pod.
fn awake() -> Sandbox {
    let sandbox = Sandbox::start(Options {
        replicas: 1,
        ..Options::default()
    });
    sandbox.expect("a pod is listed as ready", |state| !ready(state).is_empty());
    sandbox
}

/// The endpoints that the slices list as ready.
fn ready(state: &sandbox::State) -> Vec<serde_json::Value> {
    let is_ready = |endpoint: &serde_json::Value| endpoint["conditions"]["ready"] == true;
    state
        .listed_endpoints()
        .into_iter()
        .filter(is_ready)
        .collect()
}

/// Sends a line through an echo server and expects it back.
#[track_caller]
fn echo(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    expect_echo(stream, text);
}

#[track_caller]
fn expect_echo(stream: &mut TcpStream, text: &str) {
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, text.as_bytes());
}

#[track_caller]
fn expect_reset(stream: &mut TcpStream) {
    match read_some(stream, &mut [0; 16]) {
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        Ok(len) => panic!("{len} bytes in place of a reset"),
    }
}

/// The PATCHes that have set that many replicas; those that met a conflict
/// have set none.
fn setting(replicas: u64) -> sandbox::Pattern {
    on("patch", "deployments/scale")
        .with(move |e| e.replicas() == Some(replicas) && e.status == Some(200))
}

fn patches(sandbox: &Sandbox, replicas: u64) -> usize {
    sandbox.count(&setting(replicas))
}

/// Waits for a PATCH that sets that many replicas to be answered, which is
/// after it has been applied; there must be no more than that one.
#[track_caller]
fn expect_one_patch(sandbox: &Sandbox, replicas: u64) {
    sandbox.expect("it is answered", |state| {
        state.count(&setting(replicas)) >= 1
    });
    assert_eq!(patches(sandbox, replicas), 1);
}

/// Waits until `zpa` knows that the app sleeps, and its version stands still.
fn settle_asleep(sandbox: &Sandbox, zpa: &Zpa) {
    zpa.expect_log("found at 0 replicas");
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
}

/// The values of these series, as they are now.
#[track_caller]
fn expect_metrics(zpa: &Zpa, series: &[(&str, f64)]) {
    for (series, value) in series {
        assert_eq!(zpa.metric(series), Some(*value), "{series}");
    }
}

/// How many warnings contain `text`.
fn warnings(zpa: &Zpa, text: &str) -> usize {
    let log = zpa.log();
    let is_one = |line: &&str| line.contains("WARN") && line.contains(text);
    log.lines().filter(is_one).count()
}

fn seconds(count: u64) -> Duration {
    assert!(Duration::from_secs(count) <= TEST_TIMEOUT);
    Duration::from_secs(count)
}
