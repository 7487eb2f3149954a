//! The calls, reports and log lines of the reflector, step by step ([`rig`]).

use std::time::Duration;

use self::rig::*;
use super::super::super::testing::{self, recorded_body, recorded_lines};
use super::super::super::watcher_io::Response;
use super::*;
use crate::cluster::{NoAddress, PortRef, Refusal, Report};

mod ports;
mod refusals;
mod rig;
mod service;

const SERVICE: &str = r#"{"spec":{"clusterIP":"10.96.3.4","ports":[{"name":"http","port":80}]}}"#;
const SERVICE_PATH: &str = "/api/v1/namespaces/default/services/myapp";
const SLICES: AddressSource = AddressSource::EndpointSlices;
const ENDPOINTS: AddressSource = AddressSource::Endpoints;

#[test]
fn it_reads_the_service_lists_and_watches_and_reports_each_change_once() {
    let mut rig = Rig::new(None);
    rig.list = String::from_utf8(recorded_body("05-slices-list-empty")).unwrap();
    assert_eq!(rig.watch().0, SLICES);
    assert_eq!(rig.asked, [(0, "services"), (0, "endpointslices")]);
    assert_eq!(
        rig.reports,
        [
            fallback("10.96.3.4:80"),
            Report::Pods {
                port: 0,
                pods: vec![],
            },
            Report::Synced(Some(SLICES)),
        ]
    );
    rig.reports.clear();
    for number in 0..6 {
        rig.lines(&line(number));
    }
    let ready: Vec<_> = rig.reports.iter().map(pods_of).collect();
    let one_more = "unready, ready, terminating, gone, and no news from bookmarks";
    assert_eq!(ready, [Some(0), Some(1), Some(0), Some(0)], "{one_more}");
    assert_eq!(rig.log, []);
}

#[test]
fn endpoints_are_read_from_the_recorded_watch_when_slices_are_refused() {
    let mut rig = Rig::http();
    rig.forbidden = vec!["endpointslices"];
    rig.watch();
    rig.reports.clear();
    for mut line in recorded_lines("09-endpoints-watch-zero-one-zero") {
        line.push(b'\n');
        rig.lines(&line);
    }
    let ready: Vec<_> = rig.reports.iter().filter_map(pods_of).collect();
    assert_eq!(ready, [0, 1, 0]);
}
