//! The alerts and the dashboard of `manifests/components/monitoring`, in a real Prometheus
//! that scrapes the real binary. `make monitoring` runs all of it, which takes minutes;
//! without, the rules and queries are parsed, and compared with what the program has.
//!
//! ```text
//! rules         the alerts, and the same with durations divided
//! provocations  what each alert is for, as a table
//! scene         a proxy in a sandbox of its own, as Prometheus sees it
//! prometheus    the process and its API
//! watch         the alerts as they come and go
//! recording     what was scraped, for promtool to play at its true speed
//! dashboard     the queries of the dashboard
//! ```

mod dashboard;
mod prometheus;
mod provocations;
mod recording;
mod rules;
mod scene;
mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::prometheus::Prometheus;
use crate::provocations::{HEALTHY, PROVOCATIONS, Provocation, STRANGER};
use crate::recording::Recording;
use crate::rules::Rules;
use crate::scene::Scene;
use crate::watch::{Fired, Watch};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a program of Debian's package `prometheus` is there; says so if not.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        support::skip_without(program);
    }
    found
}

/// Asserts that promtool has nothing to say against files in `directory`.
fn expect_promtool(directory: &Path, arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success(), "{arguments:?}: {printed}");
}

#[test]
fn each_alert_fires_on_what_it_is_for_and_ends_and_never_beside_a_healthy_proxy() {
    if std::env::var_os("ZPA_SLOW").is_none() {
        return support::skip("the alerts take minutes; `make monitoring` runs them");
    }
    if !is_installed("prometheus") || !is_installed("promtool") {
        return;
    }
    let (rules, files) = (Rules::read(), Scratch::new("run"));
    let healthy: Vec<Scene> = HEALTHY.iter().map(|it| it.start(&files.0)).collect();
    let ill = PROVOCATIONS.iter();
    let ill = ill.filter_map(|it| Some((it, it.start(&files.0)?)));
    let ill: Vec<(&Provocation, Scene)> = ill.collect();
    let well = HEALTHY.iter().zip(&healthy);
    let well = well.map(|(it, scene)| scene.target(it.pod, "zpa"));
    let others = ill
        .iter()
        .map(|(it, scene)| scene.target(it.pod, it.container));
    let targets = well.chain(others).chain([STRANGER.target()]);
    let prometheus = Prometheus::start(&files.0, &rules.divided(), targets.collect());

    let fired = provoke(&Watch::new(&prometheus), &healthy, &ill);

    let provocations = || ill.iter().map(|(it, _)| *it).zip(&fired);
    for (it, fired) in provocations() {
        expect_labels_and_texts(it, fired, &rules);
    }
    expect_never(&prometheus, &ill);
    dashboard::expect_every_query_is_answered(&prometheus);
    let recordings =
        provocations().map(|(it, fired)| Recording::of(it, fired, &rules, &prometheus));
    let recordings: Vec<Recording> = recordings.collect();
    let healthy: Vec<_> = HEALTHY
        .iter()
        .map(|it| prometheus.recorded(it.pod))
        .collect();
    recording::expect_promtool_agrees(&files.0, &rules, &recordings, &healthy);
}

fn expect_labels_and_texts(it: &Provocation, fired: &Fired, rules: &Rules) {
    let own = it.labels.iter().copied();
    let severity = rules.severity(it.alert);
    for (name, value) in own.chain([("namespace", it.pod), ("severity", severity)]) {
        assert_eq!(
            fired.labels.get(name).map(String::as_str),
            Some(value),
            "{}",
            it.pod
        );
    }
    let texts = rules.annotations(it.alert, &fired.labels, fired.value);
    assert_eq!(fired.annotations, texts, "{}", it.pod);
}

/// Provokes all alerts, each at a proxy of its own and all at once, since most of the time
/// is waiting; returns each as it fired.
fn provoke(watch: &Watch, healthy: &[Scene], ill: &[(&Provocation, Scene)]) -> Vec<Fired> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watch.run(&is_over));
        for (scene, it) in healthy.iter().zip(HEALTHY) {
            let is_over = &is_over;
            scope.spawn(move || (it.traffic)(scene, is_over));
        }
        let running: Vec<_> = ill
            .iter()
            .map(|(it, scene)| scope.spawn(move || it.play(scene, watch)))
            .collect();
        let fired: Vec<_> = running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        is_over.store(true, Ordering::SeqCst);
        fired
            .into_iter()
            .map(|it| it.expect("it was provoked, fired and ended"))
            .collect()
    })
}

/// Asserts that over the whole run nothing fired that must not.
fn expect_never(prometheus: &Prometheus, ill: &[(&Provocation, Scene)]) {
    let firing = prometheus.query("count_over_time(ALERTS{alertstate=\"firing\"}[1h])");
    let firing = firing.as_array().unwrap().iter().map(|it| {
        let label = |name: &str| it["metric"][name].as_str().unwrap().to_owned();
        (label("namespace"), label("alertname"))
    });
    let firing: BTreeSet<(String, String)> = firing.collect();
    assert!(firing.len() > 5, "what fires is recorded");
    for (pod, alert) in firing {
        let mut healthy = HEALTHY.iter().map(|it| it.pod).chain([STRANGER.pod]);
        assert!(
            healthy.all(|it| it != pod),
            "{alert} at {pod}, where nothing is wrong"
        );
        let mut here = ill.iter().filter(|(it, _)| it.pod == pod);
        let is_wrong = here.any(|(it, _)| it.never.contains(&&*alert));
        assert!(!is_wrong, "{alert} at {pod}");
    }
}

/// A directory for files of one run; removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    /// `label` tells it from those of other tests.
    fn new(label: &str) -> Scratch {
        let name = format!("zpa-monitoring-{}-{label}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Scratch(directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
