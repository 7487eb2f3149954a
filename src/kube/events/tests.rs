use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

use serde_json::Value;

use super::super::credentials::Credentials;
use super::super::testing::{self, DEADLINE, recorded_target};
use super::*;
use crate::cluster::EventType;

fn service(uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        namespace: "default".to_owned(),
        name: "shop".to_owned(),
        uid: uid.to_owned(),
    }
}

fn warning(note: &str) -> Event {
    Event::new(EventType::Warning, "Wrong", "Discover", note)
}

struct Asked {
    method: String,
    path: String,
    body: Value,
}

/// A recorder whose server answers with these statuses, one after the other, and then 201;
/// and what it is asked.
fn recorder(statuses: &'static [u16]) -> (EventRecorder, mpsc::Receiver<Asked>) {
    let (sender, asked) = mpsc::channel();
    let sent = AtomicUsize::new(0);
    let address = testing::serve(move |request, stream| {
        let asked = Asked {
            method: request.method.clone(),
            path: request.target.clone(),
            body: serde_json::from_str(&request.body).unwrap(),
        };
        sender.send(asked).unwrap();
        let status = statuses.get(sent.fetch_add(1, Relaxed)).copied();
        testing::reply(stream, status.unwrap_or(201), "", "{}")
    });
    let credentials = Credentials::new(testing::access(address), testing::clock).unwrap();
    let client = Client::new(Arc::new(credentials), Arc::default());
    let recorder = EventRecorder::new(client, "zpa-5d9c7", testing::clock, || 1_795_313_591);
    (recorder, asked)
}

#[test]
fn an_event_is_created_where_it_was_recorded() {
    let (recorder, asked) = recorder(&[]);
    recorder.record(service("1"), warning("wrong"));
    let asked = asked.recv_timeout(DEADLINE).unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.path, recorded_target("31-event-create"));
    assert_eq!(asked.body["note"], "wrong");
    assert_eq!(asked.body["reportingInstance"], "zpa-5d9c7");
}

#[test]
fn the_second_is_a_patch_of_the_first_which_is_created_again_if_it_is_gone() {
    let (recorder, asked) = recorder(&[201, 200, 404, 201]);
    let next = || asked.recv_timeout(DEADLINE).unwrap();
    recorder.record(service("1"), warning("wrong"));
    let created = next();
    let name = created.body["metadata"]["name"].as_str().unwrap();
    recorder.record(service("1"), warning("wrong"));
    let patched = next();
    assert_eq!(patched.method, "PATCH");
    assert_eq!(patched.path, format!("{}/{name}", created.path));
    assert_eq!(patched.body["series"]["count"], 2);
    assert_eq!(patched.body.as_object().unwrap().len(), 1);
    recorder.record(service("1"), warning("wrong"));
    assert_eq!(next().body["series"]["count"], 3);
    let anew = next();
    assert_eq!((&*anew.method, &anew.path), ("POST", &created.path));
    assert_eq!(anew.body["series"]["count"], 3);
    assert_eq!(anew.body["metadata"]["name"], name);
}

#[test]
fn what_has_no_answer_is_tried_again_and_what_is_refused_is_not() {
    let (recorder, asked) = recorder(&[503, 403, 409]);
    recorder.record(service("1"), warning("first"));
    recorder.record(service("2"), warning("second"));
    recorder.record(service("3"), warning("third"));
    let notes: Vec<Value> = (0..4)
        .map(|_| asked.recv_timeout(DEADLINE).unwrap().body["note"].clone())
        .collect();
    assert_eq!(notes, ["first", "first", "second", "third"]);
}

#[test]
fn an_object_that_changes_all_the_time_has_few_events_and_keeps_no_thread() {
    let (recorder, asked) = recorder(&[]);
    for note in 0..1000 {
        recorder.record(service("1"), warning(&note.to_string()));
    }
    recorder.record(service("2"), warning("last"));
    let mut notes = Vec::new();
    while notes.last() != Some(&Value::from("last")) {
        notes.push(asked.recv_timeout(DEADLINE).unwrap().body["note"].clone());
    }
    assert!(notes.len() < 30, "{notes:?}");
    while recorder.queue.has_thread() {
        thread::yield_now();
    }
}

#[test]
fn a_refusal_is_logged_once_for_each_verb_and_namespace_whatever_the_others_are_answered() {
    let (recorder, asked) = recorder(&[201, 403, 201, 403, 201, 403]);
    for uid in ["1", "2", "3"] {
        for _ in 0..2 {
            recorder.record(service(uid), warning("wrong"));
            asked.recv_timeout(DEADLINE).unwrap();
        }
    }
    while recorder.queue.has_thread() {
        thread::yield_now();
    }
    let mut logs = lock(&recorder.queue.worker().logs);
    let mut level = |verb| {
        let log = logs.get_mut(&(verb, "default".to_owned())).unwrap();
        log.level(Level::Info, "refused")
    };
    assert_eq!(level(Verb::Create), Level::Info, "nothing was logged");
    assert_eq!(level(Verb::Patch), Level::Debug, "it was logged");
}
