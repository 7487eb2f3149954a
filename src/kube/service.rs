//! The Service: which port to dial, and the way round by its cluster IP.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::endpoints::PortChoice;
use super::objects::{Service, ServicePort, is_tcp};
use crate::cluster::PortRef;

/// Which port to dial, and the way round: the cluster IP and the Service's own
/// port, or None for a headless Service.
pub(super) type Resolved = (PortChoice, Option<SocketAddr>);

/// Finds the wanted port in the Service `name`, or says what to mend.
pub(super) fn resolve(
    name: &str,
    service: &Service,
    wanted: Option<&PortRef>,
) -> Result<Resolved, String> {
    let ports: Vec<&ServicePort> = service
        .spec
        .ports
        .iter()
        .flatten()
        .filter(|port| is_tcp(port.protocol.as_deref()))
        .collect();
    let port = find(&ports, wanted).ok_or_else(|| complaint(name, &ports, wanted))?;
    Ok((
        PortChoice::Named(port.name.clone().unwrap_or_default()),
        cluster_ip(service).map(|ip| SocketAddr::new(ip, port.port)),
    ))
}

/// What is known of the port while the Service cannot be read: the name of a
/// port is the same in the endpoints, and where none was asked for there should
/// be only one. A number says nothing: endpoints have the pods' own.
pub(super) fn unread(wanted: Option<&PortRef>) -> Option<PortChoice> {
    match wanted {
        Some(PortRef::Name(name)) => Some(PortChoice::Named(name.clone())),
        Some(PortRef::Number(_)) => None,
        None => Some(PortChoice::Only),
    }
}

fn find<'a>(ports: &[&'a ServicePort], wanted: Option<&PortRef>) -> Option<&'a ServicePort> {
    match wanted {
        Some(PortRef::Name(name)) => ports
            .iter()
            .find(|port| port.name.as_deref() == Some(name))
            .copied(),
        Some(PortRef::Number(number)) => ports.iter().find(|port| port.port == *number).copied(),
        None => match ports {
            [only] => Some(*only),
            _ => None,
        },
    }
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.cluster_ip.as_ref()?.parse().ok()
}

fn complaint(name: &str, ports: &[&ServicePort], wanted: Option<&PortRef>) -> String {
    let mut text = match wanted {
        Some(wanted) => format!("the Service {name} has no TCP port {wanted}"),
        None if ports.is_empty() => format!("the Service {name} has no TCP port"),
        None => format!("the Service {name} has more than one TCP port"),
    };
    for (index, port) in ports.iter().enumerate() {
        text.push_str(if index == 0 { "; it has " } else { ", " });
        let _ = write!(text, "{}", port.port);
        if let Some(name) = port.name.as_deref() {
            let _ = write!(text, " ({name})");
        }
    }
    text.push_str(if ports.is_empty() {
        ": add one to the Service"
    } else {
        ": set --port to one of them"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(json: &str) -> Service {
        serde_json::from_str(json).unwrap()
    }

    const TWO: &str = r#"{"spec":{"clusterIP":"10.96.3.4","ports":[
        {"name":"http","port":80,"protocol":"TCP"},{"name":"metrics","port":9090},
        {"name":"dns","port":53,"protocol":"UDP"}]}}"#;
    const ONE: &str = r#"{"spec":{"clusterIP":"fd00::4","ports":[{"port":80}]}}"#;
    const HEADLESS: &str = r#"{"spec":{"clusterIP":"None","ports":[{"name":"x","port":1}]}}"#;

    #[test]
    fn a_port_is_found_by_number_by_name_or_by_being_the_only_one() {
        let name = |name: &str| PortRef::Name(name.into());
        for (label, json, wanted, port, fallback) in [
            (
                "number",
                TWO,
                Some(PortRef::Number(80)),
                "http",
                Some("10.96.3.4:80"),
            ),
            (
                "name",
                TWO,
                Some(name("metrics")),
                "metrics",
                Some("10.96.3.4:9090"),
            ),
            ("only, unnamed, IPv6", ONE, None, "", Some("[fd00::4]:80")),
            ("headless", HEADLESS, None, "x", None),
        ] {
            let resolved = resolve("app", &service(json), wanted.as_ref());
            let fallback = fallback.map(|it| it.parse().unwrap());
            assert_eq!(
                resolved,
                Ok((PortChoice::Named(port.into()), fallback)),
                "{label}"
            );
        }
    }

    #[test]
    fn a_port_that_is_not_to_be_found_is_explained() {
        for (json, wanted, text) in [
            (
                TWO,
                None,
                "the Service app has more than one TCP port; it has 80 (http), 9090 (metrics): set --port to one of them",
            ),
            (
                TWO,
                Some(PortRef::Number(53)),
                "the Service app has no TCP port 53; it has 80 (http), 9090 (metrics): set --port to one of them",
            ),
            (
                r#"{"spec":{"ports":null}}"#,
                None,
                "the Service app has no TCP port: add one to the Service",
            ),
        ] {
            let resolved = resolve("app", &service(json), wanted.as_ref());
            assert_eq!(resolved, Err(text.to_owned()));
        }
    }
}
