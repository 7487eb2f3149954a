//! The kinds of object that have pods: their manifests, and the fields that their controllers
//! write.

use serde_json::{Value, json};

use super::objects::{self, revision_hash, template};
use super::store::{Resource, Store, text, timestamp};

/// Which kind of object makes the pods of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Deployment,
    StatefulSet,
    /// A custom kind with a controller of its own.
    Rollout,
}

/// How many pods there are, as a controller counts them.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub desired: u64,
    /// Not terminating.
    pub alive: u64,
    /// Of them, ready.
    pub available: u64,
    /// Terminating, and not gone.
    pub terminating: u64,
    /// Whether a quota stands in the way of new ones.
    pub quota_exceeded: bool,
    /// Of those that are not terminating, of an older template.
    pub outdated: u64,
}

impl Workload {
    /// The resource of the object that is scaled.
    pub const fn resource(self) -> Resource {
        match self {
            Workload::Deployment => Resource::Deployments,
            Workload::StatefulSet => Resource::StatefulSets,
            Workload::Rollout => Resource::Rollouts,
        }
    }

    /// Whether its pods belong to a ReplicaSet, which belongs to it.
    const fn has_replica_set(self) -> bool {
        !matches!(self, Workload::StatefulSet)
    }

    /// Applies the manifest.
    pub fn create(self, store: &mut Store, name: &str, replicas: u32, port: u16) {
        let object = match self {
            Workload::Deployment => objects::deployment(name, replicas, port),
            Workload::StatefulSet => stateful_set(name, replicas, port),
            Workload::Rollout => rollout(name, replicas, port),
        };
        let Some(owner) = store.create(self.resource(), object) else {
            return;
        };
        if self.has_replica_set() {
            store.delete(Resource::ReplicaSets, &objects::replica_set(name));
            store.create(Resource::ReplicaSets, replica_set(&owner, replicas, port));
        }
    }

    /// Deletes the object; the garbage collector takes its ReplicaSet too.
    pub fn delete(self, store: &mut Store, name: &str) {
        store.delete(self.resource(), name);
        store.delete(Resource::ReplicaSets, &objects::replica_set(name));
    }

    /// The controller's first write after a change of the spec: it has seen the
    /// generation, and a Deployment's says if too few pods are available.
    pub fn observe(self, store: &mut Store, name: &str, counts: Counts) {
        if self != Workload::Deployment {
            return;
        }
        store.update(Resource::Deployments, name, |object| {
            let generation = object["metadata"]["generation"].clone();
            if object["status"]["observedGeneration"] != generation {
                object["status"]["observedGeneration"] = generation;
                let enough = counts.available >= counts.desired;
                set_available(&mut object["status"]["conditions"], enough);
            }
        });
    }

    /// The write that comes while a new pod is still being scheduled.
    pub fn report_unavailable(self, store: &mut Store, name: &str, counts: Counts) {
        if self != Workload::Deployment {
            return;
        }
        let unavailable = counts.desired.saturating_sub(counts.available);
        store.update(Resource::Deployments, name, |object| {
            set_count(&mut object["status"], "unavailableReplicas", unavailable);
        });
    }

    /// The controller's write of all counts.
    pub fn report(self, store: &mut Store, name: &str, counts: Counts) {
        store.update(self.resource(), name, |object| match self {
            Workload::Deployment => report_of_deployment(object, counts),
            Workload::StatefulSet => report_of_stateful_set(object, counts),
            Workload::Rollout => report_of_rollout(object, counts),
        });
        if self.has_replica_set() {
            let owner = store.get(self.resource(), name).cloned();
            let replica_set = objects::replica_set(name);
            store.update(Resource::ReplicaSets, &replica_set, |set| {
                scale_replica_set(set, owner.as_deref(), counts.desired);
            });
            store.update(Resource::ReplicaSets, &replica_set, |set| {
                report_of_replica_set(set, counts);
            });
        }
    }
}

fn stateful_set(name: &str, replicas: u32, port: u16) -> Value {
    let revision = format!("{name}-5b84b969f4");
    let mut template = template(name, port);
    let spec = &mut template["spec"];
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec["containers"][0]["name"] = "c".into();
    if let Some(container) = spec["containers"][0].as_object_mut() {
        container.remove("ports");
        container.remove("readinessProbe");
    }
    json!({
        "metadata": {
            "name": name,
            "generation": 1,
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration":
                    objects::manifest("StatefulSet", name, port),
            },
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "serviceName": name,
            "template": template,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
            "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
        },
        "status": {
            "observedGeneration": 1,
            "replicas": 0,
            "currentRevision": revision,
            "updateRevision": revision,
            "collisionCount": 0,
            "availableReplicas": 0,
        },
    })
}

fn rollout(name: &str, replicas: u32, port: u16) -> Value {
    json!({
        "metadata": { "name": name, "generation": 1, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": template(name, port),
        },
    })
}

/// The ReplicaSet of `owner` (recording 47).
fn replica_set(owner: &Value, replicas: u32, port: u16) -> Value {
    let meta = &owner["metadata"];
    let name = text(&meta["name"]);
    let labels = json!({ "app": name, "pod-template-hash": revision_hash() });
    let mut template = template(name, port);
    template["metadata"]["labels"] = labels.clone();
    json!({
        "metadata": {
            "name": objects::replica_set(name),
            "generation": 1,
            "labels": labels,
            "annotations": {},
            "ownerReferences": [{
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": name,
                "uid": meta["uid"],
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": template,
        },
        "status": { "replicas": 0, "observedGeneration": 1 },
    })
}

fn report_of_deployment(object: &mut Value, counts: Counts) {
    let status = &mut object["status"];
    let Counts {
        desired,
        alive,
        available,
        terminating,
        quota_exceeded,
        outdated,
    } = counts;
    set_count(status, "replicas", alive);
    set_count(status, "updatedReplicas", alive - outdated);
    set_count(status, "readyReplicas", available);
    set_count(status, "availableReplicas", available);
    let unavailable = desired.saturating_sub(available);
    set_count(status, "unavailableReplicas", unavailable);
    status["terminatingReplicas"] = terminating.into();
    set_available(&mut status["conditions"], available >= desired);
    let fails = quota_exceeded && alive < desired;
    let name = text(&object["metadata"]["name"]).to_owned();
    set_failure(&mut object["status"]["conditions"], &name, fails);
}

/// The condition of a Deployment whose pods cannot be created, as long as that is so
/// (recording 61).
fn set_failure(conditions: &mut Value, name: &str, fails: bool) {
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let there = conditions
        .iter()
        .position(|c| c["type"] == "ReplicaFailure");
    match (there, fails) {
        (Some(place), false) => drop(conditions.remove(place)),
        (None, true) => {
            let (now, replica_set) = (timestamp(), objects::replica_set(name));
            conditions.push(json!({
                "type": "ReplicaFailure",
                "status": "True",
                "lastUpdateTime": now,
                "lastTransitionTime": now,
                "reason": "FailedCreate",
                "message": format!(
                    "pods \"{replica_set}-dtkln\" is forbidden: exceeded quota: none, requested: \
                     pods=1, used: pods=0, limited: pods=0"
                ),
            }));
        }
        _ => {}
    }
}

/// The StatefulSet controller computes the whole status anew, and writes it if a
/// count or the generation has changed: conditions of others are lost then
/// (recordings 48 to 50).
fn report_of_stateful_set(object: &mut Value, counts: Counts) {
    let old = &object["status"];
    let mut new = json!({
        "observedGeneration": object["metadata"]["generation"],
        "replicas": counts.alive,
        "currentRevision": old["currentRevision"],
        "updateRevision": old["updateRevision"],
        "collisionCount": 0,
        "availableReplicas": counts.available,
    });
    set_count(&mut new, "readyReplicas", counts.available);
    set_count(&mut new, "currentReplicas", counts.alive);
    set_count(&mut new, "updatedReplicas", counts.alive);
    let mut unconditioned = old.clone();
    if let Some(fields) = unconditioned.as_object_mut() {
        fields.remove("conditions");
    }
    if new != unconditioned {
        object["status"] = new;
    }
}

/// As Argo's controller does, which keeps the generation as a text.
fn report_of_rollout(object: &mut Value, counts: Counts) {
    let generation = object["metadata"]["generation"].to_string();
    let status = &mut object["status"];
    status["observedGeneration"] = generation.into();
    set_count(status, "replicas", counts.alive);
    set_count(status, "updatedReplicas", counts.alive);
    set_count(status, "readyReplicas", counts.available);
    set_count(status, "availableReplicas", counts.available);
}

/// The owner's controller scales the ReplicaSet and copies its own annotations
/// there.
fn scale_replica_set(set: &mut Value, owner: Option<&Value>, desired: u64) {
    set["spec"]["replicas"] = desired.into();
    let annotations = owner.and_then(|owner| owner["metadata"]["annotations"].as_object());
    let mut annotations = annotations.cloned().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let most = desired + desired.div_ceil(4);
    for (key, count) in [
        ("deployment.kubernetes.io/desired-replicas", desired),
        ("deployment.kubernetes.io/max-replicas", most),
    ] {
        annotations.insert(key.to_owned(), count.to_string().into());
    }
    set["metadata"]["annotations"] = annotations.into();
}

/// The ReplicaSet's own controller counts.
fn report_of_replica_set(set: &mut Value, counts: Counts) {
    let generation = set["metadata"]["generation"].clone();
    let status = &mut set["status"];
    status["observedGeneration"] = generation;
    status["replicas"] = counts.alive.into();
    set_count(status, "fullyLabeledReplicas", counts.alive);
    set_count(status, "readyReplicas", counts.available);
    set_count(status, "availableReplicas", counts.available);
    status["terminatingReplicas"] = counts.terminating.into();
}

/// Counts of zero are left out of a status.
fn set_count(status: &mut Value, name: &str, count: u64) {
    let Some(fields) = status.as_object_mut() else {
        return;
    };
    match count {
        0 => drop(fields.remove(name)),
        count => drop(fields.insert(name.to_owned(), count.into())),
    }
}

/// As the Deployment controller does: a condition that turns goes to the end
/// of the list, others (of any type) are left as they are.
fn set_available(conditions: &mut Value, available: bool) {
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let status = if available { "True" } else { "False" };
    let old = conditions.iter().position(|c| c["type"] == "Available");
    if old.is_some_and(|old| text(&conditions[old]["status"]) == status) {
        return;
    }
    if let Some(old) = old {
        conditions.remove(old);
    }
    let (reason, verb) = if available {
        ("MinimumReplicasAvailable", "has")
    } else {
        ("MinimumReplicasUnavailable", "does not have")
    };
    let now = timestamp();
    conditions.push(json!({
        "type": "Available",
        "status": status,
        "lastUpdateTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": format!("Deployment {verb} minimum availability."),
    }));
}
