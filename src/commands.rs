//! The commands of `zpa`, beside running the proxy. The first argument names one.
//!
//! A command prints to standard output and ends. It reads its own options and every
//! setting's flag, which it hands to [`crate::settings`].

pub mod check;
pub mod manifests;
mod options;
mod permissions;
pub mod uninstall;
mod yaml;

use std::ffi::OsString;

use crate::clock::{Clock, WallClock};
use crate::settings::{self, Invocation, Settings};

/// What a command is passed from outside: environment, clocks, terminal.
pub struct Environment<'a> {
    /// The variables of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The clock for waiting.
    pub clock: Clock,
    /// The clock for credentials that expire.
    pub wall: WallClock,
    /// Whether standard output is a terminal.
    pub is_terminal: bool,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A text for standard output.
    Text(String),
    /// The same, with an exit code.
    Report {
        /// What to print.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// What is wrong with the arguments, a line for each.
    Errors(Vec<String>),
}

/// Runs the command that the first argument names; `None` if it names none.
pub fn run(args: &[OsString], environment: &Environment<'_>) -> Option<Output> {
    let (command, args) = args.split_first()?;
    match command.to_str()? {
        "manifests" => Some(manifests::run(args, environment)),
        "check" => Some(check::run(args, environment)),
        "uninstall" => Some(uninstall::run(args, environment)),
        "explain" => Some(explain(args)),
        _ => None,
    }
}

/// Parses the arguments of `command`, without its own options, as settings.
///
/// # Errors
/// Everything that is wrong with them, a line each.
fn settings(
    command: &str,
    args: Vec<OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, Vec<String>> {
    match process_settings(command, args, env) {
        Ok(settings) if settings.apps.is_some() => Err(vec![format!(
            "--apps (ZPA_APPS): {command} takes one app; give it as --deployment, with the other \
             settings that it has in the list"
        )]),
        Ok(settings) if settings.discover.is_some() => Err(vec![format!(
            "--discover (ZPA_DISCOVER): {command} takes one app; give it as --deployment, with the \
             settings that are annotations of its Service. The install for apps that are found is \
             manifests/fleet"
        )]),
        other => other,
    }
}

/// The same, where they may be those of several apps.
///
/// # Errors
/// Everything that is wrong with them, a line each.
fn process_settings(
    command: &str,
    args: Vec<OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, Vec<String>> {
    match settings::parse(args, env) {
        Ok(Invocation::Run(settings)) => Ok(*settings),
        Ok(_) => Err(vec![format!("{command} takes settings alone")]),
        Err(errors) => Err(errors.lines().map(str::to_owned).collect()),
    }
}

fn explain(args: &[OsString]) -> Output {
    let code = args.first().and_then(|code| code.to_str());
    match code.and_then(check::explain) {
        Some(text) => Output::Text(text),
        None => Output::Errors(vec![format!(
            "explain takes a code of zpa check: {}",
            check::codes().join(", ")
        )]),
    }
}
