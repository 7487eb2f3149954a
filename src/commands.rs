//! What `zpa` does beside running: commands, named by the first argument.
//!
//! A command prints to standard output and ends. It reads its own options and every
//! setting's flag, which it hands to [`crate::settings`].

pub mod manifests;
mod options;
mod yaml;

use std::ffi::OsString;

/// What a command has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To print on standard output.
    Text(String),
    /// What is wrong with the arguments, a line for each.
    Errors(Vec<String>),
}

/// Carries out the command that the first argument names, with the arguments behind
/// it; `None` if the first argument names none.
pub fn run(args: &[OsString]) -> Option<Output> {
    let (command, args) = args.split_first()?;
    match command.to_str()? {
        "manifests" => Some(manifests::run(args)),
        _ => None,
    }
}
