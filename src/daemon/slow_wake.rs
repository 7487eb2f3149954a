//! [`SlowWakeLog`]: decides when to log that a wake takes long: when it takes longer than usual,
//! when a read of the pods shows why, and then once a minute if the reason has changed. The same
//! reason ([`Facts::explain`]) is in the log line about clients that were reset at the hold limit,
//! and in `/status`.

use std::time::Duration;

use super::messages;
use crate::clock::Time;
use crate::cluster::{PodProblem, TargetStatus};
use crate::policy::WakeDelay;
use crate::problems;

/// The duration of a wake that is long for any app.
pub const REPORT_AFTER: Duration = Duration::from_secs(30);

/// How long the reason is awaited that the pods may show, which are read when a wake has taken
/// longer than usual.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The interval at which the reason is compared with the one that was logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A wake in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowWake {
    /// Since when the app has been waking.
    pub since: Time,
    /// Why no pod has taken a connection yet: [`Facts::explain`].
    pub why: String,
    /// The code of that reason for `zpa explain`.
    pub code: &'static str,
}

/// The facts about a wake that has not ended.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// The rule by which the app is not woken yet; `None` if there is none.
    pub delay: Option<WakeDelay>,
    /// Why pods that are ready are not dialled yet; `None` if they are, or none is ready.
    pub release: Option<String>,
    /// The Service whose endpoints are watched.
    pub service: &'a str,
    /// The reason why no pod can be dialled although the endpoints can be listed; `None` if
    /// there is none.
    pub no_address: Option<&'a str>,
    /// Whether the endpoints can be listed at present.
    pub is_synced: bool,
    /// The number of endpoints of the Service, ready or not.
    pub listed: usize,
    /// The number of addresses that may be dialled.
    pub dialable: usize,
    /// Whether every pod has as many connections as it may have.
    pub is_full: bool,
    /// The status of the scale target, if it was read.
    pub target: Option<&'a TargetStatus>,
    /// What is wrong with its pods, if they were read.
    pub pods: Option<&'a PodProblem>,
}

impl Facts<'_> {
    /// The reason why no pod accepts a connection, in words.
    pub fn explain(&self) -> String {
        if let Some(by) = self.delay {
            return messages::delay(by).to_owned();
        }
        let target = self.target.map(explain_target).into_iter().flatten();
        let all: Vec<String> = std::iter::once(self.explain_addresses())
            .chain(target)
            .chain(self.pods.map(|problem| problem.text.clone()))
            .collect();
        all.join("; ")
    }

    /// The code of that reason for `zpa explain`.
    pub fn code(&self) -> &'static str {
        let is_refused = self.target.is_some_and(|target| target.is_creation_refused);
        let ready = self.target.map_or(0, |target| target.ready);
        match self.pods {
            _ if self.is_full => problems::FULL,
            _ if self.dialable > 0 && self.release.is_none() => problems::REFUSED,
            Some(problem) => problems::code_of_pod(problem.reason),
            None if is_refused => problems::QUOTA,
            None if self.listed == 0 && ready > 0 => "SELECTOR",
            None => problems::READINESS,
        }
    }

    fn explain_addresses(&self) -> String {
        let service = self.service;
        if let Some(why) = self.no_address.or(self.release.as_deref()) {
            return why.to_owned();
        }
        match (self.dialable, self.listed) {
            (0, _) if !self.is_synced => {
                format!("the endpoints of Service {service} cannot be listed")
            }
            (0, 0) if self.target.is_some_and(|target| target.ready > 0) => {
                format!("Service {service} has no endpoints: its selector matches no ready pod")
            }
            (0, 0) => format!("Service {service} has no endpoints"),
            (0, listed) => {
                format!("0 of {listed} endpoints of Service {service} are ready")
            }
            (1.., _) if self.is_full => {
                "every pod has as many connections as --max-connections-per-pod allows".to_owned()
            }
            (1, _) => "the one ready address does not accept connections".to_owned(),
            (ready, _) => format!("none of {ready} ready addresses accepts connections"),
        }
    }
}

fn explain_target(target: &TargetStatus) -> Vec<String> {
    let TargetStatus {
        kind,
        ready,
        wanted,
        condition_messages,
        ..
    } = target;
    let mut all = vec![format!("{kind} has {ready} of {wanted} pods ready")];
    all.extend(condition_messages.iter().cloned());
    all
}

/// The current wake, and the reason that was logged.
#[derive(Clone, Debug, Default)]
pub struct SlowWakeLog {
    /// Since when the app has been waking.
    since: Option<Time>,
    /// The duration after which that is longer than usual.
    slow_after: Duration,
    /// The last reason, and when it was compared.
    last: Option<(String, Time)>,
    /// Whether the reason is compared at once.
    has_news: bool,
}

impl SlowWakeLog {
    /// Sets whether the app is waking, and the duration after which that is longer than usual. A
    /// wake goes on while its clients come and go.
    pub fn update(&mut self, is_waking: bool, slow_after: impl FnOnce() -> Duration, now: Time) {
        if !is_waking {
            *self = SlowWakeLog::default();
        } else if self.since.is_none() {
            (self.since, self.slow_after) = (Some(now), slow_after());
        }
    }

    /// Has the reason compared at once: a new one was found.
    pub fn note_news(&mut self) {
        self.has_news = true;
    }

    /// Since when the app has been waking.
    pub fn since(&self) -> Option<Time> {
        self.since
    }

    /// When [`SlowWakeLog::report`] may return a reason even without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        let since = self.since?;
        Some(match &self.last {
            _ if self.has_news => since,
            None => since + self.slow_after + READ_WITHIN,
            Some((_, at)) => *at + REPORT_INTERVAL,
        })
    }

    /// The reason to log now, with the duration of the wake: the first reason, and each that
    /// differs from the last.
    pub fn report(&mut self, facts: &Facts<'_>, now: Time) -> Option<(Duration, String)> {
        let since = self.since?;
        if self.poll_timeout().is_none_or(|at| now < at) {
            return None;
        }
        self.has_news = false;
        let reason = facts.explain();
        let before = self.last.replace((reason.clone(), now));
        let is_new = before.is_none_or(|(before, _)| before != reason);
        is_new.then(|| (now.since(since), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Persistence;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn target(ready: u32, wanted: u32, trouble: &[&str]) -> TargetStatus {
        TargetStatus {
            kind: "Deployment".to_owned(),
            ready,
            wanted,
            generation: None,
            condition_messages: trouble.iter().map(|&text| text.to_owned()).collect(),
            uid: String::new(),
            is_creation_refused: !trouble.is_empty(),
            selector: String::new(),
            rollout: None,
        }
    }

    fn facts(listed: usize, dialable: usize) -> Facts<'static> {
        Facts {
            delay: None,
            release: None,
            service: "shop",
            no_address: None,
            is_synced: true,
            listed,
            dialable,
            is_full: false,
            target: None,
            pods: None,
        }
    }

    #[test]
    fn the_reason_is_what_is_known_of_service_and_target() {
        let (starting, ready) = (target(0, 1, &[]), target(1, 1, &[]));
        let quota = target(0, 2, &["pods \"shop-1\" is forbidden: exceeded quota"]);
        let image = PodProblem {
            reason: "ErrImagePull",
            text: "pod shop-1: ErrImagePull: not found".to_owned(),
            uid: String::new(),
            persistence: Persistence::Passes,
            others_start: false,
        };
        for (label, facts, reason, code) in [
            (
                "a pod that is not ready yet",
                Facts {
                    target: Some(&starting),
                    ..facts(1, 0)
                },
                "0 of 1 endpoints of Service shop are ready; Deployment has 0 of 1 pods ready",
                "READINESS",
            ),
            (
                "a quota",
                Facts {
                    target: Some(&quota),
                    ..facts(0, 0)
                },
                "Service shop has no endpoints; Deployment has 0 of 2 pods ready; \
                 pods \"shop-1\" is forbidden: exceeded quota",
                "QUOTA",
            ),
            (
                "a pod whose image is not there",
                Facts {
                    target: Some(&starting),
                    pods: Some(&image),
                    ..facts(1, 0)
                },
                "0 of 1 endpoints of Service shop are ready; Deployment has 0 of 1 pods ready; \
                 pod shop-1: ErrImagePull: not found",
                "PULL",
            ),
            (
                "a Service without a pod",
                facts(0, 0),
                "Service shop has no endpoints",
                "READINESS",
            ),
            (
                "a selector that matches other pods",
                Facts {
                    target: Some(&ready),
                    ..facts(0, 0)
                },
                "Service shop has no endpoints: its selector matches no ready pod; Deployment has \
                 1 of 1 pods ready",
                "SELECTOR",
            ),
            (
                "pods that refuse",
                facts(2, 2),
                "none of 2 ready addresses accepts connections",
                "REFUSED",
            ),
            (
                "pods that have no room",
                Facts {
                    is_full: true,
                    ..facts(2, 2)
                },
                "every pod has as many connections as --max-connections-per-pod allows",
                "FULL",
            ),
            (
                "endpoints that may not be read",
                Facts {
                    is_synced: false,
                    ..facts(0, 0)
                },
                "the endpoints of Service shop cannot be listed",
                "READINESS",
            ),
            (
                "a rule that delays the wake, which explains all the rest",
                Facts {
                    delay: Some(WakeDelay::MinAsleep),
                    ..facts(0, 0)
                },
                "it has fallen asleep a moment ago (--min-asleep)",
                "READINESS",
            ),
            (
                "pods that are ready and fewer than are awaited",
                Facts {
                    release: Some("--min-ready waits for 2 ready pods, and 1 are ready".to_owned()),
                    ..facts(2, 1)
                },
                "--min-ready waits for 2 ready pods, and 1 are ready",
                "READINESS",
            ),
            (
                "no such Service, or no such port",
                Facts {
                    no_address: Some("Service shop does not exist"),
                    ..facts(0, 0)
                },
                "Service shop does not exist",
                "READINESS",
            ),
        ] {
            assert_eq!((&*facts.explain(), facts.code()), (reason, code), "{label}");
        }
    }

    const USUAL: Duration = Duration::from_secs(9);

    #[test]
    fn a_wake_is_explained_when_it_takes_long_and_within_a_minute_of_a_new_reason() {
        let mut report = SlowWakeLog::default();
        let mut said = Vec::new();
        for second in 100..400 {
            report.update(true, || USUAL, at(second));
            let listed = usize::from(second >= 200);
            if let Some((took, _)) = report.report(&facts(listed, 0), at(second)) {
                said.push((second, took.as_secs()));
            }
        }
        assert_eq!(said, [(110, 10), (230, 130)]);
    }

    #[test]
    fn a_reason_that_the_pods_show_is_said_at_once_and_the_same_is_not_said_again() {
        let mut report = SlowWakeLog::default();
        report.update(true, || USUAL, at(100));
        report.note_news();
        assert_eq!(report.poll_timeout(), Some(at(100)));
        assert!(report.report(&facts(1, 0), at(103)).is_some());
        assert_eq!(report.poll_timeout(), Some(at(163)));
        report.note_news();
        assert_eq!(report.report(&facts(1, 0), at(104)), None);
        assert_eq!(report.poll_timeout(), Some(at(164)));
    }

    #[test]
    fn a_wake_that_ends_in_time_is_not_mentioned_and_the_next_begins_anew() {
        let mut report = SlowWakeLog::default();
        report.update(true, || USUAL, at(100));
        assert_eq!(report.poll_timeout(), Some(at(110)));
        assert_eq!(report.report(&facts(0, 0), at(109)), None);
        report.update(false, || USUAL, at(109));
        assert_eq!(report.poll_timeout(), None);
        assert_eq!(report.report(&facts(0, 0), at(500)), None);
        report.update(true, || USUAL * 2, at(500));
        report.update(true, || USUAL, at(505));
        assert_eq!(report.report(&facts(0, 0), at(518)), None);
        assert!(report.report(&facts(0, 0), at(519)).is_some());
    }
}
