//! The report of `zpa check`: the findings in one of several formats.

use std::fmt::Write;

use serde_json::json;

use super::checks::{Finding, Severity, Verdict};

/// How the findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Every check, under headings.
    Table {
        /// Whether the marks are coloured.
        colours: bool,
    },
    /// A line for each finding that is not as it should be.
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
pub fn exit_code(findings: &[Finding]) -> u8 {
    let fatal = || findings.iter().filter(|it| it.severity == Severity::Fatal);
    if fatal().any(|it| matches!(it.verdict, Verdict::Bad(_))) {
        return FOUND;
    }
    match fatal().any(|it| matches!(it.verdict, Verdict::Unknown(_))) {
        true => UNKNOWN,
        false => GOOD,
    }
}

/// The findings in a format.
pub fn render(findings: &[Finding], format: Format) -> String {
    match format {
        Format::Table { colours } => table(findings, colours),
        Format::Short => short(findings),
        Format::Json => as_json(findings),
    }
}

/// Colours of a terminal, as `SGR` has them (ECMA-48).
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const RED: u8 = 31;
const GREY: u8 = 90;

/// The result of a finding: a word for machines, a mark for people, and its colour.
fn mark(finding: &Finding) -> (&'static str, char, u8) {
    match (&finding.verdict, finding.severity) {
        (Verdict::Good, _) => ("good", '√', GREEN),
        (Verdict::Skipped(_), _) => ("skipped", '-', GREY),
        (Verdict::Unknown(_), Severity::Fatal) => ("unknown", '×', RED),
        (Verdict::Bad(_), Severity::Fatal) => ("bad", '×', RED),
        (Verdict::Unknown(_) | Verdict::Bad(_), Severity::Warning) => ("warning", '‼', YELLOW),
    }
}

fn why(finding: &Finding) -> Option<&str> {
    match &finding.verdict {
        Verdict::Good => None,
        Verdict::Bad(why) | Verdict::Unknown(why) => Some(why),
        Verdict::Skipped(why) => Some(why),
    }
}

fn is_trouble(finding: &Finding) -> bool {
    matches!(finding.verdict, Verdict::Bad(_) | Verdict::Unknown(_))
}

fn table(findings: &[Finding], colours: bool) -> String {
    let mut text = String::new();
    let mut category = "";
    let mut app = None;
    for finding in findings {
        if let Some(next) = finding.app.as_ref().filter(|it| app != Some(*it)) {
            (app, category) = (Some(next), "");
            let line = "=".repeat(next.chars().count());
            let _ = writeln!(text, "\n{next}\n{line}");
        }
        if finding.category != category {
            category = finding.category;
            let line = "-".repeat(category.len());
            let _ = writeln!(text, "\n{category}\n{line}");
        }
        let (_, mark, colour) = mark(finding);
        let mark = match colours {
            true => format!("\x1b[{colour}m{mark}\x1b[0m"),
            false => mark.to_string(),
        };
        let _ = write!(text, "{mark} {}", finding.description);
        match (why(finding), is_trouble(finding)) {
            (Some(why), true) => {
                let (hint, code) = (finding.hint, finding.code);
                let _ = writeln!(text, "\n    {why}\n    {hint}\n    see: zpa explain {code}");
            }
            (Some(why), false) => {
                let _ = writeln!(text, " (skipped: {why})");
            }
            (None, _) => text.push('\n'),
        }
    }
    let verdict = match exit_code(findings) {
        GOOD => '√',
        _ => '×',
    };
    let _ = writeln!(text, "\nStatus: {verdict}");
    text.trim_start().to_owned()
}

fn short(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let (_, mark, _) = mark(finding);
        let why = why(finding).unwrap_or_default();
        let app = finding.app.iter().map(|app| format!("{app}: "));
        let app: String = app.collect();
        let (code, description) = (finding.code, &finding.description);
        format!("{mark} {app}{code}: {description}: {why}\n")
    };
    findings
        .iter()
        .filter(|it| is_trouble(it))
        .map(line)
        .collect()
}

fn as_json(findings: &[Finding]) -> String {
    let object = |finding: &Finding| {
        json!({
            "app": finding.app,
            "code": finding.code,
            "category": finding.category,
            "description": finding.description,
            "result": mark(finding).0,
            "reason": why(finding),
            "hint": is_trouble(finding).then_some(finding.hint),
        })
    };
    let list: Vec<_> = findings.iter().map(object).collect();
    format!("{:#}\n", json!(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, verdict: Verdict) -> Finding {
        Finding {
            app: None,
            code: "PORT",
            category: "service",
            description: "the port is clear".to_owned(),
            severity,
            verdict,
            hint: "give it with --port",
            may_pass: false,
        }
    }

    fn bad() -> Verdict {
        Verdict::Bad("it has 2".to_owned())
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_that_is_sure() {
        let unknown = || Verdict::Unknown("403".to_owned());
        let (fatal, warning) = (Severity::Fatal, Severity::Warning);
        for (findings, expected) in [
            (vec![finding(fatal, Verdict::Good)], 0),
            (
                vec![
                    finding(warning, bad()),
                    finding(fatal, Verdict::Skipped("-")),
                ],
                0,
            ),
            (vec![finding(fatal, unknown()), finding(fatal, bad())], 1),
            (vec![finding(fatal, unknown()), finding(warning, bad())], 2),
        ] {
            assert_eq!(exit_code(&findings), expected, "{findings:?}");
        }
    }

    #[test]
    fn of_several_apps_each_has_its_part_and_all_have_one_status() {
        let of = |app: &str, verdict| Finding {
            app: Some(app.to_owned()),
            ..finding(Severity::Fatal, verdict)
        };
        let findings = [of("default/shop", Verdict::Good), of("default/db", bad())];
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
        assert_eq!(
            render(&findings, Format::Table { colours: false }),
            expected
        );
        assert_eq!(
            render(&findings, Format::Short),
            "× default/db: PORT: the port is clear: it has 2\n"
        );
        let list: serde_json::Value =
            serde_json::from_str(&render(&findings, Format::Json)).unwrap();
        assert_eq!(list[1]["app"], "default/db");
    }

    #[test]
    fn a_table_has_headings_marks_reasons_and_what_to_do() {
        let findings = [
            finding(Severity::Fatal, Verdict::Good),
            finding(Severity::Warning, bad()),
            finding(Severity::Fatal, Verdict::Skipped("not asked")),
        ];
        let table = render(&findings, Format::Table { colours: false });
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
        let coloured = render(&findings, Format::Table { colours: true });
        assert!(coloured.contains("\x1b[33m‼\x1b[0m the port"), "{coloured}");
        assert_eq!(
            render(&findings, Format::Short),
            "‼ PORT: the port is clear: it has 2\n"
        );
    }

    #[test]
    fn for_machines_there_is_an_object_for_each() {
        let findings = [
            finding(Severity::Fatal, Verdict::Good),
            finding(Severity::Fatal, bad()),
        ];
        let text = render(&findings, Format::Json);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0]["result"], "good");
        assert_eq!(read[0]["hint"], serde_json::Value::Null);
        assert_eq!(read[1]["result"], "bad");
        assert_eq!(read[1]["reason"], "it has 2");
        assert_eq!(read[1]["hint"], "give it with --port");
    }
}
