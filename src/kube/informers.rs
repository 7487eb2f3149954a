//! [`Informers`]: the reflectors that apps share. There is one of the endpoints and the
//! Services for each namespace, and one of the scaled objects for each kind in a namespace,
//! with a thread and a watch each, whatever the number of apps.
//!
//! An app is added and removed by other threads. The thread of a reflector takes that in
//! before it handles its next event ([`Shared`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::AppConfig;
use super::client::Client;
use super::credentials::Credentials;
use super::executor::RequestQueue;
use super::list_watch::Event;
use super::reflector::NamespaceEndpoints;
use super::reflector::thread::{self, Action, Core, Output, Reflector};
use super::relist::RelistSignal;
use super::requests::Requests;
use super::scale_target::{Collection, Target};
use super::scheduler::AppKey;
use super::target_reflector::TargetReflector;
use crate::clock::{Clock, Time};
use crate::cluster::Report;
use crate::supervisor::ThreadPanic;

/// The most kinds of scaled objects, over all namespaces, that are watched. Objects of others
/// are read in turn.
const MOST_COLLECTIONS: usize = 16;

/// The reflectors that apps share.
pub(super) struct Informers {
    credentials: Arc<Credentials>,
    requests: Arc<Requests>,
    queue: Arc<RequestQueue>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By namespace.
    endpoints: BTreeMap<String, Informer<Arc<AppConfig>>>,
    /// By the path of the collection.
    targets: BTreeMap<String, Informer<Place>>,
    /// The collection that has the object of an app.
    places: BTreeMap<AppKey, String>,
}

/// The object of an app: its name, and the object itself.
pub(super) type Place = (String, Arc<Target>);

/// A reflector, as other threads see it. `A` is what it is given of an app.
struct Informer<A> {
    signal: Arc<RelistSignal>,
    news: Arc<Mutex<News<A>>>,
    apps: BTreeSet<AppKey>,
    waiting: BTreeSet<AppKey>,
    draining: BTreeSet<AppKey>,
}

/// What a reflector has not taken in yet, of each app.
type News<A> = BTreeMap<AppKey, AppNews<A>>;

struct AppNews<A> {
    added: Option<A>,
    is_removed: bool,
    waiting: Option<bool>,
    is_draining: bool,
}

impl<A> Default for AppNews<A> {
    fn default() -> Self {
        AppNews {
            added: None,
            is_removed: false,
            waiting: None,
            is_draining: false,
        }
    }
}

/// A reflector of several apps.
pub(super) trait ManyApps: Core {
    /// What it is given of an app.
    type App;

    /// Adds an app. A request to list again follows.
    fn add(&mut self, app: AppKey, given: Self::App);

    /// Removes an app.
    fn remove(&mut self, app: AppKey);

    /// Sets whether connections of an app wait.
    fn set_waiting(&mut self, app: AppKey, is_waiting: bool);

    /// An app drains.
    fn set_app_draining(&mut self, app: AppKey);
}

/// A reflector with what it has not taken in yet.
struct Shared<C: ManyApps> {
    core: C,
    news: Arc<Mutex<News<C::App>>>,
}

impl<C: ManyApps> Core for Shared<C> {
    type Report = C::Report;

    fn handle(&mut self, event: Event<'_>, now: Time) -> Action {
        let news = std::mem::take(&mut *lock(&self.news));
        for (app, news) in news {
            if news.is_removed {
                self.core.remove(app);
                continue;
            }
            if let Some(given) = news.added {
                self.core.add(app, given);
            }
            if let Some(is_waiting) = news.waiting {
                self.core.set_waiting(app, is_waiting);
            }
            if news.is_draining {
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

    fn outputs(&mut self) -> Vec<Output<C::Report>> {
        self.core.outputs()
    }
}

impl ManyApps for NamespaceEndpoints {
    type App = Arc<AppConfig>;

    fn add(&mut self, app: AppKey, config: Arc<AppConfig>) {
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

impl ManyApps for TargetReflector<Arc<Target>> {
    type App = Place;

    fn add(&mut self, app: AppKey, (name, target): Place) {
        TargetReflector::add(self, app, &name, target);
    }

    fn remove(&mut self, app: AppKey) {
        TargetReflector::remove(self, app);
    }

    fn set_waiting(&mut self, _: AppKey, _: bool) {}

    fn set_app_draining(&mut self, _: AppKey) {}
}

impl<A: Send + 'static> Informer<A> {
    /// Starts the thread of the reflector that `core` makes, with a seed of its jitter.
    fn start<C>(
        informers: &Informers,
        name: &'static str,
        core: impl FnOnce(u64) -> C,
    ) -> io::Result<Self>
    where
        C: ManyApps<App = A, Report = (AppKey, Report)> + Send + 'static,
    {
        let client = Client::new(informers.credentials.clone(), informers.requests.clone());
        let signal = Arc::new(RelistSignal::new(client));
        let news = Arc::default();
        let shared = Shared {
            core: core(thread::seed(&signal, informers.clock)),
            news: Arc::clone(&news),
        };
        let (reports, panics) = (informers.queue.clone(), informers.queue.clone());
        let report = move |(app, report)| reports.report(app, report);
        let panicked = move |panic: ThreadPanic| panics.report_to_all(&Report::Panicked(panic));
        let reflector = Reflector::new(shared, signal, informers.clock, report);
        Ok(Informer {
            signal: reflector.spawn(name, panicked)?,
            news,
            apps: BTreeSet::new(),
            waiting: BTreeSet::new(),
            draining: BTreeSet::new(),
        })
    }

    fn add(&mut self, app: AppKey, given: A) {
        self.apps.insert(app);
        lock(&self.news).entry(app).or_default().added = Some(given);
        self.signal.relocate();
    }

    fn remove(&mut self, app: AppKey) {
        self.set_waiting(app, false);
        self.apps.remove(&app);
        self.draining.remove(&app);
        lock(&self.news).entry(app).or_default().is_removed = true;
    }

    fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
        let has_changed = match is_waiting {
            true => self.waiting.insert(app),
            false => self.waiting.remove(&app),
        };
        if has_changed {
            lock(&self.news).entry(app).or_default().waiting = Some(is_waiting);
            self.signal.set_waiting(!self.waiting.is_empty());
        }
    }

    /// An app drains; what concerns all of them is no warning once all do.
    fn set_draining(&mut self, app: AppKey) {
        self.draining.insert(app);
        lock(&self.news).entry(app).or_default().is_draining = true;
        if self.draining == self.apps {
            self.signal.set_draining();
        }
    }
}

impl<A> Drop for Informer<A> {
    fn drop(&mut self) {
        self.signal.close();
    }
}

impl Informers {
    /// Without apps, and without a thread.
    pub(super) fn new(
        credentials: Arc<Credentials>,
        requests: Arc<Requests>,
        queue: Arc<RequestQueue>,
        clock: Clock,
    ) -> Self {
        Informers {
            credentials,
            requests,
            queue,
            clock,
            state: Mutex::default(),
        }
    }

    /// Adds an app: reports the endpoints of its Service from now on.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn add(&self, app: AppKey, config: Arc<AppConfig>) -> io::Result<()> {
        let mut state = self.state();
        let namespace = config.namespace.clone();
        let mut informer = match state.endpoints.remove(&namespace) {
            Some(informer) => informer,
            None => Informer::start(self, "zpa-watch", |seed| {
                NamespaceEndpoints::new(&namespace, seed)
            })?,
        };
        informer.add(app, config);
        state.endpoints.insert(namespace, informer);
        Ok(())
    }

    /// The object of an app was found, perhaps elsewhere than before: reports its changes
    /// from now on.
    pub(super) fn place(&self, app: AppKey, target: &Arc<Target>) {
        let mut state = self.state();
        let found = target.in_namespace();
        let path = found.as_ref().map(|(collection, _)| &collection.path);
        if state.places.get(&app) == path {
            return;
        }
        state.displace(app);
        let Some((collection, name)) = found else {
            return;
        };
        if let Some(informer) = self.targets(&mut state, &collection) {
            informer.add(app, (name, target.clone()));
            state.places.insert(app, collection.path);
        }
    }

    fn targets<'a>(
        &self,
        state: &'a mut State,
        collection: &Collection,
    ) -> Option<&'a mut Informer<Place>> {
        let path = &collection.path;
        if !state.targets.contains_key(path) {
            if state.targets.len() >= MOST_COLLECTIONS {
                log::debug!("{path}: not watched, because so many kinds are");
                return None;
            }
            let core = |seed| TargetReflector::of_namespace(collection.clone(), seed);
            match Informer::start(self, "zpa-watch-app", core) {
                Ok(informer) => state.targets.insert(path.clone(), informer),
                Err(why) => {
                    log::warn!("no thread can be started to watch {path}: {why}");
                    return None;
                }
            };
        }
        state.targets.get_mut(path)
    }

    /// Removes an app.
    pub(super) fn remove(&self, app: AppKey, namespace: &str) {
        let mut state = self.state();
        state.displace(app);
        if let Some(informer) = state.endpoints.get_mut(namespace) {
            informer.remove(app);
            if informer.apps.is_empty() {
                state.endpoints.remove(namespace);
            }
        }
    }

    /// Has the endpoints of a namespace listed afresh.
    pub(super) fn relist(&self, namespace: &str) {
        if let Some(informer) = self.state().endpoints.get(namespace) {
            informer.signal.request((self.clock)());
        }
    }

    /// The same, unless the watch has shown something since `seen`.
    pub(super) fn relist_unless_newer(&self, namespace: &str, seen: Time) -> bool {
        let state = self.state();
        let informer = state.endpoints.get(namespace);
        informer.is_none_or(|it| it.signal.request_unless_newer(seen, (self.clock)()))
    }

    /// Sets whether connections of an app wait for an endpoint.
    pub(super) fn set_waiting(&self, app: AppKey, namespace: &str, is_waiting: bool) {
        if let Some(informer) = self.state().endpoints.get_mut(namespace) {
            informer.set_waiting(app, is_waiting);
        }
    }

    /// An app drains.
    pub(super) fn set_draining(&self, app: AppKey, namespace: &str) {
        let mut state = self.state();
        if let Some(informer) = state.endpoints.get_mut(namespace) {
            informer.set_draining(app);
        }
        let path = state.places.get(&app).cloned();
        if let Some(informer) = path.and_then(|path| state.targets.get_mut(&path)) {
            informer.set_draining(app);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// No more changes of the object of an app are reported.
    fn displace(&mut self, app: AppKey) {
        let Some(path) = self.places.remove(&app) else {
            return;
        };
        if let Some(informer) = self.targets.get_mut(&path) {
            informer.remove(app);
            if informer.apps.is_empty() {
                self.targets.remove(&path);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
