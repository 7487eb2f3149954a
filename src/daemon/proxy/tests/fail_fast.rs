//! `--fail-fast`: for how long those who come are let go, and when the pods are read for them.

use super::*;
use crate::cluster::{Persistence, PodProblem, PodsRead, TargetStatus};

const FAILURE: &str = "failure: Some(\"InvalidImageName\")";
const NO_FAILURE: &str = "failure: None";

/// The shop, awake without a pod since second 2, with clients that wait.
fn starting() -> Rig {
    starting_with(true, None)
}

fn starting_with(fail_fast: bool, config: Option<Config>) -> Rig {
    let mut rig = Rig::new();
    let is_dry_run = config.as_ref().is_some_and(|config| config.dry_run);
    let change = Reconfigured {
        hold_timeout: Duration::from_secs(300),
        fail_fast,
        schedules: Schedules::none(|| 0),
        min_ready: MinReady::default(),
        policy: config.map(|config| (config, 7)),
    };
    rig.proxy.reconfigure(SHOP, change, at(1));
    let asleep = Report::Observed(Observation::Scale(Scale::of(0, "2")));
    rig.turn(&[(SHOP, asleep)], 1);
    rig.count(SHOP, 1);
    rig.turn(&[], 2);
    let awake = Scale::of(1, "3");
    if is_dry_run {
        let by_others = Report::Observed(Observation::Scale(awake));
        rig.turn(&[(SHOP, by_others)], 2);
    } else {
        rig.reply(SHOP, Outcome::Scale(awake), 2);
    }
    rig
}

impl Rig {
    /// What a turn asks of the shop about its pods and those who wait for them.
    fn asked(&mut self, reports: &[Report], second: u64) -> Vec<String> {
        self.take_calls();
        let reports: Vec<_> = reports.iter().map(|it| (SHOP, it.clone())).collect();
        self.turn(&reports, second);
        let calls = self.take_calls().into_iter().map(|(_, call)| call);
        let is_it = |call: &String| call.starts_with("failure") || call == "read pods";
        calls.filter(is_it).collect()
    }

    /// The Events about a wake, and the troubles that the sockets know of, of a turn.
    fn said(&mut self, reports: &[Report], second: u64) -> Vec<String> {
        self.take_calls();
        let reports: Vec<_> = reports.iter().map(|it| (SHOP, it.clone())).collect();
        self.turn(&reports, second);
        let calls = self.take_calls().into_iter().map(|(_, call)| call);
        let is_it = |call: &String| call.starts_with("Event Wake") || call.starts_with("trouble");
        calls.filter(is_it).collect()
    }
}

/// The pods show that waiting is in vain, or nothing.
fn read(is_bad: bool) -> Report {
    let problem = is_bad.then(|| PodProblem {
        reason: "InvalidImageName",
        text: "pod a: InvalidImageName".to_owned(),
        uid: "a".to_owned(),
        persistence: Persistence::Lasts,
        others_start: false,
    });
    let uids = ["a".to_owned()].into();
    Report::PodsRead(PodsRead { problem, uids })
}

fn status(generation: u64) -> Report {
    Report::TargetStatus(target(generation))
}

/// A quota allows no pod.
fn quota() -> Report {
    Report::TargetStatus(TargetStatus {
        condition_messages: vec!["exceeded quota".to_owned()],
        is_creation_refused: true,
        ..target(1)
    })
}

fn target(generation: u64) -> TargetStatus {
    TargetStatus {
        kind: "Deployment".to_owned(),
        uid: String::new(),
        ready: 0,
        wanted: 1,
        generation: Some(generation),
        condition_messages: Vec::new(),
        is_creation_refused: false,
        selector: "app=shop".to_owned(),
        rollout: None,
    }
}

#[test]
fn what_lasts_lets_clients_go_for_five_seconds_and_the_next_has_the_pods_read() {
    let mut rig = starting();
    assert_eq!(rig.asked(&[], 5), ["read pods"]);
    assert_eq!(rig.asked(&[read(true)], 5), [FAILURE]);
    rig.count(SHOP, 0);
    assert!(rig.asked(&[], 9).is_empty());
    assert_eq!(rig.proxy.poll_timeout(), Some(at(10)));
    assert_eq!(rig.asked(&[], 10), [NO_FAILURE], "who comes is held now");
    assert!(rig.asked(&[], 100).is_empty(), "nobody comes");
    rig.count(SHOP, 1);
    assert_eq!(rig.asked(&[], 100), ["read pods"], "for who has come");
    assert_eq!(rig.asked(&[read(true)], 100), [FAILURE]);
    rig.count(SHOP, 0);
    assert_eq!(rig.asked(&[], 105), [NO_FAILURE]);
    rig.count(SHOP, 1);
    assert_eq!(rig.asked(&[], 106), ["read pods"]);
    assert!(rig.asked(&[read(false)], 106).is_empty(), "it is mended");
}

#[test]
fn a_change_of_the_target_or_of_its_endpoints_has_the_pods_read_at_once() {
    let mut rig = starting();
    rig.asked(&[status(1)], 4);
    assert_eq!(rig.asked(&[], 5), ["read pods"]);
    assert_eq!(rig.asked(&[read(true)], 5), [FAILURE]);
    rig.count(SHOP, 0);
    assert_eq!(rig.asked(&[status(2)], 7), ["read pods", NO_FAILURE]);
    assert_eq!(rig.asked(&[read(true)], 7), [FAILURE], "not mended yet");
    let pod = Pod {
        uid: "b".to_owned(),
        unready_addresses: vec![([10, 0, 0, 2], 80).into()],
        ..Pod::default()
    };
    let pods = vec![pod];
    let endpoints = Report::Pods { port: 0, pods };
    let asked = rig.asked(std::slice::from_ref(&endpoints), 9);
    assert_eq!(asked, ["read pods", NO_FAILURE]);
    assert!(rig.asked(&[endpoints, read(false)], 9).is_empty());
    assert!(rig.asked(&[], 100).is_empty(), "and then no more");
}

/// Those who come meanwhile wait: nothing is known of the pods.
#[test]
fn while_the_pods_cannot_be_read_they_are_asked_for_less_and_less_often() {
    let mut rig = starting();
    rig.asked(&[], 5);
    rig.asked(&[read(true)], 5);
    let mut reads = Vec::new();
    for second in 10..120 {
        rig.count(SHOP, 1);
        if rig.asked(&[], second).contains(&"read pods".to_owned()) {
            reads.push(second);
        }
    }
    assert_eq!(reads, [10, 15, 25, 45, 75, 105]);
}

#[test]
fn a_quota_is_an_event_once_it_takes_long_and_one_more_when_clients_are_let_go() {
    const SLOW: &str = "Event WakeSlow: exceeded quota";
    const TROUBLE: &str = "trouble: Some(\"the API server refuses its pods\")";
    let mut waits = starting_with(false, None);
    assert_eq!(waits.said(&[quota()], 3), [TROUBLE]);
    assert!(waits.said(&[], 12).is_empty());
    assert_eq!(waits.said(&[], 13), [SLOW]);
    // What is logged is another reason.
    let listed = Report::Synced(Some(AddressSource::EndpointSlices));
    assert!(waits.said(&[listed], 200).is_empty(), "the same quota");
    assert_eq!(waits.said(&[status(2)], 201), ["trouble: None"]);
    let mut lets_go = starting();
    lets_go.said(&[quota()], 2);
    let said = lets_go.said(&[], 12);
    let given_up = "Event WakeFailed: clients are let go, because the app cannot start (the API \
                    server refuses its pods): ";
    assert!(said[0].starts_with(given_up), "{said:?}");
    assert!(said[0].ends_with("exceeded quota"), "{said:?}");
    assert_eq!(lets_go.said(&[], 13), [SLOW]);
}

#[test]
fn what_the_pods_show_is_an_event_and_a_trouble_until_the_wake_ends() {
    const SLOW: &str = "Event WakeSlow: pod a: InvalidImageName";
    const TROUBLE: &str = "trouble: Some(\"InvalidImageName\")";
    let mut rig = starting_with(false, None);
    rig.said(&[], 12);
    assert_eq!(rig.said(&[read(true)], 12), [SLOW, TROUBLE]);
    assert!(rig.said(&[read(true)], 13).is_empty(), "the same");
    assert_eq!(rig.said(&[pods(0)], 14), ["trouble: None"]);
}

/// It has been woken by somebody else.
#[test]
fn a_dry_run_writes_no_event_about_a_slow_wake() {
    let config = Config {
        dry_run: true,
        ..Config::default()
    };
    for is_bad in [true, false] {
        let mut rig = starting_with(true, Some(config.clone()));
        let mut said = rig.said(&[if is_bad { status(1) } else { quota() }], 3);
        for second in 4..40 {
            let read = is_bad.then(|| read(true));
            said.extend(rig.said(read.as_slice(), second));
        }
        assert!(said.iter().any(|it| it.starts_with("trouble")), "{said:?}");
        assert!(!said.iter().any(|it| it.starts_with("Event")), "{said:?}");
    }
}
