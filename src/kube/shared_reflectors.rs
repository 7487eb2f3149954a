//! [`SharedReflectors`]: the reflectors that apps share, as client-go's `SharedInformerFactory` has
//! shared informers. One reflector keeps the endpoints and the Services of a namespace together,
//! another the scale targets of one kind in it, with a thread each. One is
//! started for the first app that needs it, and ends when the last is removed.
//!
//! Other threads add and remove apps. The thread of a reflector applies these changes before it
//! handles its next event ([`ApplyChangesFirst`]).
//!
//! Where the scale targets of a collection may not be watched together, some of them are by name
//! ([`NamedWatches`]).

mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::named::{NamedWatch, NamedWatches};
use super::WatchedApp;
use super::client::Client;
use super::credentials::Credentials;
use super::executor::RequestQueue;
use super::namespaces::Namespaces;
use super::reflector::NamespaceEndpoints;
use super::reflector::interface::{Output, ReflectorAction, ReflectorCore};
use super::reflector::thread::{self, Reflector};
use super::relist::RelistSignal;
use super::requests::Requests;
use super::scale_target::{Collection, Target};
use super::scheduler::AppKey;
use super::target_reflector::{self, TargetReflector};
use super::watcher_io::WatcherInput;
use crate::clock::{Clock, Time};
use crate::cluster::{Permission, Report};
use crate::supervisor::ThreadPanic;

/// The most collections of scale targets (a kind in a namespace) that are watched. Objects of
/// others are polled.
const MAX_COLLECTIONS: usize = 16;

/// The reflectors that apps share.
pub(super) struct SharedReflectors {
    /// Whether the objects of all namespaces are listed together.
    is_of_all_namespaces: bool,
    credentials: Arc<Credentials>,
    requests: Arc<Requests>,
    queue: Arc<RequestQueue>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    endpoint_reflectors: BTreeMap<Namespaces, SharedReflector<Arc<WatchedApp>>>,
    /// By the path of the collection of objects.
    target_reflectors: BTreeMap<String, SharedReflector<KeyedTarget>>,
    /// Where the object of an app was found.
    located: BTreeMap<AppKey, Located>,
    named_watches: NamedWatches<NamedWatch>,
}

/// An object, and the path of the collection that contains it.
struct Located {
    path: String,
    target: Arc<Target>,
}

/// The scale target of an app, with its key in the collection ([`Namespaces::key`]).
pub(super) type KeyedTarget = (String, Arc<Target>);

/// The handle of a reflector that apps share. `A` is what it needs to know of an app.
struct SharedReflector<A> {
    signal: Arc<RelistSignal>,
    changes: Arc<Mutex<Changes<A>>>,
    apps: BTreeSet<AppKey>,
    waiting: BTreeSet<AppKey>,
    draining: BTreeSet<AppKey>,
}

/// The changes that a reflector has not applied yet, by app.
type Changes<A> = BTreeMap<AppKey, AppChange<A>>;

/// The changes of an app: first its removal, then the others.
struct AppChange<A> {
    added: Option<A>,
    is_removed: bool,
    waiting: Option<bool>,
    is_draining: bool,
}

impl<A> Default for AppChange<A> {
    fn default() -> Self {
        AppChange {
            added: None,
            is_removed: false,
            waiting: None,
            is_draining: false,
        }
    }
}

/// The core of a reflector that several apps share.
pub(super) trait SharedReflectorCore: ReflectorCore {
    /// What it needs to know of an app.
    type App;

    /// Adds an app. The next event is [`WatcherInput::Relist`].
    fn add(&mut self, app: AppKey, given: Self::App);

    /// Removes an app.
    fn remove(&mut self, app: AppKey);

    /// Sets whether connections of an app wait.
    fn set_waiting(&mut self, app: AppKey, is_waiting: bool);

    /// Marks an app as draining.
    fn set_app_draining(&mut self, app: AppKey);
}

/// A core that applies the changes of its apps before it handles an event. An app is added only
/// when a new list begins: a list in progress has already skipped the app's objects.
struct ApplyChangesFirst<C: SharedReflectorCore> {
    core: C,
    changes: Arc<Mutex<Changes<C::App>>>,
}

impl<C: SharedReflectorCore> ReflectorCore for ApplyChangesFirst<C> {
    type Report = C::Report;

    fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> ReflectorAction {
        let is_list = matches!(event, WatcherInput::Relist);
        let mut pending = lock(&self.changes);
        let (later, changes): (Changes<_>, Changes<_>) = std::mem::take(&mut *pending)
            .into_iter()
            .partition(|(_, change)| change.added.is_some() && !is_list);
        later
            .iter()
            .filter(|(_, change)| change.is_removed)
            .for_each(|(&app, _)| self.core.remove(app));
        *pending = later;
        drop(pending);
        for (app, change) in changes {
            if change.is_removed {
                self.core.remove(app);
            }
            if let Some(given) = change.added {
                self.core.add(app, given);
            }
            if let Some(is_waiting) = change.waiting {
                self.core.set_waiting(app, is_waiting);
            }
            if change.is_draining {
                self.core.set_app_draining(app);
            }
        }
        self.core.handle(event, now)
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.core.poll_timeout()
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.core.set_draining(is_draining);
    }

    fn is_listing(&self) -> bool {
        self.core.is_listing()
    }

    fn take_outputs(&mut self) -> Vec<Output<C::Report>> {
        self.core.take_outputs()
    }
}

impl SharedReflectorCore for NamespaceEndpoints {
    type App = Arc<WatchedApp>;

    fn add(&mut self, app: AppKey, config: Arc<WatchedApp>) {
        NamespaceEndpoints::add(self, app, &config);
    }

    fn remove(&mut self, app: AppKey) {
        NamespaceEndpoints::remove(self, app);
    }

    fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
        NamespaceEndpoints::set_waiting(self, app, is_waiting);
    }

    fn set_app_draining(&mut self, app: AppKey) {
        NamespaceEndpoints::set_app_draining(self, app);
    }
}

impl SharedReflectorCore for TargetReflector<Arc<Target>> {
    type App = KeyedTarget;

    fn add(&mut self, app: AppKey, (name, target): KeyedTarget) {
        TargetReflector::add(self, app, &name, target);
    }

    fn remove(&mut self, app: AppKey) {
        TargetReflector::remove(self, app);
    }

    fn set_waiting(&mut self, _: AppKey, _: bool) {}

    fn set_app_draining(&mut self, _: AppKey) {}
}

impl<A: Send + 'static> SharedReflector<A> {
    /// Starts the thread of a reflector. `core` is called with the seed of its jitter.
    fn start<C>(
        shared: &SharedReflectors,
        name: &'static str,
        core: impl FnOnce(u64) -> C,
        report: impl Fn((AppKey, Report)) + Send + 'static,
    ) -> io::Result<Self>
    where
        C: SharedReflectorCore<App = A, Report = (AppKey, Report)> + Send + 'static,
    {
        let client = Client::new(shared.credentials.clone(), shared.requests.clone());
        let signal = Arc::new(RelistSignal::new(client));
        let changes = Arc::default();
        let core = ApplyChangesFirst {
            core: core(thread::seed(&signal, shared.clock)),
            changes: Arc::clone(&changes),
        };
        let panicked = shared.panicked();
        let reflector = Reflector::new(core, signal, shared.clock, report);
        Ok(SharedReflector {
            signal: reflector.spawn(name, panicked)?,
            changes,
            apps: BTreeSet::new(),
            waiting: BTreeSet::new(),
            draining: BTreeSet::new(),
        })
    }

    fn add(&mut self, app: AppKey, given: A) {
        self.apps.insert(app);
        lock(&self.changes).entry(app).or_default().added = Some(given);
        self.signal.request_after_list();
    }

    fn remove(&mut self, app: AppKey) {
        self.set_waiting(app, false);
        self.apps.remove(&app);
        self.draining.remove(&app);
        let removal = AppChange {
            is_removed: true,
            ..AppChange::default()
        };
        lock(&self.changes).insert(app, removal);
    }

    fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
        let has_changed = match is_waiting {
            true => self.waiting.insert(app),
            false => self.waiting.remove(&app),
        };
        if has_changed {
            lock(&self.changes).entry(app).or_default().waiting = Some(is_waiting);
            self.signal.set_waiting(!self.waiting.is_empty());
        }
    }

    /// Marks an app as draining. Once all are, failures that concern all are logged below warn.
    fn set_draining(&mut self, app: AppKey) {
        self.draining.insert(app);
        lock(&self.changes).entry(app).or_default().is_draining = true;
        if self.draining == self.apps {
            self.signal.set_draining();
        }
    }
}

impl<A> Drop for SharedReflector<A> {
    fn drop(&mut self) {
        self.signal.close();
    }
}

impl SharedReflectors {
    /// No app yet: a thread is started for the first one.
    pub(super) fn new(
        credentials: Arc<Credentials>,
        requests: Arc<Requests>,
        queue: Arc<RequestQueue>,
        clock: Clock,
        is_of_all_namespaces: bool,
    ) -> Self {
        SharedReflectors {
            is_of_all_namespaces,
            credentials,
            requests,
            queue,
            clock,
            state: Mutex::default(),
        }
    }

    /// Adds an app: from now on the endpoints of its Service are reported to it.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn add(&self, app: AppKey, config: Arc<WatchedApp>) -> io::Result<()> {
        let mut state = self.state();
        let namespaces = self.with(&config.namespace);
        let mut reflector = match state.endpoint_reflectors.remove(&namespaces) {
            Some(reflector) => reflector,
            None => {
                let core = |seed| NamespaceEndpoints::new(&namespaces, seed);
                let queue = self.queue.clone();
                let report = move |(app, report)| queue.report(app, report);
                SharedReflector::start(self, "zpa-endpoints", core, report)?
            }
        };
        reflector.add(app, config);
        state.endpoint_reflectors.insert(namespaces, reflector);
        Ok(())
    }

    /// The namespaces that are listed together with that one.
    fn with(&self, namespace: &str) -> Namespaces {
        match self.is_of_all_namespaces {
            true => Namespaces::All,
            false => Namespaces::One(namespace.to_owned()),
        }
    }

    /// Sets that the object of an app was found, perhaps in another collection than before: from
    /// now on its changes are reported to the app.
    pub(super) fn locate(self: &Arc<Self>, app: AppKey, target: &Arc<Target>) {
        let mut state = self.state();
        let found = target.in_namespaces(self.with(target.namespace()));
        let path = found.as_ref().map(|(collection, _)| &collection.path);
        let before = state.located.get(&app).map(|located| &located.path);
        if before == path || !state.has_app(app) {
            return;
        }
        state.remove_target(app);
        if let Some((collection, key)) = found
            && let Some(reflector) = self.target_reflector(&mut state, &collection)
        {
            let (path, target) = (collection.path, target.clone());
            reflector.add(app, (key, target.clone()));
            state.located.insert(app, Located { path, target });
        }
        self.choose_named_watches(&mut state);
    }

    fn target_reflector<'a>(
        self: &Arc<Self>,
        state: &'a mut State,
        collection: &Collection,
    ) -> Option<&'a mut SharedReflector<KeyedTarget>> {
        let path = &collection.path;
        if !state.target_reflectors.contains_key(path) {
            if state.target_reflectors.len() >= MAX_COLLECTIONS {
                log::debug!("{path}: not watched, because {MAX_COLLECTIONS} collections are");
                return None;
            }
            let core = |seed| TargetReflector::of_namespaces(collection.clone(), seed);
            let (reflectors, of) = (Arc::downgrade(self), path.clone());
            let report = move |(app, report)| {
                if let Some(reflectors) = reflectors.upgrade() {
                    reflectors.report_of_collection(&of, app, report);
                }
            };
            match SharedReflector::start(self, "zpa-targets", core, report) {
                Ok(reflector) => state.target_reflectors.insert(path.clone(), reflector),
                Err(why) => {
                    log::warn!("no thread can be started to watch {path}: {why}");
                    return None;
                }
            };
        }
        state.target_reflectors.get_mut(path)
    }

    /// Reports something about an app that the watch of its collection has shown. What concerns
    /// the watch itself says nothing about an object that is watched by name.
    fn report_of_collection(self: &Arc<Self>, path: &str, app: AppKey, report: Report) {
        let mut state = self.state();
        let has_changed = match &report {
            Report::Permission { refusal, .. } if refusal.is_some() => {
                state.named_watches.refused(path)
            }
            Report::Watching(true) => state.named_watches.granted(path),
            _ => false,
        };
        if has_changed {
            self.choose_named_watches(&mut state);
        }
        let is_of_watch = match &report {
            // A grant holds for each object, whatever was refused to its own watch.
            Report::Permission { refusal, .. } => refusal.is_some(),
            Report::Watching(_) => true,
            _ => false,
        };
        if !is_of_watch || !state.named_watches.is_open(app) {
            self.queue.report(app, report);
        }
    }

    /// Reports something about an app that a watch of its object by name has shown, unless that
    /// watch has been closed.
    fn report_by_name(&self, app: AppKey, number: u64, report: Report) {
        let state = self.state();
        if state.named_watches.number(app) == Some(number) {
            self.queue.report(app, report);
        }
    }

    /// Opens and closes watches by name where that is due.
    fn choose_named_watches(self: &Arc<Self>, state: &mut State) {
        let located = state.located.iter();
        let located = located.map(|(&app, located)| (app, located.path.as_str()));
        for (app, number) in state.named_watches.choose(located) {
            let Some(Located { target, .. }) = state.located.get(&app) else {
                continue;
            };
            match self.watch_by_name(app, number, target.clone()) {
                Ok(watch) => state.named_watches.open(app, number, watch),
                Err(why) => {
                    log::warn!("no thread can be started to watch an object by name: {why}");
                    return;
                }
            }
            // That of the collection was reported to be missing.
            let granted = Report::Permission {
                permission: Permission::WatchTarget,
                refusal: None,
            };
            self.queue.report(app, granted);
        }
    }

    fn watch_by_name(
        self: &Arc<Self>,
        app: AppKey,
        number: u64,
        target: Arc<Target>,
    ) -> io::Result<NamedWatch> {
        let client = Client::new(self.credentials.clone(), self.requests.clone());
        let reflectors = Arc::downgrade(self);
        let report = move |report| {
            if let Some(reflectors) = reflectors.upgrade() {
                reflectors.report_by_name(app, number, report);
            }
        };
        let panicked = self.panicked();
        let signal = target_reflector::spawn(target, client, self.clock, report, panicked)?;
        Ok(NamedWatch(signal))
    }

    fn panicked(&self) -> impl Fn(ThreadPanic) + Send + 'static {
        let queue = self.queue.clone();
        move |panic| queue.report_to_all(&Report::Panicked(panic))
    }

    /// Removes an app.
    pub(super) fn remove(self: &Arc<Self>, app: AppKey, namespace: &str) {
        let mut state = self.state();
        state.remove_target(app);
        self.choose_named_watches(&mut state);
        if let Some(reflector) = state.endpoint_reflectors.get_mut(&self.with(namespace)) {
            reflector.remove(app);
            if reflector.apps.is_empty() {
                state.endpoint_reflectors.remove(&self.with(namespace));
            }
        }
    }

    /// Requests that the endpoints of a namespace are listed again.
    pub(super) fn relist(&self, namespace: &str) {
        if let Some(reflector) = self.state().endpoint_reflectors.get(&self.with(namespace)) {
            reflector.signal.request((self.clock)());
        }
    }

    /// Requests a list if the watch has received nothing after `seen`; returns whether it was
    /// requested, and true if the namespace has no reflector.
    pub(super) fn relist_unless_newer(&self, namespace: &str, seen: Time) -> bool {
        let state = self.state();
        let reflector = state.endpoint_reflectors.get(&self.with(namespace));
        reflector.is_none_or(|it| it.signal.request_unless_newer(seen, (self.clock)()))
    }

    /// Sets whether connections of an app wait for an endpoint.
    pub(super) fn set_waiting(&self, app: AppKey, namespace: &str, is_waiting: bool) {
        if let Some(reflector) = self
            .state()
            .endpoint_reflectors
            .get_mut(&self.with(namespace))
        {
            reflector.set_waiting(app, is_waiting);
        }
    }

    /// Marks an app as draining.
    pub(super) fn set_draining(&self, app: AppKey, namespace: &str) {
        let mut state = self.state();
        if let Some(reflector) = state.endpoint_reflectors.get_mut(&self.with(namespace)) {
            reflector.set_draining(app);
        }
        let located = state.located.get(&app);
        let path = located.map(|located| located.path.clone());
        if let Some(reflector) = path.and_then(|path| state.target_reflectors.get_mut(&path)) {
            reflector.set_draining(app);
        }
        if let Some(NamedWatch(signal)) = state.named_watches.get(app) {
            signal.set_draining();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Whether an app was added and not removed. What is found for one that was removed
    /// meanwhile would be watched for ever.
    fn has_app(&self, app: AppKey) -> bool {
        let mut reflectors = self.endpoint_reflectors.values();
        reflectors.any(|it| it.apps.contains(&app))
    }

    /// Stops reporting the changes of the object of an app to it.
    fn remove_target(&mut self, app: AppKey) {
        self.named_watches.close(app);
        let Some(Located { path, .. }) = self.located.remove(&app) else {
            return;
        };
        if let Some(reflector) = self.target_reflectors.get_mut(&path) {
            reflector.remove(app);
            if reflector.apps.is_empty() {
                self.target_reflectors.remove(&path);
                self.named_watches.granted(&path);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
