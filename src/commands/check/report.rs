//! The report of `zpa check`: the results in one of several formats.

use std::fmt::Write;

use serde_json::json;

use super::checks::{CheckResult, Severity, Verdict};

/// How the results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Every check, under headings.
    Table {
        /// Whether the marks are coloured.
        colours: bool,
    },
    /// A line for each result that is not as it should be.
    Short,
    /// A JSON array of objects.
    Json,
}

/// The exit code if everything works, be it with warnings.
const GOOD: u8 = 0;
/// The exit code if something is not as it should be.
const FOUND: u8 = 1;
/// The exit code if that could not be found out.
const UNKNOWN: u8 = 2;

/// The exit code of the command.
pub fn exit_code(results: &[CheckResult]) -> u8 {
    let fatal = || results.iter().filter(|it| it.severity == Severity::Fatal);
    if fatal().any(|it| matches!(it.verdict, Verdict::Bad(_))) {
        return FOUND;
    }
    match fatal().any(|it| matches!(it.verdict, Verdict::Unknown(_))) {
        true => UNKNOWN,
        false => GOOD,
    }
}

/// The results in a format.
pub fn render(results: &[CheckResult], format: Format) -> String {
    match format {
        Format::Table { colours } => table(results, colours),
        Format::Short => short(results),
        Format::Json => as_json(results),
    }
}

/// Colours of a terminal, as `SGR` has them (ECMA-48).
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const RED: u8 = 31;
const GREY: u8 = 90;

/// How a result is shown: a word for machines, a mark for people, and its colour.
fn mark(result: &CheckResult) -> (&'static str, char, u8) {
    match (&result.verdict, result.severity) {
        (Verdict::Good, _) => ("good", '√', GREEN),
        (Verdict::Skipped(_), _) => ("skipped", '-', GREY),
        (Verdict::Unknown(_), Severity::Fatal) => ("unknown", '?', RED),
        (Verdict::Unknown(_), Severity::Warning) => ("unknown", '?', YELLOW),
        (Verdict::Bad(_), Severity::Fatal) => ("bad", '×', RED),
        (Verdict::Bad(_), Severity::Warning) => ("warning", '‼', YELLOW),
    }
}

fn why(result: &CheckResult) -> Option<&str> {
    match &result.verdict {
        Verdict::Good => None,
        Verdict::Bad(why) | Verdict::Unknown(why) => Some(why),
        Verdict::Skipped(why) => Some(why),
    }
}

fn table(results: &[CheckResult], colours: bool) -> String {
    let mut text = String::new();
    let mut category = "";
    let mut app = None;
    for result in results {
        if let Some(next) = result.app.as_ref().filter(|it| app != Some(*it)) {
            (app, category) = (Some(next), "");
            let line = "=".repeat(next.chars().count());
            let _ = writeln!(text, "\n{next}\n{line}");
        }
        if result.category != category {
            category = result.category;
            let line = "-".repeat(category.len());
            let _ = writeln!(text, "\n{category}\n{line}");
        }
        let (_, mark, colour) = mark(result);
        let mark = match colours {
            true => format!("\x1b[{colour}m{mark}\x1b[0m"),
            false => mark.to_string(),
        };
        let _ = write!(text, "{mark} {}", result.description);
        match (why(result), result.verdict.is_trouble()) {
            (Some(why), true) => {
                let _ = writeln!(text, "\n    {why}");
                for line in result.hint.lines() {
                    let _ = writeln!(text, "    {line}");
                }
                let _ = writeln!(text, "    see: zpa explain {}", result.code);
            }
            (Some(why), false) => {
                let _ = writeln!(text, " (skipped: {why})");
            }
            (None, _) => text.push('\n'),
        }
    }
    let verdict = match exit_code(results) {
        GOOD => '√',
        FOUND => '×',
        _ => '?',
    };
    let _ = writeln!(text, "\nStatus: {verdict}");
    text.trim_start().to_owned()
}

fn short(results: &[CheckResult]) -> String {
    let line = |result: &CheckResult| {
        let (_, mark, _) = mark(result);
        let why = why(result).unwrap_or_default();
        let app = result.app.iter().map(|app| format!("{app}: "));
        let app: String = app.collect();
        let (code, description) = (result.code, &result.description);
        format!("{mark} {app}{code}: {description}: {why}\n")
    };
    results
        .iter()
        .filter(|it| it.verdict.is_trouble())
        .map(line)
        .collect()
}

fn as_json(results: &[CheckResult]) -> String {
    let object = |result: &CheckResult| {
        json!({
            "app": result.app,
            "code": result.code,
            "category": result.category,
            "description": result.description,
            "result": mark(result).0,
            "reason": why(result),
            "hint": result.verdict.is_trouble().then_some(&result.hint),
        })
    };
    let list: Vec<_> = results.iter().map(object).collect();
    format!("{:#}\n", json!(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(severity: Severity, verdict: Verdict) -> CheckResult {
        CheckResult {
            app: None,
            code: "PORT",
            category: "service",
            description: "the port is clear".to_owned(),
            severity,
            verdict,
            hint: "give it with --port".to_owned(),
            is_transient: false,
        }
    }

    fn bad() -> Verdict {
        Verdict::Bad("it has 2".to_owned())
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_that_is_sure() {
        let unknown = || Verdict::Unknown("403".to_owned());
        let (fatal, warning) = (Severity::Fatal, Severity::Warning);
        for (results, expected) in [
            (vec![result(fatal, Verdict::Good)], 0),
            (
                vec![
                    result(warning, bad()),
                    result(fatal, Verdict::Skipped("-".to_owned())),
                ],
                0,
            ),
            (vec![result(fatal, unknown()), result(fatal, bad())], 1),
            (vec![result(fatal, unknown()), result(warning, bad())], 2),
        ] {
            assert_eq!(exit_code(&results), expected, "{results:?}");
        }
    }

    #[test]
    fn of_several_apps_each_has_its_part_and_all_have_one_status() {
        let of = |app: &str, verdict| CheckResult {
            app: Some(app.to_owned()),
            ..result(Severity::Fatal, verdict)
        };
        let results = [of("default/shop", Verdict::Good), of("default/db", bad())];
        let expected = "\
default/shop
============

service
-------
√ the port is clear

default/db
==========

service
-------
× the port is clear
    it has 2
    give it with --port
    see: zpa explain PORT

Status: ×
";
        assert_eq!(render(&results, Format::Table { colours: false }), expected);
        assert_eq!(
            render(&results, Format::Short),
            "× default/db: PORT: the port is clear: it has 2\n"
        );
        let list: serde_json::Value =
            serde_json::from_str(&render(&results, Format::Json)).unwrap();
        assert_eq!(list[1]["app"], "default/db");
    }

    #[test]
    fn a_table_has_headings_marks_reasons_and_what_to_do() {
        let results = [
            result(Severity::Fatal, Verdict::Good),
            result(Severity::Warning, bad()),
            result(Severity::Fatal, Verdict::Skipped("not asked".to_owned())),
        ];
        let table = render(&results, Format::Table { colours: false });
        let expected = "\
service
-------
√ the port is clear
‼ the port is clear
    it has 2
    give it with --port
    see: zpa explain PORT
- the port is clear (skipped: not asked)

Status: √
";
        assert_eq!(table, expected);
        let coloured = render(&results, Format::Table { colours: true });
        assert!(coloured.contains("\x1b[33m‼\x1b[0m the port"), "{coloured}");
        assert_eq!(
            render(&results, Format::Short),
            "‼ PORT: the port is clear: it has 2\n"
        );
    }

    #[test]
    fn for_machines_there_is_an_object_for_each() {
        let results = [
            result(Severity::Fatal, Verdict::Good),
            result(Severity::Fatal, bad()),
        ];
        let text = render(&results, Format::Json);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0]["result"], "good");
        assert_eq!(read[0]["hint"], serde_json::Value::Null);
        assert_eq!(read[1]["result"], "bad");
        assert_eq!(read[1]["reason"], "it has 2");
        assert_eq!(read[1]["hint"], "give it with --port");
    }
}
