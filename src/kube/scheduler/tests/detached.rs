//! Writes that are given up: which go on, and which are cancelled.

use super::super::detached::MAX_DETACHED;
use super::*;

#[test]
fn a_wake_that_was_given_up_goes_on_beside_the_workers() {
    for next in [Request::Read, write(), renewal()] {
        let mut scheduler = scheduler_with(write());
        assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
        let turn = scheduler.turn(0);
        let cancelled = put_for(&mut scheduler, APP, 2, next.clone());
        assert_eq!(cancelled, [false, false], "{next:?}");
        assert_eq!(scheduler.take_vacated(), [0], "{next:?}");
        assert!(scheduler.is_over(turn) && !scheduler.is_wanted(turn));
        assert_eq!(take(&mut scheduler, 0, 5000), Some((2, false)), "{next:?}");
        assert_eq!(scheduler.done(turn, shown()), None, "{next:?}");
        assert!(done(&mut scheduler, 0), "{next:?} is waited for");
    }
}

#[test]
fn another_write_that_was_given_up_is_cancelled() {
    for call in [renewal(), to_zero()] {
        for next in [Request::Read, write(), renewal()] {
            let label = format!("{next:?} after {call:?}");
            let mut scheduler = scheduler_with(call.clone());
            take(&mut scheduler, 0, 0);
            take(&mut scheduler, 1, 1000);
            let cancelled = put_for(&mut scheduler, APP, 2, next.clone());
            assert_eq!(cancelled, [true, true], "{label}");
            assert!(!done(&mut scheduler, 0), "{label}");
            assert_eq!(take(&mut scheduler, 0, 5000), Some((2, false)), "{label}");
        }
    }
}

#[test]
fn an_app_has_one_write_that_goes_on_and_all_apps_have_a_few() {
    let mut scheduler = Scheduler::default();
    let many = MAX_DETACHED as u64;
    let mut turns = Vec::new();
    for app in 0..many {
        put_for(&mut scheduler, app, 1, write());
        assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
        turns.push(scheduler.turn(0));
        let cancelled = put_for(&mut scheduler, app, 2, write());
        assert_eq!(cancelled, [false, false]);
        assert_eq!(take(&mut scheduler, 0, 5000), Some((2, false)));
        let second = put_for(&mut scheduler, app, 3, Request::Read);
        assert_eq!(second, [true, false], "the first one is further");
        assert!(!done(&mut scheduler, 0));
        take(&mut scheduler, 0, 10_000);
        done(&mut scheduler, 0);
    }
    let last = |scheduler: &mut Scheduler| {
        put_for(scheduler, many, 1, write());
        take(scheduler, 0, 10_000);
        let cancelled = put_for(scheduler, many, 2, Request::Read);
        done(scheduler, 0);
        take(scheduler, 0, 15_000);
        done(scheduler, 0);
        cancelled
    };
    assert_eq!(last(&mut scheduler), [true, false], "there are enough");
    scheduler.done(turns[0], UNKNOWN);
    assert_eq!(last(&mut scheduler), [false, false], "one has ended");
}

#[test]
fn two_apps_whose_writes_hang_keep_no_third_one_waiting_once_they_give_up() {
    let mut scheduler = scheduler_with(write());
    take(&mut scheduler, 0, 0);
    put_for(&mut scheduler, OTHER, 2, write());
    assert_eq!(take(&mut scheduler, 1, 4), Some((2, false)));
    put_for(&mut scheduler, THIRD, 3, write());
    put_for(&mut scheduler, APP, 4, Request::Read);
    assert_eq!(scheduler.take_vacated(), [0]);
    assert_eq!(take(&mut scheduler, 0, 5000), Some((3, false)));
}

#[test]
fn a_worker_without_a_thread_leaves_the_requests_to_the_other_one() {
    let mut scheduler = Scheduler::default();
    scheduler.start_worker();
    assert_eq!(spare_for(&mut scheduler, 1, write(), 0), Some(1));
    take(&mut scheduler, 0, 0);
    put(&mut scheduler, 2, Request::Read);
    assert_eq!(scheduler.take_vacated(), [0]);
    scheduler.not_started(0);
    assert_eq!(take(&mut scheduler, 1, 5000), Some((2, false)));
}
