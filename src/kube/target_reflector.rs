//! [`TargetReflector`]: the pure state machine of the reflector of scale targets. It has a
//! [`Watcher`] list and watch one object by its name, or those of a kind in a namespace, and
//! reports the changes to the apps, so that the objects need not be read again and again.
//!
//! The watch saves requests, but nothing depends on it: where it is refused, or the kind has none,
//! the object is read instead (`watch_grant`). The reads and writes find the object
//! (`scale_target`), and request a relist when it is found in another collection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use log::Level;

use super::client::Client;
use super::permissions::Permissions;
use super::reflector::interface::{Output, ReflectorAction, ReflectorCore};
use super::reflector::thread::{self, Reflector};
use super::relist::RelistSignal;
use super::scale_target::{Collection, Target};
use super::scheduler::AppKey;
use super::target_store::{Change, Store};
use super::watch_grant::{Refused, WatchGrant};
use super::watcher::Watcher;
use super::watcher_io::{WatcherInput, WatcherOutcome};
use crate::clock::{Clock, Time};
use crate::cluster::{Permission, Report, TargetStatus};
use crate::supervisor::ThreadPanic;

/// The app of a reflector that has one.
const ONLY: AppKey = 0;

/// What is done for an app of many whose object cannot be watched, neither with others nor by name.
const READING_IN_TURN: &str = "reading the objects in turn";

/// Starts the thread that watches `target`.
pub(super) fn spawn(
    target: Arc<Target>,
    client: Client,
    clock: Clock,
    report: impl Fn(Report) + Send + 'static,
    panicked: impl Fn(ThreadPanic) + Send + 'static,
) -> io::Result<Arc<RelistSignal>> {
    let signal = Arc::new(RelistSignal::new(client));
    let core = TargetReflector::new(target, thread::seed(&signal, clock));
    let report = move |(_, reported)| report(reported);
    Reflector::new(core, signal, clock, report).spawn("zpa-targets", panicked)
}

/// The part of a scale target that the reflector uses.
pub(super) trait Locate {
    /// The collection in which it is listed and watched, if it was found.
    fn collection(&self) -> Option<Collection>;

    /// `status`, if it has changed.
    fn changed_status(&self, status: TargetStatus) -> Option<TargetStatus>;
}

impl Locate for Arc<Target> {
    fn collection(&self) -> Option<Collection> {
        Target::collection(self)
    }

    fn changed_status(&self, status: TargetStatus) -> Option<TargetStatus> {
        Target::changed_status(self, status)
    }
}

/// The state machine of the target reflector.
pub(super) struct TargetReflector<L> {
    /// The one object that is watched by its name; `None` for those of a namespace.
    named: Option<L>,
    /// The apps, with their objects.
    apps: BTreeMap<AppKey, App<L>>,
    /// The watched objects, for messages.
    subject: String,
    /// The fallback where they may not be watched, for messages.
    fallback: Option<&'static str>,
    /// The collection, as of the last relist.
    collection: Option<Collection>,
    watcher: Watcher,
    store: Store,
    grant: WatchGrant,
    permissions: Permissions,
    is_draining: bool,
    /// The value of the last [`Report::Watching`].
    is_watching: bool,
    outputs: Vec<Output<(AppKey, Report)>>,
}

/// An app and its object.
struct App<L> {
    target: L,
    /// The key of the object ([`Namespaces::key`](super::namespaces::Namespaces::key)); `None`:
    /// the only one that is listed.
    key: Option<String>,
}

impl<L: Locate + Clone> TargetReflector<L> {
    /// A reflector of one object. `seed` determines the jitter.
    pub(super) fn new(target: L, seed: u64) -> Self {
        let app = App {
            target: target.clone(),
            key: None,
        };
        TargetReflector {
            named: Some(target),
            apps: BTreeMap::from([(ONLY, app)]),
            ..TargetReflector::unknown("the Deployment".to_owned(), seed)
        }
    }
}

impl<L: Locate> TargetReflector<L> {
    /// A reflector of the objects of a kind in a namespace, or in all, without apps.
    pub(super) fn of_namespaces(collection: Collection, seed: u64) -> Self {
        let Collection {
            kind, namespaces, ..
        } = &collection;
        let subject = format!("the {kind}s of {namespaces}");
        TargetReflector {
            fallback: Some(READING_IN_TURN),
            store: Store::of_wanted(kind, namespaces.clone()),
            collection: Some(collection),
            ..TargetReflector::unknown(subject, seed)
        }
    }

    fn unknown(subject: String, seed: u64) -> Self {
        TargetReflector {
            named: None,
            apps: BTreeMap::new(),
            subject,
            fallback: Permission::WatchTarget.fallback(),
            collection: None,
            watcher: Watcher::new(seed),
            store: Store::default(),
            grant: WatchGrant::new(seed),
            permissions: Permissions::default(),
            is_draining: false,
            is_watching: false,
            outputs: Vec::new(),
        }
    }

    /// Adds an app, whose object has that key. [`WatcherInput::Relist`] must follow.
    pub(super) fn add(&mut self, app: AppKey, key: &str, target: L) {
        self.store.want(key);
        let key = Some(key.to_owned());
        self.apps.insert(app, App { target, key });
        if self.is_watching {
            self.outputs
                .push(Output::Report((app, Report::Watching(true))));
        }
    }

    /// Removes an app.
    pub(super) fn remove(&mut self, app: AppKey) {
        let Some(App { key: Some(key), .. }) = self.apps.remove(&app) else {
            return;
        };
        let mut others = self.apps.values();
        if !others.any(|other| other.key.as_ref() == Some(&key)) {
            self.store.forget(&key);
        }
    }

    fn relist(&mut self) {
        self.set_watching(false);
        if let Some(target) = &self.named {
            self.collection = target.collection();
        }
        if let (Some(_), Some(collection)) = (&self.named, &self.collection) {
            self.store.set_kind(&collection.kind);
        }
        self.watcher.relist();
    }

    fn action(&mut self, now: Time) -> ReflectorAction {
        match &self.collection {
            Some(collection) => {
                ReflectorAction::from_watcher(self.watcher.action(None, now), &collection.path)
            }
            None => ReflectorAction::Wait,
        }
    }

    fn handle_outcome(&mut self, outcome: WatcherOutcome, now: Time) {
        match outcome {
            WatcherOutcome::Quiet | WatcherOutcome::Listed | WatcherOutcome::Changed => {}
            WatcherOutcome::Opened => self.opened(),
            WatcherOutcome::WatchEnded(why)
            | WatcherOutcome::Busy(why)
            | WatcherOutcome::Failed(why) => {
                self.lost(&why);
            }
            WatcherOutcome::Denied { status, why } => self.refused(status, &why, now),
        }
        for change in self.store.take_changes() {
            self.report_change(&change);
        }
    }

    fn log_skipped(&mut self) {
        for why in self.watcher.take_warnings() {
            let text = format!("of {}, {why}", self.subject);
            self.outputs.push(Output::Log(Level::Warn, text));
        }
    }

    fn opened(&mut self) {
        let was_refused = self.grant.granted();
        let granted = self.permissions.granted(Permission::WatchTarget);
        granted
            .into_iter()
            .for_each(|granted| self.report(&granted));
        if was_refused {
            let text = format!("{} can be watched", self.subject);
            self.outputs.push(Output::Log(Level::Info, text));
        }
        self.set_watching(true);
    }

    /// Handles that the watch has ended, or a list has failed. Errors of the API server are logged
    /// by the threads that depend on its replies.
    fn lost(&mut self, why: &str) {
        self.grant.interrupted();
        let text = format!("the watch of {} has ended: {why}", self.subject);
        self.outputs.push(Output::Log(Level::Debug, text));
        // Otherwise the next watch goes on where this one has ended.
        if self.watcher.is_listing() {
            self.set_watching(false);
        }
    }

    fn refused(&mut self, status: u16, why: &str, now: Time) {
        self.set_watching(false);
        let Refused { pause, level } = self.grant.refused(self.is_draining, now);
        self.watcher.pause(pause, now);
        let permission = Permission::WatchTarget;
        if status == 403 {
            let (why, fallback) = (why.to_owned(), self.fallback);
            let refused = self.permissions.refused(permission, why, fallback);
            self.report(&refused);
        }
        let (subject, instead) = (&self.subject, self.fallback.unwrap_or_default());
        let text = format!("{subject} cannot be watched ({why}): {instead}");
        self.outputs.push(Output::Log(level, text));
    }

    fn set_watching(&mut self, is_watching: bool) {
        if std::mem::replace(&mut self.is_watching, is_watching) != is_watching {
            self.report(&Report::Watching(is_watching));
        }
    }

    /// Reports the same to every app.
    fn report(&mut self, report: &Report) {
        let apps = self.apps.keys();
        let reports = apps.map(|&app| Output::Report((app, report.clone())));
        self.outputs.extend(reports);
    }

    fn report_change(&mut self, change: &Change) {
        let is_its = |app: &App<L>| app.key.as_ref().is_none_or(|key| *key == change.key);
        for (&app, its) in self.apps.iter().filter(|(_, app)| is_its(app)) {
            let status = change.status.clone();
            let status = status.and_then(|status| its.target.changed_status(status));
            let observed = Report::Observed(change.observation.clone());
            let reports = [observed]
                .into_iter()
                .chain(status.map(Report::TargetStatus));
            let reports = reports.map(|report| Output::Report((app, report)));
            self.outputs.extend(reports);
        }
    }
}

impl<L: Locate> ReflectorCore for TargetReflector<L> {
    type Report = (AppKey, Report);

    fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> ReflectorAction {
        match event {
            WatcherInput::Relist => self.relist(),
            event => {
                let outcome = self.watcher.handle(event, &mut self.store, now);
                self.handle_outcome(outcome, now);
                self.log_skipped();
            }
        }
        self.action(now)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.collection.as_ref()?;
        self.watcher.poll_timeout()
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    fn is_listing(&self) -> bool {
        !self.apps.is_empty() && self.watcher.is_listing()
    }

    fn take_outputs(&mut self) -> Vec<Output<(AppKey, Report)>> {
        std::mem::take(&mut self.outputs)
    }
}

#[cfg(test)]
mod tests;
