#![no_main]

use libfuzzer_sys::fuzz_target;
use zpa::sys; // What is included looks for it here.

#[path = "../checks/relay.rs"]
mod check;

fuzz_target!(|input: check::Story| check::check(input));
