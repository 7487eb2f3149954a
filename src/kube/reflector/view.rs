//! [`ServiceView`]: what an app makes of its Service and of the endpoints that are stored:
//! which ports to dial, and the pods of each.

use super::super::WatchedApp;
use super::super::endpoints::{Selection, Store};
use super::super::objects::Service;
use super::super::service;
use super::super::text::printable;
use super::status::StatusReporter;
use crate::cluster::{Permission, PortRef};

/// Ports, by their places, with the reason why they cannot be dialled.
pub(super) type Missing = Vec<(usize, String)>;

/// The Service of an app, with the ports that are dialled.
pub(super) struct ServiceView {
    pub(super) service: String,
    ports: Vec<Port>,
    /// The flag that names them.
    port_flag: &'static str,
    /// The message of the server if the Service does not exist; `None` if it does, or may not
    /// be read.
    absent: Option<String>,
    pub(super) status: StatusReporter,
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

impl ServiceView {
    /// Nothing is known yet.
    pub(super) fn new(config: &WatchedApp) -> Self {
        ServiceView {
            service: config.service.clone(),
            ports: config.ports.iter().map(Port::new).collect(),
            port_flag: config.port_flag,
            absent: None,
            status: StatusReporter::new(config),
        }
    }

    /// Whether a list is of use: there is a port to dial.
    pub(super) fn is_any_port_known(&self) -> bool {
        self.ports.iter().any(|port| port.selection.is_some())
    }

    // --- The Service ---

    /// The Service was read; returns the ports that it lacks.
    pub(super) fn read(&mut self, service: &Service) -> Missing {
        self.absent = None;
        let mut missing = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let wanted = port.name.as_ref();
            match service::resolve(&self.service, service, wanted, self.port_flag) {
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
        let affinity = service::session_affinity(service);
        self.status.session_affinity(affinity);
        if self.is_any_port_known() {
            self.status.service_read();
            self.report_missing(&missing);
        }
        missing
    }

    /// The Service does not exist; returns the ports that only it could tell.
    pub(super) fn absent(&mut self, why: String) -> Missing {
        self.status.granted(Permission::GetService);
        let cure = "name one that exists (--service, ZPA_SERVICE)";
        let unknown = self.do_without_service(&number_needs_service(&why, cure));
        if self.is_any_port_known() {
            self.status.no_cluster_ip(false);
            self.absent = Some(why);
            self.report_missing(&unknown);
        }
        unknown
    }

    /// The Service may not be read; `confirmed`: the permission counts as missing. Returns the
    /// ports that only it could tell.
    pub(super) fn refused(&mut self, why: &str, confirmed: bool) -> Missing {
        let cure = "allow it, or give the port by its name";
        let need = number_needs_service(why, cure);
        let unknown = self.do_without_service(&need);
        if !self.is_any_port_known() {
            self.status.refused(Permission::GetService, &need, None);
            return unknown;
        }
        self.status.service_refused(why, confirmed);
        self.status.no_cluster_ip(true);
        self.report_missing(&unknown);
        unknown
    }

    /// Does without the Service; returns the ports of which nothing is known then, with
    /// the reason.
    fn do_without_service(&mut self, why: &str) -> Missing {
        self.ports.iter_mut().for_each(Port::do_without_service);
        let ports = self.ports.iter().enumerate();
        let unknown = ports.filter(|(_, port)| port.selection.is_none());
        unknown.map(|(index, _)| (index, why.to_owned())).collect()
    }

    /// The Service has some of the ports, and lacks these.
    fn report_missing(&mut self, missing: &Missing) {
        for (port, why) in missing {
            self.status.no_such_port(*port, why);
        }
    }

    // --- The endpoints ---

    /// Reports the stored pods.
    pub(super) fn check(&mut self, store: &Store, is_list: bool) {
        if !self.is_any_port_known() {
            return;
        }
        self.report_pods(store, is_list);
        let is_empty = store.is_empty();
        self.status.check_service(self.absent.as_deref(), is_empty);
        if self.absent.is_none() || !is_empty {
            self.status.found(store.source());
        }
        self.check_ports(store);
    }

    /// Lines of the watch were stored. Returns whether the Service may have been changed or
    /// created again.
    pub(super) fn changed(&mut self, store: &mut Store) -> bool {
        if !self.is_any_port_known() {
            return false;
        }
        self.report_pods(store, false);
        let is_port_missing = self.check_ports(store);
        store.take_appeared() || is_port_missing || self.status.has_no_service()
    }

    /// Reports the stored pods of each port: after a list also if they have not changed.
    fn report_pods(&mut self, store: &Store, is_list: bool) {
        for (index, port) in self.ports.iter().enumerate() {
            let Some(selection) = &port.selection else {
                continue;
            };
            let pods = store.pods(selection);
            if is_list {
                self.status.listed(index, pods);
            } else {
                self.status.stored(index, pods);
            }
        }
    }

    /// Reports ports that no endpoint has; returns whether there is any.
    fn check_ports(&mut self, store: &Store) -> bool {
        let mut is_any_missing = false;
        for (index, port) in self.ports.iter().enumerate() {
            let Some(selection) = &port.selection else {
                continue;
            };
            let missing = store.port_missing(&selection.port);
            is_any_missing |= missing.is_some();
            self.status.check_port(index, missing);
        }
        is_any_missing
    }
}

/// The error of a port number while the Service cannot be read.
fn number_needs_service(why: &str, cure: &str) -> String {
    format!("the Service cannot be read ({why}), which the number of its port needs: {cure}")
}
