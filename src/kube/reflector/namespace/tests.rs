//! What the reflector of a namespace asks for and what it says, a step at a time. The apps are
//! `shop` (port `http`) and `blog` (its only port), and there is a Service of somebody else.

mod all_namespaces;
mod strangers;

use std::time::Duration;

use serde_json::{Value, json};

use super::super::super::testing;
use super::super::super::watcher_io::Response;
use super::*;
use crate::cluster::{NoAddress, PortRef};

const SHOP: AppKey = 1;
const BLOG: AppKey = 2;

/// A server's answers, and the reflector.
struct Rig {
    core: NamespaceEndpoints,
    now: Time,
    action: ReflectorAction,
    /// What is refused: `services` (the list), `service/NAME`, `endpointslices`, `endpoints`,
    /// `endpoints/NAME`.
    forbidden: Vec<&'static str>,
    /// What fails.
    failing: Vec<&'static str>,
    services: Vec<Value>,
    slices: Vec<Value>,
    reports: Vec<(AppKey, Report)>,
    log: Vec<(Level, String)>,
    /// What was asked.
    asked: Vec<String>,
    /// When the server ends the watch that is open.
    watch_ends: Time,
}

fn service(name: &str, port: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "name": port, "port": 80 }] }
    })
}

fn slice(service: &str, ips: &[&str]) -> Value {
    let endpoints: Vec<Value> = ips.iter().map(|ip| json!({ "addresses": [ip] })).collect();
    json!({
        "metadata": {
            "name": format!("{service}-1"),
            "resourceVersion": "11",
            "labels": { "kubernetes.io/service-name": service }
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 80 }],
        "endpoints": endpoints
    })
}

fn endpoints(service: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": service, "resourceVersion": "11" },
        "subsets": [{ "addresses": [{ "ip": ip }], "ports": [{ "name": "http", "port": 80 }] }]
    })
}

fn list(items: &[Value]) -> Vec<u8> {
    let list = json!({ "metadata": { "resourceVersion": "10" }, "items": items });
    list.to_string().into_bytes()
}

/// What is asked for at that path.
fn what(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (_, rest) = path.split_once("/namespaces/default/").unwrap();
    match query.split_once("metadata.name%3D") {
        Some((_, name)) => format!("{rest}/{}", name.split('&').next().unwrap()),
        None => rest.to_owned(),
    }
}

/// For how long the watch at that path is asked for.
fn seconds(path: &str) -> Duration {
    let (_, rest) = path.split_once("&timeoutSeconds=").unwrap();
    Duration::from_secs(rest.split('&').next().unwrap().parse().unwrap())
}

impl Rig {
    fn new() -> Self {
        let mut core = NamespaceEndpoints::new(&Namespaces::One("default".into()), 1);
        let http = Some(PortRef::Name("http".into()));
        for (app, service, port) in [(SHOP, "shop", http), (BLOG, "blog", None)] {
            let config = WatchedApp {
                service: service.to_owned(),
                ports: vec![port],
                ..testing::config()
            };
            core.add(app, &config);
        }
        let now = Time::default();
        let action = core.handle(WatcherInput::Relist, now);
        Rig {
            core,
            now,
            action,
            forbidden: Vec::new(),
            failing: Vec::new(),
            services: vec![
                service("blog", "http"),
                service("other", "x"),
                service("shop", "http"),
            ],
            slices: vec![
                slice("blog", &[]),
                slice("other", &["10.0.9.1"]),
                slice("shop", &["10.0.0.1"]),
            ],
            reports: Vec::new(),
            log: Vec::new(),
            asked: Vec::new(),
            watch_ends: now,
        }
    }

    fn watching() -> Self {
        let mut rig = Rig::new();
        rig.watch();
        rig.take();
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

    fn answer<T>(
        &mut self,
        path: &str,
        body: impl FnOnce(&Rig, &str) -> Response<T>,
    ) -> Response<T> {
        let what = what(path);
        self.asked.push(what.clone());
        if self.forbidden.contains(&&*what) {
            return Response::Status {
                status: 403,
                retry_after: None,
                why: format!("403 {what} is forbidden"),
            };
        }
        if self.failing.contains(&&*what) {
            return Response::Failed("connection refused".to_owned());
        }
        body(self, &what)
    }

    /// Answers the request that is made, or lets the time pass that is waited.
    fn step(&mut self) {
        match self.action.clone() {
            ReflectorAction::Get(path) => {
                let answer = self.answer(&path, |rig, what| rig.service(what));
                self.handle(WatcherInput::Object(answer));
            }
            ReflectorAction::List(path) => {
                let answer = self.answer(&path, |rig, what| Response::Ok(rig.listed(what)));
                self.handle(WatcherInput::Page(answer));
            }
            ReflectorAction::Watch(path) => {
                let answer = self.answer(&path, |_, _| Response::Ok(()));
                self.watch_ends = self.now + seconds(&path);
                self.handle(WatcherInput::Opened(answer));
            }
            ReflectorAction::Wait => {
                let until = self.core.poll_timeout().expect("an end of the pause");
                self.now = self.now.max(until);
                self.handle(WatcherInput::Timeout);
            }
            ReflectorAction::Read => {
                self.now = self.now.max(self.watch_ends);
                self.handle(WatcherInput::Ended);
            }
        }
    }

    fn service(&self, what: &str) -> Response<Vec<u8>> {
        let name = what.strip_prefix("services/").unwrap();
        let found = self
            .services
            .iter()
            .find(|it| it["metadata"]["name"] == name);
        match found {
            Some(found) => Response::Ok(found.to_string().into_bytes()),
            None => Response::Status {
                status: 404,
                retry_after: None,
                why: format!("404 services \"{name}\" not found"),
            },
        }
    }

    fn listed(&self, what: &str) -> Vec<u8> {
        match what {
            "services" => list(&self.services),
            "endpointslices" => list(&self.slices),
            "endpoints/shop" => list(&[endpoints("shop", "10.0.0.7")]),
            _ => list(&[]),
        }
    }

    /// Until a watch is open.
    fn watch(&mut self) {
        for _ in 0..5000 {
            if self.action == ReflectorAction::Read {
                return;
            }
            self.step();
        }
        panic!("no watch is opened: {:?}", self.action);
    }

    /// Until that second, with watches that end in order at their time.
    fn live_until(&mut self, second: u64) {
        while self.now < Time::default() + Duration::from_secs(second) {
            self.step();
        }
    }

    fn event(&mut self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        self.handle(WatcherInput::Bytes(line.as_bytes()));
    }

    /// What was asked since the last call.
    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }

    /// The addresses of an app that were reported last.
    fn addresses(&self, app: AppKey) -> Option<Vec<String>> {
        let mut reports = self.of(app).rev();
        let pods = reports.find_map(|report| match report {
            Report::Pods { pods, .. } => Some(pods.clone()),
            _ => None,
        })?;
        let addresses = pods.into_iter().flat_map(|pod| pod.addresses);
        Some(addresses.map(|it| it.to_string()).collect())
    }

    fn of(&self, app: AppKey) -> impl DoubleEndedIterator<Item = &Report> {
        let its = move |(its, _): &&(AppKey, Report)| *its == app;
        self.reports.iter().filter(its).map(|(_, report)| report)
    }

    fn synced(&self, app: AppKey) -> Vec<Option<AddressSource>> {
        let synced = self.of(app).filter_map(|report| match report {
            Report::Synced(source) => Some(*source),
            _ => None,
        });
        synced.collect()
    }

    fn is_refused(&self, app: AppKey, wanted: Permission) -> Option<bool> {
        let mut reports = self.of(app).rev();
        reports.find_map(|report| match report {
            Report::Permission {
                permission,
                refusal,
            } if *permission == wanted => Some(refusal.is_some()),
            _ => None,
        })
    }

    /// What was logged for an operator to read.
    fn warnings(&mut self) -> Vec<String> {
        let log = std::mem::take(&mut self.log).into_iter();
        let loud = log.filter(|(level, _)| *level <= Level::Warn);
        loud.map(|(_, text)| text).collect()
    }
}

const SLICES: Option<AddressSource> = Some(AddressSource::EndpointSlices);
const ENDPOINTS: Option<AddressSource> = Some(AddressSource::Endpoints);

#[test]
fn two_lists_and_a_watch_serve_all_apps() {
    let mut rig = Rig::new();
    rig.watch();
    assert_eq!(rig.take(), ["services", "endpointslices", "endpointslices"]);
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.1:80"]);
    assert_eq!(rig.addresses(BLOG).unwrap(), Vec::<String>::new());
    for app in [SHOP, BLOG] {
        assert_eq!(rig.synced(app), [SLICES]);
        let mut reports = rig.of(app);
        assert!(reports.any(|it| matches!(
            it,
            Report::FallbackAddress {
                address: Some(_),
                ..
            }
        )));
    }
    assert!(rig.warnings().is_empty());
}

#[test]
fn what_the_watch_shows_of_an_app_is_reported_to_it_alone_and_asks_nothing() {
    let mut rig = Rig::watching();
    rig.reports.clear();
    rig.event("MODIFIED", &slice("shop", &["10.0.0.1", "10.0.0.2"]));
    rig.event("MODIFIED", &slice("other", &["10.0.9.1", "10.0.9.2"]));
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(rig.of(BLOG).count(), 0);
    assert_eq!(rig.action, ReflectorAction::Read);
}

#[test]
fn a_service_that_its_endpoints_do_not_fit_is_read_again_alone() {
    let mut rig = Rig::watching();
    let mut other_port = slice("shop", &["10.0.0.1"]);
    other_port["ports"][0]["name"] = "web".into();
    rig.services[2] = service("shop", "http2");
    rig.event("MODIFIED", &other_port);
    rig.watch();
    assert_eq!(rig.take(), ["services/shop", "endpointslices"]);
    let of_shop = |report: &Report| matches!(report, Report::NoAddress { why: Some(_), .. });
    assert!(rig.of(SHOP).any(of_shop));
    assert!(!rig.of(BLOG).any(of_shop));
}

#[test]
fn a_service_that_does_not_exist_concerns_its_app_alone_until_it_does() {
    let mut rig = Rig::new();
    let blog = rig.services.remove(0);
    rig.slices.remove(0);
    rig.watch();
    let why = |report: &Report| match report {
        Report::NoAddress {
            why: Some(NoAddress::ServiceMissing(why)),
            ..
        } => Some(why.clone()),
        _ => None,
    };
    let said: Vec<String> = rig.of(BLOG).filter_map(why).collect();
    assert!(said[0].contains("default/blog does not exist"), "{said:?}");
    assert!(rig.of(SHOP).find_map(why).is_none());
    assert_eq!(rig.synced(SHOP), [SLICES]);
    rig.take();
    rig.services.push(blog);
    rig.event("ADDED", &slice("blog", &["10.0.1.1"]));
    rig.watch();
    assert_eq!(rig.take(), ["services/blog", "endpointslices"]);
    assert_eq!(rig.addresses(BLOG).unwrap(), ["10.0.1.1:80"]);
}

#[test]
fn a_port_that_a_service_lacks_is_looked_for_again_after_half_a_minute() {
    let mut rig = Rig::new();
    rig.services[2] = service("shop", "web");
    rig.watch();
    assert!(rig.warnings()[0].contains("has no TCP port http"));
    rig.take();
    rig.services[2] = service("shop", "http");
    rig.now = rig.now + Duration::from_secs(30);
    rig.handle(WatcherInput::Ended);
    rig.watch();
    assert_eq!(rig.take(), ["services/shop", "endpointslices"]);
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.1:80"]);
}

#[test]
fn an_outage_is_reported_to_every_app_and_logged_once() {
    let mut rig = Rig::watching();
    rig.failing = vec!["services", "endpointslices"];
    rig.now = rig.now + Duration::from_secs(70);
    rig.handle(WatcherInput::Broken("reset".to_owned()));
    rig.live_until(100);
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("of the Services of the namespace default cannot be listed"));
    for app in [SHOP, BLOG] {
        assert_eq!(rig.synced(app), [SLICES, None]);
        assert!(rig.of(app).any(|it| matches!(it, Report::RequestFailed(_))));
    }
    rig.failing.clear();
    rig.watch();
    for app in [SHOP, BLOG] {
        assert_eq!(rig.synced(app), [SLICES, None, SLICES]);
    }
}

#[test]
fn the_services_are_listed_once_a_minute_at_most_though_endpoints_are_more_often() {
    let mut rig = Rig::watching();
    for (second, asked) in [
        (1, vec!["endpointslices", "endpointslices"]),
        (59, vec!["endpointslices", "endpointslices"]),
        (60, vec!["services", "endpointslices", "endpointslices"]),
        (61, vec!["endpointslices", "endpointslices"]),
    ] {
        rig.now = Time::default() + Duration::from_secs(second);
        rig.handle(WatcherInput::Relist);
        rig.watch();
        assert_eq!(rig.take(), asked, "after {second} s");
    }
}

#[test]
fn an_app_that_is_added_is_listed_with_its_service_and_one_that_is_gone_gets_no_report() {
    let mut rig = Rig::watching();
    rig.reports.clear();
    let config = WatchedApp {
        service: "other".to_owned(),
        ports: vec![Some(PortRef::Name("http".into()))],
        ..testing::config()
    };
    rig.core.add(3, &config);
    rig.core.remove(BLOG);
    rig.services[1] = service("other", "http");
    rig.handle(WatcherInput::Relist);
    rig.watch();
    assert_eq!(rig.take(), ["services", "endpointslices", "endpointslices"]);
    assert_eq!(rig.addresses(3).unwrap(), ["10.0.9.1:80"]);
    assert_eq!(rig.of(BLOG).count(), 0);
}

#[test]
fn where_services_may_not_be_listed_each_is_read_by_its_name_once() {
    let mut rig = Rig::new();
    rig.forbidden = vec!["services"];
    rig.watch();
    assert_eq!(
        rig.take(),
        [
            "services",
            "services/shop",
            "services/blog",
            "endpointslices",
            "endpointslices"
        ]
    );
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.1:80"]);
    assert!(rig.warnings().is_empty(), "nothing is missing");
    // The list is tried again, and nothing else.
    rig.live_until(20 * 60);
    let asked = rig.take();
    assert!(asked.iter().all(|what| !what.starts_with("services/")));
    let lists = asked.iter().filter(|what| *what == "services").count();
    assert!((8..=16).contains(&lists), "{lists} in 20 minutes");
}

#[test]
fn where_slices_are_refused_the_endpoints_of_the_namespace_are_watched() {
    let mut rig = Rig::new();
    rig.forbidden = vec!["endpointslices"];
    rig.watch();
    let asked = rig.take();
    assert_eq!(
        asked,
        ["services", "endpointslices", "endpoints", "endpoints"]
    );
    for app in [SHOP, BLOG] {
        assert_eq!(rig.synced(app), [ENDPOINTS]);
        assert_eq!(rig.is_refused(app, Permission::WatchSlices), Some(true));
    }
}

/// The apps' Endpoints are granted by their names, and no list of the namespace.
fn named() -> Rig {
    let mut rig = Rig::new();
    rig.forbidden = vec!["services", "endpointslices", "endpoints"];
    rig.live_until(40);
    rig
}

#[test]
fn where_only_names_are_granted_one_service_after_the_other_is_listed() {
    let mut rig = named();
    for app in [SHOP, BLOG] {
        assert_eq!(rig.synced(app).last(), Some(&ENDPOINTS));
        assert_eq!(rig.is_refused(app, Permission::WatchEndpoints), None);
    }
    assert_eq!(rig.addresses(SHOP).unwrap(), ["10.0.0.7:80"]);
    let warnings = rig.warnings();
    let by_name = |text: &String| text.contains("of each Service by name");
    assert_eq!(warnings.iter().filter(|it| by_name(it)).count(), 1);
    rig.take();
    rig.live_until(100);
    let asked = rig.take();
    assert!((58..=62).contains(&asked.len()), "{} a minute", asked.len());
    for name in ["endpoints/shop", "endpoints/blog"] {
        let of_name = asked.iter().filter(|what| *what == name).count();
        assert!((28..=32).contains(&of_name), "{name}: {of_name}");
    }
}

#[test]
fn who_waits_is_listed_four_times_a_second() {
    let mut rig = named();
    rig.take();
    rig.core.set_waiting(BLOG, true);
    rig.handle(WatcherInput::Waiting(true));
    rig.live_until(50);
    let asked = rig.take();
    let of_blog = asked
        .iter()
        .filter(|what| *what == "endpoints/blog")
        .count();
    assert!((36..=42).contains(&of_blog), "{of_blog} in 10 s");
}

#[test]
fn a_name_that_is_refused_concerns_its_app_alone() {
    let mut rig = Rig::new();
    rig.forbidden = vec!["endpointslices", "endpoints", "endpoints/blog"];
    rig.live_until(40);
    assert_eq!(rig.synced(SHOP).last(), Some(&ENDPOINTS));
    assert_ne!(rig.synced(BLOG).last(), Some(&ENDPOINTS));
    assert_eq!(rig.is_refused(BLOG, Permission::WatchEndpoints), Some(true));
}

#[test]
fn a_list_of_the_namespace_that_is_granted_later_ends_the_lists_by_name() {
    let mut rig = named();
    rig.forbidden.clear();
    rig.watch();
    let minutes = rig.now.since(Time::default()).as_secs() / 60;
    assert!((5..=6).contains(&minutes), "after {minutes} minutes");
}

#[test]
fn an_app_that_is_added_amid_a_list_of_the_services_has_it_begin_again() {
    let mut rig = Rig::new();
    let pages = |items: &[Value], next: &str| {
        let metadata = json!({ "resourceVersion": "10", "continue": next });
        let page = json!({ "metadata": metadata, "items": items });
        WatcherInput::Page(Response::Ok(page.to_string().into_bytes()))
    };
    let (first, second) = (
        pages(&rig.services[..1], "more"),
        pages(&rig.services[1..], ""),
    );
    rig.handle(first);
    let config = WatchedApp {
        service: "alpha".to_owned(),
        ..testing::config()
    };
    assert!(rig.core.is_listing());
    rig.handle(second);
    assert!(rig.core.is_listing(), "the endpoints come next");
    rig.watch();
    assert!(!rig.core.is_listing());
    rig.take();
    rig.core.add(3, &config);
    rig.services.insert(0, service("alpha", "http"));
    rig.slices.insert(0, slice("alpha", &["10.0.3.1"]));
    rig.handle(WatcherInput::Relist);
    rig.watch();
    assert_eq!(rig.take(), ["services", "endpointslices", "endpointslices"]);
    assert_eq!(rig.addresses(3).unwrap(), ["10.0.3.1:80"]);
    assert!(rig.warnings().is_empty());
}

#[test]
fn many_services_without_the_port_are_looked_for_by_one_list() {
    let mut rig = Rig::new();
    for app in 3..10 {
        let config = WatchedApp {
            service: format!("app-{app}"),
            ports: vec![Some(PortRef::Number(80))],
            ..testing::config()
        };
        rig.core.add(app, &config);
    }
    rig.handle(WatcherInput::Relist);
    rig.watch();
    rig.take();
    rig.live_until(61);
    let asked = rig.take();
    let lists = asked.iter().filter(|what| *what == "services").count();
    assert_eq!(lists, 2, "{asked:?}");
    assert!(
        !asked.iter().any(|what| what.starts_with("services/")),
        "{asked:?}"
    );
}
