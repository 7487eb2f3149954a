//! [`App`]: one app of the daemon. It passes the counts of the sockets and the reports of the API
//! threads to its policy, and executes the policy's commands on the sockets and the API threads.
//!
//! It owns the state of the app, and borrows the sockets of the process ([`Process`]) in each
//! call.

mod addresses;
mod failures;
mod journal_inputs;
mod notifications;
mod trouble;

use std::time::Duration;

use super::diagnosis::Diagnosis;
use super::health::{Context, Health};
use super::hold_timeout_log::HoldTimeoutLog;
use super::interface::{Api, Sockets};
use super::journal::Journal;
use super::lifecycle::Lifecycle;
use super::list_request::ListRequest;
pub use super::min_ready::MinReady;
use super::min_ready::MinReadyWait;
use super::own_addresses::OwnAddresses;
use super::pod_verdict::PodVerdict;
use super::port::Port;
use super::route::Route;
use super::slow_wake::SlowWakeLog;
use super::topology::Topology;
use super::watch_timeout::{self, WatchTimeout};
pub use super::window_clock::Schedules;
use super::window_clock::WindowClock;
use crate::accept_probe::Candidate;
use crate::clock::Time;
use crate::cluster::{Report, TargetStatus};
use crate::engine::{AppId, Counts, PortId};
use crate::metrics::Histogram;
use crate::policy::{self, Change, Command, Connections, Policy, WakeReason};
use crate::rules::ready_gate::ReadyGate;

/// How long the first report of the API threads may take until connections are let through
/// to a static backend (`--target`) without it.
const TRUST_STATIC_AFTER: Duration = Duration::from_secs(2);

/// The age of the last event of the endpoint watch up to which the watch counts as alive: then a
/// list would show no more about an address that does not accept.
const ALIVE: Duration = Duration::from_secs(2);

/// The settings of an app.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// `namespace/deployment`, for the log.
    pub name: String,
    /// `namespace/service`, for metrics.
    pub label: String,
    /// The Service whose endpoints are watched, for the log.
    pub service: String,
    /// What connections go to.
    pub route: Route,
    /// Its ports, as metrics call them.
    pub ports: Vec<String>,
    /// Where the proxy runs.
    pub topology: Topology,
    /// The condition on which a pod is dialled.
    pub ready_gate: ReadyGate,
    /// The condition on which the first pod is dialled after a wake.
    pub min_ready: MinReady,
    /// The hold limit, for the log; the sockets apply it.
    pub hold_timeout: Duration,
    /// Whether waiting connections are let go on a reason that waiting does not solve.
    pub fail_fast: bool,
    /// When it is kept awake, and when it is not woken.
    pub schedules: Schedules,
}

/// The changes of an app while it runs.
#[derive(Clone, Debug)]
pub struct Reconfigured {
    /// The hold limit, for the log.
    pub hold_timeout: Duration,
    /// Whether waiting connections are let go on a reason that waiting does not solve.
    pub fail_fast: bool,
    /// When it is kept awake, and when it is not woken.
    pub schedules: Schedules,
    /// The condition on which the first pod is dialled after a wake.
    pub min_ready: MinReady,
    /// The new configuration of its policy, with the seed of its random numbers; `None`: the
    /// policy stays.
    pub policy: Option<(policy::Config, u64)>,
}

/// The counters of the app since the start, except those of the engine and the API threads.
#[derive(Clone, Debug, Default)]
pub struct AppCounters {
    /// The wakes that this proxy has written.
    pub wakes: u64,
    /// The sleeps that this proxy has written.
    pub sleeps: u64,
    /// The wakes that had to wait for the limit of wakes per minute.
    pub wakes_delayed: u64,
    /// The time from the first connection that had to wait to an address for it.
    pub wake: Histogram,
    /// The connections that were forwarded to a pod without a lease.
    pub without_lease: u64,
    /// The panics of threads.
    pub thread_panics: u64,
}

/// The parts of the process that an app borrows in each call.
pub struct Process<'a, S> {
    /// The event loop.
    pub sockets: &'a mut S,
    /// The addresses of this proxy.
    pub own_addresses: &'a OwnAddresses,
    /// The time.
    pub now: Time,
}

/// An app: see the [module](self).
pub struct App<A> {
    id: AppId,
    api: A,
    config: AppConfig,
    policy: Policy,
    ports: Vec<Port>,
    /// When the endpoints were last received, if ever.
    endpoints_updated: Option<Time>,
    /// The last status that the controller of the scale target has written.
    target_status: Option<TargetStatus>,
    slow_wake_log: SlowWakeLog,
    diagnosis: Diagnosis,
    /// What is wrong with its pods, while it is waking.
    pod_verdict: PodVerdict,
    /// The uses when the pods were read last.
    uses_at_read: u64,
    /// Since when the API server refuses all its pods.
    refused_since: Option<Time>,
    /// Why waiting connections are let go.
    wake_failure: Option<&'static str>,
    /// The same as it was logged: it holds from one read of the pods to the next.
    logged_failure: Option<&'static str>,
    /// What keeps its pods from getting ready, as the sockets know it.
    wake_trouble: Option<&'static str>,
    /// The note of the last Event about a slow wake, in this wake.
    slow_wake_note: Option<String>,
    /// When the backends of the sockets are updated next; `None`: only after a report.
    backends_until: Option<Time>,
    /// When the gate, which is open, shuts without an event.
    gate_until: Option<Time>,
    started: Time,
    hold_timeout_log: HoldTimeoutLog,
    /// The pods that are dialled until one accepts.
    candidates: Vec<Candidate>,
    exhausted: u64,
    forwarded: u64,
    watch_timeout: WatchTimeout,
    list_request: ListRequest,
    windows: WindowClock,
    min_ready_wait: MinReadyWait,
    health: Health,
    counters: AppCounters,
    journal: Journal,
    lifecycle: Lifecycle,
    /// What has ordered the last wake; `None`: connections that waited.
    woken_by: Option<WakeReason>,
}

impl AppCounters {
    fn record(&mut self, change: Change) {
        match change {
            Change::WakeWritten { .. } => self.wakes += 1,
            Change::SleepWritten { .. } => self.sleeps += 1,
            Change::WakeDelayed { .. } => self.wakes_delayed += 1,
            Change::AddressReady { took, .. } => self.wake.observe(took),
            _ => {}
        }
    }
}

impl<A: Api> App<A> {
    /// An app that has received no report yet.
    pub fn new(id: AppId, api: A, policy: Policy, config: AppConfig, now: Time) -> Self {
        let windows = WindowClock::new(config.schedules.clone(), now);
        let min_ready_wait = MinReadyWait::new(config.min_ready);
        App {
            id,
            api,
            policy,
            ports: config.ports.iter().map(|_| Port::default()).collect(),
            config,
            endpoints_updated: None,
            target_status: None,
            slow_wake_log: SlowWakeLog::default(),
            diagnosis: Diagnosis::default(),
            pod_verdict: PodVerdict::default(),
            uses_at_read: 0,
            refused_since: None,
            wake_failure: None,
            logged_failure: None,
            wake_trouble: None,
            slow_wake_note: None,
            backends_until: Some(now + TRUST_STATIC_AFTER),
            gate_until: None,
            started: now,
            hold_timeout_log: HoldTimeoutLog::default(),
            candidates: Vec::new(),
            exhausted: 0,
            forwarded: 0,
            watch_timeout: WatchTimeout::default(),
            list_request: ListRequest::default(),
            windows,
            min_ready_wait,
            health: Health::default(),
            counters: AppCounters::default(),
            journal: Journal::new(now),
            lifecycle: Lifecycle::default(),
            woken_by: None,
        }
    }

    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Sets how many apps the process has.
    pub fn set_apps(&mut self, apps: usize) {
        self.policy.set_apps(apps);
    }

    /// The API threads.
    pub fn api(&self) -> &A {
        &self.api
    }

    /// The same.
    pub fn api_mut(&mut self) -> &mut A {
        &mut self.api
    }

    /// Its settings.
    pub fn config(&self) -> &AppConfig {
        &self.config
    }

    /// Its counters since the start.
    pub fn counters(&self) -> &AppCounters {
        &self.counters
    }

    /// The state of the API threads.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The state on which the fallbacks for refused permissions depend.
    pub fn context(&self) -> Context {
        let replicas = self.policy.replicas();
        Context {
            store: self.policy.lease_location(),
            has_static_backend: self.config.route.static_backend().is_some(),
            is_pods_first: self.config.route.is_pods_first(),
            has_replicas: replicas.is_some_and(|(replicas, _)| replicas > 0),
        }
    }

    /// How many addresses may be dialled, for all its ports.
    pub fn backends(&self) -> usize {
        self.ports.iter().map(|port| port.backends).sum()
    }

    /// Its ports.
    pub fn port_ids(&self) -> impl Iterator<Item = PortId> {
        (0..self.ports.len()).map(|index| self.port_id(index))
    }

    /// What metrics call a port.
    pub fn port_name(&self, id: PortId) -> &str {
        self.config.ports.get(id.index).map_or("", String::as_str)
    }

    /// How many addresses may be dialled for a port.
    pub fn backends_at(&self, id: PortId) -> usize {
        self.ports.get(id.index).map_or(0, |port| port.backends)
    }

    /// The reasons why the app is not ready, a line each; none if it is.
    pub fn unready(&self, now: Time) -> Vec<String> {
        let (name, trusts_static_backend) = (&self.config.name, self.trusts_static_backend(now));
        self.health
            .unready(name, self.context(), trusts_static_backend, now)
    }

    /// Whether this proxy could wake the app again, and serve its clients then: it is ready, and
    /// the endpoints can be listed and lead to the pods, or are not needed.
    fn can_wake(&self, is_draining: bool, now: Time) -> bool {
        let has_addresses = self.config.route.static_backend().is_some()
            || self.health.is_synced() && self.leads_to_pods();
        has_addresses && !is_draining && self.unready(now).is_empty()
    }

    /// When there is something to do even if nothing happens.
    pub fn poll_timeout(&self, sockets: &impl Sockets) -> Option<Time> {
        let lost = sockets.counts(self.id).held_too_long;
        [
            self.policy.poll_timeout(),
            self.gate_until,
            self.backends_until,
            self.hold_timeout_log.poll_timeout(lost),
            self.slow_wake_log.poll_timeout(),
            self.diagnosis_due(),
            self.watch_timeout.poll_timeout(),
            self.list_request.poll_timeout(),
            self.windows.poll_timeout(),
            self.lifecycle.poll_timeout(self.config.hold_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Applies changed settings. A new policy begins as at a start of the program, with the
    /// present connections.
    pub fn reconfigure<S: Sockets>(&mut self, change: Reconfigured, process: &mut Process<'_, S>) {
        self.config.hold_timeout = change.hold_timeout;
        self.config.fail_fast = change.fail_fast;
        self.windows.set_schedules(change.schedules, process.now);
        self.min_ready_wait.set_condition(change.min_ready);
        if let Some((config, seed)) = change.policy {
            self.policy = self.policy.restarted(config, seed, process.now);
        }
    }

    // --- A turn of the loop ---

    /// Begins a turn: handles the passing of time, before the sockets are served.
    pub fn begin_turn<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        self.policy.handle_timeout(process.now);
        self.set_gate(process);
    }

    /// Passes the counts of the sockets to the policy, and requests a list of the endpoints if a
    /// connection was accepted by no address.
    pub fn update_counts<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let now = process.now;
        let counts = process.sockets.counts(self.id);
        let Counts {
            uses,
            counted,
            waiting,
            resuming,
            ..
        } = counts;
        self.policy.update_connections(
            Connections {
                uses,
                open: counted,
                waiting,
                resuming,
            },
            now,
        );
        // Connections that do not count need no lease.
        let under_lease = counts.forwarded - counts.forwarded_uncounted;
        let forwarded = under_lease - self.forwarded;
        self.forwarded = under_lease;
        if !self.policy.has_lease(now) {
            self.counters.without_lease += forwarded;
        }
        if counts.exhausted != self.exhausted {
            self.exhausted = counts.exhausted;
            self.api.relist_unless_newer(now - ALIVE);
        }
        self.api.set_waiting(waiting > 0);
    }

    /// Handles a report of another thread.
    pub fn handle<S: Sockets>(&mut self, report: Report, process: &mut Process<'_, S>) {
        let now = process.now;
        match report {
            Report::Reply { id, outcome } => {
                let permission = self.policy.permission_of(id);
                self.health.replied(permission, &outcome);
                self.policy.reply(id, outcome, now);
            }
            Report::Pods { port, pods } => {
                self.endpoints_updated = Some(now);
                self.watch_timeout.restart();
                let port = self.ports.get_mut(port);
                if port.is_some_and(|port| port.pods.update(pods, now)) {
                    self.note_change(now);
                }
                self.backends_until = Some(now);
            }
            Report::Accepts { port, uid } => self.note_accepting(port, &uid, now),
            Report::BackupTarget(addresses) => self.set_backup(&addresses, process),
            Report::StaticBackends(addresses) => {
                for port in &mut self.ports {
                    port.destinations.static_backends.clone_from(&addresses);
                }
                self.backends_until = Some(now);
                self.update_fallbacks(process);
            }
            Report::FallbackAddress { port, address } => {
                if let Some(port) = self.ports.get_mut(port) {
                    port.destinations.cluster_ip = address;
                }
                self.update_fallbacks(process);
            }
            Report::SessionAffinity(timeout) => process.sockets.set_affinity(self.id, timeout),
            Report::NoAddress { port, why } => {
                self.health.no_address(port, why);
                self.backends_until = Some(now);
            }
            Report::Synced(source) => self.health.synced(source),
            Report::Permission {
                permission,
                refusal,
            } => self.health.permission(permission, refusal, now),
            Report::TargetStatus(status) => {
                self.policy.set_rollout(status.rollout, now);
                self.target_status = Some(status);
                self.note_change(now);
            }
            Report::PodsRead(read) => self.set_pods_read(read, now),
            Report::Observed(observation) => self.policy.observe(observation, now),
            Report::Watching(is_watching) => self.policy.set_watching(is_watching, now),
            Report::RequestFailed(what) => self.health.trouble(what, now),
            Report::Panicked(panic) => {
                self.counters.thread_panics += 1;
                self.health.panicked(&panic, now);
            }
        }
        self.execute_commands(process);
        self.update_backends(process);
    }

    /// Ends a turn: applies the results of all inputs.
    pub fn finish_turn<S: Sockets>(&mut self, is_draining: bool, process: &mut Process<'_, S>) {
        let now = process.now;
        self.update_backends(process);
        self.policy
            .set_can_wake(self.can_wake(is_draining, now), now);
        if let Some(windows) = self
            .windows
            .update(self.policy.annotated_awake_until(), now)
        {
            self.policy.set_windows(windows, now);
        }
        self.policy.handle_timeout(now);
        self.execute_commands(process);
        self.relist_if_stale(process);
        let awaits_list = self.ports.iter().any(|port| port.pods.awaits_list());
        if self.list_request.update(awaits_list, now) {
            self.api.relist();
        }
        self.probe_starting_pods(process);
        self.set_gate(process);
        self.log_hold_timeouts(process);
        // First why, and then what follows.
        self.log_slow_wake(process);
        self.diagnose(process);
        self.notify_of_failed_wake(process);
        self.update_journal(process);
    }

    fn set_gate<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let now = process.now;
        self.gate_until = self.policy.gate_until(now);
        let is_open = self.policy.gate_open(now);
        process.sockets.set_gate(self.id, is_open, now);
    }

    /// Requests a list of the endpoints if connections wait for an address, the watch has
    /// shown nothing for [`watch_timeout::WATCH_TIMEOUT`], and there may be endpoints: they
    /// were never listed, or the app may have replicas.
    fn relist_if_stale<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let now = process.now;
        let is_asleep = self.policy.replicas().is_some_and(|(count, _)| count == 0);
        let is_expected = !is_asleep || self.endpoints_updated.is_none();
        let is_awaited = is_expected && self.awaits_address(process.sockets);
        if self.watch_timeout.update(is_awaited, now) {
            let seen = now - watch_timeout::WATCH_TIMEOUT;
            if !self.api.relist_unless_newer(seen) {
                self.watch_timeout.check_again(now);
            }
        }
    }

    /// Whether connections wait at a port without an address, and the reason is not known.
    fn awaits_address(&self, sockets: &impl Sockets) -> bool {
        let mut ports = self.ports.iter().enumerate();
        ports.any(|(index, port)| {
            let id = self.port_id(index);
            let is_unexplained = port.backends == 0 && self.no_address_at(id).is_none();
            is_unexplained && sockets.waiting(id) > 0
        })
    }

    fn port_id(&self, index: usize) -> PortId {
        PortId {
            app: self.id,
            index,
        }
    }

    // --- Commands ---

    /// Executes the commands of the policy.
    fn execute_commands<S: Sockets>(&mut self, process: &mut Process<'_, S>) {
        let now = process.now;
        while let Some(command) = self.policy.poll_command() {
            match command {
                Command::Send { id, request } => self.api.request(id, request),
                Command::GaveUp(permission) => self.health.interrupted(permission),
                Command::QuarantinePods => {
                    self.ports
                        .iter_mut()
                        .for_each(|port| port.pods.quarantine(now));
                    self.min_ready_wait.restart();
                    process.sockets.end_uncounted(self.id);
                    process.sockets.forget_clients(self.id);
                    self.backends_until = Some(now);
                }
                Command::ScaleAboveZero => {
                    if self.set_awake(now) {
                        self.api.relist();
                        self.list_request.begin(now);
                    }
                    self.backends_until = Some(now);
                }
                Command::Log(change) => {
                    self.counters.record(change);
                    self.journal.record(change, now);
                    self.notify_of_change(change, now);
                    self.log_change(change, process.sockets);
                }
            }
        }
    }

    /// Handles a scale above zero; returns whether any port needs a new list.
    fn set_awake(&mut self, now: Time) -> bool {
        let mut is_list_wanted = false;
        for port in &mut self.ports {
            is_list_wanted |= port.pods.set_awake(now);
        }
        is_list_wanted
    }

    /// Sets that the app drains: missing permissions and objects are logged at debug.
    pub fn set_draining(&mut self) {
        self.api.set_draining();
    }
}
