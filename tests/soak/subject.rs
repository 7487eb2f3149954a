//! The `zpa` under test, and the counts of its connections.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use support::process::Process;
use support::sandbox::Sandbox;

use crate::TEST_TIMEOUT;

/// How many of its last lines are kept.
const LINES: usize = 200;

/// A running `zpa`, killed when dropped.
pub struct Subject {
    child: Child,
    connection_log: Arc<(Mutex<ConnectionLog>, Condvar)>,
    address: SocketAddr,
}

/// What its log tells of its connections. The log itself would fill the memory
/// of an hour.
#[derive(Default)]
struct ConnectionLog {
    address: Option<SocketAddr>,
    accepted: u64,
    /// Those that have not ended, by serial number, and all that was said of them.
    open: BTreeMap<u64, String>,
    last: VecDeque<String>,
}

/// What it holds while nothing happens.
#[derive(Clone, Copy, Debug)]
pub struct ResourceUse {
    /// Memory of its own.
    pub bytes: u64,
    /// All but those of pipes, which stay for the next bulk.
    pub descriptors: usize,
    pub threads: usize,
}

impl Subject {
    /// Starts one in front of the sandbox's app, which sleeps again after a second.
    pub fn start(sandbox: &Sandbox) -> Subject {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zpa"))
            .env_clear()
            .envs(sandbox.env())
            .env("ZPA_LISTEN", "127.0.0.1:0")
            .env("ZPA_LOG", "debug")
            .env("ZPA_IDLE_TTL", "1s")
            .env("ZPA_CONNECT_TIMEOUT", "200ms")
            // glibc otherwise raises both of its own accord, and keeps the most
            // that was ever in use: growth, but none that goes on.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("MALLOC_TRIM_THRESHOLD_", "131072")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the zpa binary runs");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let connection_log = Arc::new((Mutex::new(ConnectionLog::default()), Condvar::new()));
        let writer = connection_log.clone();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                writer.0.lock().unwrap().enter(line);
                writer.1.notify_all();
            }
        });
        let mut subject = Subject {
            child,
            connection_log,
            address: ([0, 0, 0, 0], 0).into(),
        };
        subject.wait(TEST_TIMEOUT, |connection_log| {
            connection_log.address.is_some()
        });
        let address = subject.connection_log.0.lock().unwrap().address;
        subject.address = address.unwrap_or_else(|| panic!("{}", subject.last_words()));
        subject
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.connection_log.0.lock().unwrap().accepted
    }

    /// Waits until every connection that it has accepted has ended.
    #[track_caller]
    pub fn expect_all_closed(&self, limit: Duration) {
        if !self.wait(limit, |connection_log| connection_log.open.is_empty()) {
            let open = self.connection_log.0.lock().unwrap().open.clone();
            panic!("never ended: {open:#?}");
        }
    }

    /// What it holds now.
    pub fn resource_use(&self) -> ResourceUse {
        let process = Process(self.child.id());
        let tasks = format!("/proc/{}/task", self.child.id());
        let pipe_ends = process.pipe_ends().unwrap();
        // Two for each, and the standard error of ours.
        assert!(pipe_ends <= 2 * zpa::engine::MAX_PIPES + 1, "{pipe_ends}");
        ResourceUse {
            bytes: process.memory().unwrap().anonymous,
            descriptors: process.descriptors().unwrap() - pipe_ends,
            threads: fs::read_dir(tasks).unwrap().count(),
        }
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let connection_log = self.connection_log.0.lock().unwrap();
        let lines: Vec<&str> = connection_log.last.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// Waits until `over`; false if `limit` passed first.
    fn wait(&self, limit: Duration, over: impl Fn(&ConnectionLog) -> bool) -> bool {
        let (connection_log, changed) = &*self.connection_log;
        let guard = connection_log.lock().unwrap();
        let waited =
            changed.wait_timeout_while(guard, limit, |connection_log| !over(connection_log));
        !waited.unwrap().1.timed_out()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("zpa's last words:\n{}", self.last_words());
        }
    }
}

impl ConnectionLog {
    fn enter(&mut self, line: String) {
        if let Some((_, rest)) = line.split_once("listens on ") {
            let address = rest.split(' ').next().unwrap_or_default();
            self.address = address.parse().ok();
        }
        if let Some((serial, what)) = of_connection(&line) {
            self.note(serial, what, &line);
        }
        if self.last.len() == LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn note(&mut self, serial: u64, what: &str, line: &str) {
        if what.starts_with("accepted from") {
            self.accepted += 1;
            self.open.insert(serial, String::new());
        }
        let history = self.open.get_mut(&serial);
        history
            .unwrap_or_else(|| panic!("it has ended before: {line}"))
            .push_str(line);
        let ends = ["finished after ", "ended after "];
        if ends.iter().any(|end| what.starts_with(end)) {
            self.open.remove(&serial);
        }
    }
}

/// The serial number of the connection that a line is about, and the rest.
fn of_connection(line: &str) -> Option<(u64, &str)> {
    let (_, text) = line.split_once("] #")?;
    let (serial, what) = text.split_once(' ')?;
    Some((serial.parse().ok()?, what))
}
