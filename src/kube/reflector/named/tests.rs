//! What the reflector asks for and what it says, a step at a time: the server's
//! answers are the recordings, and time passes as the tests have it.

use std::time::Duration;

use super::super::super::list_watch::Answer;
use super::super::super::testing::{self, recorded_body, recorded_lines};
use super::*;
use crate::cluster::{NoAddress, PortRef, Refusal, Report};

mod refusals;

const SERVICE: &str = r#"{"spec":{"clusterIP":"10.96.3.4","ports":[{"name":"http","port":80}]}}"#;
const SERVICE_PATH: &str = "/api/v1/namespaces/default/services/myapp";
const SLICES: AddressSource = AddressSource::EndpointSlices;
const ENDPOINTS: AddressSource = AddressSource::Endpoints;

/// A server as far as permissions go, and the core that asks it.
struct Rig {
    core: NamedEndpoints,
    now: Time,
    action: Action,
    /// What is answered 403: `services`, or the name of a source.
    forbidden: Vec<&'static str>,
    /// What is answered to the Service in place of [`SERVICE`].
    service: Option<Answer<Vec<u8>>>,
    /// The recording of the list, or its body.
    list: String,
    reports: Vec<Report>,
    log: Vec<(Level, String)>,
    /// What was asked, with the second.
    asked: Vec<(u64, &'static str)>,
    /// When the server ends the watch that was opened last.
    watch_ends: Time,
}

impl Rig {
    fn new(port: Option<PortRef>) -> Self {
        Rig::with_ports(vec![port])
    }

    fn with_ports(ports: Vec<Option<PortRef>>) -> Self {
        let config = AppConfig {
            ports,
            ..testing::config()
        };
        let now = Time::default();
        let mut core = NamedEndpoints::new(&config, 1, now);
        let action = core.handle(Event::Relist, now);
        Rig {
            core,
            now,
            action,
            forbidden: Vec::new(),
            service: None,
            list: String::from_utf8(recorded_body("15-slices-list-ready")).unwrap(),
            reports: Vec::new(),
            log: Vec::new(),
            asked: Vec::new(),
            watch_ends: now,
        }
    }

    fn http() -> Self {
        Rig::new(Some(PortRef::Name("http".into())))
    }

    fn handle(&mut self, event: Event<'_>) {
        self.action = self.core.handle(event, self.now);
        for output in self.core.outputs() {
            match output {
                Output::Report(report) => self.reports.push(report),
                Output::Log(level, text) => self.log.push((level, text)),
            }
        }
    }

    fn lines(&mut self, lines: &[u8]) {
        self.handle(Event::Bytes(lines));
    }

    /// What the server says to a request for that.
    fn refusal<T>(&self, what: &str) -> Option<Answer<T>> {
        self.forbidden.contains(&what).then(|| Answer::Refused {
            status: 403,
            retry_after: None,
            why: format!("403 {what} is forbidden"),
        })
    }

    /// Answers the request that is made, or lets the time pass that is waited.
    fn step(&mut self) {
        match self.action.clone() {
            Action::Get(_) => {
                self.ask("services");
                let answer = self.service.clone();
                let answer = answer.unwrap_or(Answer::Ok(SERVICE.into()));
                let answer = self.refusal("services").unwrap_or(answer);
                self.handle(Event::Object(answer));
            }
            Action::List(path) => {
                let source = source(&path);
                self.ask(name(source));
                let page = match source {
                    SLICES => self.list.clone(),
                    ENDPOINTS => r#"{"metadata":{"resourceVersion":"1"}}"#.to_owned(),
                };
                let page = Answer::Ok(page.into());
                let answer = self.refusal(name(source)).unwrap_or(page);
                self.handle(Event::Page(answer));
            }
            Action::Watch(path) => {
                self.watch_ends = self.now + Duration::from_secs(seconds(&path));
                let answer = self.refusal(name(source(&path)));
                self.handle(Event::Opened(answer.unwrap_or(Answer::Ok(()))));
            }
            Action::Wait => {
                let until = self.core.poll_timeout().expect("an end of the pause");
                self.now = self.now.max(until);
                self.handle(Event::Timeout);
            }
            Action::Read => panic!("a watch is open"),
        }
    }

    fn ask(&mut self, what: &'static str) {
        self.asked.push((self.second(), what));
    }

    fn second(&self) -> u64 {
        self.now.since(Time::default()).as_secs()
    }

    /// Until a watch is open; its source, and for how long it was asked for.
    fn watch(&mut self) -> (AddressSource, u64) {
        for _ in 0..1000 {
            let action = self.action.clone();
            self.step();
            if let (Action::Watch(path), Action::Read) = (action, &self.action) {
                return (source(&path), seconds(&path));
            }
        }
        panic!("no watch is opened: {:?}", self.action);
    }

    /// Lives until that second, with watches that end in order at their time.
    fn live_until(&mut self, second: u64) {
        let end = Time::new(Duration::from_secs(second));
        while self.now < end {
            if self.action != Action::Read {
                self.step();
            } else if self.watch_ends < end {
                self.now = self.watch_ends;
                self.handle(Event::Ended);
            } else {
                self.now = end;
            }
        }
    }

    fn permissions(&self) -> Vec<(Permission, bool, bool)> {
        let permissions = self.reports.iter().filter_map(|report| match report {
            Report::Permission {
                permission,
                refusal,
            } => {
                let fallback = refusal.as_ref().is_some_and(|it| it.fallback.is_some());
                Some((*permission, refusal.is_some(), fallback))
            }
            _ => None,
        });
        permissions.collect()
    }

    fn synced(&self) -> Vec<Option<AddressSource>> {
        let all = self.reports.iter().filter_map(|report| match report {
            Report::Synced(source) => Some(*source),
            _ => None,
        });
        all.collect()
    }

    /// What was logged for an operator to read.
    fn warnings(&self) -> Vec<&str> {
        let loud = self.log.iter().filter(|(level, _)| *level <= Level::Warn);
        loud.map(|(_, text)| text.as_str()).collect()
    }
}

/// What is listed or watched at that path.
fn source(path: &str) -> AddressSource {
    match path.contains("/endpointslices?") {
        true => SLICES,
        false => ENDPOINTS,
    }
}

/// For how long the watch at that path is asked for.
fn seconds(path: &str) -> u64 {
    let (_, rest) = path.split_once("&timeoutSeconds=").unwrap();
    rest.split('&').next().unwrap().parse().unwrap()
}

fn name(source: AddressSource) -> &'static str {
    match source {
        AddressSource::EndpointSlices => "endpointslices",
        AddressSource::Endpoints => "endpoints",
    }
}

fn refused<T>(status: u16) -> Answer<T> {
    Answer::Refused {
        status,
        retry_after: None,
        why: format!("{status} no"),
    }
}

fn line(number: usize) -> Vec<u8> {
    let mut line = recorded_lines("07-slices-watch-zero-one-zero")[number].clone();
    line.push(b'\n');
    line
}

fn pods_of(report: &Report) -> Option<usize> {
    match report {
        Report::Pods { pods, .. } => Some(pods.iter().filter(|pod| pod.is_ready()).count()),
        _ => None,
    }
}

fn fallback(address: &str) -> Report {
    Report::Fallback {
        port: 0,
        address: Some(address.parse().unwrap()),
    }
}

fn no_address(why: Option<NoAddress>) -> Report {
    Report::NoAddress { port: 0, why }
}

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
        ("no reply", Answer::Failed("reset".into())),
        ("not JSON", Answer::Ok(b"{".to_vec())),
        ("another port", Answer::Ok(other_port.into())),
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
        rig.handle(Event::Relist);
        rig.step();
        rig.step();
        let lists = rig.asked.iter().any(|(_, what)| *what == "endpointslices");
        assert_eq!(lists, label != "another port", "{label}");
    }
}

fn of_the_service(rig: &Rig) -> Vec<&Report> {
    let all = rig.reports.iter();
    all.filter(|it| matches!(it, Report::NoAddress { .. } | Report::Trouble(_)))
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
            &Report::Trouble(why.into()),
            &no_address(Some(NoAddress::NoService(why.into())))
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
        Action::Get(SERVICE_PATH.to_owned()),
        "its slice shows that it is there"
    );
    rig.step();
    assert!(rig.reports.contains(&no_address(None)));
    assert_eq!(rig.synced(), [Some(SLICES)]);
    assert!(
        matches!(rig.action, Action::Watch(_)),
        "and no new list is needed"
    );

    rig.service = Some(refused(404));
    rig.list = r#"{"metadata":{"resourceVersion":"9"},"items":[]}"#.into();
    rig.reports.clear();
    rig.handle(Event::Relist);
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
    assert_eq!(undialable(&rig), [Some(NoAddress::PortMissing(text))]);
    rig.handle(Event::Relist);
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

/// A Service with two ports, as the recorded slice of the first one, and a second port.
fn two_ports() -> Rig {
    let name = |name: &str| Some(PortRef::Name(name.into()));
    let mut rig = Rig::with_ports(vec![name("http"), name("db")]);
    rig.service = Some(Answer::Ok(TWO_PORTS.into()));
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
        assert!(rig.reports.contains(&Report::Fallback { port, address }));
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
    let reason = Some(NoAddress::NoSuchPort(why.to_owned()));
    assert_eq!((why_not(&rig, 0), why_not(&rig, 1)), (None, reason));
    assert_eq!(rig.log, [(Level::Error, why.to_owned())]);
    // It is added half a minute later.
    rig.service = Some(Answer::Ok(TWO_PORTS.into()));
    rig.now = rig.now + Duration::from_secs(30);
    rig.handle(Event::Ended);
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
    rig.service = Some(Answer::Ok(other.into()));
    rig.step();
    assert_eq!(rig.action, Action::Wait);
    for port in [0, 1] {
        let reason = why_not(&rig, port);
        assert!(matches!(reason, Some(NoAddress::NoSuchPort(_))), "{port}");
    }
    assert_eq!(rig.log.len(), 1, "one line: {:?}", rig.log);
}
