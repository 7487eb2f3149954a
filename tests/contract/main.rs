//! The sandbox answers as a real API server does: every recorded request is
//! sent to it, in the order and in the state of the recording, and the replies
//! are compared in status, in the headers that matter, and in the shape of
//! their bodies.

mod kinds;
mod misbehaviour;
mod pods;

use std::fs;
use std::sync::Mutex;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use serde_json::Value;
use support::client::{self, Client, Reply};
use support::recording::{self, Recording};
use support::sandbox::{Options, Resource, Sandbox};

/// The recorded watches lasted twelve seconds; here they need not.
const WATCH_SECONDS: &str = "timeoutSeconds=2";

/// How a recorded request is sent.
enum Play {
    /// After this has been done.
    After(fn(&Fixture)),
    /// In the background, while the rest goes on.
    Meanwhile,
}

use Play::{After, Meanwhile};

/// Every recording, in order.
const SCRIPT: &[(&str, Play)] = &[
    ("01-version.http", After(nothing)),
    ("02-scale-get-zero.http", After(nothing)),
    ("03-deployment-get-zero.http", After(nothing)),
    ("04-endpoints-get-empty.http", After(nothing)),
    ("05-slices-list-empty.http", After(nothing)),
    ("06-deployment-list-one.http", After(nothing)),
    ("07-slices-watch-zero-one-zero.http", Meanwhile),
    ("08-deployment-watch-zero-one-zero.http", Meanwhile),
    ("09-endpoints-watch-zero-one-zero.http", Meanwhile),
    ("10-scale-patch-to-one.http", After(watches_are_open)),
    ("11-scale-patch-no-change.http", After(pod_is_ready)),
    ("12-scale-patch-conflict.http", After(nothing)),
    ("13-scale-get-one.http", After(nothing)),
    ("14-endpoints-get-ready.http", After(nothing)),
    ("15-slices-list-ready.http", After(nothing)),
    ("16-status-patch-condition.http", After(nothing)),
    ("17-scale-get-current.http", After(nothing)),
    ("18-scale-patch-guarded-to-zero.http", After(nothing)),
    ("19-annotation-patch.http", After(pods_are_gone)),
    ("20-slices-watch-too-old.http", After(nothing)),
    ("21-slices-watch-initial-events.http", After(nothing)),
    ("22-unauthorized-bad-token.http", After(nothing)),
    ("23-forbidden-scale.http", After(account_is_nobody)),
    ("24-forbidden-slices.http", After(account_is_nobody)),
    ("25-not-found.http", After(account_is_recorder)),
    ("26-invalid-negative-replicas.http", After(nothing)),
    ("27-bad-json.http", After(nothing)),
    ("28-unsupported-media-type.http", After(nothing)),
    ("29-method-not-allowed.http", After(nothing)),
    ("30-deployment-get-after.http", After(nothing)),
    ("31-event-create.http", After(nothing)),
    ("32-event-create-bad-time.http", After(nothing)),
    ("33-lease-create.http", After(nothing)),
    ("34-deployment-scale-apply.http", After(pods_stay_away)),
];

/// The sandbox, and what was said last.
struct Fixture {
    sandbox: Sandbox,
    /// The version of the first list, where the watches start.
    first_version: Mutex<String>,
    /// The version that the latest reply showed.
    last_version: Mutex<String>,
}

fn nothing(_: &Fixture) {}

fn watches_are_open(fixture: &Fixture) {
    fixture.sandbox.expect("three open watches", |state| {
        [
            Resource::EndpointSlices,
            Resource::Deployments,
            Resource::Endpoints,
        ]
        .iter()
        .all(|resource| state.open_watches(*resource) == 1)
    });
}

fn pod_is_ready(fixture: &Fixture) {
    fixture
        .sandbox
        .expect("a ready pod in the status", |state| {
            state
                .deployment()
                .is_some_and(|object| object["status"]["readyReplicas"] == 1)
        });
}

/// The watches have ended too: nothing may come after what they recorded.
fn pods_are_gone(fixture: &Fixture) {
    fixture.sandbox.expect("no pod and no watch", |state| {
        let terminating = state
            .deployment()
            .map(|d| d["status"]["terminatingReplicas"] == 0);
        state.pods() == 0 && terminating == Some(true) && state.watches.is_empty()
    });
}

fn account_is_nobody(fixture: &Fixture) {
    fixture.sandbox.set_account("nobody");
    fixture.sandbox.deny("*", "*");
}

fn account_is_recorder(fixture: &Fixture) {
    fixture.sandbox.set_account("recorder");
    fixture.sandbox.allow_all();
}

fn pods_stay_away(fixture: &Fixture) {
    fixture.sandbox.never_ready();
}

impl Fixture {
    fn new() -> Fixture {
        let quick = Duration::from_millis(50);
        let options = Options {
            start_delay: Some(quick),
            stop_delay: quick,
            ..Options::default()
        };
        let sandbox = Sandbox::start(options);
        Fixture {
            sandbox,
            first_version: Mutex::default(),
            last_version: Mutex::default(),
        }
    }

    /// The recorded request, with the versions of this cluster.
    fn adapt(&self, recording: &Recording) -> String {
        let (first, last) = (
            self.first_version.lock().unwrap(),
            self.last_version.lock().unwrap(),
        );
        let request = recording
            .request
            .replace("timeoutSeconds=12", WATCH_SECONDS);
        let request = request.replace("resourceVersion=10298", &format!("resourceVersion={first}"));
        request
            .replace("\"10295\"", &format!("\"{first}\""))
            .replace("\"10320\"", &format!("\"{last}\""))
    }

    fn send(&self, recording: &Recording) -> Reply {
        let mut client = Client::connect(&self.sandbox).expect("a connection");
        if recording.name.contains("bad-token") {
            client = client.with_token("bad");
        }
        client
            .send(&self.adapt(recording))
            .unwrap_or_else(|e| panic!("{}: {e}", recording.name))
    }

    fn remember_version(&self, reply: &Reply) {
        let object: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
            let mut first = self.first_version.lock().unwrap();
            if first.is_empty() || object["kind"] == "DeploymentList" {
                *first = version.to_owned();
            }
            *self.last_version.lock().unwrap() = version.to_owned();
        }
    }
}

fn play<'s>(
    fixture: &'s Fixture,
    scope: &'s Scope<'s, '_>,
) -> Vec<(Recording, ScopedJoinHandle<'s, Reply>)> {
    let mut answers = Vec::new();
    for (name, how) in SCRIPT {
        let recording = Recording::load(name);
        let copy = Recording::load(name);
        match how {
            Meanwhile => answers.push((recording, scope.spawn(move || fixture.send(&copy)))),
            After(prepare) => {
                prepare(fixture);
                let reply = fixture.send(&copy);
                fixture.remember_version(&reply);
                answers.push((recording, scope.spawn(move || reply)));
            }
        }
    }
    answers
}

#[test]
fn every_recorded_request_is_answered_as_recorded() {
    let fixture = Fixture::new();
    let differences = thread::scope(|scope| {
        let mut differences = Vec::new();
        for (recording, reply) in play(&fixture, scope) {
            let reply = reply.join().expect("a reply");
            let found = recording.differences(&reply);
            differences.extend(
                found
                    .iter()
                    .map(|line| format!("{}: {line}", recording.name)),
            );
        }
        differences
    });
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

/// Recordings of lists in pages, of a namespace of its own.
const PAGES: &[&str] = &[
    "39-slices-list-page-one.http",
    "40-slices-list-page-two.http",
    "41-slices-list-continue-bad.http",
];

/// A sandbox with the slices that the recorded pages show.
fn with_recorded_slices() -> Sandbox {
    let sandbox = Sandbox::start(Options {
        namespace: "rec2".to_owned(),
        ..Options::default()
    });
    for page in &PAGES[..2] {
        for slice in Recording::load(page).json()["items"].as_array().unwrap() {
            sandbox.create(Resource::EndpointSlices, slice.clone());
        }
    }
    sandbox
}

#[test]
fn a_list_in_pages_is_answered_as_recorded_whatever_is_written_meanwhile() {
    let sandbox = with_recorded_slices();
    let mut token = String::new();
    let mut differences = Vec::new();
    for name in PAGES {
        let recording = Recording::load(name);
        let request = match recording.request.split_once("&continue=eyJ") {
            Some((before, after)) => {
                let (_, after) = after.split_once(' ').unwrap();
                format!("{before}&continue={token} {after}")
            }
            None => recording.request.clone(),
        };
        let reply = Client::connect(&sandbox).unwrap().send(&request).unwrap();
        let found = recording.differences(&reply);
        differences.extend(found.iter().map(|line| format!("{name}: {line}")));
        if token.is_empty() {
            token = text(&json(&reply)["metadata"]["continue"]).to_owned();
            // The second page shows the time of the first.
            let mut late = Recording::load(PAGES[0]).json()["items"][0].take();
            late["metadata"]["name"] = "hand-3".into();
            sandbox.create(Resource::EndpointSlices, late);
        }
    }
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

#[test]
fn the_rest_of_a_list_is_gone_after_a_compaction_and_its_answer_shows_the_way_on() {
    let sandbox = with_recorded_slices();
    let mut client = Client::connect(&sandbox).unwrap();
    let list = "/apis/discovery.k8s.io/v1/namespaces/rec2/endpointslices?limit=3";
    let mut get = |token: &str| client.get(&format!("{list}&continue={token}")).unwrap();
    let first = json(&get(""));
    assert_eq!(first["metadata"]["remainingItemCount"], 1, "no selector");
    let token = text(&first["metadata"]["continue"]);
    assert_eq!(names(&json(&get(token))), ["myapp"]);
    sandbox.expire_versions();
    let gone = get(token);
    assert_eq!(gone.status, 410);
    let gone = json(&gone);
    assert_eq!(gone["reason"], "Expired");
    let way_on = text(&gone["metadata"]["continue"]);
    assert_eq!(names(&json(&get(way_on))), ["myapp"]);
}

/// The names of the items of a list, without their random ends.
fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items").iter();
    let names = items.map(|item| text(&item["metadata"]["name"]));
    names.map(|name| name.split('-').next().unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/myapp";

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn version(reply: &Reply) -> String {
    json(reply)["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned()
}

#[test]
fn a_patch_that_changes_nothing_moves_no_version() {
    let sandbox = Sandbox::start(Options {
        start_delay: None,
        ..Options::default()
    });
    let mut client = Client::connect(&sandbox).unwrap();
    let scale = format!("{DEPLOYMENT}/scale");
    let before = version(&client.get(&scale).unwrap());
    let patched = client.patch(&scale, r#"{"spec":{"replicas":0}}"#).unwrap();
    assert_eq!((patched.status, version(&patched)), (200, before.clone()));
    let patched = client.patch(&scale, r#"{"spec":{"replicas":1}}"#).unwrap();
    assert_ne!(version(&patched), before);
}

#[test]
fn the_controllers_move_the_version_after_a_write() {
    let sandbox = Sandbox::start(Options::default());
    let mut client = Client::connect(&sandbox).unwrap();
    let scale = format!("{DEPLOYMENT}/scale");
    let written = version(&client.patch(&scale, r#"{"spec":{"replicas":1}}"#).unwrap());
    sandbox.expect("a pod listed as ready", |state| state.listed().len() == 1);
    let guarded = format!(r#"{{"metadata":{{"resourceVersion":"{written}"}},"spec":{{}}}}"#);
    assert_eq!(client.patch(&scale, &guarded).unwrap().status, 409);
}

#[test]
fn a_stale_version_is_refused_on_the_deployment_and_on_its_status() {
    let sandbox = Sandbox::start(Options {
        start_delay: None,
        ..Options::default()
    });
    let mut client = Client::connect(&sandbox).unwrap();
    let current = version(&client.get(DEPLOYMENT).unwrap());
    let status = format!("{DEPLOYMENT}/status");
    let condition = r#""status":{"conditions":[{"type":"zpa","status":"True"}]}"#;
    let annotation = r#""metadata":{"annotations":{"zpa":"here"},"resourceVersion":""#;
    for (guard, expected) in [("1", 409), (current.as_str(), 200)] {
        let reply = client
            .patch(DEPLOYMENT, &format!("{{{annotation}{guard}\"}}}}"))
            .unwrap();
        assert_eq!(reply.status, expected, "annotation guarded by {guard}");
    }
    sandbox.expect("the annotation was seen", |state| {
        state
            .deployment()
            .is_some_and(|d| d["status"]["observedGeneration"] == 2)
    });
    let current = version(&client.get(DEPLOYMENT).unwrap());
    for (guard, expected) in [("1", 409), (current.as_str(), 200)] {
        let body = format!(r#"{{"metadata":{{"resourceVersion":"{guard}"}},{condition}}}"#);
        let media_type = "application/strategic-merge-patch+json";
        let reply = client
            .send(&client::request("PATCH", &status, media_type, &body))
            .unwrap();
        assert_eq!(reply.status, expected, "condition guarded by {guard}");
    }
    sandbox.set_replicas(1);
    sandbox.expect("a pod", |state| state.pods() == 1);
    let kept = json(&client.get(DEPLOYMENT).unwrap())["status"]["conditions"].clone();
    assert!(
        kept.as_array().unwrap().iter().any(|c| c["type"] == "zpa"),
        "{kept}"
    );
}

#[test]
fn without_a_token_a_request_is_one_of_nobody_and_with_a_wrong_one_it_is_unauthorized() {
    let sandbox = Sandbox::start(Options::default());
    for (token, status, message) in [
        (
            "",
            403,
            "deployments.apps \"myapp\" is forbidden: User \"system:anonymous\" cannot get resource \
             \"deployments\" in API group \"apps\" in the namespace \"default\"",
        ),
        ("wrong", 401, "Unauthorized"),
    ] {
        let client = Client::connect(&sandbox).unwrap();
        let reply = client.with_token(token).get(DEPLOYMENT).unwrap();
        assert_eq!(reply.status, status, "{token:?}");
        assert_eq!(json(&reply)["message"], message);
    }
}

#[test]
fn a_service_shows_its_port_by_name_and_number() {
    let sandbox = Sandbox::start(Options::default());
    let mut client = Client::connect(&sandbox).unwrap();
    let service = client
        .get("/api/v1/namespaces/default/services/myapp")
        .unwrap();
    let spec = json(&service)["spec"].clone();
    assert_eq!(
        (&spec["ports"][0]["name"], &spec["ports"][0]["port"]),
        (&"http".into(), &80.into())
    );
    assert!(spec["clusterIP"].is_string());
}

#[test]
fn every_recording_is_in_the_script() {
    let files = fs::read_dir(recording::directory()).expect("the recordings");
    let mut recorded: Vec<String> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".http"))
        .collect();
    recorded.sort();
    let scripted = SCRIPT.iter().map(|(name, _)| *name);
    let scripted = scripted.chain(PAGES.iter().copied());
    let mut scripted: Vec<&str> = scripted.chain(kinds::scripted()).collect();
    scripted.sort_unstable();
    assert_eq!(recorded, scripted);
}
