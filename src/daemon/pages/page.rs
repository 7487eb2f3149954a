//! Builds [`Page`], the content of the page at `/`, from the state of the daemon.

use std::time::Duration;

use super::{AppView, View};
use crate::admin::page::{App, Next, Page, Problem, Slot, State, Wake};
use crate::clock::Time;
use crate::cluster::Permission;
use crate::daemon::discovery::Discovery;
use crate::daemon::drain::Drain;
use crate::daemon::journal::{self, SLOT};
use crate::daemon::messages;
use crate::daemon::slow_wake::REPORT_AFTER;
use crate::policy::{KeepAwakeRule, Phase};
use crate::problems;

/// Once the last reply that showed the scale is this old, the page reports a problem. The app is
/// read at least every half a minute.
const STALE_AFTER: Duration = Duration::from_secs(75);

/// The code of what is wrong with the Services by which apps are found.
const DISCOVERY: &str = "DISCOVERY";

/// How many Services that are wrong the page shows.
const SERVICES_SHOWN: usize = 10;

impl View<'_> {
    pub(super) fn page_state(&self) -> Page {
        Page {
            version: super::VERSION,
            is_ready: self.proxy.unready(self.now).is_empty(),
            uptime: Duration::from_secs(self.unix.saturating_sub(self.about.started)),
            unix: self.unix,
            problems: self.process_problems(),
            apps: self.apps().map(|app| app.page_app()).collect(),
        }
    }

    fn process_problems(&self) -> Vec<Problem> {
        let draining = self.draining().map(|text| Problem {
            is_severe: false,
            text,
            code: None,
        });
        // A thread that serves all apps reports a panic to each.
        let panics = self
            .proxy
            .apps()
            .map(|(_, app)| app.counters().thread_panics);
        let panics = panics.max().unwrap_or_default();
        let panicked = (panics > 0).then(|| Problem {
            is_severe: false,
            text: format!("A thread has panicked and was started again, {panics} times."),
            code: Some(problems::PANIC),
        });
        let problems = draining.into_iter().chain(panicked);
        problems.chain(self.source_problems()).collect()
    }

    /// How far the drain is, if a signal has come.
    fn draining(&self) -> Option<String> {
        let in_s = |until: Time| until.since(self.now).as_secs();
        let timeout = self.proxy.drain_config().timeout.as_secs();
        Some(match self.proxy.drain_state() {
            Drain::NotBegun => return None,
            Drain::Delay { until, .. } => format!(
                "The proxy ends after a signal: it goes on accepting for {}s, and what is open then has {timeout}s to finish.",
                in_s(until)
            ),
            Drain::Finish { until, .. } => format!(
                "The proxy ends after a signal: it accepts no more, and what is still open in {}s is reset.",
                in_s(until)
            ),
        })
    }

    /// The problems of what the apps are taken from: a list, or Services.
    fn source_problems(&self) -> Vec<Problem> {
        let problem = |is_severe, text, code| Problem {
            is_severe,
            text,
            code: Some(code),
        };
        let list = self.list.and_then(|list| list.errors().first());
        let list = list.map(|why| {
            problem(
                false,
                format!("The list of apps is wrong, and the one before is in force: {why}"),
                problems::LIST,
            )
        });
        let trouble = self.discovery.and_then(Discovery::trouble);
        let trouble = trouble.map(|why| {
            let text = format!("The Services cannot be watched: {why}");
            problem(true, text, DISCOVERY)
        });
        let wrong = self.discovery.map(Discovery::wrong).unwrap_or_default();
        let more = self.discovery.map_or(0, Discovery::wrong_count);
        let more = more.saturating_sub(SERVICES_SHOWN);
        let more = (more > 0).then(|| {
            let text =
                format!("{more} more Services are wrong: /status and the metrics have them.");
            problem(true, text, DISCOVERY)
        });
        let services = wrong.iter().take(SERVICES_SHOWN).map(|it| {
            let (is_severe, text) = it.explain();
            problem(is_severe, text, DISCOVERY)
        });
        let problems = list.into_iter().chain(trouble).chain(services).chain(more);
        problems.collect()
    }
}

impl AppView<'_> {
    fn page_app(&self) -> App {
        let AppView { app, now, .. } = *self;
        let (policy, journal) = (app.policy(), app.journal());
        let counts = self.proxy.sockets.counts(self.id);
        let timeline = journal.timeline();
        let day = timeline.slots(now).into_iter().map(|(_, slot)| Slot {
            asleep: slot.fraction(journal::State::Asleep),
            waking: slot.fraction(journal::State::Waking),
            awake: slot.fraction(journal::State::Awake),
        });
        let wakes = journal.wakes().rev().map(|wake| Wake {
            ago: now.since(wake.since),
            took: wake.took,
            api: wake.api,
            pod: wake.pod,
            dial: wake.dial,
            result: wake.result.name(),
        });
        App {
            name: app.config().name.clone(),
            state: self.page_app_state(),
            state_for: now.since(journal.phase_since()),
            next: self.next(),
            replicas: policy.replicas().map(|(replicas, _)| replicas),
            ready_pods: app.target_status().map(|status| status.ready),
            counted: counts.counted,
            waiting: counts.waiting,
            uncounted: counts.open.saturating_sub(counts.counted),
            excluded: self.excluded(),
            scaled: journal
                .scaled()
                .map(|it| (it.by.name(), it.replicas, now.since(it.at))),
            day: day.collect(),
            slot: SLOT,
            wakes: wakes.collect(),
            asleep: timeline.asleep(now),
            replica_hours_saved: timeline.replica_seconds_saved(now) / 3600.0,
            problems: self.app_problems(),
        }
    }

    fn page_app_state(&self) -> State {
        match self.app.state() {
            journal::State::Unknown => State::Unknown,
            journal::State::Asleep => State::Asleep,
            journal::State::Waking => State::Waking,
            journal::State::Awake => State::Awake,
            journal::State::ScalingDown => State::ScalingDown,
        }
    }

    fn next(&self) -> Next {
        let (app, now) = (self.app, self.now);
        if let Some(wake) = app.slow_wake(&self.proxy.sockets) {
            return Next::Wakes(wake.why);
        }
        if let Some((by, until)) = app.policy().wake_delay(now) {
            return Next::NotWoken(messages::delay(by), until.map(|at| at.since(now)));
        }
        match app.policy().sleep_due() {
            Some(due) if due.rule == KeepAwakeRule::Unread => Next::Nothing,
            Some(due) => match due.at {
                Some(at) => Next::SleepsIn(at.since(now), due.rule.explain()),
                None => Next::StaysAwake(due.rule.explain()),
            },
            None => Next::Nothing,
        }
    }

    /// The connections that did not count, by the rule, at all ports.
    fn excluded(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<(&'static str, u64)> = Vec::new();
        let counters = self
            .app
            .port_ids()
            .map(|id| self.proxy.sockets.counters(id));
        for ([rule], count) in counters
            .flatten()
            .flat_map(|counters| counters.exclusions())
        {
            match all.iter_mut().find(|(name, _)| *name == rule) {
                Some((_, sum)) => *sum += count,
                None => all.push((rule, count)),
            }
        }
        all
    }

    fn app_problems(&self) -> Vec<Problem> {
        let problems = self.permission_problems().chain(self.address_problems());
        let problems: Vec<_> = problems.chain(self.policy_problems()).collect();
        if !problems.is_empty() {
            return problems;
        }
        // Reasons that none of the above explains.
        let unready = self.app.unready(self.now).into_iter();
        let severe = unready.map(|text| Problem {
            is_severe: true,
            text,
            code: Some("PROXY"),
        });
        severe.collect()
    }

    fn permission_problems(&self) -> impl Iterator<Item = Problem> {
        Permission::ALL.into_iter().filter_map(|permission| {
            let is_severe = self.is_forbidden(permission);
            let instead = self
                .fallback(permission)
                .map(|it| format!(" Instead: {it}."));
            if !is_severe && instead.is_none() {
                return None;
            }
            let why = self.app.health().why_refused(permission);
            Some(Problem {
                is_severe,
                text: format!(
                    "The proxy may not {permission}.{} {}",
                    instead.unwrap_or_default(),
                    why.unwrap_or_default()
                ),
                code: Some("PERMISSION"),
            })
        })
    }

    fn address_problems(&self) -> impl Iterator<Item = Problem> {
        let app = self.app;
        app.port_ids().filter_map(move |id| {
            Some(Problem {
                is_severe: true,
                text: app.no_address_at(id)?.to_owned(),
                code: Some(app.code_of_no_address(id)),
            })
        })
    }

    fn policy_problems(&self) -> Vec<Problem> {
        let (app, now) = (self.app, self.now);
        let policy = app.policy();
        let severe = |text: String, code| Problem {
            is_severe: true,
            text,
            code,
        };
        let mut problems = Vec::new();
        if let Some(wake) = app.slow_wake(&self.proxy.sockets)
            && now.since(wake.since) >= REPORT_AFTER
        {
            let text = format!("Waking takes unusually long: {}.", wake.why);
            problems.push(severe(text, Some(wake.code)));
        }
        if let Some((_, seen)) = policy.replicas()
            && now.since(seen) >= STALE_AFTER
        {
            let last = app.health().last_trouble().map(|(what, _)| what);
            let text = format!(
                "The API server has not shown the scale for {} s: {}",
                now.since(seen).as_secs(),
                last.unwrap_or("no reply")
            );
            problems.push(severe(text, Some("API")));
        }
        if policy.phase_name() == Phase::MISSING {
            let text = "The scale target does not exist.".to_owned();
            problems.push(severe(text, Some("TARGET")));
        }
        match policy.sleep_due().map(|due| due.rule) {
            Some(rule @ KeepAwakeRule::UndoneSleeps) => problems.push(Problem {
                is_severe: false,
                text: format!("It sleeps later than it could: {}.", rule.explain()),
                code: Some("REPLICAS"),
            }),
            Some(rule @ (KeepAwakeRule::NoLeases | KeepAwakeRule::ScaleRefused)) => {
                let text = format!("It is not put to sleep: {}.", rule.explain());
                problems.push(severe(text, Some("PERMISSION")));
            }
            _ => {}
        }
        problems
    }
}
