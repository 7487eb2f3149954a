//! [`target_status`] reads the status of the scale target: how many pods are ready, and why
//! pods are missing.

use serde::Deserialize;
use serde_json::Value;

use super::text::printable;
use crate::cluster::{Rollout, TargetStatus};

/// The most messages that are kept.
const MESSAGES: usize = 3;

#[derive(Debug, Deserialize)]
struct Object {
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
    generation: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Spec {
    replicas: Option<u32>,
    #[serde(default)]
    selector: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    ready_replicas: Option<u32>,
    replicas: Option<u32>,
    updated_replicas: Option<u32>,
    terminating_replicas: Option<u32>,
    observed_generation: Option<u64>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

impl Condition {
    /// Whether the API server refuses to create pods: for a quota, or a policy of the namespace.
    fn is_refused(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        self.r#type == "ReplicaFailure" && message.contains(" is forbidden: ")
    }

    /// Whether it explains missing pods. `Available` only states that they are missing.
    fn is_trouble(&self) -> bool {
        let (status, reason) = (self.status.as_deref(), self.reason.as_deref());
        match self.r#type.as_str() {
            "ReplicaFailure" => status == Some("True"),
            "Progressing" => status == Some("False") && reason == Some("ProgressDeadlineExceeded"),
            _ => false,
        }
    }
}

/// A `metav1.LabelSelector` as the query of a list has it.
fn selector(given: &Value) -> String {
    let labels = given["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let expressions = given["matchExpressions"].as_array().into_iter().flatten();
    let parts: Vec<String> = labels.chain(expressions.filter_map(expression)).collect();
    parts.join(",")
}

fn expression(given: &Value) -> Option<String> {
    let key = given["key"].as_str()?;
    let values = given["values"].as_array().into_iter().flatten();
    let values: Vec<&str> = values.filter_map(Value::as_str).collect();
    let values = values.join(",");
    match given["operator"].as_str()? {
        "In" => Some(format!("{key} in ({values})")),
        "NotIn" => Some(format!("{key} notin ({values})")),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

/// The status of the object in `body`, if it has `spec.replicas`.
pub(super) fn target_status(body: &[u8]) -> Option<TargetStatus> {
    shown(serde_json::from_slice(body).ok()?)
}

/// The same of an object that was parsed already.
pub(super) fn target_status_of(object: &Value) -> Option<TargetStatus> {
    shown(Object::deserialize(object).ok()?)
}

fn shown(object: Object) -> Option<TargetStatus> {
    if object.kind == "Scale" {
        return None;
    }
    let mut status = object.status.unwrap_or_default();
    let conditions = status.conditions.take().into_iter().flatten();
    let troubles: Vec<Condition> = conditions.filter(Condition::is_trouble).collect();
    // Of all pods, those that end included: until they have ended they may use the quota.
    let pods = [status.replicas, status.terminating_replicas];
    let has_none = pods.into_iter().flatten().all(|count| count == 0);
    let generation = object.metadata.generation;
    let is_current = generation.is_none() || generation == status.observed_generation;
    let is_refused = troubles.iter().any(Condition::is_refused);
    let is_creation_refused = is_refused && has_none && is_current;
    let has_stalled = troubles.iter().any(|it| it.r#type == "Progressing");
    let rollout = rollout(&object.kind, &status, has_stalled);
    let messages = troubles
        .into_iter()
        .filter_map(|condition| condition.message);
    let spec = object.spec?;
    Some(TargetStatus {
        kind: printable(&object.kind),
        uid: object.metadata.uid,
        ready: status.ready_replicas.unwrap_or(0),
        wanted: spec.replicas?,
        generation,
        is_creation_refused,
        selector: selector(&spec.selector),
        rollout,
        condition_messages: messages.take(MESSAGES).map(|it| printable(&it)).collect(),
    })
}

/// The rollout in progress: pods of an older template are left, and the deadline for progress has
/// not passed. Other kinds than these have no `status.updatedReplicas`; those that have it leave
/// it out where it is 0.
fn rollout(kind: &str, status: &Status, has_stalled: bool) -> Option<Rollout> {
    let knows_updated = matches!(kind, "Deployment" | "StatefulSet" | "Rollout");
    let (pods, updated) = (status.replicas?, status.updated_replicas.unwrap_or(0));
    let is_in_progress = knows_updated && pods > updated && !has_stalled;
    is_in_progress.then_some(Rollout { updated, pods })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::recorded_body;
    use super::*;

    #[test]
    fn recordings_show_how_many_pods_are_ready_and_what_stands_in_the_way() {
        let quota = "pods \"myapp-74c87c966b-dtkln\" is forbidden: exceeded quota: none, \
                     requested: pods=1, used: pods=0, limited: pods=0";
        for (name, kind, uid, selector, ready, wanted, trouble) in [
            (
                "03-deployment-get-zero",
                "Deployment",
                "8358a01d-272d-44fd-bb84-3bd1045b3152",
                "app=myapp",
                0,
                0,
                &[][..],
            ),
            (
                "61-deployment-get-replica-failure",
                "Deployment",
                "9e7d1229-ab7c-4bd3-9c7c-32a1e6d605eb",
                "app=myapp",
                0,
                1,
                &[quota],
            ),
            (
                "48-statefulset-status-patch-condition",
                "StatefulSet",
                "e48b4fbd-e17e-42c6-a988-3d11e30ca0c9",
                "app=db",
                1,
                1,
                &[],
            ),
            (
                "57-custom-annotation-merge-patch",
                "Rollout",
                "8cc0a9d5-855b-451b-b417-200965ff57d3",
                "",
                0,
                0,
                &[],
            ),
        ] {
            let body = recorded_body(name);
            let object: Value = serde_json::from_slice(&body).unwrap();
            let generation = object["metadata"]["generation"].as_u64();
            assert!(generation.is_some(), "{name}");
            let expected = TargetStatus {
                generation,
                kind: kind.to_owned(),
                uid: uid.to_owned(),
                ready,
                wanted,
                condition_messages: trouble.iter().map(|it| (*it).to_owned()).collect(),
                is_creation_refused: !trouble.is_empty(),
                selector: selector.to_owned(),
                rollout: None,
            };
            assert_eq!(target_status(&body), Some(expected), "{name}");
        }
        for name in ["02-scale-get-zero", "25-not-found", "05-slices-list-empty"] {
            assert_eq!(target_status(&recorded_body(name)), None, "{name}");
        }
    }

    #[test]
    fn pods_are_refused_only_if_there_is_none_and_the_status_is_of_this_scale() {
        let refused = |status: Value| {
            let mut body = json!({
                "kind": "Deployment",
                "metadata": { "generation": 3 },
                "spec": { "replicas": 3 },
                "status": { "observedGeneration": 3, "conditions": [{
                    "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                    "message": "pods \"a\" is forbidden: exceeded quota",
                }] },
            });
            for (key, value) in status.as_object().unwrap() {
                body["status"][key] = value.clone();
            }
            target_status_of(&body).unwrap().is_creation_refused
        };
        for (status, expected) in [
            (json!({}), true),
            (json!({ "replicas": 0, "terminatingReplicas": 0 }), true),
            (json!({ "replicas": 1 }), false),
            (json!({ "terminatingReplicas": 1 }), false),
            (json!({ "observedGeneration": 2 }), false),
        ] {
            assert_eq!(refused(status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn a_selector_is_written_as_a_list_takes_it() {
        let given = json!({
            "matchLabels": { "app": "a", "tier": "web" },
            "matchExpressions": [
                { "key": "env", "operator": "In", "values": ["x", "y"] },
                { "key": "env", "operator": "NotIn", "values": ["z"] },
                { "key": "b", "operator": "Exists" },
                { "key": "c", "operator": "DoesNotExist" },
                { "key": "d", "operator": "Unknown" },
            ],
        });
        let written = "app=a,tier=web,env in (x,y),env notin (z),b,!c";
        assert_eq!(selector(&given), written);
        for nothing in [Value::Null, json!({}), json!({ "matchLabels": 7 })] {
            assert_eq!(selector(&nothing), "");
        }
    }

    #[test]
    fn only_what_says_why_pods_are_missing_is_trouble() {
        let condition = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason, "message": "a\nb" });
        for (label, condition, is_trouble) in [
            (
                "a quota",
                condition("ReplicaFailure", "True", "FailedCreate"),
                true,
            ),
            (
                "over",
                condition("ReplicaFailure", "False", "FailedCreate"),
                false,
            ),
            (
                "a deadline",
                condition("Progressing", "False", "ProgressDeadlineExceeded"),
                true,
            ),
            (
                "paused",
                condition("Progressing", "Unknown", "DeploymentPaused"),
                false,
            ),
            (
                "a consequence",
                condition("Available", "False", "Minimum"),
                false,
            ),
        ] {
            let body = json!({
                "kind": "Deployment",
                "spec": { "replicas": 2 },
                "status": { "conditions": [condition] },
            });
            let shown = target_status(body.to_string().as_bytes()).unwrap();
            let expected: &[&str] = if is_trouble { &["a\\nb"] } else { &[] };
            assert_eq!(shown.condition_messages, expected, "{label}");
        }
    }

    #[test]
    fn pods_of_an_older_template_are_a_rollout_until_its_deadline_has_passed() {
        let stalled = json!([{ "type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "timed out" }]);
        let half = Some(Rollout {
            updated: 1,
            pods: 3,
        });
        let none = Some(Rollout {
            updated: 0,
            pods: 3,
        });
        for (kind, status, expected) in [
            (
                "Deployment",
                json!({ "replicas": 3, "updatedReplicas": 1 }),
                half,
            ),
            (
                "StatefulSet",
                json!({ "replicas": 3, "updatedReplicas": 1 }),
                half,
            ),
            ("Deployment", json!({ "replicas": 3 }), none),
            (
                "Deployment",
                json!({ "replicas": 3, "updatedReplicas": 3 }),
                None,
            ),
            ("Deployment", json!({}), None),
            (
                "Deployment",
                json!({ "replicas": 3, "updatedReplicas": 1, "conditions": stalled }),
                None,
            ),
            ("ReplicaSet", json!({ "replicas": 3 }), None),
        ] {
            let body = json!({ "kind": kind, "spec": { "replicas": 3 }, "status": status });
            let shown = target_status(body.to_string().as_bytes()).unwrap();
            assert_eq!(shown.rollout, expected, "{body}");
        }
    }
}
