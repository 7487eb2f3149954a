//! The pages for operators and the numbers: their tables, names and links are those of
//! the code.

use std::fs;

use support::memory;
use zpa::engine::{BLOCK_BYTES, MAX_BLOCKS, MAX_PIPES, PIPE_BYTES};

use super::root;

/// The pages for operators.
const PAGES: [&str; 7] = [
    "README.md",
    "manifests/APPS.md",
    "manifests/COMING-FROM.md",
    "manifests/FAILURES.md",
    "manifests/OPERATING.md",
    "manifests/PROTOCOLS.md",
    "manifests/SETTINGS.md",
];

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

#[test]
fn the_page_of_settings_has_the_table_that_the_code_has() {
    let page = page("manifests/SETTINGS.md");
    let table = zpa::settings::markdown_table();
    assert!(
        page.contains(table.trim()),
        "SETTINGS.md lacks this table:\n{table}"
    );
    let scopes = zpa::settings::scopes();
    assert!(page.contains(&scopes), "SETTINGS.md lacks: {scopes}");
}

#[test]
fn the_page_for_operators_has_the_table_of_checks_that_the_code_has() {
    let table = zpa::commands::check::markdown_table();
    assert!(
        page("manifests/OPERATING.md").contains(table.trim()),
        "OPERATING.md lacks this table:\n{table}"
    );
}

/// README has some of them, with their variables and defaults.
#[test]
fn the_settings_that_the_readme_has_are_those_of_the_page() {
    let page = page("manifests/SETTINGS.md");
    let readme = page_rows(&self::page("README.md"), "| `--");
    assert!(readme.len() > 5, "the rows were found");
    let page = page_rows(&page, "| `--");
    for row in readme {
        let is_same = |other: &Vec<String>| other[..2] == row[..2];
        let defaults = page.iter().find(|other| is_same(other)).map(|it| &it[2]);
        let is_text = !row[2].starts_with('`');
        assert!(
            defaults.is_some_and(|it| is_text || *it == row[2]),
            "{row:?} is not in SETTINGS.md"
        );
    }
}

/// The cells of each row of a table that begins so.
fn page_rows(text: &str, start: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with(start));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Files, and headings of other pages or of the same.
#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut links = 0;
    for name in PAGES.iter().chain(&["tests/VERIFICATION.md"]) {
        let text = page(name);
        let targets = text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root().join(name),
                _ => root().join(name).parent().unwrap().join(file),
            };
            // A picture has no headings.
            if heading.is_empty() && path.is_file() {
                continue;
            }
            let linked = fs::read_to_string(&path);
            let linked = linked.unwrap_or_else(|e| panic!("{name}: {target}: {e}"));
            let is_it = |line: &str| line.starts_with('#') && anchor(line) == heading;
            assert!(
                heading.is_empty() || linked.lines().any(is_it),
                "{name}: {target}: there is no such heading"
            );
        }
    }
    assert!(links > 20, "the links were found");
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_page_of_metrics_has_the_table_that_the_code_has() {
    let page = root().join("manifests/components/monitoring/METRICS.md");
    let page = fs::read_to_string(page).unwrap();
    let table = zpa::metrics::markdown_table();
    assert!(
        page.contains(table.trim()),
        "METRICS.md lacks this table:\n{table}"
    );
}

#[test]
fn every_metric_that_the_pages_name_exists() {
    let pages = PAGES.map(page).concat();
    let words = pages.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let of_histograms = ["_bucket", "_sum", "_count"];
    for word in words.filter(|word| word.starts_with("zpa_")) {
        let family = of_histograms
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix));
        let known = |name: &str| zpa::metrics::TABLE.iter().any(|metric| metric.name == name);
        assert!(
            known(word) || family.is_some_and(known),
            "{word} is no metric"
        );
    }
}

#[test]
fn the_page_for_operators_names_every_alert() {
    let page = page("manifests/OPERATING.md");
    let alerts = root().join("manifests/components/monitoring/alerts.yaml");
    let alerts = fs::read_to_string(alerts).unwrap();
    let names = alerts.split("- alert: ").skip(1);
    for name in names.map(|rest| rest.lines().next().unwrap()) {
        assert!(
            page.contains(&format!("`{name}`")),
            "OPERATING.md lacks {name}"
        );
    }
}

#[test]
fn the_page_for_operators_names_every_path_that_is_answered() {
    let page = page("manifests/OPERATING.md");
    for (path, _) in zpa::admin::PATHS {
        assert!(
            page.contains(&format!("`{path}`")),
            "OPERATING.md lacks {path}"
        );
    }
}

#[test]
fn the_page_for_operators_names_the_limits_that_the_code_has() {
    let page = page("manifests/OPERATING.md");
    let each = format!("{} bytes × connections", memory::PER_CONNECTION);
    let blocks = format!("{} × {} KiB", MAX_BLOCKS, BLOCK_BYTES / 1024);
    let pipes = format!("{} × {} MiB in pipes", MAX_PIPES, PIPE_BYTES / 1024 / 1024);
    for term in [each, blocks, pipes] {
        assert!(page.contains(&term), "OPERATING.md lacks: {term}");
    }
}

#[test]
fn there_are_numbers_for_every_row_of_the_bench() {
    let numbers = written_by_the_bench("tests/bench/NUMBERS.md");
    written_by_the_bench("README.md");
    for (file, least) in [
        ("rows.rs", 10),
        ("network_rows.rs", 3),
        ("system_calls.rs", 6),
    ] {
        let source = fs::read_to_string(root().join("tests/bench").join(file)).unwrap();
        let labels = source.lines().filter_map(|line| {
            let label = line.trim().strip_prefix("label: \"")?;
            label.strip_suffix("\",")
        });
        let labels: Vec<&str> = labels.collect();
        assert!(labels.len() >= least, "the rows of {file} were found");
        for label in labels {
            assert!(
                numbers.contains(&format!("\n| {label}")),
                "NUMBERS.md has none for {label}; make bench WRITE=1 writes them"
            );
        }
    }
    // Their numbers are part of the heading.
    for held in [
        "idle connections",
        "receivers that have stopped",
        "uploads that are held",
    ] {
        assert!(
            numbers.contains(&format!(" {held} | zpa | HAProxy")),
            "NUMBERS.md has none for {held}; make bench WRITE=1 writes them"
        );
    }
}

/// What stands between marks of the bench in that file, measured here or in the emulated
/// machine.
fn written_by_the_bench(file: &str) -> String {
    let text = page(file);
    let mut numbers = String::new();
    for section in text.split("<!-- Written by make bench").skip(1) {
        let (written, _) = section
            .split_once("<!-- /Written -->")
            .unwrap_or_else(|| panic!("{file}: a section of the bench has no end"));
        numbers.push_str(written);
    }
    assert!(!numbers.is_empty(), "{file} has the marks of the bench");
    numbers
}
