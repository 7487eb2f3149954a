//! [`Proxy`]: all apps of the process. It passes to each app the counts of its sockets and the
//! reports of its API threads.
//!
//! It uses the event loop and the API threads only through traits ([`Sockets`], [`Api`]),
//! so that the simulation can replace both: it runs days of faults in a second with the same
//! code that runs in the cluster.
//!
//! A turn of the loop calls only the apps for which something has happened: a deadline has passed,
//! their counts have changed, or another thread has reported something about them. The others cost
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::{info, warn};

use super::app::{App, AppConfig, Process, Reconfigured};
use super::drain::{self, Drain};
pub use super::drain::{DrainConfig, Exit};
use super::interface::{Api, Sockets};
use super::messages::connections;
use super::own_addresses::OwnAddresses;
use crate::clock::Time;
use crate::cluster::Report;
use crate::duration;
use crate::engine::AppId;
use crate::policy::Policy;

/// The most reasons for unreadiness that are listed while no app of a list was ready yet.
const MAX_TROUBLES: usize = 10;

/// The apps, their sockets, and the end of the process.
pub struct Proxy<S, A> {
    /// The event loop.
    pub sockets: S,
    apps: BTreeMap<AppId, Entry<A>>,
    /// The deadlines of the apps.
    deadlines: BTreeSet<(Time, AppId)>,
    own_addresses: OwnAddresses,
    config: DrainConfig,
    drain: Drain,
    readiness: Readiness,
    /// Why no app is known yet, where they are found.
    awaited: Option<String>,
}

/// The apps on whose readiness that of the process depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// Its only app.
    OfApp,
    /// The apps of a list; with whether any of them was ready yet: then none any more.
    OfList(bool),
}

struct Entry<A> {
    app: App<A>,
    /// The drain of an app that is to be removed.
    leaving: Drain,
    /// Its entry in the set of deadlines.
    deadline: Option<Time>,
}

impl<S: Sockets, A: Api> Proxy<S, A> {
    /// A proxy without apps.
    pub fn new(sockets: S, config: DrainConfig) -> Self {
        Proxy {
            sockets,
            apps: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            own_addresses: OwnAddresses::default(),
            config,
            drain: Drain::NotBegun,
            readiness: Readiness::OfApp,
            awaited: None,
        }
    }

    /// Sets that the apps are those of a list: then one that is not ready does not make the
    /// process unready.
    pub fn set_list(&mut self) {
        self.readiness = Readiness::OfList(false);
    }

    /// Sets why no app is known yet, where they are found: the proxy is not ready before. If
    /// there is none then, it is ready, and no app that comes later ends that.
    pub fn set_awaited(&mut self, why: Option<String>) {
        let is_over = self.awaited.is_some() && why.is_none();
        if is_over && self.apps.is_empty() {
            self.readiness = Readiness::OfList(true);
        }
        self.awaited = why;
    }

    /// Adds an app, whose ports the sockets must have.
    pub fn add(&mut self, id: AppId, api: A, policy: Policy, config: AppConfig, now: Time) {
        let app = App::new(id, api, policy, config, now);
        let entry = Entry {
            app,
            leaving: Drain::NotBegun,
            deadline: None,
        };
        self.apps.insert(id, entry);
        self.schedule(id, Some(now));
        self.count_apps();
    }

    /// Passes the number of apps to each of them.
    fn count_apps(&mut self) {
        let count = self.apps.len();
        for entry in self.apps.values_mut() {
            entry.app.set_apps(count);
        }
    }

    /// Drains an app, as the process drains after a signal, and removes it at the end.
    pub fn leave(&mut self, id: AppId, now: Time) {
        let Some(entry) = self.apps.get_mut(&id) else {
            return;
        };
        if entry.leaving.has_begun() {
            return;
        }
        entry.app.set_draining();
        entry.leaving = self.config.begin(now);
        self.finish_turn(id, now);
    }

    /// Removes an app. Its connections are reset, and its API threads end.
    pub fn remove(&mut self, id: AppId, now: Time) {
        self.schedule(id, None);
        self.apps.remove(&id);
        self.count_apps();
        self.sockets.remove_app(id, now);
    }

    /// Applies changed settings to an app; its connections, pods and API threads stay.
    pub fn reconfigure(&mut self, id: AppId, change: Reconfigured, now: Time) {
        self.with(id, now, |app, process| app.reconfigure(change, process));
        self.finish_turn(id, now);
    }

    /// Every app.
    pub fn apps(&self) -> impl Iterator<Item = (AppId, &App<A>)> {
        self.apps.iter().map(|(&id, entry)| (id, &entry.app))
    }

    /// The app with that id.
    pub fn app(&self, id: AppId) -> Option<&App<A>> {
        self.apps.get(&id).map(|entry| &entry.app)
    }

    /// The API threads of an app.
    pub fn api_mut(&mut self, id: AppId) -> Option<&mut A> {
        self.apps.get_mut(&id).map(|entry| entry.app.api_mut())
    }

    /// Whether an app drains in order to be removed.
    pub fn is_leaving(&self, id: AppId) -> bool {
        let entry = self.apps.get(&id);
        entry.is_some_and(|entry| entry.leaving.has_begun())
    }

    /// Sets the addresses of this proxy itself.
    pub fn set_own_addresses(&mut self, own_addresses: OwnAddresses) {
        self.own_addresses = own_addresses;
    }

    /// The progress of its drain.
    pub fn drain_state(&self) -> Drain {
        self.drain
    }

    /// The settings of the drain.
    pub fn drain_config(&self) -> DrainConfig {
        self.config
    }

    /// Whether it drains.
    pub fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// The reasons why the proxy is not ready, a line each; none if it is.
    ///
    /// Once it was ready, an outage of the API server does not end readiness: all proxies
    /// would become unready at once, and the Service would have no endpoint left. See
    /// `health.rs` for what does.
    ///
    /// With a list of apps, one that is not ready does not matter once any app was ready. Before
    /// that it does, because something common may be wrong, such as the access to the API server.
    pub fn unready(&self, now: Time) -> Vec<String> {
        let draining = self
            .is_draining()
            .then(|| "draining after a signal".to_owned());
        let apps = self.apps.values();
        let troubles = apps.flat_map(|entry| entry.app.unready(now));
        let troubles: Vec<String> = match self.readiness {
            Readiness::OfApp => troubles.collect(),
            Readiness::OfList(true) => Vec::new(),
            Readiness::OfList(false) => troubles.take(MAX_TROUBLES).collect(),
        };
        let awaited = self.awaited.clone();
        draining
            .into_iter()
            .chain(awaited)
            .chain(troubles)
            .collect()
    }

    /// When [`Proxy::turn`] is to be called even without an event.
    pub fn poll_timeout(&self) -> Option<Time> {
        [
            self.sockets.poll_timeout(),
            self.deadlines.first().map(|&(at, _)| at),
            self.drain.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// One turn of the loop, with a bounded amount of work.
    pub fn turn(
        &mut self,
        reports: impl IntoIterator<Item = (AppId, Report)>,
        now: Time,
    ) -> Option<Exit> {
        // First the deadlines, which may shut gates; then the sockets, so that connections
        // that are here already count; then the reports, which may put an app to sleep.
        let mut active = self.due(now);
        for &id in &active {
            self.with(id, now, App::begin_turn);
        }
        self.sockets.dispatch(now);
        for id in self.sockets.take_changed_apps() {
            active.insert(id);
            self.with(id, now, App::update_counts);
        }
        for (id, report) in reports {
            active.insert(id);
            self.with(id, now, |app, process| app.handle(report, process));
        }
        for &id in &active {
            self.finish_turn(id, now);
        }
        // A connection that was detached just now, with a byte that had waited, is held: no event
        // reports it again.
        for id in self.sockets.take_changed_apps() {
            self.with(id, now, App::update_counts);
            self.finish_turn(id, now);
        }
        self.sockets.release(now);
        self.drain(now)
    }

    /// The apps whose deadlines have passed.
    fn due(&self, now: Time) -> BTreeSet<AppId> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        due.map(|&(_, id)| id).collect()
    }

    /// Ends the turn of an app.
    fn finish_turn(&mut self, id: AppId, now: Time) {
        let is_draining = self.is_draining();
        let Some(entry) = self.apps.get(&id) else {
            return;
        };
        let is_leaving = entry.leaving.has_begun();
        self.with(id, now, |app, process| {
            app.finish_turn(is_draining || is_leaving, process);
        });
        if is_leaving && self.has_left(id, now) {
            return self.remove(id, now);
        }
        let Some(entry) = self.apps.get(&id) else {
            return;
        };
        if self.readiness == Readiness::OfList(false) && entry.app.unready(now).is_empty() {
            self.readiness = Readiness::OfList(true);
        }
        let inspected = match entry.leaving {
            Drain::Finish { .. } => self.sockets.inspected_until(id),
            Drain::NotBegun | Drain::Delay { .. } => None,
        };
        let deadlines = [
            entry.app.poll_timeout(&self.sockets),
            entry.leaving.poll_timeout(),
            inspected,
        ];
        self.schedule(id, deadlines.into_iter().flatten().min());
    }

    /// Whether the drain of an app is over; resets its connections at the end of its time.
    fn has_left(&mut self, id: AppId, now: Time) -> bool {
        let Some(entry) = self.apps.get_mut(&id) else {
            return true;
        };
        let name = entry.app.config().name.clone();
        if entry.leaving.stop_accepting(self.config.timeout, now) {
            self.sockets.stop_accepting(id, now);
            let open = connections(self.sockets.counts(id).open as u64);
            let limit = duration::display(self.config.timeout);
            info!("{name}: accepts no more; {open} may finish within {limit}");
        }
        let Some(entry) = self.apps.get_mut(&id) else {
            return true;
        };
        if let Some(left) = entry.leaving.report(now) {
            let open = connections(self.sockets.counts(id).open as u64);
            info!("{name}: {open} still open, for {} at most", in_s(left));
        }
        let Drain::Finish { until, .. } = entry.leaving else {
            return false;
        };
        let open = self.sockets.counts(id).open;
        if open == 0 && now < until && self.sockets.inspected_until(id).is_some() {
            // They had connected before it stopped, and have yet to name it.
            return false;
        }
        if open == 0 {
            info!("{name}: drained, and removed");
        } else if now >= until {
            warn!("{name}: removed, with {} cut", connections(open as u64));
        }
        open == 0 || now >= until
    }

    fn schedule(&mut self, id: AppId, deadline: Option<Time>) {
        let Some(entry) = self.apps.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.deadline, deadline);
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.deadlines.remove(&(before, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
    }

    /// Calls `work` with an app, if it still exists: a report may come after its removal.
    fn with(&mut self, id: AppId, now: Time, work: impl FnOnce(&mut App<A>, &mut Process<'_, S>)) {
        if let Some(entry) = self.apps.get_mut(&id) {
            let mut process = Process {
                sockets: &mut self.sockets,
                own_addresses: &self.own_addresses,
                now,
            };
            work(&mut entry.app, &mut process);
        }
    }

    // --- The drain ---

    /// A signal has come: the first starts the drain, the second ends it.
    pub fn end(&mut self, signal: &str, now: Time) -> Option<Exit> {
        if self.is_draining() {
            // Connections in the kernel's queue are cut like all others.
            self.stop_accepting(now);
            return Some(self.cut(&format!("{signal} again: ending at once"), now));
        }
        let DrainConfig { delay, timeout } = self.config;
        info!(
            "{signal}: accepting for another {}, then up to {} to finish; open now: {}",
            duration::display(delay),
            duration::display(timeout),
            self.describe_open(),
        );
        self.drain = self.config.begin(now);
        for entry in self.apps.values_mut() {
            entry.app.set_draining();
        }
        None
    }

    fn drain(&mut self, now: Time) -> Option<Exit> {
        if self.drain.stop_accepting(self.config.timeout, now) {
            self.stop_accepting(now);
            if self.open() > 0 {
                let limit = duration::display(self.config.timeout);
                let open = self.describe_open();
                info!("draining: accepting no more; waiting up to {limit} for {open}");
            }
        }
        let Drain::Finish { since, until, .. } = self.drain else {
            return None;
        };
        if self.open() == 0 {
            let took = in_s(now.since(since));
            info!("drained: every connection has ended, {took} after the signal");
            return Some(Exit::Drained);
        }
        if let Some(left) = self.drain.report(now) {
            let open = self.describe_open();
            info!("draining: waiting {} more for {open}", in_s(left));
        }
        if now < until {
            return None;
        }
        self.record_cut();
        Some(self.cut("the drain deadline has passed", now))
    }

    /// Has an Event recorded about each app whose connections are cut at the drain deadline.
    fn record_cut(&mut self) {
        let timeout = self.config.timeout;
        for (&id, entry) in &mut self.apps {
            let open = self.sockets.counts(id).open;
            if open > 0 {
                entry.app.record_cut(open, timeout);
            }
        }
    }

    /// What is open, in words.
    fn describe_open(&self) -> String {
        let apps = self.apps.iter().map(|(&id, entry)| {
            let counts = self.sockets.counts(id);
            let name = entry.app.config().name.as_str();
            (name, counts.open, counts.waiting)
        });
        drain::describe_open(apps, self.sockets.inspected())
    }

    fn stop_accepting(&mut self, now: Time) {
        for &id in self.apps.keys() {
            self.sockets.stop_accepting(id, now);
        }
    }

    /// Resets the open connections, for the reason `why`.
    fn cut(&mut self, why: &str, now: Time) -> Exit {
        let open = self.open();
        if open == 0 {
            info!("{why}: nothing is open");
            return Exit::Drained;
        }
        let all = self.describe_open();
        warn!("{why}: cutting {all}");
        for &id in self.apps.keys() {
            self.sockets.reset_all(id, now);
        }
        Exit::Reset
    }

    fn open(&self) -> usize {
        let open = self.apps.keys().map(|&id| self.sockets.counts(id).open);
        open.sum::<usize>() + self.sockets.inspected()
    }
}

/// In whole seconds.
fn in_s(time: Duration) -> String {
    duration::display(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests;
