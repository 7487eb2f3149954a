//! The proxy's service account, and what it may do.

use super::Install;
use crate::commands::yaml::{Item, Map};
use crate::workload::WakeReplicas;

/// The comment above the Role.
pub const HEAD: &str = "All that zpa may do: scale one object, say there that it is in use, and \
                        learn where its pods are.";

const READ: &str = "Read the number of replicas, and who has renewed last, and watch both change, \
                    selected by name. With `get` alone the object is read every 10 s instead.";

const STATUS: &str = "Write the number of replicas, and the condition zero-pod-autoscaler/InUse. \
                      Neither subresource reaches the pod template. By `status` one could change \
                      the Deployment's annotations, finalizers and owner references as well.";

const OBJECT: &str = "Keep the lease in an annotation. Whoever may patch the object may also \
                      change its pod template, and with it run any image: where that is too \
                      much, take this rule away, run one proxy, and set ZPA_SINGLE_PROXY.";

const SLICES: &str = "The pods' addresses. A Service has any number of slices, whose names are \
                      random, so that they are found by label: no resourceNames can be given.";

impl Install {
    pub(super) fn service_account(&self) -> Map {
        Map::new()
            .set("apiVersion", "v1")
            .set("kind", "ServiceAccount")
            .set("metadata", self.metadata(&self.name))
    }

    pub(super) fn role(&self) -> Map {
        Map::new()
            .set("apiVersion", "rbac.authorization.k8s.io/v1")
            .set("kind", "Role")
            .set("metadata", self.metadata(&self.name))
            .set("rules", self.rules())
    }

    pub(super) fn role_binding(&self) -> Map {
        let role = Map::new()
            .set("apiGroup", "rbac.authorization.k8s.io")
            .set("kind", "Role")
            .set("name", self.name.clone());
        // Without a namespace: the one of the RoleBinding.
        let account = Map::new()
            .set("kind", "ServiceAccount")
            .set("name", self.name.clone());
        Map::new()
            .set("apiVersion", "rbac.authorization.k8s.io/v1")
            .set("kind", "RoleBinding")
            .set("metadata", self.metadata(&self.name))
            .set("roleRef", role)
            .set("subjects", [account])
    }

    fn rules(&self) -> Vec<Item> {
        let (group, plural) = self.resource();
        let target = |resources: Vec<Item>, verbs: Vec<Item>| {
            Map::new()
                .set("apiGroups", [group])
                .set("resources", resources)
                .set("resourceNames", [self.app.clone()])
                .set("verbs", verbs)
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| Item::new("", *text)).collect();
        let scale = format!("{plural}/scale");
        let read = target(texts(&[plural]), texts(&["get", "list", "watch"]));
        let mut rules = vec![Item::new(READ, read)];
        if self.settings.target_ref.is_deployment() {
            let status = format!("{plural}/status");
            let write = target(texts(&[&scale, &status]), texts(&["patch"]));
            rules.push(Item::new(STATUS, write));
        } else {
            let write = target(texts(&[&scale]), texts(&["patch"]));
            rules.push(Item::new("Write the number of replicas.", write));
            if self.writes_the_object() {
                let annotate = target(texts(&[plural]), texts(&["patch"]));
                rules.push(Item::new(OBJECT, annotate));
            }
        }
        let service = Map::new()
            .set("apiGroups", [""])
            .set("resources", ["services"])
            .set("resourceNames", [self.dialled_service()])
            .set("verbs", ["get"]);
        let which = "Which number a named port of the Service has.";
        rules.push(Item::new(which, service));
        let slices = Map::new()
            .set("apiGroups", ["discovery.k8s.io"])
            .set("resources", ["endpointslices"])
            .set("verbs", ["list", "watch"]);
        rules.push(Item::new(SLICES, slices));
        rules
    }

    /// Whether the lease, or the number of replicas before the sleep, is kept in an
    /// annotation of the object.
    fn writes_the_object(&self) -> bool {
        let remembers = self.settings.wake_replicas == WakeReplicas::Previous;
        !self.settings.single_proxy || remembers
    }
}
