//! [`Recording`]: what was scraped of a proxy before, while and after an alert was provoked, as
//! input of `promtool test rules`, which plays it at the speed that the rules are meant for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::expect_promtool;
use crate::prometheus::Prometheus;
use crate::provocations::Provocation;
use crate::rules::{Labels, Rules, metrics_in};
use crate::watch::Fired;

/// The interval of scrapes and of evaluations, in seconds, and how many are in a minute.
const INTERVAL: usize = 15;
const A_MINUTE: usize = 60 / INTERVAL;
/// How many scrapes are played of before, and how many of afterwards, which last until
/// nothing of what was before is in the range of any rule.
const BEFORE: usize = 2 * A_MINUTE;
const AFTER: usize = 3 * A_MINUTE;
const REST: usize = 12 * A_MINUTE;

/// A series as it was scraped: its labels with its name, and its samples by the milliseconds
/// since 1970.
pub struct Series {
    pub labels: Labels,
    pub samples: BTreeMap<u64, String>,
}

impl Series {
    pub fn name(&self) -> &str {
        &self.labels["__name__"]
    }

    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.samples.values().map(String::as_str)
    }

    /// Its values at these scrapes, as promtool reads them; none is `_`, and the first of
    /// those that are gone is marked, as a scrape marks it.
    fn input(&self, scrapes: &[u64]) -> Value {
        let labels = self.labels.iter().filter(|(name, _)| *name != "__name__");
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        let mut was_there = false;
        let values = scrapes.iter().map(|scrape| {
            let value = self.samples.get(scrape).map(String::as_str);
            let gone = if was_there { "stale" } else { "_" };
            was_there = value.is_some();
            value.unwrap_or(gone)
        });
        json!({
            "series": format!("{}{{{}}}", self.name(), labels.join(",")),
            "values": values.collect::<Vec<_>>().join(" "),
        })
    }
}

/// What promtool is to play of one provocation.
pub struct Recording {
    alert: &'static str,
    pod: &'static str,
    /// At which interval the alert is due.
    due: usize,
    labels: Labels,
    series: Vec<Series>,
    /// A scrape for each interval.
    scrapes: Vec<u64>,
}

impl Recording {
    pub fn of(
        it: &Provocation,
        fired: &Fired,
        rules: &Rules,
        prometheus: &Prometheus,
    ) -> Recording {
        let named = metrics_in(rules.expr(it.alert));
        let mut series = prometheus.recorded(it.pod);
        let scrapes = scrapes(&series, !it.answers);
        series.retain(|it| named.contains(it.name()));
        let onset = onset(it, fired, rules, prometheus, &scrapes);
        let end = scrapes.partition_point(|&at| at as f64 <= fired.seen * 1000.0);
        let before = &scrapes[onset.saturating_sub(BEFORE)..onset];
        let (during, after) = (&scrapes[onset..end], &scrapes[end..]);
        let last = *after.last().expect("it was scraped after it was mended");
        let scrapes = [
            stretched(before, BEFORE),
            stretched(during, (it.after + 1) * A_MINUTE),
            stretched(after, AFTER),
            vec![last; REST],
        ];
        Recording {
            alert: it.alert,
            pod: it.pod,
            due: BEFORE + it.after * A_MINUTE,
            labels: fired.labels.clone(),
            series,
            scrapes: scrapes.concat(),
        }
    }

    /// A group of tests: the alert fires when it is due and not before, and it ends.
    fn tests(&self, rules: &Rules, healthy: &[Series]) -> Value {
        let length = self.scrapes.len();
        let value = self.value(rules.expr(self.alert));
        let fires = json!([{
            "exp_labels": self.labels,
            "exp_annotations": rules.annotations(self.alert, &self.labels, value),
        }]);
        let test = |at: usize, expected: &Value| expectation(self.alert, at, expected);
        let silent = [BEFORE - 1, self.due - 1, length - 1].map(|at| test(at, &json!([])));
        let tests: Value = silent.into_iter().chain([test(self.due, &fires)]).collect();
        let named = metrics_in(rules.expr(self.alert));
        let beside = healthy.iter().filter(|it| named.contains(it.name()));
        let own = self.series.iter().map(|it| it.input(&self.scrapes));
        let beside = beside.map(|it| it.input(&stretched(&scrapes(healthy, true), length)));
        json!({
            "name": format!("{} at {}", self.alert, self.pod),
            "interval": format!("{INTERVAL}s"),
            "input_series": own.chain(beside).collect::<Value>(),
            "alert_rule_test": tests,
        })
    }

    /// The value of the alert when it is due, where its text has one: the sum of the series
    /// that its expression begins with.
    fn value(&self, expr: &str) -> f64 {
        let of_expr = |it: &&Series| {
            expr.split_once(it.name())
                .is_some_and(|(before, _)| metrics_in(before).is_empty())
        };
        let first = self.series.iter().filter(of_expr);
        let values =
            first.filter_map(|it| it.samples.get(&self.scrapes[self.due])?.parse::<f64>().ok());
        values.sum()
    }
}

/// The times of the scrapes, without those that failed unless they are wanted too.
fn scrapes(series: &[Series], failed_too: bool) -> Vec<u64> {
    let up = series.iter().find(|it| it.name() == "up");
    let up = up.expect("it is scraped").samples.iter();
    let scrapes = up.filter(|(_, up)| failed_too || *up == "1");
    scrapes.map(|(&at, _)| at).collect()
}

/// The first scrape with which the expression of an alert was true, by its place. Prometheus
/// may have evaluated it a moment before the scrape had been stored.
fn onset(
    it: &Provocation,
    fired: &Fired,
    rules: &Rules,
    prometheus: &Prometheus,
    scrapes: &[u64],
) -> usize {
    let divided = rules.divided();
    let is_true = |at: u64| {
        let found = prometheus.query_at(divided.expr(it.alert), at as f64 / 1000.0);
        let found = found.as_array().unwrap().iter();
        found
            .into_iter()
            .any(|found| found["metric"]["namespace"] == it.pod)
    };
    let mut onset = scrapes.partition_point(|&at| at as f64 <= fired.active * 1000.0);
    while onset > 0 && is_true(scrapes[onset - 1]) {
        onset -= 1;
    }
    assert!(
        onset > 0 && onset < scrapes.len(),
        "{} was not true at {}",
        it.alert,
        it.pod
    );
    onset
}

/// So many scrapes, made of these by leaving some out or repeating them.
fn stretched(scrapes: &[u64], count: usize) -> Vec<u64> {
    (0..count)
        .map(|at| scrapes[at * scrapes.len() / count])
        .collect()
}

fn expectation(alert: &str, at: usize, expected: &Value) -> Value {
    json!({
        "alertname": alert,
        "eval_time": format!("{}s", at * INTERVAL),
        "exp_alerts": expected,
    })
}

/// What was scraped of healthy proxies: no alert fires at any time.
fn silence(rules: &Rules, healthy: &[Series]) -> Value {
    let all = rules.0.to_string();
    let named = metrics_in(&all);
    let scrapes = scrapes(healthy, true);
    let series = healthy.iter().filter(|it| named.contains(it.name()));
    let times = || (0..scrapes.len()).step_by(A_MINUTE);
    let names = rules.names();
    let tests = names
        .iter()
        .flat_map(|alert| times().map(|at| expectation(alert, at, &json!([]))));
    json!({
        "name": "healthy proxies",
        "interval": format!("{INTERVAL}s"),
        "input_series": series.map(|it| it.input(&scrapes)).collect::<Value>(),
        "alert_rule_test": tests.collect::<Value>(),
    })
}

/// Has promtool play all of it by the rules as they are.
pub fn expect_promtool_agrees(
    directory: &Path,
    rules: &Rules,
    recordings: &[Recording],
    healthy: &[Vec<Series>],
) {
    let mut tests: Vec<Value> = healthy.iter().map(|it| silence(rules, it)).collect();
    tests.extend(recordings.iter().map(|it| it.tests(rules, &healthy[0])));
    let file = json!({
        "rule_files": ["true-rules.yaml"],
        "evaluation_interval": format!("{INTERVAL}s"),
        "tests": tests,
    });
    fs::write(directory.join("true-rules.yaml"), rules.0.to_string()).unwrap();
    fs::write(directory.join("tests.yaml"), file.to_string()).unwrap();
    expect_promtool(directory, &["test", "rules", "tests.yaml"]);
}
