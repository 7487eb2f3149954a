//! Five hundred apps that sleep, behind one proxy.

use support::fleet::Fleet;

use super::*;

const APPS: usize = 500;
/// What the process may have in memory, in bytes.
const MOST_RESIDENT: u64 = 32 << 20;
/// The size of the program that is released at most (tests/image.rs), as if all of it were
/// in memory. That of this build is many times as large.
const PROGRAM: u64 = 7 << 20;
/// The loop, the log, one for requests, one each that watches the endpoints and the Deployments,
/// and one that watches the Services or takes requests while the list is looked at.
const MOST_THREADS: usize = 6;

#[track_caller]
fn expect_little_and_wake(fleet: &Fleet) {
    let memory = fleet.process().memory().unwrap();
    let threads = fleet.process().threads().unwrap().len();
    assert!(memory.anonymous + PROGRAM <= MOST_RESIDENT, "{memory:?}");
    assert_eq!(threads, MOST_THREADS);
    for number in [0, 1, 250, 499] {
        echo(&mut fleet.zpa.connect_to(fleet.addresses[number]), "wake");
    }
    let awake = (0..APPS).filter(|&number| fleet.replicas(number) == 1);
    assert_eq!(awake.collect::<Vec<_>>(), [0, 1, 250, 499]);
}

#[test]
fn five_hundred_apps_of_a_list_that_sleep_take_32_mib_and_six_threads_and_each_wakes() {
    let program = env!("CARGO_BIN_EXE_zpa");
    let fleet = Fleet::start(program, APPS, Options::default(), &[LONG_TTL]);
    expect_little_and_wake(&fleet);
    assert_eq!(fleet.process().threads().unwrap().len(), MOST_THREADS);
}

#[test]
fn five_hundred_services_whose_apps_sleep_take_no_more_than_a_list_of_them() {
    let program = env!("CARGO_BIN_EXE_zpa");
    let fleet = Fleet::discovered(program, APPS, Options::default(), &[LONG_TTL]);
    expect_little_and_wake(&fleet);
    // The spare one for requests, as long as there are writes.
    assert_eq!(fleet.process().threads().unwrap().len(), MOST_THREADS + 1);
}
