//! Arguments, log set-up, exit code; everything else is in the library.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use zpa::commands::{self, Output};
use zpa::daemon::{self, Clocks, Error, Exit};
use zpa::log_queue::LogQueue;
use zpa::settings::{self, Invocation, Settings};
use zpa::workload::Dialect;
use zpa::{supervisor, sys};

/// The exit code if the settings are wrong, or a file or Service that they name does
/// not exist.
const USAGE: u8 = 2;

/// How long the program waits at its end until the log is written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(output) = commands::run(&args) {
        return match output {
            Output::Text(text) => print(&text),
            Output::Errors(errors) => with_log(|log| refuse(log, &errors)),
        };
    }
    let env = |name: &str| std::env::var_os(name);
    match settings::parse(args, env) {
        Ok(Invocation::Run(settings)) => with_log(|log| run(&settings, log)),
        Ok(Invocation::Help) => print(&settings::help()),
        Ok(Invocation::Version) => print(&format!("{}\n", settings::version())),
        Err(errors) => with_log(|log| refuse(log, errors.lines())),
    }
}

/// Says what is wrong with the arguments.
fn refuse(log: &LogQueue, errors: impl IntoIterator<Item = impl std::fmt::Display>) -> ExitCode {
    for error in errors {
        log.push_error(error);
    }
    ExitCode::from(USAGE)
}

/// Prints to the standard output, which may be closed or full.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Calls `work` with a log queue that writes to stderr, and flushes the queue.
fn with_log(work: impl FnOnce(&LogQueue) -> ExitCode) -> ExitCode {
    // A descriptor of its own: a thread that blocks in a write would hold the lock of
    // `io::stderr`.
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let Ok(log) = stderr.and_then(|stderr| LogQueue::spawn(File::from(stderr))) else {
        return ExitCode::FAILURE;
    };
    let _flushed = FlushOnDrop(log.clone());
    work(&log)
}

/// Flushes the queue when it is dropped, also by a panic of the event loop.
struct FlushOnDrop(LogQueue);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        self.0.flush(FLUSH_PATIENCE);
    }
}

fn run(settings: &Settings, log: &LogQueue) -> ExitCode {
    log.install_logger(&settings.log, settings.log_format, sys::unix_time);
    supervisor::log_panics();
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
            log.push_error(&error);
            match error {
                Error::Start(_) => ExitCode::from(USAGE),
                Error::Loop(_) => ExitCode::FAILURE,
            }
        }
    }
}
