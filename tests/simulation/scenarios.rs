//! Scenarios with faults at exact times, which random plans might miss.

use std::time::Duration;

use zpa::clock::Time;

use crate::deployment::{Change, Permissions, Who};
use crate::oracle::ClientResult;
use crate::plan::{Action, Exchange, Plan, Script};
use crate::shrink::{play, seconds};
use crate::trouble::Trouble;
use crate::world::End;

pub const TTL: Duration = Duration::from_secs(60);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn at(time: Duration) -> Time {
    Time::new(time)
}

/// A connection that is used every ten seconds for that long.
pub fn for_as_long_as(time: Duration) -> Script {
    let pause = Duration::from_secs(10);
    let count = (time.as_secs() / pause.as_secs()) as usize;
    let exchange = Exchange { pause, bytes: 1000 };
    Script {
        exchanges: vec![exchange; count],
        resets_after: None,
    }
}

pub fn once() -> Script {
    Script::once(ms(1))
}

/// Plays a plan in which no rule may be broken.
#[track_caller]
pub fn play_well(plan: &Plan) -> End {
    let end = play(plan, true);
    let lines = end
        .trace
        .iter()
        .map(|line| format!("{:>12.6}  {}", seconds(line.at), line.what));
    let trace = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(end.violation, None, "{plan:#?}\n{trace}");
    end
}

pub fn sleeps(end: &End) -> Vec<&Change> {
    let by_a_proxy = |change: &&Change| change.to == 0 && matches!(change.by, Who::Proxy(_));
    end.history.iter().filter(by_a_proxy).collect()
}

// --- kill -9 at any moment ---

#[test]
fn a_proxy_killed_at_any_moment_of_a_wake_leaves_nobody_else_waiting() {
    let wake = TTL;
    for moment in (0..200).step_by(4) {
        let mut plan = Plan::quiet(moment, 2, TTL)
            .with(wake, Action::Connect(0, once()))
            .with(wake + ms(moment), Action::Kill(0, TTL))
            .with(wake + ms(100), Action::Connect(1, once()));
        plan.apps[0].replicas = 0;
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            1,
            "killed after {moment} ms"
        );
        assert_eq!(
            end.totals.count(ClientResult::ProxyKilled),
            1,
            "killed after {moment} ms"
        );
    }
}

#[test]
fn a_proxy_killed_at_any_moment_of_a_sleep_leaves_nobody_else_waiting() {
    for moment in (0..100).step_by(2) {
        let plan = Plan::quiet(moment, 2, TTL)
            .with(TTL + ms(moment), Action::Kill(0, TTL))
            .with(TTL + ms(60), Action::Connect(1, once()))
            .with(TTL + ms(5000), Action::Connect(1, once()));
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            2,
            "killed after {moment} ms"
        );
    }
}

#[test]
fn a_restart_needs_a_whole_ttl_before_it_sleeps() {
    for early in [ms(1), TTL / 10, TTL / 2] {
        let killed = TTL - early;
        let plan = Plan::quiet(1, 1, TTL).with(killed, Action::Kill(0, ms(100)));
        let end = play_well(&plan);
        let slept = sleeps(&end)[0].at;
        assert!(
            slept >= at(killed + TTL),
            "killed {early:?} before, slept at {slept:?}"
        );
    }
}

// --- an operator ---

#[test]
fn after_an_operator_has_scaled_to_0_under_a_connection_the_next_one_wakes() {
    let plan = Plan::quiet(1, 2, TTL)
        .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL)))
        .with(ms(30_500), Action::Scale(0, Who::Operator))
        .with(ms(40_000), Action::Connect(1, once()));
    let end = play_well(&plan);
    assert_eq!(end.totals.count(ClientResult::ScaledByOthers), 1);
    assert_eq!(end.totals.count(ClientResult::Served), 1);
    assert_eq!(end.totals.wakes, 1);
}

#[test]
fn an_app_that_an_operator_wakes_after_a_long_sleep_stays_awake_for_a_whole_ttl() {
    let woken = TTL * 20;
    let mut plan = Plan::quiet(1, 3, TTL).with(woken, Action::Scale(1, Who::Operator));
    plan.apps[0].replicas = 0;
    let end = play_well(&plan);
    let slept: Vec<_> = sleeps(&end).iter().map(|change| change.at).collect();
    assert_eq!(slept.len(), 1);
    assert!(slept[0] >= at(woken + TTL) && slept[0] <= at(woken + TTL.mul_f64(1.3)));
}

// --- GitOps ---

#[test]
fn a_scale_that_is_reverted_again_and_again_is_written_once_in_a_ttl_at_most() {
    let mut plan = Plan::quiet(1, 2, TTL);
    let interval = Duration::from_secs(15);
    for time in 1..120 {
        plan = plan.with(interval * time, Action::Scale(1, Who::GitOps));
    }
    let end = play_well(&plan);
    let slept: Vec<_> = sleeps(&end).iter().map(|change| change.at).collect();
    assert!(slept.len() > 4, "{slept:?}");
    let pauses: Vec<_> = slept.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(pauses.iter().all(|pause| *pause >= TTL), "{pauses:?}");
    assert!(pauses.last() > Some(&(TTL * 2)), "they grow: {pauses:?}");
    assert_eq!(end.totals.wakes, 0, "nobody has come");
}

#[test]
fn a_scale_that_is_reverted_to_0_is_raised_again_only_for_who_comes() {
    let mut plan = Plan::quiet(1, 2, TTL);
    let interval = Duration::from_secs(15);
    for time in 1..40 {
        plan = plan.with(interval * time, Action::Scale(0, Who::GitOps));
    }
    let plan = plan.with(ms(200_000), Action::Connect(0, once()));
    let end = play_well(&plan);
    assert_eq!(end.totals.wakes, 1);
}

// --- one proxy without the API server ---

#[test]
fn a_proxy_cut_off_with_users_loses_them_no_sooner_than_its_lease_ends() {
    for begin in (0..60).step_by(5) {
        let cut_off = TTL + Duration::from_secs(begin);
        let plan = Plan::quiet(begin, 2, TTL)
            .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 4)))
            .with(cut_off, Action::Hit(Some(0), Trouble::Refused, TTL * 2));
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::CutOff),
            1,
            "cut off at {cut_off:?}"
        );
        // The last renewal was sent a quarter of a TTL before at most,
        // and whoever sleeps has seen it for a whole TTL.
        let slept = sleeps(&end)[0].at;
        assert!(slept >= at(cut_off + TTL * 3 / 4), "slept at {slept:?}");
    }
}

#[test]
fn a_proxy_cut_off_for_less_than_its_lease_loses_nobody() {
    for begin in (0..60).step_by(5) {
        let cut_off = TTL + Duration::from_secs(begin);
        for trouble in Trouble::ALL {
            let plan = Plan::quiet(begin, 2, TTL)
                .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 4)))
                .with(cut_off, Action::Hit(Some(0), trouble, TTL / 2));
            let end = play_well(&plan);
            let served = end.totals.count(ClientResult::Served);
            assert_eq!(served, 1, "{trouble:?} at {cut_off:?}");
        }
    }
}

#[test]
fn an_api_server_that_is_down_for_everybody_cuts_nobody_off() {
    for trouble in [
        Trouble::Refused,
        Trouble::Swallowed,
        Trouble::Hangs,
        Trouble::LostRequests,
    ] {
        let down = TTL + Duration::from_secs(7);
        let plan = Plan::quiet(1, 2, TTL)
            .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 5)))
            .with(down, Action::Hit(None, trouble, TTL * 3))
            .with(down + TTL * 2, Action::Connect(1, once()));
        let end = play_well(&plan);
        assert_eq!(end.totals.count(ClientResult::Served), 2, "{trouble:?}");
        let by_then = sleeps(&end)
            .iter()
            .all(|change| change.at > at(down + TTL * 3));
        assert!(
            by_then,
            "{trouble:?}: nobody sleeps while the server is down"
        );
    }
}

/// The client comes under a lease that is old, and that runs out before the API
/// server is back, when the other proxy has waited for a whole TTL.
#[test]
fn an_api_server_that_comes_back_puts_nothing_to_sleep_before_all_could_renew() {
    for moment in 0..40 {
        let (down, back) = (ms(61_000), ms(76_000 + moment * 100));
        let plan = Plan::quiet(moment, 2, TTL)
            .with(ms(13_900), Action::Connect(1, once()))
            .with(down, Action::Hit(None, Trouble::LostRequests, back - down))
            .with(ms(63_000), Action::Connect(1, for_as_long_as(TTL)));
        let served = play_well(&plan).totals.count(ClientResult::Served);
        assert_eq!(served, 2, "it comes back at {back:?}");
    }
}

// --- clocks ---

/// The wall clock has no test: no part of the composition is handed one.
#[test]
fn a_proxy_stopped_for_two_ttl_at_any_moment_of_a_sleep_cuts_nobody_off() {
    for moment in (0..100).step_by(2) {
        let plan = Plan::quiet(moment, 2, TTL)
            .with(TTL + ms(moment), Action::Stop(0, TTL * 2))
            .with(
                TTL + ms(moment + 5),
                Action::Connect(1, for_as_long_as(TTL * 4)),
            );
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            1,
            "stopped after {moment} ms"
        );
    }
}

#[test]
fn a_proxy_stopped_for_two_ttl_sleeps_on_no_news_from_before() {
    let stopped = Duration::from_secs(20);
    let plan = Plan::quiet(1, 2, TTL)
        .with(stopped, Action::Stop(0, TTL * 2))
        .with(ms(30_000), Action::Connect(1, for_as_long_as(TTL * 3)));
    let end = play_well(&plan);
    assert_eq!(end.totals.count(ClientResult::Served), 1);
    assert_eq!(end.totals.sleeps, 1);
}

#[test]
fn a_node_that_is_suspended_with_all_its_proxies_cuts_nobody_off() {
    for moment in (0..60).step_by(4) {
        let suspended = TTL + Duration::from_secs(moment);
        let plan = Plan::quiet(moment, 2, TTL)
            .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 5)))
            .with(suspended, Action::Stop(0, TTL * 2))
            .with(suspended, Action::Stop(1, TTL * 2));
        let end = play_well(&plan);
        let served = end.totals.count(ClientResult::Served);
        assert_eq!(served, 1, "suspended at {suspended:?}");
    }
}

#[test]
fn clocks_that_differ_by_one_in_a_hundred_cut_nobody_off() {
    for seed in 0..20 {
        let mut plan = Plan::quiet(seed, 3, TTL)
            .with(ms(10_000), Action::Connect(0, for_as_long_as(TTL * 5)))
            .with(TTL, Action::Connect(1, for_as_long_as(TTL * 2)));
        plan.drift = 0.01;
        let end = play_well(&plan);
        assert_eq!(end.totals.count(ClientResult::Served), 2);
    }
}

// --- pods of before ---

#[test]
fn a_pod_that_dies_of_a_sleep_that_a_proxy_has_not_seen_is_not_dialled_by_it() {
    for (seed, after) in (0..100).flat_map(|seed| (20..80).step_by(5).map(move |ms| (seed, ms))) {
        let mut plan = Plan::quiet(seed, 2, TTL)
            // Its polls fall into other seconds than the sleep and the wake.
            .with(ms(35_000), Action::Kill(1, ms(100)))
            .with(TTL + ms(after), Action::Connect(0, once()));
        for _ in 0..3 {
            let script = for_as_long_as(TTL);
            plan = plan.with(TTL + ms(after + 30), Action::Connect(1, script));
        }
        plan.apps[0].replicas = 3;
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            4,
            "{after} ms after the TTL"
        );
    }
}

#[test]
fn a_watch_that_is_dead_hides_no_pod_that_is_about_to_die() {
    for (seed, after) in (0..40).flat_map(|seed| (150..950).step_by(50).map(move |ms| (seed, ms))) {
        let plan = Plan::quiet(seed, 1, TTL)
            .with(TTL - ms(1000), Action::BreakWatch(0, TTL))
            .with(TTL + ms(after), Action::Connect(0, for_as_long_as(TTL)));
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            1,
            "{after} ms after the TTL"
        );
    }
}

// --- a rollout of zpa ---

#[test]
fn a_rollout_at_any_moment_loses_nobody_who_is_done_before_the_deadline() {
    let wake = TTL * 2;
    for moment in (0..10_000).step_by(250) {
        let mut plan = Plan::quiet(moment, 1, TTL).with(wake + ms(moment), Action::Rollout(0));
        for client in 0..20 {
            plan = plan.with(wake + ms(client * 500), Action::Connect(0, once()));
        }
        plan.apps[0].replicas = 0;
        plan.actions.sort_by_key(|step| step.at);
        let end = play_well(&plan);
        assert_eq!(
            end.totals.count(ClientResult::Served),
            20,
            "rolled out after {moment} ms"
        );
    }
}

// --- The watch of the Deployment ---

/// How long after the last close the app sleeps, if the proxy that served is killed
/// just after it, in so many runs: another one has to have seen the last renewal.
fn sleeps_after_a_kill(change: impl Fn(&mut Plan)) -> Vec<Duration> {
    let play_one = |seed| {
        let closes = TTL / 2 + ms(137 * seed);
        let mut plan = Plan::quiet(seed, 2, TTL)
            .with(closes - ms(2), Action::Connect(0, once()))
            .with(closes + ms(1500), Action::Kill(0, TTL * 20));
        plan.horizon = TTL * 5;
        change(&mut plan);
        let end = play(&plan, false);
        sleeps(&end)[0].at.since(at(closes))
    };
    (0..40).map(play_one).collect()
}

#[test]
fn a_watched_app_sleeps_a_ttl_after_the_last_close_whoever_has_died_and_an_unwatched_one_later() {
    let longest = |all: &[Duration]| all.iter().max().copied().unwrap_or_default();
    let watched = sleeps_after_a_kill(|_| {});
    assert!(watched.iter().all(|after| *after >= TTL), "{watched:?}");
    assert!(longest(&watched) < TTL + ms(3000), "{watched:?}");
    let unwatched = sleeps_after_a_kill(|plan| plan.apps[0].role = Permissions::UNWATCHED);
    assert!(longest(&unwatched) > TTL + ms(6000), "{unwatched:?}");
    let without_events = sleeps_after_a_kill(|plan| plan.flaws.hides_events = true);
    assert!(
        longest(&without_events) > TTL + ms(6000),
        "{without_events:?}"
    );
}

// --- What short TTLs cost ---

/// Ten renewals in a TTL if connections come and go, five reads, and what endpoints and
/// watches take.
#[test]
fn a_short_ttl_costs_fifteen_requests_in_each_ttl_at_most_whoever_comes_and_goes() {
    for (seconds, is_watched) in [(1, true), (1, false), (3, true), (3, false), (9, false)] {
        let ttl = Duration::from_secs(seconds);
        let mut plan = Plan::quiet(seconds, 1, ttl);
        plan.apps[0].role.watch = is_watched;
        let mut comes = ms(1_000);
        while comes < Duration::from_secs(150) {
            plan = plan.with(comes, Action::Connect(0, once()));
            comes += ms(70);
        }
        let end = play_well(&plan);
        let ceiling = 15 * 60 / seconds as usize + 10;
        let most = end.totals.most_requests;
        let label = format!("{ttl:?}, watched: {is_watched}: {most} of {ceiling}");
        println!("{label}");
        assert!(most <= ceiling, "{label}");
        assert!(most > ceiling / 2, "{label}: nobody has come and gone");
    }
}
