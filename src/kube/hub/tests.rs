use crate::cluster::{Outcome, PortRef};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use super::super::testing::{self, DEADLINE, begin_stream, hang, recorded_body, reply, serve};
use super::*;

/// The hub of a server that has a Deployment and its slices.
fn hub() -> Hub {
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
    let config = HubConfig {
        access: testing::access(server),
        writer: "zpa-5d9c7".to_owned(),
        wall_clock: || 1_795_313_581,
        scope: Scope::Named,
    };
    Hub::new(config, testing::clock).unwrap()
}

fn app() -> AppConfig {
    AppConfig {
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
        let hub = hub();
        let handle = hub.add(app(), report).unwrap();
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
    let hub = hub();
    let handle = hub.add(app(), report).unwrap();
    handle.request(5, Request::Read);
    let (mut replied, mut listed) = (false, false);
    while !(replied && listed) {
        match reports.recv_timeout(DEADLINE).unwrap() {
            Report::Reply { id, outcome } => {
                assert_eq!(id, 5);
                replied = matches!(outcome, Outcome::Scale(_));
            }
            Report::Pods { pods, .. } => listed = pods.len() == 1,
            Report::Fallback { .. }
            | Report::Synced(_)
            | Report::NoAddress { .. }
            | Report::StaticBackends(_)
            | Report::TargetStatus(_)
            | Report::Observed(_)
            | Report::Watching(_)
            | Report::Permission { .. }
            | Report::Trouble(_)
            | Report::Panicked(_) => {}
        }
    }
    let counted = |names| {
        let counts = hub.requests().read();
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
