//! The store over the recordings of a real API server, and over objects that none of
//! ours looks like.

use serde_json::{Value, json};

use super::super::testing::{recorded_body, recorded_lines};
use super::super::watcher_io::Store as _;
use super::*;

fn store(kind: &str) -> Store {
    let mut store = Store::default();
    store.set_kind(kind);
    store
}

fn list(store: &mut Store, body: &[u8]) {
    store.add_page(body, true).unwrap();
    store.replace();
}

fn apply(store: &mut Store, line: &[u8]) -> String {
    match store.apply(line).unwrap() {
        Applied::Reached(version) => version,
        Applied::Failed(status) => panic!("{status:?}"),
    }
}

/// The name, and replicas and version if they are shown.
type Shown = (String, Option<(u32, String)>);

fn changes(store: &mut Store) -> Vec<Shown> {
    let changes = store.take_changes().into_iter();
    let shown = changes.map(|change| {
        let scale = match change.observation {
            Observation::Scale(scale) => Some((scale.replicas, scale.version.0)),
            Observation::Changed => None,
        };
        (change.key, scale)
    });
    shown.collect()
}

fn scaled(name: &str, replicas: u32, version: &str) -> Shown {
    (name.to_owned(), Some((replicas, version.to_owned())))
}

fn unseen(name: &str) -> Shown {
    (name.to_owned(), None)
}

/// An object of a custom kind.
fn rollout(name: &str, version: &str, rest: Value) -> Value {
    let mut object = rest;
    object["metadata"] = json!({ "name": name, "resourceVersion": version });
    object
}

fn items(items: &[Value]) -> Vec<u8> {
    let list = json!({ "metadata": { "resourceVersion": "100" }, "items": items });
    list.to_string().into_bytes()
}

#[test]
fn the_recorded_list_and_watch_show_every_state_with_its_lease_and_its_pods() {
    let mut store = store("Deployment");
    list(&mut store, &recorded_body("06-deployment-list-one"));
    let first = store.take_changes().remove(0);
    let Observation::Scale(scale) = &first.observation else {
        panic!("{first:?}");
    };
    assert_eq!((scale.replicas, scale.version.0.as_str()), (0, "10295"));
    assert!(scale.lease_token.is_some(), "the object shows leases");
    assert_eq!(scale.generation, Some(1));
    assert_eq!(first.status.unwrap().kind, "Deployment");

    let lines = recorded_lines("08-deployment-watch-zero-one-zero");
    let (bookmark, events) = lines.split_last().unwrap();
    let reached: Vec<String> = events.iter().map(|line| apply(&mut store, line)).collect();
    assert_eq!(apply(&mut store, bookmark), "10336");
    let shown = changes(&mut store);
    let versions: Vec<_> = shown
        .iter()
        .map(|(_, shown)| shown.clone().unwrap())
        .collect();
    assert!(versions.iter().map(|(_, version)| version).eq(&reached));
    let replicas: Vec<u32> = versions.iter().map(|(replicas, _)| *replicas).collect();
    assert_eq!(replicas, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
    assert_eq!(versions[5].1, "10320", "the renewal of recording 16");
}

#[test]
fn a_list_shows_what_has_changed_since_and_what_is_gone() {
    let one = |version| rollout("one", version, json!({ "spec": { "replicas": 1 } }));
    let two = |version| rollout("two", version, json!({ "spec": { "replicas": 2 } }));
    for (label, listed, expected) in [
        ("nothing has changed", vec![one("5"), two("6")], vec![]),
        (
            "one has",
            vec![one("7"), two("6")],
            vec![scaled("one", 1, "7")],
        ),
        ("one is gone", vec![two("6")], vec![unseen("one")]),
        (
            "all are, and one is new",
            vec![rollout("new", "9", json!({ "spec": { "replicas": 0 } }))],
            vec![unseen("one"), unseen("two"), scaled("new", 0, "9")],
        ),
    ] {
        let mut store = store("Rollout");
        list(&mut store, &items(&[one("5"), two("6")]));
        assert_eq!(changes(&mut store).len(), 2, "{label}");
        list(&mut store, &items(&listed));
        assert_eq!(changes(&mut store), expected, "{label}");
    }
}

#[test]
fn an_unfinished_list_changes_nothing_and_a_new_first_page_makes_it_void() {
    let object = |name| rollout(name, "5", json!({ "spec": { "replicas": 1 } }));
    let mut store = store("Rollout");
    store.add_page(&items(&[object("a")]), true).unwrap();
    assert_eq!(changes(&mut store), []);
    store.add_page(&items(&[object("b")]), true).unwrap();
    store.add_page(&items(&[object("c")]), false).unwrap();
    store.replace();
    assert_eq!(
        changes(&mut store),
        [scaled("b", 1, "5"), scaled("c", 1, "5")]
    );
}

#[test]
fn what_does_not_show_its_replicas_has_to_be_read() {
    for (label, kind, object) in [
        ("deleted", "DELETED", json!({ "spec": { "replicas": 1 } })),
        (
            "replicas elsewhere",
            "MODIFIED",
            json!({ "spec": { "size": 3 } }),
        ),
        (
            "a status of another form",
            "MODIFIED",
            json!({ "spec": { "replicas": 1 }, "status": { "conditions": { "a": true } } }),
        ),
        (
            "a count that is none",
            "ADDED",
            json!({ "spec": { "replicas": "many" } }),
        ),
    ] {
        let mut store = store("Rollout");
        let line = json!({ "type": kind, "object": rollout("it", "8", object) });
        assert_eq!(
            apply(&mut store, line.to_string().as_bytes()),
            "8",
            "{label}"
        );
        assert_eq!(changes(&mut store), [unseen("it")], "{label}");
    }
}

#[test]
fn a_kind_of_apps_without_replicas_has_its_default_also_in_a_list() {
    let mut store = store("StatefulSet");
    list(
        &mut store,
        &items(&[rollout("db", "5", json!({ "spec": {} }))]),
    );
    assert_eq!(changes(&mut store), [scaled("db", 1, "5")]);
}

#[test]
fn another_kind_makes_a_fresh_start() {
    let mut store = store("Rollout");
    let listed = items(&[rollout("it", "5", json!({ "spec": { "replicas": 1 } }))]);
    list(&mut store, &listed);
    store.set_kind("Rollout");
    assert_eq!(
        changes(&mut store).len(),
        1,
        "the same kind changes nothing"
    );
    store.set_kind("Deployment");
    list(&mut store, &listed);
    assert_eq!(changes(&mut store).len(), 1);
}

#[test]
fn what_is_no_event_is_an_error_and_410_ends_the_watch() {
    let mut store = store("Deployment");
    for line in ["{}", "[]", r#"{"type":"ADDED","object":{}}"#, "{\"type\":"] {
        assert!(store.apply(line.as_bytes()).is_err(), "{line}");
    }
    let expired = store
        .apply(&recorded_body("20-slices-watch-too-old"))
        .unwrap();
    assert!(matches!(expired, Applied::Failed(status) if status.code == Some(410)));
}
