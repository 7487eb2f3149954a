//! [`Command`]: what a command is called and takes, from which its help and the completion of
//! shells are made.

use std::ffi::OsString;

use super::options::CommandOption;
use super::{Environment, Output};
use crate::settings::{self, wrap};

/// A command of `zpa`.
pub struct Command {
    /// The first argument.
    pub name: &'static str,
    /// What it does, for the list of commands.
    pub summary: &'static str,
    /// The arguments behind the name, one text for each way to use it.
    pub usage: &'static [&'static str],
    /// What it does, in paragraphs.
    pub about: &'static str,
    /// Its own options.
    pub options: &'static [CommandOption],
    /// What the settings' flags are for, where it takes them.
    pub settings: Option<&'static str>,
    /// The values of its only argument, where it takes one.
    pub words: fn() -> Vec<&'static str>,
    /// The variables of the environment that it reads.
    pub variables: &'static [(&'static str, &'static str)],
    /// Its exit codes.
    pub exit_codes: &'static [(u8, &'static str)],
    /// Command lines behind the name, and what each is for.
    pub examples: &'static [(&'static str, &'static str)],
    /// Runs it, with the arguments behind the name.
    pub run: fn(&[OsString], &Environment<'_>) -> Output,
}

/// The option of every command.
pub const HELP: CommandOption = CommandOption::switch("--help", "", "Print this text");

/// The exit codes of a command that prints a text.
pub const PRINTED: &[(u8, &str)] = &[
    (0, "printed"),
    (1, "could not be written"),
    (2, "wrong arguments"),
];

impl Command {
    /// The text of its `--help`.
    pub fn help(&self) -> String {
        let mut text = String::new();
        for paragraph in self.about.split("\n\n") {
            text += &wrap(0, paragraph);
            text += "\n";
        }
        for (usage, head) in self.usage.iter().zip(HEADS) {
            text += format!("{head} zpa {} {usage}", self.name).trim_end();
            text += "\n";
        }
        text += "\nOptions:\n";
        for option in self.options {
            let head = format!("  {} {}", option.name, option.placeholder);
            let facts = format!("{} [default: {}]", option.help, option.default);
            text += &entry(head.trim_end(), &facts);
        }
        text += &entry("  -h, --help", HELP.help);
        text += &entry("  -V, --version", "Print the version");
        if let Some(settings) = self.settings {
            text += "\n";
            text += &wrap(0, settings);
        }
        text += &section("Environment", self.variables.iter().copied());
        let codes = self.exit_codes.iter();
        let codes = codes.map(|(code, meaning)| (code.to_string(), *meaning));
        text += "\nExit codes:\n";
        for (code, meaning) in codes {
            text += &format!("  {code}  {}", wrap(5, meaning));
        }
        let examples = self.examples.iter();
        let examples: Vec<(String, &str)> = examples
            .map(|(line, purpose)| (format!("zpa {} {line}", self.name), *purpose))
            .collect();
        text + &section("Examples", examples.iter().map(|(line, it)| (&**line, *it)))
    }

    /// The names of its own options, without the dashes.
    pub fn option_names(&self) -> Vec<&'static str> {
        let names = self.options.iter().map(|option| option.name);
        names.map(|name| name.trim_start_matches('-')).collect()
    }

    /// What is said of an argument that is none of its [`words`](Command::words).
    pub fn refuse(&self, given: Option<&str>, what: &str) -> Output {
        let words = (self.words)();
        let known = words.iter().copied();
        let nearest = given.and_then(|given| {
            let known_by = |name: &str| settings::nearest(name, known.clone());
            known_by(given).or_else(|| known_by(&given.to_ascii_uppercase()))
        });
        let cure = match nearest {
            Some(word) => format!("did you mean {word}?"),
            None => format!("give one of: {}", words.join(", ")),
        };
        let subject = match given {
            Some(given) => format!("{given:?} is not {what}"),
            None => format!("{} takes {what}", self.name),
        };
        Output::Errors(vec![format!("{subject}; {cure}")])
    }
}

/// What stands before the first way to use a command, and before the others.
const HEADS: [&str; 4] = ["Usage:", "      ", "      ", "      "];

fn section<'a>(title: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let entries: String = entries
        .map(|(head, text)| entry(&format!("  {head}"), text))
        .collect();
    match entries.is_empty() {
        true => entries,
        false => format!("\n{title}:\n{entries}"),
    }
}

/// A head, and below it a text that is indented.
fn entry(head: &str, text: &str) -> String {
    format!("{head}\n      {}", wrap(6, text))
}
