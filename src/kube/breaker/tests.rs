use super::*;

const APPS: AppKey = 500;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn down() -> CallResult {
    Err(Failure::unsent("connection refused"))
}

fn status(status: u16) -> CallResult {
    Ok(Reply {
        status,
        retry_after: None,
        body: Vec::new(),
    })
}

/// A breaker that two apps have opened at 0 s.
fn open() -> Breaker {
    let mut breaker = Breaker::new(1);
    for app in [1, 2] {
        assert!(breaker.admit(false, at(0)).is_ok());
        breaker.answered(app, false, &down(), at(0));
    }
    breaker
}

#[test]
fn two_apps_that_fail_in_a_row_open_it_and_one_answer_closes_it() {
    for (label, answers, is_open) in [
        ("one app, ever again", vec![(1, down()), (1, down())], false),
        ("two apps", vec![(1, down()), (2, down())], true),
        (
            "with an answer between",
            vec![(1, down()), (3, status(200)), (2, down())],
            false,
        ),
        ("busy", vec![(1, status(429)), (2, status(503))], true),
        ("no token", vec![(1, status(401)), (2, status(401))], true),
        (
            "missing permissions",
            vec![(1, status(403)), (2, status(403))],
            false,
        ),
        (
            "no objects",
            vec![(1, status(404)), (2, status(404))],
            false,
        ),
        ("conflicts", vec![(1, status(409)), (2, status(409))], false),
        (
            "it is back",
            vec![(1, down()), (2, down()), (1, status(403))],
            false,
        ),
        (
            "one app that fails alone, and another",
            vec![(1, down()), (3, status(200)), (1, down()), (2, down())],
            false,
        ),
        (
            "one that has failed alone, and was answered since",
            vec![
                (1, down()),
                (3, status(200)),
                (1, status(200)),
                (1, down()),
                (2, down()),
            ],
            true,
        ),
    ] {
        let mut breaker = Breaker::new(1);
        for (app, answer) in answers {
            breaker.answered(app, false, &answer, at(0));
        }
        assert_eq!(breaker.admit(false, at(0)).is_err(), is_open, "{label}");
    }
}

#[test]
fn what_is_not_sent_fails_with_what_the_others_have_met() {
    let failure = open().admit(false, at(0)).unwrap_err();
    assert!(!failure.sent);
    assert!(failure.text.ends_with("fail: connection refused"));
}

#[test]
fn a_pause_that_the_server_asks_one_app_for_is_five_seconds_at_most_for_the_others() {
    let busy = Ok(Reply {
        status: 429,
        retry_after: Some(Duration::from_secs(60)),
        body: Vec::new(),
    });
    for is_depended_on in [false, true] {
        let mut breaker = open();
        breaker.answered(1, is_depended_on, &busy, at(0));
        assert!(breaker.admit(is_depended_on, at(4_999)).is_err());
        assert!(
            breaker.admit(!is_depended_on, at(4_999)).is_ok(),
            "its own pause"
        );
        assert!(breaker.admit(is_depended_on, at(5_000)).is_ok());
    }
}

#[test]
fn what_is_sent_holds_up_the_others_until_it_is_answered() {
    let mut breaker = open();
    assert!(breaker.admit(false, at(1000)).is_ok());
    assert!(breaker.admit(false, at(3000)).is_err());
    breaker.answered(3, false, &status(200), at(3000));
    assert!(breaker.admit(false, at(3000)).is_ok());
}

/// An app of a simulation.
#[derive(Clone, Copy)]
struct Simulated {
    is_depended_on: bool,
    /// Whether the server answers it.
    is_healthy: bool,
    /// Its longest pause, in seconds; if it is healthy also that between its requests.
    longest: u64,
}

const QUIET: Simulated = Simulated {
    is_depended_on: false,
    is_healthy: true,
    longest: 30,
};
const DOWN: Simulated = Simulated {
    is_healthy: false,
    ..QUIET
};
const HELD: Simulated = Simulated {
    is_depended_on: true,
    is_healthy: false,
    longest: 5,
};

/// The times at which each app was sent within `minutes`, in ms.
fn sent(apps: &[Simulated], minutes: u64) -> Vec<Vec<u64>> {
    let mut breaker = Breaker::new(1);
    let mut backoffs: Vec<_> = (0..apps.len() as u64).map(Backoff::new).collect();
    let mut sent = vec![Vec::new(); apps.len()];
    let mut due: BTreeSet<_> = (0..apps.len()).map(|app| (app as u64, app)).collect();
    while let Some((ms, app)) = due.pop_first().filter(|(ms, _)| *ms < minutes * 60_000) {
        let it = apps[app];
        let mut is_answered = false;
        if breaker.admit(it.is_depended_on, at(ms)).is_ok() {
            is_answered = it.is_healthy;
            let answer = if is_answered { status(200) } else { down() };
            breaker.answered(app as AppKey, it.is_depended_on, &answer, at(ms));
            sent[app].push(ms);
        }
        let longest = Duration::from_secs(it.longest);
        let pause = match is_answered {
            true => {
                backoffs[app].reset();
                longest
            }
            false => backoffs[app].pause(longest),
        };
        due.insert((ms + pause.as_millis() as u64, app));
    }
    sent
}

fn total(sent: &[Vec<u64>]) -> usize {
    sent.iter().map(Vec::len).sum()
}

#[test]
fn in_an_outage_500_apps_send_as_much_as_one() {
    let routine = total(&sent(&[DOWN; APPS as usize], 10));
    assert!(routine >= 10 * 60 / 5, "it is tried each 5 s: {routine}");
    assert!(routine <= 10 * 25, "{routine} in ten minutes");
}

#[test]
fn whoever_has_clients_waiting_is_sent_first_and_all_of_them_ten_times_a_second() {
    for (awaited, least) in [(1, 10 * 12), (APPS as usize, 10 * 60 * 8)] {
        let mut apps = [DOWN; APPS as usize];
        apps[..awaited].fill(HELD);
        let sent = sent(&apps, 10);
        let (of_awaited, routine) = (total(&sent[..awaited]), total(&sent[awaited..]));
        assert!(of_awaited >= least, "{awaited} apps: {of_awaited}");
        assert!(of_awaited <= 10 * 60 * 10, "{awaited} apps: {of_awaited}");
        assert!(routine <= 10 * 25, "{awaited} apps: {routine}");
    }
}

/// Whatever a few apps meet with, be clients held there or not.
#[test]
fn apps_that_fail_alone_hold_up_no_other() {
    for broken in [HELD, DOWN] {
        for count in [2, 5, 20] {
            for healthy in [5, 50] {
                let apps: Vec<_> = std::iter::repeat_n(broken, count)
                    .chain(std::iter::repeat_n(QUIET, healthy))
                    .collect();
                let sent = sent(&apps, 30);
                for times in &sent[count..] {
                    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
                    let longest = gaps.max().unwrap();
                    assert!(
                        longest < 60_000 && times.len() >= 30,
                        "{count} broken, {healthy} healthy: {longest} ms"
                    );
                }
            }
        }
    }
}
