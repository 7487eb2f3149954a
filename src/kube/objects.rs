//! The objects of the Kubernetes API, as far as this program reads them.
//!
//! Tolerant where the API is: a list may be `null` or absent, a field that is
//! not needed may hold anything. Typed, because a tree of JSON values costs ten
//! times the time.

use serde::Deserialize;

use super::text::printable;
use crate::cluster::{ResourceVersion, Scale};

/// `metadata`, of an object or of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) resource_version: String,
}

#[derive(Debug, Deserialize)]
struct ScaleObject {
    kind: String,
    metadata: Metadata,
    spec: Option<ScaleSpec>,
}

#[derive(Debug, Deserialize)]
struct ScaleSpec {
    replicas: Option<u32>,
}

/// The Scale in the body of a reply, if that is what it is. A Scale of zero
/// has no `spec.replicas` at all.
pub(super) fn scale(body: &[u8]) -> Option<Scale> {
    let object: ScaleObject = serde_json::from_slice(body).ok()?;
    let version = object.metadata.resource_version;
    if object.kind != "Scale" || version.is_empty() {
        return None;
    }
    Some(Scale {
        replicas: object.spec.and_then(|spec| spec.replicas).unwrap_or(0),
        version: ResourceVersion(version),
    })
}

/// A `Status`: what the API server says when it does not do what was asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: Option<String>,
    pub(super) code: Option<u16>,
}

impl Status {
    /// The code and the server's own words, fit for a log.
    pub(super) fn explanation(&self) -> String {
        let code = self.code.unwrap_or(0);
        match self.message.as_deref() {
            Some(message) if !message.is_empty() => format!("{code} {}", printable(message)),
            _ => format!("status {code}"),
        }
    }
}

/// A list of objects.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) metadata: Metadata,
    pub(super) items: Option<Vec<T>>,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(super) enum WatchEvent<T> {
    Added(T),
    Modified(T),
    Deleted(T),
    Bookmark(Bookmark),
    Error(Status),
}

/// What a BOOKMARK carries: how far the watch has got.
#[derive(Debug, Deserialize)]
pub(super) struct Bookmark {
    pub(super) metadata: Metadata,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) address_type: String,
    pub(super) endpoints: Option<Vec<Endpoint>>,
    pub(super) ports: Option<Vec<EndpointPort>>,
}

/// One endpoint of a slice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) addresses: Option<Vec<String>>,
    pub(super) conditions: Option<Conditions>,
    pub(super) target_ref: Option<TargetRef>,
}

/// The conditions of an endpoint.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Conditions {
    /// Absent means true, by the API's own definition.
    pub(super) ready: Option<bool>,
    /// Absent means false.
    pub(super) terminating: Option<bool>,
}

/// The pod behind an endpoint.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TargetRef {
    #[serde(default)]
    pub(super) uid: String,
}

/// A port of a slice or of a subset. A slice's port may be null, which means
/// "all ports"; there is nothing to dial then.
#[derive(Debug, Deserialize)]
pub(super) struct EndpointPort {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) port: Option<u16>,
}

/// `v1` Endpoints, deprecated since 1.33 and still there.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoints {
    pub(super) metadata: Metadata,
    pub(super) subsets: Option<Vec<Subset>>,
}

/// Addresses that share their ports.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subset {
    pub(super) addresses: Option<Vec<EndpointAddress>>,
    pub(super) not_ready_addresses: Option<Vec<EndpointAddress>>,
    pub(super) ports: Option<Vec<EndpointPort>>,
}

/// An address of a subset.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointAddress {
    pub(super) ip: String,
    pub(super) target_ref: Option<TargetRef>,
}

/// `v1` Service.
#[derive(Debug, Deserialize)]
pub(super) struct Service {
    pub(super) spec: ServiceSpec,
}

/// The spec of a Service.
#[derive(Debug, Deserialize)]
pub(super) struct ServiceSpec {
    /// `None` (the word) for a headless Service.
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    pub(super) ports: Option<Vec<ServicePort>>,
}

/// A port of a Service.
#[derive(Debug, Deserialize)]
pub(super) struct ServicePort {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) port: u16,
}

/// Whether a port's `protocol`, where absent means TCP, is TCP.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

#[cfg(test)]
mod tests {
    use super::super::testing::recorded_body;
    use super::*;

    #[test]
    fn a_scale_of_zero_has_no_replicas_and_is_zero() {
        let scale = scale(&recorded_body("02-scale-get-zero")).unwrap();
        assert_eq!((scale.replicas, scale.version.0.as_str()), (0, "10295"));
    }

    #[test]
    fn a_scale_shows_its_replicas_and_version() {
        let scale = scale(&recorded_body("10-scale-patch-to-one")).unwrap();
        assert_eq!((scale.replicas, scale.version.0.as_str()), (1, "10299"));
    }

    #[test]
    fn what_is_not_a_scale_is_none() {
        assert_eq!(scale(&recorded_body("25-not-found")), None, "a Status");
        for body in [
            "",
            "null",
            "{}",
            r#"{"kind":"Scale","metadata":{}}"#,
            r#"{"kind":"Scale","metadata":{"resourceVersion":"1"},"spec":{"replicas":-1}}"#,
        ] {
            assert_eq!(scale(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn an_error_event_carries_its_code() {
        let line = recorded_body("20-slices-watch-too-old");
        let event: WatchEvent<EndpointSlice> = serde_json::from_slice(&line).unwrap();
        assert!(matches!(
            event,
            WatchEvent::Error(Status {
                code: Some(410),
                ..
            })
        ));
    }
}
