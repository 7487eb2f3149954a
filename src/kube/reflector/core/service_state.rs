//! What the endpoint reflector makes of the Service: which ports to dial, and what to do
//! while it cannot be read, does not exist, or has no such port.

use std::time::Duration;

use log::Level;

use super::super::super::list_watch::Answer;
use super::super::super::objects::Service;
use super::super::super::service;
use super::super::super::text::printable;
use super::super::super::watcher::malformed;
use super::{Endpoints, Port, RETRY_UNCONFIRMED_REFUSAL, retry_after};
use crate::backoff;
use crate::clock::Time;
use crate::cluster::Permission;
use crate::refusal;

/// The pause after a Service that has no such port.
const PAUSE_INVALID_SERVICE: Duration = Duration::from_secs(30);

impl Endpoints {
    pub(super) fn service_answered(&mut self, answer: Answer<Vec<u8>>, now: Time) {
        self.service_due = None;
        match answer {
            Answer::Ok(body) => self.service_read(&body, now),
            Answer::Refused {
                status: 404, why, ..
            } => self.service_absent(why, now),
            Answer::Refused {
                status: 403, why, ..
            } => self.service_refused(&why, now),
            Answer::Refused {
                retry_after, why, ..
            } => self.service_failed(&why, retry_after, now),
            Answer::TooLarge(why) | Answer::Failed(why) => self.service_failed(&why, None, now),
        }
    }

    fn service_read(&mut self, body: &[u8], now: Time) {
        let service: Service = match serde_json::from_slice(body) {
            Ok(service) => service,
            Err(cause) => return self.service_failed(&malformed(&cause), None, now),
        };
        self.handle_service_readable();
        self.absent = None;
        let mut missing = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let wanted = port.name.as_ref();
            match service::resolve(&self.service, &service, wanted, self.port_flag) {
                Ok(resolved) => {
                    port.selection = Some(resolved.selection);
                    self.status.cluster_ip(index, resolved.cluster_ip);
                }
                Err(why) => {
                    port.selection = None;
                    missing.push((index, printable(&why)));
                }
            }
        }
        if !self.is_any_port_known() {
            return self.handle_invalid_service(&missing, now);
        }
        self.status.service_read();
        self.note_missing(&missing, now);
        self.reapply_selection();
    }

    /// Whether a list is of use: there is a port to dial.
    pub(super) fn is_any_port_known(&self) -> bool {
        self.ports.iter().any(|port| port.selection.is_some())
    }

    /// The Service has some of the ports, and lacks these: it is read again after a
    /// while, because no change of its endpoints shows that it has them.
    fn note_missing(&mut self, missing: &[(usize, String)], now: Time) {
        for (port, why) in missing {
            self.status.no_such_port(*port, why);
        }
        if !missing.is_empty() {
            self.service_due = Some(now + PAUSE_INVALID_SERVICE);
        }
    }

    /// Does without the Service; returns the ports of which nothing is known then, with
    /// the reason.
    fn do_without_service(&mut self, why: &str) -> Vec<(usize, String)> {
        self.ports.iter_mut().for_each(Port::do_without_service);
        let ports = self.ports.iter().enumerate();
        let unknown = ports.filter(|(_, port)| port.selection.is_none());
        unknown.map(|(index, _)| (index, why.to_owned())).collect()
    }

    fn service_absent(&mut self, why: String, now: Time) {
        self.handle_service_readable();
        self.status.granted(Permission::GetService);
        let cure = "name one that exists (--service, ZPA_SERVICE)";
        let unknown = self.do_without_service(&number_needs_service(&why, cure));
        if !self.is_any_port_known() {
            return self.handle_invalid_service(&unknown, now);
        }
        self.status.no_cluster_ip(false);
        self.absent = Some(why);
        self.note_missing(&unknown, now);
        self.reapply_selection();
    }

    fn service_refused(&mut self, why: &str, now: Time) {
        let believed = self.service_refusal.refused(refusal::BELIEVED_AFTER, now);
        let cure = "allow it, or give the port by its name";
        let need = number_needs_service(why, cure);
        let unknown = self.do_without_service(&need);
        if !self.is_any_port_known() {
            self.status.refused(Permission::GetService, &need, None);
            self.service_due = Some(now);
            return self.refused(&need, believed, now);
        }
        self.status.service_refused(why, believed);
        self.status.no_cluster_ip(true);
        self.note_missing(&unknown, now);
        let retry = retry_after(&self.service_refusal, &mut self.service_backoff);
        self.service_due = Some(now + retry);
    }

    /// The Service cannot be read. If it was read before, the old one is used.
    fn service_failed(&mut self, why: &str, retry_after: Option<Duration>, now: Time) {
        self.service_refusal.interrupted();
        if self.is_any_port_known() {
            let retry = self.service_backoff.pause(backoff::LONGEST);
            self.service_due = Some(now + retry.max(RETRY_UNCONFIRMED_REFUSAL));
            return;
        }
        self.service_due = Some(now);
        match retry_after.filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.status.lost(Level::Warn, "busy", why);
                self.watcher.pause(wait, now);
            }
            None => {
                self.status.lost(Level::Warn, "failed", why);
                self.watcher.back_off(backoff::LONGEST, now);
            }
        }
    }

    /// The Service has none of the ports, for these reasons.
    fn handle_invalid_service(&mut self, reasons: &[(usize, String)], now: Time) {
        self.relist(now);
        self.status.no_such_ports(reasons);
        self.watcher.pause(PAUSE_INVALID_SERVICE, now);
    }

    fn handle_service_readable(&mut self) {
        self.service_refusal.granted();
        self.service_backoff.reset();
    }

    /// The Service was read: applies its port and family to the stored endpoints.
    fn reapply_selection(&mut self) {
        if !self.watcher.is_listing() {
            self.check(false);
        }
    }
}

/// The error of a port number while the Service cannot be read.
fn number_needs_service(why: &str, cure: &str) -> String {
    format!("the Service cannot be read ({why}), which the number of its port needs: {cure}")
}
