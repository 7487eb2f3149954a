//! The limit of open files of these tests.

use std::io::{self, Write};
use std::process::Command;
use std::thread;

/// What other tests, which run beside, may have open meanwhile.
const OTHERS: usize = 512;

/// The test that takes the most.
const CROWD: &str =
    "walkthroughs::five_hundred_connections_at_once_while_asleep_are_one_patch_and_all_served";

/// How many connections a test may hold that wants so many: as many as there is
/// room for below the hard limit of open files. Both ends are here, the client's
/// and the pod's.
pub fn room_for(wanted: usize) -> usize {
    let limit = support::descriptors::raise_to_hard_limit().expect("a limit of open files");
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = wanted.min(limit.saturating_sub(OTHERS) / 2).max(1);
    if count < wanted {
        restricted(&format!(
            "{count} connections in place of {wanted}: the hard limit of open files is {limit}"
        ));
    }
    count
}

/// Says that a test is not run in full, and why.
fn restricted(why: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not eprintln, which cargo captures.
    let _ = writeln!(io::stderr(), "restricted: e2e: {test}: {why}");
}

#[test]
fn where_the_hard_limit_leaves_room_for_fewer_they_do_and_it_says_so() {
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 1024 && exec \"$0\" --exact \"$1\""])
        .arg(this)
        .arg(CROWD)
        .output()
        .expect("a shell runs");
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    assert!(said.contains("restricted: e2e: "), "{said}");
    assert!(said.contains("256 connections in place of 500"), "{said}");
}
