//! Which Services are apps in force, and what is said of the others.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};

use super::super::source_files::SourceLists;
use super::*;
use crate::kube::{SelectedService, ServicesReport};
use crate::settings::{self, Invocation, Settings};

struct Rig {
    discovery: Discovery,
    reader: Reader,
    sender: Sender<Update>,
    services: Vec<Arc<SelectedService>>,
    now: Time,
    /// What is scaled by the apps that run, and where they listen.
    running: Vec<String>,
    /// The ports that cannot be listened on.
    in_use: Vec<u16>,
    /// How often the apps were put into force, or it was tried.
    reconciled: usize,
}

fn process() -> Settings {
    let args = ["--discover=app", "--admin-listen=:8081", "--idle-ttl=5m"].map(Into::into);
    match settings::parse(args, |_| None) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

impl Rig {
    fn new() -> Rig {
        let (sender, updates) = mpsc::channel();
        let process = process();
        Rig {
            discovery: Discovery::new("app", process.admin_listen, updates),
            reader: Reader::new(process, SourceLists::default()),
            sender,
            services: Vec::new(),
            now: Time::from_millis(1_000_000),
            running: Vec::new(),
            in_use: Vec::new(),
            reconciled: 0,
        }
    }

    /// Sets a Service, created at that second of a minute.
    fn set(&mut self, name: &str, created: u32, annotations: &[(&str, &str)]) {
        self.services.retain(|it| it.name != name);
        let annotations = annotations.iter();
        let annotations = annotations.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        self.services.push(Arc::new(SelectedService {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("{name}-{created}"),
            created: format!("2026-11-25T03:18:{created:02}Z"),
            annotations: Some(annotations.collect::<BTreeMap<_, _>>()),
        }));
    }

    /// Reports the Services once the shortest time between two changes has passed, so that they are
    /// put into force at once.
    fn report(&mut self) {
        self.now = self.now + SPACING;
        let report = ServicesReport::Selected(self.services.clone());
        self.sender.send(self.reader.read(report)).unwrap();
        self.update();
    }

    fn update(&mut self) {
        let (in_use, running) = (&self.in_use, &mut self.running);
        let reconciled = &mut self.reconciled;
        self.discovery.update(self.now, |specs| {
            *reconciled += 1;
            let listen = |spec: &AppSpec| spec.settings.listen[0].address;
            let fails = |spec: &&AppSpec| in_use.contains(&listen(spec).port());
            let failures = specs.iter().filter(fails).map(|spec| Failure {
                app: app_spec::identity(spec),
                lines: vec!["in use".to_owned()],
                addresses: vec![(listen(spec), "in use".to_owned())],
            });
            let failures: Vec<Failure> = failures.collect();
            if !failures.is_empty() {
                return Err(failures);
            }
            let shown = specs.iter().map(|spec| {
                let (target, listen) = (&spec.settings.target_ref, listen(spec));
                format!("{target} at {}", listen.port())
            });
            *running = shown.collect();
            Ok(())
        });
    }

    /// The Services that are wrong, with the first reason, and whether an earlier app goes on.
    fn wrong(&self) -> Vec<(String, String, bool)> {
        let wrong = self.discovery.wrong().into_iter();
        let shown = wrong.map(|it| (it.service, it.why[0].clone(), it.earlier_app_in_force));
        shown.collect()
    }
}

#[test]
fn a_service_that_says_where_to_listen_is_an_app_and_another_is_not() {
    let mut rig = Rig::new();
    assert!(rig.discovery.awaited().is_some());
    rig.set("shop", 1, &[("listen", ":1")]);
    rig.set(
        "db",
        2,
        &[("listen", ":2"), ("target", "statefulsets.apps/pg")],
    );
    rig.set("plain", 3, &[]);
    rig.set("other", 4, &[("idle-ttl", "1h")]);
    rig.report();
    assert_eq!(rig.discovery.awaited(), None);
    assert_eq!(
        rig.running,
        ["deployments.apps/shop at 1", "statefulsets.apps/pg at 2"]
    );
    assert_eq!(rig.discovery.without_listen(), 2);
    assert_eq!(rig.wrong(), []);
    rig.services.clear();
    rig.report();
    assert_eq!(rig.running, [""; 0]);
}

#[test]
fn a_wrong_annotation_concerns_its_app_alone_which_stays_as_it_was() {
    let mut rig = Rig::new();
    rig.set("shop", 1, &[("listen", ":1")]);
    rig.set("blog", 2, &[("listen", ":2x")]);
    rig.report();
    assert_eq!(rig.running, ["deployments.apps/shop at 1"]);
    rig.set("shop", 1, &[("listen", ":3"), ("idle-ttl", "5x")]);
    rig.set("blog", 2, &[("listen", ":2")]);
    rig.report();
    assert_eq!(
        rig.running,
        ["deployments.apps/shop at 1", "deployments.apps/blog at 2"]
    );
    let why = "zero-pod-autoscaler/idle-ttl=\"5x\": unknown unit \"x\"; use e.g. 90s, 5m, 1h30m";
    assert_eq!(
        rig.wrong(),
        [("default/shop".to_owned(), why.to_owned(), true)]
    );
    let counts = rig.discovery.counts();
    assert_eq!(counts, [(["in_force"], 2), (["wrong"], 1)]);
    // One of that name that is created again is another.
    rig.set("shop", 5, &[("listen", ":3"), ("idle-ttl", "5x")]);
    rig.report();
    assert_eq!(rig.running, ["deployments.apps/blog at 2"]);
    rig.set("shop", 5, &[("listen", ":3")]);
    rig.report();
    assert_eq!(rig.wrong(), []);
}

#[test]
fn of_two_that_ask_for_one_port_the_older_has_it() {
    let mut rig = Rig::new();
    rig.set("young", 9, &[("listen", ":1")]);
    rig.set("same-b", 5, &[("listen", "127.0.0.1:1")]);
    rig.set("same-a", 5, &[("listen", "127.0.0.1:1")]);
    rig.report();
    assert_eq!(rig.running, ["deployments.apps/same-a at 1"]);
    let found_wrong = |name: &str, why: &str| (format!("default/{name}"), why.to_owned(), false);
    let of = "needs another port, or a server-name in both, since that is of the older Service \
              default/same-a too";
    assert_eq!(
        rig.wrong(),
        [
            found_wrong("same-b", &format!("listen=127.0.0.1:1: {of}")),
            found_wrong("young", &format!("listen=[::]:1: {of}")),
        ]
    );
    // An older one that asks for it later has it too.
    rig.set("old", 1, &[("listen", ":1")]);
    rig.report();
    assert_eq!(rig.running, ["deployments.apps/old at 1"]);
    rig.services.retain(|it| it.name == "young");
    rig.report();
    assert_eq!(rig.running, ["deployments.apps/young at 1"]);
    assert_eq!(rig.wrong(), []);
}

#[test]
fn services_share_a_port_by_their_server_names() {
    let mut rig = Rig::new();
    let at = |names: &'static str| [("listen", ":1"), ("server-name", names)];
    rig.set("shop", 1, &at("shop.example"));
    rig.set("blog", 2, &at("blog.example\n*.blog.example"));
    rig.set("young", 3, &at("*,shop.example"));
    rig.report();
    let running = ["deployments.apps/shop at 1", "deployments.apps/blog at 1"];
    assert_eq!(rig.running, running);
    let why = "server-name=shop.example: needs another name, or another port, since at [::]:1 \
               that is of the older Service default/shop too";
    let wrong = ("default/young".to_owned(), why.to_owned(), false);
    assert_eq!(rig.wrong(), [wrong]);
    rig.set("young", 3, &at("*"));
    rig.report();
    assert_eq!(rig.running.len(), 3);
}

#[test]
fn apps_with_server_names_share_a_port_and_of_one_name_the_older_has_it() {
    let mut rig = Rig::new();
    rig.set(
        "a",
        1,
        &[("listen", ":1"), ("server-name", "a.example.com")],
    );
    rig.set(
        "b",
        2,
        &[("listen", ":1"), ("server-name", "b.example.com")],
    );
    rig.set(
        "c",
        3,
        &[("listen", ":1"), ("server-name", "a.example.com")],
    );
    rig.report();
    assert_eq!(
        rig.running,
        ["deployments.apps/a at 1", "deployments.apps/b at 1"]
    );
    let wrong = rig.wrong();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(
        wrong[0].1.starts_with("server-name=a.example.com: "),
        "{wrong:?}"
    );
    assert!(
        wrong[0].1.ends_with("of the older Service default/a too"),
        "{wrong:?}"
    );
}

#[test]
fn an_app_that_asks_for_the_port_of_an_older_one_stays_where_it_was() {
    let mut rig = Rig::new();
    rig.set("old", 1, &[("listen", ":1")]);
    rig.set("young", 2, &[("listen", ":2")]);
    rig.report();
    rig.set("young", 2, &[("listen", ":1")]);
    rig.report();
    assert_eq!(
        rig.running,
        ["deployments.apps/old at 1", "deployments.apps/young at 2"]
    );
    assert!(rig.wrong()[0].2, "{:?}", rig.wrong());
    // The older one moves to the port of the younger, so that the younger gets the one that it asks
    // for: they swap.
    rig.set("old", 1, &[("listen", ":2")]);
    rig.report();
    assert_eq!(
        rig.running,
        ["deployments.apps/old at 2", "deployments.apps/young at 1"]
    );
    assert_eq!(rig.wrong(), []);
}

#[test]
fn two_that_scale_the_same_and_one_at_the_admin_port_are_refused() {
    let mut rig = Rig::new();
    rig.set(
        "a",
        1,
        &[("listen", ":1"), ("target", "deployments.apps/b")],
    );
    rig.set("b", 2, &[("listen", ":2")]);
    rig.set("c", 3, &[("listen", "127.0.0.1:8081")]);
    rig.report();
    assert_eq!(rig.running, ["deployments.apps/b at 1"]);
    let wrong = rig.wrong();
    assert_eq!(
        wrong[0].1,
        "deployments.apps/b: is what is scaled by the older Service default/a too"
    );
    assert!(
        wrong[1].1.contains("is where the admin port is"),
        "{wrong:?}"
    );
}

#[test]
fn an_address_that_cannot_be_bound_concerns_its_app_alone_and_is_tried_again() {
    let mut rig = Rig::new();
    rig.set("shop", 1, &[("listen", ":1")]);
    rig.set("blog", 2, &[("listen", ":2")]);
    rig.report();
    rig.in_use = vec![3];
    rig.set("shop", 1, &[("listen", ":3")]);
    rig.set("news", 3, &[("listen", ":3")]);
    rig.report();
    assert_eq!(
        rig.running,
        ["deployments.apps/shop at 1", "deployments.apps/blog at 2"]
    );
    let wrong = rig.wrong();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert_eq!(wrong[1].1, "in use", "{wrong:?}");
    assert!(wrong[1].2);
    let tried = rig.reconciled;
    rig.update();
    assert_eq!(rig.reconciled, tried, "not at once");
    rig.in_use.clear();
    rig.now = rig.discovery.poll_timeout().unwrap();
    rig.update();
    assert_eq!(
        rig.running,
        ["deployments.apps/shop at 3", "deployments.apps/blog at 2"]
    );
    assert_eq!(rig.wrong().len(), 1, "news wants a port that shop has");
    assert_eq!(rig.discovery.poll_timeout(), None);
}

#[test]
fn what_an_app_is_refused_for_is_tried_a_bounded_number_of_times() {
    let mut rig = Rig::new();
    for at in 1..=40_u16 {
        rig.set(
            &format!("app-{at}"),
            u32::from(at),
            &[("listen", &format!(":{at}"))],
        );
    }
    rig.in_use = (1..=40).collect();
    rig.report();
    assert_eq!(rig.reconciled, 2);
    assert_eq!(rig.wrong().len(), 40);
}

#[test]
fn of_many_that_ask_for_an_address_that_cannot_be_bound_one_is_tried_and_less_and_less_often() {
    let mut rig = Rig::new();
    rig.set("fine", 50, &[("listen", ":2")]);
    for app in 1..=40 {
        rig.set(&format!("app-{app}"), app, &[("listen", ":1")]);
    }
    rig.in_use = vec![1];
    rig.report();
    assert_eq!(rig.reconciled, 2);
    assert_eq!(rig.running, ["deployments.apps/fine at 2"]);
    let wrong = rig.wrong();
    assert_eq!(wrong.len(), 40);
    assert!(wrong.iter().all(|it| it.1 == "in use"), "{wrong:?}");
    let pauses = [5, 10, 20, 40, 60, 60].map(Duration::from_secs);
    for pause in pauses {
        let due = rig.discovery.poll_timeout().unwrap();
        assert_eq!(due.since(rig.now), pause);
        rig.now = due;
        rig.update();
    }
    assert_eq!(rig.reconciled, 2 * (1 + pauses.len()));
    rig.report();
    let due = rig.discovery.poll_timeout().unwrap();
    assert_eq!(due.since(rig.now), RETRY, "something has changed");
    rig.in_use.clear();
    rig.now = due;
    rig.update();
    assert_eq!(rig.running.len(), 2);
    assert_eq!(rig.discovery.poll_timeout(), None);
}

#[test]
fn apps_of_several_addresses_that_fail_one_after_the_other_take_few_rounds() {
    let mut rig = Rig::new();
    // Each keeps the port 1000 from the younger ones until its own is found to be in use: one at a
    // time that would be 40 rounds of changes. After a few, all that have failed are left out.
    for app in 1..=40_u16 {
        let listen = format!("{app}=own,1000=shared");
        rig.set(&format!("app-{app}"), app.into(), &[("listen", &listen)]);
    }
    rig.set("fine", 50, &[("listen", ":2000")]);
    rig.in_use = (1..=40).collect();
    rig.report();
    assert_eq!(rig.reconciled, 4);
    assert_eq!(rig.running, ["deployments.apps/fine at 2000"]);
    assert_eq!(rig.wrong().len(), 40);
}

#[test]
fn changes_that_come_together_are_put_into_force_together_within_a_second() {
    let mut rig = Rig::new();
    rig.set("shop", 1, &[("listen", ":1")]);
    rig.report();
    assert_eq!(rig.reconciled, 1, "the first one at once");
    for port in 2..=20 {
        rig.now = rig.now + Duration::from_millis(20);
        rig.set("shop", 1, &[("listen", &format!(":{port}"))]);
        let report = ServicesReport::Selected(rig.services.clone());
        rig.sender.send(rig.reader.read(report)).unwrap();
        rig.update();
    }
    assert_eq!(rig.reconciled, 1);
    let due = rig.discovery.poll_timeout().unwrap();
    assert!(due.since(rig.now) <= SPACING);
    rig.now = due;
    rig.update();
    assert_eq!(rig.reconciled, 2);
    assert_eq!(rig.running, ["deployments.apps/shop at 20"]);
    assert_eq!(rig.discovery.poll_timeout(), None);
}

#[test]
fn a_long_text_of_what_is_wrong_is_cut_to_what_an_event_may_have() {
    let mut rig = Rig::new();
    rig.set("shop", 1, &[("listen", ":1")]);
    rig.report();
    let long: String = "ü".repeat(3000);
    rig.set("shop", 1, &[("listen", &long), ("idle-ttl", &long)]);
    rig.report();
    let state = rig.discovery.services.values().next().unwrap();
    let line = line(state);
    assert!(
        line.len() <= 1024 && line.ends_with("its app stays as it was"),
        "{line}"
    );
}

#[test]
fn annotations_that_are_too_long_are_wrong() {
    let mut rig = Rig::new();
    rig.set("shop", 1, &[("listen", ":1")]);
    let mut service = (*rig.services[0]).clone();
    service.annotations = None;
    rig.services = vec![Arc::new(service)];
    rig.report();
    assert!(
        rig.wrong()[0].1.contains("more than 8192 bytes"),
        "{:?}",
        rig.wrong()
    );
}

#[test]
fn trouble_with_the_watch_takes_no_app_away() {
    let mut rig = Rig::new();
    let trouble = |why: Option<&str>| ServicesReport::Trouble(why.map(str::to_owned));
    rig.sender
        .send(rig.reader.read(trouble(Some("403"))))
        .unwrap();
    rig.update();
    assert_eq!(
        rig.discovery.awaited().unwrap(),
        "the Services cannot be listed: 403"
    );
    rig.set("shop", 1, &[("listen", ":1")]);
    rig.report();
    rig.sender
        .send(rig.reader.read(trouble(Some("reset"))))
        .unwrap();
    rig.update();
    assert_eq!(rig.discovery.trouble(), Some("reset"));
    assert_eq!(rig.discovery.awaited(), None);
    assert_eq!(rig.running, ["deployments.apps/shop at 1"]);
    assert_eq!(rig.reconciled, 1);
}

/// What is recorded of the Services, of which the first `taken` are taken.
fn record(rig: &mut Rig, taken: usize) -> Vec<String> {
    let mut recorded = Vec::new();
    let now = rig.now;
    rig.discovery.record_events(now, |service, _| {
        let is_taken = recorded.len() < taken;
        if is_taken {
            recorded.push(service.name);
        }
        is_taken
    });
    recorded
}

#[test]
fn events_that_are_not_taken_are_recorded_later_if_they_still_hold() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c", "d"] {
        rig.set(name, 1, &[("listen", "nowhere")]);
    }
    rig.report();
    assert_eq!(record(&mut rig, 1), ["a"]);
    assert_eq!(rig.discovery.poll_timeout(), Some(rig.now + RECORD_AGAIN));
    assert_eq!(record(&mut rig, 9), [""; 0], "not before the pause is over");
    rig.set("b", 1, &[("listen", ":1")]);
    rig.report();
    rig.now = rig.now + RECORD_AGAIN;
    assert_eq!(record(&mut rig, 9), ["c", "d"], "nothing is wrong with b");
    assert_eq!(rig.discovery.poll_timeout(), None);
    rig.set("a", 1, &[("listen", "elsewhere")]);
    rig.report();
    assert_eq!(record(&mut rig, 9), ["a"], "of another error at once");
}

#[test]
fn of_many_services_that_are_wrong_a_bounded_number_is_shown_and_kept_in_full() {
    let mut rig = Rig::new();
    let many = MAX_WRONG_SHOWN * 40;
    for number in 0..many {
        rig.set(&format!("app-{number:04}"), 1, &[("listen", "nowhere")]);
    }
    rig.report();
    assert_eq!(rig.discovery.wrong_count(), many);
    let shown = rig.discovery.wrong();
    assert_eq!(shown.len(), MAX_WRONG_SHOWN);
    let says_how = |state: &State| state.errors.iter().any(|it| it.contains("nowhere"));
    let in_full = |rig: &Rig| {
        rig.discovery
            .services
            .values()
            .filter(|it| says_how(it))
            .count()
    };
    let kept = in_full(&rig);
    assert!(kept >= 1000 && kept <= many / 2, "{kept}");
    // Once some are right, others are said.
    for number in 0..500 {
        let listen = format!(":{}", 10_000 + number);
        rig.set(&format!("app-{number:04}"), 1, &[("listen", &listen)]);
    }
    rig.report();
    assert_eq!(rig.discovery.wrong_count(), many - 500);
    assert_eq!(in_full(&rig), kept);
}
