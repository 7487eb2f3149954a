//! The content of the admin pages: a [`View`] collects it when a page is requested.

mod history;
mod page;
mod parts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use self::history::{LastLease, LastScaled, LastWake, Replicas, Sleep, WakeDelay};
use self::parts::{ByServerName, DiscoveryState, DrainState, ListState, SourceFile, WebhookState};
use super::AppThreads;
use super::app::App;
use super::app_list::AppList;
use super::discovery::Discovery;
use super::proxy::Proxy;
use super::reconciler::Reconciler;
use super::source_files::SourceFiles;
use crate::admin::Pages;
use crate::admin::page::Page;
use crate::clock::Time;
use crate::cluster::{LeaseStore, Permission};
use crate::engine::{AppId, Counts, Engine, PortId};
use crate::kube::Webhook;
use crate::log_queue::LogQueue;
use crate::metrics::{self, Snapshot};
use crate::policy::Phase;
use crate::settings::{self, Scope, Settings};
use crate::sys;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The facts that do not change while the program runs.
pub(super) struct About {
    /// When it was started, in seconds since 1970.
    pub(super) started: u64,
    /// The limit of open descriptors.
    pub(super) descriptors: u64,
    /// The limit of open connections.
    pub(super) connections: usize,
    /// The address of the API server.
    pub(super) api_server: String,
    /// The settings.
    pub(super) settings: Settings,
    /// The log queue, for its counter.
    pub(super) log: LogQueue,
}

/// The state of the program at one time.
pub(super) struct View<'a> {
    pub(super) about: &'a About,
    pub(super) reconciler: &'a Reconciler,
    /// The list of apps, if there is one.
    pub(super) list: Option<&'a AppList>,
    /// The files with networks of clients.
    pub(super) sources: &'a SourceFiles,
    /// The apps that are found by their Services, if that is asked for.
    pub(super) discovery: Option<&'a Discovery>,
    pub(super) proxy: &'a Proxy<Engine, AppThreads>,
    pub(super) now: Time,
    /// The time of day, in seconds since 1970.
    pub(super) unix: u64,
}

/// The state of one app at that time.
struct AppView<'a> {
    reconciler: &'a Reconciler,
    proxy: &'a Proxy<Engine, AppThreads>,
    id: AppId,
    app: &'a App<AppThreads>,
    now: Time,
    unix: u64,
}

/// How long the connection has waited that has waited for the longest until now, by app.
type Waits = BTreeMap<AppId, Duration>;

impl Pages for View<'_> {
    fn unready(&self) -> Vec<String> {
        self.proxy.unready(self.now)
    }

    fn metrics(&self) -> (String, &'static str) {
        (metrics::text(&self.snapshot()), metrics::CONTENT_TYPE)
    }

    fn ping_path(&self) -> Option<&str> {
        self.about.settings.ping_path.as_deref()
    }

    fn metrics_path(&self) -> Option<&str> {
        self.about.settings.metrics_path.as_deref()
    }

    fn page(&self) -> Page {
        self.page_state()
    }

    fn status(&self) -> String {
        let text = serde_json::to_string_pretty(&self.state());
        // Nothing in it can fail to be written.
        text.unwrap_or_default() + "\n"
    }
}

impl<'a> View<'a> {
    fn of(&self, id: AppId, app: &'a App<AppThreads>) -> AppView<'a> {
        let View {
            reconciler,
            proxy,
            now,
            unix,
            ..
        } = *self;
        AppView {
            reconciler,
            proxy,
            id,
            app,
            now,
            unix,
        }
    }

    fn apps(&self) -> impl Iterator<Item = AppView<'a>> {
        self.proxy.apps().map(|(id, app)| self.of(id, app))
    }

    fn snapshot(&self) -> Snapshot {
        let View {
            about, proxy, now, ..
        } = *self;
        let (engine, usage) = (&proxy.sockets, sys::usage());
        let requests = self.reconciler.requests();
        let panics = proxy.apps().map(|(_, app)| app.counters().thread_panics);
        // Of those that leave, another app may have the name.
        let apps = self.apps().filter(|it| !proxy.is_leaving(it.id));
        Snapshot {
            version: VERSION,
            started: about.started,
            descriptors: about.descriptors,
            cpu: usage.cpu,
            resident: usage.resident,
            address_space: usage.address_space,
            open_descriptors: usage.descriptors,
            ready: proxy.unready(now).is_empty(),
            connections_limit: about.connections,
            local_errors: engine.local_errors(),
            bound_ports: engine.bound_ports(),
            requests: requests.read(),
            replies: requests.replies(),
            // A thread that serves all apps reports a panic to each.
            thread_panics: panics.max().unwrap_or_default(),
            log_lines_dropped: about.log.dropped(),
            list_wrong: self.list.map(|list| !list.errors().is_empty()),
            lists: self.list.map(|list| list.counts().to_vec()),
            source_files_wrong: self.sources.wrong(),
            source_files: self.sources.counts().map(|counts| counts.to_vec()),
            services: self.discovery.map(|it| it.counts().to_vec()),
            services_watched: self.discovery.map(|it| it.trouble().is_none()),
            refused_by_name: engine
                .refused_by_name()
                .into_iter()
                .map(|it| (it.listen.to_string(), it.refused))
                .collect(),
            apps: apps.map(|app| app.app_snapshot()).collect(),
        }
    }

    fn state(&self) -> State<'a> {
        let View {
            about, proxy, now, ..
        } = *self;
        let unready = proxy.unready(now);
        let has_several = self.list.is_some() || self.discovery.is_some();
        let only = self.apps().next().filter(|_| !has_several);
        let counts = proxy.apps().map(|(id, _)| proxy.sockets.counts(id)).sum();
        let troubles = self.apps().filter_map(|app| app.trouble());
        let settings = &about.settings;
        let waits = proxy.sockets.waits(now);
        State {
            version: VERSION,
            ready: unready.is_empty(),
            not_ready_because: unready,
            draining: DrainState::of(proxy.drain_state(), now),
            only: only.map(|app| app.state(&waits)),
            connections: Connections::of(counts, Some(about.connections)),
            api_server: ApiServer {
                address: &about.api_server,
                last_error: troubles.min_by(|a, b| a.seconds_ago.total_cmp(&b.seconds_ago)),
            },
            list: self.list.map(|list| ListState {
                file: list.path().display().to_string(),
                wrong: list.errors(),
            }),
            source_files: SourceFile::all(self.sources),
            discovery: self.discovery.map(|it| DiscoveryState {
                services: it.selector(),
                problem: it.trouble(),
                without_listen: it.without_listen(),
                wrong_services: it.wrong_count(),
                wrong: it.wrong(),
            }),
            by_server_name: self.by_server_name(),
            apps: self.apps().map(|app| app.entry(&waits)).collect(),
            settings: match has_several {
                false => settings::in_force(settings).collect(),
                true => settings::in_force_of(Scope::Process, settings).collect(),
            },
        }
    }
}

impl View<'_> {
    fn by_server_name(&self) -> Vec<ByServerName> {
        let addresses = self.proxy.sockets.refused_by_name().into_iter();
        let addresses = addresses.map(|it| ByServerName {
            listen: it.listen,
            waiting: it.waiting,
            refused: it.refused.into_iter().collect(),
        });
        addresses.collect()
    }
}

impl<'a> AppView<'a> {
    /// Every permission, and whether `holds` of it.
    fn permissions(&self, holds: impl Fn(Permission) -> bool) -> Vec<(&'static str, bool)> {
        let flag = |permission: Permission| (permission.name(), holds(permission));
        Permission::ALL.map(flag).to_vec()
    }

    fn fallback(&self, permission: Permission) -> Option<&'static str> {
        let app = self.app;
        app.health().fallback(permission, app.context())
    }

    fn is_forbidden(&self, permission: Permission) -> bool {
        let (health, context) = (self.app.health(), self.app.context());
        health.is_forbidden(permission, context, self.now)
    }

    fn app_snapshot(&self) -> metrics::App {
        let AppView {
            proxy, app, now, ..
        } = *self;
        let spec = self.reconciler.spec(self.id);
        let (policy, counters, journal) = (app.policy(), app.counters(), app.journal());
        let phase = policy.phase_name();
        metrics::App {
            name: app.config().label.clone(),
            ready: app.unready(now).is_empty(),
            phases: Phase::NAMES.map(|name| (name, name == phase)).to_vec(),
            replicas: policy.replicas().map(|(replicas, _)| replicas),
            replicas_age: policy.replicas().map(|(_, seen)| now.since(seen)),
            idle_ttl: spec.map_or(Duration::ZERO, |spec| spec.settings.idle_ttl),
            sleep_due: self.sleep_due(),
            lease: policy.lease_left(now),
            endpoints_synced: app.health().is_synced(),
            remembered_clients: proxy.sockets.remembered_clients(self.id),
            without_lease: counters.without_lease,
            wake: counters.wake.clone(),
            wake_parts: journal.parts().named(),
            wake_results: journal.results(),
            asleep: journal.timeline().asleep(now),
            replica_seconds_saved: journal.timeline().replica_seconds_saved(now),
            wakes: counters.wakes,
            sleeps: counters.sleeps,
            wakes_delayed: counters.wakes_delayed,
            webhook: app.api().webhook.as_ref().map(Webhook::counts),
            fallbacks: self.permissions(|permission| self.fallback(permission).is_some()),
            forbidden: self.permissions(|permission| self.is_forbidden(permission)),
            ports: app.port_ids().map(|id| self.port_snapshot(id)).collect(),
        }
    }

    fn port_snapshot(&self, id: PortId) -> metrics::Port {
        let (app, engine) = (self.app, &self.proxy.sockets);
        let counts = engine.port_counts(id);
        let counters = engine.counters(id).cloned().unwrap_or_default();
        metrics::Port {
            name: app.port_name(id).to_owned(),
            backends: app.backends_at(id),
            backends_ejected: engine.avoided_backends(id),
            backends_full: engine.full_backends(id),
            backends_near: engine.near_backends(id),
            connections_open: counts.open,
            connections_counted: counts.counted,
            connections_waiting: counts.waiting,
            connections_detached: counts.detached,
            reattached: counters.reattached,
            excluded: counters.exclusions(),
            accepted: counts.accepted,
            bytes: counters.bytes(),
            forwarded: counts.forwarded,
            closed: counters.closed_by_reason(),
            failed_dials: counts.failed_dials,
            hold: counters.hold,
        }
    }

    fn port_state(&self, id: PortId) -> PortState<'a> {
        let counts = self.proxy.sockets.port_counts(id);
        PortState {
            name: self.app.port_name(id),
            listen: self.proxy.sockets.local_addr(id),
            problem: self.app.no_address_at(id),
            usable: self.app.backends_at(id),
            hints: self.app.nearness(id).to_string(),
            addresses: self.addresses(id),
            open: counts.open,
            waiting: counts.waiting,
            accepted: counts.accepted,
        }
    }

    fn trouble(&self) -> Option<Trouble<'a>> {
        let (what, at) = self.app.health().last_trouble()?;
        let seconds_ago = seconds(self.now.since(at));
        Some(Trouble { what, seconds_ago })
    }

    /// What is known of the app. Where a process has one app without a list, this is the top
    /// of the page too.
    fn state(&self, waits: &Waits) -> AppState<'a> {
        let AppView {
            proxy, app, now, ..
        } = *self;
        let (policy, health) = (app.policy(), app.health());
        let fallbacks = Permission::ALL.into_iter().filter_map(|permission| {
            Some(Fallback {
                permission: permission.name(),
                fallback: self.fallback(permission)?,
                why: health.why_refused(permission),
            })
        });
        let forbidden = Permission::ALL.into_iter().filter_map(|permission| {
            Some(Forbidden {
                permission: self.is_forbidden(permission).then_some(permission.name())?,
                why: health.why_refused(permission),
            })
        });
        AppState {
            app: Scaled {
                name: &app.config().name,
                phase: policy.phase_name(),
                for_seconds: seconds(now.since(app.journal().phase_since())),
                replicas: policy.replicas().map(|(replicas, _)| replicas),
                seen_seconds_ago: policy.replicas().map(|(_, at)| seconds(now.since(at))),
                pods: self.pods(),
                waking: app.slow_wake(&proxy.sockets).map(|wake| Waking {
                    for_seconds: seconds(now.since(wake.since)),
                    why: wake.why,
                    code: wake.code,
                }),
                wake_delay: self.wake_delay(),
                sleep: self.sleep(),
                last_scaled: self.last_scaled(),
                last_wake: self.last_wake(),
                longest_wait_seconds: self.longest_wait(waits),
            },
            in_use: InUse {
                lease_location: match policy.lease_location() {
                    Some(LeaseStore::Status) => {
                        "the condition zero-pod-autoscaler/InUse in the status"
                    }
                    Some(LeaseStore::Annotation) => "an annotation",
                    None => "nothing",
                },
                lease_left_seconds: policy.lease_left(now).map(seconds),
                forwarded_without_lease: app.counters().without_lease,
                last_lease: self.last_lease(),
            },
            addresses: Addresses {
                source: health.source().map(|source| source.to_string()),
                up_to_date: health.is_synced(),
                problem: app.no_address(),
                usable: app.backends(),
                through: app.config().route.to_string(),
                same_client_same_pod_for_seconds: proxy.sockets.affinity(self.id).map(seconds),
            },
            ports: app.port_ids().map(|id| self.port_state(id)).collect(),
            fallbacks: fallbacks.collect(),
            forbidden: forbidden.collect(),
            webhook: app.api().webhook.as_ref().map(WebhookState::of),
        }
    }

    fn entry(&self, waits: &Waits) -> Entry<'a> {
        let unready = self.app.unready(self.now);
        let spec = self.reconciler.spec(self.id);
        Entry {
            ready: unready.is_empty(),
            not_ready_because: unready,
            leaving: self.proxy.is_leaving(self.id),
            state: self.state(waits),
            connections: Connections::of(self.proxy.sockets.counts(self.id), None),
            last_error: self.trouble(),
            settings: spec.map(|it| settings::in_force_of(Scope::App, &it.settings).collect()),
        }
    }
}

/// The JSON of `/status`.
#[derive(Serialize)]
struct State<'a> {
    version: &'static str,
    ready: bool,
    not_ready_because: Vec<String>,
    draining: Option<DrainState>,
    /// Of a process with one app, without a list.
    #[serde(flatten)]
    only: Option<AppState<'a>>,
    connections: Connections,
    api_server: ApiServer<'a>,
    list: Option<ListState<'a>>,
    source_files: Vec<SourceFile<'a>>,
    discovery: Option<DiscoveryState<'a>>,
    by_server_name: Vec<ByServerName>,
    apps: Vec<Entry<'a>>,
    settings: BTreeMap<&'static str, Option<String>>,
}

/// One app.
#[derive(Serialize)]
struct Entry<'a> {
    ready: bool,
    not_ready_because: Vec<String>,
    /// Whether it is not in the list any more, and drains.
    leaving: bool,
    #[serde(flatten)]
    state: AppState<'a>,
    connections: Connections,
    last_error: Option<Trouble<'a>>,
    settings: Option<BTreeMap<&'static str, Option<String>>>,
}

/// What is known of an app.
#[derive(Serialize)]
struct AppState<'a> {
    app: Scaled<'a>,
    in_use: InUse,
    addresses: Addresses<'a>,
    ports: Vec<PortState<'a>>,
    fallbacks: Vec<Fallback<'a>>,
    forbidden: Vec<Forbidden<'a>>,
    webhook: Option<WebhookState>,
}

#[derive(Serialize)]
struct Scaled<'a> {
    name: &'a str,
    phase: &'static str,
    for_seconds: f64,
    replicas: Option<u32>,
    seen_seconds_ago: Option<f64>,
    pods: Option<Replicas>,
    waking: Option<Waking>,
    wake_delay: Option<WakeDelay>,
    sleep: Option<Sleep>,
    last_scaled: Option<LastScaled>,
    last_wake: Option<LastWake>,
    longest_wait_seconds: f64,
}

#[derive(Serialize)]
struct Waking {
    for_seconds: f64,
    why: String,
    /// The code of that reason for `zpa explain`.
    code: &'static str,
}

#[derive(Serialize)]
struct InUse {
    lease_location: &'static str,
    lease_left_seconds: Option<f64>,
    forwarded_without_lease: u64,
    last_lease: Option<LastLease>,
}

#[derive(Serialize)]
struct Addresses<'a> {
    source: Option<String>,
    up_to_date: bool,
    problem: Option<&'a str>,
    usable: usize,
    through: String,
    /// The timeout of the Service's session affinity, if it has any.
    same_client_same_pod_for_seconds: Option<f64>,
}

/// One listener, and the Service's port that it leads to.
#[derive(Serialize)]
struct PortState<'a> {
    name: &'a str,
    listen: Option<SocketAddr>,
    problem: Option<&'a str>,
    usable: usize,
    /// The pods that are dialled first by the hints of their endpoints: those for the `node` or
    /// the `zone`, or `ignored`.
    hints: String,
    /// The first of those that may be dialled.
    addresses: Vec<String>,
    open: usize,
    waiting: usize,
    accepted: u64,
}

#[derive(Serialize)]
struct Connections {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    open: usize,
    counted: usize,
    waiting: usize,
    accepted: u64,
}

impl Connections {
    fn of(counts: Counts, limit: Option<usize>) -> Connections {
        Connections {
            limit,
            open: counts.open,
            counted: counts.counted,
            waiting: counts.waiting,
            accepted: counts.accepted,
        }
    }
}

#[derive(Serialize)]
struct ApiServer<'a> {
    address: &'a str,
    last_error: Option<Trouble<'a>>,
}

#[derive(Serialize)]
struct Trouble<'a> {
    what: &'a str,
    seconds_ago: f64,
}

#[derive(Serialize)]
struct Fallback<'a> {
    permission: &'static str,
    fallback: &'static str,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct Forbidden<'a> {
    permission: &'static str,
    why: Option<&'a str>,
}

/// Seconds, rounded down to the millisecond.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}
