//! What the uninstall finds ([`Facts`]) and what it does about it ([`Step`]).

use std::fmt;

use serde_json::Value;

use crate::commands::wake::remembered;
use crate::kube::removal::Traces;

/// The label of everything that `zpa manifests` and `manifests/base` make.
pub const LABEL: &str = "app.kubernetes.io/name";

/// and its value.
pub const NAME: &str = "zero-pod-autoscaler";

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The scale target.
    pub target: Value,
    /// The app's Service, if there is one.
    pub service: Option<Value>,
    /// The objects of the proxies before this app, with the paths of each.
    pub objects: Vec<Found>,
    /// The proxies that have other apps too.
    pub shared: Vec<String>,
}

/// An object of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The plural of its kind.
    pub plural: &'static str,
    pub kind: &'static str,
    pub name: String,
    pub path: String,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Wake {
        replicas: u32,
    },
    Delete(Found),
    /// Wait until the pods with these names in their label have ended.
    AwaitPods,
    ForgetService(Traces),
    ForgetTarget,
}

/// What is to be done, in that order.
///
/// # Errors
/// Why nothing is done.
pub fn plan(facts: &Facts, wake_replicas: u32, service_name: &str) -> Result<Vec<Step>, String> {
    let is_ours = |it: &Value| it["metadata"]["labels"][LABEL] == NAME;
    if facts.service.as_ref().is_some_and(is_ours) {
        return Err(format!(
            "the Service {service_name} leads to the proxy (--take-over): apply your own Service \
             {service_name} again first\n"
        ));
    }
    let mut steps = Vec::new();
    if facts.target["spec"]["replicas"] == 0 {
        steps.push(Step::Wake {
            replicas: remembered(&facts.target).unwrap_or(wake_replicas),
        });
    }
    let traces = facts.service.as_ref().map(Traces::of);
    steps.extend(traces.filter(|it| !it.is_empty()).map(Step::ForgetService));
    steps.extend(facts.objects.iter().cloned().map(Step::Delete));
    if facts.objects.iter().any(|it| it.plural == "deployments") {
        steps.push(Step::AwaitPods);
    }
    // A proxy that is deleted may renew its lease until it has ended.
    if !steps.is_empty() || !Traces::of(&facts.target).is_empty() {
        steps.push(Step::ForgetTarget);
    }
    Ok(steps)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Wake { replicas } => write!(f, "wake the app: scale it to {replicas}"),
            Step::Delete(Found { kind, name, .. }) => write!(f, "delete the {kind} {name}"),
            Step::AwaitPods => f.write_str("wait until the pods of the proxies have ended"),
            Step::ForgetService(traces) => {
                let names: Vec<&str> = traces.names().collect();
                write!(f, "remove from the Service: {}", names.join(", "))
            }
            Step::ForgetTarget => {
                f.write_str("remove the conditions and annotations of zpa from the app")
            }
        }
    }
}

/// A text of an object; empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(plural: &'static str, kind: &'static str) -> Found {
        Found {
            plural,
            kind,
            name: "my-app-zpa".to_owned(),
            path: String::new(),
        }
    }

    fn asleep() -> Value {
        json!({
            "metadata": { "resourceVersion": "7", "annotations": {} },
            "spec": { "replicas": 0 },
            "status": { "conditions": [
                { "type": "zero-pod-autoscaler/PreviousReplicas", "message": "3" },
            ] },
        })
    }

    fn lines(facts: &Facts) -> Vec<String> {
        let steps = plan(facts, 2, "my-app").unwrap();
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn the_app_is_woken_first_and_its_traces_are_removed_once_nobody_can_write_them() {
        let facts = Facts {
            target: asleep(),
            service: Some(json!({ "metadata": {
                "annotations": { "zero-pod-autoscaler/listen": ":8080" } } })),
            objects: vec![found("deployments", "Deployment"), found("roles", "Role")],
            shared: Vec::new(),
        };
        assert_eq!(
            lines(&facts),
            [
                "wake the app: scale it to 3",
                "remove from the Service: zero-pod-autoscaler/listen",
                "delete the Deployment my-app-zpa",
                "delete the Role my-app-zpa",
                "wait until the pods of the proxies have ended",
                "remove the conditions and annotations of zpa from the app",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_not_removed_and_a_service_that_leads_to_the_proxy_ends_it() {
        let mut target = asleep();
        target["status"] = json!({});
        let woken = Facts {
            target: target.clone(),
            ..Facts::default()
        };
        assert_eq!(lines(&woken)[0], "wake the app: scale it to 2");
        target["spec"]["replicas"] = 1.into();
        let clean = Facts {
            target,
            ..Facts::default()
        };
        assert_eq!(lines(&clean), [] as [&str; 0]);
        let taken_over = Facts {
            service: Some(json!({ "metadata": { "labels": { LABEL: NAME } } })),
            ..clean
        };
        let why = plan(&taken_over, 1, "my-app").unwrap_err();
        assert!(why.contains("apply your own Service my-app again"), "{why}");
    }
}
