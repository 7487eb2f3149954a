//! Several apps under a Role that names each of their objects, so that none can be watched
//! together with others.

use std::time::Instant;

use serde_json::Value;
use support::process::Process;
use support::sandbox::{Resource, Rule, SandboxApp, State};

use super::apps_file::{List, app, expect_status, start};
use super::*;

/// How many objects are watched by name at most.
const WATCHES: usize = 4;
/// The loop, the log, two for requests, one that watches the endpoints, and one that tries now and
/// then to watch all Deployments.
const THREADS: usize = 6;
/// The longest time between two reads of an app among six that is not watched.
const MAX_TURN: Duration = Duration::from_secs(12);
/// The reads of a minute at most while all apps sleep.
const MAX_READS: f64 = 50.0;

fn names() -> Vec<String> {
    let others = (1..=5).map(|number| format!("app-{number}"));
    ["myapp".to_owned()].into_iter().chain(others).collect()
}

/// Six apps, and a Role that allows the verbs for each of their Deployments by its name.
fn six(verbs: &[&str]) -> Sandbox {
    let names = names();
    let others = names[1..].iter().map(|name| SandboxApp::new(name, 0));
    let sandbox = Sandbox::start(Options {
        further_apps: others.collect(),
        ..Options::default()
    });
    sandbox.set_rules(rules(verbs).to_vec());
    sandbox
}

fn rules(verbs: &[&str]) -> [Rule; 4] {
    let of = |resources: &[&str], verbs: &[&str]| {
        let rule = Rule::new("apps", resources, verbs);
        names().iter().fold(rule, |rule, name| rule.named(name))
    };
    [
        of(&["deployments"], verbs),
        of(&["deployments/scale", "deployments/status"], &["patch"]),
        Rule::new("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
        Rule::new("", &["services"], &["get"]),
    ]
}

fn listed(names: &[String]) -> Value {
    names.iter().map(|name| app(name)).collect()
}

fn watches(sandbox: &Sandbox, count: usize) {
    sandbox.expect(&format!("{count} watches"), |state| {
        state.open_watches(Resource::Deployments) == count
    });
}

/// Waits until it has so many threads: one that ends does so after its last call.
#[track_caller]
fn expect_threads(zpa: &Zpa, count: usize) {
    let begun = Instant::now();
    let threads = || Process(zpa.id()).threads().unwrap().len();
    while threads() != count {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{} threads", threads());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How often each was read alone.
fn reads(state: &State) -> Vec<usize> {
    let of = |name: &String| {
        let path = format!("/deployments/{name}");
        state.count(&on("get", "deployments").with(move |it| it.path.ends_with(&path)))
    };
    names().iter().map(of).collect()
}

#[test]
fn four_objects_are_watched_by_name_and_the_others_read_in_turn() {
    let sandbox = six(&["get", "list", "watch"]);
    let list = List::new("named", &listed(&names()));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    zpa.expect_log_times(" found at ", names().len());
    watches(&sandbox, WATCHES);
    expect_threads(&zpa, THREADS + WATCHES);

    // What is watched is seen at once, and not by a read.
    sandbox.deny("get", "deployments");
    sandbox.set_replicas(1);
    zpa.expect_log("default/myapp scaled from 0 to 1 by somebody else");
    sandbox.set_replicas(0);
    zpa.expect_log("default/myapp scaled to 0 by somebody else");
    sandbox.allow_all();
}

#[test]
fn what_is_watched_by_name_is_read_less_often_than_what_is_not() {
    let sandbox = six(&["get", "list", "watch"]);
    let list = List::new("turns", &listed(&names()));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    zpa.expect_log_times(" found at ", names().len());
    watches(&sandbox, WATCHES);
    let (begun, before) = (Instant::now(), reads(&sandbox.state()));
    let are_read = sandbox.wait_until(MAX_TURN * 2, |state| {
        let now = reads(state);
        (WATCHES..now.len()).all(|other| now[other] >= before[other] + 2)
    });
    assert!(are_read, "the others are read in turn");
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let now = reads(&sandbox.state());
    let reads: Vec<usize> = now.iter().zip(before).map(|(now, was)| now - was).collect();
    // Each of them was read once at first, at a random time.
    assert!(
        reads[..WATCHES].iter().all(|&count| count <= 1),
        "{reads:?}"
    );
    let most = MAX_READS * minutes + names().len() as f64;
    assert!(
        reads.iter().sum::<usize>() as f64 <= most,
        "{reads:?} in {minutes} min"
    );
}

#[test]
fn an_app_that_leaves_gives_its_watch_to_the_next_and_a_wider_role_needs_none() {
    let sandbox = six(&["get", "list", "watch"]);
    let mut list = List::new("next", &listed(&names()));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    watches(&sandbox, WATCHES);
    let last = on("watch", "deployments").with(|it| it.query.contains("app-5"));
    assert_eq!(sandbox.count(&last), 0);
    list.set(&listed(&names()[2..]).to_string());
    zpa.expect_log("default/myapp: drained, and removed");
    sandbox.expect("app-5 is watched", |state| state.count(&last) > 0);
    watches(&sandbox, WATCHES);

    let wider = Rule::new("apps", &["deployments"], &["list", "watch"]);
    let rules = rules(&["get", "list", "watch"]);
    sandbox.set_rules(rules.into_iter().chain([wider]).collect());
    // It is tried again when an app is added.
    list.set(&listed(&names()).to_string());
    watches(&sandbox, 1);
    expect_threads(&zpa, THREADS);
}

#[test]
fn apps_that_may_only_be_read_are_read() {
    let sandbox = six(&["get"]);
    let list = List::new("read", &listed(&names()));
    let zpa = start(&sandbox, &list, &[("ZPA_IDLE_TTL", "5s")]);
    zpa.expect_log_times(" found at ", names().len());
    echo(
        &mut zpa.connect_to(super::apps_file::address(&zpa, "app-5")),
        "wake",
    );
    sandbox.expect("it sleeps again", |it| it.replicas_of("app-5") == 0);
    zpa.expect_log("reading the objects in turn");
    assert_eq!(sandbox.state().open_watches(Resource::Deployments), 0);
}

/// What `/status` says that is done for each app in place of something else.
fn fallbacks(status: &Value) -> Vec<usize> {
    let apps = status["apps"].as_array().unwrap().iter();
    let apps = apps.filter(|app| app["leaving"] == false);
    apps.map(|app| app["fallbacks"].as_array().unwrap().len())
        .collect()
}

#[test]
fn a_role_that_is_widened_leaves_no_app_with_a_refusal_of_its_watch_by_name() {
    let sandbox = six(&["get"]);
    let mut list = List::new("widened", &listed(&names()[1..]));
    let zpa = start(&sandbox, &list, &[LONG_TTL]);
    expect_status(&zpa, "each is refused", |it| fallbacks(it) == [1; 5]);
    let wider = Rule::new("apps", &["deployments"], &["list", "watch"]);
    sandbox.set_rules(rules(&["get"]).into_iter().chain([wider]).collect());
    list.set(&listed(&names()).to_string());
    watches(&sandbox, 1);
    expect_status(&zpa, "none is", |it| fallbacks(it) == [0; 6]);
}
