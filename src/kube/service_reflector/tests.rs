//! What the reflector of the Services asks for and what it says, a step at a time.

use std::time::Duration;

use super::super::paths;
use super::super::testing::{recorded_body, recorded_lines, recorded_target};
use super::super::watcher_io::Response;
use super::*;

struct Rig {
    core: ServiceReflector,
    now: Time,
    action: ReflectorAction,
    reports: Vec<ServicesReport>,
    log: Vec<(Level, String)>,
}

/// The list of recording 62.
fn path() -> String {
    paths::selected_services(Some("rec2"), "zero-pod-autoscaler/enabled=true")
}

impl Rig {
    fn new() -> Self {
        let mut rig = Rig {
            core: ServiceReflector::new(path(), 1),
            now: Time::from_millis(1_000_000),
            action: ReflectorAction::Wait,
            reports: Vec::new(),
            log: Vec::new(),
        };
        rig.handle(WatcherInput::Relist);
        rig
    }

    fn watching() -> Self {
        let mut rig = Rig::new();
        rig.list();
        rig.handle(WatcherInput::Opened(Response::Ok(())));
        rig
    }

    fn handle(&mut self, event: WatcherInput<'_>) {
        self.action = self.core.handle(event, self.now);
        for output in self.core.take_outputs() {
            match output {
                Output::Report(report) => self.reports.push(report),
                Output::Log(level, text) => self.log.push((level, text)),
            }
        }
    }

    fn list(&mut self) {
        let list = recorded_body("62-services-list-by-label");
        self.handle(WatcherInput::Page(Response::Ok(list)));
    }

    /// The names of the Services in each report, and the troubles.
    fn take(&mut self) -> Vec<Result<Vec<String>, Option<String>>> {
        let reports = std::mem::take(&mut self.reports);
        let said = reports.into_iter().map(|report| match report {
            ServicesReport::Selected(all) => Ok(all.iter().map(|it| it.name.clone()).collect()),
            ServicesReport::Trouble(why) => Err(why),
        });
        said.collect()
    }

    fn warnings(&self) -> Vec<&str> {
        let loud = self.log.iter().filter(|(level, _)| *level <= Level::Warn);
        loud.map(|(_, text)| text.as_str()).collect()
    }
}

fn forbidden<T>() -> Response<T> {
    Response::Status {
        status: 403,
        retry_after: None,
        why: "403 services is forbidden".to_owned(),
    }
}

#[test]
fn the_services_are_listed_and_watched_by_their_labels_as_recorded() {
    assert_eq!(path(), recorded_target("62-services-list-by-label"));
    let mut rig = Rig::new();
    assert_eq!(
        rig.action,
        ReflectorAction::List(format!("{}&limit=64", path()))
    );
    rig.list();
    let ReflectorAction::Watch(watch) = &rig.action else {
        panic!("{:?}", rig.action);
    };
    assert!(watch.starts_with(&format!("{}&watch=true", path())));
    assert!(watch.ends_with("&resourceVersion=9705"), "{watch}");
    assert_eq!(rig.take(), [Ok(vec!["myapp".to_owned()])]);
    rig.handle(WatcherInput::Opened(Response::Ok(())));
    assert_eq!(rig.action, ReflectorAction::Read);
    let mut line = recorded_lines("63-services-watch-label-taken-away").remove(0);
    line.push(b'\n');
    rig.handle(WatcherInput::Bytes(&line));
    assert_eq!(rig.take(), [Ok(Vec::new())]);
    assert!(rig.warnings().is_empty());
}

#[test]
fn a_list_without_a_service_is_reported_too_and_one_that_is_the_same_is_not() {
    let mut rig = Rig::new();
    let empty = br#"{"metadata":{"resourceVersion":"7"},"items":[]}"#;
    rig.handle(WatcherInput::Page(Response::Ok(empty.to_vec())));
    assert_eq!(rig.take(), [Ok(Vec::new())]);
    let mut rig = Rig::watching();
    rig.take();
    rig.now = rig.now + Duration::from_secs(60);
    rig.handle(WatcherInput::Broken("reset".to_owned()));
    rig.list();
    assert_eq!(rig.take(), []);
}

/// The panic is reported past the state machine.
#[test]
fn after_a_panic_the_services_and_that_there_is_no_trouble_are_reported_again() {
    let mut rig = Rig::watching();
    rig.take();
    rig.handle(WatcherInput::Relist);
    rig.list();
    rig.handle(WatcherInput::Opened(Response::Ok(())));
    assert_eq!(rig.take(), [Ok(vec!["myapp".to_owned()]), Err(None)]);
    // So is a trouble that is the same as before.
    rig.handle(WatcherInput::Relist);
    rig.handle(WatcherInput::Page(forbidden()));
    rig.take();
    rig.handle(WatcherInput::Relist);
    rig.handle(WatcherInput::Page(forbidden()));
    let trouble = Err(Some("403 services is forbidden".to_owned()));
    assert_eq!(rig.take(), [trouble]);
}

#[test]
fn an_outage_is_reported_and_logged_once_and_takes_no_service_away() {
    let mut rig = Rig::watching();
    rig.take();
    rig.now = rig.now + Duration::from_secs(60);
    rig.handle(WatcherInput::Broken("reset".to_owned()));
    for _ in 0..3 {
        assert!(
            matches!(rig.action, ReflectorAction::List(_)),
            "{:?}",
            rig.action
        );
        rig.handle(WatcherInput::Page(Response::Failed(
            "connection refused".to_owned(),
        )));
        assert_eq!(rig.action, ReflectorAction::Wait);
        rig.now = rig.core.poll_timeout().unwrap();
        rig.handle(WatcherInput::Timeout);
    }
    let trouble = Err(Some("connection refused".to_owned()));
    assert_eq!(rig.take(), [trouble]);
    assert_eq!(rig.warnings().len(), 1, "{:?}", rig.log);
    rig.list();
    rig.handle(WatcherInput::Opened(Response::Ok(())));
    assert_eq!(rig.take(), [Err(None)]);
}

#[test]
fn a_refusal_is_a_warning_once_it_lasts_and_is_tried_again() {
    let mut rig = Rig::new();
    let begin = rig.now;
    while rig.now.since(begin) < Duration::from_secs(29) {
        assert_eq!(rig.warnings(), [""; 0], "{:?}", rig.now.since(begin));
        rig.handle(WatcherInput::Page(forbidden()));
        rig.now = rig.core.poll_timeout().unwrap();
        rig.handle(WatcherInput::Timeout);
    }
    while rig.now.since(begin) < Duration::from_secs(3600) {
        rig.handle(WatcherInput::Page(forbidden()));
        let pause = rig.core.poll_timeout().unwrap();
        assert!(pause.since(rig.now) <= Duration::from_secs(300));
        rig.now = pause;
        rig.handle(WatcherInput::Timeout);
    }
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot be listed and watched: 403 services"));
    rig.list();
    rig.handle(WatcherInput::Opened(Response::Ok(())));
    let said = rig.take();
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[2], Err(None));
}

#[test]
fn a_service_that_cannot_be_parsed_is_named_once_stays_as_it_was_and_hides_no_other() {
    let mut rig = Rig::watching();
    rig.take();
    let wrong = r#"{"metadata":{"name":"myapp","namespace":"rec2","resourceVersion":"9800","annotations":7}}"#;
    let shop = r#"{"metadata":{"name":"shop","namespace":"rec2","resourceVersion":"9801"}}"#;
    for object in [wrong, shop] {
        let line = format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n");
        rig.handle(WatcherInput::Bytes(line.as_bytes()));
    }
    let both = vec!["myapp".to_owned(), "shop".to_owned()];
    assert_eq!(rig.take(), [Ok(both)]);
    rig.handle(WatcherInput::Relist);
    rig.take();
    let list = format!(r#"{{"metadata":{{"resourceVersion":"9802"}},"items":[{wrong}]}}"#);
    rig.handle(WatcherInput::Page(Response::Ok(list.into_bytes())));
    assert_eq!(rig.take(), [Ok(vec!["myapp".to_owned()])]);
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("rec2/myapp is skipped: "),
        "{warnings:?}"
    );
    rig.handle(WatcherInput::Opened(Response::Ok(())));
    rig.take();
    let line = format!("{{\"type\":\"DELETED\",\"object\":{wrong}}}\n");
    rig.handle(WatcherInput::Bytes(line.as_bytes()));
    assert_eq!(rig.take(), [Ok(Vec::new())]);
}
