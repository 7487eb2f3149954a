//! The Service: it is read before the list, it is missing, it cannot be read.

use super::*;

#[test]
fn a_port_by_its_number_needs_the_service_and_waits_for_it() {
    for (label, answer, cure) in [
        (
            "403",
            refused(403),
            "allow it, or give the port by its name",
        ),
        (
            "404",
            refused(404),
            "name one that exists (--service, ZPA_SERVICE)",
        ),
    ] {
        let mut rig = Rig::new(Some(PortRef::Number(80)));
        rig.service = Some(answer);
        for _ in 0..6 {
            rig.step();
        }
        assert!(
            rig.asked.iter().all(|(_, what)| *what == "services"),
            "{label}"
        );
        assert!(
            rig.log.iter().any(|(_, text)| text.contains(cure)),
            "{label}: {:?}",
            rig.log
        );
        rig.service = None;
        assert_eq!(rig.watch().0, SLICES, "{label}");
    }
}

#[test]
fn a_service_that_fails_or_has_no_such_port_is_asked_again() {
    let other_port = r#"{"spec":{"ports":[{"name":"grpc","port":80}]}}"#;
    for (label, answer) in [
        ("500", refused(500)),
        ("no reply", Response::Failed("reset".into())),
        ("not JSON", Response::Ok(b"{".to_vec())),
        ("another port", Response::Ok(other_port.into())),
    ] {
        let mut rig = Rig::http();
        rig.service = Some(answer.clone());
        for _ in 0..8 {
            rig.step();
        }
        assert!(rig.asked.len() > 1, "{label}");
        assert_eq!(rig.synced(), [None], "{label}: nothing is listed");
        rig.service = None;
        assert_eq!(rig.watch().0, SLICES, "{label}");
        // What it said last time will do, but for a port that is not there.
        rig.service = Some(answer);
        rig.asked.clear();
        rig.handle(WatcherInput::Relist);
        rig.step();
        rig.step();
        let lists = rig.asked.iter().any(|(_, what)| *what == "endpointslices");
        assert_eq!(lists, label != "another port", "{label}");
    }
}

fn of_the_service(rig: &Rig) -> Vec<&Report> {
    let all = rig.reports.iter();
    all.filter(|it| matches!(it, Report::NoAddress { .. } | Report::RequestFailed(_)))
        .collect()
}

#[test]
fn a_service_that_never_was_is_reported_and_its_endpoints_are_not_up_to_date() {
    let mut rig = Rig::new(None);
    rig.service = Some(refused(404));
    rig.list = r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#.into();
    rig.watch();
    let why = "the Service default/myapp does not exist (404 no): no pod can be found through it; \
               set --service (ZPA_SERVICE)";
    assert_eq!(
        of_the_service(&rig),
        [
            &Report::RequestFailed(why.into()),
            &no_address(Some(NoAddress::ServiceMissing(why.into())))
        ]
    );
    assert_eq!(rig.synced(), [None]);
    rig.service = None;
    rig.reports.clear();
    let added = String::from_utf8(line(1))
        .unwrap()
        .replace("MODIFIED", "ADDED");
    rig.lines(added.as_bytes());
    assert_eq!(
        rig.action,
        ReflectorAction::Get(SERVICE_PATH.to_owned()),
        "its slice shows that it is there"
    );
    rig.step();
    assert!(rig.reports.contains(&no_address(None)));
    assert_eq!(rig.synced(), [Some(SLICES)]);
    assert!(
        matches!(rig.action, ReflectorAction::Watch(_)),
        "and no new list is needed"
    );

    rig.service = Some(refused(404));
    rig.list = r#"{"metadata":{"resourceVersion":"9"},"items":[]}"#.into();
    rig.reports.clear();
    rig.handle(WatcherInput::Relist);
    rig.watch();
    assert!(
        !rig.reports
            .iter()
            .any(|it| matches!(it, Report::NoAddress { .. })),
        "no wrong name"
    );
    assert_eq!(rig.synced(), [None], "but nothing that is up to date");
}

#[test]
fn endpoints_made_by_hand_can_do_without_a_service() {
    let mut rig = Rig::new(None);
    rig.service = Some(refused(404));
    rig.list = r#"{"metadata":{"resourceVersion":"1"},"items":[
        {"metadata":{"name":"by-hand"},"addressType":"IPv4","endpoints":null}]}"#
        .into();
    rig.watch();
    assert!(of_the_service(&rig).is_empty(), "{:?}", rig.reports);
    assert_eq!(rig.synced(), [Some(SLICES)]);
}

#[test]
fn the_affinity_of_the_service_is_reported_when_it_changes() {
    let service = |affinity: &str| {
        let json = format!(r#"{{"spec":{{"ports":[{{"name":"http","port":80}}]{affinity}}}}}"#);
        Response::Ok(json.into())
    };
    let with = service(r#","sessionAffinity":"ClientIP""#);
    let mut rig = Rig::http();
    let mut reported = Vec::new();
    for answer in [with.clone(), with, refused(403), service(""), service("")] {
        rig.service = Some(answer);
        rig.handle(WatcherInput::Relist);
        rig.watch();
        let affinity = |report: &Report| match report {
            Report::SessionAffinity(timeout) => Some(timeout.map(|it| it.as_secs())),
            _ => None,
        };
        reported.push(rig.reports.iter().filter_map(affinity).collect::<Vec<_>>());
        rig.reports.clear();
    }
    let expected: [Vec<Option<u64>>; 5] = [vec![Some(10_800)], vec![], vec![], vec![None], vec![]];
    assert_eq!(reported, expected);
}
