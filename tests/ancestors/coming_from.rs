//! `manifests/COMING-FROM.md`: that it has every flag, and names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use zpa::settings::migration;
use zpa::workload::Dialect;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("manifests/COMING-FROM.md")).unwrap()
}

#[test]
fn every_flag_is_in_the_table_of_its_ancestor() {
    for dialect in [Dialect::Go, Dialect::PythonLabels] {
        let table = migration::markdown(dialect);
        assert!(
            page().contains(table.trim()),
            "COMING-FROM.md lacks this table:\n{table}"
        );
    }
}

#[test]
fn each_flaw_names_tests_that_exist() {
    let mut tests = BTreeSet::new();
    for directory in ["src", "tests"] {
        collect(&root().join(directory), &mut tests);
    }
    assert!(tests.len() > 500, "the tests were found");
    let page = page();
    let (_, flaws) = page
        .split_once("## Flaws that are gone")
        .expect("a section");
    let rows: Vec<&str> = flaws
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Flaw"))
        .collect();
    assert!(rows.len() >= 15, "the flaws were found: {rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{row}");
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test in: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}");
        }
    }
}

/// Every function below a directory that is a test.
fn collect(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let after = text.split("#[test]").skip(1);
            let names = after.filter_map(|rest| {
                let (_, name) = rest.split_once("fn ")?;
                name.split('(').next()
            });
            tests.extend(names.map(str::to_owned));
        }
    }
}
