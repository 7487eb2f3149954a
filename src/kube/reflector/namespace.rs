//! [`NamespaceEndpoints`]: the state machine of the endpoint reflector of a namespace. One list
//! and one watch serve all apps of the namespace, and one list of the Services in place of a
//! read of each.
//!
//! An event that concerns all apps is reported to each of them, and logged once. If the endpoints
//! of one Service do not fit to it, for example because they lack its port, that Service alone is
//! read again.
//!
//! Where neither EndpointSlices nor Endpoints of the namespace may be listed, the Role may name
//! each object: then the Endpoints of the Services are listed by name, round robin, one a second,
//! or four a second while connections wait; the apps of these come first. So the requests do not
//! grow with the number of apps, but the age of the stored endpoints does.

mod by_name;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use log::Level;

use self::by_name::RoundRobin;
use self::services::Services;
use super::super::WatchedApp;
use super::super::namespace_store::NamespaceStore;
use super::super::namespaces::Namespaces;
use super::super::paths;
use super::super::scheduler::AppKey;
use super::super::throttle::Throttle;
use super::super::watcher_io::WatcherInput;
use super::endpoint_watch::{EndpointWatch, Granted, SourcePaths, WatchOutcome};
use super::interface::{Output, ReflectorAction, ReflectorCore};
use super::source::{BothRefused, RETRY_UNCONFIRMED_REFUSAL};
use super::status::StatusReporter;
use super::view::ServiceView;
use crate::clock::Time;
use crate::cluster::{AddressSource, Permission, Report};

/// The state machine of the endpoint reflector of a namespace: see the [module](self).
pub(in crate::kube) struct NamespaceEndpoints {
    namespaces: Namespaces,
    endpoints: EndpointWatch<NamespaceStore>,
    services: Services,
    round_robin: RoundRobin,
    apps: BTreeMap<AppKey, Entry>,
    /// The call in progress, if its reply is not for the watcher.
    pending: Option<PendingCall>,
    /// Logs what concerns all apps.
    status: StatusReporter,
    outputs: Vec<Output<(AppKey, Report)>>,
}

/// An app.
struct Entry {
    namespace: String,
    /// The key of its Service ([`Namespaces::key`]).
    service: String,
    view: ServiceView,
    /// When to read its Service by itself.
    service_due: Option<Time>,
    /// Whether the Service was read or found missing.
    is_service_read: bool,
    /// Limits the reads of the Service that changes in the watch cause.
    throttle: Throttle,
}

/// A call whose reply is not for the watcher.
enum PendingCall {
    /// A page of the list of Services.
    Services,
    /// The Service of an app.
    Service(AppKey),
    /// The Endpoints of an app's Service, by name.
    Endpoints(AppKey),
}

impl NamespaceEndpoints {
    /// A reflector without apps. `seed` determines the jitter.
    pub(in crate::kube) fn new(namespaces: &Namespaces, seed: u64) -> Self {
        let paths = SourcePaths {
            slices: paths::all_slices(namespaces.name()),
            endpoints: paths::all_endpoints(namespaces.name()),
        };
        let store = NamespaceStore::new(namespaces.clone(), AddressSource::EndpointSlices);
        NamespaceEndpoints {
            namespaces: namespaces.clone(),
            endpoints: EndpointWatch::new(store, paths, seed),
            services: Services::new(seed),
            round_robin: RoundRobin::default(),
            apps: BTreeMap::new(),
            pending: None,
            status: StatusReporter::of_namespaces(namespaces),
            outputs: Vec::new(),
        }
    }

    /// Adds an app. [`WatcherInput::Relist`] must follow, which drops a list in progress.
    pub(in crate::kube) fn add(&mut self, app: AppKey, config: &WatchedApp) {
        let service = self.namespaces.key(&config.namespace, &config.service);
        self.endpoints.store.add(&service);
        self.services.restart();
        let entry = Entry {
            namespace: config.namespace.clone(),
            service,
            view: ServiceView::new(config),
            service_due: None,
            is_service_read: false,
            throttle: Throttle::default(),
        };
        self.apps.insert(app, entry);
    }

    /// Removes an app.
    pub(in crate::kube) fn remove(&mut self, app: AppKey) {
        self.round_robin.set_waiting(app, false);
        let Some(Entry { service, .. }) = self.apps.remove(&app) else {
            return;
        };
        let mut others = self.apps.values();
        if !others.any(|other| other.service == service) {
            self.endpoints.store.remove(&service);
        }
    }

    /// Sets whether connections of an app wait for an endpoint.
    pub(in crate::kube) fn set_waiting(&mut self, app: AppKey, is_waiting: bool) {
        self.round_robin.set_waiting(app, is_waiting);
    }

    /// Sets that an app drains.
    pub(in crate::kube) fn set_app_draining(&mut self, app: AppKey) {
        if let Some(entry) = self.apps.get_mut(&app) {
            entry.view.status.set_draining(true);
        }
    }

    fn action(&mut self, now: Time) -> ReflectorAction {
        self.pending = None;
        if let Some(action) = self.endpoints.pending_action(now) {
            return action;
        }
        if let Some(action) = self.service_action(now) {
            return action;
        }
        if let Some(source) = self.round_robin.take_retry(now) {
            self.endpoints.set_source(source);
        }
        if self.round_robin.is_active() {
            return self.next_by_name(now);
        }
        self.endpoints.action(self.next_service_read(), now)
    }

    /// Lists next; first the Services, unless they were listed within the last minute.
    fn relist(&mut self, now: Time) {
        self.pending = None;
        self.endpoints.watcher.relist();
        self.services.relist(now);
    }

    fn handle_outcome(&mut self, outcome: WatchOutcome, now: Time) {
        match outcome {
            WatchOutcome::Quiet => {}
            WatchOutcome::Listed => self.listed(),
            WatchOutcome::Opened(granted) => self.granted(&granted),
            WatchOutcome::Changed => self.changed(now),
            WatchOutcome::Ended(text) => {
                self.log(Level::Debug, text);
                self.changed(now);
                if self.endpoints.watcher.is_listing() {
                    self.services.relist(now);
                }
            }
            WatchOutcome::Refused(both) => self.refused(&both, now),
            WatchOutcome::Lost { kind, why } => self.lost(Level::Warn, kind, &why),
        }
    }

    fn listed(&mut self) {
        self.round_robin.end();
        for entry in self.apps.values_mut() {
            if let Some(store) = self.endpoints.store.of(&entry.service) {
                entry.view.check(store, true);
            }
        }
        self.collect();
    }

    /// Lines of the watch were stored.
    fn changed(&mut self, now: Time) {
        let changed = self.endpoints.store.take_changed();
        let concerned = |entry: &&mut Entry| changed.contains(&entry.service);
        let mut is_any_reread = false;
        for entry in self.apps.values_mut().filter(concerned) {
            let Some(store) = self.endpoints.store.of(&entry.service) else {
                continue;
            };
            // The Service may have been changed or created again: read it.
            if entry.view.changed(store) && entry.throttle.allow(now) {
                entry.service_due = Some(now);
                is_any_reread = true;
            }
        }
        if is_any_reread {
            self.endpoints.watcher.rewatch();
        }
        self.collect();
    }

    fn granted(&mut self, Granted { source, instead }: &Granted) {
        self.each(|status| {
            status.watched(*source);
            if let Some((why, confirmed)) = instead {
                let slices = Permission::WatchSlices;
                status.refused(slices, why, slices.fallback());
                status.watching_endpoints_instead(why, *confirmed);
            }
        });
    }

    fn refused(&mut self, both: &BothRefused, now: Time) {
        if both.is_confirmed {
            // The Endpoints of each Service may be granted by their names.
            let store = &mut self.endpoints.store;
            let next = store.source();
            store.set_source(AddressSource::Endpoints);
            self.round_robin.begin(next, now);
            return self.each(|status| {
                let slices = Permission::WatchSlices;
                status.refused(slices, &both.why, slices.fallback());
                status.listing_by_name(&both.why);
            });
        }
        self.each(|status| status.refused(both.permission, &both.why, None));
        self.lost(Level::Warn, "unconfirmed", &both.why);
        let watcher = &mut self.endpoints.watcher;
        watcher.back_off(RETRY_UNCONFIRMED_REFUSAL, now);
    }

    fn lost(&mut self, level: Level, kind: &'static str, why: &str) {
        self.each(|status| status.lost(level, kind, why));
    }

    /// Reports something to every app, and logs it once.
    fn each(&mut self, mut report: impl FnMut(&mut StatusReporter)) {
        self.collect();
        for (&app, entry) in &mut self.apps {
            report(&mut entry.view.status);
            let reports = reports_of(app, &mut entry.view.status);
            self.outputs.extend(reports);
        }
        report(&mut self.status);
        let logged = self.status.take().into_iter().filter_map(log_line);
        self.outputs.extend(logged);
    }

    fn log(&mut self, level: Level, text: String) {
        self.outputs.push(Output::Log(level, text));
    }

    /// Collects the reports and log lines of the apps.
    fn collect(&mut self) {
        for (&app, entry) in &mut self.apps {
            for output in entry.view.status.take() {
                self.outputs.push(match output {
                    Output::Report(report) => Output::Report((app, report)),
                    Output::Log(level, text) => Output::Log(level, text),
                });
            }
        }
    }

    /// The keys of the Services of the apps.
    fn service_keys(&self) -> BTreeSet<&str> {
        let apps = self.apps.values();
        apps.map(|entry| entry.service.as_str()).collect()
    }
}

fn reports_of(
    app: AppKey,
    status: &mut StatusReporter,
) -> impl Iterator<Item = Output<(AppKey, Report)>> + use<> {
    let outputs = status.take().into_iter();
    outputs.filter_map(move |output| match output {
        Output::Report(report) => Some(Output::Report((app, report))),
        Output::Log(..) => None,
    })
}

fn log_line<R>(output: Output) -> Option<Output<R>> {
    match output {
        Output::Report(_) => None,
        Output::Log(level, text) => Some(Output::Log(level, text)),
    }
}

impl ReflectorCore for NamespaceEndpoints {
    type Report = (AppKey, Report);

    fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> ReflectorAction {
        match (event, self.pending.take()) {
            (WatcherInput::Page(answer), Some(PendingCall::Services)) => {
                self.services_answered(answer, now)
            }
            (WatcherInput::Page(answer), Some(PendingCall::Endpoints(app))) => {
                self.endpoints_answered(app, answer, now);
            }
            (WatcherInput::Object(answer), Some(PendingCall::Service(app))) => {
                self.service_answered(app, answer, now);
            }
            (WatcherInput::Relist, _) => self.relist(now),
            (event, _) => {
                let outcome = self.endpoints.handle(event, now);
                for text in self.endpoints.take_warnings() {
                    self.log(Level::Warn, text);
                }
                self.handle_outcome(outcome, now);
            }
        }
        self.action(now)
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.status.set_draining(is_draining);
    }

    /// A list of the Services and the one of the endpoints after it are one; what is listed by
    /// name has no end.
    fn is_listing(&self) -> bool {
        let is_listing = self.endpoints.watcher.is_listing() && !self.round_robin.is_active();
        !self.apps.is_empty() && (is_listing || self.services.is_listing())
    }

    fn poll_timeout(&self) -> Option<Time> {
        let next = [
            self.endpoints.watcher.poll_timeout(),
            self.round_robin.poll_timeout(),
        ];
        next.into_iter().flatten().max()
    }

    fn take_outputs(&mut self) -> Vec<Output<(AppKey, Report)>> {
        self.collect();
        std::mem::take(&mut self.outputs)
    }
}

#[cfg(test)]
mod tests;
