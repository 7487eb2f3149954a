//! The permissions that the proxy needs: the rules of its Role, which `zpa manifests` prints
//! and `zpa check` reviews.

use crate::settings::Settings;
use crate::workload::{Resource, TargetRef, WakeReplicas};

/// A rule of the proxy's Role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is for.
    pub about: &'static str,
    /// The API group; empty for the core group.
    pub group: String,
    /// Resources, and subresources as `deployments/scale`.
    pub resources: Vec<String>,
    /// The name of the object; `None` for all objects.
    pub name: Option<String>,
    /// The verbs of RBAC.
    pub verbs: &'static [&'static str],
    /// Those of the verbs without which the proxy works, too.
    pub optional: &'static [&'static str],
}

const READ: &str = "Read the number of replicas, and who has renewed last, and watch both change, \
                    selected by name. With `get` alone the object is read every 10 s instead.";

const STATUS: &str = "Write the number of replicas, and the condition zero-pod-autoscaler/InUse. \
                      Neither subresource reaches the pod template. By `status` one could change \
                      the Deployment's annotations, finalizers and owner references as well.";

const SCALE: &str = "Write the number of replicas.";

const OBJECT: &str = "Keep the lease in an annotation. Whoever may patch the object may also \
                      change its pod template, and with it run any image: where that is too \
                      much, take this rule away, run one proxy, and set ZPA_SINGLE_PROXY.";

const SERVICE: &str = "Which number a named port of the Service has.";

const SLICES: &str = "The pods' addresses. A Service has any number of slices, whose names are \
                      random, so that they are found by label: no resourceNames can be given.";

const EVENTS: &str = "Say by Events about it (`kubectl describe`) that it was woken or put to sleep, \
                      or could not be. Optional: without it the log, /status and the metrics say \
                      it.";

const PODS: &str = "Say why a wake takes long, and with --fail-fast let go of those who wait in vain. \
                    Optional. Whoever may list pods reads what stands in their specs, such as \
                    variables, and not the Secrets that these refer to.";

const WARNINGS: &str = "Say which probe of a pod fails. Optional.";

/// The rules for a proxy with these settings, which dials the pods of `service`; `reads_pods` is
/// whether it reads the pods of an app whose wake takes long.
pub fn rules(settings: &Settings, service: &str, reads_pods: bool) -> Vec<Rule> {
    let (Resource { plural, group }, name) = match &settings.target_ref {
        TargetRef::Object { resource, name } => (resource.clone(), Some(name.clone())),
        TargetRef::Labels { resource, .. } => (resource.clone(), None),
        TargetRef::ReplicaSetOwner { .. } => (Resource::deployments(), None),
    };
    let target = |about, resources: &[&str], verbs, optional| Rule {
        about,
        group: group.clone(),
        resources: resources.iter().map(|it| format!("{plural}{it}")).collect(),
        name: name.clone(),
        verbs,
        optional,
    };
    let mut rules = vec![target(
        READ,
        &[""],
        &["get", "list", "watch"],
        &["list", "watch"],
    )];
    if settings.target_ref.is_deployment() {
        rules.push(target(STATUS, &["/scale", "/status"], &["patch"], &[]));
    } else {
        rules.push(target(SCALE, &["/scale"], &["patch"], &[]));
        if writes_the_object(settings) {
            rules.push(target(OBJECT, &[""], &["patch"], &[]));
        }
    }
    let other = |about, group: &str, resource: &str, name, verbs, optional| Rule {
        about,
        group: group.to_owned(),
        resources: vec![resource.to_owned()],
        name,
        verbs,
        optional,
    };
    let service = Some(service.to_owned());
    rules.push(other(SERVICE, "", "services", service, &["get"], &["get"]));
    let slices = "endpointslices";
    rules.push(other(
        SLICES,
        "discovery.k8s.io",
        slices,
        None,
        &["list", "watch"],
        &[],
    ));
    let both = &["create", "patch"];
    rules.push(other(EVENTS, "events.k8s.io", "events", None, both, both));
    if reads_pods {
        let list = &["list"];
        rules.push(other(PODS, "", "pods", None, list, list));
        rules.push(other(WARNINGS, "", "events", None, list, list));
    }
    rules
}

const FIND: &str = "Find the apps by the labels and annotations of their Services.";

/// The rules for a proxy that finds its apps by their Services, beside those of each app.
pub fn discovery_rules() -> Vec<Rule> {
    vec![Rule {
        about: FIND,
        group: String::new(),
        resources: vec!["services".to_owned()],
        name: None,
        verbs: &["list", "watch"],
        optional: &[],
    }]
}

/// The kinds of objects that an installation consists of: group and plural.
pub const CREATED: [(&str, &str); 6] = [
    ("", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("apps", "deployments"),
    ("", "services"),
    ("policy", "poddisruptionbudgets"),
];

/// Whether the lease, or the number of replicas before the sleep, is kept in an
/// annotation of an object that is not a Deployment.
fn writes_the_object(settings: &Settings) -> bool {
    !settings.single_proxy || settings.wake_replicas == WakeReplicas::Previous
}
