//! A panic of a thread that talks to the API server ends no connection, readiness says it,
//! and the thread works again.
//!
//! Such a panic takes a bug, and there is none at hand. The program under test is therefore
//! [`program`], a process of its own: it is `zpa` with a clock that panics where a file says
//! so. The binary has no such clock.

use super::*;
use std::env;
use std::fs;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use zpa::clock::Time;
use zpa::daemon::{self, Clocks};
use zpa::settings::{self, Invocation};
use zpa::{log_queue, supervisor, sys};

/// The variable with the path of the file that names a thread: its next look at the clock
/// removes the file and panics.
const FILE: &str = "PANICKING_THREAD_FILE";

/// The threads that talk to the API server.
const THREADS: [&str; 4] = ["zpa-api", "zpa-api-spare", "zpa-endpoints", "zpa-targets"];

/// Its quarter is how often an app in use is renewed, and each renewal has the threads look
/// at the clock.
const TTL: (&str, &str) = ("ZPA_IDLE_TTL", "4s");

fn clock() -> Time {
    let thread = thread::current();
    if let (Some(file), Some(name)) = (env::var_os(FILE), thread.name())
        && THREADS.contains(&name)
        && fs::read_to_string(&file).is_ok_and(|text| text == name)
    {
        fs::remove_file(file).unwrap();
        panic!("by intent");
    }
    sys::boot_time()
}

/// What `src/main.rs` does with its settings, with that clock.
#[test]
#[ignore = "a program that another test starts"]
fn program() {
    let Ok(Invocation::Run(settings)) = settings::parse([], |name| env::var_os(name)) else {
        panic!("the settings are wrong");
    };
    let clocks = Clocks {
        monotonic: clock,
        wall: sys::unix_time,
    };
    log_queue::with_stderr(|log| {
        log.install_logger(&settings.log, settings.log_format, sys::unix_time);
        supervisor::log_panics();
        daemon::run(&settings, clocks, log.clone()).unwrap();
        ExitCode::SUCCESS
    });
}

#[test]
fn a_panic_of_an_api_thread_ends_no_connection_is_said_and_the_thread_works_again() {
    let sandbox = awake();
    let file = sandbox.credentials().join("panicking-thread");
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "panics::program", "--ignored", "--nocapture"])
        .env_clear()
        .envs(sandbox.env())
        .envs([TTL, ("ZPA_LISTEN", "127.0.0.1:0"), ("ZPA_LOG", "debug")])
        .env(FILE, &file);
    let zpa = Zpa::spawn(command);
    zpa.expect_ready();
    let flow = Flow::start(zpa.connect());
    for (number, thread) in THREADS.into_iter().enumerate() {
        flow.expect_more();
        fs::write(&file, thread).unwrap();
        // The watch of the endpoints has something to show.
        sandbox.publish_slice(&format!("empty-{number}"), "IPv4", &[]);
        let reason = format!("the thread {thread} has panicked, which is a bug: by intent\n");
        zpa.expect_page("/readyz", &reason, |status, body| {
            status == 503 && body.contains(&reason)
        });
        flow.expect_more();
        echo(&mut zpa.connect(), "a new one");
        zpa.expect_ready();
        flow.expect_more();
        zpa.expect_log(&format!("a bug: the thread {thread} panicked"));
        let panics = (number + 1) as f64;
        assert_eq!(zpa.metric("zpa_thread_panics_total"), Some(panics));
    }
    flow.end();

    // To sleep takes a read and writes, and to wake a write and a watch.
    sandbox.expect("the app sleeps", |state| {
        state.replicas() == 0 && state.pods() == 0
    });
    echo(&mut zpa.connect(), "awake again");
}

/// Round trips over one connection, one after the other.
struct Flow {
    ends: Arc<AtomicBool>,
    round_trips: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Flow {
    fn start(mut client: TcpStream) -> Flow {
        let ends = Arc::new(AtomicBool::new(false));
        let round_trips = Arc::new(AtomicUsize::new(0));
        let (over, count) = (ends.clone(), round_trips.clone());
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                echo(&mut client, "to and fro");
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5)); // Not all of the processor.
            }
        });
        Flow {
            ends,
            round_trips,
            thread,
        }
    }

    /// Waits for a round trip that begins from now on.
    #[track_caller]
    fn expect_more(&self) {
        let wanted = self.round_trips.load(Ordering::Relaxed) + 2;
        let start = Instant::now();
        while self.round_trips.load(Ordering::Relaxed) < wanted {
            assert!(!self.thread.is_finished(), "the connection has ended");
            assert!(start.elapsed() < TEST_TIMEOUT, "nothing comes back");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("every byte came back");
    }
}
