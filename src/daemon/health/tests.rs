use super::*;
use crate::cluster::Scale;

const ASLEEP: Context = Context {
    store: Some(LeaseStore::Status),
    has_static_backend: false,
    is_pods_first: true,
    has_replicas: false,
};

fn at(seconds: u64) -> Time {
    Time::new(Duration::from_secs(seconds))
}

fn scale() -> Outcome {
    Outcome::Scale(Scale::of(0, "1"))
}

fn refusal(permission: Permission) -> Refusal {
    Refusal {
        why: "403 no".into(),
        fallback: permission.fallback(),
    }
}

/// What has seen the Deployment and the endpoints.
fn well() -> Health {
    let mut health = Health::default();
    health.replied(None, &scale());
    health.synced(Some(AddressSource::EndpointSlices));
    health
}

fn unready(health: &Health, context: Context, seconds: u64) -> Vec<String> {
    health.unready("default/app", context, false, at(seconds))
}

/// A permission was refused in these seconds.
fn refused(permission: Permission, seconds: &[u64]) -> Health {
    let mut health = well();
    for &second in seconds {
        health.permission(permission, Some(refusal(permission)), at(second));
    }
    health
}

#[test]
fn it_is_ready_once_it_has_seen_the_deployment_and_the_endpoints_and_not_before() {
    let mut health = Health::default();
    health.replied(None, &Outcome::Unreachable);
    health.synced(None);
    health.trouble("cannot be reached".into(), at(1));
    assert_eq!(
        unready(&health, ASLEEP, 1),
        [
            "the scale target default/app was not read yet",
            "the addresses of the pods were not listed yet",
            "cannot be reached"
        ]
    );
    health.replied(None, &scale());
    assert_eq!(unready(&health, ASLEEP, 2).len(), 2);
    health.synced(Some(AddressSource::EndpointSlices));
    assert!(unready(&health, ASLEEP, 3).is_empty());
}

#[test]
fn without_a_service_it_is_not_ready_unless_a_target_is_set() {
    let target = Context {
        has_static_backend: true,
        is_pods_first: false,
        ..ASLEEP
    };
    let mut health = well();
    let typo = "the Service default/typo does not exist".to_owned();
    health.no_address(0, Some(NoAddress::ServiceMissing(typo)));
    assert_eq!(
        unready(&health, ASLEEP, 1),
        ["the Service default/typo does not exist"]
    );
    assert!(unready(&health, target, 1).is_empty());
    health.no_address(0, None);
    assert!(unready(&health, ASLEEP, 2).is_empty());
}

#[test]
fn once_ready_no_outage_ends_it() {
    let mut health = well();
    health.replied(None, &Outcome::Unreachable);
    health.synced(None);
    assert!(unready(&health, ASLEEP, 1_000_000).is_empty());
    assert_eq!(health.source(), Some(AddressSource::EndpointSlices));
    assert!(!health.is_synced());
}

#[test]
fn a_thread_that_has_panicked_ends_it_until_it_has_run_for_as_long_as_it_paused() {
    let mut health = well();
    let panic = ThreadPanic {
        thread: "zpa-endpoints",
        why: "index out of\nbounds".into(),
        pause: Duration::from_secs(4),
    };
    health.panicked(&panic, at(100));
    for (label, now, ready) in [
        ("at once", 100, false),
        ("while it pauses", 103, false),
        ("just started", 104, false),
        ("not for long enough", 107, false),
        ("for as long as it paused", 108, true),
    ] {
        let reasons = unready(&health, ASLEEP, now);
        assert_eq!(reasons.is_empty(), ready, "{label}: {reasons:?}");
    }
    health.panicked(&panic, at(200));
    assert_eq!(
        unready(&health, ASLEEP, 200),
        ["the thread zpa-endpoints has panicked, which is a bug: index out of bounds"]
    );
}

/// Each permission alone, and with the one that is asked for in its place.
#[test]
fn a_permission_that_is_refused_for_good_and_has_no_way_round_ends_it() {
    let alternatives = ALTERNATIVES.map(|(first, second)| (first, Some(second)));
    let alone = Permission::ALL.map(|permission| (permission, None));
    for (permission, alternative) in alone.into_iter().chain(alternatives) {
        let mut health = well();
        for second in [100, 110, 120, 130] {
            assert!(unready(&health, ASLEEP, second).is_empty(), "{permission}");
            for permission in [Some(permission), alternative].into_iter().flatten() {
                health.permission(permission, Some(refusal(permission)), at(second));
            }
        }
        let named = match permission {
            Permission::PatchScale | Permission::WatchEndpoints => true,
            Permission::GetTarget => alternative.is_some(),
            _ => false,
        };
        let label = format!("{permission}, {alternative:?}");
        let expected = format!("not allowed for 30s to {permission}: 403 no");
        let reasons: Vec<_> = named.then_some(expected).into_iter().collect();
        assert_eq!(unready(&health, ASLEEP, 130), reasons, "{label}");
        health.permission(permission, None, at(131));
        assert!(unready(&health, ASLEEP, 131).is_empty(), "{label}: granted");
    }
}

#[test]
fn a_refusal_is_confirmed_when_it_was_repeated_and_forgotten_when_it_is_not() {
    for (label, refusals, now, ready) in [
        ("just now", &[100][..], 100, true),
        ("for 29 s", &[100, 129], 129, true),
        ("for 30 s", &[100, 115, 130], 130, false),
        ("not tried again at 30 s", &[100, 115], 130, true),
        ("with a gap between", &[100, 130], 130, true),
        ("still", &[100, 115, 130], 175, false),
        ("not tried for 46 s", &[100, 115, 130], 176, true),
        ("again after that", &[100, 115, 130, 300], 300, true),
        (
            "and again for long enough",
            &[100, 300, 315, 330],
            330,
            false,
        ),
    ] {
        let health = refused(Permission::PatchScale, refusals);
        assert_eq!(unready(&health, ASLEEP, now).is_empty(), ready, "{label}");
    }
}

#[test]
fn an_outage_has_the_time_until_belief_begin_again_for_the_permission_it_was_met_with() {
    let (scale, status) = (Permission::PatchScale, Permission::PatchStatus);
    for (label, met_with, outcome, ready) in [
        ("unreachable", Some(scale), Outcome::Unreachable, true),
        ("401", Some(scale), Outcome::Unauthorized, true),
        (
            "no reply",
            Some(scale),
            Outcome::Unknown { retry_after: None },
            true,
        ),
        (
            "429",
            Some(scale),
            Outcome::Busy { retry_after: None },
            true,
        ),
        ("refused", Some(scale), Outcome::Forbidden, false),
        ("a reply too late", None, Outcome::Unreachable, false),
        (
            "a renewal that hangs",
            Some(status),
            Outcome::Unreachable,
            false,
        ),
    ] {
        let mut health = refused(scale, &[100, 115]);
        health.replied(met_with, &outcome);
        health.permission(scale, Some(refusal(scale)), at(130));
        assert_eq!(unready(&health, ASLEEP, 130).is_empty(), ready, "{label}");
        health.permission(scale, Some(refusal(scale)), at(145));
        health.permission(scale, Some(refusal(scale)), at(160));
        assert!(!unready(&health, ASLEEP, 160).is_empty(), "{label}");
    }
}

#[test]
fn what_is_confirmed_outlasts_an_outage() {
    let mut health = refused(Permission::PatchScale, &[100, 115, 130]);
    health.interrupted(Permission::PatchScale);
    assert!(!unready(&health, ASLEEP, 131).is_empty());
}

#[test]
fn an_app_that_is_up_can_be_served_without_the_permission_to_scale_it() {
    let permission = Permission::PatchScale;
    let health = refused(permission, &[100, 115, 130]);
    let awake = Context {
        has_replicas: true,
        ..ASLEEP
    };
    assert!(unready(&health, awake, 130).is_empty());
    assert!(health.fallback(permission, awake).is_some());
    assert_eq!(unready(&health, ASLEEP, 130).len(), 1);
    assert!(health.fallback(permission, ASLEEP).is_none());
}

#[test]
fn with_a_target_the_endpoints_can_be_done_without() {
    let permission = Permission::WatchEndpoints;
    let mut health = Health::default();
    health.replied(None, &scale());
    health.permission(permission, Some(refusal(permission)), at(1));
    let target = Context {
        has_static_backend: true,
        is_pods_first: false,
        ..ASLEEP
    };
    assert_eq!(unready(&health, target, 1).len(), 1, "not trusted yet");
    assert!(health.unready("app", target, true, at(9)).is_empty());
    assert!(health.fallback(permission, target).is_some());
    assert!(health.fallback(permission, ASLEEP).is_none());
}

#[test]
fn the_way_of_renewing_is_what_the_policy_says_it_is() {
    let permissions = [Permission::PatchStatus, Permission::PatchTarget];
    let mut health = well();
    for permission in permissions {
        health.permission(permission, Some(refusal(permission)), at(1));
    }
    for (label, store, fallbacks) in [
        (
            "not confirmed yet",
            Some(LeaseStore::Status),
            [false, false],
        ),
        (
            "by an annotation",
            Some(LeaseStore::Annotation),
            [true, false],
        ),
        ("nowhere", None, [true, false]),
    ] {
        let context = Context { store, ..ASLEEP };
        let in_force = permissions.map(|permission| health.fallback(permission, context).is_some());
        assert_eq!(in_force, fallbacks, "{label}");
        assert!(unready(&health, context, 46).is_empty(), "{label}");
    }
}
