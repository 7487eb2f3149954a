use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot with something in every field.
fn snapshot() -> Snapshot {
    Snapshot {
        version: "0.1.0",
        started: 1_795_000_000,
        descriptors: 20_000,
        cpu: Some(Duration::from_millis(12_500)),
        resident: Some(10 << 20),
        address_space: Some(40 << 20),
        open_descriptors: Some(21),
        ready: true,
        connections_limit: 9968,
        local_errors: vec![(["no_port"], 2)],
        bound_ports: 3,
        requests: vec![(["get", "ok"], 12)],
        replies: vec![(["get"], histogram(3)), (["patch"], histogram(40))],
        thread_panics: 1,
        log_lines_dropped: 7,
        list_wrong: Some(false),
        lists: Some(vec![(["taken"], 2), (["refused"], 1)]),
        source_files_wrong: Some(1),
        source_files: Some(vec![(["taken"], 4), (["refused"], 1)]),
        services: Some(vec![(["in_force"], 2), (["wrong"], 1)]),
        services_watched: Some(true),
        refused_by_name: ["0.0.0.0:443", "[::]:5432"]
            .map(|listen| (listen.to_owned(), vec![("unknown_name", 4), ("no_name", 0)]))
            .to_vec(),
        apps: ["shop/web", "shop/db"].map(app).to_vec(),
    }
}

/// A histogram of one duration.
fn histogram(ms: u64) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.observe(Duration::from_millis(ms));
    histogram
}

fn app(name: &str) -> App {
    let mut wake = Histogram::default();
    wake.observe(Duration::from_secs(7));
    App {
        name: name.to_owned(),
        ready: true,
        phases: vec![("awake", true), ("asleep", false)],
        replicas: Some(3),
        replicas_age: Some(Duration::from_millis(1500)),
        idle_ttl: Duration::from_secs(3600),
        sleep_due: Some(1_795_003_600),
        lease: Some(Duration::from_secs(2880)),
        endpoints_synced: true,
        remembered_clients: Some(17),
        without_lease: 1,
        wake,
        wake_parts: vec![(["api"], histogram(4)), (["pod"], histogram(6_900))],
        wake_results: vec![(["served"], 2), (["timed_out"], 1)],
        asleep: Duration::from_secs(5400),
        replica_seconds_saved: 16_200.0,
        wakes: 2,
        sleeps: 1,
        wakes_delayed: 1,
        webhook: Some(vec![(["delivered"], 3), (["failed"], 1), (["dropped"], 0)]),
        fallbacks: vec![("patch deployments/status", true)],
        forbidden: vec![("patch deployments/scale", false)],
        ports: ["http", "9090"].map(port).to_vec(),
    }
}

fn port(name: &str) -> Port {
    let mut hold = Histogram::default();
    hold.observe(Duration::from_millis(2));
    hold.observe(Duration::from_secs(7));
    Port {
        name: name.to_owned(),
        backends: 2,
        backends_ejected: 1,
        backends_full: 1,
        backends_near: 2,
        connections_open: 5,
        connections_counted: 1,
        connections_waiting: 1,
        connections_detached: 1,
        reattached: 6,
        excluded: vec![(["denied"], 2), (["ignored"], 0)],
        accepted: u64::MAX,
        bytes: vec![(["to_pods"], 1 << 30), (["to_clients"], 1 << 40)],
        forwarded: 6,
        closed: vec![
            (["finished", "relaying"], 4),
            (["held_too_long", "holding"], 1),
        ],
        failed_dials: 8,
        hold,
    }
}

/// The labels of a port.
const WEB: &str = "app=\"shop/web\",port=\"http\"";

/// The samples of a scrape by name and labels, as a strict reader takes them.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families: BTreeSet<String> = BTreeSet::new();
    let mut family = (String::new(), String::new());
    let mut lines = text.lines();
    assert!(text.ends_with('\n'), "the last line ends too");
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} comes once");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let (again, kind) = kind.unwrap().split_once(' ').unwrap();
            assert_eq!(name, again, "the type follows the help");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"));
            family = (name.to_owned(), kind.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(belongs(name, &family), "{name} stands in {family:?}");
        check_labels(&series[name.len()..]);
        let value: f64 = value.parse().unwrap();
        assert!(
            samples.insert(series.to_owned(), value).is_none(),
            "{series} comes once"
        );
    }
    samples
}

fn belongs(name: &str, (family, kind): &(String, String)) -> bool {
    let suffixes: &[&str] = match kind.as_str() {
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    let rest = name.strip_prefix(family.as_str());
    rest.is_some_and(|suffix| suffixes.contains(&suffix))
}

/// `{name="value",...}` with every quote, backslash and line feed of a value
/// escaped.
fn check_labels(labels: &str) {
    let Some(inner) = labels.strip_prefix('{') else {
        return assert_eq!(labels, "");
    };
    let mut rest = inner;
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(is_name(name, "_"), "{name:?} in {labels}");
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => assert!(matches!(chars.next(), Some((_, '\\' | '"' | 'n')))),
                (at, '"') => break at,
                _ => {}
            }
        };
        match &value[end + 1..] {
            "}" => return,
            more => rest = more.strip_prefix(',').unwrap(),
        }
    }
}

fn is_name(name: &str, also: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || also.contains(c);
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits)
}

#[test]
fn a_scrape_is_valid_and_has_every_metric_of_the_table() {
    let text = text(&snapshot());
    let samples = parsed(&text);
    for metric in TABLE {
        let has = samples.keys().any(|series| series.starts_with(metric.name));
        assert!(has, "{} has a sample", metric.name);
    }
    for (series, value) in [
        ("zpa_build_info{version=\"0.1.0\"}", 1.0),
        ("zpa_phase{app=\"shop/web\",phase=\"awake\"}", 1.0),
        ("zpa_phase{app=\"shop/db\",phase=\"asleep\"}", 0.0),
        ("zpa_replicas_age_seconds{app=\"shop/web\"}", 1.5),
        (
            "zpa_connections_excluded_total{app=\"shop/web\",port=\"http\",rule=\"denied\"}",
            2.0,
        ),
        (
            "zpa_connections_closed_total{app=\"shop/db\",port=\"9090\",reason=\"finished\",phase=\"relaying\"}",
            4.0,
        ),
        (
            "zpa_api_fallback{app=\"shop/web\",permission=\"patch deployments/status\"}",
            1.0,
        ),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series} in\n{text}");
    }
}

#[test]
fn counters_are_written_to_the_last_digit() {
    let expected = "zpa_connections_total{app=\"shop/web\",port=\"http\"} 18446744073709551615\n";
    assert!(text(&snapshot()).contains(expected));
}

#[test]
fn a_histogram_is_cumulative_and_ends_with_its_count() {
    let samples = parsed(&text(&snapshot()));
    for (bound, count) in [
        ("0.001", 0.0),
        ("0.0025", 1.0),
        ("5", 1.0),
        ("10", 2.0),
        ("+Inf", 2.0),
    ] {
        let series = format!("zpa_hold_seconds_bucket{{{WEB},le=\"{bound}\"}}");
        assert_eq!(samples.get(&series), Some(&count), "{series}");
    }
    let whole = |suffix: &str| samples[&format!("zpa_hold_seconds_{suffix}{{{WEB}}}")];
    assert_eq!((whole("count"), whole("sum")), (2.0, 7.002));
}

#[test]
fn what_is_not_known_has_no_sample() {
    let samples = parsed(&text(&Snapshot {
        apps: vec![App::default()],
        ..Snapshot::default()
    }));
    for name in ["zpa_replicas", "zpa_lease_seconds"] {
        let has = samples.keys().any(|series| series.starts_with(name));
        assert!(!has, "{name}");
    }
    assert_eq!(samples["zpa_ready"], 0.0);
    assert_eq!(samples["zpa_wakes_total{app=\"\"}"], 0.0);
}

#[test]
fn labels_and_helps_are_escaped() {
    let hostile = "a\\b\"c\nd";
    assert_eq!(Escaped(hostile, true).to_string(), "a\\\\b\\\"c\\nd");
    assert_eq!(Escaped(hostile, false).to_string(), "a\\\\b\"c\\nd");
    let text = text(&Snapshot {
        apps: vec![app("a\"}\n evil 1")],
        ..snapshot()
    });
    assert!(text.contains("zpa_wakes_total{app=\"a\\\"}\\n evil 1\"} 2\n"));
    parsed(&text);
}

#[test]
fn names_follow_the_customs_of_prometheus() {
    let mut names = BTreeSet::new();
    for Metric {
        name,
        kind,
        labels,
        help,
        ..
    } in TABLE
    {
        assert!(is_name(name, "_"), "{name}");
        assert!(names.insert(name), "{name} stands once");
        let own = name.starts_with("zpa_") || name.starts_with("process_");
        assert!(own, "{name} says whose it is");
        let total = name.ends_with("_total");
        assert_eq!(total, *kind == Kind::Counter, "{name} is a {kind}");
        assert!(labels.iter().all(|label| is_name(label, "_")), "{name}");
        assert!(
            !help.contains('|') && !help.ends_with('.'),
            "{name}: {help}"
        );
    }
}
