//! The checks of ports: those of the Service, and those that the proxies listen on.

use serde_json::Value;

use super::super::installed::Proxy;
use super::Case;
use super::hint::kubectl;
use super::verdict::{Verdict, proxies, service, text};
use crate::cluster::PortRef;
use crate::settings::Settings;

/// Below this port a user without privileges needs a sysctl to listen.
const FIRST_UNPRIVILEGED: u64 = 1024;

const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

// --- Of the Service ---

fn ports<'a>(case: &Case<'a>) -> &'a [Value] {
    let ports = &service(case)["spec"]["ports"];
    ports.as_array().map_or(&[], Vec::as_slice)
}

/// Which ports of the Service are meant; `None`: its only one.
fn wanted(settings: &Settings) -> Vec<Option<PortRef>> {
    // An ancestor's target that is the Service names its port by the way.
    let target = settings.target.as_ref().filter(|_| settings.pods_first);
    let likely = target.map(|target| PortRef::NumberOrOnly(target.port));
    let of_all = settings.port.clone().or(likely);
    let listeners = settings.listen.iter();
    let ports = listeners.map(|it| it.port.clone().or_else(|| of_all.clone()));
    ports.collect()
}

fn is_there(ports: &[Value], wanted: Option<&PortRef>) -> bool {
    let has_number = |number: u16| ports.iter().any(|it| it["port"] == number);
    match wanted {
        None => ports.len() == 1,
        Some(PortRef::Name(name)) => ports.iter().any(|it| it["name"] == name.as_str()),
        Some(PortRef::Number(number)) => has_number(*number),
        Some(PortRef::NumberOrOnly(number)) => ports.len() == 1 || has_number(*number),
    }
}

pub(super) fn has_the_ports(case: &Case<'_>) -> Verdict {
    let (ports, wanted) = (ports(case), wanted(case.settings));
    let mut missing = wanted.iter().filter(|it| !is_there(ports, it.as_ref()));
    let names = || ports.iter().map(shown).collect::<Vec<_>>().join(", ");
    match missing.next() {
        None => Verdict::Good,
        Some(None) => Verdict::Bad(format!("it has {}: {}", ports.len(), names())),
        Some(Some(port)) => Verdict::Bad(format!("it has no {port}, but {}", names())),
    }
}

/// `http (80)`.
fn shown(port: &Value) -> String {
    match text(&port["name"]) {
        "" => port["port"].to_string(),
        name => format!("{name} ({})", port["port"]),
    }
}

pub(super) fn hint(case: &Case<'_>) -> String {
    let called = |port: &Value| match text(&port["name"]) {
        "" => port["port"].to_string(),
        name => name.to_owned(),
    };
    let names: Vec<String> = ports(case).iter().map(called).collect();
    let first = names.first().map_or("http", String::as_str);
    let each = names.iter().zip(8080_u32..).map(|(name, port)| {
        // The admin port is between them.
        let port = if port > 8080 { port + 1 } else { port };
        format!("{port}={name}")
    });
    let each: Vec<String> = each.collect();
    format!(
        "give one of them, e.g. --port {first}, or each, e.g. --listen {}",
        each.join(",")
    )
}

// --- Of the proxies ---

pub(super) fn may_listen(case: &Case<'_>) -> Verdict {
    match closed(case) {
        None => Verdict::Good,
        Some((proxy, port)) => Verdict::Bad(format!(
            "{} is to listen on port {port}, is not ready, and runs without the sysctl {SYSCTL}",
            proxy.name()
        )),
    }
}

/// A proxy with a port that may be closed to it.
fn closed<'a>(case: &Case<'a>) -> Option<(&'a Proxy, u16)> {
    proxies(case).iter().find_map(|it| {
        let first = first_open(&it.proxy);
        let is_closed = |port: &u16| *port > 0 && u64::from(*port) < first;
        let port = it.proxy.ports().into_iter().find(is_closed)?;
        (it.proxy.ready() == 0 && !is_root(&it.proxy)).then_some((&it.proxy, port))
    })
}

/// The first port that is open to every user in the pod.
fn first_open(proxy: &Proxy) -> u64 {
    let pod = &proxy.deployment["spec"]["template"]["spec"];
    let sysctls = pod["securityContext"]["sysctls"].as_array();
    let mut sysctls = sysctls.into_iter().flatten();
    let sysctl = sysctls.find(|it| it["name"] == SYSCTL);
    let value = sysctl.and_then(|it| text(&it["value"]).parse().ok());
    value.unwrap_or(FIRST_UNPRIVILEGED)
}

/// Whether it runs as root: the image's own user is none.
fn is_root(proxy: &Proxy) -> bool {
    let pod = &proxy.deployment["spec"]["template"]["spec"];
    let contexts = [
        &proxy.container()["securityContext"],
        &pod["securityContext"],
    ];
    let mut users = contexts
        .into_iter()
        .filter_map(|it| it["runAsUser"].as_u64());
    users.next() == Some(0)
}

pub(super) fn hint_of_low_port(case: &Case<'_>) -> String {
    let Some((proxy, _)) = closed(case) else {
        return String::new();
    };
    let (namespace, name) = (proxy.namespace(), proxy.name());
    let sysctl = format!(r#"{{"sysctls":[{{"name":"{SYSCTL}","value":"0"}}]}}"#);
    let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"securityContext":{sysctl}}}}}}}}}"#);
    kubectl(namespace, &format!("patch deployment {name} -p '{patch}'"))
}
