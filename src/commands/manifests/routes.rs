//! `--tcp-route`: a TCPRoute for each port where clients connect.

use super::{Install, dns_label};
use crate::commands::options::Options;
use crate::commands::yaml::Map;

/// A listener of a Gateway.
pub struct Parent {
    namespace: Option<String>,
    gateway: String,
    /// Its name in the Gateway; `None`: all of them.
    section: Option<String>,
}

impl Parent {
    /// `[NAMESPACE/]GATEWAY[:LISTENER]`
    fn parse(text: &str) -> Result<Parent, String> {
        let (gateway, section) = match text.split_once(':') {
            Some((gateway, section)) => (gateway, Some(section)),
            None => (text, None),
        };
        let (namespace, gateway) = match gateway.split_once('/') {
            Some((namespace, gateway)) => (Some(namespace), gateway),
            None => (None, gateway),
        };
        let label = |text: &str| dns_label("--tcp-route", text);
        Ok(Parent {
            namespace: namespace.map(label).transpose()?,
            gateway: label(gateway)?,
            section: section.map(label).transpose()?,
        })
    }

    fn reference(&self) -> Map {
        Map::new()
            .set_if("namespace", self.namespace.clone())
            .set("name", self.gateway.as_str())
            .set_if("sectionName", self.section.clone())
    }
}

impl Install {
    /// Takes the Gateways of `--tcp-route`.
    ///
    /// # Errors
    /// What is wrong with them, or that they are not as many as the ports are.
    pub(super) fn add_routes(&mut self, options: &Options) -> Result<(), String> {
        let Some(text) = options.value("--tcp-route") else {
            return Ok(());
        };
        let parents = text.split(',').map(Parent::parse);
        self.routes = parents.collect::<Result<_, _>>()?;
        let ports = self.client_ports.len();
        if self.routes.len() == ports {
            return Ok(());
        }
        let names = self.client_ports.iter();
        let names: Vec<String> = names.map(|it| format!("GATEWAY:{}", it.name)).collect();
        Err(format!(
            "--tcp-route: has {} for {ports} ports; name the Gateway's listener for each, in their \
             order: --tcp-route={}",
            self.routes.len(),
            names.join(",")
        ))
    }

    /// A route for each port. Several are distinguished by the port's name.
    pub(super) fn tcp_routes(&self) -> Vec<Map> {
        let routes = self.routes.iter().zip(&self.client_ports);
        let routes = routes.map(|(parent, port)| {
            let name = match self.routes.len() {
                1 => self.name.clone(),
                _ => format!("{}-{}", self.name, port.name),
            };
            let backend = Map::new()
                .set("name", self.client_service())
                .set("port", port.service);
            let rule = Map::new().set("backendRefs", [backend]);
            let spec = Map::new()
                .set("parentRefs", [parent.reference()])
                .set("rules", [rule]);
            Map::new()
                .set("apiVersion", "gateway.networking.k8s.io/v1alpha2")
                .set("kind", "TCPRoute")
                .set("metadata", self.metadata(&name))
                .set("spec", spec)
        });
        routes.collect()
    }
}
