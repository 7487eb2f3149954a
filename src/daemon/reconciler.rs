//! [`Reconciler`]: starts, changes and ends the apps of the process, so that those that run are
//! those of the list of apps.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use log::info;

use super::app::{AppConfig, MinReady, Reconfigured, Schedules};
use super::app_spec::{self, AppSpec, Identity, Update};
use super::listeners::{ListenerSource, SharedAddresses, add_port, listeners};
use super::proxy::Proxy;
use super::route::Route;
use super::source_files::SourceLists;
use super::start;
use super::topology::Topology;
use super::{AppThreads, Clocks};
use crate::accept_probe::{AcceptProbe, Candidate};
use crate::clock::Time;
use crate::cluster::{HostPort, Report};
use crate::engine::{AppId, AppLimits, Engine, PortId};
use crate::kube::{self, ApiThreads, Requests, Webhook, Webhooks};
use crate::policy::Policy;
use crate::resolve::Resolver;
use crate::rules::ready_gate::ReadyGate;
use crate::settings::{Origin, Settings};

/// The channel into which threads put their reports, with the waker of the event loop.
#[derive(Clone)]
pub(super) struct ReportSender {
    sender: Sender<(AppId, Report)>,
    waker: Arc<mio::Waker>,
}

impl ReportSender {
    pub(super) fn new(sender: Sender<(AppId, Report)>, waker: Arc<mio::Waker>) -> ReportSender {
        ReportSender { sender, waker }
    }

    fn of_app(&self, id: AppId) -> impl Fn(Report) + Send + Sync + Clone + 'static {
        let this = self.clone();
        move |report| {
            // The receiver is gone when the program is about to end.
            if this.sender.send((id, report)).is_ok() {
                let _ = this.waker.wake();
            }
        }
    }
}

/// The apps of the process by their specs, and what is needed to start another one.
pub(super) struct Reconciler {
    api: ApiThreads,
    clocks: Clocks,
    reports: ReportSender,
    webhooks: Webhooks,
    /// The networks of the files that settings name.
    lists: SourceLists,
    /// The thread that dials pods that start, if an app wants it.
    accept_probe: Option<AcceptProbe<AppId>>,
    specs: BTreeMap<AppId, AppSpec>,
    /// The id of the next app.
    next_id: u32,
}

/// An app with its listeners and threads, which is not in the proxy yet.
struct PreparedApp {
    id: AppId,
    spec: AppSpec,
    threads: AppThreads,
    listeners: Vec<ListenerSource>,
}

/// An app that cannot be put into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) app: Identity,
    /// Why, a line each.
    pub(super) lines: Vec<String>,
    /// The addresses that cannot be listened on, with the line of each.
    pub(super) addresses: Vec<(SocketAddr, String)>,
}

impl Failure {
    fn of(app: Identity, line: String) -> Failure {
        Failure {
            app,
            lines: vec![line],
            addresses: Vec::new(),
        }
    }

    fn of_addresses(spec: &AppSpec, failed: Vec<(SocketAddr, String)>) -> Failure {
        let named = |(address, why)| (address, named(spec, why));
        let addresses: Vec<_> = failed.into_iter().map(named).collect();
        Failure {
            app: app_spec::identity(spec),
            lines: addresses.iter().map(|(_, why)| why.clone()).collect(),
            addresses,
        }
    }
}

impl Reconciler {
    pub(super) fn new(
        api: ApiThreads,
        clocks: Clocks,
        reports: ReportSender,
        webhooks: Webhooks,
        lists: SourceLists,
    ) -> Reconciler {
        Reconciler {
            api,
            clocks,
            reports,
            webhooks,
            lists,
            accept_probe: None,
            specs: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// The requests to the API server.
    pub(super) fn requests(&self) -> &Requests {
        self.api.requests()
    }

    /// Has a thread that executes requests call `task` at that interval: see
    /// [`ApiThreads::set_periodic_task`].
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn set_periodic_task(
        &self,
        every: Duration,
        task: impl FnMut() + Send + 'static,
    ) -> std::io::Result<()> {
        self.api.set_periodic_task(every, task)
    }

    /// The threads that talk to the API server.
    pub(super) fn api(&self) -> &ApiThreads {
        &self.api
    }

    /// The spec of an app.
    pub(super) fn spec(&self, id: AppId) -> Option<&AppSpec> {
        self.specs.get(&id)
    }

    /// Starts, changes and ends apps, so that those that run are those of `wanted`. If a
    /// listener cannot be bound, nothing changes.
    ///
    /// # Errors
    /// The apps whose listeners cannot be bound, or whose threads cannot be started.
    pub(super) fn reconcile(
        &mut self,
        mut wanted: Vec<AppSpec>,
        proxy: &mut Proxy<Engine, AppThreads>,
        now: Time,
    ) -> Result<(), Vec<Failure>> {
        // Since a spec was made, a file may have changed.
        for spec in &mut wanted {
            self.fill_in_sources(spec);
        }
        let changes = app_spec::changes(&self.specs, wanted);
        let stays = |id: &AppId| self.specs.contains_key(id) && !changes.removed.contains(id);
        let leaving = proxy.apps().filter(|(id, _)| !stays(id));
        let leaving: Vec<PortId> = leaving.flat_map(|(_, app)| app.port_ids()).collect();
        let (mut listening, mut prepared) = (Vec::new(), Vec::new());
        let mut errors = Vec::new();
        // Of the apps that are added.
        let mut shared = SharedAddresses::new();
        for spec in changes.added {
            match listeners(&spec, &leaving, &mut shared, &proxy.sockets) {
                Ok(listeners) => listening.push((spec, listeners)),
                Err(failed) => errors.push(Failure::of_addresses(&spec, failed)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for (spec, listeners) in listening {
            let app = app_spec::identity(&spec);
            match self.prepare(spec, listeners) {
                Ok(app) => prepared.push(app),
                Err(why) => errors.push(Failure::of(app, why)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for prepared in prepared {
            let app = app_spec::identity(&prepared.spec);
            if let Err(why) = self.start(prepared, proxy, now) {
                errors.push(Failure::of(app, why));
            }
        }
        for id in changes.removed {
            if let Some(spec) = self.specs.remove(&id) {
                info!("{}: {}", name(&spec), gone(&spec));
            }
            proxy.leave(id, now);
        }
        for update in changes.updated {
            self.update(update, proxy, now);
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(errors),
        }
    }

    /// Gives a spec the networks of the files that it names, as they were read last.
    fn fill_in_sources(&self, spec: &mut AppSpec) {
        if !spec.settings.rules.sources.files.is_empty() {
            spec.rules.sources = self.lists.sources(&spec.settings);
        }
    }

    /// Puts the networks of a file into force that has changed: for those who come, and for those
    /// who wait.
    pub(super) fn set_sources(&mut self, file: &Path, proxy: &mut Proxy<Engine, AppThreads>) {
        let mut specs = std::mem::take(&mut self.specs);
        let is_concerned = |spec: &AppSpec| spec.settings.rules.sources.files.contains(file);
        for (&id, spec) in specs.iter_mut().filter(|(_, spec)| is_concerned(spec)) {
            self.fill_in_sources(spec);
            proxy.sockets.set_rules(id, &spec.rules);
        }
        self.specs = specs;
        info!("the sources in {} are in force", file.display());
    }

    /// Starts the threads of an app.
    fn prepare(
        &mut self,
        spec: AppSpec,
        listeners: Vec<ListenerSource>,
    ) -> Result<PreparedApp, String> {
        let id = AppId(self.next_id);
        self.next_id += 1;
        let threads = self.threads(id, &spec).map_err(|why| named(&spec, why))?;
        Ok(PreparedApp {
            id,
            spec,
            threads,
            listeners,
        })
    }

    /// The thread that dials pods that start, which is started for the first app that wants it.
    fn accept_probe(&mut self) -> Result<&AcceptProbe<AppId>, String> {
        if self.accept_probe.is_none() {
            let (found, panicked) = (self.reports.clone(), self.reports.clone());
            let probe = AcceptProbe::spawn(
                self.clocks.monotonic,
                move |app, Candidate { port, uid, .. }| {
                    found.of_app(app)(Report::Accepts { port, uid });
                },
                move |app, panic| panicked.of_app(app)(Report::Panicked(panic)),
            );
            self.accept_probe = probe.map(Some).map_err(no_accept_probe)?;
        }
        let probe = self.accept_probe.as_ref();
        probe.ok_or_else(|| no_accept_probe(std::io::Error::other("it is gone")))
    }

    fn threads(&mut self, id: AppId, spec: &AppSpec) -> Result<AppThreads, String> {
        let settings = &spec.settings;
        let route = route(spec);
        let report = self.reports.of_app(id);
        let resolver = |target: Option<&HostPort>, found: fn(Vec<SocketAddr>) -> Report| {
            let (report, panicked) = (report.clone(), report.clone());
            let spawn = |target: &HostPort| {
                Resolver::spawn(
                    target.clone(),
                    self.clocks.monotonic,
                    move |addresses| report(found(addresses)),
                    move |panic| panicked(Report::Panicked(panic)),
                )
            };
            let failed = |e| format!("cannot start the thread that resolves a target: {e}");
            target.map(spawn).transpose().map_err(failed)
        };
        let backup = resolver(settings.backup_target.as_ref(), Report::BackupTarget)?;
        let resolver = resolver(route.static_backend(), Report::StaticBackends)?;
        let accept_probe = match settings.ready_gate {
            ReadyGate::Probe => None,
            ReadyGate::Accept | ReadyGate::Greeting => Some(self.accept_probe()?.of_app(id)),
        };
        let webhook = self.webhook(spec)?;
        let app = kube::WatchedApp {
            namespace: namespace(spec).to_owned(),
            target: settings.target_ref.clone(),
            dialect: settings.dialect,
            state_configmap: settings.state_configmap.clone(),
            idle_ttl: settings.idle_ttl,
            service: start::service(settings)?,
            ports: start::ports(settings, &route),
            port_flag: start::port_flag(settings),
        };
        let api = self
            .api
            .add(app, report)
            .map_err(|e| format!("cannot start the API threads: {e}"))?;
        Ok(AppThreads {
            api,
            resolver,
            _backup: backup,
            accept_probe,
            webhook,
        })
    }

    /// The webhook of an app, if it has one. Whether its receiver can be reached, and what of
    /// its certificate, is the trouble of the webhook alone.
    fn webhook(&self, spec: &AppSpec) -> Result<Option<Webhook>, String> {
        let settings = &spec.settings;
        let (label, target) = (label(spec)?, settings.target_ref.to_string());
        let url = settings.webhook.as_ref();
        Ok(url.map(|url| self.webhooks.of_app(url, &label, &target)))
    }

    /// Whether the certificates of the webhooks of these apps, and of the process's default, can
    /// be verified.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check_webhooks(
        &self,
        process: &Settings,
        specs: &[AppSpec],
    ) -> Result<(), String> {
        let all = specs.iter().map(|spec| &spec.settings).chain([process]);
        let is_tls = |it: &&Settings| it.webhook.as_ref().is_some_and(|url| url.is_tls());
        match all.into_iter().find(is_tls) {
            Some(settings) => self
                .webhooks
                .check()
                .map_err(|why| format!("{}: {why}", settings.given("webhook"))),
            None => Ok(()),
        }
    }

    fn start(
        &mut self,
        app: PreparedApp,
        proxy: &mut Proxy<Engine, AppThreads>,
        now: Time,
    ) -> Result<(), String> {
        let PreparedApp {
            id,
            spec,
            threads,
            listeners,
        } = app;
        let engine = &mut proxy.sockets;
        for source in listeners {
            if let Err(why) = add_port(engine, id, &spec, limits(&spec), source, now) {
                engine.remove_app(id, now);
                return Err(format!("{}: cannot listen: {why}", name(&spec)));
            }
        }
        engine.set_rules(id, &spec.rules);
        let settings = &spec.settings;
        let policy = Policy::new(start::policy_config(settings), start::random_seed(), now);
        let config = AppConfig {
            name: name(&spec),
            label: label(&spec)?,
            service: settings.service.clone().unwrap_or_default(),
            route: route(&spec),
            ports: start::port_names(settings),
            topology: Topology {
                zone: settings.zone.clone(),
                node: settings.node.clone(),
            },
            ready_gate: settings.ready_gate,
            min_ready: min_ready(settings),
            hold_timeout: settings.hold_timeout,
            fail_fast: settings.fail_fast,
            schedules: self.schedules(&spec),
        };
        let ports = (0..).map(|index| PortId { app: id, index });
        let listen: Vec<SocketAddr> = ports.map_while(|port| engine.local_addr(port)).collect();
        info!("{}", start::greeting(settings, &config, &listen));
        proxy.add(id, threads, policy, config, now);
        self.specs.insert(id, spec);
        Ok(())
    }

    fn schedules(&self, spec: &AppSpec) -> Schedules {
        Schedules {
            keep_awake: spec.settings.keep_awake.clone(),
            no_wake: spec.settings.no_wake.clone(),
            wall_clock: self.clocks.wall,
        }
    }

    fn update(&mut self, update: Update, proxy: &mut Proxy<Engine, AppThreads>, now: Time) {
        let Update {
            id,
            spec,
            is_policy_changed,
        } = update;
        proxy.sockets.set_limits(id, limits(&spec));
        proxy.sockets.set_rules(id, &spec.rules);
        proxy.sockets.set_names(id, &spec.settings.server_names);
        let policy =
            is_policy_changed.then(|| (start::policy_config(&spec.settings), start::random_seed()));
        let change = Reconfigured {
            hold_timeout: spec.settings.hold_timeout,
            fail_fast: spec.settings.fail_fast,
            schedules: self.schedules(&spec),
            min_ready: min_ready(&spec.settings),
            policy,
        };
        proxy.reconfigure(id, change, now);
        let before = self.specs.get(&id);
        let is_same = before.is_some_and(|it| it.settings.webhook == spec.settings.webhook);
        if let Some(threads) = proxy.api_mut(id).filter(|_| !is_same) {
            // It has a Service, since it runs.
            threads.webhook = self.webhook(&spec).ok().flatten();
        }
        let clock = if is_policy_changed {
            "; its idle time starts again"
        } else {
            ""
        };
        info!("{}: settings changed{clock}", name(&spec));
        self.specs.insert(id, spec);
    }
}

/// A line about an app: with its name where it is one of a list.
fn named(spec: &AppSpec, why: String) -> String {
    match spec.settings.origin() {
        Origin::List => format!("{}: {why}", name(spec)),
        Origin::CommandLine | Origin::Annotations => why,
    }
}

/// Why an app ends that runs.
fn gone(spec: &AppSpec) -> &'static str {
    match spec.settings.origin() {
        Origin::Annotations => {
            "drains: no Service defines it any more, or one defines it with another identity"
        }
        Origin::CommandLine | Origin::List => "drains: it is not in the list any more",
    }
}

fn namespace(spec: &AppSpec) -> &str {
    spec.settings.namespace.as_deref().unwrap_or_default()
}

/// `namespace/deployment`.
fn name(spec: &AppSpec) -> String {
    format!("{}/{}", namespace(spec), spec.settings.target_ref.label())
}

/// `namespace/service`.
fn label(spec: &AppSpec) -> Result<String, String> {
    let service = start::service(&spec.settings)?;
    Ok(format!("{}/{service}", namespace(spec)))
}

fn route(spec: &AppSpec) -> Route {
    Route::of(&spec.settings, namespace(spec))
}

fn limits(spec: &AppSpec) -> AppLimits {
    let settings = &spec.settings;
    AppLimits {
        hold_timeout: settings.hold_timeout,
        abort_on_close: settings.abort_on_close,
        connect_timeout: settings.connect_timeout,
    }
}

fn min_ready(settings: &Settings) -> MinReady {
    MinReady {
        min_ready: settings.min_ready.get(),
        min_ready_time: settings.min_ready_time,
    }
}

fn no_accept_probe(why: std::io::Error) -> String {
    format!("cannot start the thread that dials starting pods: {why}")
}
