use super::*;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A sleeping app.
const ASLEEP: Inputs<'_> = Inputs {
    phase: "asleep",
    state: State::Asleep,
    waiting_since: None,
    from_zero: false,
    replicas: Some(0),
    waiting: 0,
    forwarded: 5,
    held_too_long: 2,
    wake_failed: 0,
    lease: None,
};

/// A connection has come.
fn waking(since: u64) -> Inputs<'static> {
    Inputs {
        phase: "waking",
        state: State::Waking,
        waiting_since: Some(at(since)),
        from_zero: true,
        waiting: 1,
        ..ASLEEP
    }
}

/// Replicas were written, and no pod is ready yet.
fn starting(since: u64) -> Inputs<'static> {
    Inputs {
        phase: "starting",
        from_zero: false,
        replicas: Some(1),
        ..waking(since)
    }
}

/// A pod is ready.
fn awake() -> Inputs<'static> {
    Inputs {
        phase: "awake",
        state: State::Awake,
        replicas: Some(1),
        waiting: 1,
        ..ASLEEP
    }
}

const WOKE: Change = Change::AddressReady {
    took: Duration::ZERO,
    held: 1,
};

/// A journal at 1,000 ms, when a connection has come, and a pod is ready at 3,200.
fn woken() -> Journal {
    let mut journal = Journal::new(at(0));
    journal.update(&ASLEEP, at(500));
    journal.update(&waking(1_000), at(1_000));
    journal.record(Change::WakeWritten { replicas: 1 }, at(1_200));
    journal.update(&starting(1_000), at(1_200));
    journal.record(WOKE, at(3_200));
    journal.update(&awake(), at(3_200));
    journal
}

#[test]
fn a_wake_has_the_duration_of_each_of_its_parts() {
    let mut journal = woken();
    assert_eq!(journal.wakes().count(), 0, "nobody is served yet");
    let served = Inputs {
        waiting: 0,
        forwarded: 6,
        ..awake()
    };
    journal.update(&served, at(3_250));
    let wake = Wake {
        since: at(1_000),
        took: ms(2_250),
        api: Some(ms(200)),
        pod: Some(ms(2_000)),
        dial: Some(ms(50)),
        result: WakeResult::Served,
    };
    assert_eq!(journal.wakes().collect::<Vec<_>>(), [&wake]);
    let WakeParts { api, pod, dial } = journal.parts();
    let sums = [api, pod, dial].map(Histogram::sum);
    assert_eq!(sums, [ms(200), ms(2_000), ms(50)]);
    assert_eq!(
        journal.results(),
        [
            (["served"], 1),
            (["timed_out"], 0),
            (["failed"], 0),
            (["abandoned"], 0)
        ]
    );
    journal.update(&served, at(9_000));
    assert_eq!(journal.wakes().count(), 1, "it has ended once");
}

#[test]
fn a_wake_for_which_nobody_waits_any_more_was_abandoned_or_has_timed_out_or_failed() {
    for (label, held_too_long, wake_failed, result) in [
        ("they have left", 2, 0, WakeResult::Abandoned),
        ("one was reset at the limit", 3, 0, WakeResult::TimedOut),
        ("one was let go", 2, 1, WakeResult::Failed),
        ("one each", 3, 1, WakeResult::TimedOut),
    ] {
        let mut journal = woken();
        let gone = Inputs {
            waiting: 0,
            held_too_long,
            wake_failed,
            ..awake()
        };
        journal.update(&gone, at(4_000));
        let wake = journal.wakes().next().unwrap();
        assert_eq!((wake.result, wake.dial), (result, None), "{label}");
        assert_eq!(wake.pod, Some(ms(2_000)), "{label}");
    }
}

#[test]
fn a_wake_that_never_leads_to_a_pod_has_the_parts_that_it_came_to() {
    let mut journal = Journal::new(at(0));
    journal.update(&waking(1_000), at(1_000));
    journal.record(Change::WakeWritten { replicas: 1 }, at(1_200));
    journal.update(&starting(1_000), at(1_200));
    let lost = Inputs {
        waiting: 0,
        held_too_long: 3,
        ..starting(1_000)
    };
    journal.update(&lost, at(61_000));
    assert_eq!(journal.wakes().count(), 0, "the app is still being woken");
    let over = Inputs {
        phase: "confirming_idle",
        waiting_since: None,
        ..lost
    };
    journal.update(&over, at(90_000));
    let wake = journal.wakes().next().unwrap();
    assert_eq!(wake.result, WakeResult::TimedOut);
    assert_eq!((wake.api, wake.pod, wake.dial), (Some(ms(200)), None, None));
    assert_eq!(wake.took, ms(89_000));
}

#[test]
fn an_app_that_has_no_ready_pod_for_a_moment_is_not_woken() {
    let mut journal = Journal::new(at(0));
    journal.update(&starting(1_000), at(1_000));
    journal.record(WOKE, at(1_300));
    let served = Inputs {
        waiting: 0,
        forwarded: 6,
        ..awake()
    };
    journal.update(&served, at(1_300));
    assert_eq!(journal.wakes().count(), 0);
    assert!(journal.results().iter().all(|(_, count)| *count == 0));
}

#[test]
fn the_last_wakes_are_kept_and_all_are_counted() {
    let mut journal = Journal::new(at(0));
    for n in 0..100 {
        journal.update(&waking(n * 10_000), at(n * 10_000));
        journal.record(Change::WakeWritten { replicas: 1 }, at(n * 10_000));
        journal.record(WOKE, at(n * 10_000));
        let served = Inputs {
            forwarded: 6 + n,
            ..awake()
        };
        journal.update(&served, at(n * 10_000 + 1));
        let closed = Inputs {
            forwarded: 6 + n,
            ..ASLEEP
        };
        journal.update(&closed, at(n * 10_000 + 2));
    }
    // The count at the beginning of each wake is that of the inputs before.
    assert_eq!(journal.wakes().count(), WAKES_KEPT);
    assert_eq!(journal.wakes().next_back().unwrap().since, at(990_000));
    assert_eq!(journal.results()[0], (["served"], 100));
}

#[test]
fn who_has_scaled_last_is_known() {
    let mut journal = Journal::new(at(0));
    assert_eq!(journal.scaled(), None);
    for (change, by, replicas) in [
        (Change::WakeWritten { replicas: 2 }, Scaler::Us, 2),
        (Change::SleepWritten { idle: ms(1) }, Scaler::Us, 0),
        (
            Change::ScaledByOthers {
                from_zero: true,
                replicas: 3,
                open: 0,
            },
            Scaler::Others,
            3,
        ),
    ] {
        journal.record(change, at(7));
        let at = at(7);
        assert_eq!(journal.scaled(), Some(Scaled { by, replicas, at }));
    }
    journal.record(WOKE, at(8));
    assert_eq!(
        journal.scaled().unwrap().at,
        at(7),
        "no change of the scale"
    );
}

#[test]
fn the_phase_and_the_lease_have_the_time_since_which_they_are_so() {
    let mut journal = Journal::new(at(0));
    let leased = |lease| Inputs {
        lease: Some(lease),
        ..ASLEEP
    };
    journal.update(&leased("a"), at(1));
    journal.update(&leased("a"), at(2));
    assert_eq!(journal.phase_since(), at(1));
    assert_eq!(journal.lease().unwrap().at, at(1));
    journal.update(&leased("b"), at(3));
    assert_eq!(journal.lease().unwrap().at, at(3));
    journal.update(&ASLEEP, at(4));
    let SeenLease { token, at: seen } = journal.lease().unwrap();
    assert_eq!((token.as_str(), *seen), ("b", at(3)), "it is the last one");
}
