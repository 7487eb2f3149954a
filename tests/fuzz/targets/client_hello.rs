#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/client_hello.rs"]
mod check;

fuzz_target!(|input: check::Input| check::check(input));
