//! The parsers of single values. Each error is a clause with the reason.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use log::LevelFilter;

use super::quote::quote;
use crate::address::{self, digits};
use crate::cluster::{HostPort, PortRef};
use crate::duration;
use crate::log_format::LogFormat;
use crate::workload::{Resource, TargetRef, WakeReplicas};

/// A duration that may be zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

/// A duration that may not be below `least`.
pub(super) fn duration_from(least: Duration, text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < least {
        let least = duration::display(least);
        return Err(format!("is too short: the least is {least}"));
    }
    Ok(duration)
}

/// A duration above zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err("must be more than zero".to_owned());
    }
    Ok(duration)
}

/// `previous`, or a `spec.replicas`, which is an `int32`.
pub(super) fn wake_replicas(text: &str) -> Result<WakeReplicas, String> {
    if text == "previous" {
        return Ok(WakeReplicas::Previous);
    }
    let number = whole(text).and_then(|number| i32::try_from(number).ok());
    number
        .and_then(|number| NonZeroU32::new(number.unsigned_abs()))
        .map(WakeReplicas::Replicas)
        .ok_or_else(|| format!("is not a whole number from 1 to {}", i32::MAX))
}

/// `PLURAL.GROUP/NAME`. A group is a DNS subdomain, and a plural a label
/// (`apiextensions.k8s.io/v1`, `CustomResourceDefinitionNames`).
pub(super) fn target_ref(text: &str) -> Result<TargetRef, String> {
    let parts = text.split_once('/').and_then(|(resource, name)| {
        let (plural, group) = resource.split_once('.')?;
        Some((plural, group, name))
    });
    let (plural, group, name) = parts.ok_or("is not of the form PLURAL.GROUP/NAME")?;
    Ok(TargetRef::Object {
        resource: Resource {
            plural: label(plural)?,
            group: subdomain(group)?,
        },
        name: subdomain(name)?,
    })
}

/// A label selector. Only its characters are checked; the API server checks its grammar.
pub(super) fn selector(text: &str) -> Result<String, String> {
    let text = text.trim_start_matches(['"', '\'']);
    let text = text.trim_end_matches(['"', '\'']).trim();
    check_length(text, 1024)?;
    if text.is_empty() {
        return Err("selects everything".to_owned());
    }
    match text.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        Some(wrong) => {
            let wrong = quote(wrong.to_string().as_ref());
            Err(format!("has {wrong}, which no label has"))
        }
        None => Ok(text.to_owned()),
    }
}

/// A namespace, which client-go also takes with the resource's name before it
/// (`RESTOverrides` in `tools/clientcmd/overrides.go`).
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let prefixes = ["namespaces/", "namespace/", "ns/"].into_iter();
    let name = prefixes
        .filter_map(|prefix| text.strip_prefix(prefix))
        .next();
    label(name.unwrap_or(text))
}

/// How a line of the log is written.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("neither text nor json".to_owned()),
    }
}

/// The text that [`log_format`] reads as that format.
pub(super) fn show_log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

/// Yes or no.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// A number of things of which there is at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    whole(text)
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| "is not a whole number from 1 up".to_owned())
}

/// The same, as many as 32 bits count.
pub(super) fn count_u32(text: &str) -> Result<NonZeroU32, String> {
    whole(text)
        .and_then(|number| u32::try_from(number).ok())
        .and_then(NonZeroU32::new)
        .ok_or_else(|| format!("is not a whole number from 1 to {}", u32::MAX))
}

fn whole(text: &str) -> Option<u64> {
    digits(text)?.parse().ok()
}

/// A DNS-1123 label, as Kubernetes wants it for a namespace, a Service and a
/// Service's port (`IsDNS1123Label` in `apimachinery/pkg/util/validation`).
/// Services were once held to DNS-1035 labels, which these include.
///
/// # Errors
/// Why it is none, as a clause without its subject.
pub fn label(text: &str) -> Result<String, String> {
    check_length(text, 63)?;
    check_label(text)?;
    Ok(text.to_owned())
}

/// A DNS-1123 subdomain, as for a Deployment (`IsDNS1123Subdomain`, there too).
///
/// # Errors
/// Why it is none, as a clause without its subject.
pub fn subdomain(text: &str) -> Result<String, String> {
    check_length(text, 253)?;
    text.split('.').try_for_each(check_label)?;
    Ok(text.to_owned())
}

fn check_length(text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        return Err(format!(
            "is longer than the {most} characters of such a name"
        ));
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(wrong) = label.chars().find(|c| !inner(*c)) {
        let wrong = quote(wrong.to_string().as_ref());
        return Err(format!(
            "has {wrong}, where only lower-case letters, digits and \"-\" may be"
        ));
    }
    if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
        return Err("does not begin and end with a letter or a digit".to_owned());
    }
    Ok(())
}

/// A port of a Service. A text of digits is a number, although Kubernetes allows it as a name
/// too.
pub(super) fn port_ref(text: &str) -> Result<PortRef, String> {
    if digits(text).is_some() {
        return port(text).map(PortRef::Number);
    }
    label(text).map(PortRef::Name)
}

/// An address and a port to listen on; `:8080` is every address of both
/// families, as in Go, and `localhost:8080` the loopback of IPv4.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(Ok(port)) = text
        .strip_prefix("localhost:")
        .and_then(digits)
        .map(str::parse)
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if digits(text).is_some() {
        return Err(format!("is a port alone; put a colon before it, :{text}"));
    }
    match text.strip_prefix(':').and_then(digits).map(str::parse) {
        Some(Ok(port)) => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        _ => Err("is not an IP address and a port (names are not looked up)".to_owned()),
    }
}

/// An address to listen on, or `off`.
pub(super) fn admin_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        address => listen(address).map(Some),
    }
}

/// A port of every address of IPv4 to listen on.
pub(super) fn admin_port(text: &str) -> Result<Option<SocketAddr>, String> {
    let port = port(text)?;
    Ok(Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
}

/// A port by its number.
pub(super) fn port(text: &str) -> Result<u16, String> {
    address::port(text).map_err(|_| "is not a port from 1 to 65535".to_owned())
}

/// An address without a port.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        ip => ip
            .parse()
            .map_err(|_| "is not an IP address (names are not looked up)".to_owned()),
    }
}

/// A host to dial, with port 80 unless another flag sets one.
pub(super) fn host(text: &str) -> Result<HostPort, String> {
    let bracketed = match text.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:80"),
        Err(_) => format!("{text}:80"),
    };
    bracketed
        .parse()
        .map_err(|error: address::ParseError| error.to_string())
}

/// A number of retries.
pub(super) fn retries(text: &str) -> Result<u32, String> {
    whole(text)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| "is not a whole number".to_owned())
}

/// A duration in whole milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    whole(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "is not a whole number of milliseconds".to_owned())
}

/// The path of a URL, with its slash.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['?', '#']) {
        return Err("is not the path of a URL".to_owned());
    }
    let slash = if text.starts_with('/') { "" } else { "/" };
    Ok(format!("{slash}{text}"))
}

/// Paths of URLs, with commas between; each begins with a slash.
pub(super) fn url_paths(text: &str) -> Result<Vec<String>, String> {
    let paths = text.split(',').map(str::trim);
    let checked = paths.map(|path| match path.strip_prefix('/') {
        Some(_) => url_path(path),
        None => Err("is not a path that begins with a slash".to_owned()),
    });
    checked.collect()
}

/// A level of Python's `logging`, or the TRACE that traffic-pod-autoscaler adds. Every other
/// text counts as INFO there.
pub(super) fn python_log_level(text: &str) -> String {
    let level = match text.to_ascii_uppercase().as_str() {
        "TRACE" | "DEBUG" => "debug",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "CRITICAL" | "FATAL" => "error",
        _ => "info",
    };
    level.to_owned()
}

/// A filter of env_logger, as far as this build supports its syntax: `level` or
/// `module=level`, separated by commas. env_logger itself would take a misspelt level for the
/// name of a module, and log nothing.
pub(super) fn log(text: &str) -> Result<String, String> {
    for directive in text.split(',') {
        match directive.split_once('=') {
            Some((module, _)) if !is_module(module) => {
                let module = quote(module.as_ref());
                return Err(format!("{module} is not a module's name"));
            }
            Some((_, level)) => check_level(level)?,
            None => check_level(directive)?,
        }
    }
    Ok(text.to_owned())
}

fn is_module(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    !name.is_empty() && name.bytes().all(inner)
}

/// A level of this build. The HTTP client logs the bearer token at `trace`, so that level is
/// compiled out.
fn check_level(level: &str) -> Result<(), String> {
    match level.parse::<LevelFilter>() {
        Ok(LevelFilter::Trace) => {
            Err("trace is not in this build, debug is the most detailed level".to_owned())
        }
        Ok(_) => Ok(()),
        Err(_) => {
            let level = quote(level.as_ref());
            Err(format!(
                "{level} is not one of off, error, warn, info and debug"
            ))
        }
    }
}
