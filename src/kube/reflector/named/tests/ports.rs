//! The ports of the Service: several, missing ones, and endpoints without one.

use super::*;

#[test]
fn endpoints_without_a_port_are_said_once_with_the_cure_and_so_is_their_end() {
    let mut rig = Rig::http();
    rig.list = rig.list.replace(
        r#""ports":[{"name":"http","protocol":"TCP","port":8000}]"#,
        r#""ports":null"#,
    );
    rig.watch();
    let undialable = |rig: &Rig| {
        let all = rig.reports.iter().filter_map(|report| match report {
            Report::NoAddress { why, .. } => Some(why.clone()),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(rig.warnings().len(), 1, "{:?}", rig.log);
    assert!(
        rig.warnings()[0].contains("its targetPort must be a port"),
        "{:?}",
        rig.log
    );
    let text = rig.warnings()[0].to_owned();
    assert_eq!(undialable(&rig), [Some(NoAddress::EndpointsLackPort(text))]);
    rig.handle(WatcherInput::Relist);
    rig.watch();
    assert_eq!(rig.warnings().len(), 1, "a list later");
    rig.lines(&line(1));
    let both = String::from_utf8(line(1)).unwrap();
    let slice = rig
        .list
        .split(r#""name":""#)
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let recorded = both
        .split(r#""name":""#)
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    assert_ne!(slice, "");
    rig.lines(both.replace(&recorded, &slice).as_bytes());
    assert_eq!(undialable(&rig).last(), Some(&None));
}

/// A Service with two ports, as the recorded slice of the first one, and a second port.
fn two_ports() -> Rig {
    let name = |name: &str| Some(PortRef::Name(name.into()));
    let mut rig = Rig::with_ports(vec![name("http"), name("db")]);
    rig.service = Some(Response::Ok(TWO_PORTS.into()));
    rig.list = rig.list.replace(
        r#""ports":[{"name":"http","protocol":"TCP","port":8000}]"#,
        r#""ports":[{"name":"http","protocol":"TCP","port":8000},{"name":"db","port":5000}]"#,
    );
    rig
}

const TWO_PORTS: &str = r#"{"spec":{"clusterIP":"10.96.3.4","ports":[
    {"name":"http","port":80},{"name":"db","port":5432}]}}"#;

/// The ports of the addresses that were last reported for a port of the Service.
fn dialled(rig: &Rig, wanted: usize) -> Option<Vec<u16>> {
    let reports = rig.reports.iter().rev();
    let mut pods = reports.filter_map(|report| match report {
        Report::Pods { port, pods } if *port == wanted => Some(pods),
        _ => None,
    });
    let addresses = pods.next()?.iter().flat_map(|pod| &pod.addresses);
    Some(addresses.map(|address| address.port()).collect())
}

/// What was reported of that port, to the last.
fn why_not(rig: &Rig, wanted: usize) -> Option<NoAddress> {
    let reports = rig.reports.iter().rev();
    let mut reasons = reports.filter_map(|report| match report {
        Report::NoAddress { port, why } if *port == wanted => Some(why.clone()),
        _ => None,
    });
    reasons.next().flatten()
}

#[test]
fn each_port_has_its_own_addresses_from_one_list_and_one_watch() {
    let mut rig = two_ports();
    rig.watch();
    assert_eq!(rig.asked, [(0, "services"), (0, "endpointslices")]);
    assert_eq!(dialled(&rig, 0), Some(vec![8000]));
    assert_eq!(dialled(&rig, 1), Some(vec![5000]));
    for (port, address) in [(0, "10.96.3.4:80"), (1, "10.96.3.4:5432")] {
        let address = Some(address.parse().unwrap());
        assert!(
            rig.reports
                .contains(&Report::FallbackAddress { port, address })
        );
        assert_eq!(why_not(&rig, port), None);
    }
    assert_eq!(rig.log, []);
}

#[test]
fn a_port_that_the_service_lacks_is_named_and_the_others_are_served() {
    let mut rig = two_ports();
    rig.service = None;
    assert_eq!(rig.watch(), (SLICES, 30), "then the Service is read again");
    assert_eq!(dialled(&rig, 0), Some(vec![8000]));
    assert_eq!(dialled(&rig, 1), None);
    let why = "the Service myapp has no TCP port db; it has 80 (http): set --port to one of them";
    let reason = Some(NoAddress::ServiceLacksPort(why.to_owned()));
    assert_eq!((why_not(&rig, 0), why_not(&rig, 1)), (None, reason));
    assert_eq!(rig.log, [(Level::Error, why.to_owned())]);
    // It is added half a minute later.
    rig.service = Some(Response::Ok(TWO_PORTS.into()));
    rig.now = rig.now + Duration::from_secs(30);
    rig.handle(WatcherInput::Ended);
    rig.watch();
    assert_eq!(dialled(&rig, 1), Some(vec![5000]));
    assert_eq!(why_not(&rig, 1), None);
    let logged = rig.log.iter().filter(|(level, _)| *level <= Level::Info);
    let levels: Vec<Level> = logged.map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::Error, Level::Info], "{:?}", rig.log);
}

#[test]
fn a_service_that_has_none_of_the_ports_is_not_listed() {
    let mut rig = two_ports();
    let other = r#"{"spec":{"ports":[{"name":"other","port":1}]}}"#;
    rig.service = Some(Response::Ok(other.into()));
    rig.step();
    assert_eq!(rig.action, ReflectorAction::Wait);
    for port in [0, 1] {
        let reason = why_not(&rig, port);
        assert!(
            matches!(reason, Some(NoAddress::ServiceLacksPort(_))),
            "{port}"
        );
    }
    assert_eq!(rig.log.len(), 1, "one line: {:?}", rig.log);
}
