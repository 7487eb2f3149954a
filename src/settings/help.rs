//! The text of `--help`, the table of settings in SETTINGS.md, and suggestions for unknown flags.

use super::migration;
use super::nearest::nearest;
use super::table::{Scope, Setting, TABLE, Unset};
use super::wrap::wrap;
use crate::workload::Dialect;

/// The program's name and version, for `--version`.
pub fn version() -> &'static str {
    concat!("zpa ", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`; `commands` is its part about the commands.
pub fn help(commands: &str) -> String {
    let mut text = format!("{}\n", version());
    text += &wrap(0, env!("CARGO_PKG_DESCRIPTION"));
    text += "\nUsage: zpa --deployment NAME [--FLAG VALUE]...\n";
    text += commands;
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

/// The sentence of `manifests/SETTINGS.md` about what a setting belongs to. In the table, those of
/// an app come before those of the process.
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

/// The flag that was probably meant by `name`, one of the dialect or of `others`.
pub(super) fn nearest_flag(
    dialect: Dialect,
    name: &str,
    others: &[&'static str],
) -> Option<&'static str> {
    let flags = TABLE.iter().flat_map(|setting| setting.names(dialect));
    let long = flags.filter(|flag| flag.len() > 1);
    let known = others.iter().copied().chain(long);
    nearest(
        name.trim_start_matches('-'),
        known.chain(["help", "version"]),
    )
}
