//! Arguments, log set-up, exit code; everything else is in the library.

use std::io::Write;
use std::process::ExitCode;

use zpa::daemon::{self, Clocks, Error, Exit};
use zpa::settings::{self, Invocation, Settings};
use zpa::sys;

/// The settings are wrong, or what they name is not there.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    match settings::parse(std::env::args_os().skip(1), env) {
        Ok(Invocation::Run(settings)) => run(&settings),
        Ok(Invocation::Help) => print(&settings::help()),
        Ok(Invocation::Version) => print(&format!("{}\n", settings::version())),
        Err(errors) => {
            for error in errors.lines() {
                eprintln!("zpa: {error}");
            }
            ExitCode::from(USAGE)
        }
    }
}

/// Prints to a standard output that may be shut or full.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(settings: &Settings) -> ExitCode {
    set_up_log(&settings.log);
    for line in settings::unknown_variables(std::env::vars_os()) {
        log::warn!("{line}");
    }
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let clocks = Clocks {
        monotonic: sys::boot_time,
        wall: sys::unix_time,
    };
    match daemon::run(settings, clocks) {
        Ok(Exit::Drained) => ExitCode::SUCCESS,
        Ok(Exit::Cut) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("zpa: {error}");
            match error {
                Error::Start(_) => ExitCode::from(USAGE),
                Error::Loop(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// `filter` speaks of this program; the libraries below it are heard only when
/// something is wrong, unless the filter names them.
fn set_up_log(filter: &str) {
    let mut log = env_logger::Builder::new();
    for library in ["ureq", "ureq_proto", "rustls", "mio"] {
        log.filter_module(library, log::LevelFilter::Warn);
    }
    log.parse_filters(filter)
        .format_timestamp_millis()
        .format_target(false)
        .init();
}
