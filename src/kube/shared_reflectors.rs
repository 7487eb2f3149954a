//! [`SharedReflectors`]: the reflectors that apps share, as client-go's `SharedInformerFactory` has
//! shared informers. There is one of the endpoints and the Services for each namespace, and
//! one of the scale targets for each kind in a namespace, with a thread and a watch each. One is
//! started for the first app that needs it, and ends when the last is removed.
//!
//! Other threads add and remove apps. The thread of a reflector applies these changes before it
//! handles its next event ([`ApplyChangesFirst`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use super::target_reflector::TargetReflector;
use super::watcher_io::Event;
use crate::clock::{Clock, Time};
use crate::cluster::Report;
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
    /// The path of the collection that contains the object of an app.
    collection_of: BTreeMap<AppKey, String>,
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

    /// Adds an app. The next event is [`Event::Relist`].
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

    fn handle(&mut self, event: Event<'_>, now: Time) -> ReflectorAction {
        let is_list = matches!(event, Event::Relist);
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
        let (reports, panics) = (shared.queue.clone(), shared.queue.clone());
        let report = move |(app, report)| reports.report(app, report);
        let panicked = move |panic: ThreadPanic| panics.report_to_all(&Report::Panicked(panic));
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
        self.signal.request_deferred();
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
            None => SharedReflector::start(self, "zpa-endpoints", |seed| {
                NamespaceEndpoints::new(&namespaces, seed)
            })?,
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
    pub(super) fn locate(&self, app: AppKey, target: &Arc<Target>) {
        let mut state = self.state();
        let found = target.in_namespaces(self.with(target.namespace()));
        let path = found.as_ref().map(|(collection, _)| &collection.path);
        if state.collection_of.get(&app) == path || !state.has_app(app) {
            return;
        }
        state.remove_target(app);
        let Some((collection, key)) = found else {
            return;
        };
        if let Some(reflector) = self.target_reflector(&mut state, &collection) {
            reflector.add(app, (key, target.clone()));
            state.collection_of.insert(app, collection.path);
        }
    }

    fn target_reflector<'a>(
        &self,
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
            match SharedReflector::start(self, "zpa-targets", core) {
                Ok(reflector) => state.target_reflectors.insert(path.clone(), reflector),
                Err(why) => {
                    log::warn!("no thread can be started to watch {path}: {why}");
                    return None;
                }
            };
        }
        state.target_reflectors.get_mut(path)
    }

    /// Removes an app.
    pub(super) fn remove(&self, app: AppKey, namespace: &str) {
        let mut state = self.state();
        state.remove_target(app);
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
        let path = state.collection_of.get(&app).cloned();
        if let Some(reflector) = path.and_then(|path| state.target_reflectors.get_mut(&path)) {
            reflector.set_draining(app);
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
        let Some(path) = self.collection_of.remove(&app) else {
            return;
        };
        if let Some(reflector) = self.target_reflectors.get_mut(&path) {
            reflector.remove(app);
            if reflector.apps.is_empty() {
                self.target_reflectors.remove(&path);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// A core that records its calls.
    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl ReflectorCore for Recorder {
        type Report = ();

        fn handle(&mut self, _: Event<'_>, _: Time) -> ReflectorAction {
            ReflectorAction::Wait
        }

        fn poll_timeout(&self) -> Option<Time> {
            None
        }

        fn set_draining(&mut self, _: bool) {}

        fn take_outputs(&mut self) -> Vec<Output<()>> {
            Vec::new()
        }
    }

    impl SharedReflectorCore for Recorder {
        type App = &'static str;

        fn add(&mut self, app: AppKey, given: &'static str) {
            self.0.push(format!("add {app} {given}"));
        }

        fn remove(&mut self, app: AppKey) {
            self.0.push(format!("remove {app}"));
        }

        fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
            self.0.push(format!("waiting {app} {is_waiting}"));
        }

        fn set_app_draining(&mut self, app: AppKey) {
            self.0.push(format!("draining {app}"));
        }
    }

    /// A reflector whose thread has not run yet, and its core.
    fn shared() -> (SharedReflector<&'static str>, ApplyChangesFirst<Recorder>) {
        let access = testing::access(([127, 0, 0, 1], 1).into());
        let credentials = Credentials::new(access, testing::clock).unwrap();
        let client = Client::new(Arc::new(credentials), Arc::default());
        let reflector = SharedReflector {
            signal: Arc::new(RelistSignal::new(client)),
            changes: Arc::default(),
            apps: BTreeSet::new(),
            waiting: BTreeSet::new(),
            draining: BTreeSet::new(),
        };
        let core = ApplyChangesFirst {
            core: Recorder::default(),
            changes: reflector.changes.clone(),
        };
        (reflector, core)
    }

    #[test]
    fn the_changes_of_an_app_are_applied_in_their_order_before_the_next_event() {
        type Change = fn(&mut SharedReflector<&'static str>);
        let cases: [(&str, &[Change], &[&str]); 4] = [
            (
                "added",
                &[|it| it.add(1, "a"), |it| it.set_waiting(1, true)],
                &["add 1 a", "waiting 1 true"],
            ),
            (
                "removed while it waits",
                &[
                    |it| it.add(1, "a"),
                    |it| it.set_waiting(1, true),
                    |it| it.remove(1),
                ],
                &["remove 1"],
            ),
            (
                "its object was not found, and is found again",
                &[|it| it.remove(1), |it| it.add(1, "b")],
                &["remove 1", "add 1 b"],
            ),
            (
                "and drains then",
                &[
                    |it| it.remove(1),
                    |it| it.add(1, "b"),
                    |it| it.set_draining(1),
                ],
                &["remove 1", "add 1 b", "draining 1"],
            ),
        ];
        for (label, changes, expected) in cases {
            let (mut reflector, mut core) = shared();
            changes.iter().for_each(|change| change(&mut reflector));
            core.handle(Event::Relist, Time::default());
            assert_eq!(core.core.0, expected, "{label}");
            core.handle(Event::Timeout, Time::default());
            assert_eq!(core.core.0.len(), expected.len(), "{label}: once");
        }
    }

    #[test]
    fn an_app_is_added_with_the_next_list_and_removed_at_once() {
        let (mut reflector, mut core) = shared();
        reflector.add(1, "a");
        core.handle(Event::Relist, Time::default());
        reflector.remove(1);
        reflector.add(1, "b");
        reflector.set_waiting(1, true);
        reflector.add(2, "c");
        reflector.remove(2);
        core.handle(Event::Timeout, Time::default());
        assert_eq!(core.core.0, ["add 1 a", "remove 1", "remove 2"]);
        core.core.0.clear();
        core.handle(Event::Relist, Time::default());
        assert_eq!(core.core.0, ["remove 1", "add 1 b", "waiting 1 true"]);
    }
}
