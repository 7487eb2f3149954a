//! The objects of the Kubernetes API, with the fields that this program reads.
//!
//! They are as tolerant as the API: a list may be `null` or absent, and a field that is not
//! read may have any value. They are typed because a tree of JSON values takes ten times as
//! long to parse.

use serde::Deserialize;

use super::text::printable;

/// `metadata` of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) resource_version: String,
}

/// A `Status`: the body of a reply with an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: Option<String>,
    pub(super) code: Option<u16>,
}

impl Status {
    /// The code and the message of the server, in printable characters.
    pub(super) fn explanation(&self) -> String {
        let code = self.code.unwrap_or(0);
        match self.message.as_deref() {
            Some(message) if !message.is_empty() => format!("{code} {}", printable(message)),
            _ => format!("status {code}"),
        }
    }
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    /// The token of the next page; empty after the last one.
    pub(super) r#continue: String,
}

/// A list of objects, or one page of it.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) metadata: ListMetadata,
    pub(super) items: Option<Vec<T>>,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    pub(super) metadata: SliceMetadata,
    #[serde(default)]
    pub(super) address_type: String,
    pub(super) endpoints: Option<Vec<Endpoint>>,
    pub(super) ports: Option<Vec<EndpointPort>>,
}

/// `metadata` of a slice.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SliceMetadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) resource_version: String,
    pub(super) labels: Option<SliceLabels>,
}

/// The labels of a slice.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SliceLabels {
    /// The Service whose endpoints it has.
    #[serde(rename = "kubernetes.io/service-name")]
    pub(super) service_name: Option<String>,
}

/// One endpoint of a slice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) addresses: Option<Vec<String>>,
    pub(super) conditions: Option<Conditions>,
    pub(super) target_ref: Option<TargetRef>,
    pub(super) hints: Option<Hints>,
}

/// The hints of an endpoint: for which clients it is meant.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hints {
    pub(super) for_zones: Option<Vec<Named>>,
    pub(super) for_nodes: Option<Vec<Named>>,
}

/// A zone or a node.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// The conditions of an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Conditions {
    /// Absent means true, by the API's own definition.
    pub(super) ready: Option<bool>,
    /// The pod's own readiness. Absent means the value of `ready`.
    pub(super) serving: Option<bool>,
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
/// "all ports"; there is nothing to dial then. Nor is there with a number that is no port: the
/// API server does not check that of a slice (`validatePorts` in `discovery/validation`).
#[derive(Debug, Deserialize)]
pub(super) struct EndpointPort {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) port: Option<i64>,
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
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) spec: ServiceSpec,
}

/// The spec of a Service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    /// `None` (the word) for a headless Service.
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    /// `IPv4`, `IPv6` or both, that of `clusterIP` first.
    pub(super) ip_families: Option<Vec<String>>,
    pub(super) ports: Option<Vec<ServicePort>>,
    /// `ClientIP` or `None` (the word).
    pub(super) session_affinity: Option<String>,
    pub(super) session_affinity_config: Option<SessionAffinityConfig>,
}

/// The configuration of a Service's session affinity.
#[derive(Debug, Deserialize)]
pub(super) struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    pub(super) client_ip: Option<ClientIpConfig>,
}

/// The same for `ClientIP`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientIpConfig {
    pub(super) timeout_seconds: Option<i64>,
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
