//! The replies to a read of the Service in [`NamedEndpoints`]: it was read, it does not exist, it
//! cannot be read, or it has no such port.

use std::time::Duration;

use log::Level;

use super::super::super::objects::Service;
use super::super::super::watcher::malformed;
use super::super::super::watcher_io::Response;
use super::super::source::retry_after;
use super::super::view::Missing;
use super::{NamedEndpoints, RETRY_UNCONFIRMED_REFUSAL};
use crate::backoff;
use crate::clock::Time;
use crate::refusal;

/// The pause after a Service that has no such port.
const PAUSE_INVALID_SERVICE: Duration = Duration::from_secs(30);

impl NamedEndpoints {
    pub(super) fn service_answered(&mut self, answer: Response<Vec<u8>>, now: Time) {
        self.service_due = None;
        match answer {
            Response::Ok(body) => self.service_read(&body, now),
            Response::Status {
                status: 404, why, ..
            } => self.service_absent(why, now),
            Response::Status {
                status: 403, why, ..
            } => self.service_refused(&why, now),
            Response::Status {
                retry_after, why, ..
            } => self.service_failed(&why, retry_after, now),
            Response::TooLarge(why) | Response::Failed(why) => self.service_failed(&why, None, now),
        }
    }

    fn service_read(&mut self, body: &[u8], now: Time) {
        let service: Service = match serde_json::from_slice(body) {
            Ok(service) => service,
            Err(cause) => return self.service_failed(&malformed(&cause), None, now),
        };
        self.handle_service_readable();
        let missing = self.view.read(&service);
        self.handle_missing(&missing, now);
    }

    /// The Service does not have these ports, or it is not known whether it has: it is read
    /// again after a while, because no change of its endpoints shows that it has them.
    fn handle_missing(&mut self, missing: &Missing, now: Time) {
        if !self.view.is_any_port_known() {
            return self.handle_invalid_service(missing, now);
        }
        if !missing.is_empty() {
            self.service_due = Some(now + PAUSE_INVALID_SERVICE);
        }
        // The port and the family may be others: applied to what is stored.
        if !self.endpoints.watcher.is_listing() {
            self.view.check(&self.endpoints.store, false);
        }
    }

    fn service_absent(&mut self, why: String, now: Time) {
        self.handle_service_readable();
        let unknown = self.view.absent(why);
        self.handle_missing(&unknown, now);
    }

    fn service_refused(&mut self, why: &str, now: Time) {
        let confirmed = self.service_refusal.refused(refusal::CONFIRMED_AFTER, now);
        let unknown = self.view.refused(why, confirmed);
        if !self.view.is_any_port_known() {
            self.service_due = Some(now);
            let need = unknown.first().map_or(why, |(_, need)| need);
            return self.refused(need, confirmed, now);
        }
        let retry = retry_after(&self.service_refusal, &mut self.service_backoff);
        self.service_due = Some(now + retry);
    }

    /// The Service cannot be read. If it was read before, the old one is used.
    fn service_failed(&mut self, why: &str, retry_after: Option<Duration>, now: Time) {
        self.service_refusal.interrupted();
        if self.view.is_any_port_known() {
            let retry = self.service_backoff.pause(backoff::MAX_PAUSE);
            self.service_due = Some(now + retry.max(RETRY_UNCONFIRMED_REFUSAL));
            return;
        }
        self.service_due = Some(now);
        match retry_after.filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.view.status.lost(Level::Warn, "busy", why);
                self.endpoints.watcher.pause(wait, now);
            }
            None => {
                self.view.status.lost(Level::Warn, "failed", why);
                self.endpoints.watcher.back_off(backoff::MAX_PAUSE, now);
            }
        }
    }

    /// The Service has none of the ports, for these reasons.
    fn handle_invalid_service(&mut self, reasons: &Missing, now: Time) {
        self.relist(now);
        self.view.status.no_such_ports(reasons);
        self.endpoints.watcher.pause(PAUSE_INVALID_SERVICE, now);
    }

    fn handle_service_readable(&mut self) {
        self.service_refusal.granted();
        self.service_backoff.reset();
    }
}
