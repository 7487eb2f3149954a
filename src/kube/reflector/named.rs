//! [`NamedEndpoints`]: the pure state machine of the reflector of one Service's endpoints. It
//! reads the Service by its name, and lists and watches its endpoints by an [`EndpointWatch`].
//!
//! The Service is read before each list, and again when the listed endpoints do not fit to
//! it. That needs no new list, because the store has every port.

mod service_read;

use log::Level;

use super::super::WatchedApp;
use super::super::endpoints::Store;
use super::super::paths;
use super::super::throttle::Throttle;
use super::super::watcher_io::WatcherInput;
use super::endpoint_watch::{EndpointWatch, Granted, SourcePaths, WatchOutcome};
use super::interface::{Output, ReflectorAction, ReflectorCore};
use super::source::{RETRY_CONFIRMED_REFUSAL, RETRY_UNCONFIRMED_REFUSAL};
use super::view::ServiceView;
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::{AddressSource, Permission};
use crate::refusal::RefusalClock;

/// The state machine of the reflector of one Service's endpoints: see the [module](self).
pub(super) struct NamedEndpoints {
    service_path: String,
    endpoints: EndpointWatch<Store>,
    view: ServiceView,
    /// When to read the Service next; `None`: before the next list.
    service_due: Option<Time>,
    service_refusal: RefusalClock,
    service_backoff: Backoff,
    /// Limits the reads of the Service that changes in the watch cause.
    throttle: Throttle,
}

impl NamedEndpoints {
    /// A reflector that has read nothing yet. `seed` determines the jitter.
    pub(super) fn new(config: &WatchedApp, seed: u64, now: Time) -> Self {
        let (namespace, service) = (&config.namespace, &config.service);
        let paths = SourcePaths {
            slices: paths::slices(namespace, service),
            endpoints: paths::endpoints(namespace, service),
        };
        let store = Store::new(AddressSource::EndpointSlices);
        NamedEndpoints {
            service_path: paths::service(namespace, service),
            endpoints: EndpointWatch::new(store, paths, seed),
            view: ServiceView::new(config),
            service_due: Some(now),
            service_refusal: RefusalClock::default(),
            service_backoff: Backoff::new(seed.rotate_left(13)),
            throttle: Throttle::default(),
        }
    }

    fn action(&mut self, now: Time) -> ReflectorAction {
        if let Some(action) = self.endpoints.pending_action(now) {
            return action;
        }
        if self.service_due.is_some_and(|due| due <= now) {
            return ReflectorAction::Get(self.service_path.clone());
        }
        self.endpoints.action(self.service_due, now)
    }

    /// Lists next, after the Service was read.
    fn relist(&mut self, now: Time) {
        self.endpoints.watcher.relist();
        self.service_due = Some(now);
    }

    fn handle_outcome(&mut self, outcome: WatchOutcome, now: Time) {
        match outcome {
            WatchOutcome::Quiet => {}
            WatchOutcome::Listed => self.listed(now),
            WatchOutcome::Opened(granted) => self.granted(granted),
            WatchOutcome::Changed => self.changed(now),
            WatchOutcome::Ended(text) => {
                self.view.status.log(Level::Debug, text);
                self.changed(now);
                self.read_service_before_list(now);
            }
            WatchOutcome::Refused(both) => {
                self.view.status.refused(both.permission, &both.why, None);
                self.refused(&both.why, both.is_confirmed, now);
            }
            WatchOutcome::Lost { kind, why } => {
                self.read_service_before_list(now);
                self.view.status.lost(Level::Warn, kind, &why);
            }
        }
    }

    fn listed(&mut self, now: Time) {
        self.view.check(&self.endpoints.store, true);
        // One permission was granted, so others may be granted too.
        if self.endpoints.is_refused() && self.service_due.is_some() {
            self.service_due = Some(now);
        }
    }

    /// Lines of the watch were stored.
    fn changed(&mut self, now: Time) {
        // The Service may have been changed or created again: read it.
        if self.view.changed(&mut self.endpoints.store) && self.throttle.allow(now) {
            self.endpoints.watcher.rewatch();
            self.service_due = Some(now);
        }
    }

    fn granted(&mut self, Granted { source, instead }: Granted) {
        self.view.status.watched(source);
        if let Some((why, confirmed)) = instead {
            let slices = Permission::WatchSlices;
            self.view.status.refused(slices, &why, slices.fallback());
            self.view.status.watching_endpoints_instead(&why, confirmed);
        }
    }

    fn refused(&mut self, why: &str, confirmed: bool, now: Time) {
        let (level, kind, pause) = if confirmed {
            (Level::Error, "refused", RETRY_CONFIRMED_REFUSAL)
        } else {
            (Level::Warn, "unconfirmed", RETRY_UNCONFIRMED_REFUSAL)
        };
        self.view.status.lost(level, kind, why);
        self.endpoints.watcher.back_off(pause, now);
    }

    fn read_service_before_list(&mut self, now: Time) {
        // After a refusal or a failure, `service_due` is set already.
        if self.endpoints.watcher.is_listing() {
            self.service_due.get_or_insert(now);
        }
    }
}

impl ReflectorCore for NamedEndpoints {
    type Report = crate::cluster::Report;

    fn handle(&mut self, event: WatcherInput<'_>, now: Time) -> ReflectorAction {
        match event {
            WatcherInput::Object(answer) => self.service_answered(answer, now),
            WatcherInput::Relist => self.relist(now),
            event => {
                let outcome = self.endpoints.handle(event, now);
                for text in self.endpoints.take_warnings() {
                    self.view.status.log(Level::Warn, text);
                }
                self.handle_outcome(outcome, now);
            }
        }
        self.action(now)
    }

    fn set_draining(&mut self, is_draining: bool) {
        self.view.status.set_draining(is_draining);
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.endpoints.watcher.poll_timeout()
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        self.view.status.take()
    }
}

#[cfg(test)]
mod tests;
