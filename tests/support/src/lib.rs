//! The support of tests and benches: a stand-in cluster, the program under test as a child process,
//! and observations of a process from outside.
//!
//! This package does not depend on the library of `zpa`: a test hands over what
//! the helpers need to know of it, such as the program's path. Helpers of one test
//! program alone stay with that program.
//!
//! ```text
//! sandbox      a Kubernetes cluster in one process
//! client       a plain client of its API server
//! recording    replies of a real API server, to compare with
//! program      the real binary and its log
//! fleet        the binary with a list of apps
//! admin        requests to the binary's admin port
//! process      what /proc says of a process
//! streams      reads that a signal does not end
//! sockets      the sockets and descriptors of another process
//! descriptors  this process's own limit of open files
//! memory       the ceiling of memory that OPERATING.md states
//! namespace    networks of their own
//! ```

pub mod admin;
pub mod client;
pub mod descriptors;
pub mod fleet;
pub mod memory;
pub mod namespace;
pub mod process;
pub mod program;
pub mod recording;
pub mod sandbox;
pub mod sockets;
pub mod streams;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

/// Says that the test that calls this is not carried out, and why, so that it is
/// not counted as passed: past the test harness, which swallows what a test that
/// passes prints, and in one piece, since tests run beside one another.
pub fn skip(why: &str) {
    let _ = io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

/// The same where that is for want of a tool. .ci/run, which installs all of them, fails at this
/// line (`tests/run-tests.sh`).
pub fn skip_without(tool: &str) {
    skip(&format!("{tool} is not installed"));
}

/// What to run a tool by: what `make tools` has installed for the project, else a name to look
/// for in PATH.
pub fn tool(name: &str) -> OsString {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin");
    let path = installed.join(name);
    match path.exists() {
        true => path.into(),
        false => name.into(),
    }
}
