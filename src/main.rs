//! Arguments, log set-up, exit code; everything else is in the library.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use zpa::daemon::{self, Clocks, Error, Exit};
use zpa::log_queue::LogQueue;
use zpa::settings::{self, Invocation, Settings};
use zpa::workload::Dialect;
use zpa::{supervisor, sys};

/// The settings are wrong, or what they name is not there.
const USAGE: u8 = 2;

/// How long the end of the program waits for a log that nobody reads.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    match settings::parse(std::env::args_os().skip(1), env) {
        Ok(Invocation::Run(settings)) => with_log(|log| run(&settings, log)),
        Ok(Invocation::Help) => print(&settings::help()),
        Ok(Invocation::Version) => print(&format!("{}\n", settings::version())),
        Err(errors) => with_log(|log| {
            errors.lines().for_each(|error| complain(log, error));
            ExitCode::from(USAGE)
        }),
    }
}

/// Prints to a standard output that may be shut or full.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Does `work` with a queue before stderr, and then writes what is left in it.
fn with_log(work: impl FnOnce(&LogQueue) -> ExitCode) -> ExitCode {
    // A descriptor of its own: the lock of `io::stderr` would be held by whoever
    // is stuck in a write.
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let Ok(log) = stderr.and_then(|stderr| LogQueue::spawn(File::from(stderr))) else {
        return ExitCode::FAILURE;
    };
    let _flushed = FlushOnDrop(log.clone());
    work(&log)
}

/// Also when the event loop panics.
struct FlushOnDrop(LogQueue);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        self.0.flush(FLUSH_PATIENCE);
    }
}

fn complain(log: &LogQueue, error: impl std::fmt::Display) {
    log.push(format!("zpa: {error}\n").as_bytes());
}

fn run(settings: &Settings, log: &LogQueue) -> ExitCode {
    set_up_log(&settings.log, log);
    for line in settings::unknown_variables(std::env::vars_os()) {
        log::warn!("{line}");
    }
    if settings.dialect != Dialect::Zpa {
        log::info!("the flags are read as those of {}", settings.dialect);
    }
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let clocks = Clocks {
        monotonic: sys::boot_time,
        wall: sys::unix_time,
    };
    match daemon::run(settings, clocks, log.clone()) {
        Ok(Exit::Drained) => ExitCode::SUCCESS,
        Ok(Exit::Cut) => ExitCode::FAILURE,
        Err(error) => {
            complain(log, &error);
            match error {
                Error::Start(_) => ExitCode::from(USAGE),
                Error::Loop(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// `filter` speaks of this program; the libraries below it are heard only when
/// something is wrong, unless the filter names them.
fn set_up_log(filter: &str, queue: &LogQueue) {
    let mut log = env_logger::Builder::new();
    for library in ["ureq", "ureq_proto", "rustls", "mio"] {
        log.filter_module(library, log::LevelFilter::Warn);
    }
    log.parse_filters(filter)
        .format_timestamp_millis()
        .format_target(false)
        .target(env_logger::Target::Pipe(Box::new(queue.clone())))
        .init();
    supervisor::log_panics();
}
