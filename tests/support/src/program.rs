//! [`Zpa`]: the real binary as a child process, with its log.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::sandbox::Sandbox;

/// How long to wait for what should happen soon.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(75);

/// A running `zpa`. It is killed when dropped; a test that fails shows its log.
pub struct Zpa {
    child: Child,
    log: Arc<Log>,
    address: SocketAddr,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
    /// Nobody reads what comes.
    paused: Mutex<bool>,
    resumed: Condvar,
}

impl Log {
    /// Waits as long as the log is not to be read.
    fn wait_while_paused(&self) {
        let paused = self.paused.lock().unwrap();
        drop(self.resumed.wait_while(paused, |paused| *paused).unwrap());
    }
}

impl Zpa {
    /// Starts `program`, which is a `zpa`, in front of the sandbox's app, on a port of
    /// its own, logging at debug, with these settings beside. Waits until it
    /// listens. The program that cargo has built for a test is
    /// `env!("CARGO_BIN_EXE_zpa")`, which cargo sets for the test alone.
    pub fn start(program: impl AsRef<OsStr>, sandbox: &Sandbox, settings: &[(&str, &str)]) -> Zpa {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(sandbox.env())
            .env("ZPA_LISTEN", "127.0.0.1:0")
            .env("ZPA_LOG", "debug")
            .env("ZPA_DRAIN_DELAY", "0")
            .envs(settings.iter().copied());
        Zpa::spawn(command)
    }

    /// Starts `command`, which is a `zpa`, and does not wait until it listens for an app.
    pub fn spawn_without_waiting(mut command: Command) -> Zpa {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the zpa binary runs");
        let stderr = child.stderr.take().expect("it is piped");
        let log = Arc::new(Log::default());
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.wait_while_paused();
                writer.lines.lock().unwrap().0.push(line);
                writer.changed.notify_all();
            }
            writer.lines.lock().unwrap().1 = true;
            writer.changed.notify_all();
        });
        Zpa {
            child,
            log,
            address: ([0, 0, 0, 0], 0).into(),
        }
    }

    /// Starts `command`, which is a `zpa`, and waits until it listens for its first app.
    pub fn spawn(command: Command) -> Zpa {
        let mut zpa = Zpa::spawn_without_waiting(command);
        let line = zpa.expect_log("listens on ");
        let address = line
            .split("listens on ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        zpa.address = address.parse().expect("an address");
        zpa
    }

    /// Where it listens for its first app.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A client, with time-outs so that no test hangs.
    pub fn connect(&self) -> TcpStream {
        self.connect_to(self.address)
    }

    /// A client of another of its ports.
    pub fn connect_to(&self, address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("zpa accepts");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// An admin connection of its admin port, with time-outs so that no test hangs.
    pub fn visit(&self) -> TcpStream {
        let line = self.expect_log("status on http://");
        let (_, address) = line.rsplit_once("http://").expect("a URL");
        let stream = TcpStream::connect(address).expect("zpa accepts");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// Waits for a line that contains `text`, and returns it.
    #[track_caller]
    pub fn expect_log(&self, text: &str) -> String {
        self.expect_log_times(text, 1)
    }

    /// Waits for the `times`-th line that contains `text`.
    #[track_caller]
    pub fn expect_log_times(&self, text: &str, times: usize) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut guard = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = guard
                .0
                .iter()
                .filter(|line| line.contains(text))
                .nth(times - 1)
            {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if guard.1 || left.is_zero() {
                let log = guard.0.join("\n");
                drop(guard);
                panic!("never logged: {text}\nthe log:\n{log}");
            }
            guard = self.log.changed.wait_timeout(guard, left).unwrap().0;
        }
    }

    /// Waits for so many lines that contain `text`; there must be no more by then.
    #[track_caller]
    pub fn expect_logged(&self, text: &str, times: usize) {
        self.expect_log_times(text, times);
        assert_eq!(self.logged(text), times, "{text}\n{}", self.log());
    }

    /// How many lines so far contain `text`. What has just happened may not be among
    /// them yet: `zpa` writes its log on a thread of its own.
    pub fn logged(&self, text: &str) -> usize {
        self.log
            .lines
            .lock()
            .unwrap()
            .0
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Leaves what is logged from now on in the pipe, which is soon full, or reads
    /// it again.
    pub fn pause_log(&self, paused: bool) {
        *self.log.paused.lock().unwrap() = paused;
        self.log.resumed.notify_all();
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let number = match name {
            "TERM" => libc::SIGTERM,
            "INT" => libc::SIGINT,
            "PIPE" => libc::SIGPIPE,
            "STOP" => libc::SIGSTOP,
            "CONT" => libc::SIGCONT,
            other => panic!("what is SIG{other}?"),
        };
        // SAFETY: the child was started by us and has not been waited for, so
        // that its id is still its own.
        assert_eq!(unsafe { libc::kill(self.id() as i32, number) }, 0);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut guard = self.log.lines.lock().unwrap();
        while !guard.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "zpa does not end");
            guard = self.log.changed.wait_timeout(guard, left).unwrap().0;
        }
        drop(guard);
        self.child.wait().unwrap()
    }
}

impl Drop for Zpa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("zpa's log:\n{}", self.log());
        }
    }
}
