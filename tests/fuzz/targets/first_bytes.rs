#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/first_bytes.rs"]
mod check;

fuzz_target!(|input: check::Input| check::check(input));
