//! What the fuzzers check (`tests/fuzz`), without a fuzzer and its toolchain: on
//! every seed, on seeds with bytes changed, and on bytes of no meaning, the same
//! in every run.
//!
//! An example and no test, since modules are included whose own tests are not
//! meant. `make test` runs it.

use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use zpa::backoff::Random;
use zpa::{backoff, clock, cluster, duration, sys}; // What is included looks for them here.

#[path = "fuzz/checks/admin.rs"]
mod admin;
#[path = "fuzz/checks/apps.rs"]
mod apps;
#[path = "fuzz/checks/client_hello.rs"]
mod client_hello;
#[path = "fuzz/checks/durations.rs"]
mod durations;
#[path = "fuzz/checks/first_bytes.rs"]
mod first_bytes;
#[path = "fuzz/checks/kubeconfig.rs"]
mod kubeconfig;
#[path = "fuzz/checks/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "fuzz/checks/relay.rs"]
mod relay;
#[path = "fuzz/checks/settings.rs"]
mod settings;
#[allow(dead_code, reason = "the kube module uses all of what is included")]
#[path = "fuzz/checks/watch.rs"]
mod watch;

/// How many inputs each is given beside its seeds.
const INPUTS: usize = 1000;
/// How long an input without meaning is at most. Bytes.
const MAX_INPUT_LEN: u64 = 2000;

/// A fuzzer, and what it does with the bytes that it makes up.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 10] = [
    ("relay", |bytes| feed(bytes, relay::check)),
    ("watch", |bytes| feed(bytes, watch::check)),
    ("settings", |bytes| feed(bytes, settings::check)),
    ("apps", |bytes| feed(bytes, apps::check)),
    ("durations", |bytes| feed(bytes, durations::check)),
    ("admin", |bytes| feed(bytes, admin::check)),
    ("kubeconfig", |bytes| feed(bytes, kubeconfig::check)),
    ("proxy_protocol", |bytes| feed(bytes, proxy_protocol::check)),
    ("client_hello", |bytes| feed(bytes, client_hello::check)),
    ("first_bytes", |bytes| feed(bytes, first_bytes::check)),
];

fn main() {
    println!("What the fuzzers check, on their seeds and on {INPUTS} inputs made up:");
    for (name, check) in TARGETS {
        let seeds = seeds(name);
        seeds.iter().for_each(|seed| check(seed));
        let mut random = Random::new(1);
        for number in 0..INPUTS {
            check(&made_up(seeds.get(number % (seeds.len() + 1)), &mut random));
        }
        println!("  {name}: holds, with {} seeds", seeds.len());
    }
}

/// Makes an input of the bytes as the fuzzer does, and checks it if it is one.
fn feed<'a, T: Arbitrary<'a>>(bytes: &'a [u8], check: impl Fn(T)) {
    if let Ok(input) = T::arbitrary_take_rest(Unstructured::new(bytes)) {
        check(input);
    }
}

/// What is kept for a target, if anything is.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let Ok(files) = fs::read_dir(folder.join(name)) else {
        return Vec::new();
    };
    let files = files.map(|file| file.expect("the folder is readable").path());
    files
        .map(|file| fs::read(file).expect("so is the seed"))
        .collect()
}

/// A seed with some bytes changed, or bytes of no meaning.
fn made_up(seed: Option<&Vec<u8>>, random: &mut Random) -> Vec<u8> {
    let Some(mut bytes) = seed.cloned() else {
        let len = random.bits() % MAX_INPUT_LEN;
        return (0..len).map(|_| random.bits() as u8).collect();
    };
    for _ in 0..random.bits() % 8 {
        let at = random.bits() as usize % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = random.bits() as u8;
        }
    }
    bytes
}
