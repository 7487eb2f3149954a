//! [`RawSettings`]: the texts of flags and variables, before they are parsed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use lexopt::{Arg, Parser};

use super::links::is_service_link;
use super::quote::quote;
use super::table::{self, Setting, TABLE, ValueKind, dashed};
use super::{Invocation, Origin, dialect, help};
use crate::workload::{ANNOTATION_PREFIX, Dialect};

/// Raw values by the flag of their setting.
pub(super) type Values = BTreeMap<&'static str, Vec<RawValue>>;

/// The raw values, and the errors of the command line.
#[derive(Debug)]
pub(super) struct RawSettings {
    pub(super) dialect: Dialect,
    pub(super) origin: Origin,
    pub(super) values: Values,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// The options of a command, which takes them out of the command line.
    options: Vec<&'static str>,
}

/// A value of a setting as text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RawValue {
    from: Source,
    /// Whether the value may be shown.
    is_public: bool,
    pub(super) value: OsString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Flag(&'static str),
    Variable(&'static str),
    /// A key of an entry in a list of apps.
    Key(&'static str),
    /// An annotation of a Service, without what all of them begin with.
    Annotation(&'static str),
}

impl RawValue {
    /// The value of a setting's key in a list of apps.
    pub(super) fn of_key(setting: &'static Setting, value: String) -> RawValue {
        RawValue {
            from: Source::Key(setting.flag),
            is_public: setting.takes != ValueKind::Secret,
            value: value.into(),
        }
    }

    /// The value of an annotation of a Service.
    pub(super) fn of_annotation(name: &'static str, value: OsString) -> RawValue {
        RawValue {
            from: Source::Annotation(name),
            is_public: true,
            value,
        }
    }

    /// Whether it comes from a variable, and not from a flag.
    pub(super) fn is_variable(&self) -> bool {
        matches!(self.from, Source::Variable(_))
    }

    /// The flag, the variable, the key or the annotation.
    pub(super) fn name(&self) -> String {
        match self.from {
            Source::Flag(name) => dashed(name),
            Source::Annotation(name) => format!("{ANNOTATION_PREFIX}{name}"),
            Source::Variable(name) | Source::Key(name) => name.to_owned(),
        }
    }
}

impl fmt::Debug for RawValue {
    /// Without a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for RawValue {
    /// `--idle-ttl="5x"` or `ZPA_IDLE_TTL="5x"`; only `--idle-ttl` if the value is empty or
    /// secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if self.value.is_empty() || !self.is_public {
            return Ok(());
        }
        write!(f, "={}", quote(&self.value))
    }
}

impl RawSettings {
    /// No values yet, for that dialect.
    pub(super) fn new(dialect: Dialect) -> RawSettings {
        RawSettings {
            dialect,
            origin: Origin::CommandLine,
            values: BTreeMap::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            options: Vec::new(),
        }
    }

    /// The same, for the command line of a command that has options.
    pub(super) fn beside(self, options: Vec<&'static str>) -> RawSettings {
        RawSettings { options, ..self }
    }

    /// Parses the command line; returns a `--help` or `--version` in it.
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
                Ok(Some(Arg::Short(letter))) => self.take_short(letter, &mut parser),
                Ok(Some(Arg::Value(value))) => self.refuse_positional(&value),
                // A value of `--help` or `--version`, which take precedence.
                Err(_) => {}
            }
        }
    }

    /// Reads the variables of settings that the command line does not have.
    pub(super) fn read_environment(&mut self, env: impl Fn(&str) -> Option<OsString>) {
        for setting in TABLE {
            if self.values.contains_key(setting.flag) {
                continue;
            }
            let given = setting.variables.iter().find_map(|name| {
                let value = env(name).filter(|value| is_set(name, value))?;
                Some((*name, value))
            });
            let Some((name, value)) = given else {
                continue;
            };
            for value in texts(setting, value) {
                self.take(setting, Source::Variable(name), value);
            }
        }
    }

    /// A flag without a value counts as one with an empty value: both are the same error.
    fn take_long(&mut self, name: String, parser: &mut Parser) {
        let Some((setting, name)) = self.find(&name) else {
            self.refuse("--", name);
            skip_value(parser);
            return;
        };
        let attached = parser.optional_value();
        let value = match setting.takes {
            ValueKind::Switch => attached.or_else(|| Some("true".into())),
            _ => attached.or_else(|| detached_value(parser)),
        };
        self.take(setting, Source::Flag(name), value.unwrap_or_default());
    }

    fn find(&self, name: &str) -> Option<(&'static Setting, &'static str)> {
        let exact = table::find(self.dialect, name).filter(|(_, name)| name.len() > 1);
        match exact {
            None if self.dialect.is_python() => table::abbreviated(self.dialect, name),
            exact => exact,
        }
    }

    /// Parses `-n a`, `-n=a` or `-na`. Go's `flag` accepts `-idle-ttl` for `--idle-ttl`; here
    /// it is an error, which is reported once and not for each letter.
    fn take_short(&mut self, letter: char, parser: &mut Parser) {
        let rest = parser.optional_value();
        let word = format!(
            "{letter}{}",
            rest.as_deref().unwrap_or_default().to_string_lossy()
        );
        let known = dialect::short(&word).and_then(|name| table::find(self.dialect, name));
        if let Some((setting, name)) = known {
            let value = rest.or_else(|| detached_value(parser)).unwrap_or_default();
            return self.take(setting, Source::Flag(name), value);
        }
        let name = word.split('=').next().unwrap_or_default();
        self.refuse("-", name.to_owned());
        if !word.contains('=') {
            skip_value(parser);
        }
    }

    /// Stores a value. If it is a reference to a variable that Kubernetes has not expanded,
    /// it counts as unset.
    fn take(&mut self, setting: &'static Setting, from: Source, value: OsString) {
        let is_public = setting.takes != ValueKind::Secret;
        let raw = RawValue {
            from,
            is_public,
            value,
        };
        if is_unexpanded(&raw.value) {
            self.warnings.push(format!(
                "{}={} counts as not given: the pod has no variable of that name",
                raw.name(),
                quote(&raw.value)
            ));
            return;
        }
        self.values.entry(setting.flag).or_default().push(raw);
    }

    fn refuse(&mut self, dashes: &str, name: String) {
        let shown = quote(format!("{dashes}{name}").as_ref());
        let nearest = help::nearest_flag(self.dialect, &name, &self.options);
        self.errors.push(match nearest {
            Some(known) => format!("{shown}: there is no such flag; did you mean --{known}?"),
            None => format!("{shown}: there is no such flag; --help lists them"),
        });
    }

    fn refuse_positional(&mut self, value: &OsStr) {
        let shown = quote(value);
        self.errors.push(format!(
            "{shown}: stands alone; every setting is a flag, e.g. --deployment=my-app"
        ));
    }
}

/// The texts in the value of a variable: its lines, for a setting that takes several.
pub(super) fn texts(setting: &Setting, value: OsString) -> Vec<OsString> {
    match value.to_str() {
        Some(text) if setting.takes == ValueKind::Texts => {
            let lines = text.lines().filter(|line| !line.is_empty());
            lines.map(OsString::from).collect()
        }
        _ => vec![value],
    }
}

/// Whether a value is a reference to a variable, which Kubernetes leaves in `args` and `env`
/// if the container has no such variable (`expand` in
/// `third_party/forked/golang/expansion`).
fn is_unexpanded(value: &OsStr) -> bool {
    let name = value
        .to_str()
        .and_then(|text| text.strip_prefix("$(")?.strip_suffix(')'));
    name.is_some_and(|name| !name.is_empty() && !name.contains(['(', ')']))
}

/// The next argument, unless it begins with two dashes: then the value is missing. An
/// argument with one dash, such as `-5s`, is a value.
fn detached_value(parser: &mut Parser) -> Option<OsString> {
    let mut rest = parser.try_raw_args()?;
    rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"--"))
}

/// Drops the value of an unknown flag, which would be a second error otherwise.
fn skip_value(parser: &mut Parser) {
    if parser.optional_value().is_some() {
        return;
    }
    if let Some(mut rest) = parser.try_raw_args() {
        let _ = rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"-"));
    }
}

/// Whether a variable is set: an empty one is not, nor is a service link of Kubernetes.
fn is_set(name: &str, value: &OsStr) -> bool {
    !value.is_empty() && !is_service_link(name, value)
}
