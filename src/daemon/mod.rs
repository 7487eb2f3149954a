//! The daemon: it starts the threads, runs the event loop, and ends on a signal. Only this
//! module uses the others.
//!
//! [`proxy`] contains all apps of the process and runs a turn of the loop. An [`app`] owns
//! its policy, its pods and its health. It is found by an [`AppId`], which the counts of the
//! engine and the messages of the API threads carry.
//!
//! ```text
//! proxy         the apps, their deadlines, and the end of the process (drain)
//! └─ app          one app: policy, health, API threads; what follows from a message
//!    ├─ port        one of its ports: pods, destinations (route), own addresses
//!    ├─ health      the reports of the API threads, and readiness
//!    └─ waking      log lines about a wake that takes long
//! interface     the event loop and the API threads as traits
//! pages         the content of the admin pages
//! ```

pub mod app;
mod drain;
pub mod health;
pub mod interface;
mod messages;
pub mod own;
mod pages;
pub mod pods;
mod port;
pub mod proxy;
pub mod route;
pub mod waking;
mod watch_timeout;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use log::{debug, info, warn};

use self::app::AppConfig;
use self::interface::{Api, Message, Sockets};
use self::own::OwnAddresses;
use self::pages::{About, View};
pub use self::proxy::Exit;
use self::proxy::{DrainConfig, Proxy};
use self::route::Route;
use crate::admin;
use crate::cgroup;
use crate::clock::{Clock, Time, WallClock};
use crate::cluster::{LeaseStore, PortRef, Request};
use crate::duration;
use crate::engine::{
    self, AdminLimits, AppId, AppLimits, BackendSpec, Counts, Engine, Limits, MAX_PIPES, PortId,
};
use crate::kube::{self, Access};
use crate::log_queue::LogQueue;
use crate::policy::{Config, Policy};
use crate::resolve::Resolver;
use crate::rules::Rules;
use crate::settings::{self, Settings};
use crate::sys::{self, Signals};
use crate::workload::{Dialect, WakeReplicas};

/// Descriptors that are not for connections: both ends of the pipes; admin connections; the
/// API connections, the epoll instance, the credentials files, the log.
const RESERVED_DESCRIPTORS: u64 = 2 * MAX_PIPES as u64 + ADMIN_LIMITS.max_connections as u64 + 48;

/// Descriptors that one connection takes: the client's and the pod's.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// The default of the connection limit, however many descriptors there are: it bounds the
/// memory.
const DEFAULT_CONNECTIONS: usize = 100_000;

/// The limits of the admin port, which every pod of the cluster can reach.
const ADMIN_LIMITS: AdminLimits = AdminLimits {
    max_connections: 64,
    timeout: Duration::from_secs(5),
    max_request_bytes: admin::LONGEST_HEAD,
};

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
    proxy: Proxy<Engine, Outside>,
    inbox: Receiver<(AppId, Message)>,
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

    fn relist_unless_newer(&mut self, seen: Time) {
        self.api.relist_unless_newer(seen);
        if let Some(resolver) = &self.resolver {
            resolver.refresh();
        }
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
        let (access, namespace) = discover(settings)?;
        // Before any thread starts: threads inherit what is blocked.
        let signals = Signals::new().map_err(|e| format!("cannot wait for signals: {e}"))?;
        let descriptors = sys::raise_descriptor_limit()
            .map_err(|e| format!("cannot read the limit of open files: {e}"))?;
        let memory = cgroup::memory_limit(|file| fs::read_to_string(file).ok());
        let connections = connection_limit(settings.max_connections, descriptors, memory);
        let mut engine = bind(settings, connections, memory)?;
        let (sender, inbox) = mpsc::channel();
        let waker = set_up_wakeups(&engine, &signals)?;
        let post = move |message| {
            // The receiver is gone when the program is about to end.
            if sender.send((APP, message)).is_ok() {
                let _ = waker.wake();
            }
        };
        let route = Route::of(settings, &namespace);
        let listen = listeners(&engine);
        info!("{}", greeting(settings, &route, &namespace, &listen));
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
        let label = format!("{namespace}/{}", service(settings)?);
        let outside = start_threads(settings, &route, access, namespace, clocks, post)?;
        let now = (clocks.monotonic)();
        let policy = Policy::new(policy_config(settings), random_seed(), now);
        let app = AppConfig {
            name,
            service: settings.service.clone().unwrap_or_default(),
            route: route.clone(),
            label,
            ports: port_names(settings),
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
            proxy,
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
                proxy: &self.proxy,
                app,
                now,
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

    fn take_changed(&mut self) -> Vec<AppId> {
        Engine::take_changed(self)
    }

    fn first_waiting(&self, app: AppId) -> Option<IpAddr> {
        Engine::first_waiting(self, app)
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

/// The message of a report.
fn message(report: kube::Report) -> Message {
    match report {
        kube::Report::Reply { id, outcome } => Message::Reply { id, outcome },
        kube::Report::Pods { port, pods } => Message::Pods { port, pods },
        kube::Report::Fallback { port, address } => Message::Fallback { port, address },
        kube::Report::Synced(source) => Message::Synced(source),
        kube::Report::NoAddress { port, why } => Message::NoAddress { port, why },
        kube::Report::TargetStatus(status) => Message::TargetStatus(status),
        kube::Report::Observed(observation) => Message::Observed(observation),
        kube::Report::Watching(is_watching) => Message::Watching(is_watching),
        kube::Report::Permission {
            permission,
            refusal,
        } => Message::Permission {
            permission,
            refusal,
        },
        kube::Report::Trouble(what) => Message::Trouble(what),
        kube::Report::Panicked(panic) => Message::Panicked(panic),
    }
}

/// Where the app's ports listen.
fn listeners(engine: &Engine) -> Vec<SocketAddr> {
    let ports = (0..).map(|index| PortId { app: APP, index });
    ports.map_while(|port| engine.local_addr(port)).collect()
}

fn greeting(settings: &Settings, route: &Route, namespace: &str, listen: &[SocketAddr]) -> String {
    let through = match (route, &settings.service) {
        (Route::Pods, Some(service)) => format!("the pods of Service {service}"),
        (Route::Pods, None) => "the pods of the Service of its name".to_owned(),
        (route, _) => route.to_string(),
    };
    let listen: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
    let listen = listen.join(" and ");
    format!(
        "zpa {} listens on {listen} for {namespace}/{}, through {through}; to sleep after {} \
         without a connection",
        env!("CARGO_PKG_VERSION"),
        settings.target_ref.label(),
        duration::display(settings.idle_ttl),
    )
}

fn discover(settings: &Settings) -> Result<(Access, String), String> {
    let found = Access::discover(
        &settings.kube,
        settings.api_server.as_ref(),
        &settings.credentials,
        |name| std::env::var(name).ok(),
    );
    let (access, default_namespace) = found.map_err(|e| e.to_string())?;
    kube::check(&access).map_err(|e| e.to_string())?;
    let namespace = settings.namespace.clone().or(default_namespace).ok_or(
        "--namespace (ZPA_NAMESPACE): not set, and the credentials name none; use e.g. default",
    )?;
    Ok((access, namespace))
}

fn bind(
    settings: &Settings,
    max_connections: usize,
    memory: Option<u64>,
) -> Result<Engine, String> {
    let limits = Limits {
        max_connections,
        memory,
    };
    let app_limits = AppLimits {
        hold_timeout: settings.hold_timeout,
        abort_on_close: settings.abort_on_close,
        connect_timeout: settings.connect_timeout,
    };
    let mut engine =
        Engine::new(limits, random_seed()).map_err(|e| format!("cannot set up epoll: {e}"))?;
    for listener in &settings.listen {
        let address = listener.address;
        engine.add_port(APP, address, app_limits).map_err(|e| {
            let setting = settings::given("listen", settings.dialect);
            format!("{setting} {address}: {e}{}", cure(&e))
        })?;
    }
    engine.set_rules(APP, &rules(settings)?);
    match listen_for_admin(settings, &mut engine) {
        Err(why) if settings.admin_is_optional => {
            warn!("{why}; going on without health, readiness, metrics and status");
        }
        ended => ended?,
    }
    Ok(engine)
}

/// The rules about clients, with what they have in a file.
fn rules(settings: &Settings) -> Result<Rules, String> {
    let mut rules = settings.rules.clone();
    if let Some(answer) = &settings.rules.hold_answer {
        let loaded = answer.load(|path| fs::read(path)).map_err(|why| {
            let setting = settings::given("hold-answer", settings.dialect);
            format!("{setting} {answer}: {why}; use e.g. postgres, http, or the path of a file")
        })?;
        rules.hold_answer = Some(loaded);
    }
    Ok(rules)
}

fn listen_for_admin(settings: &Settings, engine: &mut Engine) -> Result<(), String> {
    let Some(address) = settings.admin_listen else {
        return Ok(());
    };
    engine.listen_for_admin(address, ADMIN_LIMITS).map_err(|e| {
        let setting = settings::given("admin-listen", settings.dialect);
        format!(
            "{setting} {address}: {e}{}; use another address, or ZPA_ADMIN_LISTEN=off",
            cure(&e)
        )
    })
}

/// What to do where an address may not be bound, as port 80 may not by a user
/// that is not root. The sysctl is among those that Kubernetes takes for safe
/// (`pkg/kubelet/sysctl/safe_sysctls.go`), and containerd sets it by itself from
/// 2.0 on (`enable_unprivileged_ports`).
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 take root, unless the pod's securityContext.sysctls has \
             net.ipv4.ip_unprivileged_port_start=0, which containerd sets by itself from 2.0 on; \
             or use another port"
        }
        _ => "",
    }
}

/// How many connections `descriptors` and the limit of `memory`, in bytes, allow; at
/// most what was asked for.
fn connection_limit(wanted: Option<usize>, descriptors: u64, memory: Option<u64>) -> usize {
    let connections = wanted.unwrap_or(DEFAULT_CONNECTIONS);
    let setting = "--max-connections (ZPA_MAX_CONNECTIONS)";
    let by_files = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
    let by_files = usize::try_from(by_files).unwrap_or(usize::MAX).max(1);
    if wanted.is_some() && connections > by_files {
        warn!(
            "{setting} {connections}: the limit of {descriptors} open files allows {by_files}; \
             raise it (ulimit -Hn, LimitNOFILE) to have more"
        );
    }
    let by_memory = memory.map_or(usize::MAX, engine::connections_within);
    if wanted.is_some() && connections > by_memory {
        let mib = memory.unwrap_or_default() >> 20;
        warn!(
            "{setting} {connections}: the memory limit of {mib} MiB has room for {by_memory}; \
             raise it (resources.limits.memory) to have more"
        );
    }
    connections.min(by_files).min(by_memory)
}

fn set_up_wakeups(engine: &Engine, signals: &Signals) -> Result<Arc<mio::Waker>, String> {
    let waker = engine.waker().and_then(|waker| {
        engine.watch(signals)?;
        Ok(Arc::new(waker))
    });
    waker.map_err(|e| format!("cannot set up the event loop: {e}"))
}

fn start_threads(
    settings: &Settings,
    route: &Route,
    access: Access,
    namespace: String,
    clocks: Clocks,
    post: impl Fn(Message) + Send + Clone + 'static,
) -> Result<Outside, String> {
    let resolver = route.target().cloned().map(|target| {
        let (found, panicked) = (post.clone(), post.clone());
        Resolver::spawn(
            target,
            clocks.monotonic,
            move |addresses| found(Message::Target(addresses)),
            move |panic| panicked(Message::Panicked(panic)),
        )
    });
    let resolver = resolver
        .transpose()
        .map_err(|e| format!("cannot start the thread that looks up the target: {e}"))?;
    let config = kube::Config {
        access,
        namespace,
        target: settings.target_ref.clone(),
        dialect: settings.dialect,
        state_configmap: settings.state_configmap.clone(),
        idle_ttl: settings.idle_ttl,
        service: service(settings)?,
        ports: ports(settings, route),
        port_flag: port_flag(settings),
        writer: std::env::var("HOSTNAME").unwrap_or_else(|_| "zpa".to_owned()),
        wall_clock: clocks.wall,
    };
    let report = move |report| post(message(report));
    let api = kube::spawn(config, clocks.monotonic, report)
        .map_err(|e| format!("cannot start the API threads: {e}"))?;
    Ok(Outside { api, resolver })
}

/// Which of the Service's ports to dial for each listener. A target that is the Service
/// has its number; the ancestors' roles do not allow to read what that is in the
/// endpoints.
fn ports(settings: &Settings, route: &Route) -> Vec<Option<PortRef>> {
    let likely = match route {
        Route::PodsThenTarget(target) => Some(PortRef::Likely(target.port)),
        Route::Pods | Route::Target(_) => None,
    };
    let of_all = settings.port.clone().or(likely);
    let listeners = settings.listen.iter();
    let ports = listeners.map(|listener| listener.port.clone().or(of_all.clone()));
    ports.collect()
}

/// The flag that says so.
fn port_flag(settings: &Settings) -> &'static str {
    let mut listeners = settings.listen.iter();
    if listeners.any(|listener| listener.port.is_some()) {
        "--listen"
    } else {
        "--port"
    }
}

/// What metrics call the ports.
fn port_names(settings: &Settings) -> Vec<String> {
    let listeners = settings.listen.iter();
    let names = listeners.map(|listener| listener.label(settings.port.as_ref()));
    names.collect()
}

/// The name of the Service whose endpoints to watch.
///
/// # Errors
/// Where it is to be that of an object that has yet to be found.
fn service(settings: &Settings) -> Result<String, String> {
    settings.service.clone().ok_or_else(|| {
        format!(
            "{}: name the Service too (--service, ZPA_SERVICE, --endpoints), since its name \
             cannot be told from labels",
            settings.target_ref
        )
    })
}

/// What the policy keeps to.
///
/// Leases go into the status of a Deployment, which keeps the conditions of others.
/// A StatefulSet's controller wipes them, of other kinds nothing is known, and the
/// roles of the ancestors' users allow no write of a status: there they go into an
/// annotation.
fn policy_config(settings: &Settings) -> Config {
    let (wake_replicas, wakes_to_previous) = match settings.wake_replicas {
        WakeReplicas::Replicas(count) => (count.get(), false),
        WakeReplicas::Previous => (1, true),
    };
    let is_deployment = settings.target_ref.is_deployment();
    Config {
        idle_ttl: settings.idle_ttl,
        wake_replicas,
        wakes_to_previous,
        lease_store: if is_deployment && settings.dialect == Dialect::Zpa {
            LeaseStore::Status
        } else {
            LeaseStore::Annotation
        },
        annotation_moves_generation: is_deployment,
        single: settings.single_proxy,
        ..Config::default()
    }
}

/// A number that no other proxy has: the standard library seeds its hash maps
/// from the system's randomness.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_limit_leaves_descriptors_to_the_others_and_fits_into_the_memory() {
        const MIB: u64 = 1 << 20;
        for (label, wanted, descriptors, memory, expected) in [
            ("as many as there is room for", None, 20_000, None, 9_912),
            ("a hundred thousand at most", None, 1 << 30, None, 100_000),
            ("more on demand", Some(200_000), 1 << 20, None, 200_000),
            ("fewer on demand", Some(100), 1 << 20, None, 100),
            ("the files end it", Some(5000), 1024, None, 424),
            ("one at the very least", None, 3, Some(MIB), 1),
            (
                "memory is no reason",
                Some(100),
                1 << 20,
                Some(256 * MIB),
                100,
            ),
            ("the memory ends it", None, 1 << 30, Some(64 * MIB), 2_560),
            ("also on demand", Some(9000), 1 << 30, Some(64 * MIB), 2_560),
        ] {
            let limit = connection_limit(wanted, descriptors, memory);
            assert_eq!(limit, expected, "{label}");
        }
    }

    #[test]
    fn two_starts_do_not_have_the_same_seed() {
        assert_ne!(random_seed(), random_seed());
    }
}
