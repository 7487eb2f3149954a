//! The columns of the table in prose: what has become of the ancestors' flags, for
//! `--help` and for `manifests/COMING-FROM.md`.

use super::table::{Column, Setting, Support, TABLE, Unset, dashed};
use super::wrap::wrap;
use crate::workload::Dialect;

/// The dialects of one ancestor, and what it is called.
const ANCESTORS: [(&str, &[Dialect]); 2] = [
    ("zero-pod-autoscaler in Go", &[Dialect::Go]),
    (
        "traffic-pod-autoscaler in Python",
        &[Dialect::PythonDeployment, Dialect::PythonLabels],
    ),
];

/// What `--help` says of the ancestors' flags: which there are, and how they are
/// told from our own.
pub(super) fn help() -> String {
    let mut text = wrap(0, HOW_A_DIALECT_IS_TOLD);
    for (name, dialects) in ANCESTORS {
        let flags: Vec<String> = rows(dialects)
            .flat_map(|(_, column)| column.names)
            .map(|name| dashed(name))
            .collect();
        text += "  ";
        text += &wrap(4, &format!("{name}: {}", flags.join(" ")));
    }
    text
}

/// How the dialect of a command line is told.
const HOW_A_DIALECT_IS_TOLD: &str = "The flags of two other programs are read as well, with their \
     defaults. Which program's flags a command line has is told by the flags: one program has to \
     know all of them; where several do, they are zpa's own. Mixing them is an error, but the \
     variables go with the flags of each. What has become of each flag: manifests/COMING-FROM.md";

/// A table in Markdown of what has become of each flag of that ancestor: `Go` or
/// one of the two of `Python`, which share a table.
pub fn markdown(dialect: Dialect) -> String {
    let (_, dialects) = ANCESTORS
        .into_iter()
        .find(|(_, dialects)| dialects.contains(&dialect))
        .unwrap_or(("", &[]));
    let head = "| Flag there | Default | Here | What it does |\n|---|---|---|---|\n";
    rows(dialects)
        .filter(|(_, column)| !column.names.is_empty())
        .fold(head.to_owned(), |text, (setting, column)| {
            text + &markdown_row(setting, column, dialects)
        })
}

/// Every row that one of the dialects has, with the column that it has.
fn rows(dialects: &[Dialect]) -> impl Iterator<Item = (&'static Setting, &'static Column)> {
    TABLE.iter().filter_map(move |setting| {
        let column = dialects
            .iter()
            .find_map(|dialect| setting.column(*dialect))?;
        Some((setting, column))
    })
}

fn markdown_row(setting: &Setting, column: &Column, dialects: &[Dialect]) -> String {
    let names: Vec<String> = column.names.iter().map(|name| dashed(name)).collect();
    let default = match column.unset {
        Unset::Default(value) => format!("`{value}`"),
        Unset::Means(meaning) => meaning.to_owned(),
    };
    let (default, here, what) = match (column.fate, setting.variables.first()) {
        (Support::Kept, Some(variable)) => {
            let here = format!("`--{}`, `{variable}`", setting.flag);
            (default, here, column.help.unwrap_or(setting.help))
        }
        (Support::Kept, None) => (default, here_in_part(setting), setting.help),
        (Support::Lost(why), _) => (String::new(), "without a meaning".to_owned(), why),
        (Support::Refused(why), _) => (String::new(), "refused".to_owned(), why),
    };
    let age = match dialects.len() - column.dialects.len() {
        0 => "",
        _ if column.dialects.contains(&Dialect::PythonLabels) => " (newer code)",
        _ => " (older code)",
    };
    format!(
        "| `{}`{age} | {default} | {here} | {what} |\n",
        names.join("`, `")
    )
}

/// Where a flag has gone that only ancestors have.
fn here_in_part(setting: &Setting) -> String {
    let whole = TABLE.iter().find(|row| Some(row.flag) == setting.part_of);
    match whole.and_then(|row| Some((row.flag, row.variables.first()?))) {
        Some((flag, variable)) => format!("a part of `--{flag}`, `{variable}`"),
        None => "under this name alone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_every_ancestor_is_in_the_help_and_in_its_table() {
        let help = help();
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
        let words: Vec<&str> = help.split_whitespace().collect();
        for dialect in [
            Dialect::Go,
            Dialect::PythonDeployment,
            Dialect::PythonLabels,
        ] {
            let table = markdown(dialect);
            for setting in TABLE {
                for name in setting.names(dialect) {
                    let flag = dashed(name);
                    assert!(words.contains(&flag.as_str()), "{flag} in {help}");
                    assert!(table.contains(&format!("`{flag}`")), "{flag} in {table}");
                }
            }
            let columns = table.lines().map(|line| line.matches('|').count());
            assert!(columns.min() == Some(5), "{table}");
        }
    }

    #[test]
    fn a_flag_of_one_age_says_so() {
        let table = markdown(Dialect::PythonLabels);
        for line in [
            "| `--deployment` (older code) | required | `--deployment`, `ZPA_DEPLOYMENT` | ",
            "| `--ping-url` (newer code) | `/ping` | under this name alone | ",
            "| `--expiration-time` | `30m` | `--idle-ttl`, `ZPA_IDLE_TTL` | ",
            "| `--local-port` | 80 | a part of `--listen`, `ZPA_LISTEN` | ",
            "| `--check-interval` |  | without a meaning | ",
        ] {
            assert!(table.contains(line), "{line} in {table}");
        }
    }
}
