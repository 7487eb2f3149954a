//! [`resolve`] reads a Service: the port of its endpoints to dial, the first IP family, and
//! its cluster IP.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::endpoints::{IpFamily, PortChoice, Selection};
use super::objects::{Service, ServicePort, is_tcp};
use crate::cluster::PortRef;

/// The timeout that the API server fills in, in seconds (`DefaultClientIPServiceAffinitySeconds`
/// in `core/v1`).
const DEFAULT_AFFINITY: u64 = 10_800;

/// The longest timeout, in seconds (`MaxClientIPServiceAffinitySeconds` in
/// `pkg/apis/core/validation`).
const MAX_AFFINITY: u64 = 86_400;

/// The parts of a Service that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The port and the family to dial.
    pub(super) selection: Selection,
    /// Its cluster IP and its own port; None for a headless Service.
    pub(super) cluster_ip: Option<SocketAddr>,
}

/// Finds the wanted port in the Service `name`, or says what to mend.
pub(super) fn resolve(
    name: &str,
    service: &Service,
    wanted: Option<&PortRef>,
    flag: &str,
) -> Result<Resolved, String> {
    let ports: Vec<&ServicePort> = service
        .spec
        .ports
        .iter()
        .flatten()
        .filter(|port| is_tcp(port.protocol.as_deref()))
        .collect();
    let port = find(&ports, wanted).ok_or_else(|| complaint(name, &ports, wanted, flag))?;
    let selection = Selection {
        port: PortChoice::Named(port.name.clone().unwrap_or_default()),
        first_family: first_family(service),
    };
    Ok(Resolved {
        selection,
        cluster_ip: cluster_ip(service).map(|ip| SocketAddr::new(ip, port.port)),
    })
}

/// For how long after its last connection a client is led to the same pod; `None` if the Service
/// wants no such affinity.
pub(super) fn session_affinity(service: &Service) -> Option<Duration> {
    let spec = &service.spec;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|it| it.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or(DEFAULT_AFFINITY).min(MAX_AFFINITY);
    Some(Duration::from_secs(seconds))
}

/// The selection while the Service cannot be read. The name of a port is the same in the
/// endpoints; without a wanted port, the endpoints should have only one. A number is of no
/// use, because endpoints have the ports of the pods.
pub(super) fn unread(wanted: Option<&PortRef>) -> Option<Selection> {
    let port = match wanted {
        Some(PortRef::Name(name)) => PortChoice::Named(name.clone()),
        Some(PortRef::Number(_)) => return None,
        Some(PortRef::NumberOrOnly(_)) | None => PortChoice::Only,
    };
    Some(Selection {
        port,
        first_family: IpFamily::Ipv4,
    })
}

fn find<'a>(ports: &[&'a ServicePort], wanted: Option<&PortRef>) -> Option<&'a ServicePort> {
    match wanted {
        Some(PortRef::Name(name)) => ports
            .iter()
            .find(|port| port.name.as_deref() == Some(name))
            .copied(),
        Some(PortRef::Number(number) | PortRef::NumberOrOnly(number)) => {
            ports.iter().find(|port| port.port == *number).copied()
        }
        None => match ports {
            [only] => Some(*only),
            _ => None,
        },
    }
}

/// The family that the Service names first; IPv4 where it names none, as a
/// Service of a server before 1.20 does.
fn first_family(service: &Service) -> IpFamily {
    let mut named = service.spec.ip_families.iter().flatten();
    let first = named.find_map(|name| IpFamily::named(name));
    first.unwrap_or(IpFamily::Ipv4)
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.cluster_ip.as_ref()?.parse().ok()
}

fn complaint(name: &str, ports: &[&ServicePort], wanted: Option<&PortRef>, flag: &str) -> String {
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
    text + &if ports.is_empty() {
        ": add one to the Service".to_owned()
    } else {
        format!(": set {flag} to one of them")
    }
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
    const ONE: &str = r#"{"spec":{"clusterIP":"fd00::4","ipFamilies":["IPv6","IPv4"],
        "ports":[{"port":80}]}}"#;
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
            (
                "likely number",
                TWO,
                Some(PortRef::NumberOrOnly(9090)),
                "metrics",
                Some("10.96.3.4:9090"),
            ),
            ("headless", HEADLESS, None, "x", None),
        ] {
            let resolved = resolve("app", &service(json), wanted.as_ref(), "--port").unwrap();
            let fallback = fallback.map(|it| it.parse().unwrap());
            let named = PortChoice::Named(port.into());
            assert_eq!(
                (resolved.selection.port, resolved.cluster_ip),
                (named, fallback),
                "{label}"
            );
        }
    }

    #[test]
    fn the_first_family_is_the_one_that_the_service_names_first() {
        for (label, families, first) in [
            ("IPv4 alone", r#"["IPv4"]"#, IpFamily::Ipv4),
            ("IPv6 alone", r#"["IPv6"]"#, IpFamily::Ipv6),
            ("IPv6 first", r#"["IPv6","IPv4"]"#, IpFamily::Ipv6),
            ("IPv4 first", r#"["IPv4","IPv6"]"#, IpFamily::Ipv4),
            ("one of the future", r#"["IPv8","IPv6"]"#, IpFamily::Ipv6),
            ("none", "null", IpFamily::Ipv4),
        ] {
            let json = format!(r#"{{"spec":{{"ipFamilies":{families},"ports":[{{"port":1}}]}}}}"#);
            let resolved = resolve("app", &service(&json), None, "--port").unwrap();
            assert_eq!(resolved.selection.first_family, first, "{label}");
        }
    }

    #[test]
    fn without_the_service_a_port_is_known_by_its_name_or_by_being_the_only_one() {
        for (label, wanted, expected) in [
            (
                "a name is the same in the endpoints",
                Some(PortRef::Name("http".into())),
                Some(PortChoice::Named("http".into())),
            ),
            ("a number is not", Some(PortRef::Number(80)), None),
            (
                "a number that is but likely",
                Some(PortRef::NumberOrOnly(80)),
                Some(PortChoice::Only),
            ),
            ("nothing was said", None, Some(PortChoice::Only)),
        ] {
            let selection = unread(wanted.as_ref());
            assert_eq!(selection.map(|it| it.port), expected, "{label}");
        }
    }

    #[test]
    fn the_affinity_of_clients_has_the_service_s_own_timeout_within_the_bounds_of_the_api() {
        let seconds = |seconds: &str| {
            format!(
                r#","sessionAffinity":"ClientIP","sessionAffinityConfig":
                {{"clientIP":{{"timeoutSeconds":{seconds}}}}}"#
            )
        };
        for (more, expected) in [
            (String::new(), None),
            (r#","sessionAffinity":"None""#.to_owned(), None),
            (r#","sessionAffinity":"ClientIP""#.to_owned(), Some(10_800)),
            (seconds("60"), Some(60)),
            (seconds("null"), Some(10_800)),
            (seconds("0"), Some(10_800)),
            (seconds("-5"), Some(10_800)),
            (seconds("9000000000000000000"), Some(86_400)),
        ] {
            let json = format!(r#"{{"spec":{{"ports":[{{"port":1}}]{more}}}}}"#);
            let found = session_affinity(&service(&json)).map(|it| it.as_secs());
            assert_eq!(found, expected, "{json}");
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
            let resolved = resolve("app", &service(json), wanted.as_ref(), "--port");
            assert_eq!(resolved, Err(text.to_owned()));
        }
    }
}
