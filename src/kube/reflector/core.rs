//! [`Endpoints`] is the pure state machine of the endpoint reflector. It reads the Service,
//! lists and watches the endpoints with a [`Watcher`], and decides which kind of object they
//! are read from.
//!
//! The source are EndpointSlices. If they are refused (403, or 404 from a server that does
//! not have them), `v1` Endpoints are used at once, and the slices are tried again: soon
//! while the refusal is [doubted](crate::refusal), every few minutes once it is believed. If
//! both are refused, they are tried in turn.
//!
//! The Service is read before each list, and again when the listed endpoints do not fit to
//! it. That needs no new list, because the store has every port.

mod service_state;

use std::time::Duration;

use log::Level;

use super::super::AppConfig;
use super::super::endpoints::{Selection, Store};
use super::super::list_watch::{Event, Outcome};
use super::super::throttle::Throttle;
use super::super::watcher::Watcher;
use super::super::{paths, service};
use super::status::StatusReporter;
use super::thread::{Action, Core, Output};
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::{AddressSource, Permission, PortRef};
use crate::refusal::{self, RefusalClock};

/// The longest pause between two lists while a refusal is doubted,
const RETRY_UNCONFIRMED_REFUSAL: Duration = Duration::from_secs(1);
/// and once it is believed: a person may grant it meanwhile.
const RETRY_CONFIRMED_REFUSAL: Duration = Duration::from_secs(5);
/// The interval at which a permission is tried again once its refusal is believed.
const RETRY_REFUSED: Duration = Duration::from_secs(300);

/// The state machine of the endpoint reflector: see the [module](self).
pub(super) struct Endpoints {
    service_path: String,
    slices_path: String,
    endpoints_path: String,
    watcher: Watcher,
    store: Store,
    status: StatusReporter,
    service: String,
    ports: Vec<Port>,
    /// The flag that names them.
    port_flag: &'static str,
    /// The message of the server if the Service does not exist; `None` if it does, or may not
    /// be read.
    absent: Option<String>,
    /// When to read the Service next; `None`: before the next list.
    service_due: Option<Time>,
    service_refusal: RefusalClock,
    service_backoff: Backoff,
    slices_refusal: RefusalClock,
    slices_backoff: Backoff,
    /// When to try EndpointSlices again, while Endpoints are used.
    slices_due: Option<Time>,
    /// The messages of the server when it last refused EndpointSlices and Endpoints.
    slices_refused: String,
    endpoints_refused: String,
    /// Whether EndpointSlices, and Endpoints, were ever watched.
    slices_granted: bool,
    endpoints_granted: bool,
    /// The number of lists and watches in a row that were refused.
    refusals: u32,
    /// Limits the reads of the Service that changes in the watch cause.
    throttle: Throttle,
}

/// One of the ports that are dialled.
struct Port {
    name: Option<PortRef>,
    /// The port and the family to dial; `None` while they are not known, or the Service has
    /// no such port.
    selection: Option<Selection>,
}

impl Port {
    fn new(name: &Option<PortRef>) -> Self {
        Port {
            name: name.clone(),
            selection: None,
        }
    }

    /// What is known of it while the Service cannot be read.
    fn do_without_service(&mut self) {
        let known = self.selection.take();
        self.selection = known.or_else(|| service::unread(self.name.as_ref()));
    }
}

impl Endpoints {
    /// A reflector that has read nothing yet. `seed` determines the jitter.
    pub(super) fn new(config: &AppConfig, seed: u64, now: Time) -> Self {
        let (namespace, service) = (&config.namespace, &config.service);
        Endpoints {
            service_path: paths::service(namespace, service),
            slices_path: paths::slices(namespace, service),
            endpoints_path: paths::endpoints(namespace, service),
            watcher: Watcher::new(seed),
            store: Store::new(AddressSource::EndpointSlices),
            status: StatusReporter::new(config),
            service: config.service.clone(),
            ports: config.ports.iter().map(Port::new).collect(),
            port_flag: config.port_flag,
            absent: None,
            service_due: Some(now),
            service_refusal: RefusalClock::default(),
            service_backoff: Backoff::new(seed.rotate_left(13)),
            slices_refusal: RefusalClock::default(),
            slices_backoff: Backoff::new(seed.rotate_left(33)),
            slices_due: None,
            slices_refused: String::new(),
            endpoints_refused: String::new(),
            slices_granted: false,
            endpoints_granted: false,
            refusals: 0,
            throttle: Throttle::default(),
        }
    }

    fn action(&mut self, now: Time) -> Action {
        if self.watcher.is_watching() {
            return Action::Read;
        }
        if self.watcher.is_pausing(now) {
            return Action::Wait;
        }
        if self.slices_due.is_some_and(|due| due <= now) {
            self.set_source(AddressSource::EndpointSlices);
            self.watcher.relist();
        }
        if self.service_due.is_some_and(|due| due <= now) {
            return Action::Get(self.service_path.clone());
        }
        let watch_until = self.service_due.into_iter().chain(self.slices_due).min();
        let path = match self.store.source() {
            AddressSource::EndpointSlices => &self.slices_path,
            AddressSource::Endpoints => &self.endpoints_path,
        };
        Action::of(self.watcher.action(watch_until, now), path)
    }

    /// Lists next, after the Service was read.
    fn relist(&mut self, now: Time) {
        self.watcher.relist();
        self.service_due = Some(now);
    }

    fn set_source(&mut self, source: AddressSource) {
        self.store.set_source(source);
        self.slices_due = None;
    }

    fn watched(&mut self, outcome: Outcome, now: Time) {
        let source = self.store.source();
        match outcome {
            Outcome::Quiet => {}
            Outcome::Listed => self.listed(now),
            Outcome::Opened => self.granted(source),
            Outcome::Changed => self.changed(now),
            Outcome::WatchEnded(why) => {
                let text = format!("the watch of {source} has ended: {why}");
                self.status.log(Level::Debug, text);
                self.interrupted(source);
                self.changed(now);
                self.read_service_before_list(now);
            }
            Outcome::Refused { why, .. } => self.source_refused(source, why, now),
            Outcome::Busy(why) => self.source_lost(source, "busy", &why, now),
            Outcome::Failed(why) => self.source_lost(source, "failed", &why, now),
        }
    }

    fn listed(&mut self, now: Time) {
        self.check(true);
        if self.store.source() == AddressSource::Endpoints {
            let retry = retry_after(&self.slices_refusal, &mut self.slices_backoff);
            self.slices_due = Some(now + retry);
        }
        // One permission was granted, so others may be granted too.
        if self.refusals > 0 && self.service_due.is_some() {
            self.service_due = Some(now);
        }
    }

    /// Reports the stored pods.
    fn check(&mut self, is_list: bool) {
        if !self.is_any_port_known() {
            return;
        }
        self.report_pods(is_list);
        let is_empty = self.store.is_empty();
        self.status.check_service(self.absent.as_deref(), is_empty);
        if self.absent.is_none() || !is_empty {
            self.status.found(self.store.source());
        }
        self.check_ports();
    }

    /// Reports the stored pods of each port: after a list also if they have not changed.
    fn report_pods(&mut self, is_list: bool) {
        for (index, port) in self.ports.iter().enumerate() {
            let Some(selection) = &port.selection else {
                continue;
            };
            let pods = self.store.pods(selection);
            if is_list {
                self.status.listed(index, pods);
            } else {
                self.status.stored(index, pods);
            }
        }
    }

    /// Reports ports that no endpoint has; returns whether there is any.
    fn check_ports(&mut self) -> bool {
        let mut is_any_missing = false;
        for (index, port) in self.ports.iter().enumerate() {
            let Some(selection) = &port.selection else {
                continue;
            };
            let missing = self.store.port_missing(&selection.port);
            is_any_missing |= missing.is_some();
            self.status.check_port(index, missing);
        }
        is_any_missing
    }

    /// Lines of the watch were stored.
    fn changed(&mut self, now: Time) {
        if !self.is_any_port_known() {
            return;
        }
        self.report_pods(false);
        let is_port_missing = self.check_ports();
        // The Service may have been changed or created again: read it.
        let is_doubted =
            self.store.take_appeared() || is_port_missing || self.status.has_no_service();
        if is_doubted && self.throttle.allow(now) {
            self.watcher.rewatch();
            self.service_due = Some(now);
        }
    }

    fn granted(&mut self, source: AddressSource) {
        self.refusals = 0;
        self.status.watched(source);
        match source {
            AddressSource::EndpointSlices => {
                self.slices_refusal.granted();
                self.slices_backoff.reset();
                self.slices_granted = true;
            }
            AddressSource::Endpoints => {
                self.endpoints_granted = true;
                self.watch_endpoints_instead();
            }
        }
    }

    /// Watches Endpoints instead of EndpointSlices.
    fn watch_endpoints_instead(&mut self) {
        let believed = self.slices_refusal.is_believed();
        let (slices, why) = (Permission::WatchSlices, &self.slices_refused);
        self.status.refused(slices, why, slices.fallback());
        self.status.watching_endpoints_instead(why, believed);
    }

    fn source_refused(&mut self, source: AddressSource, why: String, now: Time) {
        self.refusals = self.refusals.saturating_add(1);
        match source {
            AddressSource::EndpointSlices => {
                self.set_source(AddressSource::Endpoints);
                self.slices_refusal.refused(refusal::BELIEVED_AFTER, now);
                self.slices_refused = why;
                if self.refusals > 1 {
                    self.both_refused(now);
                }
            }
            AddressSource::Endpoints => {
                self.set_source(AddressSource::EndpointSlices);
                self.endpoints_refused = why;
                self.both_refused(now);
            }
        }
    }

    /// Neither kind of object may be listed. The error names the permission that the operator
    /// has probably meant to grant: Endpoints if only that was ever granted.
    fn both_refused(&mut self, now: Time) {
        let (named, why) = if self.endpoints_granted && !self.slices_granted {
            (Permission::WatchEndpoints, self.endpoints_refused.clone())
        } else {
            (Permission::WatchSlices, self.slices_refused.clone())
        };
        self.status.refused(named, &why, None);
        let believed = self.slices_refusal.is_believed();
        self.refused(&why, believed, now);
    }

    fn refused(&mut self, why: &str, believed: bool, now: Time) {
        let (level, kind, pause) = if believed {
            (Level::Error, "refused", RETRY_CONFIRMED_REFUSAL)
        } else {
            (Level::Warn, "doubted", RETRY_UNCONFIRMED_REFUSAL)
        };
        self.status.lost(level, kind, why);
        self.watcher.back_off(pause, now);
    }

    /// A list has failed, or a watch could not be opened, for another reason than the
    /// permission.
    fn interrupted(&mut self, source: AddressSource) {
        if source == AddressSource::EndpointSlices {
            self.slices_refusal.interrupted();
        }
    }

    fn source_lost(&mut self, source: AddressSource, kind: &'static str, why: &str, now: Time) {
        self.interrupted(source);
        self.read_service_before_list(now);
        self.status.lost(Level::Warn, kind, why);
    }

    fn read_service_before_list(&mut self, now: Time) {
        // After a refusal or a failure, `service_due` is set already.
        if self.watcher.is_listing() {
            self.service_due.get_or_insert(now);
        }
    }
}

/// The pause before a permission is tried again.
fn retry_after(refusal: &RefusalClock, backoff: &mut Backoff) -> Duration {
    if refusal.is_believed() {
        RETRY_REFUSED
    } else {
        let pause = backoff.pause(refusal::LONGEST_PAUSE);
        pause.max(RETRY_UNCONFIRMED_REFUSAL)
    }
}

impl Core for Endpoints {
    fn handle(&mut self, event: Event<'_>, now: Time) -> Action {
        match event {
            Event::Object(answer) => self.service_answered(answer, now),
            Event::Relist => self.relist(now),
            event => {
                let outcome = self.watcher.handle(event, &mut self.store, now);
                self.watched(outcome, now);
            }
        }
        self.action(now)
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.status.set_draining(is_draining);
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.watcher.poll_timeout()
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.status.take()
    }
}

#[cfg(test)]
mod tests;
