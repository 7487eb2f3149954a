//! The text of `--help`, the table of settings in SETTINGS.md, and suggestions for unknown flags.

use super::migration;
use super::table::{Scope, Setting, TABLE, Unset};
use super::wrap::wrap;
use crate::workload::Dialect;

/// The program's name and version, for `--version`.
pub fn version() -> &'static str {
    concat!("zpa ", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = format!("{}\n", version());
    text += &wrap(0, env!("CARGO_PKG_DESCRIPTION"));
    text += "\nUsage: zpa --deployment NAME [--FLAG VALUE]...\n";
    text += COMMANDS;
    let heads = own()
        .map(head)
        .chain(OTHERS.map(|(head, _)| head.to_owned()));
    let indent = heads.map(|head| head.len()).max().unwrap_or_default() + 2;
    for setting in own() {
        text += &format!("{:indent$}", head(setting));
        text += &wrap(indent, &setting.help.replace('`', ""));
        text += &format!("{:indent$}", "");
        text += &wrap(indent, &facts(setting));
    }
    for (head, body) in OTHERS {
        text += &format!("{head:indent$}{body}\n");
    }
    text + FOOT + "\n" + &migration::help() + END
}

/// The settings of `zpa` itself.
fn own() -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().filter(|setting| setting.is_own())
}

const OTHERS: [(&str, &str); 2] = [
    ("  -h, --help", "Print this text"),
    ("  -V, --version", "Print the version"),
];

const COMMANDS: &str = "       zpa manifests --deployment NAME [--FLAG VALUE]...
           prints what puts it in front of an app, for kubectl apply -f -
       zpa check --deployment NAME [--FLAG VALUE]...
           looks whether what it needs is there, and what would disturb it
       zpa uninstall --deployment NAME [--FLAG VALUE]...
           wakes an app and removes all that was put before it
       zpa explain CODE
           says more about what the check has found
       Each of the first three has a --help of its own.

";

const FOOT: &str = "
A setting is a flag or a variable of the environment. A flag beats a variable, and an empty
variable counts as unset. A duration is written as in Go (300ms, 90s, 1h30m), or in plain
seconds.
";

const END: &str = "
Documentation: README.md in the program's source
";

fn head(setting: &Setting) -> String {
    let flag = format!("  --{} {}", setting.flag, setting.placeholder);
    flag.trim_end().to_owned()
}

/// The variables and the default, in brackets.
fn facts(setting: &Setting) -> String {
    let unset = match setting.unset {
        Unset::Default(value) => format!("default: {value}"),
        Unset::Means(meaning) => format!("unset: {meaning}"),
    };
    let variables = setting.variables.join(", ");
    format!("[{variables}; {unset}]").replace('`', "")
}

/// The sentence of `manifests/SETTINGS.md` about what a setting belongs to. In the table, those of an app
/// come before those of the process.
pub fn scopes() -> String {
    let first = own().find(|setting| setting.scope == Scope::Process);
    let first = first.map_or("", |setting| setting.flag);
    format!("Those from `--{first}` on belong to the process, and those before it to an app.")
}

/// The table of settings in `manifests/SETTINGS.md`.
pub fn markdown_table() -> String {
    let head = "| Flag | Variable | Default | Meaning |\n|---|---|---|---|\n";
    own().fold(head.to_owned(), |text, row| text + &markdown_row(row))
}

fn markdown_row(setting: &Setting) -> String {
    let variables = setting.variables.join("`, `");
    let unset = match setting.unset {
        Unset::Default(value) => format!("`{value}`"),
        Unset::Means(meaning) => meaning.to_owned(),
    };
    let (flag, help) = (setting.flag, setting.help);
    format!("| `--{flag}` | `{variables}` | {unset} | {help} |\n")
}

/// The flag that was probably meant by `name`: one that begins with it, or the one with the
/// least edit distance.
pub(super) fn nearest(dialect: Dialect, name: &str) -> Option<&'static str> {
    let name = name.trim_start_matches('-');
    // A longer text is no misspelt flag, and the distance takes quadratic time.
    if name.len() < 2 || name.len() > 40 {
        return None;
    }
    let flags = TABLE.iter().flat_map(|setting| setting.names(dialect));
    let long = flags.filter(|flag| flag.len() > 1);
    let known = long.chain(["help", "version"]);
    let (distance, flag) = known
        .map(|flag| {
            if flag.starts_with(name) {
                (0, flag)
            } else {
                (distance(name, flag), flag)
            }
        })
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= flag.len() / 3).then_some(flag)
}

/// Levenshtein's distance: how many bytes to insert, to drop or to replace.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
