use super::*;
use crate::cluster::Scale;

const ASLEEP: Context = Context {
    store: Some(LeaseStore::Status),
    has_target: false,
    is_pods_first: true,
    is_up: false,
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
    health.replied(&scale(), at(0));
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
    health.replied(&Outcome::Unreachable, at(0));
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
    health.replied(&scale(), at(0));
    assert_eq!(unready(&health, ASLEEP, 2).len(), 2);
    health.synced(Some(AddressSource::EndpointSlices));
    assert!(unready(&health, ASLEEP, 3).is_empty());
}

#[test]
fn without_a_service_it_is_not_ready_unless_a_target_is_set() {
    let target = Context {
        has_target: true,
        is_pods_first: false,
        ..ASLEEP
    };
    let mut health = well();
    let typo = "the Service default/typo does not exist".to_owned();
    health.no_address(0, Some(NoAddress::NoService(typo)));
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
    health.replied(&Outcome::Unreachable, at(0));
    health.synced(None);
    assert!(unready(&health, ASLEEP, 1_000_000).is_empty());
    assert_eq!(health.source(), Some(AddressSource::EndpointSlices));
    assert!(!health.is_synced());
}

#[test]
fn a_thread_that_has_panicked_ends_it_until_it_has_run_for_as_long_as_it_paused() {
    let mut health = well();
    let panic = ThreadPanic {
        thread: "zpa-watch",
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
        ["the thread zpa-watch has panicked, which is a bug: index out of bounds"]
    );
}

/// Each permission alone, and with the one that is asked for in its place.
#[test]
fn a_permission_that_is_refused_for_good_and_has_no_way_round_ends_it() {
    let substitutes = SUBSTITUTES.map(|(first, second)| (first, Some(second)));
    let alone = Permission::ALL.map(|permission| (permission, None));
    for (permission, substitute) in alone.into_iter().chain(substitutes) {
        let mut health = well();
        for second in [100, 110, 120, 130] {
            for permission in [Some(permission), substitute].into_iter().flatten() {
                health.permission(permission, Some(refusal(permission)), at(second));
            }
        }
        let named = match permission {
            Permission::PatchScale | Permission::WatchEndpoints => true,
            Permission::GetTarget => substitute.is_some(),
            _ => false,
        };
        let label = format!("{permission}, {substitute:?}");
        let expected = format!("not allowed for 30s to {permission}: 403 no");
        let reasons: Vec<_> = named.then_some(expected).into_iter().collect();
        assert_eq!(unready(&health, ASLEEP, 130), reasons, "{label}");
        assert_eq!(
            unready(&health, ASLEEP, 129),
            Vec::<String>::new(),
            "{label}"
        );
        health.permission(permission, None, at(131));
        assert!(unready(&health, ASLEEP, 131).is_empty(), "{label}: granted");
    }
}

#[test]
fn a_refusal_is_believed_when_it_was_repeated_and_forgotten_when_it_is_not() {
    for (label, refusals, now, ready) in [
        ("just now", &[100][..], 100, true),
        ("for 29 s", &[100, 129], 129, true),
        ("for 30 s", &[100, 120], 130, false),
        ("still", &[100, 130, 160], 205, false),
        ("not tried for 46 s", &[100, 130, 160], 206, true),
        ("again after that", &[100, 130, 160, 300], 300, true),
        ("and again for long enough", &[100, 300, 330], 330, false),
    ] {
        let health = refused(Permission::PatchScale, refusals);
        assert_eq!(unready(&health, ASLEEP, now).is_empty(), ready, "{label}");
    }
}

#[test]
fn an_outage_has_the_time_until_belief_begin_again() {
    for outage in [
        Outcome::Unreachable,
        Outcome::Unauthorized,
        Outcome::Unknown { retry_after: None },
    ] {
        let mut health = refused(Permission::PatchScale, &[100, 120]);
        health.replied(&outage, at(121));
        health.permission(
            Permission::PatchScale,
            Some(refusal(Permission::PatchScale)),
            at(131),
        );
        assert!(unready(&health, ASLEEP, 131).is_empty(), "{outage:?}");
    }
}

#[test]
fn an_app_that_is_up_can_be_served_without_the_permission_to_scale_it() {
    let permission = Permission::PatchScale;
    let health = refused(permission, &[100, 130, 160]);
    let awake = Context {
        is_up: true,
        ..ASLEEP
    };
    assert!(unready(&health, awake, 160).is_empty());
    assert!(health.fallback(permission, awake).is_some());
    assert_eq!(unready(&health, ASLEEP, 160).len(), 1);
    assert!(health.fallback(permission, ASLEEP).is_none());
}

#[test]
fn with_a_target_the_endpoints_can_be_done_without() {
    let permission = Permission::WatchEndpoints;
    let mut health = Health::default();
    health.replied(&scale(), at(0));
    health.permission(permission, Some(refusal(permission)), at(1));
    let target = Context {
        has_target: true,
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
        ("not believed yet", Some(LeaseStore::Status), [false, false]),
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
