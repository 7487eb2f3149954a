//! The Service of an app that a proxy has taken over: what makes it lead to the app's pods again.

use serde_json::{Map, Value, json};

use super::{LABEL, NAME};

/// The label that tells proxies from one another.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Whether a Service leads to a proxy by the labels that all proxies have. It may also do so by
/// labels of its own app, with another value.
pub fn is_labelled(service: &Value) -> bool {
    let by_label = service["metadata"]["labels"][LABEL] == NAME;
    by_label || service["spec"]["selector"][LABEL] == NAME
}

/// The merge patch that gives `service` the selector and the target ports of `pods`, the Service
/// by which the proxy has found the app's pods. `None` if a port of one is not a port of the other.
pub fn restored(service: &Value, pods: &Value) -> Option<Value> {
    let own = service["spec"]["selector"].as_object()?;
    let mut selector: Map<String, Value> =
        own.keys().map(|key| (key.clone(), Value::Null)).collect();
    let of_pods = pods["spec"]["selector"].as_object()?.clone();
    if of_pods.is_empty() {
        return None;
    }
    selector.extend(of_pods);
    let ports = service["spec"]["ports"].as_array()?;
    let ports: Option<Vec<Value>> = ports.iter().map(|port| with_target(port, pods)).collect();
    let mut patch = json!({ "spec": { "selector": selector, "ports": ports? } });
    if service["metadata"]["labels"][LABEL] == NAME {
        patch["metadata"] = json!({ "labels": { LABEL: null, INSTANCE: null } });
    }
    Some(patch)
}

/// A port with the target of the same port of `pods`: by name, by number, or the only one.
fn with_target(port: &Value, pods: &Value) -> Option<Value> {
    let others = pods["spec"]["ports"].as_array()?;
    let by = |key: &str| {
        let is_same = |other: &&Value| !port[key].is_null() && other[key] == port[key];
        others.iter().find(is_same)
    };
    let only = || others.first().filter(|_| others.len() == 1);
    let other = by("name").or_else(|| by("port")).or_else(only)?;
    let mut port = port.clone();
    port["targetPort"] = match &other["targetPort"] {
        Value::Null => other["port"].clone(),
        target => target.clone(),
    };
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_gets_the_selector_and_the_targets_of_the_pods_and_keeps_the_rest_of_its_ports() {
        let service = json!({
            "metadata": { "labels": { "team": "a", LABEL: NAME, INSTANCE: "a" } },
            "spec": {
                "selector": { LABEL: NAME, INSTANCE: "a", "tier": "x" },
                "ports": [
                    { "name": "http", "port": 80, "targetPort": "proxy", "nodePort": 30000 },
                    { "name": "sql", "port": 5432, "targetPort": 8082 },
                ],
            },
        });
        let pods = json!({ "spec": {
            "selector": { "app": "a", "tier": "web" },
            "ports": [{ "name": "sql", "port": 1 }, { "port": 80, "targetPort": 8000 }],
        } });
        assert!(is_labelled(&service) && !is_labelled(&pods));
        assert_eq!(
            restored(&service, &pods),
            Some(json!({
                "metadata": { "labels": { LABEL: null, INSTANCE: null } },
                "spec": {
                    "selector": { LABEL: null, INSTANCE: null, "app": "a", "tier": "web" },
                    "ports": [
                        { "name": "http", "port": 80, "targetPort": 8000, "nodePort": 30000 },
                        { "name": "sql", "port": 5432, "targetPort": 1 },
                    ],
                },
            }))
        );
    }

    #[test]
    fn where_it_is_not_clear_which_port_is_meant_nothing_is_restored() {
        let service = json!({ "spec": { "selector": { LABEL: NAME }, "ports": [{ "port": 80 }] } });
        let with = |pods: Value| restored(&service, &json!({ "spec": pods }));
        let two = json!([{ "port": 1 }, { "port": 2 }]);
        assert_eq!(
            with(json!({ "selector": { "app": "a" }, "ports": two })),
            None
        );
        assert_eq!(with(json!({ "ports": [{ "port": 80 }] })), None);
        assert_eq!(
            with(json!({ "selector": {}, "ports": [{ "port": 80 }] })),
            None
        );
        let only = json!({ "selector": { "app": "a" }, "ports": [{ "port": 1 }] });
        assert!(with(only).is_some());
    }
}
