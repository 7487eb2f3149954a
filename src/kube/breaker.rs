//! A [`Breaker`] is a circuit breaker between all apps and the API server, as a pure state
//! machine: while the server fails, few requests are sent, whatever the number of apps.
//!
//! Each app tries again by itself, after pauses of its own. In an outage 500 apps would make
//! 17 requests a second together, and 100 a second if each had connections. So the failure of
//! one app's request counts for the others too, once the requests of two apps have failed
//! in a row: then the breaker is *open*, and the others get that failure for an answer without
//! being sent. One request after each pause is sent all the same, and the first reply closes
//! the breaker. A request for which connections wait has a shorter pause, so that an app that
//! is woken finds out by itself, and for all, that the server is back.
//!
//! One app alone never opens it: what fails may be a webhook for that object. A refusal (403)
//! is an answer.

use std::time::Duration;

use super::reply::{Failure, Reply};
use super::scale_target::Answer;
use super::scheduler::AppKey;
use crate::backoff::Backoff;
use crate::clock::Time;

/// The longest pause between two requests for which no connections wait, unless the server
/// asks for a longer one.
const LONGEST: Duration = Duration::from_secs(5);
/// The pause between two for which connections wait,
const PAUSE_AWAITED: Duration = Duration::from_millis(100);
/// and the longest that the server may ask for meanwhile.
const LONGEST_AWAITED: Duration = Duration::from_secs(5);

/// The circuit breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    backoff: Backoff,
}

#[derive(Debug)]
enum State {
    /// The last request was answered.
    Closed,
    /// The last one has failed, and those before it, all of this app.
    Suspect(AppKey),
    /// Requests of several apps have failed since the last answer.
    Open {
        why: String,
        /// When the next request is sent,
        next: Time,
        /// and if connections wait for it.
        next_awaited: Time,
    },
}

/// What a request has met that concerns no app in particular.
struct Fault {
    why: String,
    retry_after: Duration,
}

impl Breaker {
    /// A closed breaker. `seed` determines the jitter of the pauses.
    pub(super) fn new(seed: u64) -> Breaker {
        Breaker {
            state: State::Closed,
            backoff: Backoff::new(seed),
        }
    }

    /// Whether a request is to be sent now. If so, the next one comes after a pause.
    ///
    /// # Errors
    /// What it fails with instead.
    pub(super) fn admit(&mut self, is_awaited: bool, now: Time) -> Result<(), Failure> {
        let State::Open {
            why,
            next,
            next_awaited,
        } = &mut self.state
        else {
            return Ok(());
        };
        let due = if is_awaited { *next_awaited } else { *next };
        if now < due {
            let text = format!("not tried, because the requests of other apps fail: {why}");
            return Err(Failure::unsent(&text));
        }
        // Until it is answered, or has failed.
        *next = (*next).max(now + LONGEST);
        *next_awaited = now + PAUSE_AWAITED;
        Ok(())
    }

    /// A request of an app, which was sent, has come to this.
    pub(super) fn answered(&mut self, app: AppKey, answer: &Answer, now: Time) {
        let Some(Fault { why, retry_after }) = fault(answer) else {
            self.state = State::Closed;
            self.backoff.reset();
            return;
        };
        let is_first = match self.state {
            State::Closed => true,
            State::Suspect(other) => other == app,
            State::Open { .. } => false,
        };
        self.state = match is_first {
            true => State::Suspect(app),
            false => State::Open {
                why,
                next: now + self.backoff.pause(LONGEST).max(retry_after),
                next_awaited: now + PAUSE_AWAITED.max(retry_after.min(LONGEST_AWAITED)),
            },
        };
    }
}

/// The fault of the API server that an answer shows. A token that is refused (401) is refused
/// for all apps.
fn fault(answer: &Answer) -> Option<Fault> {
    match answer {
        Err(Failure { text, .. }) => Some(Fault {
            why: text.clone(),
            retry_after: Duration::ZERO,
        }),
        Ok(reply) if matches!(reply.status, 401 | 429 | 500..=599) => Some(Fault {
            why: Reply::explanation(reply),
            retry_after: reply.retry_after.unwrap_or_default(),
        }),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPS: AppKey = 500;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn down() -> Answer {
        Err(Failure::unsent("connection refused"))
    }

    fn status(status: u16) -> Answer {
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
            breaker.answered(app, &down(), at(0));
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
        ] {
            let mut breaker = Breaker::new(1);
            for (app, answer) in answers {
                breaker.answered(app, &answer, at(0));
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
    fn a_pause_that_the_server_asks_for_is_kept_and_for_who_waits_up_to_five_seconds() {
        let mut breaker = open();
        let busy = Ok(Reply {
            status: 429,
            retry_after: Some(Duration::from_secs(60)),
            body: Vec::new(),
        });
        breaker.answered(1, &busy, at(0));
        for (ms, is_awaited, is_sent) in [
            (59_999, false, false),
            (4_999, true, false),
            (5_000, true, true),
            (5_099, true, false),
            (60_000, false, true),
        ] {
            assert_eq!(
                breaker.admit(is_awaited, at(ms)).is_ok(),
                is_sent,
                "{ms} {is_awaited}"
            );
        }
    }

    /// Requests that are sent in `minutes` of an outage, in which each of 500 apps tries again
    /// as its own pauses have it, and `awaited` of them every second.
    fn sent(minutes: u64, awaited: AppKey) -> [usize; 2] {
        let mut breaker = Breaker::new(1);
        let mut backoffs: Vec<_> = (0..APPS).map(Backoff::new).collect();
        let mut due = vec![0; APPS as usize];
        let mut sent = [0; 2];
        for ms in (0..minutes * 60_000).step_by(50) {
            for app in 0..APPS {
                if ms < due[app as usize] {
                    continue;
                }
                let is_awaited = app < awaited;
                if breaker.admit(is_awaited, at(ms)).is_ok() {
                    breaker.answered(app, &down(), at(ms));
                    sent[usize::from(is_awaited)] += 1;
                }
                let longest = if is_awaited { 1 } else { 30 };
                let pause = backoffs[app as usize].pause(Duration::from_secs(longest));
                due[app as usize] = ms + pause.as_millis() as u64;
            }
        }
        sent
    }

    #[test]
    fn in_an_outage_500_apps_send_as_much_as_one() {
        let [routine, _] = sent(10, 0);
        assert!(routine >= 10 * 60 / 5, "it is tried each 5 s: {routine}");
        assert!(routine <= 10 * 25, "{routine} in ten minutes");
    }

    #[test]
    fn whoever_has_clients_waiting_is_sent_first_and_all_of_them_ten_times_a_second() {
        for (apps, least) in [(1, 10 * 60), (APPS, 10 * 60 * 8)] {
            let [routine, awaited] = sent(10, apps);
            assert!(awaited >= least, "{apps} apps: {awaited}");
            assert!(awaited <= 10 * 60 * 10, "{apps} apps: {awaited}");
            assert!(routine <= 10 * 25, "{apps} apps: {routine}");
        }
    }

    #[test]
    fn what_is_sent_holds_up_the_others_until_it_is_answered() {
        let mut breaker = open();
        assert!(breaker.admit(false, at(1000)).is_ok());
        assert!(breaker.admit(false, at(3000)).is_err());
        breaker.answered(3, &status(200), at(3000));
        assert!(breaker.admit(false, at(3000)).is_ok());
    }
}
