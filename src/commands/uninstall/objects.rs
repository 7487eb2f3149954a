//! The objects of a proxy.

use serde_json::Value;

use super::plan::Found;
use super::{LABEL, NAME};
use crate::kube::inspect::{Fault, Inspector, segment};

/// The kinds: plural, path of the API, and name for people. The pods go first: they keep their
/// permissions until they have drained.
pub const KINDS: [(&str, &str, &str); 10] = [
    ("deployments", "/apis/apps/v1", "Deployment"),
    (
        "tcproutes",
        "/apis/gateway.networking.k8s.io/v1alpha2",
        "TCPRoute",
    ),
    ("services", "/api/v1", "Service"),
    (
        "poddisruptionbudgets",
        "/apis/policy/v1",
        "PodDisruptionBudget",
    ),
    (
        "networkpolicies",
        "/apis/networking.k8s.io/v1",
        "NetworkPolicy",
    ),
    ("podmonitors", MONITORING, "PodMonitor"),
    ("prometheusrules", MONITORING, "PrometheusRule"),
    ("rolebindings", RBAC, "RoleBinding"),
    ("roles", RBAC, "Role"),
    ("serviceaccounts", "/api/v1", "ServiceAccount"),
];

/// Those of a proxy for all namespaces that are in none.
const CLUSTER_KINDS: [(&str, &str, &str); 2] = [
    ("clusterrolebindings", RBAC, "ClusterRoleBinding"),
    ("clusterroles", RBAC, "ClusterRole"),
];

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const MONITORING: &str = "/apis/monitoring.coreos.com/v1";

/// The objects of a proxy with that name.
///
/// # Errors
/// Why they cannot be read.
pub fn objects(inspector: &Inspector, namespace: &str, name: &str) -> Result<Vec<Found>, Fault> {
    let within = format!("/namespaces/{}", segment(namespace));
    let of_namespace = KINDS.iter().map(|kind| (kind, &*within));
    let of_cluster = CLUSTER_KINDS.iter().map(|kind| (kind, ""));
    let mut found = Vec::new();
    for ((plural, version, kind), within) in of_namespace.chain(of_cluster) {
        let path = format!("{version}{within}/{plural}/{}", segment(name));
        let object = match inspector.get(&path) {
            Err(Fault::NotFound) => continue,
            // Of the cluster only a proxy for all namespaces has any.
            Err(Fault::Refused(_)) if within.is_empty() => continue,
            object => object?,
        };
        if object["metadata"]["labels"][LABEL] == NAME {
            found.push(Found {
                plural,
                kind,
                namespace: (!within.is_empty()).then(|| namespace.to_owned()),
                name: name.to_owned(),
                path,
                release: release(&object),
            });
        }
    }
    Ok(found)
}

/// The release of Helm that an object is of.
fn release(object: &Value) -> Option<String> {
    let name = &object["metadata"]["annotations"]["meta.helm.sh/release-name"];
    name.as_str().map(str::to_owned)
}

/// The place of a kind in the order of deletion.
pub fn place(plural: &str) -> usize {
    let place = KINDS.iter().position(|(known, ..)| *known == plural);
    place.unwrap_or(KINDS.len())
}
