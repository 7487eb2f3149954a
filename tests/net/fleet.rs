//! The requests of five hundred sleeping apps to the API server.

use std::thread;
use std::time::Duration;

use support::fleet::Fleet;
use support::sandbox::{Options, Sandbox, anything};

use crate::network::{is_slow, skipped};

const APPS: usize = 500;
const PROGRAM: &str = env!("CARGO_BIN_EXE_zpa");
const MINUTES: usize = 2;
/// The most requests in a minute.
const MAX_REQUESTS: usize = 60;

#[test]
fn five_hundred_apps_that_sleep_take_sixty_requests_a_minute_at_most() {
    expect_few_requests(|_| {});
}

/// As with a Role that names each Deployment and each Service.
#[test]
fn so_do_those_that_may_be_read_by_name_alone() {
    expect_few_requests(|sandbox| {
        for (verb, resource) in [
            ("list", "deployments"),
            ("watch", "deployments"),
            ("list", "services"),
        ] {
            sandbox.deny(verb, resource);
        }
    });
}

#[test]
fn and_those_that_are_found_by_their_services() {
    if is_slow() {
        expect_few_requests_of(&Fleet::discovered(PROGRAM, APPS, Options::default(), &[]));
    } else {
        skipped("it takes two minutes");
    }
}

fn expect_few_requests(prepare: impl FnOnce(&Sandbox)) {
    if !is_slow() {
        return skipped("it takes two minutes");
    }
    let fleet = Fleet::start_in(PROGRAM, APPS, Options::default(), &[], prepare);
    expect_few_requests_of(&fleet);
}

fn expect_few_requests_of(fleet: &Fleet) {
    // Each Service has been read, and the reflectors have given up to list all of them.
    thread::sleep(Duration::from_secs(40));
    for minute in 1..=MINUTES {
        let before = fleet.sandbox.count(&anything());
        thread::sleep(Duration::from_secs(60));
        let made = fleet.sandbox.count(&anything()) - before;
        assert!(made <= MAX_REQUESTS, "{made} in minute {minute}");
        assert!(made > 0, "the watches and the reads go on");
    }
}
