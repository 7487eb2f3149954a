//! [`ApiThreads`]: the credentials, the request queue, the reflectors and the threads that all
//! apps of a process share. [`AppHandle`]: the part of one app.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::client::Client;
use super::credentials::Credentials;
use super::events::EventRecorder;
use super::executor::{self, AppEntry, RequestQueue};
use super::pod_reader::{Job, PodReader};
use super::relist::RelistSignal;
use super::requests::Requests;
use super::scheduler::AppKey;
use super::service_reflector::{self, ServiceWatch, ServicesReport};
use super::shared_reflectors::SharedReflectors;
use super::target_client::{TargetClient, Writer};
use super::webhook::{Roots, Webhooks};
use super::{WatchedApp, paths, reflector, target_reflector};
use crate::clock::{Clock, Time, WallClock};
use crate::cluster::{Event, Report, Request};
use crate::supervisor::ThreadPanic;
use crate::workload::Dialect;

/// The configuration that all apps share.
pub struct ApiConfig {
    /// The address of the API server, and the credentials.
    pub access: Access,
    /// The name of this proxy in its renewals: the pod's name. Characters that no pod's name
    /// has are replaced by hyphens.
    pub writer: String,
    /// The clock of the timestamp in a renewal.
    pub wall_clock: WallClock,
    /// What is listed and watched.
    pub scope: Scope,
}

/// What is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each object by its name, which a Role with `resourceNames` allows: for one app.
    Named,
    /// All objects of all namespaces together, which a ClusterRole allows.
    AllNamespaces,
    /// All objects of a namespace together: for any number of apps.
    Namespace,
}

/// The threads that talk to the API server for all apps of a process. They end when it is
/// dropped.
pub struct ApiThreads {
    credentials: Arc<Credentials>,
    requests: Arc<Requests>,
    queue: Arc<RequestQueue>,
    /// The reflectors of namespaces; `None`: each app has its own.
    reflectors: Option<Arc<SharedReflectors>>,
    writer: Writer,
    /// The name of the pod.
    instance: String,
    events: EventRecorder,
    pods: PodReader,
    clock: Clock,
    wall_clock: WallClock,
}

impl ApiThreads {
    /// Reads the credentials and starts the threads that execute requests.
    ///
    /// # Errors
    /// Why the credentials cannot be used, or if a thread cannot be started.
    pub fn new(config: ApiConfig, clock: Clock) -> io::Result<ApiThreads> {
        let ApiConfig {
            access,
            writer,
            wall_clock,
            scope,
        } = config;
        let credentials = Credentials::read(access, clock, wall_clock).map_err(io::Error::other)?;
        let (credentials, requests) = (Arc::new(credentials), Arc::<Requests>::default());
        let client = || Client::new(credentials.clone(), requests.clone());
        let events = EventRecorder::new(client(), &writer, clock, wall_clock);
        let pods = PodReader::new(client(), clock);
        let queue = executor::spawn([client(), client()], clock)?;
        let reflectors = (scope != Scope::Named).then(|| {
            let (credentials, requests) = (credentials.clone(), requests.clone());
            Arc::new(SharedReflectors::new(
                credentials,
                requests,
                queue.clone(),
                clock,
                scope == Scope::AllNamespaces,
            ))
        });
        Ok(ApiThreads {
            reflectors,
            events,
            pods,
            credentials,
            requests,
            queue,
            writer: Writer::new(&writer, wall_clock),
            instance: writer,
            clock,
            wall_clock,
        })
    }

    /// Adds an app. The API threads call `report` until the handle is dropped, and for a moment
    /// after that.
    ///
    /// Never blocks.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn add(
        &self,
        config: WatchedApp,
        report: impl Fn(Report) + Send + Sync + Clone + 'static,
    ) -> io::Result<AppHandle> {
        let target = TargetClient::new(&config, self.writer.clone());
        let (app, entry) = self.queue.add(target, report.clone());
        let mut handle = AppHandle {
            queue: self.queue.clone(),
            app,
            entry,
            events: self.events.clone(),
            pods: self.pods.clone(),
            watches: Watches::None,
            clock: self.clock,
        };
        match &self.reflectors {
            None => self.watch_named(&mut handle, &config, report)?,
            Some(reflectors) => watch_namespace(&mut handle, config, reflectors)?,
        }
        Ok(handle)
    }

    /// Starts the reflectors of one app, which list and watch each object by its name.
    fn watch_named(
        &self,
        handle: &mut AppHandle,
        config: &WatchedApp,
        report: impl Fn(Report) + Send + Clone + 'static,
    ) -> io::Result<()> {
        let clock = self.clock;
        let client = || Client::new(self.credentials.clone(), self.requests.clone());
        let (reports, panics) = (report.clone(), panicked(report.clone()));
        let endpoints = reflector::spawn(config, client(), clock, reports, panics)?;
        handle.watches = Watches::Named {
            endpoints: endpoints.clone(),
            target: None,
        };
        if watches_target(config) {
            let (target, panics) = (handle.entry.target().clone(), panicked(report.clone()));
            let target = target_reflector::spawn(target, client(), clock, report, panics)?;
            let relocated = target.clone();
            handle
                .entry
                .on_collection_change(move || relocated.relist_unthrottled());
            handle.watches = Watches::Named {
                endpoints,
                target: Some(target),
            };
        }
        Ok(())
    }

    /// Has a thread that executes requests call `task` at that interval while it is idle; both
    /// of these threads then run all the time. While the API server lets both wait, `task` is
    /// called later; while `task` blocks, one thread executes the requests. It must not panic.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn set_periodic_task(
        &self,
        every: Duration,
        task: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        self.queue.set_periodic_task(every, task, (self.clock)())
    }

    /// Lists and watches the Services that `selector` selects by their labels, in that
    /// namespace or in all (`None`). The reports come from a thread of its own.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn watch_services(
        &self,
        namespace: Option<&str>,
        selector: &str,
        report: impl Fn(ServicesReport) + Send + Sync + 'static,
    ) -> io::Result<ServiceWatch> {
        let path = paths::selected_services(namespace, selector);
        let client = Client::new(self.credentials.clone(), self.requests.clone());
        service_reflector::spawn(path, client, self.clock, report)
    }

    /// Creates Events.
    pub fn event_recorder(&self) -> EventRecorder {
        self.events.clone()
    }

    /// Posts the events in the life of apps. `ca` is the file of the certificates to trust;
    /// `None`: those of the API server.
    pub fn webhooks(&self, ca: Option<&Path>) -> Webhooks {
        let roots = match ca {
            Some(file) => Roots::File(file.to_owned()),
            None => Roots::Cluster(self.credentials.roots().cloned()),
        };
        Webhooks::new(roots, &self.instance, self.clock, self.wall_clock)
    }

    /// The requests that were made for all apps since the start.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}

impl Drop for ApiThreads {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Adds the app to the reflectors of its namespace.
fn watch_namespace(
    handle: &mut AppHandle,
    config: WatchedApp,
    reflectors: &Arc<SharedReflectors>,
) -> io::Result<()> {
    let (app, config) = (handle.app, Arc::new(config));
    reflectors.add(app, config.clone())?;
    handle.watches = Watches::Namespace {
        reflectors: reflectors.clone(),
        namespace: config.namespace.clone(),
    };
    if watches_target(&config) {
        let target = handle.entry.target().clone();
        reflectors.locate(app, &target);
        let reflectors = Arc::downgrade(reflectors);
        handle.entry.on_collection_change(move || {
            if let Some(reflectors) = reflectors.upgrade() {
                reflectors.locate(app, &target);
            }
        });
    }
    Ok(())
}

fn panicked(report: impl Fn(Report)) -> impl Fn(ThreadPanic) {
    move |panic| report(Report::Panicked(panic))
}

/// Whether the scale target is watched. With the flags of an ancestor it is polled: the
/// annotations of the ancestor's replicas, maybe on a ConfigMap, are read together with the
/// object (`ancestor_replica`).
fn watches_target(config: &WatchedApp) -> bool {
    config.dialect == Dialect::Zpa
}

/// The handle with which the daemon uses the API threads for one app. When it is dropped, they
/// remove the app, after the request that is in progress.
pub struct AppHandle {
    queue: Arc<RequestQueue>,
    app: AppKey,
    entry: Arc<AppEntry>,
    events: EventRecorder,
    pods: PodReader,
    watches: Watches,
    clock: Clock,
}

/// The reflectors of an app.
enum Watches {
    /// None yet.
    None,
    /// Its own.
    Named {
        endpoints: Arc<RelistSignal>,
        /// Of the scale target, if that is watched.
        target: Option<Arc<RelistSignal>>,
    },
    /// Those of its namespace.
    Namespace {
        reflectors: Arc<SharedReflectors>,
        namespace: String,
    },
}

impl AppHandle {
    /// Puts `request` into the queue; its [`Report::Reply`] carries `id`.
    ///
    /// Never blocks. It replaces a request that is still unsent, which gets no reply; nor does
    /// a read that a more urgent request supersedes.
    pub fn request(&self, id: u64, request: Request) {
        self.queue.put(self.app, id, request);
    }

    /// Requests that the endpoints are listed again at once.
    ///
    /// Never blocks. A call that comes within a second of the last one does nothing; after
    /// several calls in a row that interval is longer.
    pub fn relist(&self) {
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, .. } => endpoints.request((self.clock)()),
            Watches::Namespace {
                reflectors,
                namespace,
            } => reflectors.relist(namespace),
        }
    }

    /// Requests that the endpoints are listed again, because those of the time `seen` have
    /// proved wrong. Does nothing, and returns false, if something was received since: then the
    /// watch is alive and a list would show no more, or a list is in progress.
    pub fn relist_unless_newer(&self, seen: Time) -> bool {
        match &self.watches {
            Watches::None => true,
            Watches::Named { endpoints, .. } => {
                endpoints.request_unless_newer(seen, (self.clock)())
            }
            Watches::Namespace {
                reflectors,
                namespace,
            } => reflectors.relist_unless_newer(namespace, seen),
        }
    }

    /// Sets whether connections wait for an endpoint. While they do, requests of this app come
    /// before those of apps without waiting connections, a pause after a failure lasts at most
    /// one second, and a `Retry-After` at most five.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.queue.set_waiting(self.app, is_waiting);
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, .. } => endpoints.set_waiting(is_waiting),
            Watches::Namespace {
                reflectors,
                namespace,
            } => reflectors.set_waiting(self.app, namespace, is_waiting),
        }
    }

    /// Has an Event about the scale target created, once that was read.
    ///
    /// Never blocks.
    pub fn record_event(&self, event: Event) {
        if let Some(regarding) = self.entry.target().reference() {
            self.events.record(regarding, event);
        }
    }

    /// Has the pods of the scale target read, and reported as [`Report::PodsRead`].
    ///
    /// Never blocks.
    pub fn read_pods(&self) {
        let target = self.entry.target();
        let Some(selector) = target.selector() else {
            return;
        };
        let (queue, app) = (Arc::downgrade(&self.queue), self.app);
        self.pods.read(Job {
            app,
            namespace: target.namespace().to_owned(),
            selector,
            report: Box::new(move |report| {
                if let Some(queue) = queue.upgrade() {
                    queue.report(app, report);
                }
            }),
        });
    }

    /// Sets that the app drains. When everything is deleted at once, the Role and the objects
    /// are gone before the proxy is: from now on refusals (401, 403), missing objects and
    /// failed lists are logged at debug.
    pub fn set_draining(&self) {
        self.entry.set_draining();
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, target } => {
                endpoints.set_draining();
                target.iter().for_each(|target| target.set_draining());
            }
            Watches::Namespace {
                reflectors,
                namespace,
            } => reflectors.set_draining(self.app, namespace),
        }
    }
}

impl Drop for AppHandle {
    fn drop(&mut self) {
        self.queue.remove(self.app);
        match &self.watches {
            Watches::None => {}
            Watches::Named { endpoints, target } => {
                endpoints.close();
                target.iter().for_each(|target| target.close());
            }
            Watches::Namespace {
                reflectors,
                namespace,
            } => reflectors.remove(self.app, namespace),
        }
    }
}

#[cfg(test)]
mod tests;
