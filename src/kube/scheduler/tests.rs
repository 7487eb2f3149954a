mod detached;

use super::*;
use crate::cluster::{LeaseStore, Renewal, ResourceVersion, Scale};

fn write() -> Request {
    Request::WriteScale {
        replicas: 1,
        guard: ResourceVersion("10295".into()),
    }
}

fn to_zero() -> Request {
    Request::WriteScale {
        replicas: 0,
        guard: ResourceVersion("10295".into()),
    }
}

fn renewal() -> Request {
    Request::RenewLease(Renewal {
        nonce: 1,
        ttl: Duration::from_secs(300),
        in_use: true,
        previous_replicas: None,
        guard: None,
        store: LeaseStore::Status,
    })
}

const APP: AppKey = 1;

/// Returns the workers whose calls are cancelled.
fn put_for(scheduler: &mut Scheduler, app: AppKey, id: u64, request: Request) -> [bool; 2] {
    scheduler.put(Job { app, id, request })
}

fn put(scheduler: &mut Scheduler, id: u64, request: Request) {
    put_for(scheduler, APP, id, request);
}

/// Whether the reply of `worker` is reported.
fn done(scheduler: &mut Scheduler, worker: Worker) -> bool {
    let turn = scheduler.turn(worker);
    scheduler.done(turn, shown()).is_some()
}

fn ended(scheduler: &mut Scheduler, worker: Worker, outcome: Outcome) -> Option<Outcome> {
    let turn = scheduler.turn(worker);
    scheduler.done(turn, outcome)
}

fn shown() -> Outcome {
    Outcome::Scale(Scale::of(1, "10296"))
}

fn scheduler_with(request: Request) -> Scheduler {
    let mut scheduler = Scheduler::default();
    put(&mut scheduler, 1, request);
    scheduler
}

fn take(scheduler: &mut Scheduler, worker: Worker, ms: u64) -> Option<(u64, bool)> {
    match scheduler.next_assignment(worker, Time::from_millis(ms)) {
        Assignment::Execute { job, cancel_other } => Some((job.id, cancel_other)),
        _ => None,
    }
}

#[test]
fn the_worker_with_the_warm_connection_works_and_the_other_stands_by() {
    let mut scheduler = scheduler_with(Request::Read);
    assert_eq!(take(&mut scheduler, 1, 0), None);
    assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
    assert!(done(&mut scheduler, 0));
}

/// The worker that is to be started for the request of an app.
fn spare_for(scheduler: &mut Scheduler, id: u64, request: Request, ms: u64) -> Option<Worker> {
    put(scheduler, id, request);
    scheduler.start_spare_for(APP, Time::from_millis(ms))
}

#[test]
fn the_spare_worker_is_started_for_a_write_and_for_what_need_not_wait_for_another() {
    let first = || {
        let mut scheduler = Scheduler::default();
        assert_eq!(scheduler.start_worker(), Some(0));
        assert_eq!(scheduler.start_worker(), None);
        scheduler
    };
    for needs_it in [write(), renewal()] {
        let mut scheduler = first();
        assert_eq!(spare_for(&mut scheduler, 1, Request::Read, 0), None);
        assert_eq!(spare_for(&mut scheduler, 2, needs_it.clone(), 0), Some(1));
        assert_eq!(spare_for(&mut scheduler, 3, needs_it, 0), None, "it runs");
    }
    let mut scheduler = first();
    put(&mut scheduler, 1, Request::Read);
    assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
    let given_up = spare_for(&mut scheduler, 2, Request::Read, 5000);
    assert_eq!(given_up, Some(1), "the same app has given up the first");
    scheduler.not_started(1);
    let again = spare_for(&mut scheduler, 3, Request::Read, 5000);
    assert_eq!(again, Some(1), "it is tried again");
}

/// A wake that was given up has left its worker, and there was no thread for another.
#[test]
fn where_no_worker_runs_one_is_started_for_any_request() {
    let mut scheduler = Scheduler::default();
    for active in [0, 1] {
        scheduler.active = active;
        scheduler.not_started(0);
        scheduler.not_started(1);
        let started = spare_for(&mut scheduler, 1, Request::Read, 0);
        assert_eq!(started, Some(0));
        assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)), "{active}");
        assert!(done(&mut scheduler, 0));
    }
}

#[test]
fn the_spare_worker_is_started_for_what_was_queued_before_the_request_in_progress_began() {
    let mut scheduler = Scheduler::default();
    scheduler.start_worker();
    for app in [1, 2] {
        scheduler.set_waiting(app, true);
        put_for(&mut scheduler, app, app, Request::Read);
        assert_eq!(scheduler.start_spare_for(app, Time::from_millis(0)), None);
    }
    assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
    let spare = scheduler.start_spare_for_queued(Time::from_millis(0));
    assert_eq!(spare, Some(1));
    assert_eq!(take(&mut scheduler, 1, 4), Some((2, false)));
}

#[test]
fn the_spare_worker_ends_half_a_minute_after_it_was_needed() {
    let mut scheduler = Scheduler::default();
    scheduler.start_worker();
    assert_eq!(spare_for(&mut scheduler, 1, write(), 0), Some(1));
    assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
    assert!(done(&mut scheduler, 0));
    let mut rests = |ms| scheduler.next_assignment(1, Time::from_millis(ms));
    let left = |ms| Assignment::Wait(Some(Duration::from_millis(ms)));
    assert_eq!(rests(100), left(30_000));
    assert_eq!(rests(20_100), left(10_000));
    // Another write, which it may have to repeat.
    assert_eq!(spare_for(&mut scheduler, 2, write(), 25_000), None);
    assert_eq!(take(&mut scheduler, 0, 25_000), Some((2, false)));
    assert!(done(&mut scheduler, 0));
    let mut rests = |ms| scheduler.next_assignment(1, Time::from_millis(ms));
    assert_eq!(rests(30_100), left(30_000));
    assert_eq!(rests(60_100), Assignment::End);
    assert_eq!(spare_for(&mut scheduler, 3, write(), 61_000), Some(1));
}

#[test]
fn with_a_periodic_task_both_workers_run_all_the_time() {
    let mut scheduler = Scheduler::default();
    scheduler.start_worker();
    scheduler.set_periodic_task(Duration::from_secs(1), Time::from_millis(0));
    assert_eq!(scheduler.start_worker(), Some(1));
    for ms in [10_000, 100_000] {
        let next = scheduler.next_assignment(1, Time::from_millis(ms));
        assert_eq!(next, Assignment::PeriodicTask);
    }
}

#[test]
fn what_is_urgent_waits_4_ms_for_a_read_and_then_supersedes_it() {
    for urgent in [write(), renewal()] {
        let mut scheduler = scheduler_with(Request::Read);
        assert_eq!(take(&mut scheduler, 0, 100), Some((1, false)));
        put(&mut scheduler, 2, urgent);
        let left = Some(Duration::from_millis(1));
        assert_eq!(
            scheduler.next_assignment(1, Time::from_millis(103)),
            Assignment::Wait(left)
        );
        assert_eq!(take(&mut scheduler, 1, 104), Some((2, true)));
        assert!(!done(&mut scheduler, 0), "the read is superseded");
        assert!(done(&mut scheduler, 1));
        put(&mut scheduler, 3, Request::Read);
        let moved = take(&mut scheduler, 0, 160);
        assert_eq!(moved, None, "the warm connection is the other's");
        assert_eq!(take(&mut scheduler, 1, 160), Some((3, false)));
    }
}

#[test]
fn a_read_that_was_given_up_is_superseded_after_a_second_by_another() {
    let mut scheduler = scheduler_with(Request::Read);
    assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
    put(&mut scheduler, 2, Request::Read);
    let action = scheduler.next_assignment(1, Time::from_millis(999));
    assert_eq!(action, Assignment::Wait(Some(Duration::from_millis(1))));
    assert_eq!(take(&mut scheduler, 1, 1000), Some((2, true)));
    assert!(!done(&mut scheduler, 0));
    assert!(done(&mut scheduler, 1));
}

#[test]
fn while_a_superseded_read_lingers_its_successor_goes_on() {
    let mut scheduler = scheduler_with(Request::Read);
    take(&mut scheduler, 0, 0);
    put(&mut scheduler, 2, write());
    assert_eq!(take(&mut scheduler, 1, 50), Some((2, true)));
    assert!(done(&mut scheduler, 1));
    put(&mut scheduler, 3, Request::Read);
    assert_eq!(take(&mut scheduler, 1, 60), Some((3, false)));
}

#[test]
fn a_write_without_a_reply_for_a_second_is_sent_on_the_other_connection_too() {
    for (label, request, is_repeated) in [
        ("a wake", write(), true),
        ("a sleep", to_zero(), true),
        ("a renewal", renewal(), true),
        ("a read", Request::Read, false),
    ] {
        let mut scheduler = scheduler_with(request);
        assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)), "{label}");
        let action = scheduler.next_assignment(1, Time::from_millis(999));
        let left = is_repeated.then_some(Duration::from_millis(1));
        assert_eq!(action, Assignment::Wait(left), "{label}");
        let repeated = is_repeated.then_some((1, false));
        assert_eq!(take(&mut scheduler, 1, 1000), repeated, "{label}");
        assert!(
            done(&mut scheduler, 0),
            "{label}: the first may reply as well"
        );
        assert_eq!(
            take(&mut scheduler, 0, 3000),
            None,
            "{label}: not once more"
        );
    }
}

#[test]
fn of_two_replies_to_a_write_the_one_that_shows_the_scale_is_reported() {
    let (conflict, busy) = (Outcome::Conflict, Outcome::Busy { retry_after: None });
    for (label, first, reported, second, last) in [
        ("applied", shown(), Some(shown()), conflict.clone(), None),
        (
            "by the other one, perhaps",
            conflict.clone(),
            Some(UNKNOWN),
            shown(),
            None,
        ),
        (
            "refused, then applied",
            busy.clone(),
            None,
            shown(),
            Some(shown()),
        ),
        (
            "refused twice",
            busy.clone(),
            None,
            busy.clone(),
            Some(busy.clone()),
        ),
        (
            "perhaps applied, then not",
            UNKNOWN,
            None,
            conflict.clone(),
            Some(UNKNOWN),
        ),
        (
            "refused, then too late",
            busy,
            None,
            conflict.clone(),
            Some(conflict),
        ),
    ] {
        for workers in [[0, 1], [1, 0]] {
            let mut scheduler = scheduler_with(write());
            take(&mut scheduler, 0, 0);
            take(&mut scheduler, 1, 1000);
            let [one, other] = workers;
            assert_eq!(
                ended(&mut scheduler, one, first.clone()),
                reported,
                "{label}"
            );
            assert_eq!(
                scheduler.is_wanted(scheduler.turn(other)),
                reported.is_none(),
                "{label}"
            );
            assert_eq!(
                ended(&mut scheduler, other, second.clone()),
                last,
                "{label}"
            );
        }
    }
}

#[test]
fn a_write_that_hangs_on_both_connections_is_given_up_for_the_next_request() {
    let mut scheduler = scheduler_with(write());
    take(&mut scheduler, 0, 0);
    take(&mut scheduler, 1, 1000);
    let cancelled = put_for(&mut scheduler, APP, 2, Request::Read);
    assert_eq!(cancelled, [true, false], "the later one goes on");
    assert_eq!(scheduler.take_vacated(), [1]);
    assert_eq!(take(&mut scheduler, 1, 5000), Some((2, false)));
    assert!(!done(&mut scheduler, 0));
}

const OTHER: AppKey = 2;
const THIRD: AppKey = 3;

/// The requests of one worker, in the order in which it takes them.
fn taken_by(scheduler: &mut Scheduler, worker: Worker) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some((id, _)) = take(scheduler, worker, 0) {
        done(scheduler, worker);
        taken.push(id);
    }
    taken
}

#[test]
fn who_waits_comes_first_then_who_writes_and_each_in_order() {
    let mut scheduler = Scheduler::default();
    for (app, id, request) in [
        (1, 10, Request::Read),
        (2, 20, renewal()),
        (3, 30, Request::Read),
        (4, 40, write()),
        (5, 50, Request::Read),
        (6, 60, write()),
    ] {
        put_for(&mut scheduler, app, id, request);
    }
    scheduler.set_waiting(5, true);
    scheduler.set_waiting(6, true);
    scheduler.set_waiting(3, true);
    scheduler.set_waiting(3, false);
    assert_eq!(taken_by(&mut scheduler, 0), [50, 60, 20, 40, 10, 30]);
}

#[test]
fn a_newer_request_of_an_app_takes_the_place_of_its_older_one() {
    let mut scheduler = Scheduler::default();
    for (app, id) in [(1, 10), (2, 20), (1, 11)] {
        put_for(&mut scheduler, app, id, Request::Read);
    }
    assert_eq!(taken_by(&mut scheduler, 0), [11, 20]);
}

#[test]
fn the_spare_takes_after_4_ms_what_is_urgent_or_awaited_and_cancels_nothing() {
    for (label, request, is_waiting, is_taken) in [
        ("a wake", write(), true, true),
        ("a renewal", renewal(), false, true),
        ("a read that somebody waits for", Request::Read, true, true),
        ("a routine read", Request::Read, false, false),
    ] {
        for call in [Request::Read, write(), renewal()] {
            let mut scheduler = scheduler_with(call);
            take(&mut scheduler, 0, 0);
            let cancelled = put_for(&mut scheduler, OTHER, 2, request.clone());
            assert_eq!(cancelled, [false, false], "{label}");
            scheduler.set_waiting(OTHER, is_waiting);
            assert_eq!(take(&mut scheduler, 1, 3), None, "{label}");
            let taken = is_taken.then_some((2, false));
            assert_eq!(take(&mut scheduler, 1, 4), taken, "{label}");
            assert!(done(&mut scheduler, 0), "{label}: the first one goes on");
        }
    }
}

#[test]
fn routine_reads_that_hang_leave_a_worker_for_a_wake() {
    let mut scheduler = scheduler_with(Request::Read);
    take(&mut scheduler, 0, 0);
    put_for(&mut scheduler, OTHER, 2, Request::Read);
    assert_eq!(take(&mut scheduler, 1, 9000), None);
    put_for(&mut scheduler, THIRD, 3, write());
    assert_eq!(take(&mut scheduler, 1, 9000), Some((3, false)));
}

#[test]
fn a_third_app_that_is_urgent_has_a_routine_read_wait_again() {
    let mut scheduler = scheduler_with(Request::Read);
    take(&mut scheduler, 0, 0);
    put_for(&mut scheduler, OTHER, 2, write());
    take(&mut scheduler, 1, 4);
    let routine = put_for(&mut scheduler, THIRD, 3, Request::Read);
    assert_eq!(routine, [false, false]);
    let awaited = scheduler.set_waiting(THIRD, true);
    assert_eq!(awaited, [true, false]);
    assert!(!done(&mut scheduler, 0), "its call is cancelled");
    assert_eq!(take(&mut scheduler, 0, 8), Some((3, false)));
    assert!(done(&mut scheduler, 0));
    assert!(done(&mut scheduler, 1));
    assert_eq!(take(&mut scheduler, 0, 10), Some((1, false)));
    assert!(done(&mut scheduler, 0));
}

#[test]
fn a_wake_on_both_connections_gives_one_to_an_app_that_needs_it() {
    let mut scheduler = scheduler_with(write());
    take(&mut scheduler, 0, 0);
    take(&mut scheduler, 1, 1000);
    let routine = put_for(&mut scheduler, OTHER, 2, Request::Read);
    assert_eq!(routine, [false, false], "nobody waits for a routine read");
    let urgent = put_for(&mut scheduler, THIRD, 3, write());
    assert_eq!(
        urgent,
        [true, false],
        "the first one, which hangs for longer"
    );
    assert!(!done(&mut scheduler, 0));
    assert_eq!(take(&mut scheduler, 0, 1004), Some((3, false)));
    let reported = ended(&mut scheduler, 1, Outcome::Conflict);
    assert_eq!(reported, Some(UNKNOWN), "the first one may be what it met");
}

#[test]
fn a_wake_is_repeated_while_others_have_nothing_but_routine() {
    let mut scheduler = scheduler_with(write());
    take(&mut scheduler, 0, 0);
    put_for(&mut scheduler, OTHER, 2, Request::Read);
    let action = scheduler.next_assignment(1, Time::from_millis(400));
    assert_eq!(action, Assignment::Wait(Some(Duration::from_millis(600))));
    assert_eq!(take(&mut scheduler, 1, 1000), Some((1, false)));
}

#[test]
fn of_an_app_that_is_gone_nothing_more_is_sent() {
    let mut scheduler = scheduler_with(write());
    take(&mut scheduler, 0, 0);
    put_for(&mut scheduler, OTHER, 2, write());
    scheduler.remove(APP);
    scheduler.remove(OTHER);
    assert_eq!(take(&mut scheduler, 1, 5000), None);
    assert!(done(&mut scheduler, 0));
}

#[test]
fn a_periodic_task_is_for_the_worker_that_is_not_given_the_next_request() {
    let every = Duration::from_secs(1);
    let mut scheduler = Scheduler::default();
    scheduler.set_periodic_task(every, Time::from_millis(0));
    let mut next = |worker, ms| scheduler.next_assignment(worker, Time::from_millis(ms));
    assert_eq!(
        next(0, 5000),
        Assignment::Wait(None),
        "it has the connection"
    );
    let left = Some(Duration::from_millis(1));
    assert_eq!(next(1, 999), Assignment::Wait(left));
    assert_eq!(next(1, 1300), Assignment::PeriodicTask);
    assert_eq!(next(1, 1300), Assignment::Wait(Some(every)));
}

#[test]
fn a_periodic_task_comes_after_requests_and_does_not_end_with_a_worker_that_hangs() {
    let mut scheduler = scheduler_with(Request::Read);
    scheduler.set_periodic_task(Duration::from_secs(1), Time::from_millis(0));
    assert_eq!(take(&mut scheduler, 0, 2000), Some((1, false)));
    put(&mut scheduler, 2, write());
    let soon = Assignment::Wait(Some(SPARE_AFTER / 2));
    let action = scheduler.next_assignment(1, Time::from_millis(2002));
    assert_eq!(action, soon, "it may not block in a periodic task now");
    assert_eq!(take(&mut scheduler, 1, 2004), Some((2, true)));
    assert!(done(&mut scheduler, 1));
    let action = scheduler.next_assignment(1, Time::from_millis(2005));
    assert_eq!(action, Assignment::PeriodicTask, "the other one hangs");
}

/// The reads in ten minutes of that many apps, each of which asks again ten seconds after its
/// reply, and the most in a minute after the first.
fn reads_of(apps: AppKey, outcome: &Outcome) -> (usize, usize) {
    let mut scheduler = Scheduler::default();
    let mut due: Vec<_> = (0..apps).map(|app| (0, app)).collect();
    let mut each_minute = [0; 10];
    for second in 0..600 {
        due.retain(|&(at, app)| {
            if at <= second {
                put_for(&mut scheduler, app, 1, Request::Read);
            }
            at > second
        });
        while let Assignment::Execute { job, .. } =
            scheduler.next_assignment(0, Time::from_millis(second * 1000))
        {
            each_minute[second as usize / 60] += 1;
            due.push((second + 10, job.app));
            ended(&mut scheduler, 0, outcome.clone());
        }
    }
    let most = each_minute[1..].iter().max().unwrap();
    (each_minute.iter().sum(), *most)
}

#[test]
fn apps_that_are_refused_share_a_pace_and_a_few_of_them_do_not_notice() {
    for outcome in [Outcome::Forbidden, Outcome::NotFound] {
        assert_eq!(reads_of(1, &outcome), (60, 6));
        assert_eq!(reads_of(10, &outcome), (600, 60));
        let (all, most) = reads_of(500, &outcome);
        assert!(most <= 60 && all > 500, "{all}, {most} in a minute");
    }
    assert_eq!(reads_of(500, &shown()).1, 3000, "the others have their own");
}

#[test]
fn an_app_that_is_refused_does_not_wait_if_clients_do() {
    let mut scheduler = Scheduler::default();
    for app in 1..=20 {
        put_for(&mut scheduler, app, app, Request::Read);
        take(&mut scheduler, 0, 0);
        ended(&mut scheduler, 0, Outcome::Forbidden);
    }
    for app in 1..=20 {
        put_for(&mut scheduler, app, app, Request::Read);
    }
    let sent = std::iter::from_fn(|| {
        let next = take(&mut scheduler, 0, 0)?.0;
        ended(&mut scheduler, 0, Outcome::Forbidden);
        Some(next)
    });
    assert_eq!(sent.count(), 10);
    let left = Assignment::Wait(Some(Duration::from_secs(1)));
    assert_eq!(scheduler.next_assignment(0, Time::from_millis(0)), left);
    scheduler.set_waiting(15, true);
    assert_eq!(take(&mut scheduler, 0, 0), Some((15, false)));
    ended(&mut scheduler, 0, shown());
    put_for(&mut scheduler, 15, 15, Request::Read);
    scheduler.set_waiting(15, false);
    assert_eq!(take(&mut scheduler, 0, 0), Some((15, false)), "granted");
}
