//! The alerts of `manifests/components/monitoring`: promtool takes them, plays each
//! on series on which it has to fire and on others, and they name nothing that the
//! program does not have.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use zpa::metrics;

use crate::root;

const ALERTS: &str = "manifests/components/monitoring/alerts.yaml";
const TESTS: &str = "tests/manifests/alerts/tests.yaml";

/// Labels that Prometheus gives a series when it scrapes a pod.
const LABELS_OF_SCRAPES: [&str; 3] = ["container", "namespace", "pod"];

#[test]
fn promtool_takes_the_alerts_and_each_fires_when_it_has_to_and_not_before() {
    let Some(directory) = Directory::with_rules() else {
        return;
    };
    for args in [
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "tests.yaml"],
    ] {
        let output = Command::new("promtool")
            .args(args)
            .current_dir(&directory.0)
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "promtool {args:?}:\n{}",
            String::from_utf8_lossy(&printed)
        );
    }
}

#[test]
fn every_alert_is_played_where_it_fires_and_where_it_does_not() {
    let tests = text(TESTS);
    let (healthy, provoked) = tests
        .split_once("  - name: a proxy that cannot be")
        .unwrap();
    let alerts = alerts();
    assert!(alerts.len() > 5, "the alerts were found");
    for alert in alerts {
        let silent = format!("{{ alertname: {alert}, eval_time: ");
        assert!(healthy.contains(&silent), "{alert} beside a healthy proxy");
        assert!(provoked.contains(&silent), "{alert} just before it is due");
        let fires = format!("alertname: {alert}\n");
        let (_, case) = provoked
            .split_once(&fires)
            .unwrap_or_else(|| panic!("{alert} is never provoked"));
        let case = case.split("alertname:").next().unwrap();
        assert!(case.contains("exp_labels:"), "{alert} is expected to fire");
    }
}

#[test]
fn every_metric_and_every_label_that_an_alert_names_exists() {
    let alerts = text(ALERTS);
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("zpa_")).collect();
    assert!(named.len() > 5, "metrics are named");
    for name in named {
        let known = metrics::TABLE.iter().any(|metric| metric.name == name);
        assert!(known, "{name} is no metric");
    }
    let labels = alerts.split("$labels.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap()]
    });
    for label in labels {
        let ours = metrics::TABLE
            .iter()
            .any(|metric| metric.labels.contains(&label));
        assert!(
            ours || LABELS_OF_SCRAPES.contains(&label),
            "{label} is no label"
        );
    }
}

fn alerts() -> Vec<String> {
    let text = text(ALERTS);
    let names = text.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("- alert: ")?;
        Some(name.to_owned())
    });
    names.collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The rules and their tests where promtool finds both; removed at the end.
struct Directory(PathBuf);

impl Directory {
    /// None without promtool, which is said.
    fn with_rules() -> Option<Directory> {
        match Command::new("promtool").arg("--version").output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                support::skip_without("promtool");
                return None;
            }
            found => drop(found.unwrap()),
        }
        let name = format!("zpa-alerts-{}", std::process::id());
        let directory = Directory(std::env::temp_dir().join(name));
        fs::create_dir_all(&directory.0).unwrap();
        directory.write("rules.yaml", &rules());
        directory.write("tests.yaml", &text(TESTS));
        Some(directory)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(Path::new(&self.0).join(name), text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What Prometheus itself reads: what stands below `spec` in the manifest.
fn rules() -> String {
    let manifest = text(ALERTS);
    let (_, spec) = manifest.split_once("\nspec:\n").unwrap();
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}
