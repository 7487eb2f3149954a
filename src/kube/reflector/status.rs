//! What the reflector has to say: in reports what it has learnt, if it was not
//! reported before; in the log what an operator must know, a fault that lasts
//! in one line.

use std::net::SocketAddr;

use log::Level;

use super::super::endpoints::{PortMissing, Source};
use super::super::objects::EndpointSlice;
use super::super::rights::Rights;
use super::super::text::{LogOnce, printable};
use super::super::{Config, Report};
use crate::cluster::{AddressSource, Permission, Pod, PortRef};

/// What was said already, and who is told the rest.
pub(super) struct StatusReporter<R> {
    report: R,
    namespace: String,
    service: String,
    port: Option<PortRef>,
    /// Whether the Service was read, or endpoints were listed in its name.
    service_seen: bool,
    /// Whether it was last reported that there is no Service.
    no_service: bool,
    /// Whether it was last reported that the wanted port is nowhere.
    port_missing: bool,
    /// What was last reported, if anything was.
    pods: Option<Vec<Pod>>,
    fallback: Option<Option<SocketAddr>>,
    following: Option<Option<AddressSource>>,
    rights: Rights,
    trouble: LogOnce,
    service_log: LogOnce,
    source_log: LogOnce,
    port_log: LogOnce,
}

impl<R: Fn(Report)> StatusReporter<R> {
    pub(super) fn new(config: &Config, report: R) -> Self {
        StatusReporter {
            report,
            namespace: printable(&config.namespace),
            service: printable(&config.service),
            port: config.port.clone(),
            service_seen: false,
            no_service: false,
            port_missing: false,
            pods: None,
            fallback: None,
            following: None,
            rights: Rights::default(),
            trouble: LogOnce::default(),
            service_log: LogOnce::default(),
            source_log: LogOnce::default(),
            port_log: LogOnce::default(),
        }
    }

    /// A list has shown these pods.
    pub(super) fn listed(&mut self, pods: Vec<Pod>) {
        self.pods = Some(pods.clone());
        (self.report)(Report::Pods(pods));
    }

    /// An event has left these pods.
    pub(super) fn seen(&mut self, pods: Vec<Pod>) {
        if self.pods.as_ref() != Some(&pods) {
            self.listed(pods);
        }
    }

    /// The Service's own address, or that there is none to be had.
    pub(super) fn fallback(&mut self, fallback: Option<SocketAddr>) {
        if self.fallback != Some(fallback) {
            self.fallback = Some(fallback);
            (self.report)(Report::Fallback(fallback));
        }
    }

    /// Whether the Service was read before, or done without.
    pub(super) fn knows_service(&self) -> bool {
        self.fallback.is_some()
    }

    pub(super) fn service_read(&mut self) {
        self.granted(Permission::GetService);
        self.service_log.clear("the Service can be read again");
        self.service_seen = true;
    }

    pub(super) fn service_refused(&mut self, lacking: Option<Permission>, why: &str) {
        self.refused(lacking, why, Permission::GetService.fallback());
        self.do_without_service(why);
    }

    fn do_without_service(&mut self, why: &str) {
        let text = format!("the Service cannot be read ({why}): no way round by its cluster IP");
        self.service_log.raise(Level::Warn, "service", &text);
    }

    /// Judges a Service that is `absent`, in the server's words, by a list: who
    /// has endpoints made by hand under its name can do without it. The rest is
    /// a wrong name if it was never there, and an operator's deed if it was,
    /// which no proxy that is gone from its own Service could make good.
    pub(super) fn check_service(&mut self, absent: Option<&str>, is_list_empty: bool) {
        self.service_seen |= !is_list_empty;
        match absent {
            Some(why) if !is_list_empty => self.do_without_service(why),
            Some(why) if self.service_seen => {
                let text = format!("{} any more ({why}): no pod can be found", self.not_there());
                self.service_log.raise(Level::Warn, "gone", &text);
                (self.report)(Report::Trouble(text));
            }
            Some(why) => {
                let text = format!(
                    "{} ({why}): no pod can be found through it; set --service (ZPA_SERVICE)",
                    self.not_there()
                );
                self.service_log.raise(Level::Error, "never", &text);
                (self.report)(Report::Trouble(text.clone()));
                (self.report)(Report::NoService(Some(text)));
                self.no_service = true;
                return;
            }
            None => {}
        }
        if std::mem::take(&mut self.no_service) {
            (self.report)(Report::NoService(None));
        }
    }

    fn not_there(&self) -> String {
        let (namespace, service) = (&self.namespace, &self.service);
        format!("the Service {namespace}/{service} does not exist")
    }

    /// Whether there is no Service and was none.
    pub(super) fn has_no_service(&self) -> bool {
        self.no_service
    }

    pub(super) fn slices_refused(&mut self, why: &str) {
        let slices = Permission::FollowSlices;
        self.refused(Some(slices), why, slices.fallback());
        let text = format!("EndpointSlices cannot be followed ({why}): following v1 Endpoints");
        self.source_log.raise(Level::Warn, "slices", &text);
    }

    /// Whether the port that is wanted is missing from all that was listed.
    pub(super) fn check_port(&mut self, missing: Option<PortMissing>) {
        let port_missing = missing.is_some();
        if std::mem::replace(&mut self.port_missing, port_missing) != port_missing {
            (self.report)(Report::PortMissing(port_missing));
        }
        let service = &self.service;
        if missing.is_none() {
            let text = format!("the endpoints of the Service {service} have the wanted port again");
            return self.port_log.clear(&text);
        }
        let wanted = match &self.port {
            Some(port) => format!("the port {}", printable(&port.to_string())),
            None => "exactly one TCP port".to_owned(),
        };
        let text = format!(
            "no endpoint of the Service {service} has {wanted}, so that there is nothing to dial: \
             set --port to a TCP port of the Service"
        );
        self.port_log.raise(Level::Warn, "port", &text);
    }

    /// A list has come.
    pub(super) fn found<T: Source>(&mut self) {
        if T::RESOURCE == EndpointSlice::RESOURCE {
            self.source_log.clear("following EndpointSlices again");
            // Whether they could be followed too is of no interest any more.
            self.granted(Permission::FollowEndpoints);
        }
        self.granted(T::PERMISSION);
        self.trouble.clear("the endpoints can be followed again");
        self.follow(Some(T::NAME));
    }

    /// No list is to be had.
    pub(super) fn lost(&mut self, level: Level, kind: &'static str, why: &str) {
        let service = &self.service;
        let text = format!("the endpoints of the Service {service} cannot be followed: {why}");
        self.trouble.raise(level, kind, &text);
        (self.report)(Report::Trouble(text));
        self.follow(None);
    }

    pub(super) fn refused(
        &mut self,
        lacking: Option<Permission>,
        why: &str,
        fallback: Option<&'static str>,
    ) {
        let Some(permission) = lacking else {
            return;
        };
        (self.report)(self.rights.refused(permission, why.to_owned(), fallback));
    }

    fn granted(&mut self, permission: Permission) {
        let news = self.rights.granted(permission);
        news.into_iter().for_each(&self.report);
    }

    fn follow(&mut self, following: Option<AddressSource>) {
        if self.following != Some(following) {
            self.following = Some(following);
            (self.report)(Report::Following(following));
        }
    }
}
