use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::super::testing::{self, DEADLINE, begin_stream, hang, recorded_body, reply, serve};
use super::*;
use crate::cluster::{Observation, Outcome, PortRef};
use crate::workload::TargetRef;

/// The API threads of a server that has a Deployment and its slices.
fn api() -> ApiThreads {
    let server = serve(|asked, stream| {
        if asked.target.contains("&watch=true") {
            begin_stream(stream);
            return hang(stream);
        }
        if asked.target.contains("/services/") {
            return reply(stream, 403, "", "{}");
        }
        let name = if asked.target.ends_with("/deployments/myapp") {
            "30-deployment-get-after"
        } else {
            "15-slices-list-ready"
        };
        let body = String::from_utf8(recorded_body(name)).unwrap();
        reply(stream, 200, "", &body)
    });
    let config = ApiConfig {
        access: testing::access(server),
        writer: "zpa-5d9c7".to_owned(),
        wall_clock: || 1_795_313_581,
        scope: Scope::Named,
    };
    ApiThreads::new(config, testing::clock).unwrap()
}

fn app() -> WatchedApp {
    WatchedApp {
        ports: vec![Some(PortRef::Name("http".into()))],
        ..testing::config()
    }
}

/// A panic in either thread; here it is the receiver of the reports that panics.
#[test]
fn a_thread_that_panics_owes_no_reply_and_works_again() {
    for panics in [
        (|report| matches!(report, Report::Reply { .. })) as fn(&Report) -> bool,
        |report| matches!(report, Report::Pods { .. }),
    ] {
        let (sender, reports) = mpsc::channel();
        let first = Arc::new(Mutex::new(true));
        let report = move |report| {
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            if panics(&report) && std::mem::take(&mut *first) {
                panic!("by intent");
            }
            let _ = sender.send(report);
        };
        let api = api();
        let handle = api.add(app(), report).unwrap();
        handle.request(5, Request::Read);
        let (mut panicked, mut replied, mut listed) = (false, false, false);
        while !(panicked && replied && listed) {
            match reports.recv_timeout(DEADLINE).unwrap() {
                Report::Panicked(panic) => {
                    assert_eq!(panic.why, "by intent");
                    panicked = true;
                    handle.request(6, Request::Read);
                }
                Report::Reply { id: 5, outcome } if !panicked => {
                    let is_lost = outcome == Outcome::Unknown { retry_after: None };
                    assert!(is_lost || matches!(outcome, Outcome::Scale(_)));
                }
                Report::Reply { id: 6, outcome } if panicked => {
                    replied = matches!(outcome, Outcome::Scale(_));
                }
                Report::Pods { pods, .. } => listed = pods.len() == 1,
                _ => {}
            }
        }
    }
}

#[test]
fn both_threads_report_and_end_with_the_handle() {
    let (sender, reports) = mpsc::channel();
    let report = move |report| {
        let _ = sender.send(report);
    };
    let api = api();
    let handle = api.add(app(), report).unwrap();
    handle.request(5, Request::Read);
    let (mut replied, mut listed) = (false, false);
    while !(replied && listed) {
        match reports.recv_timeout(DEADLINE).unwrap() {
            Report::Reply { id, outcome } => {
                assert_eq!(id, 5);
                replied = matches!(outcome, Outcome::Scale(_));
            }
            Report::Pods { pods, .. } => listed = pods.len() == 1,
            Report::Accepts { .. }
            | Report::FallbackAddress { .. }
            | Report::SessionAffinity(_)
            | Report::Synced(_)
            | Report::NoAddress { .. }
            | Report::StaticBackends(_)
            | Report::BackupTarget(_)
            | Report::TargetStatus(_)
            | Report::PodsRead(_)
            | Report::Observed(_)
            | Report::Watching(_)
            | Report::Permission { .. }
            | Report::RequestFailed(_)
            | Report::Panicked(_) => {}
        }
    }
    let counted = |names| {
        let counts = api.requests().read();
        counts
            .iter()
            .any(|(these, count)| *these == names && *count > 0)
    };
    for names in [["get", "ok"], ["get", "forbidden"], ["list", "ok"]] {
        assert!(counted(names), "{names:?}");
    }
    drop(handle);
    let ended = loop {
        match reports.recv_timeout(DEADLINE) {
            Ok(_) => {}
            Err(cause) => break cause,
        }
    };
    assert_eq!(ended, mpsc::RecvTimeoutError::Disconnected);
}

/// A server that has two apps, and every request that it has seen.
fn namespace() -> (ApiThreads, mpsc::Receiver<String>) {
    let (sender, seen) = mpsc::channel();
    let server = serve(move |asked, stream| {
        let _ = sender.send(asked.target.clone());
        if asked.target.contains("watch=true") {
            begin_stream(stream);
            return hang(stream);
        }
        let item = |kind: &str, name: &str| match kind {
            "services" => json!({
                "metadata": { "name": name },
                "spec": { "ports": [{ "name": "http", "port": 80 }] }
            }),
            "deployments" => json!({
                "kind": "Deployment",
                "metadata": { "name": name, "resourceVersion": "7" },
                "spec": { "replicas": name.len() }
            }),
            _ => json!({
                "metadata": {
                    "name": format!("{name}-x"),
                    "labels": { "kubernetes.io/service-name": name }
                },
                "addressType": "IPv4",
                "ports": [{ "name": "http", "port": 80 }],
                "endpoints": [{ "addresses": [format!("10.0.0.{}", name.len())] }]
            }),
        };
        let path = asked.target.split('?').next().unwrap_or_default();
        let body = match path.rsplit('/').next() {
            Some(kind @ ("services" | "deployments" | "endpointslices")) => json!({
                "metadata": { "resourceVersion": "9" },
                "items": [item(kind, "a"), item(kind, "bb")]
            }),
            name => item("deployments", name.unwrap_or_default()),
        };
        reply(stream, 200, "", &body.to_string())
    });
    let config = ApiConfig {
        access: testing::access(server),
        writer: "zpa-5d9c7".to_owned(),
        wall_clock: || 1_795_313_581,
        scope: Scope::Namespace,
    };
    (ApiThreads::new(config, testing::clock).unwrap(), seen)
}

/// Adds an app of that name; what is reported to it.
fn add(api: &ApiThreads, name: &str) -> (AppHandle, mpsc::Receiver<Report>) {
    let (sender, reports) = mpsc::channel();
    let report = move |report| {
        let _ = sender.send(report);
    };
    let app = WatchedApp {
        service: name.to_owned(),
        target: TargetRef::deployment(name),
        ..testing::config()
    };
    (api.add(app, report).unwrap(), reports)
}

/// Until an app has its pods, its object and the reply to its read: the address, and the
/// replicas that were watched and read.
fn served(reports: &mpsc::Receiver<Report>) -> (String, u32, u32) {
    let (mut address, mut watched, mut read, mut watching) = (None, None, None, false);
    loop {
        match reports.recv_timeout(DEADLINE).unwrap() {
            Report::Pods { pods, .. } => address = Some(pods[0].addresses[0].ip().to_string()),
            Report::Observed(Observation::Scale(scale)) => watched = Some(scale.replicas),
            Report::Watching(is_watching) => watching = is_watching,
            Report::Reply {
                outcome: Outcome::Scale(scale),
                ..
            } => read = Some(scale.replicas),
            _ => {}
        }
        if let (Some(address), Some(watched), Some(read), true) =
            (&address, watched, read, watching)
        {
            return (address.clone(), watched, read);
        }
    }
}

#[test]
fn the_apps_of_a_namespace_share_its_watches_and_each_is_served_its_own() {
    let (api, seen) = namespace();
    let (a, of_a) = add(&api, "a");
    a.request(1, Request::Read);
    assert_eq!(served(&of_a), ("10.0.0.1".to_owned(), 1, 1));
    let (bb, of_bb) = add(&api, "bb");
    bb.request(1, Request::Read);
    assert_eq!(served(&of_bb), ("10.0.0.2".to_owned(), 2, 2));
    let named = |target: &String| target.contains("fieldSelector");
    assert!(!seen.try_iter().any(|target| named(&target)));
    drop(a);
    // What was reported before the end is still there.
    let ended = loop {
        match of_a.recv_timeout(DEADLINE) {
            Ok(_) => {}
            Err(cause) => break cause,
        }
    };
    assert_eq!(ended, mpsc::RecvTimeoutError::Disconnected);
    bb.request(2, Request::Read);
    let is_reply = |report: Report| matches!(report, Report::Reply { id: 2, .. });
    assert!(std::iter::from_fn(|| of_bb.recv_timeout(DEADLINE).ok()).any(is_reply));
}

#[test]
fn an_app_runs_on_new_endpoints_however_many_others_are_added_while_they_are_listed() {
    let (asked, lists) = mpsc::channel();
    let (added, go) = mpsc::channel();
    let go = Mutex::new((go, 0));
    let server = serve(move |request, stream| {
        if request.target.contains("watch=true") {
            begin_stream(stream);
            return hang(stream);
        }
        if request.target.contains("/deployments") {
            return reply(stream, 404, "", "{}");
        }
        let _ = asked.send(());
        let mut turn = go.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = turn.0.recv();
        turn.1 += 1;
        let service = |name: String| {
            json!({
                "metadata": { "name": name },
                "spec": { "ports": [{ "name": "http", "port": 80 }] }
            })
        };
        let items: Vec<_> = match request.target.contains("/services") {
            true => (0..21)
                .map(|number| service(format!("app-{number}")))
                .collect(),
            false => vec![json!({
                "metadata": {
                    "name": "app-0-x",
                    "labels": { "kubernetes.io/service-name": "app-0" }
                },
                "addressType": "IPv4",
                "ports": [{ "name": "http", "port": 80 }],
                "endpoints": [{ "addresses": [format!("10.0.0.{}", turn.1)] }]
            })],
        };
        let list = json!({ "metadata": { "resourceVersion": "9" }, "items": items });
        reply(stream, 200, "", &list.to_string())
    });
    let config = ApiConfig {
        access: testing::access(server),
        writer: "zpa-5d9c7".to_owned(),
        wall_clock: || 1_795_313_581,
        scope: Scope::Namespace,
    };
    let api = ApiThreads::new(config, testing::clock).unwrap();
    let mut apps = vec![add(&api, "app-0")];
    for number in 1..21 {
        // Each list is answered only after one more app is there.
        lists.recv_timeout(DEADLINE).unwrap();
        apps.push(add(&api, &format!("app-{number}")));
        added.send(()).unwrap();
    }
    let is_pods = |report: &Report| matches!(report, Report::Pods { pods, .. } if pods.len() == 1);
    let seen = apps[0].1.try_iter().filter(is_pods).count();
    assert!(seen >= 5, "{seen}");
    // All that were added are listed in the end.
    drop(added);
    let (_, of_last) = apps.last().unwrap();
    let is_synced = |report: Report| matches!(report, Report::Synced(Some(_)));
    assert!(std::iter::from_fn(|| of_last.recv_timeout(DEADLINE).ok()).any(is_synced));
}
