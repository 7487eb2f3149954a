//! Permissions that are refused, for a moment and for good.

use super::*;

#[test]
fn a_refusal_of_a_moment_at_the_start_delays_nobody_and_warns_nobody() {
    let mut rig = Rig::http();
    rig.forbidden = vec!["services", "endpointslices", "endpoints"];
    rig.step();
    rig.step();
    rig.step();
    rig.forbidden.clear();
    let start = rig.now;
    assert_eq!(rig.watch().0, SLICES);
    assert!(rig.now.since(start) <= Duration::from_secs(1));
    assert_eq!(rig.synced().last(), Some(&Some(SLICES)));
    assert!(rig.reports.contains(&fallback("10.96.3.4:80")));
    let granted = |permission| (permission, false, false);
    assert!(
        rig.permissions()
            .contains(&granted(Permission::WatchSlices))
    );
    assert!(rig.permissions().contains(&granted(Permission::GetService)));
    assert!(
        !rig.permissions()
            .iter()
            .any(|it| it.0 == Permission::WatchEndpoints)
    );
}

#[test]
fn with_all_permissions_gone_it_names_the_one_that_the_role_has_and_asks_every_few_seconds() {
    let mut rig = Rig::http();
    rig.watch();
    rig.forbidden = vec!["services", "endpointslices", "endpoints"];
    rig.reports.clear();
    rig.asked.clear();
    rig.handle(WatcherInput::Broken("reset".into()));
    rig.live_until(29);
    assert_eq!(rig.warnings().len(), 1, "{:?}", rig.log);
    let unconfirmed = rig.asked.len();
    assert!(
        (30..=60).contains(&unconfirmed),
        "{unconfirmed} requests in 29 s"
    );
    rig.live_until(90);
    let errors: Vec<_> = rig
        .log
        .iter()
        .filter(|(level, _)| *level == Level::Error)
        .collect();
    assert_eq!(errors.len(), 1, "once it is confirmed: {errors:?}");
    assert!(
        errors[0].1.contains("403 endpointslices is forbidden"),
        "{errors:?}"
    );
    let asked = rig
        .asked
        .iter()
        .filter(|(second, _)| (31..91).contains(second))
        .count();
    assert!((12..=24).contains(&asked), "{asked} requests a minute");
    let named: Vec<_> = rig.permissions();
    assert!(
        named.contains(&(Permission::WatchSlices, true, false)),
        "{named:?}"
    );
    assert!(
        !named.iter().any(|it| it.0 == Permission::WatchEndpoints),
        "{named:?}"
    );

    rig.forbidden.clear();
    let back = rig.now;
    assert_eq!(rig.watch().0, SLICES);
    assert!(
        rig.now.since(back) <= Duration::from_secs(5),
        "ready within seconds"
    );
    let last = rig
        .permissions()
        .into_iter()
        .rev()
        .find(|it| it.0 == Permission::WatchSlices);
    assert_eq!(last, Some((Permission::WatchSlices, false, false)));
    let service = rig
        .permissions()
        .into_iter()
        .rev()
        .find(|it| it.0 == Permission::GetService);
    assert_eq!(
        service,
        Some((Permission::GetService, false, false)),
        "permissions come together"
    );
}

#[test]
fn where_slices_are_refused_endpoints_stand_in_at_once_and_slices_are_tried_again() {
    let mut rig = Rig::http();
    rig.forbidden = vec!["endpointslices"];
    let (source, seconds) = rig.watch();
    assert_eq!(
        (source, rig.second()),
        (ENDPOINTS, 0),
        "nobody waits for 30 s"
    );
    assert!(seconds <= 2, "a refusal of a moment is tried again soon");
    assert_eq!(rig.warnings(), [""; 0], "and not confirmed yet");
    rig.live_until(29);
    assert_eq!(rig.warnings(), [""; 0]);
    rig.live_until(70);
    let warning = "EndpointSlices cannot be watched (403 endpointslices is forbidden): \
                watching v1 Endpoints";
    assert_eq!(rig.warnings(), [warning], "once");
    let tried = |rig: &Rig, from, to| {
        let slices = rig
            .asked
            .iter()
            .filter(|(_, what)| *what == "endpointslices");
        slices
            .filter(|(second, _)| (from..to).contains(second))
            .count()
    };
    assert!((4..=12).contains(&tried(&rig, 0, 31)), "{:?}", rig.asked);
    rig.live_until(670);
    assert!((1..=3).contains(&tried(&rig, 71, 670)), "{:?}", rig.asked);
    let slices = Permission::WatchSlices;
    assert_eq!(rig.permissions().last(), Some(&(slices, true, true)));
    assert_eq!(rig.synced(), [Some(ENDPOINTS)], "without a break");
    rig.forbidden.clear();
    rig.live_until(990);
    assert_eq!(rig.synced(), [Some(ENDPOINTS), Some(SLICES)]);
    assert_eq!(rig.permissions().last(), Some(&(slices, false, false)));
}

#[test]
fn where_only_endpoints_were_ever_granted_their_permission_is_the_one_that_is_missed() {
    let mut rig = Rig::http();
    rig.forbidden = vec!["endpointslices"];
    rig.live_until(40);
    rig.forbidden.push("endpoints");
    rig.handle(WatcherInput::Relist);
    rig.live_until(50);
    let missing: Vec<_> = rig.permissions().into_iter().filter(|it| !it.2).collect();
    assert!(
        missing.contains(&(Permission::WatchEndpoints, true, false)),
        "{missing:?}"
    );
    assert!(
        !missing.iter().any(|it| it.0 == Permission::WatchSlices),
        "{missing:?}"
    );
}

#[test]
fn a_401_is_no_missing_permission_and_no_reason_for_endpoints() {
    let mut rig = Rig::http();
    rig.service = Some(refused(401));
    for _ in 0..20 {
        rig.step();
    }
    rig.service = None;
    rig.watch();
    let only = |what: &str| {
        rig.asked
            .iter()
            .all(|(_, asked)| *asked == what || *asked == "services")
    };
    assert!(only("endpointslices"), "{:?}", rig.asked);
    rig.handle(WatcherInput::Relist);
    rig.step();
    for _ in 0..20 {
        match rig.action {
            ReflectorAction::List(_) => rig.handle(WatcherInput::Page(refused(401))),
            _ => rig.step(),
        }
    }
    assert_eq!(rig.permissions(), []);
    assert!(rig.asked.iter().all(|(_, what)| *what != "endpoints"));
    assert_eq!(rig.synced(), [None, Some(SLICES), None]);
}

#[test]
fn the_service_is_done_without_while_it_may_not_be_read_and_read_once_it_may() {
    let mut rig = Rig::http();
    rig.forbidden = vec!["services"];
    let (source, seconds) = rig.watch();
    assert_eq!((source, rig.second()), (SLICES, 0));
    assert!(seconds <= 2, "tried again soon: {seconds}");
    rig.live_until(29);
    assert_eq!(rig.warnings(), [""; 0]);
    rig.live_until(100);
    let warning = "the Service cannot be read (403 services is forbidden): if no pod answers, its \
                cluster IP will not be tried";
    assert_eq!(rig.warnings(), [warning], "once it has lasted");
    let lists = rig
        .asked
        .iter()
        .filter(|(_, what)| *what == "endpointslices")
        .count();
    assert_eq!(lists, 1, "reading the Service again takes no list");
    rig.forbidden.clear();
    rig.live_until(500);
    assert!(rig.reports.contains(&fallback("10.96.3.4:80")));
    assert_eq!(
        rig.permissions().last(),
        Some(&(Permission::GetService, false, false))
    );
}

#[test]
fn every_report_of_a_refusal_says_why_in_the_servers_words() {
    let mut rig = Rig::http();
    rig.forbidden = vec!["services", "endpointslices", "endpoints"];
    rig.live_until(3);
    let whys = rig.reports.iter().filter_map(|report| match report {
        Report::Permission {
            refusal: Some(Refusal { why, .. }),
            ..
        } => Some(why.as_str()),
        _ => None,
    });
    let whys: Vec<_> = whys.collect();
    assert!(whys.len() > 3);
    assert!(
        whys.iter().all(|why| why.contains("is forbidden")),
        "{whys:?}"
    );
}

/// The permission is refused until that second and then there is an outage; refused again
/// afterwards.
fn outage_at(rig: &mut Rig, what: &'static str, second: u64) {
    rig.forbidden = vec![what];
    rig.live_until(second);
    rig.forbidden.clear();
    let asked = rig.asked.len();
    let is_due = |rig: &Rig| match &rig.action {
        ReflectorAction::Get(_) => what == "services",
        ReflectorAction::List(path) => what == name(source(path)),
        _ => false,
    };
    while !is_due(rig) {
        assert!(rig.asked.len() < asked + 10, "{:?}", rig.asked);
        match rig.action {
            ReflectorAction::Read => rig.handle(WatcherInput::Ended),
            _ => rig.step(),
        }
    }
    match rig.action {
        ReflectorAction::Get(_) => rig.handle(WatcherInput::Object(refused(503))),
        _ => rig.handle(WatcherInput::Page(refused(503))),
    }
    rig.forbidden = vec![what];
}

#[test]
fn an_outage_between_has_the_time_until_a_refusal_is_confirmed_begin_again() {
    for what in ["services", "endpointslices"] {
        let mut rig = Rig::http();
        outage_at(&mut rig, what, 8);
        let outage = rig.second();
        let unconfirmed = rig.log.len();
        rig.live_until(outage + 30);
        let since: Vec<_> = rig.log[unconfirmed..]
            .iter()
            .map(|(level, _)| level)
            .collect();
        assert!(
            since.iter().all(|level| **level > Level::Warn),
            "{what}: {:?}",
            rig.log
        );
        rig.live_until(90);
        let since = &rig.log[unconfirmed..];
        let warned = since.iter().filter(|(level, _)| *level == Level::Warn);
        assert_eq!(warned.count(), 1, "{what}: {:?}", rig.log);
    }
}
