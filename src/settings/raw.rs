//! What the user said: texts, and where they came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use lexopt::{Arg, Parser};

use super::links::is_service_link;
use super::quote::quote;
use super::table::{self, TABLE};
use super::{Invocation, help};

/// What the user said, by the setting's flag, and what could not be understood.
#[derive(Debug, Default)]
pub(super) struct RawSettings {
    pub(super) values: BTreeMap<&'static str, RawValue>,
    pub(super) errors: Vec<String>,
}

/// One setting's value, as the user gave it.
#[derive(Debug)]
pub(super) struct RawValue {
    from: Source,
    pub(super) value: OsString,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Flag(&'static str),
    Variable(&'static str),
}

impl fmt::Display for RawValue {
    /// `--idle-ttl="5x"` or `ZPA_IDLE_TTL="5x"`; `--idle-ttl` if it was given no
    /// value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Source::Flag(name) => write!(f, "--{name}")?,
            Source::Variable(name) => f.write_str(name)?,
        }
        if self.value.is_empty() {
            return Ok(());
        }
        write!(f, "={}", quote(&self.value))
    }
}

impl RawSettings {
    /// Takes in the command line; a `--help` or `--version` in it is returned.
    pub(super) fn parse_flags(
        &mut self,
        args: impl IntoIterator<Item = OsString>,
    ) -> Option<Invocation> {
        let mut parser = Parser::from_args(args);
        let mut shortcut = None;
        loop {
            match parser.next() {
                Ok(None) => return shortcut,
                Ok(Some(Arg::Short('h') | Arg::Long("help"))) => {
                    shortcut = shortcut.or(Some(Invocation::Help));
                }
                Ok(Some(Arg::Short('V') | Arg::Long("version"))) => {
                    shortcut = shortcut.or(Some(Invocation::Version));
                }
                Ok(Some(Arg::Long(name))) => {
                    let name = name.to_owned();
                    self.take_long(name, &mut parser);
                }
                Ok(Some(Arg::Short(letter))) => self.refuse_short(letter, &mut parser),
                Ok(Some(Arg::Value(value))) => self.refuse_positional(&value),
                // A value for `--help` or `--version`, which goes first.
                Err(_) => {}
            }
        }
    }

    /// Takes in the environment, where the command line was silent.
    pub(super) fn read_environment(&mut self, env: impl Fn(&str) -> Option<OsString>) {
        for setting in TABLE {
            let word = setting.variables.iter().find_map(|name| {
                let value = env(name).filter(|value| is_set(name, value))?;
                let from = Source::Variable(name);
                Some(RawValue { from, value })
            });
            if let Some(word) = word {
                self.values.entry(setting.flag).or_insert(word);
            }
        }
    }

    /// A flag without a value is kept as one with an empty value: both are
    /// the same mistake.
    fn take_long(&mut self, name: String, parser: &mut Parser) {
        let Some((setting, name)) = table::find(&name) else {
            self.refuse("--", name);
            skip_value(parser);
            return;
        };
        let value = parser.optional_value().or_else(|| detached_value(parser));
        let word = RawValue {
            from: Source::Flag(name),
            value: value.unwrap_or_default(),
        };
        self.values.insert(setting.flag, word);
    }

    fn refuse(&mut self, dashes: &str, name: String) {
        let shown = quote(format!("{dashes}{name}").as_ref());
        self.errors.push(match help::nearest(&name) {
            Some(known) => format!("{shown}: there is no such flag; did you mean --{known}?"),
            None => format!("{shown}: there is no such flag; --help lists them"),
        });
    }

    /// Go's programs take `-idle-ttl` for `--idle-ttl`; here it is a mistake,
    /// and one to be mentioned once, not letter by letter.
    fn refuse_short(&mut self, letter: char, parser: &mut Parser) {
        let rest = parser.optional_value().unwrap_or_default();
        let word = format!("{letter}{}", rest.to_string_lossy());
        let name = word.split('=').next().unwrap_or_default();
        self.refuse("-", name.to_owned());
        if !word.contains('=') {
            skip_value(parser);
        }
    }

    fn refuse_positional(&mut self, value: &OsStr) {
        let shown = quote(value);
        self.errors.push(format!(
            "{shown}: stands alone; every setting is a flag, e.g. --deployment=my-app"
        ));
    }
}

/// The next argument, unless it looks like a flag: then a value was forgotten.
/// (One dash is no flag of ours: `-5s` is a wrong value, and better said so.)
fn detached_value(parser: &mut Parser) -> Option<OsString> {
    let mut rest = parser.try_raw_args()?;
    rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"--"))
}

/// Drops the value of an unknown flag, which would else be a second mistake.
fn skip_value(parser: &mut Parser) {
    if parser.optional_value().is_some() {
        return;
    }
    if let Some(mut rest) = parser.try_raw_args() {
        let _ = rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"-"));
    }
}

/// An empty variable counts as unset, and so does a service link: the user has
/// said nothing there.
fn is_set(name: &str, value: &OsStr) -> bool {
    !value.is_empty() && !is_service_link(name, value)
}
