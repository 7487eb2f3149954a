//! The manifests of both ancestors, with nothing changed but the image: that they
//! run, that the fixtures are no prettier than the pages they stand for, that what
//! broke the ancestors breaks nothing here, and that `manifests/COMING-FROM.md` says
//! what is so.

mod case;
mod coming_from;
mod flaws;
mod manifest;
mod pages;
mod ports;
mod walkthroughs;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::namespace::Namespace;
use support::program::Zpa;
use support::skip;

/// Runs a test in a network of its own, where every port is free, also those that
/// the manifests name. Without root there is none, which is said.
fn in_a_network_of_its_own(test: impl FnOnce(&Namespace) + Send) {
    match Namespace::new() {
        Ok(network) => network.enter(|| test(&network)),
        Err(error) => skip(&format!("a network of its own takes root: {error}")),
    }
}

/// Sends a line through an echo server and expects it back.
#[track_caller]
fn echo(zpa: &Zpa, text: &str) -> TcpStream {
    let mut client = zpa.connect();
    client.write_all(text.as_bytes()).unwrap();
    let mut reply = vec![0; text.len()];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, text.as_bytes());
    client
}
