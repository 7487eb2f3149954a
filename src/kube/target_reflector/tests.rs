//! What the target reflector asks for and what it says, a step at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::namespaces::Namespaces;
use super::super::testing::{recorded_body, recorded_lines, recorded_target};
use super::super::watcher_io::Response;
use super::*;
use crate::cluster::Observation;

/// Where the object is, as far as is known.
#[derive(Clone, Default)]
struct Place(Rc<RefCell<Option<Collection>>>);

impl Locate for Place {
    fn collection(&self) -> Option<Collection> {
        self.0.borrow().clone()
    }

    fn changed_status(&self, status: TargetStatus) -> Option<TargetStatus> {
        Some(status)
    }
}

struct Rig {
    place: Place,
    core: TargetReflector<Place>,
    now: Time,
    action: ReflectorAction,
    reports: Vec<Report>,
    log: Vec<(Level, String)>,
}

/// The list of recording 6.
fn path() -> String {
    recorded_target("06-deployment-list-one")
}

impl Rig {
    /// The object was not found yet.
    fn lost() -> Self {
        let place = Place::default();
        let mut core = TargetReflector::new(place.clone(), 1);
        let now = Time::from_millis(1_000_000);
        let action = core.handle(WatcherInput::Relist, now);
        Rig {
            place,
            core,
            now,
            action,
            reports: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The object is that of the recordings.
    fn found() -> Self {
        let mut rig = Rig::lost();
        rig.moves(&path(), "Deployment");
        rig
    }

    /// A watch is open.
    fn watching() -> Self {
        let mut rig = Rig::found();
        rig.list();
        rig.open(Response::Ok(()));
        rig.take_reports();
        rig
    }

    fn moves(&mut self, path: &str, kind: &str) {
        *self.place.0.borrow_mut() = Some(Collection {
            path: path.to_owned(),
            kind: kind.to_owned(),
            namespaces: Namespaces::One("default".to_owned()),
        });
        self.handle(WatcherInput::Relist);
    }

    fn handle(&mut self, event: WatcherInput<'_>) {
        self.action = self.core.handle(event, self.now);
        for output in self.core.take_outputs() {
            match output {
                Output::Report((_, report)) => self.reports.push(report),
                Output::Log(level, text) => self.log.push((level, text)),
            }
        }
    }

    fn list(&mut self) {
        let list = recorded_body("06-deployment-list-one");
        self.handle(WatcherInput::Page(Response::Ok(list)));
    }

    fn open(&mut self, answer: Response<()>) {
        assert!(
            matches!(self.action, ReflectorAction::Watch(_)),
            "{:?}",
            self.action
        );
        self.handle(WatcherInput::Opened(answer));
    }

    /// Waits to the end of the pause; how long that was.
    fn pauses(&mut self) -> Duration {
        assert_eq!(self.action, ReflectorAction::Wait);
        let end = self.core.poll_timeout().expect("an end of the pause");
        let pause = end.since(self.now);
        self.now = end;
        self.handle(WatcherInput::Timeout);
        pause
    }

    fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// The replicas that were observed, in order.
    fn observed(&mut self) -> Vec<Option<u32>> {
        let reports = self.take_reports();
        let observed = reports.into_iter().filter_map(|report| match report {
            Report::Observed(Observation::Scale(scale)) => Some(Some(scale.replicas)),
            Report::Observed(Observation::Changed) => Some(None),
            _ => None,
        });
        observed.collect()
    }

    fn lines_above_debug(&self) -> Vec<&str> {
        let loud = self.log.iter().filter(|(level, _)| *level < Level::Debug);
        loud.map(|(_, text)| text.as_str()).collect()
    }
}

fn line(number: usize) -> Vec<u8> {
    let mut line = recorded_lines("08-deployment-watch-zero-one-zero")[number].clone();
    line.push(b'\n');
    line
}

fn refused<T>(status: u16) -> Response<T> {
    Response::Status {
        status,
        retry_after: None,
        why: format!("{status} no"),
    }
}

#[test]
fn it_waits_until_the_object_is_found_and_then_lists_and_watches_it_as_recorded() {
    let mut rig = Rig::lost();
    assert_eq!(rig.action, ReflectorAction::Wait);
    assert_eq!(
        rig.core.poll_timeout(),
        None,
        "nothing but the signal ends it"
    );
    rig.handle(WatcherInput::Timeout);
    assert_eq!(rig.action, ReflectorAction::Wait);
    rig.moves(&path(), "Deployment");
    assert_eq!(
        rig.action,
        ReflectorAction::List(format!("{}&limit=64", path()))
    );
    rig.list();
    let ReflectorAction::Watch(watch) = rig.action.clone() else {
        panic!("{:?}", rig.action);
    };
    let recorded = recorded_target("08-deployment-watch-zero-one-zero");
    let (before, after) = recorded.split_once("&timeoutSeconds=12").unwrap();
    assert!(
        watch.starts_with(before) && watch.ends_with(after),
        "{watch}"
    );
    assert_eq!(rig.observed(), [Some(0)]);
    rig.open(Response::Ok(()));
    assert_eq!(rig.take_reports(), [Report::Watching(true)]);
}

#[test]
fn every_state_is_reported_in_order_though_lines_come_together() {
    let mut rig = Rig::watching();
    let both = [line(0), line(6), line(8)].concat();
    rig.handle(WatcherInput::Bytes(&both));
    assert_eq!(rig.observed(), [Some(1), Some(0), Some(0)]);
    rig.handle(WatcherInput::Bytes(&line(10)));
    assert_eq!(rig.take_reports(), [], "a bookmark");
}

#[test]
fn only_a_watch_that_goes_on_where_it_has_ended_counts_as_one_all_the_time() {
    let expired = [recorded_body("20-slices-watch-too-old"), b"\n".to_vec()].concat();
    for (label, event, lasts) in [
        ("ended in order", WatcherInput::Ended, true),
        ("broken off", WatcherInput::Broken("reset".into()), false),
        ("410", WatcherInput::Bytes(&expired), false),
        ("the object is elsewhere", WatcherInput::Relist, false),
    ] {
        let mut rig = Rig::watching();
        rig.now = rig.now + Duration::from_secs(60);
        rig.handle(event);
        let ended = match lasts {
            true => vec![],
            false => vec![Report::Watching(false)],
        };
        assert_eq!(rig.take_reports(), ended, "{label}");
        assert_eq!(
            matches!(rig.action, ReflectorAction::Watch(_)),
            lasts,
            "{label}"
        );
        if !lasts {
            rig.list();
        }
        rig.open(Response::Ok(()));
        let again = rig.take_reports().contains(&Report::Watching(true));
        assert_eq!(again, !lasts, "{label}");
        assert_eq!(rig.lines_above_debug(), Vec::<&str>::new(), "{label}");
    }
}

#[test]
fn a_next_watch_that_fails_ends_it() {
    let mut rig = Rig::watching();
    rig.now = rig.now + Duration::from_secs(60);
    rig.handle(WatcherInput::Ended);
    rig.open(Response::Failed("no connection".into()));
    assert_eq!(rig.take_reports(), [Report::Watching(false)]);
}

/// Lists or watches are refused for that long; the time of each attempt, in seconds.
fn refused_for(rig: &mut Rig, seconds: u64, status: u16) -> Vec<u64> {
    let start = rig.now;
    let mut attempts = Vec::new();
    while rig.now.since(start) < Duration::from_secs(seconds) {
        attempts.push(rig.now.since(start).as_secs());
        match &rig.action {
            ReflectorAction::List(_) => rig.handle(WatcherInput::Page(refused(status))),
            other => panic!("{other:?}"),
        }
        rig.pauses();
    }
    attempts
}

#[test]
fn a_refusal_is_tried_again_with_growing_pauses_and_is_one_warning_once_confirmed() {
    let mut rig = Rig::found();
    let attempts = refused_for(&mut rig, 29, 403);
    assert!((6..=16).contains(&attempts.len()), "{attempts:?}");
    assert_eq!(rig.lines_above_debug(), Vec::<&str>::new());
    refused_for(&mut rig, 30, 403);
    assert_eq!(
        rig.lines_above_debug(),
        ["the Deployment cannot be watched (403 no): reading it every 10s"]
    );
    refused_for(&mut rig, 3600, 403);
    let later = refused_for(&mut rig, 3600, 403);
    assert!((12..=24).contains(&later.len()), "{later:?}");
    assert_eq!(rig.lines_above_debug().len(), 1);
    let refusals = rig.take_reports().into_iter().all(|report| {
        matches!(
            report,
            Report::Permission {
                permission: Permission::WatchTarget,
                refusal: Some(refusal),
            } if refusal.fallback.is_some()
        )
    });
    assert!(refusals);

    rig.list();
    rig.open(Response::Ok(()));
    assert_eq!(
        rig.lines_above_debug()[1..],
        ["the Deployment can be watched"]
    );
    let granted = Report::Permission {
        permission: Permission::WatchTarget,
        refusal: None,
    };
    let reports = rig.take_reports();
    assert!(reports.contains(&granted) && reports.contains(&Report::Watching(true)));
}

#[test]
fn an_outage_between_has_the_time_until_a_refusal_is_confirmed_begin_again() {
    let mut rig = Rig::found();
    refused_for(&mut rig, 20, 403);
    rig.handle(WatcherInput::Page(refused(503)));
    rig.pauses();
    refused_for(&mut rig, 25, 403);
    assert_eq!(rig.lines_above_debug(), Vec::<&str>::new());
    refused_for(&mut rig, 30, 403);
    assert_eq!(rig.lines_above_debug().len(), 1);
}

#[test]
fn a_watch_that_is_refused_though_the_list_is_not_counts_as_a_refusal() {
    let mut rig = Rig::found();
    rig.list();
    rig.open(refused(403));
    assert_eq!(rig.action, ReflectorAction::Wait);
    let is_refusal = |report: &Report| matches!(report, Report::Permission { .. });
    assert!(rig.take_reports().iter().any(is_refusal));
}

#[test]
fn a_kind_without_a_watch_is_no_missing_permission() {
    for status in [404, 405] {
        let mut rig = Rig::found();
        refused_for(&mut rig, 60, status);
        assert_eq!(rig.take_reports(), [], "{status}");
        assert_eq!(rig.lines_above_debug().len(), 1, "{status}");
    }
}

#[test]
fn an_outage_is_no_line_of_the_watch_and_neither_is_a_refusal_while_the_proxy_drains() {
    let mut rig = Rig::found();
    for _ in 0..20 {
        rig.handle(WatcherInput::Page(refused(500)));
        rig.pauses();
    }
    rig.core.set_draining(true);
    refused_for(&mut rig, 60, 403);
    assert_eq!(rig.lines_above_debug(), Vec::<&str>::new());
}

#[test]
fn an_object_that_is_found_elsewhere_is_listed_there() {
    let mut rig = Rig::watching();
    rig.moves("/apis/argoproj.io/v1/rollouts?a=b", "Rollout");
    let list = "/apis/argoproj.io/v1/rollouts?a=b&limit=64";
    assert_eq!(rig.action, ReflectorAction::List(list.to_owned()));
    *rig.place.0.borrow_mut() = None;
    rig.handle(WatcherInput::Relist);
    assert_eq!(rig.action, ReflectorAction::Wait);
}

const SHOP: AppKey = 1;
const BLOG: AppKey = 2;

/// The Deployments of a namespace, of which two belong to apps.
fn of_namespace() -> Rig {
    let collection = Collection {
        path: "/apis/apps/v1/namespaces/default/deployments".to_owned(),
        kind: "Deployment".to_owned(),
        namespaces: Namespaces::One("default".to_owned()),
    };
    let mut core = TargetReflector::of_namespaces(collection, 1);
    core.add(SHOP, "shop", Place::default());
    core.add(BLOG, "blog", Place::default());
    let now = Time::from_millis(1_000_000);
    let action = core.handle(WatcherInput::Relist, now);
    Rig {
        place: Place::default(),
        core,
        now,
        action,
        reports: Vec::new(),
        log: Vec::new(),
    }
}

fn deployment(name: &str, replicas: u32, version: &str) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": version },
        "spec": { "replicas": replicas },
        "status": {}
    })
}

/// The whole list; what was reported for it.
fn lists(rig: &mut Rig, items: &[Value]) -> Vec<(AppKey, Report)> {
    let list = json!({ "metadata": { "resourceVersion": "20" }, "items": items });
    let page = Response::Ok(list.to_string().into_bytes());
    rig.action = rig.core.handle(WatcherInput::Page(page), rig.now);
    reported(rig)
}

fn shows(rig: &mut Rig, event: &str, object: &Value) -> Vec<(AppKey, Report)> {
    let line = format!("{}\n", json!({ "type": event, "object": object }));
    rig.action = rig
        .core
        .handle(WatcherInput::Bytes(line.as_bytes()), rig.now);
    reported(rig)
}

fn reported(rig: &mut Rig) -> Vec<(AppKey, Report)> {
    let outputs = rig.core.take_outputs().into_iter();
    let reports = outputs.filter_map(|output| match output {
        Output::Report(report) => Some(report),
        Output::Log(..) => None,
    });
    reports.collect()
}

/// Who was shown how many replicas.
fn replicas(reports: &[(AppKey, Report)]) -> Vec<(AppKey, Option<u32>)> {
    let observed = reports.iter().filter_map(|(app, report)| match report {
        Report::Observed(Observation::Scale(scale)) => Some((*app, Some(scale.replicas))),
        Report::Observed(Observation::Changed) => Some((*app, None)),
        _ => None,
    });
    observed.collect()
}

#[test]
fn of_all_namespaces_each_app_is_shown_the_object_of_its_own() {
    let mut rig = of_namespace();
    let collection = Collection {
        path: "/apis/apps/v1/deployments".to_owned(),
        kind: "Deployment".to_owned(),
        namespaces: Namespaces::All,
    };
    rig.core = TargetReflector::of_namespaces(collection, 1);
    rig.core.add(SHOP, "a/shop", Place::default());
    rig.core.add(BLOG, "b/shop", Place::default());
    rig.action = rig.core.handle(WatcherInput::Relist, rig.now);
    let of = |namespace: &str, replicas| {
        let mut shop = deployment("shop", replicas, "11");
        shop["metadata"]["namespace"] = namespace.into();
        shop
    };
    let reports = lists(&mut rig, &[of("a", 1), of("b", 2), of("c", 3)]);
    assert_eq!(replicas(&reports), [(SHOP, Some(1)), (BLOG, Some(2))]);
    rig.action = rig
        .core
        .handle(WatcherInput::Opened(Response::Ok(())), rig.now);
    let reports = shows(&mut rig, "MODIFIED", &of("b", 0));
    assert_eq!(replicas(&reports), [(BLOG, Some(0))]);
    let reports = shows(&mut rig, "DELETED", &of("a", 0));
    assert_eq!(replicas(&reports), [(SHOP, None)]);
}

#[test]
fn one_list_and_one_watch_show_each_app_its_own_object() {
    let mut rig = of_namespace();
    let path = "/apis/apps/v1/namespaces/default/deployments?limit=64";
    assert_eq!(rig.action, ReflectorAction::List(path.to_owned()));
    let all = [
        deployment("blog", 0, "11"),
        deployment("other", 5, "12"),
        deployment("shop", 2, "13"),
    ];
    let reports = lists(&mut rig, &all);
    assert_eq!(replicas(&reports), [(BLOG, Some(0)), (SHOP, Some(2))]);
    rig.action = rig
        .core
        .handle(WatcherInput::Opened(Response::Ok(())), rig.now);
    let watching = [SHOP, BLOG].map(|app| (app, Report::Watching(true)));
    assert_eq!(reported(&mut rig), watching);

    let reports = shows(&mut rig, "MODIFIED", &deployment("shop", 0, "21"));
    assert_eq!(replicas(&reports), [(SHOP, Some(0))]);
    for event in ["ADDED", "MODIFIED", "DELETED"] {
        let reports = shows(&mut rig, event, &deployment("other", 1, "22"));
        assert_eq!(reports, [], "{event}");
    }
    let reports = shows(&mut rig, "DELETED", &deployment("blog", 0, "23"));
    assert_eq!(replicas(&reports), [(BLOG, None)]);
}

#[test]
fn an_app_that_is_added_is_shown_its_object_and_one_that_is_gone_nothing() {
    let mut rig = of_namespace();
    let all = [
        deployment("blog", 0, "11"),
        deployment("new", 3, "12"),
        deployment("shop", 2, "13"),
    ];
    lists(&mut rig, &all);
    rig.core
        .handle(WatcherInput::Opened(Response::Ok(())), rig.now);
    reported(&mut rig);
    rig.core.remove(SHOP);
    rig.core.add(3, "new", Place::default());
    rig.core.add(4, "blog", Place::default());
    assert_eq!(
        reported(&mut rig),
        [3, 4].map(|app| (app, Report::Watching(true)))
    );
    rig.action = rig.core.handle(WatcherInput::Relist, rig.now);
    reported(&mut rig);
    let reports = lists(&mut rig, &all);
    let shown = [(BLOG, Some(0)), (4, Some(0)), (3, Some(3))];
    assert_eq!(replicas(&reports), shown, "two apps may share an object");
}

#[test]
fn a_refusal_is_reported_to_every_app_and_logged_once() {
    let mut rig = of_namespace();
    let start = rig.now;
    let mut warnings = Vec::new();
    while rig.now.since(start) < Duration::from_secs(60) {
        assert!(
            matches!(rig.action, ReflectorAction::List(_)),
            "{:?}",
            rig.action
        );
        rig.action = rig.core.handle(WatcherInput::Page(refused(403)), rig.now);
        for output in rig.core.take_outputs() {
            match output {
                Output::Report(report) => rig.reports.push(report.1),
                Output::Log(level, text) if level <= Level::Warn => warnings.push(text),
                Output::Log(..) => {}
            }
        }
        rig.now = rig.core.poll_timeout().expect("an end of the pause");
        rig.action = rig.core.handle(WatcherInput::Timeout, rig.now);
    }
    assert_eq!(
        warnings,
        [
            "the Deployments of the namespace default cannot be watched (403 no): reading the objects in \
             turn"
        ]
    );
    let is_refusal = |report: &&Report| matches!(report, Report::Permission { .. });
    let refusals = rig.take_reports().iter().filter(is_refusal).count();
    assert!(refusals >= 20 && refusals % 2 == 0, "{refusals}");
}

/// The warnings, and who was shown how many replicas.
fn seen(rig: &mut Rig) -> (Vec<String>, Vec<(AppKey, Option<u32>)>) {
    let (mut warnings, mut reports) = (Vec::new(), Vec::new());
    for output in rig.core.take_outputs() {
        match output {
            Output::Report(report) => reports.push(report),
            Output::Log(Level::Warn, text) => warnings.push(text),
            Output::Log(..) => {}
        }
    }
    (warnings, replicas(&reports))
}

#[test]
fn an_object_that_is_nonsense_or_too_large_is_named_and_hides_no_other() {
    let mut rig = of_namespace();
    let nameless = json!({ "metadata": { "name": null } });
    let items = [nameless, deployment("shop", 1, "11")];
    let list = json!({ "metadata": { "resourceVersion": "20" }, "items": items });
    let page = Response::Ok(list.to_string().into_bytes());
    rig.action = rig.core.handle(WatcherInput::Page(page), rig.now);
    let (warnings, shown) = seen(&mut rig);
    assert_eq!(shown, [(SHOP, Some(1))]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    rig.action = rig
        .core
        .handle(WatcherInput::Opened(Response::Ok(())), rig.now);
    // The metadata comes first, as the API server writes it.
    let metadata = json!({ "name": "shop", "resourceVersion": "21" });
    let filler = "x".repeat(3 * 1024 * 1024);
    let line = format!(
        "{{\"type\":\"MODIFIED\",\"object\":{{\"metadata\":{metadata},\"spec\":\"{filler}\"}}}}\n"
    );
    for piece in line.as_bytes().chunks(16 * 1024) {
        rig.action = rig.core.handle(WatcherInput::Bytes(piece), rig.now);
    }
    let (warnings, shown) = seen(&mut rig);
    assert_eq!(shown, [(SHOP, None)], "it is to be read");
    let named = "of the Deployments of the namespace default, shop is skipped: it has more than";
    assert!(warnings[0].starts_with(named), "{warnings:?}");
    let reports = shows(&mut rig, "MODIFIED", &deployment("blog", 3, "22"));
    assert_eq!(replicas(&reports), [(BLOG, Some(3))]);
}
