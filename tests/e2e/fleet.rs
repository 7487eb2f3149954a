//! Five hundred apps that sleep, behind one proxy.

use std::thread;
use std::time::{Duration, Instant};

use support::fleet::{Fleet, name};

use super::*;

const APPS: usize = 500;
/// What the process may have in memory, in bytes.
const MAX_RESIDENT: u64 = 32 << 20;
/// The size of the program that is released at most (tests/image.rs), as if all of it were
/// in memory. That of this build is many times as large.
const PROGRAM: u64 = (7 << 20) + (1 << 19);
/// The loop, the log, one for requests, one each that watches the endpoints and the Deployments,
/// and one that watches the Services or takes requests while the list is looked at.
const MAX_THREADS: usize = 6;

/// The apps that are woken.
const WOKEN: [usize; 4] = [0, 1, 250, 499];

#[track_caller]
fn expect_little_and_wake(fleet: &Fleet) {
    expect_threads(fleet);
    let memory = fleet.process().memory().unwrap();
    assert!(memory.anonymous + PROGRAM <= MAX_RESIDENT, "{memory:?}");
    for number in WOKEN {
        echo(&mut fleet.zpa.connect_to(fleet.addresses[number]), "wake");
    }
    let awake: Vec<usize> = (0..APPS).filter(|&it| fleet.replicas(it) == 1).collect();
    assert!(WOKEN.iter().all(|it| awake.contains(it)), "{awake:?}");
    let (_, metrics) = fleet.zpa.get("/metrics");
    // A test that runs beside this one may connect to an address on which nothing listened before:
    // then that app is rightly awake.
    let unasked = awake.iter().filter(|&&it| !has_accepted(&metrics, it));
    assert_eq!(unasked.count(), 0, "{awake:?}");
}

/// Whether a connection was accepted for an app.
fn has_accepted(metrics: &str, number: usize) -> bool {
    let series = format!("zpa_connections_total{{app=\"default/{}\"", name(number));
    let mut counts = metrics.lines().filter(|line| line.starts_with(&series));
    counts.any(|line| !line.ends_with(" 0"))
}

/// Waits until there are no more threads than are allowed: on a busy machine a reply may take so
/// long that the spare one for requests is started, which ends when it was idle for a while.
#[track_caller]
fn expect_threads(fleet: &Fleet) {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let threads = fleet.process().threads().unwrap().len();
        if threads == MAX_THREADS {
            return;
        }
        assert!(Instant::now() < deadline, "{threads} threads");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn five_hundred_apps_of_a_list_that_sleep_take_32_mib_and_six_threads_and_each_wakes() {
    let program = env!("CARGO_BIN_EXE_zpa");
    let fleet = Fleet::start(program, APPS, Options::default(), &[LONG_TTL]);
    expect_little_and_wake(&fleet);
    expect_threads(&fleet);
}

#[test]
fn five_hundred_services_whose_apps_sleep_take_no_more_than_a_list_of_them() {
    let program = env!("CARGO_BIN_EXE_zpa");
    let fleet = Fleet::discovered(program, APPS, Options::default(), &[LONG_TTL]);
    expect_little_and_wake(&fleet);
    // The spare one for requests, as long as there are writes.
    assert!(fleet.process().threads().unwrap().len() <= MAX_THREADS + 1);
}
