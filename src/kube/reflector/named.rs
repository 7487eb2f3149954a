//! [`NamedEndpoints`]: the pure state machine of the reflector of one Service's endpoints. It
//! reads the Service by its name, and lists and watches the endpoints with a [`Watcher`], from the
//! kind of object that a [`SourceChoice`] names.
//!
//! The Service is read before each list, and again when the listed endpoints do not fit to
//! it. That needs no new list, because the store has every port.

mod service_read;

use log::Level;

use super::super::AppConfig;
use super::super::endpoints::Store;
use super::super::list_watch::{Event, Outcome};
use super::super::paths;
use super::super::throttle::Throttle;
use super::super::watcher::Watcher;
use super::source::{self, RETRY_CONFIRMED_REFUSAL, RETRY_UNCONFIRMED_REFUSAL, SourceChoice};
use super::thread::{Action, Core, Output};
use super::view::ServiceView;
use crate::backoff::Backoff;
use crate::clock::Time;
use crate::cluster::{AddressSource, Permission};
use crate::refusal::RefusalClock;

/// The state machine of the reflector of one Service's endpoints: see the [module](self).
pub(super) struct NamedEndpoints {
    service_path: String,
    slices_path: String,
    endpoints_path: String,
    watcher: Watcher,
    store: Store,
    view: ServiceView,
    /// When to read the Service next; `None`: before the next list.
    service_due: Option<Time>,
    service_refusal: RefusalClock,
    service_backoff: Backoff,
    source: SourceChoice,
    /// Limits the reads of the Service that changes in the watch cause.
    throttle: Throttle,
}

impl NamedEndpoints {
    /// A reflector that has read nothing yet. `seed` determines the jitter.
    pub(super) fn new(config: &AppConfig, seed: u64, now: Time) -> Self {
        let (namespace, service) = (&config.namespace, &config.service);
        NamedEndpoints {
            service_path: paths::service(namespace, service),
            slices_path: paths::slices(namespace, service),
            endpoints_path: paths::endpoints(namespace, service),
            watcher: Watcher::new(seed),
            store: Store::new(AddressSource::EndpointSlices),
            view: ServiceView::new(config),
            service_due: Some(now),
            service_refusal: RefusalClock::default(),
            service_backoff: Backoff::new(seed.rotate_left(13)),
            source: SourceChoice::new(seed),
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
        if self.source.take_due(now) {
            self.store.set_source(AddressSource::EndpointSlices);
            self.watcher.relist();
        }
        if self.service_due.is_some_and(|due| due <= now) {
            return Action::Get(self.service_path.clone());
        }
        let watch_until = self.service_due.into_iter();
        let watch_until = watch_until.chain(self.source.slices_due()).min();
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

    fn watched(&mut self, outcome: Outcome, now: Time) {
        let source = self.store.source();
        match outcome {
            Outcome::Quiet => {}
            Outcome::Listed => self.listed(now),
            Outcome::Opened => self.granted(source),
            Outcome::Changed => self.changed(now),
            Outcome::WatchEnded(why) => {
                let text = format!("the watch of {source} has ended: {why}");
                self.view.status.log(Level::Debug, text);
                self.source.interrupted(source);
                self.changed(now);
                self.read_service_before_list(now);
            }
            Outcome::Refused { why, .. } => self.source_refused(source, why, now),
            Outcome::Busy(why) => self.source_lost(source, "busy", &why, now),
            Outcome::Failed(why) => self.source_lost(source, "failed", &why, now),
        }
    }

    fn listed(&mut self, now: Time) {
        self.view.check(&self.store, true);
        self.source.listed(self.store.source(), now);
        // One permission was granted, so others may be granted too.
        if self.source.is_refused() && self.service_due.is_some() {
            self.service_due = Some(now);
        }
    }

    /// Lines of the watch were stored.
    fn changed(&mut self, now: Time) {
        // The Service may have been changed or created again: read it.
        if self.view.changed(&mut self.store) && self.throttle.allow(now) {
            self.watcher.rewatch();
            self.service_due = Some(now);
        }
    }

    fn granted(&mut self, source: AddressSource) {
        self.view.status.watched(source);
        if let Some((why, believed)) = self.source.granted(source) {
            let slices = Permission::WatchSlices;
            self.view.status.refused(slices, &why, slices.fallback());
            self.view.status.watching_endpoints_instead(&why, believed);
        }
    }

    fn source_refused(&mut self, source: AddressSource, why: String, now: Time) {
        self.store.set_source(source::other(source));
        if let Some(both) = self.source.refused(source, why, now) {
            self.view.status.refused(both.permission, &both.why, None);
            self.refused(&both.why, both.is_believed, now);
        }
    }

    fn refused(&mut self, why: &str, believed: bool, now: Time) {
        let (level, kind, pause) = if believed {
            (Level::Error, "refused", RETRY_CONFIRMED_REFUSAL)
        } else {
            (Level::Warn, "doubted", RETRY_UNCONFIRMED_REFUSAL)
        };
        self.view.status.lost(level, kind, why);
        self.watcher.back_off(pause, now);
    }

    fn source_lost(&mut self, source: AddressSource, kind: &'static str, why: &str, now: Time) {
        self.source.interrupted(source);
        self.read_service_before_list(now);
        self.view.status.lost(Level::Warn, kind, why);
    }

    fn read_service_before_list(&mut self, now: Time) {
        // After a refusal or a failure, `service_due` is set already.
        if self.watcher.is_listing() {
            self.service_due.get_or_insert(now);
        }
    }
}

impl Core for NamedEndpoints {
    type Report = crate::cluster::Report;

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
        self.view.status.set_draining(is_draining);
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.watcher.poll_timeout()
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.view.status.take()
    }
}

#[cfg(test)]
mod tests;
