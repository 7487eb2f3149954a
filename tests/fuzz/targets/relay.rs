#![no_main]

use libfuzzer_sys::fuzz_target;
use zpa::{clock, sys}; // What is included looks for them here.

#[path = "../checks/relay.rs"]
mod check;

fuzz_target!(|input: check::Story| check::check(input));
