//! The commands of `zpa`, beside running the proxy. The first argument names one.
//!
//! A command prints to standard output and ends. It reads its own options and every
//! setting's flag, which it hands to [`crate::settings`].

pub mod check;
mod command;
mod completion;
mod manifests;
mod options;
mod permissions;
mod uninstall;
mod wake;
mod yaml;

use std::ffi::OsString;
use std::path::Path;

use crate::clock::{Clock, WallClock};
use crate::kube::Access;
use crate::kube::inspect::Inspector;
use crate::problems;
use crate::settings::{self, Invocation, Settings};
use command::{Command, PRINTED};

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

/// The commands, in the order of the help.
static COMMANDS: [&Command; 7] = [
    &manifests::COMMAND,
    &check::COMMAND,
    &uninstall::COMMAND,
    &wake::COMMAND,
    &EXPLAIN,
    &completion::COMMAND,
    &HELP,
];

static EXPLAIN: Command = Command {
    name: "explain",
    summary: "says more about what the check has found, or the page shows",
    usage: &["CODE"],
    about: "Says what a check of zpa check looks at, why, and how to mend what it finds; or what a \
            problem of the page means. No cluster is asked.",
    options: &[],
    settings: None,
    words: codes,
    variables: &[],
    exit_codes: PRINTED,
    examples: &[("PROXY", "What is wrong if no proxy is found ready.")],
    run: |args, _| {
        let code = args.first().and_then(|code| code.to_str());
        match code.and_then(|code| check::explain(code).or_else(|| explain_problem(code))) {
            Some(text) => Output::Text(text),
            None => EXPLAIN.refuse(code, "a code of zpa check or of the page"),
        }
    },
};

static HELP: Command = Command {
    name: "help",
    summary: "says more about a command; without one the text of --help",
    usage: &["[COMMAND]"],
    about: "Prints the help of a command, as its --help does; without one that of zpa, with all \
            settings.",
    options: &[],
    settings: None,
    words: || COMMANDS.iter().map(|command| command.name).collect(),
    variables: &[],
    exit_codes: PRINTED,
    examples: &[("check", "How the check is used.")],
    run: |args, _| {
        let name = args.first().map(|name| name.to_string_lossy());
        match (&name, named(name.as_deref().unwrap_or_default())) {
            (None, _) => Output::Text(settings::help(&summary())),
            (_, Some(command)) => Output::Text(command.help()),
            (given, None) => HELP.refuse(given.as_deref(), "a command"),
        }
    },
};

fn named(name: &str) -> Option<&'static Command> {
    COMMANDS.into_iter().find(|command| command.name == name)
}

/// The part of `zpa --help` about the commands.
pub fn summary() -> String {
    let lines = COMMANDS.iter().map(|command| {
        let usage = command.usage.first().unwrap_or(&"");
        format!(
            "       zpa {} {usage}\n           {}\n",
            command.name, command.summary
        )
    });
    lines.collect::<String>() + "       Each has a --help of its own.\n\n"
}

/// Runs the command that the first argument names; `None` if that is a flag, or there is none.
pub fn run(args: &[OsString], environment: &Environment<'_>) -> Option<Output> {
    let (name, args) = args.split_first()?;
    let name = name.to_str().filter(|name| !name.starts_with('-'))?;
    let Some(command) = named(name) else {
        return Some(HELP.refuse(Some(name), "a command, and every setting is a flag"));
    };
    let is_given = |names: [&str; 2]| args.iter().any(|arg| names.iter().any(|name| arg == name));
    Some(if is_given(["--help", "-h"]) {
        Output::Text(command.help())
    } else if is_given(["--version", "-V"]) {
        Output::Text(format!("{}\n", settings::version()))
    } else {
        (command.run)(args, environment)
    })
}

/// Parses the arguments of `command`, without its own options, as settings.
///
/// # Errors
/// Everything that is wrong with them, a line each.
fn settings(
    command: &Command,
    args: Vec<OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, Vec<String>> {
    match process_settings(command, args, env) {
        Ok(settings) if settings.apps.is_some() => Err(vec![format!(
            "--apps (ZPA_APPS): {} takes one app; give it as --deployment, with the other \
             settings that it has in the list",
            command.name
        )]),
        Ok(settings) if settings.discover.is_some() => Err(vec![format!(
            "--discover (ZPA_DISCOVER): {} takes one app; give it as --deployment, with the \
             settings that are annotations of its Service. The install for apps that are found is \
             manifests/fleet",
            command.name
        )]),
        other => other,
    }
}

/// The same, where they may be those of several apps.
///
/// # Errors
/// Everything that is wrong with them, a line each.
fn process_settings(
    command: &Command,
    args: Vec<OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, Vec<String>> {
    match settings::parse_beside(command.option_names(), args, env) {
        Ok(Invocation::Run(settings)) => Ok(*settings),
        // A word such as `-Vx`, which is neither of the two that are looked for first.
        Ok(_) => Err(vec![format!("{} takes settings alone", command.name)]),
        Err(errors) => Err(errors.lines().map(str::to_owned).collect()),
    }
}

/// How a command reaches the API server, and the namespace where the settings name none: that of
/// the kubeconfig or of the pod, else `default`.
///
/// # Errors
/// Why there is no address or no credential.
fn connect(
    settings: &Settings,
    environment: &Environment<'_>,
) -> Result<(Inspector, String), String> {
    let env = |name: &str| (environment.env)(name)?.into_string().ok();
    let access = Access::discover(
        &settings.kube,
        settings.api_server.as_ref(),
        Path::new(&settings.credentials),
        env,
    );
    let (access, namespace) = access.map_err(|why| why.to_string())?;
    let inspector = Inspector::new(access, environment.clock, environment.wall)?;
    Ok((inspector, namespace.unwrap_or_else(|| "default".to_owned())))
}

/// The codes that `zpa explain` knows.
pub fn codes() -> Vec<&'static str> {
    let problems = problems::ALL.iter().map(|it| it.code);
    check::codes().into_iter().chain(problems).collect()
}

/// The explanation of a problem that the page shows; `None` if there is none with that code.
fn explain_problem(code: &str) -> Option<String> {
    let code = code.to_ascii_uppercase();
    let it = problems::ALL.iter().find(|it| it.code == code)?;
    Some(format!(
        "{code}: {}\n\n{}\n\nTo mend it: {}\n",
        it.summary, it.about, it.hint
    ))
}

#[cfg(test)]
mod tests {
    use super::options::Options;
    use super::*;
    use crate::settings::Scope;

    /// The words of an example as a shell has them, without what it redirects.
    fn words(line: &str) -> Vec<OsString> {
        let words = line.split(' ').take_while(|word| !word.starts_with('>'));
        words.map(OsString::from).collect()
    }

    #[test]
    fn the_examples_of_the_help_are_taken() {
        for command in COMMANDS {
            assert!(!command.examples.is_empty(), "{}", command.name);
            for (line, _) in command.examples {
                let options = Options::take(command.options, &words(line)).unwrap();
                if command.settings.is_some() {
                    let taken = process_settings(command, options.rest, &|_| None);
                    assert!(taken.is_ok(), "{line}: {:?}", taken.err());
                } else {
                    let [word] = &options.rest[..] else {
                        panic!("{line} is one word");
                    };
                    let known = (command.words)();
                    assert!(known.iter().any(|it| *word == **it), "{line}");
                }
            }
        }
    }

    #[test]
    fn the_uninstall_knows_each_kind_that_manifests_prints() {
        let args = [
            "--deployment=a",
            "--network-policy",
            "--pod-monitor",
            "--tcp-route=edge",
            "--alerts",
        ];
        let environment = Environment {
            env: &|_| None,
            clock: crate::clock::Time::default,
            wall: || 0,
            is_terminal: false,
        };
        let args = args.map(OsString::from);
        let Output::Text(printed) = (manifests::COMMAND.run)(&args, &environment) else {
            panic!("manifests are printed");
        };
        let kinds = printed
            .lines()
            .filter_map(|line| line.strip_prefix("kind: "));
        let kinds: Vec<&str> = kinds.collect();
        assert!(kinds.len() > 8, "{kinds:?}");
        for kind in kinds {
            assert!(uninstall::kinds().any(|known| known == kind), "{kind}");
        }
    }

    #[test]
    fn the_choices_of_an_option_are_in_its_help() {
        for option in COMMANDS.iter().flat_map(|command| command.options) {
            for choice in option.choices {
                assert!(option.help.contains(choice), "{}: {choice}", option.name);
            }
        }
    }

    /// Of one with the same name as a setting, such as `--dry-run`, the setting could not be
    /// given: it would have to be of no use to the command.
    #[test]
    fn an_option_hides_no_setting_that_its_command_needs() {
        for command in COMMANDS {
            let names = command.option_names();
            let hidden = settings::TABLE
                .iter()
                .filter(|it| it.is_own() && names.contains(&it.flag));
            for setting in hidden {
                let is_known = (command.name, setting.flag) == ("uninstall", "dry-run");
                assert!(is_known && setting.scope == Scope::App, "{}", setting.flag);
            }
        }
    }
}
