//! The objects of the cluster directly after their manifests were applied.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::controller::PodTrouble;
use super::store::{Resource, timestamp};

/// The name of the first port, which is usually the only one, in the Service and in the
/// slices.
pub const PORT_NAME: &str = "http";

/// The number of that port in the Service (the pods' own differs).
pub const SERVICE_PORT: u16 = 80;

/// The annotation with which the endpoint controllers say what set them off.
pub const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A Deployment with everything that the API server fills in by itself.
pub fn deployment(name: &str, replicas: u32, port: u16) -> Value {
    let now = timestamp();
    json!({
        "metadata": {
            "name": name,
            "generation": 1,
            "labels": { "app": name },
            "annotations": {
                "deployment.kubernetes.io/revision": "1",
                "kubectl.kubernetes.io/last-applied-configuration": manifest("Deployment", name, port),
            },
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": template(name, port),
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxUnavailable": "25%", "maxSurge": "25%" },
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
        "status": {
            "observedGeneration": 1,
            "terminatingReplicas": 0,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True",
                    "lastUpdateTime": now,
                    "lastTransitionTime": now,
                    "reason": "MinimumReplicasAvailable",
                    "message": "Deployment has minimum availability.",
                },
                {
                    "type": "Progressing",
                    "status": "True",
                    "lastUpdateTime": now,
                    "lastTransitionTime": now,
                    "reason": "NewReplicaSetAvailable",
                    "message": format!(
                        "ReplicaSet \"{}\" has successfully progressed.",
                        replica_set(name)
                    ),
                },
            ],
        },
    })
}

/// The labels of an object's pods.
pub fn labels(owner: &str) -> Value {
    json!({ "app": owner })
}

/// The name of the only ReplicaSet of a Deployment or of a Rollout.
pub fn replica_set(owner: &str) -> String {
    format!("{owner}-{}", revision_hash())
}

/// What tells the only ReplicaSet from others that an owner might have.
pub fn revision_hash() -> &'static str {
    "74c87c966b"
}

/// The template of the pods.
pub fn template(name: &str, port: u16) -> Value {
    json!({
        "metadata": { "labels": { "app": name } },
        "spec": {
            "containers": [{
                "name": "web",
                "image": "test/echo",
                "ports": [{ "name": PORT_NAME, "containerPort": port, "protocol": "TCP" }],
                "resources": {},
                "readinessProbe": {
                    "tcpSocket": { "port": port },
                    "timeoutSeconds": 1,
                    "periodSeconds": 1,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 5,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
    })
}

/// A pod as the API server has it, with what its kubelet and the scheduler have written.
pub fn pod(name: &str, labels: &Value, ready: bool, trouble: Option<&PodTrouble>) -> Value {
    let is_scheduled = !matches!(trouble, Some(PodTrouble::Unschedulable(_)));
    let condition = |kind: &str, is_true: bool| {
        let status = if is_true { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": timestamp() })
    };
    let mut scheduled = condition("PodScheduled", is_scheduled);
    if let Some(PodTrouble::Unschedulable(message)) = trouble {
        scheduled["reason"] = "Unschedulable".into();
        scheduled["message"] = (*message).into();
    }
    let mut container = json!({
        "name": "web",
        "image": "test/echo",
        "imageID": "",
        "ready": ready,
        "started": true,
        "restartCount": 0,
        "state": { "running": { "startedAt": timestamp() } },
        "lastState": {},
    });
    if let Some(PodTrouble::Waiting(reason, message, restarts)) = trouble {
        container["started"] = false.into();
        container["restartCount"] = (*restarts).into();
        container["state"] = json!({ "waiting": { "reason": reason, "message": message } });
        if *restarts > 0 {
            container["lastState"] = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        }
    }
    let is_running = container["state"]["running"].is_object() && is_scheduled;
    let containers = if is_scheduled {
        json!([container])
    } else {
        Value::Null
    };
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "containers": [{ "name": "web", "image": "test/echo" }] },
        "status": {
            "phase": if is_running { "Running" } else { "Pending" },
            "conditions": [condition("Ready", ready), scheduled],
            "containerStatuses": containers,
        },
    })
}

/// What the kubelet says of a probe that fails.
pub fn unhealthy(pod: &str, uid: &str, message: &str) -> Value {
    json!({
        "metadata": { "generateName": format!("{pod}.") },
        "involvedObject": { "kind": "Pod", "name": pod, "uid": uid },
        "reason": "Unhealthy",
        "message": message,
        "source": { "component": "kubelet" },
        "firstTimestamp": timestamp(),
        "lastTimestamp": timestamp(),
        "count": 1,
        "type": "Warning",
        "eventTime": null,
        "reportingComponent": "kubelet",
    })
}

/// What `kubectl apply` leaves behind.
pub fn manifest(kind: &str, name: &str, port: u16) -> String {
    let manifest = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "annotations": {}, "labels": { "app": name }, "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "containers": [{
                        "image": "test/echo",
                        "name": "web",
                        "ports": [{ "containerPort": port, "name": PORT_NAME }],
                        "readinessProbe": { "periodSeconds": 1, "tcpSocket": { "port": port } },
                    }],
                    "terminationGracePeriodSeconds": 5,
                },
            },
        },
    });
    format!("{manifest}\n")
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub struct ServicePort {
    pub name: &'static str,
    /// Its number in the Service,
    pub number: u16,
    /// and in the pods.
    pub target: u16,
}

/// A ClusterIP Service with these ports.
pub fn service(name: &str, pods: Value, cluster_ip: Ipv4Addr, ports: &[ServicePort]) -> Value {
    let port = |port: &ServicePort| {
        json!({
            "name": port.name,
            "protocol": "TCP",
            "port": port.number,
            "targetPort": port.target,
        })
    };
    let ports: Vec<Value> = ports.iter().map(port).collect();
    json!({
        "metadata": { "name": name },
        "spec": {
            "ports": ports,
            "selector": pods,
            "clusterIP": cluster_ip.to_string(),
            "clusterIPs": [cluster_ip.to_string()],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": { "loadBalancer": {} },
    })
}

/// The `v1` Endpoints of a Service, still empty.
pub fn endpoints(service: &str) -> Value {
    json!({
        "metadata": {
            "name": service,
            "labels": { "endpoints.kubernetes.io/managed-by": "endpoint-controller" },
            "annotations": { TRIGGER: timestamp() },
        },
    })
}

/// An EndpointSlice of a Service, still empty. Without a name it gets one as
/// the endpoint slice controller gives it.
pub fn slice(service: &str, service_uid: &Value, name: Option<&str>, family: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "generateName": format!("{service}-"),
            "generation": 1,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
            },
            "annotations": { TRIGGER: timestamp() },
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Service",
                "name": service,
                "uid": service_uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "addressType": family,
        "endpoints": null,
        "ports": null,
    })
}

/// One line of a watch.
pub fn event(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// The object of a BOOKMARK event: empty but for its version.
pub fn bookmark(resource: Resource, version: u64) -> Value {
    let mut object = json!({
        "kind": resource.kind(),
        "apiVersion": resource.api_version(),
        "metadata": { "resourceVersion": version.to_string() },
    });
    match resource {
        Resource::EndpointSlices => {
            object["addressType"] = "".into();
            object["endpoints"] = Value::Null;
            object["ports"] = Value::Null;
        }
        Resource::Deployments => {
            object["spec"] = json!({
                "replicas": 0,
                "selector": null,
                "template": { "metadata": {}, "spec": { "containers": null } },
                "strategy": {},
            });
            object["status"] = json!({});
        }
        _ => {}
    }
    object
}
