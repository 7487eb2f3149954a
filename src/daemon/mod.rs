//! The daemon: it starts the threads, runs the event loop, and ends on a signal. Only this
//! module uses the others.
//!
//! [`proxy`] contains all apps of the process and runs a turn of the loop. An [`app`] owns
//! its policy, its pods and its health. It is found by an [`AppId`], which the counts of the
//! engine and the reports of the other threads carry.
//!
//! ```text
//! proxy         the apps, their deadlines, and the end of the process (drain)
//! └─ app          one app: policy, health, API threads; what follows from a message
//!    ├─ port        one of its ports: pods, destinations (route), own addresses
//!    ├─ health      the reports of the API threads, and readiness
//!    ├─ slow_wake   log lines about a wake that takes long
//!    └─ journal     what has become of it: the last wakes, a day of sleeping and waking
//! interface     the event loop and the API threads as traits
//! pages         the content of the admin pages
//! ```

pub mod app;
mod drain;
pub mod health;
pub mod interface;
pub mod journal;
mod messages;
pub mod own_addresses;
mod pages;
pub mod pods;
mod port;
pub mod proxy;
pub mod route;
pub mod slow_wake;
mod start;
mod watch_timeout;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use log::{debug, info};

use self::app::AppConfig;
use self::interface::{Api, Sockets};
use self::own_addresses::OwnAddresses;
use self::pages::{About, View};
pub use self::proxy::Exit;
use self::proxy::{DrainConfig, Proxy};
use self::route::Route;
use crate::admin;
use crate::cgroup;
use crate::clock::{Clock, Time, WallClock};
use crate::cluster::{Report, Request};
use crate::engine::{AppId, BackendSpec, Counts, Engine, PortId};
use crate::kube::{self, Hub, Scope};
use crate::log_queue::LogQueue;
use crate::policy::Policy;
use crate::resolve::Resolver;
use crate::settings::Settings;
use crate::sys::{self, Signals};

/// The app of a process that has one.
const APP: AppId = AppId(0);

/// The interval at which the addresses of the interfaces are read. A pod keeps its address,
/// but the addresses of a machine change.
const OWN_ADDRESSES_FOR: Duration = Duration::from_secs(60);

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
    proxy: Proxy<Engine, Outside>,
    hub: Hub,
    inbox: Receiver<(AppId, Report)>,
    signals: Signals,
    about: About,
    /// When the addresses of the interfaces are read next.
    own_addresses_due: Time,
}

/// The handles of the other threads.
struct Outside {
    api: kube::Handle,
    resolver: Option<Resolver>,
}

impl Api for Outside {
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

    fn set_draining(&mut self) {
        self.api.set_draining();
    }
}

impl Daemon {
    fn start(settings: &Settings, clocks: Clocks, log: LogQueue) -> Result<Daemon, String> {
        let (access, namespace) = start::discover(settings)?;
        // Before any thread starts: threads inherit what is blocked.
        let signals = Signals::new().map_err(|e| format!("cannot wait for signals: {e}"))?;
        let descriptors = sys::raise_descriptor_limit()
            .map_err(|e| format!("cannot read the limit of open files: {e}"))?;
        let memory = cgroup::memory_limit(|file| fs::read_to_string(file).ok());
        let connections = start::connection_limit(settings.max_connections, descriptors, memory);
        let mut engine = start::bind(settings, connections, memory)?;
        let (sender, inbox) = mpsc::channel();
        let waker = start::set_up_wakeups(&engine, &signals)?;
        let post = move |report| {
            // The receiver is gone when the program is about to end.
            if sender.send((APP, report)).is_ok() {
                let _ = waker.wake();
            }
        };
        let route = Route::of(settings, &namespace);
        let listen = listeners(&engine);
        info!("{}", start::greeting(settings, &route, &namespace, &listen));
        if let Some(address) = engine.admin().local_addr() {
            info!("health, readiness, metrics and status on http://{address}");
        }
        let about = About {
            started: (clocks.wall)(),
            descriptors,
            connections,
            api_server: access.server().to_string(),
            settings: settings.clone(),
            log,
        };
        let name = format!("{namespace}/{}", settings.target_ref.label());
        let label = format!("{namespace}/{}", start::service(settings)?);
        let hub = kube::HubConfig {
            access,
            writer: std::env::var("HOSTNAME").unwrap_or_else(|_| "zpa".to_owned()),
            wall_clock: clocks.wall,
            scope: Scope::Named,
        };
        let hub = Hub::new(hub, clocks.monotonic).map_err(no_threads)?;
        let outside = start_threads(settings, &route, &hub, namespace, clocks, post)?;
        let now = (clocks.monotonic)();
        let policy = Policy::new(start::policy_config(settings), start::random_seed(), now);
        let app = AppConfig {
            name,
            service: settings.service.clone().unwrap_or_default(),
            route: route.clone(),
            label,
            ports: start::port_names(settings),
            hold_timeout: settings.hold_timeout,
        };
        let drain = DrainConfig {
            delay: settings.drain_delay,
            timeout: settings.drain_timeout,
        };
        let mut proxy = Proxy::new(engine, drain);
        proxy.add(APP, outside, policy, app, now);
        Ok(Daemon {
            clock: clocks.monotonic,
            wall_clock: clocks.wall,
            proxy,
            hub,
            inbox,
            signals,
            about,
            own_addresses_due: now,
        })
    }

    fn serve(&mut self) -> io::Result<Exit> {
        let mut now = (self.clock)();
        loop {
            let timeout = self
                .proxy
                .poll_timeout()
                .map(|deadline| deadline.since(now));
            let wakeups = self.proxy.sockets.wait(timeout, now)?;
            now = (self.clock)();
            if wakeups.source
                && let Some(exit) = self.handle_signals(now)
            {
                return Ok(exit);
            }
            self.read_own_addresses(now);
            if let Some(exit) = self.proxy.turn(self.inbox.try_iter(), now) {
                return Ok(exit);
            }
            self.answer_admin(now);
        }
    }

    fn read_own_addresses(&mut self, now: Time) {
        if now < self.own_addresses_due {
            return;
        }
        self.own_addresses_due = now + OWN_ADDRESSES_FOR;
        match sys::interface_addresses() {
            Ok(interfaces) => {
                let listeners = listeners(&self.proxy.sockets);
                self.proxy
                    .set_own_addresses(OwnAddresses::new(listeners, interfaces));
            }
            Err(why) => debug!("the addresses of the interfaces cannot be read: {why}"),
        }
    }

    fn answer_admin(&mut self, now: Time) {
        while let Some((key, request)) = self.proxy.sockets.admin().next_request() {
            let Some(app) = self.proxy.app(APP) else {
                return;
            };
            let view = View {
                about: &self.about,
                requests: self.hub.requests(),
                proxy: &self.proxy,
                app,
                now,
                unix: (self.wall_clock)(),
            };
            let answer = admin::answer(&request, &view);
            self.proxy.sockets.admin().answer(key, answer);
        }
    }

    fn handle_signals(&mut self, now: Time) -> Option<Exit> {
        while let Some(signal) = self.signals.next() {
            let exit = self.proxy.end(signal, now);
            if exit.is_some() {
                return exit;
            }
        }
        None
    }
}

impl Sockets for Engine {
    fn counts(&self, app: AppId) -> Counts {
        Engine::counts(self, app)
    }

    fn waiting(&self, port: PortId) -> usize {
        Engine::port_counts(self, port).waiting
    }

    fn take_changed_apps(&mut self) -> Vec<AppId> {
        Engine::take_changed_apps(self)
    }

    fn longest_waiting(&self, app: AppId) -> Option<IpAddr> {
        Engine::longest_waiting(self, app)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Engine::poll_timeout(self)
    }

    fn set_gate(&mut self, app: AppId, open: bool, now: Time) {
        Engine::set_gate(self, app, open, now);
    }

    fn set_backends(&mut self, port: PortId, backends: &[BackendSpec], now: Time) {
        Engine::set_backends(self, port, backends, now);
    }

    fn set_fallback(&mut self, port: PortId, address: Option<SocketAddr>) {
        Engine::set_fallback(self, port, address);
    }

    fn dispatch(&mut self, now: Time) {
        Engine::dispatch(self, now);
    }

    fn release(&mut self, now: Time) {
        Engine::release(self, now);
    }

    fn end_uncounted(&mut self, app: AppId, now: Time) {
        Engine::end_uncounted(self, app, now);
    }

    fn stop_accepting(&mut self, app: AppId, now: Time) {
        Engine::stop_accepting(self, app, now);
    }

    fn reset_all(&mut self, app: AppId, now: Time) {
        Engine::reset_all(self, app, now);
    }
}

/// Where the app's ports listen.
fn listeners(engine: &Engine) -> Vec<SocketAddr> {
    let ports = (0..).map(|index| PortId { app: APP, index });
    ports.map_while(|port| engine.local_addr(port)).collect()
}

fn no_threads(why: io::Error) -> String {
    format!("cannot start the API threads: {why}")
}

fn start_threads(
    settings: &Settings,
    route: &Route,
    hub: &Hub,
    namespace: String,
    clocks: Clocks,
    post: impl Fn(Report) + Send + Sync + Clone + 'static,
) -> Result<Outside, String> {
    let resolver = route.static_backend().cloned().map(|target| {
        let (found, panicked) = (post.clone(), post.clone());
        Resolver::spawn(
            target,
            clocks.monotonic,
            move |addresses| found(Report::StaticBackends(addresses)),
            move |panic| panicked(Report::Panicked(panic)),
        )
    });
    let resolver = resolver
        .transpose()
        .map_err(|e| format!("cannot start the thread that looks up the target: {e}"))?;
    let config = kube::AppConfig {
        namespace,
        target: settings.target_ref.clone(),
        dialect: settings.dialect,
        state_configmap: settings.state_configmap.clone(),
        idle_ttl: settings.idle_ttl,
        service: start::service(settings)?,
        ports: start::ports(settings, route),
        port_flag: start::port_flag(settings),
    };
    let api = hub.add(config, post).map_err(no_threads)?;
    Ok(Outside { api, resolver })
}
