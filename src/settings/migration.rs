//! The texts about the flags of the ancestors, for `--help` and
//! `manifests/COMING-FROM.md`.

use super::table::{Column, Setting, Support, TABLE, Unset, dashed};
use super::wrap::wrap;
use crate::workload::Dialect;

/// The names and dialects of the ancestors.
const ANCESTORS: [(&str, &[Dialect]); 2] = [
    ("zero-pod-autoscaler in Go", &[Dialect::Go]),
    (
        "traffic-pod-autoscaler in Python",
        &[Dialect::PythonDeployment, Dialect::PythonLabels],
    ),
];

/// The part of `--help` about the ancestors' flags.
pub(super) fn help() -> String {
    let mut text = wrap(0, DIALECTS);
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

/// How the dialect of a command line is detected.
const DIALECTS: &str = "The flags of two other programs are accepted too, with their defaults. A \
     command line uses the flags of the program that has all of them; if several have, they are \
     zpa's own. Mixed flags are an error, but the variables can be combined with the flags of \
     each. The effect of each flag here: manifests/COMING-FROM.md";

/// The Markdown table of the flags of an ancestor: `Go`, or one of the two dialects of
/// `Python`, which share a table.
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

/// Every row with a column of one of the dialects, and that column.
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
    let (default, here, what) = match (column.support, setting.variables.first()) {
        (Support::Supported, Some(variable)) => {
            let here = format!("`--{}`, `{variable}`", setting.flag);
            (default, here, column.help.unwrap_or(setting.help))
        }
        (Support::Supported, None) => (default, here_in_part(setting), setting.help),
        (Support::Ignored(why), _) => (String::new(), "without effect".to_owned(), why),
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

/// The cell about a flag that only ancestors have.
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
            "| `--check-interval` |  | without effect | ",
        ] {
            assert!(table.contains(line), "{line} in {table}");
        }
    }
}
