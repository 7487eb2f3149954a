#![no_main]

use libfuzzer_sys::fuzz_target;
use zpa::{backoff, clock, cluster}; // What is included looks for them here.

#[allow(dead_code, reason = "the kube module uses all of what is included")]
#[path = "../checks/watch.rs"]
mod check;

fuzz_target!(|input: check::Input| check::check(input));
