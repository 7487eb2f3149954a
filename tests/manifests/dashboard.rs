//! The Grafana dashboard of `manifests/components/monitoring`: its queries name metrics and
//! labels that the program has, and promtool parses each.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use zpa::metrics::{Kind, Metric, TABLE};

use crate::root;

const DASHBOARD: &str = "manifests/components/monitoring/dashboard.json";

/// What Prometheus adds to a series when it scrapes it, and the label of buckets.
const LABELS_OF_SCRAPES: [&str; 2] = ["instance", "le"];

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join(DASHBOARD)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every query: of panels and of annotations.
fn queries(dashboard: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let panels = list(&dashboard["panels"]);
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let all = targets.chain(list(&dashboard["annotations"]["list"]));
    all.map(|it| it["expr"].as_str().unwrap().to_owned())
        .collect()
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// The metrics that a query names.
fn metrics(query: &str) -> Vec<&'static Metric> {
    let words = query.split(|char| !is_word(char));
    let named = words.filter(|word| word.starts_with("zpa_") || word.starts_with("process_"));
    named
        .map(|word| {
            let of = |name: &str, kind: Option<Kind>| {
                let is_kind = |metric: &Metric| kind.is_none_or(|kind| metric.kind == kind);
                let found = TABLE.iter().find(|metric| metric.name == name);
                found.filter(|metric| is_kind(metric))
            };
            let bucket = word.strip_suffix("_bucket");
            let found = match bucket {
                Some(family) => of(family, Some(Kind::Histogram)),
                None => of(word, None).filter(|metric| metric.kind != Kind::Histogram),
            };
            found.unwrap_or_else(|| panic!("{word} is no series: {query}"))
        })
        .collect()
}

/// The labels that a query selects or groups by.
fn labels(query: &str) -> BTreeSet<&str> {
    let lists = query
        .split("by (")
        .skip(1)
        .chain(query.split("on (").skip(1));
    let lists = lists.map(|rest| rest.split(')').next().unwrap());
    let grouped = lists.flat_map(|list| list.split(", "));
    let selectors = query.split('{').skip(1);
    let selectors = selectors.map(|rest| rest.split('}').next().unwrap());
    let selected = selectors.flat_map(|list| list.split(", "));
    let selected = selected.map(|matcher| matcher.split(|char| !is_word(char)).next().unwrap());
    grouped.chain(selected).collect()
}

#[test]
fn every_query_of_the_dashboard_names_series_and_labels_that_there_are() {
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 20, "the queries were found");
    for query in &queries {
        let metrics = metrics(query);
        assert!(!metrics.is_empty(), "{query}");
        for label in labels(query) {
            let ours = metrics.iter().any(|metric| metric.labels.contains(&label));
            let known = ours || LABELS_OF_SCRAPES.contains(&label);
            assert!(known, "{label} is no label there: {query}");
        }
    }
    let phases = zpa::policy::Phase::NAMES;
    for phase in phases {
        let is_shown = queries
            .iter()
            .any(|it| it.contains(&format!("phase=\"{phase}\"")));
        assert!(is_shown, "{phase} is not on the timeline");
    }
}

#[test]
fn promtool_parses_every_query_of_the_dashboard() {
    let directory = std::env::temp_dir().join(format!("zpa-dashboard-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (at, query) in queries(&dashboard()).into_iter().enumerate() {
        // As Grafana fills them in; the longer names first.
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$__range_s", "86400")
            .replace("$__range", "1d")
            .replace("$__interval", "1m")
            .replace("$app", ".*");
        assert!(!query.contains('$'), "{query}");
        rules += &format!("  - record: query:{at}\n    expr: {}\n", Value::from(query));
    }
    fs::write(directory.join("rules.yaml"), rules).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "rules", "rules.yaml"])
        .current_dir(&directory)
        .output();
    fs::remove_dir_all(&directory).unwrap();
    let Ok(output) = checked else {
        return support::skip_without("promtool");
    };
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{printed}");
}

#[test]
fn no_panel_lies_on_another_and_each_says_what_it_shows() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|it| it.ends_with('.')),
            "{title}"
        );
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let (x, y) = (place("x"), place("y"));
        assert!(x + place("w") <= 24, "{title} is beyond the edge");
        for cell in (x..x + place("w")).flat_map(|x| (y..y + place("h")).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies on another at {cell:?}");
        }
    }
}
