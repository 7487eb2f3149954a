//! The [`StatusReporter`] of the endpoint reflector: it reports changes to the daemon, and
//! logs faults, one line for each that lasts.

use std::net::SocketAddr;
use std::time::Duration;

use log::Level;

use super::super::WatchedApp;
use super::super::endpoints::PortMissing;
use super::super::namespaces::Namespaces;
use super::super::permissions::Permissions;
use super::super::text::{LogOnce, printable};
use super::interface::Output;
use crate::cluster::{AddressSource, NoAddress, Permission, Pod, PortRef, Report};

/// The outputs to make, and what was reported and logged before.
pub(super) struct StatusReporter {
    outputs: Vec<Output>,
    is_draining: bool,
    /// Whose endpoints they are: `the Service myapp`.
    subject: String,
    namespace: String,
    service: String,
    ports: Vec<Port>,
    /// The flag that names them.
    port_flag: &'static str,
    /// Whether the Service was read, or endpoints were listed in its name.
    service_seen: bool,
    /// What was last reported, if anything was.
    synced: Option<Option<AddressSource>>,
    /// The affinity that was last reported.
    affinity: Option<Duration>,
    permissions: Permissions,
    trouble: LogOnce,
    service_log: LogOnce,
    source_log: LogOnce,
}

/// What was reported and logged of one of the Service's ports.
struct Port {
    name: Option<PortRef>,
    pods: Option<Vec<Pod>>,
    cluster_ip: Option<Option<SocketAddr>>,
    no_address: Option<NoAddress>,
    log: LogOnce,
}

impl StatusReporter {
    pub(super) fn new(config: &WatchedApp) -> Self {
        let service = printable(&config.service);
        StatusReporter {
            ports: config.ports.iter().map(Port::new).collect(),
            port_flag: config.port_flag,
            ..StatusReporter::about(format!("the Service {service}"), &config.namespace, service)
        }
    }

    /// One for what concerns all Services of a namespace, or of all.
    pub(super) fn of_namespaces(namespaces: &Namespaces) -> Self {
        let subject = format!("the Services of {namespaces}");
        let namespace = namespaces.name().unwrap_or_default();
        StatusReporter::about(subject, namespace, String::new())
    }

    /// One that has reported nothing, without ports.
    fn about(subject: String, namespace: &str, service: String) -> Self {
        StatusReporter {
            outputs: Vec::new(),
            is_draining: false,
            subject,
            namespace: printable(namespace),
            service,
            ports: Vec::new(),
            port_flag: "",
            service_seen: false,
            synced: None,
            affinity: None,
            permissions: Permissions::default(),
            trouble: LogOnce::default(),
            service_log: LogOnce::default(),
            source_log: LogOnce::default(),
        }
    }

    /// The outputs since the last call, in order.
    pub(super) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Sets whether the proxy drains.
    pub(super) fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// The level of a line about endpoints that cannot be listed: debug while the proxy
    /// drains, because permissions and objects may be deleted before the proxy.
    fn unless_draining(&self, level: Level) -> Level {
        if self.is_draining {
            Level::Debug
        } else {
            level
        }
    }

    /// Reports the pods of a port after a list, even if they have not changed.
    pub(super) fn listed(&mut self, port: usize, pods: Vec<Pod>) {
        self.ports[port].pods = Some(pods.clone());
        self.report(Report::Pods { port, pods });
    }

    /// Reports the pods of a port, if they have changed.
    pub(super) fn stored(&mut self, port: usize, pods: Vec<Pod>) {
        if self.ports[port].pods.as_ref() != Some(&pods) {
            self.listed(port, pods);
        }
    }

    /// Reports the Service's cluster IP and port, if they have changed; `None` without one.
    pub(super) fn cluster_ip(&mut self, port: usize, address: Option<SocketAddr>) {
        let known = &mut self.ports[port].cluster_ip;
        if *known != Some(address) {
            *known = Some(address);
            self.report(Report::FallbackAddress { port, address });
        }
    }

    /// Reports for how long a client is led to the same pod, if that has changed.
    pub(super) fn session_affinity(&mut self, timeout: Option<Duration>) {
        if self.affinity != timeout {
            self.affinity = timeout;
            self.report(Report::SessionAffinity(timeout));
        }
    }

    /// Reports that there is no cluster IP for any port; those that are known stand if
    /// `keep`.
    pub(super) fn no_cluster_ip(&mut self, keep: bool) {
        for port in 0..self.ports.len() {
            if !keep || self.ports[port].cluster_ip.is_none() {
                self.cluster_ip(port, None);
            }
        }
    }

    pub(super) fn service_read(&mut self) {
        self.granted(Permission::GetService);
        if self.service_log.end() {
            self.log(Level::Info, "the Service can be read again".to_owned());
        }
        self.service_seen = true;
    }

    /// The Service may not be read; `confirmed`: the permission counts as missing.
    pub(super) fn service_refused(&mut self, why: &str, confirmed: bool) {
        self.refused(
            Permission::GetService,
            why,
            Permission::GetService.fallback(),
        );
        if confirmed {
            self.do_without_service(why)
        } else {
            let text = format!("the Service cannot be read ({why}): trying again");
            let level = self.unless_draining(Level::Info);
            let level = self.service_log.level(level, "unconfirmed");
            self.log(level, text);
        }
    }

    fn do_without_service(&mut self, why: &str) {
        let text = format!(
            "the Service cannot be read ({why}): if no pod answers, its cluster IP will not be tried"
        );
        let level = self.unless_draining(Level::Warn);
        let level = self.service_log.level(level, "service");
        self.log(level, text);
    }

    /// Reports an `absent` Service, by the message of the server, after a list. With
    /// endpoints under its name, which somebody has made by hand, it is not needed. Without,
    /// its name is wrong if it was never seen; if it was seen, an operator has deleted it,
    /// and the proxy stays ready, because unreadiness would not help.
    pub(super) fn check_service(&mut self, absent: Option<&str>, is_list_empty: bool) {
        self.service_seen |= !is_list_empty;
        match absent {
            Some(why) if !is_list_empty => self.do_without_service(why),
            Some(why) if self.service_seen => {
                let text = format!("{} any more ({why}): no pod can be found", self.not_there());
                self.missing_service(Level::Warn, "gone", text);
            }
            Some(why) => {
                let text = format!(
                    "{} ({why}): no pod can be found through it; set --service (ZPA_SERVICE)",
                    self.not_there()
                );
                self.missing_service(Level::Error, "never", text.clone());
                return self.no_service(&text);
            }
            None => {}
        }
        for port in 0..self.ports.len() {
            if matches!(
                self.ports[port].no_address,
                Some(NoAddress::ServiceMissing(_))
            ) {
                self.no_address(port, None);
            }
        }
    }

    fn no_service(&mut self, why: &str) {
        for port in 0..self.ports.len() {
            self.no_address(port, Some(NoAddress::ServiceMissing(why.to_owned())));
        }
    }

    /// The Service has none of the ports, for these reasons.
    pub(super) fn no_such_ports(&mut self, reasons: &[(usize, String)]) {
        let mut distinct: Vec<&str> = reasons.iter().map(|(_, why)| why.as_str()).collect();
        distinct.dedup();
        self.lost(Level::Error, "refused", &distinct.join("; "));
        for (port, why) in reasons {
            self.no_address(*port, Some(NoAddress::ServiceLacksPort(why.clone())));
        }
    }

    /// The Service lacks that port, and has others.
    pub(super) fn no_such_port(&mut self, port: usize, why: &str) {
        let level = self.unless_draining(Level::Error);
        let level = self.ports[port].log.level(level, "missing");
        self.log(level, why.to_owned());
        self.no_address(port, Some(NoAddress::ServiceLacksPort(why.to_owned())));
    }

    fn missing_service(&mut self, level: Level, kind: &'static str, text: String) {
        let level = self.unless_draining(level);
        let level = self.service_log.level(level, kind);
        self.log(level, text.clone());
        self.report(Report::RequestFailed(text));
        self.set_synced(None);
    }

    fn not_there(&self) -> String {
        let (namespace, service) = (&self.namespace, &self.service);
        format!("the Service {namespace}/{service} does not exist")
    }

    /// Whether the Service does not exist and was never seen.
    pub(super) fn has_no_service(&self) -> bool {
        let mut ports = self.ports.iter();
        ports.any(|port| matches!(port.no_address, Some(NoAddress::ServiceMissing(_))))
    }

    /// Endpoints are watched, because EndpointSlices may not be watched.
    pub(super) fn watching_endpoints_instead(&mut self, why: &str, confirmed: bool) {
        let (level, kind, then) = if confirmed {
            (Level::Warn, "slices", "watching v1 Endpoints")
        } else {
            (
                Level::Info,
                "unconfirmed",
                "watching v1 Endpoints until they can be",
            )
        };
        let level = self.unless_draining(level);
        let level = self.source_log.level(level, kind);
        self.log(
            level,
            format!("EndpointSlices cannot be watched ({why}): {then}"),
        );
    }

    /// Endpoints are listed by their names, because those of the namespace may not be.
    pub(super) fn listing_by_name(&mut self, why: &str) {
        let level = self.unless_draining(Level::Warn);
        let level = self.source_log.level(level, "by name");
        let text = format!(
            "neither EndpointSlices nor Endpoints of the namespace can be listed ({why}): listing \
             the Endpoints of each Service by name, one after the other"
        );
        self.log(level, text);
    }

    /// Reports whether the endpoints lack the port, and why.
    pub(super) fn check_port(&mut self, port: usize, missing: Option<PortMissing>) {
        match missing.map(|missing| self.no_port(port, missing)) {
            Some(text) => {
                let level = self.ports[port].log.level(Level::Warn, "port");
                if level <= Level::Warn {
                    self.log(level, text.clone());
                }
                self.no_address(port, Some(NoAddress::EndpointsLackPort(text)));
            }
            None => {
                if self.ports[port].log.end() {
                    let service = &self.service;
                    let text =
                        format!("the endpoints of the Service {service} have the port again");
                    self.log(Level::Info, text);
                }
                if !self.has_no_service() {
                    self.no_address(port, None);
                }
            }
        }
    }

    fn no_address(&mut self, port: usize, why: Option<NoAddress>) {
        if self.ports[port].no_address != why {
            self.ports[port].no_address.clone_from(&why);
            self.report(Report::NoAddress { port, why });
        }
    }

    fn no_port(&self, port: usize, missing: PortMissing) -> String {
        let (service, flag) = (&self.service, self.port_flag);
        match (missing, &self.ports[port].name) {
            (PortMissing::NoPort, _) => format!(
                "the endpoints of the Service {service} have no port, so that there is nothing to \
                 dial: its targetPort must be a port that a container of the pods names, or a number"
            ),
            (PortMissing::OtherPorts, Some(port)) => format!(
                "no endpoint of the Service {service} has the port {}, so that there is nothing to \
                 dial: set {flag} to a TCP port of the Service, and make its targetPort one of the \
                 pods' ports",
                printable(&port.to_string())
            ),
            (PortMissing::OtherPorts, None) => format!(
                "no endpoint of the Service {service} has exactly one TCP port, so that there is \
                 nothing to dial: set {flag} to a TCP port of the Service"
            ),
        }
    }

    /// A list was received.
    pub(super) fn found(&mut self, source: AddressSource) {
        if self.trouble.end() {
            self.log(Level::Info, "the endpoints can be listed again".to_owned());
        }
        self.set_synced(Some(source));
    }

    /// A watch of these objects was opened.
    pub(super) fn watched(&mut self, source: AddressSource) {
        self.granted(permission(source));
        if source == AddressSource::EndpointSlices {
            // A refusal of Endpoints does not matter any more.
            self.granted(Permission::WatchEndpoints);
            if self.source_log.end() {
                self.log(Level::Info, "watching EndpointSlices again".to_owned());
            }
        }
    }

    /// The endpoints cannot be listed.
    pub(super) fn lost(&mut self, level: Level, kind: &'static str, why: &str) {
        let subject = &self.subject;
        let text = format!("the endpoints of {subject} cannot be listed: {why}");
        let level = self.unless_draining(level);
        let level = self.trouble.level(level, kind);
        self.log(level, text.clone());
        self.report(Report::RequestFailed(text));
        self.set_synced(None);
    }

    /// Reports that a permission is refused, and what is done instead.
    pub(super) fn refused(
        &mut self,
        permission: Permission,
        why: &str,
        fallback: Option<&'static str>,
    ) {
        let refused = self
            .permissions
            .refused(permission, why.to_owned(), fallback);
        self.report(refused);
    }

    pub(super) fn granted(&mut self, permission: Permission) {
        if let Some(granted) = self.permissions.granted(permission) {
            self.report(granted);
        }
    }

    /// Logs a line.
    pub(super) fn log(&mut self, level: Level, text: String) {
        self.outputs.push(Output::Log(level, text));
    }

    fn set_synced(&mut self, synced: Option<AddressSource>) {
        if self.synced != Some(synced) {
            self.synced = Some(synced);
            self.report(Report::Synced(synced));
        }
    }

    fn report(&mut self, report: Report) {
        self.outputs.push(Output::Report(report));
    }
}

impl Port {
    fn new(name: &Option<PortRef>) -> Self {
        Port {
            name: name.clone(),
            pods: None,
            cluster_ip: None,
            no_address: None,
            log: LogOnce::default(),
        }
    }
}

/// The permission to list and watch objects of that kind.
pub(super) fn permission(source: AddressSource) -> Permission {
    match source {
        AddressSource::EndpointSlices => Permission::WatchSlices,
        AddressSource::Endpoints => Permission::WatchEndpoints,
    }
}
