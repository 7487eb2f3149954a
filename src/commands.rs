//! What `zpa` does beside running: commands, named by the first argument.
//!
//! A command prints to standard output and ends. It reads its own options and every
//! setting's flag, which it hands to [`crate::settings`].

pub mod check;
pub mod manifests;
mod options;
mod permissions;
mod yaml;

use std::ffi::OsString;

use crate::clock::{Clock, WallClock};
use crate::settings::{self, Invocation, Settings};

/// What a command may use of the world.
pub struct World<'a> {
    /// The variables of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// For what is waited for.
    pub clock: Clock,
    /// For credentials that expire.
    pub wall: WallClock,
    /// Whether standard output is a terminal.
    pub is_terminal: bool,
}

/// What a command has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To print on standard output.
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

/// Carries out the command that the first argument names, with the arguments behind
/// it; `None` if the first argument names none.
pub fn run(args: &[OsString], world: &World<'_>) -> Option<Output> {
    let (command, args) = args.split_first()?;
    match command.to_str()? {
        "manifests" => Some(manifests::run(args)),
        "check" => Some(check::run(args, world)),
        "explain" => Some(explain(args)),
        _ => None,
    }
}

/// The settings that the arguments of `command` are, once its own options are taken out.
///
/// # Errors
/// All that is wrong with them, a line each.
fn settings(
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
