//! Two apps in one process, over sockets and API threads that only write down what they
//! are asked.

mod fail_fast;
mod wakes;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::super::app::{MinReady, Schedules};
use super::super::route::Route;
use super::super::topology::Topology;
use super::*;
use crate::accept_probe::Candidate;
use crate::cluster::{
    AddressSource, Event, LifecycleEvent, NoAddress, Observation, Outcome, Pod, Request, Scale,
};
use crate::engine::{BackendSpec, Counts, PortId};
use crate::policy::Config;
use crate::policy::lease::Lease;
use crate::rules::ready_gate::ReadyGate;

mod notifications;

const SHOP: AppId = AppId(1);
const BLOG: AppId = AppId(2);

/// What was asked, of which app.
type Calls = Rc<RefCell<Vec<(AppId, String)>>>;

struct FakeSockets {
    calls: Calls,
    counts: BTreeMap<AppId, Counts>,
    changed: Vec<AppId>,
    gates: BTreeMap<AppId, bool>,
    inspected_until: BTreeMap<AppId, Time>,
    /// The app of which a connection is held again when the app sleeps.
    reattached: Option<AppId>,
}

impl FakeSockets {
    fn note(&self, app: AppId, call: impl Into<String>) {
        self.calls.borrow_mut().push((app, call.into()));
    }
}

impl Sockets for FakeSockets {
    fn counts(&self, app: AppId) -> Counts {
        self.counts.get(&app).copied().unwrap_or_default()
    }

    fn inspected_until(&self, app: AppId) -> Option<Time> {
        self.inspected_until.get(&app).copied()
    }

    fn waiting(&self, port: PortId) -> usize {
        self.counts(port.app).waiting
    }

    fn take_changed_apps(&mut self) -> Vec<AppId> {
        std::mem::take(&mut self.changed)
    }

    fn longest_waiting(&self, _: AppId) -> Option<IpAddr> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }

    fn set_gate(&mut self, app: AppId, open: bool, _: Time) {
        self.note(app, "gate");
        self.gates.insert(app, open);
    }

    fn set_wake_failure(&mut self, app: AppId, why: Option<&'static str>, _: Time) {
        self.note(app, format!("failure: {why:?}"));
    }

    fn set_wake_trouble(&mut self, app: AppId, why: Option<&'static str>) {
        self.note(app, format!("trouble: {why:?}"));
    }

    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], _: Time) {
        let PortId { app, index } = port;
        self.note(app, format!("{} backends at port {index}", backends.len()));
    }

    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.note(
                port.app,
                format!("fallback {address} at port {}", port.index),
            );
        }
    }

    fn dispatch(&mut self, _: Time) {}

    fn end_uncounted(&mut self, app: AppId) {
        self.note(app, "end uncounted");
        if self.reattached == Some(app) {
            let counts = self.counts.entry(app).or_default();
            (counts.counted, counts.waiting, counts.uses) = (1, 1, counts.uses + 1);
            self.changed.push(app);
        }
    }

    fn release(&mut self, _: Time) {}

    fn stop_accepting(&mut self, app: AppId, _: Time) {
        self.note(app, "stop accepting");
    }

    fn reset_all(&mut self, app: AppId, _: Time) {
        self.note(app, "reset all");
    }

    fn remove_app(&mut self, app: AppId, _: Time) {
        self.note(app, "remove");
    }
}

struct FakeApi(AppId, Calls);

impl FakeApi {
    fn note(&self, call: impl Into<String>) {
        self.1.borrow_mut().push((self.0, call.into()));
    }
}

impl Api for FakeApi {
    fn request(&mut self, id: u64, request: Request) {
        let what = match request {
            Request::Read => "read",
            Request::ReadScale => "read scale",
            Request::WriteScale { .. } => "write",
            Request::RenewLease(_) => "renew",
        };
        self.note(format!("{what} #{id}"));
    }

    fn relist(&mut self) {
        self.note("relist");
    }

    fn relist_unless_newer(&mut self, _: Time) -> bool {
        self.note("relist unless newer");
        true
    }

    fn set_waiting(&mut self, is_waiting: bool) {
        self.note(format!("waiting: {is_waiting}"));
    }

    fn probe(&mut self, candidates: Vec<Candidate>) {
        let uids: Vec<String> = candidates.into_iter().map(|it| it.uid).collect();
        self.note(format!("probe: {uids:?}"));
    }

    fn read_pods(&mut self) {
        self.note("read pods");
    }

    fn record_event(&mut self, event: Event) {
        self.note(format!("Event {}: {}", event.reason, event.note));
    }

    fn set_draining(&mut self) {
        self.note("draining");
    }

    fn notify(&mut self, event: &LifecycleEvent) {
        let (name, replicas) = (event.kind.name(), event.replicas);
        self.note(format!("notify: {name} at {replicas:?}"));
    }
}

fn at(seconds: u64) -> Time {
    Time::new(Duration::from_secs(seconds))
}

struct Rig {
    proxy: Proxy<FakeSockets, FakeApi>,
    calls: Calls,
}

impl Rig {
    /// Two apps with two ports each, both read at one replica.
    fn new() -> Rig {
        let calls = Calls::default();
        let sockets = FakeSockets {
            calls: calls.clone(),
            counts: BTreeMap::new(),
            changed: Vec::new(),
            gates: BTreeMap::new(),
            inspected_until: BTreeMap::new(),
            reattached: None,
        };
        let drain = DrainConfig {
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
        };
        let mut proxy = Proxy::new(sockets, drain);
        for (id, name) in [(SHOP, "shop"), (BLOG, "blog")] {
            let config = AppConfig {
                name: name.to_owned(),
                label: format!("default/{name}"),
                service: name.to_owned(),
                route: Route::Pods,
                ports: vec!["http".to_owned(), "db".to_owned()],
                topology: Topology::default(),
                ready_gate: ReadyGate::Accept,
                min_ready: MinReady::default(),
                hold_timeout: Duration::from_secs(300),
                fail_fast: false,
                schedules: Schedules::none(|| 0),
            };
            let policy = Policy::new(Config::default(), u64::from(id.0), at(0));
            proxy.add(id, FakeApi(id, calls.clone()), policy, config, at(0));
        }
        let mut rig = Rig { proxy, calls };
        rig.turn(&[], 0);
        for id in [SHOP, BLOG] {
            rig.reply(id, Outcome::Scale(Scale::of(1, "1")), 0);
        }
        rig.take_calls();
        rig
    }

    fn turn(&mut self, reports: &[(AppId, Report)], second: u64) -> Option<Exit> {
        self.proxy.turn(reports.to_vec(), at(second))
    }

    /// Answers the last request of an app.
    fn reply(&mut self, app: AppId, outcome: Outcome, second: u64) {
        let calls = self.calls.borrow().clone();
        let requests = calls.iter().rev().filter(|(of, _)| *of == app);
        let mut ids = requests.filter_map(|(_, call)| call.split_once(" #")?.1.parse().ok());
        let id = ids.next().expect("a request");
        self.turn(&[(app, Report::Reply { id, outcome })], second);
    }

    fn take_calls(&self) -> Vec<(AppId, String)> {
        std::mem::take(&mut self.calls.borrow_mut())
    }

    /// The apps that were called since then, each once.
    fn called(&self) -> Vec<AppId> {
        let mut apps: Vec<AppId> = self.take_calls().into_iter().map(|(app, _)| app).collect();
        apps.sort();
        apps.dedup();
        apps
    }

    fn count(&mut self, app: AppId, waiting: usize) {
        let counts = Counts {
            accepted: 1,
            open: waiting,
            counted: waiting,
            waiting,
            uses: 1,
            ..Counts::default()
        };
        self.proxy.sockets.counts.insert(app, counts);
        self.proxy.sockets.changed.push(app);
    }
}

fn pods(port: usize) -> Report {
    let pod = Pod {
        uid: "pod".to_owned(),
        addresses: vec![([10, 0, 0, 1], 80).into()],
        ..Pod::default()
    };
    Report::Pods {
        port,
        pods: vec![pod],
    }
}

#[test]
fn a_turn_in_which_nothing_happens_calls_no_app() {
    let mut rig = Rig::new();
    rig.turn(&[], 0);
    assert_eq!(rig.called(), []);
}

#[test]
fn counts_and_reports_lead_to_the_app_that_they_are_about_and_to_no_other() {
    let mut rig = Rig::new();
    rig.count(BLOG, 1);
    rig.turn(&[], 0);
    let calls = rig.take_calls();
    assert!(
        calls.contains(&(BLOG, "waiting: true".to_owned())),
        "{calls:?}"
    );
    assert!(calls.iter().all(|(app, _)| *app == BLOG), "{calls:?}");
    rig.turn(&[(SHOP, pods(1))], 0);
    let calls = rig.take_calls();
    assert!(
        calls.contains(&(SHOP, "1 backends at port 1".to_owned())),
        "{calls:?}"
    );
    assert!(
        calls.contains(&(SHOP, "0 backends at port 0".to_owned())),
        "{calls:?}"
    );
    assert!(calls.iter().all(|(app, _)| *app == SHOP), "{calls:?}");
    assert_eq!(rig.proxy.app(SHOP).unwrap().backends(), 1);
    assert_eq!(rig.proxy.app(BLOG).unwrap().backends(), 0);
}

#[test]
fn a_report_about_an_app_that_is_not_there_any_more_is_dropped() {
    let mut rig = Rig::new();
    assert_eq!(rig.turn(&[(AppId(9), pods(0))], 0), None);
    assert_eq!(rig.called(), []);
}

#[test]
fn each_app_has_its_turn_at_its_own_deadline() {
    let mut rig = Rig::new();
    // Past what both have in common: for so long a target is not trusted.
    rig.turn(&[], 3);
    // Somebody waits at one of them, for which its lease is renewed and given up sooner.
    rig.count(SHOP, 1);
    rig.turn(&[], 4);
    rig.take_calls();
    let first = rig.proxy.poll_timeout().expect("a deadline");
    rig.proxy.turn([], first);
    assert_eq!(rig.called(), [SHOP]);
}

/// No other deadline falls on the end of a lease, and the API server says nothing.
#[test]
fn a_gate_is_shut_when_the_lease_ends_though_nothing_happens() {
    let mut rig = Rig::new();
    rig.count(SHOP, 1);
    rig.turn(&[(SHOP, pods(0))], 1);
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "2")), 1);
    let served = Counts {
        waiting: 0,
        ..rig.proxy.sockets.counts[&SHOP]
    };
    rig.proxy.sockets.counts.insert(SHOP, served);
    rig.proxy.sockets.changed.push(SHOP);
    let mut now = at(1);
    rig.proxy.turn([], now);
    assert!(rig.proxy.sockets.gates[&SHOP], "under a lease");
    while rig.proxy.sockets.gates[&SHOP] {
        now = rig.proxy.poll_timeout().expect("a deadline");
        rig.proxy.turn([], now);
    }
    assert_eq!(now, at(1) + Lease::duration(Config::default().idle_ttl));
}

#[test]
fn what_is_refused_to_one_app_is_the_trouble_of_that_app_alone() {
    let mut rig = Rig::new();
    for id in [SHOP, BLOG] {
        rig.count(id, 1);
        rig.turn(&[(id, pods(0))], 1);
    }
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "2")), 1);
    rig.reply(BLOG, Outcome::Unreachable, 1);
    let gates = &rig.proxy.sockets.gates;
    assert_eq!((gates[&SHOP], gates[&BLOG]), (true, false));
}

#[test]
fn a_signal_drains_every_app_and_the_end_waits_for_the_last_connection_of_any() {
    let mut rig = Rig::new();
    rig.count(BLOG, 1);
    rig.turn(&[], 1);
    rig.take_calls();
    assert_eq!(rig.proxy.end("SIGTERM", at(10)), None);
    assert_eq!(
        rig.called(),
        [SHOP, BLOG],
        "a permission that is gone is no warning"
    );
    assert_eq!(rig.turn(&[], 15), None);
    let calls = rig.take_calls();
    for id in [SHOP, BLOG] {
        assert!(
            calls.contains(&(id, "stop accepting".to_owned())),
            "{calls:?}"
        );
    }
    rig.count(BLOG, 0);
    assert_eq!(rig.turn(&[], 16), Some(Exit::Drained));
}

impl Rig {
    fn is_there(&self, app: AppId) -> bool {
        self.proxy.app(app).is_some()
    }
}

#[test]
fn an_app_that_leaves_drains_and_the_others_notice_nothing() {
    let mut rig = Rig::new();
    rig.count(SHOP, 1);
    rig.turn(&[], 1);
    rig.take_calls();
    rig.proxy.leave(SHOP, at(10));
    assert!(rig.proxy.is_leaving(SHOP) && !rig.proxy.is_leaving(BLOG));
    let calls = rig.take_calls();
    assert!(calls.contains(&(SHOP, "draining".to_owned())), "{calls:?}");
    // It is not put to sleep any more, though it goes on accepting.
    assert_eq!(rig.turn(&[], 14), None);
    let calls = rig.take_calls();
    let stops = (SHOP, "stop accepting".to_owned());
    assert!(!calls.contains(&stops), "{calls:?}");
    let until = rig.proxy.poll_timeout().expect("a deadline");
    assert!(until <= at(15), "{until:?}");
    assert_eq!(rig.turn(&[], 15), None, "the process does not end");
    let calls = rig.take_calls();
    assert!(calls.contains(&stops), "{calls:?}");
    assert!(rig.is_there(SHOP), "a connection is open");
    rig.count(SHOP, 0);
    rig.turn(&[], 16);
    let calls = rig.take_calls();
    assert_eq!(calls.last(), Some(&(SHOP, "remove".to_owned())));
    assert!(calls.iter().all(|(app, _)| *app == SHOP), "{calls:?}");
    assert!(!rig.is_there(SHOP) && rig.is_there(BLOG));
    rig.turn(&[(SHOP, pods(0))], 17);
    assert_eq!(rig.called(), [], "a late report");
}

#[test]
fn an_app_that_leaves_is_removed_at_its_deadline_though_connections_are_open() {
    let mut rig = Rig::new();
    rig.count(SHOP, 3);
    rig.turn(&[], 1);
    rig.proxy.leave(SHOP, at(10));
    rig.proxy.leave(SHOP, at(12));
    rig.turn(&[], 15);
    rig.turn(&[], 34);
    assert!(rig.is_there(SHOP));
    rig.turn(&[], 35);
    assert!(!rig.is_there(SHOP));
    let calls = rig.take_calls();
    assert_eq!(calls.last(), Some(&(SHOP, "remove".to_owned())));
}

/// Clients that had connected before it stopped, and have yet to name it or another app.
#[test]
fn an_app_that_leaves_stays_while_clients_may_name_it() {
    let mut rig = Rig::new();
    rig.turn(&[], 1);
    rig.proxy.sockets.inspected_until.insert(SHOP, at(19));
    rig.proxy.leave(SHOP, at(10));
    rig.turn(&[], 15);
    assert!(rig.is_there(SHOP));
    let until = rig.proxy.poll_timeout().expect("a deadline");
    assert!(until <= at(19), "{until:?}");
    rig.proxy.sockets.inspected_until.clear();
    rig.turn(&[], 19);
    assert!(!rig.is_there(SHOP), "they have named the other app");

    rig.proxy.sockets.inspected_until.insert(BLOG, at(99));
    rig.proxy.leave(BLOG, at(20));
    rig.turn(&[], 25);
    rig.turn(&[], 44);
    assert!(rig.is_there(BLOG));
    rig.turn(&[], 45);
    assert!(!rig.is_there(BLOG), "at its deadline at the latest");
}

#[test]
fn nothing_of_an_app_is_left_once_it_is_removed() {
    let mut rig = Rig::new();
    rig.turn(&[], 3);
    rig.proxy.remove(SHOP, at(3));
    rig.proxy.remove(BLOG, at(3));
    assert_eq!(rig.proxy.poll_timeout(), None);
    assert_eq!(rig.proxy.apps().count(), 0);
    assert_eq!(rig.turn(&[], 100), None);
}

#[test]
fn with_a_list_the_troubles_of_an_app_are_its_own_once_any_was_ready() {
    let mut rig = Rig::new();
    rig.proxy.set_list();
    let synced = |app| (app, Report::Synced(Some(AddressSource::EndpointSlices)));
    assert_eq!(rig.proxy.unready(at(0)).len(), 2, "one of each app");
    rig.turn(&[synced(SHOP)], 0);
    assert_eq!(rig.proxy.unready(at(0)), [] as [&str; 0]);
    let gone = Report::NoAddress {
        port: 0,
        why: Some(NoAddress::ServiceMissing(
            "there is no such Service".to_owned(),
        )),
    };
    rig.turn(&[(SHOP, gone)], 1);
    let shop = rig.proxy.app(SHOP).unwrap();
    assert_eq!(shop.unready(at(1)), ["there is no such Service"]);
    assert_eq!(rig.proxy.unready(at(1)), [] as [&str; 0]);
    rig.proxy.end("SIGTERM", at(2));
    assert_eq!(rig.proxy.unready(at(2)), ["draining after a signal"]);
}

/// The policy begins anew, and what is relayed is none of its business.
#[test]
fn another_policy_asks_what_it_needs_and_takes_no_reply_to_the_one_before() {
    let mut rig = Rig::new();
    rig.count(SHOP, 1);
    rig.turn(&[(SHOP, pods(0))], 1);
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "2")), 1);
    assert!(rig.proxy.sockets.gates[&SHOP], "under a lease");
    let last = rig.calls.borrow().clone();
    rig.take_calls();
    let config = Config {
        idle_ttl: Duration::from_secs(60),
        ..Config::default()
    };
    let change = Reconfigured {
        hold_timeout: Duration::from_secs(1),
        fail_fast: false,
        schedules: Schedules::none(|| 0),
        min_ready: MinReady::default(),
        policy: Some((config, 7)),
    };
    rig.proxy.reconfigure(SHOP, change, at(2));
    assert!(!rig.proxy.sockets.gates[&SHOP], "its lease is not known");
    let calls = rig.take_calls();
    assert!(calls.iter().all(|(app, _)| *app == SHOP), "{calls:?}");
    let ids = |calls: &[(AppId, String)]| -> Vec<u64> {
        let ids = calls
            .iter()
            .filter_map(|(_, call)| call.split_once(" #")?.1.parse().ok());
        ids.collect()
    };
    let asked = ids(&calls);
    assert!(!asked.is_empty(), "{calls:?}");
    assert!(ids(&last).iter().all(|id| !asked.contains(id)), "{last:?}");
    rig.calls.borrow_mut().extend(calls);
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "3")), 2);
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "4")), 2);
    assert!(rig.proxy.sockets.gates[&SHOP], "under a lease of its own");
    let policy = rig.proxy.app(SHOP).unwrap().policy();
    assert_eq!(
        policy.lease_left(at(2)),
        Some(Lease::duration(Duration::from_secs(60)))
    );
}

#[test]
fn pods_that_start_are_tried_while_connections_wait_and_no_longer_once_one_accepts() {
    let mut rig = Rig::new();
    let starting = |uid: &str| Pod {
        uid: uid.to_owned(),
        unready_addresses: vec![([10, 0, 0, 1], 80).into()],
        ..Pod::default()
    };
    let pods = vec![starting("a"), starting("b")];
    rig.turn(&[(SHOP, Report::Pods { port: 0, pods })], 0);
    let probed = |calls: &[(AppId, String)]| {
        let probes = calls.iter().filter(|(_, call)| call.starts_with("probe"));
        probes.cloned().collect::<Vec<_>>()
    };
    assert_eq!(probed(&rig.take_calls()), [], "nobody waits");
    rig.count(SHOP, 1);
    rig.turn(&[], 0);
    let both = (SHOP, r#"probe: ["a", "b"]"#.to_owned());
    assert_eq!(probed(&rig.take_calls()), [both]);
    let (port, uid) = (0, "b".to_owned());
    rig.turn(&[(SHOP, Report::Accepts { port, uid })], 0);
    let nothing = (SHOP, "probe: []".to_owned());
    assert_eq!(probed(&rig.take_calls()), [nothing]);
    assert_eq!(rig.proxy.app(SHOP).unwrap().backends(), 1);
}

/// Another app of the namespace may have used up what is allowed of such requests.
#[test]
fn a_list_after_a_wake_is_asked_for_until_it_has_come() {
    let mut rig = Rig::new();
    rig.count(SHOP, 1);
    rig.turn(&[(SHOP, pods(0))], 1);
    rig.reply(SHOP, Outcome::Scale(Scale::of(0, "2")), 1);
    rig.reply(SHOP, Outcome::Scale(Scale::of(1, "3")), 1);
    let relists = |rig: &Rig| {
        let calls = rig.take_calls();
        calls.iter().filter(|call| call.1 == "relist").count()
    };
    assert_eq!(relists(&rig), 1);
    rig.turn(&[], 6);
    rig.turn(&[], 16);
    assert_eq!(relists(&rig), 2);
    rig.turn(&[(SHOP, pods(0))], 17);
    rig.turn(&[], 120);
    assert_eq!(relists(&rig), 0);
}
