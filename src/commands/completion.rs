//! `zpa completion` prints the script with which a shell completes the command line of `zpa`.
//!
//! What there is to complete is a list of [`Flag`]s, made from the table of settings and the
//! tables of options; each shell has a file that writes them down in its language.

mod bash;
mod fish;
mod zsh;

use super::command::{Command, HELP, PRINTED};
use super::options::CommandOption;
use super::{COMMANDS, Output};
use crate::settings::{Setting, TABLE, ValueKind};

type Script = fn() -> String;

/// The shells, and what prints the script of each.
const SCRIPTS: [(&str, Script); 3] = [
    ("bash", bash::script),
    ("zsh", zsh::script),
    ("fish", fish::script),
];

/// `zpa completion`.
pub static COMMAND: Command = Command {
    name: "completion",
    summary: "prints the completion of bash, zsh or fish",
    usage: &["bash|zsh|fish"],
    about: "Prints the script with which a shell completes the command line of zpa: commands, \
            options, the values that have a name, codes and files.",
    options: &[],
    settings: None,
    words: || SCRIPTS.iter().map(|(shell, _)| *shell).collect(),
    variables: &[],
    exit_codes: PRINTED,
    examples: &[
        (
            "bash >~/.local/share/bash-completion/completions/zpa",
            "For bash, 4 or later.",
        ),
        (
            "zsh >~/.zfunc/_zpa",
            "For zsh, if ~/.zshrc has fpath+=~/.zfunc before compinit.",
        ),
        ("fish >~/.config/fish/completions/zpa.fish", "For fish."),
    ],
    run: |args, _| {
        let shell = args.first().and_then(|shell| shell.to_str());
        let script = SCRIPTS.iter().find(|(name, _)| Some(*name) == shell);
        match script {
            Some((_, script)) => Output::Text(script()),
            None => COMMAND.refuse(shell, "a shell"),
        }
    },
};

/// A flag, as far as a shell has to know it.
struct Flag {
    /// With its dashes.
    name: String,
    help: String,
    placeholder: &'static str,
    /// Whether it may be given several times.
    is_repeated: bool,
    value: Value,
}

/// What may stand behind a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Nothing.
    None,
    /// `=true`, `=false` or nothing.
    Switch,
    /// One of these, or another text.
    Words(&'static [&'static str]),
    /// One of these, or a file.
    Files(&'static [&'static str]),
}

impl Flag {
    fn of_setting(setting: &'static Setting) -> Flag {
        let value = if setting.takes == ValueKind::Switch {
            Value::Switch
        } else if setting.placeholder.ends_with("FILE") || setting.placeholder == "DIRECTORY" {
            Value::Files(setting.choices)
        } else {
            Value::Words(setting.choices)
        };
        Flag {
            name: format!("--{}", setting.flag),
            help: shortened(setting.help),
            placeholder: setting.placeholder,
            is_repeated: setting.takes == ValueKind::Texts,
            value,
        }
    }

    fn of_option(option: &'static CommandOption) -> Flag {
        Flag {
            name: option.name.to_owned(),
            help: shortened(option.help),
            placeholder: option.placeholder,
            is_repeated: false,
            value: match option.placeholder {
                "" => Value::None,
                "FILE" => Value::Files(option.choices),
                _ => Value::Words(option.choices),
            },
        }
    }

    /// The named values.
    fn words(&self) -> &'static [&'static str] {
        match self.value {
            Value::None => &[],
            Value::Switch => &["true", "false"],
            Value::Words(words) | Value::Files(words) => words,
        }
    }
}

/// The flags of the settings.
fn settings() -> Vec<Flag> {
    let own = TABLE.iter().filter(|setting| setting.is_own());
    own.map(Flag::of_setting).collect()
}

/// The options of a command.
fn options(command: &'static Command) -> Vec<Flag> {
    let all = command.options.iter().chain([&HELP]);
    all.map(Flag::of_option).collect()
}

/// The commands, with the options of each.
fn commands() -> impl Iterator<Item = (&'static Command, Vec<Flag>)> {
    COMMANDS
        .into_iter()
        .map(|command| (command, options(command)))
}

/// The first clause of a help text.
fn shortened(help: &str) -> String {
    let ends = [": ", "; ", ". ", ", such as "];
    let end = ends.iter().filter_map(|end| help.find(end)).min();
    help[..end.unwrap_or(help.len())].replace('`', "")
}

/// `text` with a backslash before each of these characters.
fn escaped(text: &str, special: &[char]) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if special.contains(&c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
