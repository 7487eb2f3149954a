//! What `zpa uninstall` writes: the scale of an app, its [`Traces`], and the objects of a proxy.

use serde_json::{Map, Value, json};

use super::discovery;
use super::inspect::{Fault, Inspector};
use super::patch::Patch;
use super::paths;
use super::resource::Object;
use crate::cluster::ResourceVersion;
use crate::workload::{ANNOTATION_PREFIX, TargetRef};

/// What proxies have left on an object, all of whose names begin with `zero-pod-autoscaler/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The types of its conditions.
    pub conditions: Vec<String>,
    /// The keys of its annotations.
    pub annotations: Vec<String>,
    /// The keys of its labels.
    pub labels: Vec<String>,
}

impl Traces {
    /// The traces on `object`.
    pub fn of(object: &Value) -> Traces {
        let keys = |value: &Value| {
            let keys = value.as_object().into_iter().flat_map(Map::keys);
            let ours = keys.filter(|key| key.starts_with(ANNOTATION_PREFIX));
            ours.cloned().collect()
        };
        let conditions = object["status"]["conditions"].as_array().into_iter();
        let types = conditions.flatten().filter_map(|it| it["type"].as_str());
        let ours = types.filter(|kind| kind.starts_with(ANNOTATION_PREFIX));
        Traces {
            conditions: ours.map(str::to_owned).collect(),
            annotations: keys(&object["metadata"]["annotations"]),
            labels: keys(&object["metadata"]["labels"]),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.conditions.iter().chain(&self.annotations);
        all.chain(&self.labels).map(String::as_str)
    }

    /// A merge patch that removes annotations and labels; `None` if there are none.
    fn of_metadata(&self) -> Option<Value> {
        let nulls = |keys: &[String]| -> Map<String, Value> {
            keys.iter().map(|key| (key.clone(), Value::Null)).collect()
        };
        let is_any = !self.annotations.is_empty() || !self.labels.is_empty();
        is_any.then(|| {
            json!({ "metadata": {
                "annotations": nulls(&self.annotations),
                "labels": nulls(&self.labels),
            } })
        })
    }

    /// A strategic merge patch that removes the conditions; `None` if there are none.
    fn of_status(&self) -> Option<Value> {
        let removal = |kind: &String| json!({ "type": kind, "$patch": "delete" });
        let removals: Vec<Value> = self.conditions.iter().map(removal).collect();
        let is_any = !removals.is_empty();
        is_any.then(|| json!({ "status": { "conditions": removals } }))
    }
}

impl Inspector {
    /// Sets the replicas of the scale target, if it is still at `version`.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn scale(
        &self,
        namespace: &str,
        target: &TargetRef,
        replicas: u32,
        version: &str,
    ) -> Result<(), Fault> {
        let path = paths::object(namespace, &self.find(namespace, target)?);
        let patch = Patch::scale(replicas, &ResourceVersion(version.to_owned()));
        self.patch(&paths::scale(&path), &patch)
    }

    /// Merges `body` into the object at `path`, if that is still at `version`.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn merge_at(&self, path: &str, version: &str, mut body: Value) -> Result<(), Fault> {
        body["metadata"]["resourceVersion"] = version.into();
        self.patch(path, &Patch::merge(&body))
    }

    /// Removes the traces from the scale target.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn remove_traces(
        &self,
        namespace: &str,
        target: &TargetRef,
        traces: &Traces,
    ) -> Result<(), Fault> {
        let path = paths::object(namespace, &self.find(namespace, target)?);
        if let Some(body) = traces.of_status() {
            self.patch(&paths::status(&path), &Patch::strategic(&body))?;
        }
        match traces.of_metadata() {
            Some(body) => self.patch(&path, &Patch::merge(&body)),
            None => Ok(()),
        }
    }

    /// Removes the traces from a Service.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn remove_traces_of_service(
        &self,
        namespace: &str,
        service: &str,
        traces: &Traces,
    ) -> Result<(), Fault> {
        match traces.of_metadata() {
            Some(body) => self.patch(&paths::service(namespace, service), &Patch::merge(&body)),
            None => Ok(()),
        }
    }

    fn find(&self, namespace: &str, target: &TargetRef) -> Result<Object, Fault> {
        discovery::find(&self.calls(), namespace, target).map_err(super::inspect::fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_proxy_has_left_is_removed() {
        let object = json!({
            "metadata": {
                "annotations": { "zero-pod-autoscaler/in-use": "a 1", "other": "x" },
                "labels": { "app": "a", "zero-pod-autoscaler/enabled": "true" },
            },
            "status": { "conditions": [
                { "type": "Available" },
                { "type": "zero-pod-autoscaler/InUse" },
                { "type": "zero-pod-autoscaler/PreviousReplicas" },
            ] },
        });
        let traces = Traces::of(&object);
        assert_eq!(
            traces.of_metadata(),
            Some(json!({ "metadata": {
                "annotations": { "zero-pod-autoscaler/in-use": null },
                "labels": { "zero-pod-autoscaler/enabled": null },
            } }))
        );
        assert_eq!(
            traces.of_status(),
            Some(json!({ "status": { "conditions": [
                { "type": "zero-pod-autoscaler/InUse", "$patch": "delete" },
                { "type": "zero-pod-autoscaler/PreviousReplicas", "$patch": "delete" },
            ] } }))
        );
        assert_eq!(traces.names().count(), 4);
        for object in [
            json!({}),
            json!({ "metadata": { "labels": { "app": "a" } } }),
        ] {
            let none = Traces::of(&object);
            assert!(none.is_empty());
            assert_eq!((none.of_metadata(), none.of_status()), (None, None));
        }
    }
}
