//! [`TABLE`]: the table of settings, with a row for each setting and a column for each
//! dialect.
//!
//! A row is a setting of `zpa`, or a flag that only ancestors have. Its columns ([`Column`])
//! have the names of the ancestors' flags, their defaults, and whether they are supported.

mod access;
mod ancestors;
mod app;
mod clients;
mod process;

use std::fmt;

use super::Settings;
use crate::workload::Dialect;

/// Parses a text that is not empty and stores the value. An error is a clause with the reason.
pub(super) type Store = fn(&mut Settings, &str) -> Result<(), String>;

/// A row of the table: a setting.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The name of the flag without dashes: `zpa`'s, or the ancestors' if only they have it.
    pub flag: &'static str,
    /// Other names of `zpa`'s flag, which the help does not show. A name of one letter is a
    /// short flag.
    pub aliases: &'static [&'static str],
    /// The variables, of which the first that is set counts. The first is `ZPA_` and the name
    /// of the flag. A flag that only ancestors have has none.
    pub variables: &'static [&'static str],
    /// The flag of the setting that this row is a part of, if it is.
    pub part_of: Option<&'static str>,
    /// The placeholder of the value in the help.
    pub placeholder: &'static str,
    /// Whether it belongs to an app or to the process.
    pub scope: Scope,
    /// The kind of the value.
    pub takes: ValueKind,
    /// The default.
    pub unset: Unset,
    /// The help text, without the full stop at its end.
    pub help: &'static str,
    /// The values that have a name, for the completion of shells. There may be others.
    pub choices: &'static [&'static str],
    /// Valid values, for error messages; at least one.
    pub examples: &'static [&'static str],
    /// The flags of the ancestors; a dialect is in one column at most.
    pub columns: &'static [Column],
    pub(super) store: Store,
    /// The stored value as a text that would be parsed to the same value; `None` if it is
    /// [`Unset::Means`].
    pub(super) show: fn(&Settings) -> Option<String>,
}

/// A setting in the dialects of ancestors.
#[derive(Clone, Copy)]
pub struct Column {
    /// The dialects of the column.
    pub dialects: &'static [Dialect],
    /// The names of the flag; none if the ancestor has no such flag. A name of one letter is a
    /// short flag.
    pub names: &'static [&'static str],
    /// The default.
    pub unset: Unset,
    /// Whether the flag is supported.
    pub support: Support,
    /// The help text, if it differs from `zpa`'s.
    pub help: Option<&'static str>,
    /// The parser, if it differs from `zpa`'s.
    pub(super) store: Option<Store>,
}

/// What a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One app.
    App,
    /// The process, and so all of its apps.
    Process,
}

/// The kind of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A text; if given several times, the last counts.
    Text,
    /// Several texts, one with each flag, or one with each line of the variable.
    Texts,
    /// A text that is never shown.
    Secret,
    /// Nothing, or `=true` or `=false`.
    Switch,
}

/// The default of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// A value, which is parsed like a given one.
    Default(&'static str),
    /// No value; the text explains the effect.
    Means(&'static str),
}

/// Whether an ancestor's flag is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The flag has its effect.
    Supported,
    /// The flag is accepted without effect, with a warning; the text is the reason.
    Ignored(&'static str),
    /// The flag is an error; the text is the reason.
    Refused(&'static str),
}

impl Column {
    /// A flag with the meaning of `zpa`'s own.
    const fn new(
        dialects: &'static [Dialect],
        names: &'static [&'static str],
        unset: Unset,
    ) -> Column {
        Column {
            dialects,
            names,
            unset,
            support: Support::Supported,
            help: None,
            store: None,
        }
    }

    /// The ancestor's fixed value, if it has no flag.
    const fn value(dialects: &'static [Dialect], unset: Unset) -> Column {
        Column::new(dialects, &[], unset)
    }

    /// With another parser than `zpa`'s own.
    const fn read(self, store: Store) -> Column {
        Column {
            store: Some(store),
            ..self
        }
    }

    /// With another help text than `zpa`'s own.
    const fn meaning(self, help: &'static str) -> Column {
        Column {
            help: Some(help),
            ..self
        }
    }

    /// A flag that is accepted without effect.
    const fn ignored(
        dialects: &'static [Dialect],
        names: &'static [&'static str],
        why: &'static str,
    ) -> Column {
        Column {
            support: Support::Ignored(why),
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
            support: Support::Refused(why),
            ..Column::new(dialects, names, NOTHING)
        }
    }
}

const NOTHING: Unset = Unset::Means("nothing");
const GO: &[Dialect] = &[Dialect::Go];
const PYTHON: &[Dialect] = &[Dialect::PythonDeployment, Dialect::PythonLabels];
const PYTHON_DEPLOYMENT: &[Dialect] = &[Dialect::PythonDeployment];
const PYTHON_LABELS: &[Dialect] = &[Dialect::PythonLabels];

/// The defaults of the fields of a row of an app.
const ROW: Setting = Setting {
    flag: "",
    aliases: &[],
    variables: &[],
    part_of: None,
    placeholder: "",
    scope: Scope::App,
    takes: ValueKind::Text,
    unset: NOTHING,
    help: "",
    choices: &[],
    examples: &[],
    columns: &[],
    store: |_, _| Ok(()),
    show: |_| None,
};

/// The same for a row of the process.
const PROCESS_ROW: Setting = Setting {
    scope: Scope::Process,
    ..ROW
};

/// Every setting, in the order of the help.
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

/// The rows of all parts.
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
    /// Whether `zpa` has it, and not only ancestors.
    pub fn is_own(&self) -> bool {
        !self.variables.is_empty()
    }

    /// The column of a dialect, if there is one.
    pub fn column(&self, dialect: Dialect) -> Option<&'static Column> {
        self.columns
            .iter()
            .find(|column| column.dialects.contains(&dialect))
    }

    /// The names of the flag in that dialect, first the one to show.
    pub fn names(&self, dialect: Dialect) -> impl Iterator<Item = &'static str> {
        let (flag, names) = match dialect {
            Dialect::Zpa if self.is_own() => (Some(self.flag), self.aliases),
            Dialect::Zpa => (None, &[][..]),
            _ => (None, self.column(dialect).map_or(&[][..], |it| it.names)),
        };
        flag.into_iter().chain(names.iter().copied())
    }

    /// The default in that dialect.
    pub fn unset(&self, dialect: Dialect) -> Unset {
        self.column(dialect).map_or(self.unset, |it| it.unset)
    }

    /// Whether the flag is supported in that dialect.
    pub fn support(&self, dialect: Dialect) -> Support {
        self.column(dialect)
            .map_or(Support::Supported, |it| it.support)
    }

    /// The parser in that dialect.
    pub(super) fn store(&self, dialect: Dialect) -> Store {
        let column = self.column(dialect);
        column.and_then(|it| it.store).unwrap_or(self.store)
    }

    /// How to give it in that dialect, for messages: `--idle-ttl (ZPA_IDLE_TTL)`. If the
    /// dialect has flags for its parts, those; if it has none, the variable alone.
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

    /// The flags of its parts in that dialect.
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

/// How to give a setting in that dialect, for messages: `--listen (ZPA_LISTEN)`.
pub fn given(flag: &str, dialect: Dialect) -> String {
    let setting = TABLE.iter().find(|setting| setting.flag == flag);
    setting.map_or_else(|| dashed(flag), |setting| setting.given(dialect))
}

/// The name of a flag with its dashes.
pub(super) fn dashed(name: &str) -> String {
    let dashes = if name.len() == 1 { "-" } else { "--" };
    format!("{dashes}{name}")
}

/// The setting of a flag in that dialect, with the name of the flag from the table.
pub(super) fn find(dialect: Dialect, flag: &str) -> Option<(&'static Setting, &'static str)> {
    TABLE.iter().find_map(|setting| {
        let name = setting.names(dialect).find(|name| *name == flag)?;
        Some((setting, name))
    })
}

/// The setting whose flag is the only one of the dialect that begins with `start`: Python's
/// argparse accepts that as the flag.
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

/// Every setting of `zpa` by its flag, with its value; `None` if it has no value, or a secret
/// one. An ancestor's flags appear as the settings that they have set.
pub fn in_force(settings: &Settings) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let own = TABLE.iter().filter(|setting| setting.is_own());
    own.map(|row| (row.flag, (row.show)(settings)))
}

/// Those of them that belong to an app, or to the process.
pub fn in_force_of(
    scope: Scope,
    settings: &Settings,
) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let own = TABLE.iter().filter(|setting| setting.is_own());
    let of_scope = own.filter(move |row| row.scope == scope);
    of_scope.map(|row| (row.flag, (row.show)(settings)))
}

fn reason(error: crate::address::ParseError) -> String {
    error.to_string()
}
