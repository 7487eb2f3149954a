//! The daemon: starts the threads, runs the event loop, and ends on a signal. Except for
//! `commands`, only this module uses the others.
//!
//! [`proxy`] contains all apps of the process and runs a turn of the loop. An [`app`] owns
//! its policy, its pods and its health. It is found by an [`AppId`], which the counts of the
//! engine and the reports of the other threads carry.
//!
//! ```text
//! reconciler    starts, changes and ends apps, so that those that run are those of the list
//! ├─ listeners    where the listeners of an app that starts come from
//! └─ app_spec     the desired state of an app
//! app_list      the list of apps; list_file: its file
//! source_files  the files with networks of clients; watched_file: what was seen of a file
//! discovery     the apps that are found by their Services
//! proxy         the apps, their deadlines, and the end of the process (drain)
//! └─ app          one app: policy, health, API threads; what follows from a message
//!    ├─ port        one of its ports: pods, destinations (route), own addresses, and
//!    │              which pods are near (topology)
//!    ├─ health      the reports of the API threads, and readiness
//!    ├─ slow_wake   log lines about a wake that takes long; hold_timeout_log: about
//!    │              clients that were reset; diagnosis: when the pods are read;
//!    │              pod_verdict: what that shows
//!    ├─ lifecycle   the events of which others are notified
//!    └─ journal     what has become of it: the last wakes, a day of sleeping and waking
//! interface     the event loop and the API threads as traits
//! pages         the content of the admin pages; answers: what of them is being read
//! ```

// All apps of the process: their turns, and the end of the process.
mod drain;
mod engine_sockets;
pub mod interface;
pub mod proxy;
mod start;

// Which apps there are: one, those of a list, or those that are found by their Services.
mod app_list;
mod app_spec;
mod discovery;
mod list_file;
mod listeners;
mod reconciler;
mod source_files;
mod watched_file;

// One app: its ports, pods and addresses, and what they are waited for.
pub mod app;
mod list_request;
mod min_ready;
pub mod own_addresses;
pub mod pods;
mod port;
pub mod route;
pub mod topology;
mod watch_timeout;
mod window_clock;

// What is said about it: readiness, the admin pages, log lines, events.
mod answers;
mod diagnosis;
pub mod health;
mod hold_timeout_log;
pub mod journal;
mod lifecycle;
mod messages;
mod pages;
mod pod_verdict;
pub mod slow_wake;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use log::{debug, info};

use self::answers::Answers;
use self::app_list::AppList;
use self::app_spec::AppSpec;
use self::discovery::Discovery;
use self::interface::Api;
use self::list_file::ListFile;
use self::own_addresses::OwnAddresses;
use self::pages::{About, View};
pub use self::proxy::Exit;
use self::proxy::{DrainConfig, Proxy};
use self::reconciler::{Failure, Reconciler, ReportSender};
use self::source_files::{SourceFiles, SourceLists};
use crate::accept_probe::{AppProbe, Candidate};
use crate::admin;
use crate::cgroup;
use crate::clock::{Clock, Time, WallClock};
use crate::cluster::{Event, LifecycleEvent, Report, Request};
use crate::engine::{AppId, Engine};
use crate::kube::{self, ApiThreads, EventRecorder, Scope, ServiceWatch, Webhook};
use crate::log_queue::LogQueue;
use crate::resolve::Resolver;
use crate::settings::Settings;
use crate::sys::{self, Signals};

/// How long the end of the process waits for the Events about the connections that it has cut.
const EVENTS_WITHIN: Duration = Duration::from_secs(1);

/// The interval at which the addresses of the interfaces are read. A pod keeps its address,
/// but the addresses of a machine change.
const OWN_ADDRESSES_FOR: Duration = Duration::from_secs(60);

/// The number of apps for which descriptors are kept where they are found by their Services.
const DISCOVERED_APPS: usize = 500;

/// The clocks.
#[derive(Clone, Copy)]
pub struct Clocks {
    /// The clock for decisions.
    pub monotonic: Clock,
    /// The clock for timestamps.
    pub wall: WallClock,
}

/// Runs until a signal ends the process. `log` is the queue of log lines.
///
/// # Errors
/// See [`Error`].
pub fn run(settings: &Settings, clocks: Clocks, log: LogQueue) -> Result<Exit, Error> {
    let mut daemon = Daemon::start(settings, clocks, log).map_err(Error::Start)?;
    daemon.serve().map_err(Error::Loop)
}

/// Why the proxy does not run.
#[derive(Debug)]
pub enum Error {
    /// It cannot start: an address is in use, credentials are missing. The text has the
    /// reason and the remedy.
    Start(String),
    /// epoll itself has failed.
    Loop(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Start(why) => f.write_str(why),
            Error::Loop(why) => write!(f, "the event loop has failed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

struct Daemon {
    clock: Clock,
    wall_clock: WallClock,
    proxy: Proxy<Engine, AppThreads>,
    reconciler: Reconciler,
    /// The list of apps, if there is one.
    list: Option<AppList>,
    /// The files with networks of clients.
    sources: SourceFiles,
    /// The apps that are found by their Services, if that is asked for.
    discovery: Option<Discovery>,
    /// The watch of these Services.
    service_watch: Option<ServiceWatch>,
    /// Creates Events about those that are wrong.
    events: EventRecorder,
    inbox: Receiver<(AppId, Report)>,
    signals: Signals,
    about: About,
    /// The answers at the admin port.
    answers: Answers,
    /// When the addresses of the interfaces are read next.
    own_addresses_due: Time,
}

/// The handles of the threads that work for one app.
struct AppThreads {
    api: kube::AppHandle,
    resolver: Option<Resolver>,
    /// That of the backup target, which ends with the app.
    _backup: Option<Resolver>,
    accept_probe: Option<AppProbe<AppId>>,
    webhook: Option<Webhook>,
}

impl Api for AppThreads {
    fn request(&mut self, id: u64, request: Request) {
        self.api.request(id, request);
    }

    fn relist(&mut self) {
        self.api.relist();
    }

    fn relist_unless_newer(&mut self, seen: Time) -> bool {
        let is_relisted = self.api.relist_unless_newer(seen);
        if let Some(resolver) = &self.resolver {
            resolver.refresh();
        }
        is_relisted
    }

    fn set_waiting(&mut self, is_waiting: bool) {
        self.api.set_waiting(is_waiting);
    }

    fn probe(&mut self, candidates: Vec<Candidate>) {
        if let Some(probe) = &self.accept_probe {
            probe.set(candidates);
        }
    }

    fn read_pods(&mut self) {
        self.api.read_pods();
    }

    fn record_event(&mut self, event: Event) {
        self.api.record_event(event);
    }

    fn set_draining(&mut self) {
        self.api.set_draining();
    }

    fn notify(&mut self, event: &LifecycleEvent) {
        if let Some(webhook) = &self.webhook {
            webhook.post(event);
        }
    }
}

impl Daemon {
    fn start(settings: &Settings, clocks: Clocks, log: LogQueue) -> Result<Daemon, String> {
        let (access, namespace) = start::discover(settings)?;
        // Before any thread starts: threads inherit what is blocked.
        let signals = Signals::new().map_err(|e| format!("cannot wait for signals: {e}"))?;
        let descriptors = sys::raise_descriptor_limit()
            .map_err(|e| format!("cannot read the limit of open files: {e}"))?;
        let lists = SourceLists::default();
        let (specs, source) = specs(settings, &namespace, &lists)?;
        let memory = cgroup::memory_limit(|file| fs::read_to_string(file).ok());
        let wanted = settings.max_connections;
        let apps = match source {
            AppSource::Services(_) => DISCOVERED_APPS,
            AppSource::Settings | AppSource::List(_) => specs.len(),
        };
        let connections = start::connection_limit(wanted, apps, descriptors, memory);
        let engine = start::engine(settings, connections, memory)?;
        let (sender, inbox) = mpsc::channel();
        let waker = start::set_up_wakeups(&engine, &signals)?;
        let about = About {
            started: (clocks.wall)(),
            descriptors,
            connections,
            api_server: access.server().to_string(),
            settings: settings.clone(),
            log,
        };
        let api = kube::ApiConfig {
            access,
            writer: std::env::var("HOSTNAME").unwrap_or_else(|_| "zpa".to_owned()),
            wall_clock: clocks.wall,
            scope: match source {
                AppSource::Settings => Scope::Named,
                AppSource::Services(_) if settings.all_namespaces => Scope::AllNamespaces,
                AppSource::List(_) | AppSource::Services(_) => Scope::Namespace,
            },
        };
        let api = ApiThreads::new(api, clocks.monotonic).map_err(no_threads)?;
        let events = api.event_recorder();
        let webhooks = api.webhooks(settings.webhook_ca.as_deref());
        let drain = DrainConfig {
            delay: settings.drain_delay,
            timeout: settings.drain_timeout,
        };
        let (source_sender, source_updates) = mpsc::channel();
        let mut daemon = Daemon {
            clock: clocks.monotonic,
            wall_clock: clocks.wall,
            proxy: Proxy::new(engine, drain),
            reconciler: Reconciler::new(
                api,
                clocks,
                ReportSender::new(sender, waker.clone()),
                webhooks,
                lists.clone(),
            ),
            list: None,
            sources: SourceFiles::new(lists.clone(), source_updates),
            discovery: None,
            service_watch: None,
            events,
            inbox,
            signals,
            about,
            answers: Answers::default(),
            own_addresses_due: (clocks.monotonic)(),
        };
        daemon.reconciler.check_webhooks(settings, &specs)?;
        daemon.start_apps(specs)?;
        let watch = reporting(source_sender, &waker);
        let watch = source_files::watch(lists.clone(), watch);
        match source {
            AppSource::Settings => daemon.watch_sources(watch)?,
            AppSource::List(file) => daemon.watch_list(*file, watch, &waker)?,
            AppSource::Services(selector) => {
                daemon.watch_sources(watch)?;
                daemon.discover(&selector, &namespace, lists, waker)?;
            }
        }
        if let Some(address) = daemon.proxy.sockets.admin().local_addr() {
            info!("health, readiness, metrics and status on http://{address}");
        }
        Ok(daemon)
    }

    fn start_apps(&mut self, specs: Vec<AppSpec>) -> Result<(), String> {
        if let Some(file) = &self.about.settings.apps {
            let (version, file) = (env!("CARGO_PKG_VERSION"), file.display());
            let count = specs.len();
            info!("zpa {version} has the apps of the list {file}: {count}");
            self.proxy.set_list();
        }
        let now = (self.clock)();
        let started = self.reconciler.reconcile(specs, &mut self.proxy, now);
        started.map_err(|failures| lines_of(failures).join("\n"))
    }

    /// Has the Services listed and watched that are apps.
    fn discover(
        &mut self,
        selector: &str,
        namespace: &str,
        lists: SourceLists,
        waker: Arc<mio::Waker>,
    ) -> Result<(), String> {
        let settings = &self.about.settings;
        let (version, namespace) = (
            env!("CARGO_PKG_VERSION"),
            Some(namespace).filter(|_| !settings.all_namespaces),
        );
        let place = match namespace {
            Some(namespace) => format!("the namespace {namespace}"),
            None => "all namespaces".to_owned(),
        };
        info!("zpa {version} has the apps of the Services with {selector} in {place}");
        let (sender, updates) = mpsc::channel();
        let reader = discovery::Reader::new(settings.clone(), lists);
        let report = move |report| {
            if sender.send(reader.read(report)).is_ok() {
                let _ = waker.wake();
            }
        };
        let api = self.reconciler.api();
        let watch = api.watch_services(namespace, selector, report);
        self.service_watch = Some(watch.map_err(no_threads)?);
        let discovery = Discovery::new(selector, settings.admin_listen, updates);
        self.proxy.set_list();
        self.proxy.set_awaited(discovery.awaited());
        self.discovery = Some(discovery);
        Ok(())
    }

    /// Follows the changes of the list.
    fn watch_list(
        &mut self,
        file: ListFile,
        mut watch_sources: impl FnMut() + Send + 'static,
        waker: &Arc<mio::Waker>,
    ) -> Result<(), String> {
        let (sender, updates) = mpsc::channel();
        self.list = Some(AppList::new(file.path.clone(), updates));
        let mut watch_list = list_file::watch(file, reporting(sender, waker));
        let watch = move || {
            watch_list();
            watch_sources();
        };
        self.reconciler
            .set_periodic_task(list_file::POLL, watch)
            .map_err(no_threads)
    }

    /// Follows the changes of the files with networks, if the settings name any.
    fn watch_sources(&mut self, watch: impl FnMut() + Send + 'static) -> Result<(), String> {
        if self.sources.wrong().is_none() {
            return Ok(());
        }
        self.reconciler
            .set_periodic_task(list_file::POLL, watch)
            .map_err(no_threads)
    }

    fn serve(&mut self) -> io::Result<Exit> {
        let mut now = (self.clock)();
        loop {
            let list = self.list.as_ref().and_then(AppList::poll_timeout);
            let discovery = self.discovery.as_ref().and_then(Discovery::poll_timeout);
            let deadlines = [self.proxy.poll_timeout(), list, discovery];
            let deadlines = deadlines.into_iter().flatten();
            let timeout = deadlines.min().map(|deadline| deadline.since(now));
            let wakeups = self.proxy.sockets.wait(timeout, now)?;
            now = (self.clock)();
            if wakeups.source
                && let Some(exit) = self.handle_signals(now)
            {
                return Ok(exit);
            }
            self.read_own_addresses(now);
            if let Some(exit) = self.proxy.turn(self.inbox.try_iter(), now) {
                if exit == Exit::Reset {
                    self.events.flush(EVENTS_WITHIN);
                }
                return Ok(exit);
            }
            self.update_list(now);
            self.update_sources();
            self.update_discovered(now);
            self.answer_admin(now);
        }
    }

    /// Puts a new list of apps into force, if there is one.
    fn update_list(&mut self, now: Time) {
        let Some(list) = &mut self.list else {
            return;
        };
        let Some(specs) = list.next(now).filter(|_| !self.proxy.is_draining()) else {
            return;
        };
        match self
            .reconciler
            .reconcile(specs.clone(), &mut self.proxy, now)
        {
            Ok(()) => list.set_in_force(),
            Err(failures) => list.retry_later(specs, lines_of(failures), now),
        }
        self.own_addresses_due = now;
    }

    /// Puts the networks of files into force that have changed.
    fn update_sources(&mut self) {
        while let Some(file) = self.sources.next() {
            self.reconciler.set_sources(&file, &mut self.proxy);
        }
    }

    /// Puts the apps into force that are found by their Services.
    fn update_discovered(&mut self, now: Time) {
        let Some(discovery) = &mut self.discovery else {
            return;
        };
        if self.proxy.is_draining() {
            return discovery.stop();
        }
        let (reconciler, proxy) = (&mut self.reconciler, &mut self.proxy);
        if discovery.update(now, |specs| reconciler.reconcile(specs, proxy, now)) {
            self.own_addresses_due = now;
        }
        self.proxy.set_awaited(discovery.awaited());
        discovery.record_events(now, |service, event| self.events.record(service, event));
    }

    fn read_own_addresses(&mut self, now: Time) {
        if now < self.own_addresses_due {
            return;
        }
        self.own_addresses_due = now + OWN_ADDRESSES_FOR;
        match sys::interface_addresses() {
            Ok(interfaces) => {
                let listeners = listeners(&self.proxy);
                self.proxy
                    .set_own_addresses(OwnAddresses::new(listeners, interfaces));
            }
            Err(why) => debug!("the addresses of the interfaces cannot be read: {why}"),
        }
    }

    /// Answers the requests at the admin port, up to one for a long page; for the others the loop
    /// turns again. A probe waits for no more than that.
    fn answer_admin(&mut self, now: Time) {
        while let Some((key, request)) = self.proxy.sockets.admin().next_request() {
            if self.answer_one(key, &request, now) {
                return;
            }
        }
    }

    /// Answers a request; whether a long page was written for it.
    fn answer_one(&mut self, key: usize, request: &[u8], now: Time) -> bool {
        let view = View {
            about: &self.about,
            reconciler: &self.reconciler,
            list: self.list.as_ref(),
            sources: &self.sources,
            discovery: self.discovery.as_ref(),
            proxy: &self.proxy,
            now,
            unix: (self.wall_clock)(),
        };
        let is_long = admin::is_long(request, &view);
        let answer = self.answers.answer(request, &view, now);
        let admin = self.proxy.sockets.admin();
        if let Some(withdrawn) = self.answers.take_withdrawn() {
            admin.withdraw(&withdrawn);
        }
        admin.answer(key, answer);
        is_long
    }

    fn handle_signals(&mut self, now: Time) -> Option<Exit> {
        while let Some(signal) = self.signals.next() {
            let exit = self.proxy.end(signal, now);
            self.service_watch
                .iter()
                .for_each(ServiceWatch::set_draining);
            if exit.is_some() {
                return exit;
            }
        }
        None
    }
}

/// What says which apps there are.
enum AppSource {
    /// The settings of the process, which has one.
    Settings,
    /// A list.
    List(Box<ListFile>),
    /// The Services that this label selector selects.
    Services(String),
}

/// The specs of the apps at the start, and what says which there are then.
fn specs(
    process: &Settings,
    namespace: &str,
    lists: &SourceLists,
) -> Result<(Vec<AppSpec>, AppSource), String> {
    lists.load(process)?;
    if let Some(selector) = process.discover.clone() {
        return Ok((Vec::new(), AppSource::Services(selector)));
    }
    let Some(path) = process.apps.clone() else {
        let only = app_spec::of_only_app(process, namespace, lists)?;
        return Ok((vec![only], AppSource::Settings));
    };
    let joined = |lines: Vec<String>| lines.join("\n");
    let text = app_spec::read_list(&path).map_err(joined)?;
    let specs = app_spec::of_list(process, &text, namespace, lists).map_err(joined)?;
    let file = ListFile {
        path,
        process: process.clone(),
        namespace: namespace.to_owned(),
        text,
        lists: lists.clone(),
    };
    Ok((specs, AppSource::List(Box::new(file))))
}

/// Where the ports of all apps listen.
fn listeners(proxy: &Proxy<Engine, AppThreads>) -> Vec<SocketAddr> {
    let ports = proxy.apps().flat_map(|(_, app)| app.port_ids());
    ports
        .filter_map(|port| proxy.sockets.local_addr(port))
        .collect()
}

/// Sends what a thread reports, and wakes the event loop.
fn reporting<T: Send + 'static>(
    sender: Sender<T>,
    waker: &Arc<mio::Waker>,
) -> impl Fn(T) + Send + use<T> {
    let waker = waker.clone();
    move |report| {
        // The receiver is gone when the program is about to end.
        if sender.send(report).is_ok() {
            let _ = waker.wake();
        }
    }
}

fn lines_of(failures: Vec<Failure>) -> Vec<String> {
    let lines = failures.into_iter().flat_map(|failure| failure.lines);
    lines.collect()
}

fn no_threads(why: io::Error) -> String {
    format!("cannot start the API threads: {why}")
}
