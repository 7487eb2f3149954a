//! The alerts of `manifests/components/monitoring`: promtool takes them, they name nothing
//! that the program does not have, and each is provoked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use zpa::metrics;

use crate::provocations::PROVOCATIONS;
use crate::{Scratch, expect_promtool, is_installed, root};

const ALERTS: &str = "manifests/components/monitoring/alerts.yaml";

/// Labels that Prometheus gives a series when it scrapes a pod.
const LABELS_OF_SCRAPES: [&str; 4] = ["container", "job", "namespace", "pod"];

/// How much shorter each duration of a rule is where a test waits for it. The seconds that
/// zpa counts, such as the age of what it knows, stay what they are.
const SHORTER: u32 = 20;

/// The labels of a series or of an alert.
pub type Labels = BTreeMap<String, String>;

/// What Prometheus itself reads: what stands below `spec` in the manifest.
pub struct Rules(pub Value);

impl Rules {
    pub fn read() -> Rules {
        let manifest: Value = serde_saphyr::from_str(&text()).unwrap();
        Rules(manifest["spec"].clone())
    }

    /// Each alert.
    fn rules(&self) -> impl Iterator<Item = &Value> {
        let groups = self.0["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap())
    }

    /// The names of all alerts.
    pub fn names(&self) -> Vec<&str> {
        self.rules()
            .map(|it| it["alert"].as_str().unwrap())
            .collect()
    }

    fn of(&self, alert: &str) -> &Value {
        let mut found = self.rules().filter(|it| it["alert"] == alert);
        found.next().unwrap_or_else(|| panic!("no alert {alert}"))
    }

    /// The expression of an alert.
    pub fn expr(&self, alert: &str) -> &str {
        self.of(alert)["expr"].as_str().unwrap()
    }

    /// The severity of an alert.
    pub fn severity(&self, alert: &str) -> &str {
        self.of(alert)["labels"]["severity"].as_str().unwrap()
    }

    /// The same rules with each duration divided.
    pub fn divided(&self) -> Rules {
        let mut divided = self.0.clone();
        let groups = divided["groups"].as_array_mut().unwrap().iter_mut();
        for rule in groups.flat_map(|it| it["rules"].as_array_mut().unwrap()) {
            rule["expr"] = divided_ranges(rule["expr"].as_str().unwrap()).into();
            if let Some(pending) = rule["for"].as_str() {
                rule["for"] = divided_duration(pending).into();
            }
        }
        Rules(divided)
    }

    /// The texts of an alert with these labels and this value, as they have to read.
    pub fn annotations(&self, alert: &str, labels: &Labels, value: f64) -> Labels {
        let annotations = self.of(alert)["annotations"].as_object().unwrap();
        let texts = annotations.iter();
        texts
            .map(|(name, text)| {
                (
                    name.clone(),
                    expanded(text.as_str().unwrap(), labels, value),
                )
            })
            .collect()
    }
}

/// A duration in whole minutes, divided.
fn divided_duration(duration: &str) -> String {
    let minutes = duration.strip_suffix('m').and_then(|it| it.parse().ok());
    let minutes: u32 = minutes.unwrap_or_else(|| panic!("{duration} is not in minutes"));
    format!("{}s", minutes * 60 / SHORTER)
}

/// An expression with all of its ranges divided.
fn divided_ranges(expr: &str) -> String {
    let mut parts = expr.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let (range, rest) = part.split_once(']').expect("a range ends");
        format!("{done}[{}]{rest}", divided_duration(range))
    })
}

/// A template of an annotation, filled in. Prometheus makes nothing of a label that an alert
/// has not, and here it is an error.
fn expanded(template: &str, labels: &Labels, value: f64) -> String {
    let mut parts = template.split("{{ ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let (term, rest) = part.split_once(" }}").expect("a term ends");
        let text = match term {
            "$value" => value.to_string(),
            "$value | humanizeDuration" => minutes_and_seconds(value),
            label => {
                let label = label.strip_prefix("$labels.").expect("a label");
                let found = labels.get(label);
                found
                    .unwrap_or_else(|| panic!("{label} in {labels:?}"))
                    .clone()
            }
        };
        done + &text + rest
    })
}

/// As `humanizeDuration` has it between a minute and an hour.
fn minutes_and_seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    assert!((60..3600).contains(&whole), "{seconds}");
    format!("{}m {}s", whole / 60, whole % 60)
}

fn text() -> String {
    fs::read_to_string(root().join(ALERTS)).unwrap()
}

/// The metrics that an expression names, and `up`.
pub fn metrics_in(expr: &str) -> BTreeSet<&str> {
    let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("zpa_") || *word == "up")
        .collect()
}

#[test]
fn every_alert_is_provoked() {
    let provoked: BTreeSet<&str> = PROVOCATIONS.iter().map(|it| it.alert).collect();
    let rules = Rules::read();
    let alerts: BTreeSet<&str> = rules.names().into_iter().collect();
    assert!(alerts.len() > 5, "the alerts were found");
    assert_eq!(provoked, alerts, "see tests/monitoring/provocations.rs");
}

/// What is not in minutes cannot be divided without anybody noticing: that panics.
#[test]
fn each_duration_of_the_rules_is_divided() {
    let (rules, divided) = (Rules::read(), Rules::read().divided());
    let mut durations = 0;
    for alert in rules.names() {
        let ranges = |rules: &Rules| rules.expr(alert).matches("m]").count();
        let shorter = |rules: &Rules| rules.expr(alert).matches("s]").count();
        assert_eq!((ranges(&divided), shorter(&divided)), (0, ranges(&rules)));
        for word in ["offset", "@", "s]"] {
            assert!(!rules.expr(alert).contains(word), "{alert} has {word}");
        }
        let (pending, shorter) = (&rules.of(alert)["for"], &divided.of(alert)["for"]);
        assert!(pending.is_null() || pending != shorter, "{alert}");
        durations += ranges(&rules) + usize::from(pending.is_string());
    }
    assert!(durations > 10, "durations were found");
}

#[test]
fn promtool_takes_the_alerts() {
    if !is_installed("promtool") {
        return;
    }
    let files = Scratch::new("rules");
    fs::write(files.0.join("rules.yaml"), Rules::read().0.to_string()).unwrap();
    expect_promtool(&files.0, &["check", "rules", "rules.yaml"]);
}

#[test]
fn every_metric_and_every_label_that_an_alert_names_exists() {
    let alerts = text();
    let mut named = metrics_in(&alerts);
    assert!(named.remove("up") && named.len() > 5, "metrics are named");
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
