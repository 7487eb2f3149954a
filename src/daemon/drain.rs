//! [`Drain`]: the progress of the graceful shutdown that SIGTERM begins, and what is said of it.

use std::time::Duration;

use super::messages::connections;
use crate::clock::Time;

/// The interval at which the connections that are awaited are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// How many apps are named.
const APPS_NAMED: usize = 3;

/// The settings of the drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainConfig {
    /// How long connections are still accepted after the signal.
    pub delay: Duration,
    /// How long connections may continue after that.
    pub timeout: Duration,
}

/// The result of a run that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All connections had ended by themselves.
    Drained,
    /// Connections were reset.
    Reset,
}

/// The state of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// No signal has come.
    NotBegun,
    /// Connections are still accepted, until every kube-proxy has removed this pod.
    Delay {
        /// When the signal came.
        since: Time,
        /// The end of the delay.
        until: Time,
    },
    /// No connections are accepted any more.
    Finish {
        /// When the signal came.
        since: Time,
        /// When connections that are still open are reset.
        until: Time,
        /// When those that are open are logged again.
        report: Time,
    },
}

impl DrainConfig {
    /// The drain that a signal begins.
    pub fn begin(self, now: Time) -> Drain {
        Drain::Delay {
            since: now,
            until: now + self.delay,
        }
    }
}

impl Drain {
    /// Whether a signal has come.
    pub fn has_begun(self) -> bool {
        self != Drain::NotBegun
    }

    /// When the next step is due.
    pub fn poll_timeout(self) -> Option<Time> {
        match self {
            Drain::NotBegun => None,
            Drain::Delay { until, .. } => Some(until),
            Drain::Finish { until, report, .. } => Some(until.min(report)),
        }
    }

    /// Ends the delay if it is over. Returns whether it has ended just now.
    pub fn stop_accepting(&mut self, timeout: Duration, now: Time) -> bool {
        let Drain::Delay { since, until } = *self else {
            return false;
        };
        let is_over = now >= until;
        if is_over {
            *self = Drain::Finish {
                since,
                until: now + timeout,
                report: now + REPORT_INTERVAL,
            };
        }
        is_over
    }

    /// How long those that are open have left, if that is to be logged now.
    pub fn report(&mut self, now: Time) -> Option<Duration> {
        let Drain::Finish { until, report, .. } = self else {
            return None;
        };
        if now < *report || now >= *until {
            return None;
        }
        *report = now + REPORT_INTERVAL;
        Some(until.since(now))
    }
}

/// The open connections of the apps, in words: `3 connections (1 waits for a pod): default/shop 2,
/// default/blog 1`. Each app has its name, and how many are open and wait. Those of `inspected`
/// have not named their app yet.
pub fn describe_open<'a>(
    apps: impl Iterator<Item = (&'a str, usize, usize)>,
    inspected: usize,
) -> String {
    let mut apps: Vec<_> = apps.filter(|&(_, open, _)| open > 0).collect();
    apps.sort_by_key(|&(name, open, _)| (std::cmp::Reverse(open), name));
    let open: usize = apps.iter().map(|&(_, open, _)| open).sum();
    let waiting: usize = apps.iter().map(|&(.., waiting)| waiting).sum();
    let mut text = connections((open + inspected) as u64);
    match waiting {
        0 => {}
        1 => text += " (1 waits for a pod)",
        more => text += &format!(" ({more} wait for a pod)"),
    }
    let named = apps.iter().take(APPS_NAMED);
    let mut parts: Vec<String> = named
        .map(|(name, open, _)| format!("{name} {open}"))
        .collect();
    if apps.len() > APPS_NAMED {
        parts.push(format!("and {} more apps", apps.len() - APPS_NAMED));
    }
    if inspected > 0 {
        parts.push(format!("{inspected} without a name yet"));
    }
    if !parts.is_empty() {
        text += &format!(": {}", parts.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_open_is_said_with_the_apps_that_have_the_most() {
        let apps = [
            ("a", 1, 1),
            ("b", 7, 0),
            ("c", 0, 0),
            ("d", 1, 0),
            ("e", 2, 1),
        ];
        for (count, inspected, expected) in [
            (0, 0, "0 connections"),
            (1, 0, "1 connection (1 waits for a pod): a 1"),
            (
                3,
                2,
                "10 connections (1 waits for a pod): b 7, a 1, 2 without a name yet",
            ),
            (
                5,
                0,
                "11 connections (2 wait for a pod): b 7, e 2, a 1, and 1 more apps",
            ),
        ] {
            let apps = apps[..count].iter().copied();
            assert_eq!(describe_open(apps, inspected), expected);
        }
    }

    #[test]
    fn what_is_awaited_is_reported_each_half_a_minute_until_the_deadline() {
        let config = DrainConfig {
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(70),
        };
        let mut drain = config.begin(at(100));
        assert!(!drain.stop_accepting(config.timeout, at(104)));
        assert_eq!(drain.report(at(104)), None);
        assert!(drain.stop_accepting(config.timeout, at(105)));
        assert!(!drain.stop_accepting(config.timeout, at(105)), "once");
        let mut reports = Vec::new();
        let mut now = at(105);
        while now < at(175) {
            now = drain.poll_timeout().unwrap();
            reports.extend(drain.report(now).map(|left| left.as_secs()));
        }
        assert_eq!(reports, [40, 10]);
        assert_eq!(now, at(175), "the deadline");
    }
}
