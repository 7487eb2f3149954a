//! Arguments, log set-up, exit code; everything else is in the library.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use zpa::commands::{self, Environment, Output};
use zpa::daemon::{self, Clocks, Error, Exit};
use zpa::log_queue::{self, LogQueue};
use zpa::settings::{self, Invocation, Settings};
use zpa::workload::Dialect;
use zpa::{supervisor, sys};

/// The exit code if the settings are wrong, or a file or Service that they name does
/// not exist.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let env = |name: &str| std::env::var_os(name);
    let environment = Environment {
        env: &env,
        clock: sys::boot_time,
        wall: sys::unix_time,
        is_terminal: io::stdout().is_terminal(),
    };
    if let Some(output) = commands::run(&args, &environment) {
        return match output {
            Output::Text(text) => print(&text, 0),
            Output::Report { text, code } => print(&text, code),
            Output::Errors(errors) => log_queue::with_stderr(|log| refuse(log, &errors)),
        };
    }
    match settings::parse(args, env) {
        Ok(Invocation::Run(settings)) => log_queue::with_stderr(|log| run(&settings, log)),
        Ok(Invocation::Help) => print(&settings::help(&commands::summary()), 0),
        Ok(Invocation::Version) => print(&format!("{}\n", settings::version()), 0),
        Err(errors) => log_queue::with_stderr(|log| refuse(log, errors.lines())),
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
fn print(text: &str, code: u8) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
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
        Ok(Exit::Reset) => ExitCode::FAILURE,
        Err(error) => {
            error
                .to_string()
                .lines()
                .for_each(|line| log.push_error(line));
            match error {
                Error::Start(_) => ExitCode::from(USAGE),
                Error::Loop(_) => ExitCode::FAILURE,
            }
        }
    }
}
