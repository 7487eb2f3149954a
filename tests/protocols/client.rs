//! Commands that use a server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use support::program::TEST_TIMEOUT;

/// What a command has printed, and whether it was content.
#[derive(Debug)]
pub struct Said {
    pub success: bool,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end, and no longer than a test has timeout.
pub fn run(command: &Command) -> Said {
    let mut limited = Command::new("timeout");
    limited.args(["-s", "KILL", &TEST_TIMEOUT.as_secs().to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let output = limited
        .stdin(std::process::Stdio::null())
        .output()
        .expect("timeout of coreutils runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        success: output.status.success(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Runs a command that has to be content; returns what it has printed.
#[track_caller]
pub fn succeed(command: &Command) -> String {
    let said = run(command);
    assert!(said.success, "{command:?}: {said:?}");
    said.out
}

/// A client that keeps its connection.
pub struct Kept(TcpStream);

impl Kept {
    pub fn connect(address: SocketAddr) -> Kept {
        let stream = TcpStream::connect(address).expect("the proxy accepts");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Kept(stream)
    }

    /// Sends a request, and reads until the answer ends so.
    #[track_caller]
    pub fn ask(&mut self, request: &str, end: &str) -> String {
        self.0.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(end.as_bytes()) {
            let len = self.0.read(&mut byte);
            let so_far = String::from_utf8_lossy(&answer);
            assert_eq!(len.ok(), Some(1), "the connection ended after {so_far:?}");
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }
}
