//! The Grafana dashboard of `manifests/components/monitoring`: its queries name metrics and
//! labels that the program has, and promtool parses each.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use zpa::metrics::{Kind, Metric, TABLE};

use crate::prometheus::Prometheus;
use crate::recording::Series;
use crate::{Scratch, expect_promtool, is_installed, root};

const DASHBOARD: &str = "manifests/components/monitoring/dashboard.json";

/// What Prometheus adds to a series when it scrapes it, and the label of buckets.
const LABELS_OF_SCRAPES: [&str; 2] = ["instance", "le"];

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join(DASHBOARD)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every panel and every kind of annotation.
fn parts(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let lists = [&dashboard["panels"], &dashboard["annotations"]["list"]];
    lists.into_iter().flat_map(|it| it.as_array().unwrap())
}

/// The queries of one of them.
fn queries_of(part: &Value) -> Vec<String> {
    let targets = part["targets"].as_array().into_iter().flatten();
    let all = targets.chain([part]).filter_map(|it| it["expr"].as_str());
    all.map(str::to_owned).collect()
}

/// Every query.
fn queries(dashboard: &Value) -> Vec<String> {
    parts(dashboard).flat_map(queries_of).collect()
}

/// The first query of a panel or an annotation, by its title or name.
fn query_of(dashboard: &Value, title: &str) -> String {
    let mut found = parts(dashboard).filter(|it| it["title"] == title || it["name"] == title);
    let found = found.next().unwrap_or_else(|| panic!("no {title}"));
    queries_of(found).remove(0)
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

/// As Grafana fills them in for a panel of the last minutes; the longer names first.
fn filled_in(query: &str) -> String {
    let query = query
        .replace("$__rate_interval", "30s")
        .replace("$__range_s", "300")
        .replace("$__range", "5m")
        .replace("$__interval", "5s")
        .replace("$app", ".*");
    assert!(!query.contains('$'), "{query}");
    query
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
    if !is_installed("promtool") {
        return;
    }
    let files = Scratch::new("dashboard");
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (at, query) in queries(&dashboard()).iter().enumerate() {
        let query = Value::from(filled_in(query));
        rules += &format!("  - record: query:{at}\n    expr: {query}\n");
    }
    fs::write(files.0.join("rules.yaml"), rules).unwrap();
    expect_promtool(&files.0, &["check", "rules", "rules.yaml"]);
}

/// A proxy that is replaced after ten minutes, each having seen the app asleep all the time.
#[test]
fn what_sleep_saves_is_not_less_where_a_proxy_was_replaced() {
    if !is_installed("promtool") {
        return;
    }
    let input = |name: &str, pod: &str, values: &str| {
        let series = format!("{name}{{app=\"shop/web\", pod=\"{pod}\"}}");
        json!({ "series": series, "values": values })
    };
    let counters = [
        "zpa_saved_replica_seconds_total",
        "zpa_asleep_seconds_total",
    ];
    let input = counters.iter().flat_map(|name| {
        let old = input(name, "old", "0+60x10 stale");
        [old, input(name, "new", "_x10 0+60x10")]
    });
    let dashboard = dashboard();
    let about = |title: &str, wanted: f64| {
        let query = query_of(&dashboard, title)
            .replace("$__rate_interval", "4m")
            .replace("$__range_s", "1200")
            .replace("$__range", "20m")
            .replace("$app", ".*");
        json!({
            "expr": format!("abs(({query}) / {wanted} - 1) < bool 0.1"),
            "eval_time": "20m",
            "exp_samples": [{ "labels": "{}", "value": 1 }],
        })
    };
    let tests = json!({
        "tests": [{
            "interval": "1m",
            "input_series": input.collect::<Value>(),
            "promql_expr_test": [about("Replica-hours saved", 1.0 / 3.0), about("Time asleep", 1.0)],
        }],
    });
    let files = Scratch::new("replaced");
    fs::write(files.0.join("tests.yaml"), tests.to_string()).unwrap();
    expect_promtool(&files.0, &["test", "rules", "tests.yaml"]);
}

/// Asserts that over a run in which everything happens every query of the dashboard has
/// something to show, and some of them what happened.
pub fn expect_every_query_is_answered(prometheus: &Prometheus) {
    let dashboard = dashboard();
    for query in queries(&dashboard) {
        let shown = prometheus.query_range(&filled_in(&query));
        let is_number = |value: &String| value.parse::<f64>().is_ok_and(f64::is_finite);
        let has_number = |it: &Series| it.samples.values().any(is_number);
        assert!(shown.iter().any(has_number), "nothing to show: {query}");
    }
    for (title, label, value, wanted) in [
        ("Phase", "app", "default/drowsy", &["0", "4"][..]),
        ("Wakes", "app", "default/drowsy", &[]),
        ("Sleeps", "app", "default/drowsy", &[]),
        ("Time held", "le", "0.005", &[]),
        ("Time held", "le", "+Inf", &[]),
        ("Ends of connections", "reason", "finished", &[]),
        ("Ends of connections", "reason", "held_too_long", &[]),
    ] {
        let query = query_of(&dashboard, title);
        let shown = prometheus.query_range(&filled_in(&query));
        let of_label = shown.iter().filter(|it| it.labels[label] == value);
        let values: Vec<&str> = of_label.flat_map(Series::values).collect();
        let happened = values.iter().any(|value| *value != "0");
        let is_complete = wanted.iter().all(|wanted| values.contains(wanted));
        assert!(happened && is_complete, "{title}: {value}: {values:?}");
    }
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
