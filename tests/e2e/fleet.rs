//! Five hundred apps that sleep, behind one proxy.

use support::fleet::Fleet;

use super::*;

const APPS: usize = 500;
/// What the process may have in memory, in bytes.
const MOST_RESIDENT: u64 = 32 << 20;
/// The size of the program that is released at most (tests/image.rs), as if all of it were
/// in memory. That of this build is many times as large.
const PROGRAM: u64 = 7 << 20;
const MOST_THREADS: usize = 6;

#[test]
fn five_hundred_apps_that_sleep_take_32_mib_and_six_threads_and_each_of_them_wakes() {
    let program = env!("CARGO_BIN_EXE_zpa");
    let fleet = Fleet::start(program, APPS, Options::default(), &[LONG_TTL]);
    let memory = fleet.process().memory().unwrap();
    let threads = fleet.process().threads().unwrap().len();
    assert!(memory.anonymous + PROGRAM <= MOST_RESIDENT, "{memory:?}");
    assert_eq!(threads, MOST_THREADS);
    for number in [0, 1, 250, 499] {
        echo(&mut fleet.zpa.connect_to(fleet.addresses[number]), "wake");
    }
    let awake = (0..APPS).filter(|&number| fleet.replicas(number) == 1);
    assert_eq!(awake.collect::<Vec<_>>(), [0, 1, 250, 499]);
    assert_eq!(fleet.process().threads().unwrap().len(), MOST_THREADS);
}
