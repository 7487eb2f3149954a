//! Mixed traffic for a long time, and nothing left behind at its end.
//!
//! In each round clients of every sort wake the app, come and go for some
//! seconds in faults of one kind, and leave; then the app has to fall asleep
//! and `zpa` has to hold what it held after the first rounds: no connection, as
//! many descriptors and threads, as much memory. In between it may never hold
//! more than OPERATING.md says. Every byte is verified, and except in rough faults
//! ([`Faults::is_rough`]) each connection ends as its client ends it.
//!
//! `SOAK_MINUTES` says for how long (20 seconds if it is not set), `SOAK_SEED`
//! repeats the choices of an earlier run, which it has printed.

mod faults;
mod subject;
mod traffic;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use faults::Faults;
use subject::{ResourceUse, Subject};
use support::memory;
use support::sandbox::{self, Options, Sandbox};
use traffic::{Clients, Counts};
use zpa::backoff::Random;
use zpa::engine::{BLOCK_BYTES, MAX_BLOCKS};

/// How long without `SOAK_MINUTES`.
const SHORT: Duration = Duration::from_secs(20);
/// How long clients come and go in one round, at most.
const ROUND: Duration = Duration::from_secs(3);
/// After so many rounds everything that is needed once is there.
const WARM_UP: usize = 3;
/// More connections than may be there at a time.
const MAX_AT_ONCE: usize = 1000;
/// How long the app may take to fall asleep, and `zpa` to let go of everything.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a pod that does not read is left when its client has gone.
const LINGER: Duration = Duration::from_secs(60);

/// How much the memory of its own may have grown: the allocator keeps what was
/// free once, and the pool two blocks.
const TOLERANCE_BYTES: u64 = 1 << 20;
/// Connections to the API server come and go with its faults.
const TOLERANCE_DESCRIPTORS: usize = 2;

#[test]
fn mixed_traffic_leaves_nothing_behind() {
    let duration = duration();
    let seed = seed();
    println!("SOAK_SEED={seed}");
    let mut random = Random::new(seed);
    let sandbox = Sandbox::start(Options::default());
    let subject = Subject::start(&sandbox);
    let (start, mut counts, mut traces) = (Instant::now(), Counts::default(), Vec::new());
    while start.elapsed() < duration || traces.len() <= WARM_UP {
        let faults = Faults::any(&mut random);
        counts += round(&sandbox, &subject, faults, &mut random);
        traces.push(at_rest(&sandbox, &subject, faults));
        println!("{faults:?}: {:?}", traces[traces.len() - 1]);
    }
    report(&counts, &traces, start.elapsed());
    assert_flat(&traces[WARM_UP - 1..]);
    assert_eq!(
        subject.accepted(),
        counts.connections,
        "each was accepted once"
    );
}

/// One round of traffic: the app is asleep at its start.
fn round(sandbox: &Sandbox, subject: &Subject, faults: Faults, random: &mut Random) -> Counts {
    let length = ROUND.mul_f64(random.fraction().max(0.3));
    let clients = Clients {
        address: subject.address(),
        until: Instant::now() + length,
        rough: faults.is_rough(),
    };
    thread::scope(|scope| {
        let storm = scope.spawn(|| faults.rage(sandbox, clients.until));
        let watch = scope.spawn(|| watch(subject, clients.until));
        let counts = clients.play(random);
        storm.join().expect("the thread of the faults panicked");
        watch
            .join()
            .expect("the thread that watches the memory panicked");
        sandbox.heal();
        counts
    })
}

/// Checks now and then, up to `until`, that the memory of `zpa` stays below its ceiling.
fn watch(subject: &Subject, until: Instant) {
    while Instant::now() < until {
        let bytes = subject.resource_use().bytes;
        let most = memory::ceiling(MAX_AT_ONCE, MAX_BLOCKS, BLOCK_BYTES);
        assert!(bytes <= most, "{bytes} bytes, and {most} are allowed");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until nothing is open and the app sleeps, and says what is left.
fn at_rest(sandbox: &Sandbox, subject: &Subject, faults: Faults) -> ResourceUse {
    subject.expect_all_closed(LINGER + TEST_TIMEOUT);
    let asleep = |state: &sandbox::State| state.replicas() == 0 && state.pods() == 0;
    if !sandbox.wait_until(TEST_TIMEOUT, asleep) {
        panic!("awake after {faults:?}\n{}", subject.last_words());
    }
    subject.resource_use()
}

/// Compares the last rounds with the first ones after the warm-up.
#[track_caller]
fn assert_flat(traces: &[ResourceUse]) {
    let some = traces.len().div_ceil(4);
    let (early, late) = (&traces[..some], &traces[traces.len() - some..]);
    let bytes = |of: &[ResourceUse]| median(of.iter().map(|traces| traces.bytes));
    let descriptors = |of: &[ResourceUse]| median(of.iter().map(|traces| traces.descriptors));
    let threads = |of: &[ResourceUse]| median(of.iter().map(|traces| traces.threads));
    assert!(bytes(late) <= bytes(early) + TOLERANCE_BYTES, "{traces:?}");
    let most = descriptors(early) + TOLERANCE_DESCRIPTORS;
    assert!(descriptors(late) <= most, "{traces:?}");
    assert_eq!(threads(late), threads(early), "{traces:?}");
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn duration() -> Duration {
    let Ok(minutes) = std::env::var("SOAK_MINUTES") else {
        return SHORT;
    };
    let minutes: u64 = minutes.parse().expect("SOAK_MINUTES is a whole number");
    Duration::from_secs(minutes * 60)
}

fn seed() -> u64 {
    let given = std::env::var("SOAK_SEED").ok();
    given.map_or_else(zpa::sys::unix_time, |seed| {
        seed.parse().expect("SOAK_SEED is a number")
    })
}

/// Says past cargo's capture what has happened.
fn report(counts: &Counts, traces: &[ResourceUse], took: Duration) {
    let (first, last) = (&traces[WARM_UP - 1], &traces[traces.len() - 1]);
    let _ = writeln!(
        io::stderr(),
        "soak: {} rounds in {} s, {} connections ({} of them broken off by pods), {} MiB verified; \
         KiB, descriptors and threads of zpa: {} {} {} after the warm-up, {} {} {} at the end",
        traces.len(),
        took.as_secs(),
        counts.connections,
        counts.broken,
        counts.bytes >> 20,
        first.bytes >> 10,
        first.descriptors,
        first.threads,
        last.bytes >> 10,
        last.descriptors,
        last.threads,
    );
}
