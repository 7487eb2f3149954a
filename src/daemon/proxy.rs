//! A [`Proxy`] connects the event loop, the policy and the API threads: what the
//! sockets count and the API threads report goes to the policy, and what the policy
//! decides goes to the sockets and the API threads.
//!
//! It knows the loop and the API threads only by what it asks of them ([`Sockets`],
//! [`Api`]), so that a simulation can stand for both and play days of faults in a second
//! with the very code that runs in the cluster.

use std::time::Duration;

use log::{Level, info, log, warn};

use super::health::{Context, Health};
use super::interface::{Api, Message, Sockets};
use super::messages::{clients, connections, describe};
use super::own::{self, OwnAddresses};
use super::pods::Pods;
use super::route::{Destinations, Route};
use super::waking::{Facts, WakeReport};
use super::watch_timeout::{self, WatchTimeout};
use crate::clock::Time;
use crate::cluster::{LeaseStore, Pod, TargetStatus};
use crate::duration;
use crate::engine::{BackendSpec, Counts};
use crate::metrics::Histogram;
use crate::policy::{Change, Command, Connections, Phase, Policy};

/// With a target set, how long to wait for the first word of the API server
/// before connections are let through to it all the same.
const TRUST_TARGET_AFTER: Duration = Duration::from_secs(2);

/// A watch that has shown something so recently is alive, and a list would show no
/// more of an address that cannot be dialled.
const ALIVE: Duration = Duration::from_secs(2);

/// How often connections that were closed at the hold limit are reported.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The settings of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// `namespace/deployment`, for the log.
    pub name: String,
    /// The Service whose endpoints are watched, for the log.
    pub service: String,
    /// What connections go to.
    pub route: Route,
    /// The hold limit, for the log; the sockets keep it.
    pub hold_timeout: Duration,
    /// How long to go on accepting once the end has begun.
    pub drain_delay: Duration,
    /// How long connections may take to finish after that.
    pub drain_timeout: Duration,
}

/// How a run ended that could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Told to end, and there was nothing, or nothing any more, to be reset.
    Drained,
    /// Told to end, and connections had to be reset.
    Cut,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug)]
enum Drain {
    No,
    /// Still accepting: not everybody knows yet that we are leaving.
    Delay {
        until: Time,
    },
    Finish {
        until: Time,
    },
}

/// What was told of connections that were closed at the hold limit.
#[derive(Default)]
struct HoldTimeoutLog {
    logged: u64,
    next: Time,
}

/// What has happened since the start that nobody else counts.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// How often the app was scaled up from zero from here.
    pub wakes: u64,
    /// How often it was scaled to zero from here.
    pub sleeps: u64,
    /// From the first connection that had to wait to a pod for it.
    pub wake: Histogram,
    /// How often a connection was handed to a pod without a lease.
    pub without_lease: u64,
    /// How often a thread has panicked.
    pub thread_panics: u64,
}

/// A proxy: all that it knows, between its sockets and the API.
pub struct Proxy<S, A> {
    /// The event loop.
    pub sockets: S,
    api: A,
    config: ProxyConfig,
    policy: Policy,
    pods: Pods,
    /// When the endpoints were last heard of, if ever.
    endpoints_updated: Option<Time>,
    destinations: Destinations,
    /// What the controller of the scaled object said last.
    target_status: Option<TargetStatus>,
    wake_report: WakeReport,
    /// Until when the sockets' addresses are right; `None` if only news can
    /// change them.
    backends_until: Option<Time>,
    started: Time,
    drain: Drain,
    losses: HoldTimeoutLog,
    exhausted: u64,
    handed_over: u64,
    /// How many addresses the sockets have.
    backends: usize,
    watch_timeout: WatchTimeout,
    own_addresses: OwnAddresses,
    /// Why nothing is dialled, if what is to be dialled leads back to this proxy.
    leads_back: Option<String>,
    health: Health,
    events: Events,
}

impl Events {
    fn note(&mut self, change: Change) {
        match change {
            Change::ScaledUp { .. } => self.wakes += 1,
            Change::Slept { .. } => self.sleeps += 1,
            Change::Woke { took, .. } => self.wake.observe(took),
            _ => {}
        }
    }
}

impl<S: Sockets, A: Api> Proxy<S, A> {
    /// Starts with nothing known.
    pub fn new(sockets: S, api: A, policy: Policy, config: ProxyConfig, now: Time) -> Self {
        Proxy {
            sockets,
            api,
            config,
            policy,
            pods: Pods::default(),
            endpoints_updated: None,
            destinations: Destinations::default(),
            target_status: None,
            wake_report: WakeReport::default(),
            backends_until: Some(now + TRUST_TARGET_AFTER),
            started: now,
            drain: Drain::No,
            losses: HoldTimeoutLog::default(),
            exhausted: 0,
            handed_over: 0,
            backends: 0,
            watch_timeout: WatchTimeout::default(),
            own_addresses: OwnAddresses::default(),
            leads_back: None,
            health: Health::default(),
            events: Events::default(),
        }
    }

    /// Where this proxy itself is reached.
    pub fn set_own_addresses(&mut self, own_addresses: OwnAddresses) {
        self.own_addresses = own_addresses;
    }

    /// What is known of the app and being done about it.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The API threads.
    pub fn api(&self) -> &A {
        &self.api
    }

    /// What it keeps to.
    pub fn config(&self) -> &ProxyConfig {
        &self.config
    }

    /// What has happened since the start.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What the API threads have said of themselves.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What decides about what can be done where a permission is refused.
    pub fn context(&self) -> Context {
        let replicas = self.policy.replicas();
        Context {
            store: self.policy.lease_location(),
            has_target: self.config.route.target().is_some(),
            is_pods_first: self.config.route.is_pods_first(),
            is_up: replicas.is_some_and(|(replicas, _)| replicas > 0),
        }
    }

    /// How many addresses may be dialled.
    pub fn backends(&self) -> usize {
        self.backends
    }

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        !matches!(self.drain, Drain::No)
    }

    /// Why new connections are not welcome here, a line each; none if they are.
    ///
    /// Once it was ready, no outage of the API server ends that: it would for
    /// all proxies at once, and the Service would have nobody left to lead to.
    /// What may end it is in `health.rs`.
    pub fn unready(&self, now: Time) -> Vec<String> {
        let draining = self
            .is_draining()
            .then(|| "draining after a signal".to_owned());
        let (name, blind) = (&self.config.name, self.trusts_target(now));
        let health = self.health.unready(name, self.context(), blind, now);
        draining.into_iter().chain(health).collect()
    }

    /// Whether whoever comes after a sleep can be served: nothing is known to stand in
    /// the way, and the endpoints can be listed, or are not needed.
    fn can_wake(&self, now: Time) -> bool {
        let sees_endpoints = self.health.is_synced() || self.config.route.target().is_some();
        sees_endpoints && self.unready(now).is_empty()
    }

    /// When [`Proxy::turn`] has something to do even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        let drain = match self.drain {
            Drain::No => None,
            Drain::Delay { until } | Drain::Finish { until } => Some(until),
        };
        let losses = self.sockets.counts().held_too_long > self.losses.logged;
        [
            self.sockets.poll_timeout(),
            self.policy.poll_timeout(),
            self.backends_until,
            losses.then_some(self.losses.next),
            self.wake_report.poll_timeout(),
            self.watch_timeout.poll_timeout(),
            drain,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// One turn of the loop: a bounded piece of what is to be done.
    pub fn turn(&mut self, messages: impl IntoIterator<Item = Message>, now: Time) -> Option<Exit> {
        // The gate may have to be shut because time has passed. Connections
        // that are here already count before an answer that may put the app to
        // sleep.
        self.policy.handle_timeout(now);
        self.sockets.set_gate(self.policy.gate_open(now));
        self.sockets.dispatch(now);
        self.count(now);
        for message in messages {
            self.handle(message, now);
            self.update_backends(now);
        }
        self.update_backends(now);
        self.policy.set_can_wake(self.can_wake(now), now);
        self.policy.handle_timeout(now);
        self.execute_commands(now);
        self.relist_if_stale(now);
        self.sockets.set_gate(self.policy.gate_open(now));
        self.sockets.release(now);
        self.report_wake(now);
        self.drain(now)
    }

    /// Tells the policy how many connections there are, and everybody what
    /// the failed ones have shown.
    fn count(&mut self, now: Time) {
        let counts = self.sockets.counts();
        let Counts {
            uses,
            counted,
            waiting,
            ..
        } = counts;
        self.policy.update_connections(
            Connections {
                accepted: uses,
                open: counted,
                waiting,
            },
            now,
        );
        let handed_over = counts.handed_over - self.handed_over;
        self.handed_over = counts.handed_over;
        if !self.policy.has_lease(now) {
            self.events.without_lease += handed_over;
        }
        if counts.exhausted != self.exhausted {
            self.exhausted = counts.exhausted;
            self.api.relist_unless_newer(now - ALIVE);
        }
        self.api.set_waiting(waiting > 0);
        self.report_losses(counts.held_too_long, now);
    }

    fn handle(&mut self, message: Message, now: Time) {
        match message {
            Message::Reply { id, outcome } => {
                self.health.replied(&outcome, now);
                self.policy.reply(id, outcome, now);
            }
            Message::Pods(pods) => {
                self.endpoints_updated = Some(now);
                self.watch_timeout.restart();
                self.pods.update(pods, now);
                self.backends_until = Some(now);
            }
            Message::Target(addresses) => {
                self.destinations.target = addresses;
                self.backends_until = Some(now);
                self.update_fallback();
            }
            Message::Fallback(address) => {
                self.destinations.cluster_ip = address;
                self.update_fallback();
            }
            Message::NoAddress(why) => {
                self.health.no_address(why);
                self.backends_until = Some(now);
            }
            Message::Synced(source) => self.health.synced(source),
            Message::Permission {
                permission,
                refusal,
            } => self.health.permission(permission, refusal, now),
            Message::TargetStatus(status) => self.target_status = Some(status),
            Message::Trouble(what) => self.health.trouble(what, now),
            Message::Panicked(panic) => {
                self.events.thread_panics += 1;
                self.health.panicked(&panic, now);
            }
        }
        self.execute_commands(now);
    }

    /// Has the endpoints listed afresh if somebody waits for one in vain, and nothing
    /// is heard of them, though they were never listed, or the app may have replicas:
    /// it has, or was never read.
    fn relist_if_stale(&mut self, now: Time) {
        let is_asleep = self.policy.replicas().is_some_and(|(count, _)| count == 0);
        let is_expected = !is_asleep || self.endpoints_updated.is_none();
        let is_unexplained = self.backends == 0 && self.no_address().is_none();
        let is_awaited = is_expected && is_unexplained && self.sockets.counts().waiting > 0;
        if self.watch_timeout.update(is_awaited, now) {
            self.api
                .relist_unless_newer(now - watch_timeout::WATCH_TIMEOUT);
        }
    }

    /// Tells the sockets which backends there are, and the policy whether there
    /// are any.
    fn update_backends(&mut self, now: Time) {
        if self.backends_until.is_none_or(|until| now < until) {
            return;
        }
        let pods = self.pods.dialable(now).map(backend_of_pod).collect();
        let is_port_known = !self.health.is_port_missing();
        let trusts_target = self.trusts_target(now);
        let backends =
            self.destinations
                .backends(&self.config.route, pods, is_port_known, trusts_target);
        let backends = self.refuse_own(backends);
        self.backends = backends.iter().map(|it| it.addresses.len()).sum();
        self.sockets.set_backends(&backends, now);
        self.policy.set_dialable(!backends.is_empty(), now);
        let deadlines = [self.pods.poll_timeout(now), self.trusts_target_at(now)];
        self.backends_until = deadlines.into_iter().flatten().min();
    }

    /// No backends at all if one of them is this proxy: the others are, or may be,
    /// other proxies, each of which would hand the connection on for ever. A Service
    /// whose selector matches the proxies is what leads there.
    fn refuse_own(&mut self, backends: Vec<BackendSpec>) -> Vec<BackendSpec> {
        let mut addresses = backends.iter().flat_map(|backend| &backend.addresses);
        let own = addresses.find(|&&address| self.own_addresses.contains(address));
        let leads_back = own.map(|&own| own::explain(own, &self.config.service));
        let name = &self.config.name;
        match (&leads_back, &self.leads_back) {
            (Some(why), None) => warn!("{name}: {why}"),
            (None, Some(_)) => info!("{name}: nothing leads back to this proxy any more"),
            _ => {}
        }
        let is_refused = leads_back.is_some();
        self.leads_back = leads_back;
        self.update_fallback();
        if is_refused { Vec::new() } else { backends }
    }

    /// Why no pod can be dialled although the endpoints can be listed.
    pub fn no_address(&self) -> Option<&str> {
        self.leads_back
            .as_deref()
            .or_else(|| self.health.no_address_because())
    }

    /// Tells the sockets the way round where no pod answers.
    fn update_fallback(&mut self) {
        let fallback = self.destinations.fallback(&self.config.route);
        let fallback = fallback.filter(|_| self.leads_back.is_none());
        self.sockets.set_fallback(fallback);
    }

    /// Whether nothing was ever heard of the endpoints, so that a target has
    /// to be trusted to be there.
    fn trusts_target(&self, now: Time) -> bool {
        self.endpoints_updated.is_none() && self.trusts_target_at(now).is_none()
    }

    fn trusts_target_at(&self, now: Time) -> Option<Time> {
        Some(self.started + TRUST_TARGET_AFTER).filter(|&at| at > now)
    }

    /// Carries out what the policy has decided.
    fn execute_commands(&mut self, now: Time) {
        while let Some(command) = self.policy.poll_command() {
            match command {
                Command::Ask { id, request } => self.api.request(id, request),
                Command::QuarantinePods => {
                    self.pods.quarantine(now);
                    self.sockets.end_uncounted(now);
                    self.backends_until = Some(now);
                }
                Command::ReleasePods => {
                    if self.pods.begin_release(now) {
                        self.api.relist();
                    }
                    self.backends_until = Some(now);
                }
                Command::Report(change) => {
                    self.events.note(change);
                    self.log_change(change);
                }
            }
        }
    }

    fn log_change(&self, change: Change) {
        let level = match change {
            Change::PreviousUnknown { .. }
            | Change::WithoutLease { .. }
            | Change::LeaseLocation(Some(LeaseStore::Annotation) | None)
            | Change::LeasesVisible(false)
            | Change::SetBack { .. }
            | Change::OtherTtl { .. } => Level::Warn,
            // Another proxy must have had no lease of this one before it.
            Change::ScaledByOthers {
                from_zero: false,
                open: 1..,
                ..
            } => Level::Warn,
            _ => Level::Info,
        };
        let client = match change {
            Change::Waking { .. } => self.sockets.first_waiting(),
            _ => None,
        };
        log!(level, "{}", describe(&self.config.name, change, client));
    }

    /// Why the app does not wake, as far as that is known; none while it is not
    /// waking.
    pub fn slow_wake(&self) -> Option<(Time, String)> {
        let since = self.wake_report.since()?;
        Some((since, self.facts().explain()))
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            service: &self.config.service,
            no_address: self.no_address(),
            is_synced: self.health.is_synced(),
            listed: self.pods.listed(),
            dialable: self.backends,
            is_full: self.sockets.counts().is_full,
            target: self.target_status.as_ref(),
        }
    }

    fn report_wake(&mut self, now: Time) {
        let phase = self.policy.phase();
        let is_waking = matches!(phase, Phase::Waking { .. } | Phase::Starting { .. });
        self.wake_report.update(is_waking, now);
        if self.wake_report.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let mut report = std::mem::take(&mut self.wake_report);
        if let Some((took, reason)) = report.report(&self.facts(), now) {
            let took = duration::display(Duration::from_secs(took.as_secs()));
            warn!("{} has been waking for {took}: {reason}", self.config.name);
        }
        self.wake_report = report;
    }

    fn report_losses(&mut self, held_too_long: u64, now: Time) {
        let lost = held_too_long - self.losses.logged;
        if lost == 0 || now < self.losses.next {
            return;
        }
        self.losses = HoldTimeoutLog {
            logged: held_too_long,
            next: now + LOSS_REPORT_INTERVAL,
        };
        let limit = duration::display(self.config.hold_timeout);
        let (name, reason) = (&self.config.name, self.facts().explain());
        let lost = clients(lost);
        warn!("{name}: {lost} reset after {limit} (hold limit): {reason}");
    }

    // --- The end ---

    /// A signal has come: the first starts the drain, the second ends it.
    pub fn end(&mut self, signal: &str, now: Time) -> Option<Exit> {
        if self.is_draining() {
            // Whom the kernel has let in already is cut like everybody else.
            self.sockets.stop_accepting(now);
            return Some(self.cut(&format!("{signal} again: ending at once"), now));
        }
        let delay = self.config.drain_delay;
        info!(
            "{signal}: accepting for another {}, then up to {} to finish",
            duration::display(delay),
            duration::display(self.config.drain_timeout)
        );
        self.drain = Drain::Delay { until: now + delay };
        self.api.set_draining();
        None
    }

    fn drain(&mut self, now: Time) -> Option<Exit> {
        if let Drain::Delay { until } = self.drain
            && now >= until
        {
            self.sockets.stop_accepting(now);
            self.drain = Drain::Finish {
                until: now + self.config.drain_timeout,
            };
        }
        let Drain::Finish { until } = self.drain else {
            return None;
        };
        if self.open() == 0 {
            info!("drained: every connection has ended");
            return Some(Exit::Drained);
        }
        if now < until {
            return None;
        }
        Some(self.cut("the drain deadline has passed", now))
    }

    /// Resets what is open, for that reason.
    fn cut(&mut self, why: &str, now: Time) -> Exit {
        let open = self.open();
        if open == 0 {
            info!("{why}: nothing is open");
            return Exit::Drained;
        }
        warn!("{why}: {} cut", connections(open as u64));
        self.sockets.reset_all(now);
        Exit::Cut
    }

    fn open(&self) -> usize {
        self.sockets.counts().open
    }
}

fn backend_of_pod(pod: &Pod) -> BackendSpec {
    BackendSpec {
        id: pod.uid.clone(),
        addresses: pod.addresses.clone(),
    }
}
