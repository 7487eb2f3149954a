//! [`Discovery`]: the apps that are found by their Services, while the process runs: which of
//! them are in force, and what is wrong with the others.
//!
//! A thread lists and watches the Services, and reads their annotations ([`candidate`]). The
//! event loop chooses which of them are in force ([`choice`]). What is wrong with one of them
//! concerns that one alone; the app of a Service that becomes wrong stays as it was.

mod candidate;
mod choice;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use log::{info, warn};
use serde::Serialize;

use self::candidate::{Candidate, ServiceKey};
pub(super) use self::candidate::{Reader, Update};
use self::choice::{Choice, Failed, choose};
use super::app_spec::{self, AppSpec};
use super::reconciler::Failure;
use crate::clock::Time;
use crate::cluster::{Event, EventType, MAX_NOTE_LEN, ObjectReference, cut};

/// The pause before the apps are tried again after a failure: an address may be free by then. It
/// doubles with each failure in a row, up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_secs(5);
/// The longest pause after failures.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// The least time between two changes of the apps. The changes of Services that come together, or
/// of one that changes all the time, are put into force together.
const SPACING: Duration = Duration::from_millis(500);
/// The pause after which Events are tried again that could not be recorded, because there were
/// so many.
const RECORD_AGAIN: Duration = Duration::from_secs(10);
/// The most Services that are wrong which `/status` shows.
const MAX_WRONG_SHOWN: usize = 100;

/// The apps that are found by their Services.
pub(super) struct Discovery {
    selector: String,
    /// Where the admin port is.
    admin: Option<SocketAddr>,
    updates: Receiver<Update>,
    /// Those of the last list or change; `None` before the first list.
    candidates: Option<Vec<Arc<Candidate>>>,
    /// How many selected Services say nothing of an app.
    without_listen: usize,
    /// Why the Services cannot be listed and watched.
    trouble: Option<String>,
    services: BTreeMap<ServiceKey, State>,
    /// When to put the candidates into force.
    due: Option<Time>,
    /// When that was done last.
    updated: Option<Time>,
    /// The pause after the next failure.
    retry: Duration,
    /// The Services that are wrong, and of which no Event says so yet.
    unrecorded: BTreeSet<ServiceKey>,
    /// When Events that could not be recorded are tried again.
    record_due: Option<Time>,
}

/// What has become of a Service.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    /// The app that is in force.
    spec: Option<Arc<AppSpec>>,
    /// What is wrong, a line each.
    errors: Vec<String>,
}

/// A Service that is wrong, as `/status` shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Wrong<'a> {
    service: String,
    why: &'a [String],
    /// Whether the app of an earlier state of the Service goes on.
    earlier_app_in_force: bool,
}

impl Wrong<'_> {
    /// Whether its app is not served, and what is wrong, in a sentence.
    pub(super) fn explain(&self) -> (bool, String) {
        let why = self.why.join("; ");
        let why = cut(&why, MAX_NOTE_LEN);
        let service = &self.service;
        match self.earlier_app_in_force {
            true => (
                false,
                format!("The Service {service} is wrong, and its app stays as it was: {why}"),
            ),
            false => (
                true,
                format!("The Service {service} is not in force: {why}"),
            ),
        }
    }
}

impl Discovery {
    /// Nothing is known yet. `updates` come from a [`Reader`].
    pub(super) fn new(
        selector: &str,
        admin: Option<SocketAddr>,
        updates: Receiver<Update>,
    ) -> Discovery {
        Discovery {
            selector: selector.to_owned(),
            admin,
            updates,
            candidates: None,
            without_listen: 0,
            trouble: None,
            services: BTreeMap::new(),
            due: None,
            updated: None,
            retry: RETRY,
            unrecorded: BTreeSet::new(),
            record_due: None,
        }
    }

    pub(super) fn selector(&self) -> &str {
        &self.selector
    }

    /// Why the Services cannot be listed and watched.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Why no app is known yet; `None` once the Services were listed.
    pub(super) fn awaited(&self) -> Option<String> {
        let is_listed = self.candidates.is_some();
        let why = || match &self.trouble {
            Some(why) => format!("the Services cannot be listed: {why}"),
            None => "the Services were not listed yet".to_owned(),
        };
        (!is_listed).then(why)
    }

    /// How many selected Services have no annotation that makes them apps.
    pub(super) fn without_listen(&self) -> usize {
        self.without_listen
    }

    /// How many Services are apps in force, and how many are wrong.
    pub(super) fn counts(&self) -> [([&'static str; 1], u64); 2] {
        let services = self.services.values();
        let in_force = services.filter(|it| it.spec.is_some()).count();
        let counts = [(["in_force"], in_force), (["wrong"], self.wrong_count())];
        counts.map(|(label, count)| (label, count as u64))
    }

    /// How many Services are wrong.
    pub(super) fn wrong_count(&self) -> usize {
        let services = self.services.values();
        services.filter(|it| !it.errors.is_empty()).count()
    }

    /// The Services that are wrong, the first hundred by name.
    pub(super) fn wrong(&self) -> Vec<Wrong<'_>> {
        let wrong = self.services.iter().filter(|(_, it)| !it.errors.is_empty());
        let shown = wrong.map(|(key, it)| Wrong {
            service: key.to_string(),
            why: &it.errors,
            earlier_app_in_force: it.spec.is_some(),
        });
        shown.take(MAX_WRONG_SHOWN).collect()
    }

    /// When [`Discovery::update`] or [`Discovery::record_events`] does something without a new
    /// update.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.due.into_iter().chain(self.record_due).min()
    }

    /// Changes nothing any more, because the process ends: there is no update to wait for.
    pub(super) fn stop(&mut self) {
        (self.due, self.record_due) = (None, None);
    }

    /// Takes in what was reported, and has `reconcile` put the chosen apps into force, if they
    /// may be others than those that are.
    ///
    /// Returns whether it was called.
    pub(super) fn update(
        &mut self,
        now: Time,
        mut reconcile: impl FnMut(Vec<AppSpec>) -> Result<(), Vec<Failure>>,
    ) -> bool {
        self.receive(now);
        let is_due = self.due.take_if(|due| *due <= now).is_some();
        let Some(candidates) = self.candidates.as_ref().filter(|_| is_due) else {
            return false;
        };
        let in_force = self.services.iter();
        let in_force = in_force.filter_map(|(key, it)| Some((key, it.spec.as_ref()?)));
        let in_force: BTreeMap<&ServiceKey, &Arc<AppSpec>> = in_force.collect();
        let mut failed = Failed::default();
        let choices = loop {
            let choices = choose(candidates, &in_force, &failed, self.admin);
            let wanted = choices.iter().filter_map(|choice| choice.spec);
            let wanted = wanted.map(|spec| AppSpec::clone(spec));
            match reconcile(wanted.collect()) {
                Ok(()) => break choices,
                Err(_) if failed.is_last() => break choices,
                Err(failures) => note(&mut failed, &choices, failures),
            }
        };
        let states = choices.into_iter().map(|choice| {
            let state = State {
                spec: choice.spec.cloned(),
                errors: choice.errors,
            };
            (choice.candidate.key(), state)
        });
        let states: BTreeMap<ServiceKey, State> = states.collect();
        self.replace(states);
        self.updated = Some(now);
        self.retry_after(failed.is_any(), now);
        true
    }

    fn retry_after(&mut self, has_failed: bool, now: Time) {
        if has_failed {
            self.due = Some(now + self.retry);
            self.retry = (self.retry * 2).min(MAX_RETRY);
        } else {
            self.retry = RETRY;
        }
    }

    fn receive(&mut self, now: Time) {
        while let Ok(update) = self.updates.try_recv() {
            match update {
                Update::Trouble(why) => self.trouble = why,
                Update::Found {
                    candidates,
                    without_listen,
                } => {
                    self.candidates = Some(candidates);
                    self.without_listen = without_listen;
                    self.retry = RETRY;
                    let at = self.updated.map_or(now, |at| now.max(at + SPACING));
                    self.due = Some(self.due.map_or(at, |due| due.min(at)));
                }
            }
        }
    }

    /// Logs what is wrong from now on, and what is not any more.
    fn replace(&mut self, states: BTreeMap<ServiceKey, State>) {
        for (key, state) in &states {
            let before = self.services.get(key).map_or(&[][..], |it| &it.errors);
            if state.errors == before {
                continue;
            }
            match state.errors.is_empty() {
                true => info!("the Service {key}: nothing is wrong any more"),
                false => {
                    warn!("the Service {key}: {}", line(state));
                    self.unrecorded.insert(key.clone());
                    self.record_due = None;
                }
            }
        }
        self.services = states;
    }

    /// Records an Event on each Service that is wrong from now on. One that `record` does not
    /// take is tried again.
    pub(super) fn record_events(
        &mut self,
        now: Time,
        mut record: impl FnMut(ObjectReference, Event) -> bool,
    ) {
        if self.record_due.is_some_and(|due| now < due) {
            return;
        }
        let services = &self.services;
        self.unrecorded.retain(|key| {
            let wrong = services.get(key).filter(|it| !it.errors.is_empty());
            wrong.is_some_and(|state| {
                let (regarding, event) = warning(key, &line(state));
                !record(regarding, event)
            })
        });
        self.record_due = (!self.unrecorded.is_empty()).then(|| now + RECORD_AGAIN);
    }
}

/// The Event on a Service that says what is wrong with it, which all proxies see.
fn warning(service: &ServiceKey, note: &str) -> (ObjectReference, Event) {
    let regarding = ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        uid: service.uid.clone(),
    };
    let event = Event::new(EventType::Warning, "NotInForce", "Discover", note);
    (regarding, event.shared())
}

/// Counts the failures of the apps that were chosen.
fn note(failed: &mut Failed, choices: &[Choice<'_>], failures: Vec<Failure>) {
    let chosen = choices.iter().filter_map(|choice| {
        let spec = choice.spec?;
        Some((app_spec::identity(spec), choice.candidate))
    });
    let chosen: BTreeMap<_, _> = chosen.collect();
    for failure in failures {
        failed.addresses.extend(failure.addresses);
        if let Some(candidate) = chosen.get(&failure.app) {
            let attempts = failed.attempts.entry(candidate.key()).or_default();
            attempts.push(failure.lines);
        }
    }
    failed.end_round();
}

/// What is wrong with a Service, in a line.
fn line(state: &State) -> String {
    let line = state.errors.join("; ");
    let kept = match state.spec {
        Some(_) => "; its app stays as it was",
        None => "",
    };
    format!("{}{kept}", cut(&line, MAX_NOTE_LEN - kept.len()))
}

#[cfg(test)]
mod tests;
