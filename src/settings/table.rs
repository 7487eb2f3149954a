//! [`TABLE`]: the one table of settings, a row for each and a column for each
//! dialect.
//!
//! A row is a setting of `zpa`, or a flag that only ancestors have. Its columns
//! ([`Column`]) say how an ancestor names it, what holds there if nothing is
//! said, and what becomes of it.

mod access;
mod ancestors;
mod app;
mod clients;
mod process;

use std::fmt;

use super::Settings;
use crate::workload::Dialect;

/// Reads a text that is not empty and stores what it means, or says in a clause
/// why it means nothing.
pub(super) type Store = fn(&mut Settings, &str) -> Result<(), String>;

/// A setting: how it is given, what it means, and how it is read.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The flag's name, without its dashes: that of `zpa`, or of the ancestors
    /// where only they have it.
    pub flag: &'static str,
    /// Other names of `zpa`'s flag, of which one letter is a short flag. They
    /// are understood, but not advertised.
    pub aliases: &'static [&'static str],
    /// The variables, the first that is set counts. The first is `ZPA_` and
    /// the flag's name. A flag that only ancestors have has none.
    pub variables: &'static [&'static str],
    /// The flag of the setting of which it says a part, if it does.
    pub part_of: Option<&'static str>,
    /// What stands for the value in the help.
    pub placeholder: &'static str,
    /// What its value is like.
    pub takes: ValueKind,
    /// What holds if nothing is said.
    pub unset: Unset,
    /// What it is for: a sentence or a few, without the full stop at the end.
    pub help: &'static str,
    /// Values that are right, for the errors; at least one.
    pub examples: &'static [&'static str],
    /// How the ancestors have it; a dialect is in one column at most.
    pub columns: &'static [Column],
    pub(super) store: Store,
    /// What is stored, as a text that would be read as the same; `None` if that
    /// is [`Unset::Means`].
    pub(super) show: fn(&Settings) -> Option<String>,
}

/// A setting in the dialects of ancestors.
#[derive(Clone, Copy)]
pub struct Column {
    /// In which.
    pub dialects: &'static [Dialect],
    /// The flag's names, of which one letter is a short flag; none where the
    /// ancestor has no such flag.
    pub names: &'static [&'static str],
    /// What holds if nothing is said.
    pub unset: Unset,
    /// What becomes of the flag.
    pub fate: Support,
    /// What it is for, if not the same as for `zpa`.
    pub help: Option<&'static str>,
    /// How it is read, if not like `zpa`'s own.
    pub(super) store: Option<Store>,
}

/// What a setting's value is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A text; of several the last counts.
    Text,
    /// Several texts, one with each flag, or one with each line of the variable.
    Texts,
    /// A text that is not to be shown.
    Secret,
    /// Nothing, or `=true` or `=false`.
    Switch,
}

/// What holds if a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// This value, read like a user's.
    Default(&'static str),
    /// No value; the text says what that means.
    Means(&'static str),
}

/// What becomes of an ancestor's flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is stored.
    Kept,
    /// It has lost its meaning, for that reason: a warning.
    Lost(&'static str),
    /// It cannot be had, for that reason: an error.
    Refused(&'static str),
}

impl Column {
    /// A flag that means what `zpa`'s own means.
    const fn new(
        dialects: &'static [Dialect],
        names: &'static [&'static str],
        unset: Unset,
    ) -> Column {
        Column {
            dialects,
            names,
            unset,
            fate: Support::Kept,
            help: None,
            store: None,
        }
    }

    /// A value of the ancestor's where it has no flag.
    const fn value(dialects: &'static [Dialect], unset: Unset) -> Column {
        Column::new(dialects, &[], unset)
    }

    /// Read in another way than `zpa`'s own.
    const fn read(self, store: Store) -> Column {
        Column {
            store: Some(store),
            ..self
        }
    }

    /// For something else than in `zpa`'s own dialect.
    const fn meaning(self, help: &'static str) -> Column {
        Column {
            help: Some(help),
            ..self
        }
    }

    /// A flag that is accepted, and changes nothing.
    const fn lost(
        dialects: &'static [Dialect],
        names: &'static [&'static str],
        why: &'static str,
    ) -> Column {
        Column {
            fate: Support::Lost(why),
            ..Column::new(dialects, names, NOTHING)
        }
    }

    /// A flag that is an error.
    const fn refused(
        dialects: &'static [Dialect],
        names: &'static [&'static str],
        why: &'static str,
    ) -> Column {
        Column {
            fate: Support::Refused(why),
            ..Column::new(dialects, names, NOTHING)
        }
    }
}

const NOTHING: Unset = Unset::Means("nothing");
const GO: &[Dialect] = &[Dialect::Go];
const PYTHON: &[Dialect] = &[Dialect::PythonDeployment, Dialect::PythonLabels];
const PYTHON_DEPLOYMENT: &[Dialect] = &[Dialect::PythonDeployment];
const PYTHON_LABELS: &[Dialect] = &[Dialect::PythonLabels];

/// What a row has if it does not say otherwise.
const ROW: Setting = Setting {
    flag: "",
    aliases: &[],
    variables: &[],
    part_of: None,
    placeholder: "",
    takes: ValueKind::Text,
    unset: NOTHING,
    help: "",
    examples: &[],
    columns: &[],
    store: |_, _| Ok(()),
    show: |_| None,
};

/// Every setting, in the order in which the help has them.
pub static TABLE: &[Setting] = &ROWS;

static ROWS: [Setting; COUNT] = joined();

const PARTS: [&[Setting]; 5] = [
    app::ROWS,
    clients::ROWS,
    process::ROWS,
    access::ROWS,
    ancestors::ROWS,
];

const COUNT: usize = {
    let (mut part, mut rows) = (0, 0);
    while part < PARTS.len() {
        rows += PARTS[part].len();
        part += 1;
    }
    rows
};

/// The parts one after the other.
const fn joined() -> [Setting; COUNT] {
    let mut rows = [ROW; COUNT];
    let (mut part, mut at) = (0, 0);
    while part < PARTS.len() {
        let mut row = 0;
        while row < PARTS[part].len() {
            rows[at] = PARTS[part][row];
            at += 1;
            row += 1;
        }
        part += 1;
    }
    rows
}

impl Setting {
    /// Whether `zpa` itself has it, and not only an ancestor.
    pub fn is_own(&self) -> bool {
        !self.variables.is_empty()
    }

    /// How that ancestor has it, if it does.
    pub fn column(&self, dialect: Dialect) -> Option<&'static Column> {
        self.columns
            .iter()
            .find(|column| column.dialects.contains(&dialect))
    }

    /// The flag's names in that dialect, the one to show first.
    pub fn names(&self, dialect: Dialect) -> impl Iterator<Item = &'static str> {
        let (flag, names) = match dialect {
            Dialect::Zpa if self.is_own() => (Some(self.flag), self.aliases),
            Dialect::Zpa => (None, &[][..]),
            _ => (None, self.column(dialect).map_or(&[][..], |it| it.names)),
        };
        flag.into_iter().chain(names.iter().copied())
    }

    /// What holds in that dialect if nothing is said.
    pub fn unset(&self, dialect: Dialect) -> Unset {
        self.column(dialect).map_or(self.unset, |it| it.unset)
    }

    /// What becomes of the flag in that dialect.
    pub fn fate(&self, dialect: Dialect) -> Support {
        self.column(dialect).map_or(Support::Kept, |it| it.fate)
    }

    /// How it is read in that dialect.
    pub(super) fn store(&self, dialect: Dialect) -> Store {
        let column = self.column(dialect);
        column.and_then(|it| it.store).unwrap_or(self.store)
    }

    /// How to give it in that dialect: `--idle-ttl (ZPA_IDLE_TTL)`. Where the
    /// dialect has several flags for its parts, by those; where it has none, by its
    /// variable alone.
    pub(super) fn given(&self, dialect: Dialect) -> String {
        let flags: Vec<String> = match self.names(dialect).next() {
            Some(name) => vec![dashed(name)],
            None => self.parts(dialect).map(dashed).collect(),
        };
        let flags = flags.join(" and ");
        match self.variables.first() {
            Some(variable) if flags.is_empty() => (*variable).to_owned(),
            Some(variable) => format!("{flags} ({variable})"),
            None => flags,
        }
    }

    /// The flags that say a part of it in that dialect.
    fn parts(&self, dialect: Dialect) -> impl Iterator<Item = &'static str> {
        let rows = TABLE.iter().filter(|row| row.part_of == Some(self.flag));
        rows.flat_map(move |row| row.names(dialect))
    }
}

impl fmt::Display for Setting {
    /// How to give it to `zpa`: `--idle-ttl (ZPA_IDLE_TTL)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given(Dialect::Zpa))
    }
}

/// How a setting is given in that dialect, for whoever has found out that its
/// value is of no use: `--listen (ZPA_LISTEN)`.
pub fn given(flag: &str, dialect: Dialect) -> String {
    let setting = TABLE.iter().find(|setting| setting.flag == flag);
    setting.map_or_else(|| dashed(flag), |setting| setting.given(dialect))
}

/// A flag's name with the dashes that it takes.
pub(super) fn dashed(name: &str) -> String {
    let dashes = if name.len() == 1 { "-" } else { "--" };
    format!("{dashes}{name}")
}

/// The setting of a flag in that dialect, and the flag's name as the table has
/// it.
pub(super) fn find(dialect: Dialect, flag: &str) -> Option<(&'static Setting, &'static str)> {
    TABLE.iter().find_map(|setting| {
        let name = setting.names(dialect).find(|name| *name == flag)?;
        Some((setting, name))
    })
}

/// The setting whose flag, of all that the dialect has, is the only one to begin
/// with `start`: Python's argparse takes that for the flag.
pub(super) fn abbreviated(
    dialect: Dialect,
    start: &str,
) -> Option<(&'static Setting, &'static str)> {
    let names = TABLE.iter().flat_map(|setting| {
        let names = setting.names(dialect);
        names.map(move |name| (setting, name))
    });
    let mut meant = names.filter(|(_, name)| name.starts_with(start));
    match (meant.next(), meant.next()) {
        (Some(only), None) if !start.is_empty() => Some(only),
        _ => None,
    }
}

/// The dialects that have that flag.
pub(super) fn dialects(flag: &str) -> Vec<Dialect> {
    let all = Dialect::ALL.into_iter();
    all.filter(|dialect| find(*dialect, flag).is_some())
        .collect()
}

/// Every variable that is read.
pub fn variables() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|setting| setting.variables).copied()
}

/// Every setting of `zpa` by its flag, with what is in force; `None` for what
/// was not said and has no default, and for what is secret. An ancestor's flags
/// are here as the settings that they have set.
pub fn in_force(settings: &Settings) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let own = TABLE.iter().filter(|setting| setting.is_own());
    own.map(|row| (row.flag, (row.show)(settings)))
}

fn reason(error: crate::address::ParseError) -> String {
    error.to_string()
}
