//! [`Store`]: the objects of the cluster and their history, as etcd and the storage layer of an API
//! server keep them.
//!
//! One counter gives every write of every kind its resourceVersion, as in a
//! real cluster, so that versions of different kinds can be compared.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// How many changes are kept for watches; older ones are compacted away.
const HISTORY_MAX: usize = 2_000;

/// How many lists that were not read to their end are kept; older ones are
/// compacted away.
const SNAPSHOTS_MAX: usize = 16;

/// Where the counter of resourceVersions begins: high enough that `1` is too
/// old for a watch, as on a cluster that has lived for a while.
const FIRST_VERSION: u64 = 10_290;

/// A kind of object that the sandbox stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Deployments,
    StatefulSets,
    ReplicaSets,
    /// A custom kind with a scale subresource.
    Rollouts,
    EndpointSlices,
    Endpoints,
    Services,
    ConfigMaps,
    ServiceAccounts,
    Roles,
    RoleBindings,
    ClusterRoles,
    ClusterRoleBindings,
    DisruptionBudgets,
    Autoscalers,
    Pods,
    /// Events of the core group: another view of the same, in a real cluster.
    CoreEvents,
    Events,
    Leases,
}

impl Resource {
    const ALL: [Resource; 19] = [
        Resource::Deployments,
        Resource::StatefulSets,
        Resource::ReplicaSets,
        Resource::Rollouts,
        Resource::EndpointSlices,
        Resource::Endpoints,
        Resource::Services,
        Resource::ConfigMaps,
        Resource::ServiceAccounts,
        Resource::Roles,
        Resource::RoleBindings,
        Resource::ClusterRoles,
        Resource::ClusterRoleBindings,
        Resource::DisruptionBudgets,
        Resource::Autoscalers,
        Resource::Pods,
        Resource::CoreEvents,
        Resource::Events,
        Resource::Leases,
    ];

    /// The resource that a path names, if the sandbox knows it.
    pub fn of(group: &str, version: &str, plural: &str) -> Option<Resource> {
        let asked = (group, version, plural);
        Self::ALL
            .into_iter()
            .find(|r| (r.group(), r.version(), r.plural()) == asked)
    }

    /// The resources of an API group.
    pub fn in_group(group: &str) -> impl Iterator<Item = Resource> {
        Self::ALL.into_iter().filter(move |r| r.group() == group)
    }

    /// Whether it has a scale subresource.
    pub const fn is_scalable(self) -> bool {
        matches!(
            self,
            Resource::Deployments
                | Resource::StatefulSets
                | Resource::ReplicaSets
                | Resource::Rollouts
        )
    }

    /// Whether it is defined by a CustomResourceDefinition.
    pub const fn is_custom(self) -> bool {
        matches!(self, Resource::Rollouts)
    }

    const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Resource::Deployments => ("apps", "v1", "deployments", "Deployment"),
            Resource::StatefulSets => ("apps", "v1", "statefulsets", "StatefulSet"),
            Resource::ReplicaSets => ("apps", "v1", "replicasets", "ReplicaSet"),
            Resource::Rollouts => ("argoproj.io", "v1alpha1", "rollouts", "Rollout"),
            Resource::EndpointSlices => {
                ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
            }
            Resource::Endpoints => ("", "v1", "endpoints", "Endpoints"),
            Resource::Services => ("", "v1", "services", "Service"),
            Resource::ConfigMaps => ("", "v1", "configmaps", "ConfigMap"),
            Resource::ServiceAccounts => ("", "v1", "serviceaccounts", "ServiceAccount"),
            Resource::Roles => ("rbac.authorization.k8s.io", "v1", "roles", "Role"),
            Resource::RoleBindings => (
                "rbac.authorization.k8s.io",
                "v1",
                "rolebindings",
                "RoleBinding",
            ),
            Resource::ClusterRoles => (
                "rbac.authorization.k8s.io",
                "v1",
                "clusterroles",
                "ClusterRole",
            ),
            Resource::ClusterRoleBindings => (
                "rbac.authorization.k8s.io",
                "v1",
                "clusterrolebindings",
                "ClusterRoleBinding",
            ),
            Resource::Autoscalers => (
                "autoscaling",
                "v2",
                "horizontalpodautoscalers",
                "HorizontalPodAutoscaler",
            ),
            Resource::DisruptionBudgets => (
                "policy",
                "v1",
                "poddisruptionbudgets",
                "PodDisruptionBudget",
            ),
            Resource::Pods => ("", "v1", "pods", "Pod"),
            Resource::CoreEvents => ("", "v1", "events", "Event"),
            Resource::Events => ("events.k8s.io", "v1", "events", "Event"),
            Resource::Leases => ("coordination.k8s.io", "v1", "leases", "Lease"),
        }
    }

    /// The resource of that kind, if the sandbox knows it.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Resource> {
        let asked = (api_version.to_owned(), kind);
        Self::ALL
            .into_iter()
            .find(|r| (r.api_version(), r.kind()) == asked)
    }

    /// The API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        self.names().0
    }

    /// The version within the group.
    pub const fn version(self) -> &'static str {
        self.names().1
    }

    /// The name in paths: `deployments`.
    pub const fn plural(self) -> &'static str {
        self.names().2
    }

    /// The name in objects: `Deployment`.
    pub const fn kind(self) -> &'static str {
        self.names().3
    }

    /// An object of that name, as kubectl takes it: `statefulsets.apps/db`.
    pub fn qualified(self, name: &str) -> String {
        format!("{}.{}/{name}", self.plural(), self.group())
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }
}

/// One write, as a watch tells it.
#[derive(Clone)]
pub struct Change {
    /// The resourceVersion of the write.
    pub version: u64,
    /// What kind of object was written.
    pub resource: Resource,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub event: &'static str,
    /// The object after the write (before it, for `DELETED`).
    pub object: Arc<Value>,
    /// The object before the write, if there was one.
    pub before: Option<Arc<Value>>,
}

/// A watch asked for a version whose successors are no longer all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The oldest version from which a watch can still start.
    pub oldest: u64,
}

/// Every object, and every change since the last compaction.
pub struct Store {
    /// The namespace that is looked at; empty: all of them.
    namespace: String,
    version: u64,
    /// No watch may start before this version.
    compacted: u64,
    /// The changes up to this version are no longer in the history.
    dropped: u64,
    /// By resource, namespace and name.
    objects: BTreeMap<(Resource, String, String), Arc<Value>>,
    history: VecDeque<Change>,
    snapshots: VecDeque<Snapshot>,
}

/// All objects of a kind as they were at a version, for lists in pages.
#[derive(Clone)]
pub struct Snapshot {
    pub version: u64,
    pub resource: Resource,
    /// Their namespace; empty: they are of all.
    pub namespace: String,
    /// By namespace and name.
    pub objects: Vec<Arc<Value>>,
}

impl Store {
    /// An empty store, in which one namespace is looked at.
    pub fn new(namespace: &str) -> Self {
        Store {
            namespace: namespace.to_owned(),
            version: FIRST_VERSION,
            compacted: FIRST_VERSION,
            dropped: FIRST_VERSION,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            snapshots: VecDeque::new(),
        }
    }

    /// Does `work` with another namespace to be looked at; with an empty name with all of them,
    /// in which objects can be listed alone.
    pub fn within<R>(&mut self, namespace: &str, work: impl FnOnce(&mut Store) -> R) -> R {
        let before = std::mem::replace(&mut self.namespace, namespace.to_owned());
        let done = work(self);
        self.namespace = before;
        done
    }

    /// Whether an object is of the namespace that is looked at.
    fn is_within(&self, namespace: &str) -> bool {
        self.namespace.is_empty() || self.namespace == namespace
    }

    /// The resourceVersion of the latest write of any kind.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The object of that name.
    pub fn get(&self, resource: Resource, name: &str) -> Option<&Arc<Value>> {
        self.get_in(&self.namespace, resource, name)
    }

    /// The object of that name in a namespace.
    pub fn get_in(&self, namespace: &str, resource: Resource, name: &str) -> Option<&Arc<Value>> {
        let key = (resource, namespace.to_owned(), name.to_owned());
        self.objects.get(&key)
    }

    /// All objects of a kind, by name.
    pub fn list(&self, resource: Resource) -> impl Iterator<Item = &Arc<Value>> {
        self.objects
            .iter()
            .filter(move |((r, namespace, _), _)| *r == resource && self.is_within(namespace))
            .map(|(_, object)| object)
    }

    /// All objects of a kind, of every namespace.
    pub fn everywhere(&self, resource: Resource) -> impl Iterator<Item = &Arc<Value>> {
        let objects = self.objects.iter();
        let of_kind = objects.filter(move |((r, _, _), _)| *r == resource);
        of_kind.map(|(_, object)| object)
    }

    /// The objects of a kind as they are now.
    pub fn snapshot(&self, resource: Resource) -> Snapshot {
        Snapshot {
            version: self.version,
            resource,
            namespace: self.namespace.clone(),
            objects: self.list(resource).cloned().collect(),
        }
    }

    /// Keeps a snapshot for the pages that follow, until the next compaction.
    pub fn keep(&mut self, snapshot: Snapshot) {
        if self.kept(snapshot.resource, snapshot.version).is_none() {
            self.snapshots.push_back(snapshot);
        }
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
    }

    /// The snapshot of that version, if it is still there.
    pub fn kept(&self, resource: Resource, version: u64) -> Option<&Snapshot> {
        let mut kept = self.snapshots.iter();
        kept.find(|kept| {
            (kept.resource, kept.version) == (resource, version) && kept.namespace == self.namespace
        })
    }

    /// Stores a new object, giving it what a server gives: namespace, uid,
    /// creation time, resourceVersion, and a name if only `generateName` is
    /// set. `None` if the name is taken.
    pub fn create(&mut self, resource: Resource, mut object: Value) -> Option<Arc<Value>> {
        object["kind"] = resource.kind().into();
        object["apiVersion"] = resource.api_version().into();
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            meta["name"] = format!("{}{}", text(&meta["generateName"]), suffix()).into();
        }
        let name = text(&meta["name"]).to_owned();
        if self.get(resource, &name).is_some() {
            return None;
        }
        meta["namespace"] = self.namespace.clone().into();
        meta["uid"] = uid().into();
        meta["creationTimestamp"] = timestamp().into();
        meta["managedFields"] = managed_fields(resource);
        Some(self.record(resource, "ADDED", object))
    }

    /// Edits an object in place. An edit that changes nothing does not move
    /// the resourceVersion; one that changes more than metadata and status
    /// moves the generation, where the kind has one. `None` if there is no
    /// such object.
    pub fn update(
        &mut self,
        resource: Resource,
        name: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Option<Arc<Value>> {
        let old = self.get(resource, name)?.clone();
        let mut new = (*old).clone();
        edit(&mut new);
        if new == *old {
            return Some(old);
        }
        if let Some(generation) = old["metadata"]["generation"].as_u64() {
            let moved = u64::from(desired_part(&new) != desired_part(&old));
            new["metadata"]["generation"] = (generation + moved).into();
        }
        Some(self.record(resource, "MODIFIED", new))
    }

    /// Removes an object; false if there was none.
    pub fn delete(&mut self, resource: Resource, name: &str) -> bool {
        let Some(object) = self.get(resource, name).cloned() else {
            return false;
        };
        self.record(resource, "DELETED", (*object).clone());
        let key = (resource, self.namespace.clone(), name.to_owned());
        self.objects.remove(&key);
        true
    }

    fn record(&mut self, resource: Resource, event: &'static str, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let key = |field: &str| text(&object["metadata"][field]).to_owned();
        let key = (resource, key("namespace"), key("name"));
        let object = Arc::new(object);
        let before = self.objects.insert(key, object.clone());
        let change = Change {
            version: self.version,
            resource,
            event,
            object: object.clone(),
            before,
        };
        self.history.push_back(change);
        if self.history.len() > HISTORY_MAX {
            self.dropped = self
                .history
                .pop_front()
                .map_or(self.dropped, |old| old.version);
            self.compacted = self.compacted.max(self.dropped);
        }
        object
    }

    /// Whether a watch may start from `version`.
    pub fn check_start(&self, version: u64) -> Result<(), TooOld> {
        if version < self.compacted {
            Err(TooOld {
                oldest: self.compacted,
            })
        } else {
            Ok(())
        }
    }

    /// The changes after `version`, for a watch that has got so far.
    pub fn changes_after(&self, version: u64) -> Result<impl Iterator<Item = &Change>, TooOld> {
        if version < self.dropped {
            return Err(TooOld {
                oldest: self.dropped,
            });
        }
        let start = self
            .history
            .partition_point(|change| change.version <= version);
        Ok(self.history.range(start..))
    }

    /// Makes every resourceVersion that a client can have read so far too old for the start of a
    /// watch and for the rest of a list. Watches in progress carry on, as those of an API server
    /// do: they are fed from memory.
    pub fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.snapshots.clear();
    }
}

/// What of an object moves its generation: all but metadata and status, and
/// of a Deployment the annotations too (`deploymentStrategy.PrepareForUpdate`
/// in `pkg/registry/apps/deployment/strategy.go`).
fn desired_part(object: &Value) -> (Option<&Value>, Vec<(&String, &Value)>) {
    let annotated = object["kind"] == Resource::Deployments.kind();
    let annotations = annotated.then(|| &object["metadata"]["annotations"]);
    let entries = object.as_object().into_iter().flatten();
    let entries = entries.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"));
    (annotations, entries.collect())
}

/// Something in place of the bookkeeping that a server keeps of every field of
/// every writer, about as long.
fn managed_fields(resource: Resource) -> Value {
    let fields = if resource.is_scalable() && !resource.is_custom() {
        json!({ "f:spec": { "f:replicas": {}, "f:selector": {}, "f:template": {
            "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
            "f:spec": { "f:containers": { "k:{\"name\":\"web\"}": { ".": {}, "f:image": {},
                "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {} } },
                "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {},
                "f:securityContext": {}, "f:terminationGracePeriodSeconds": {} } } } })
    } else {
        json!({})
    };
    json!([{
        "manager": "sandbox",
        "operation": "Update",
        "apiVersion": resource.api_version(),
        "time": timestamp(),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }])
}

/// The string in `value`, or an empty one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Sixty-four bits that differ from call to call.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Five characters such as the API server appends to a `generateName`.
pub fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bits = random();
    let mut next = || {
        let letter = ALPHABET[(bits % ALPHABET.len() as u64) as usize];
        bits /= ALPHABET.len() as u64;
        char::from(letter)
    };
    (0..5).map(|_| next()).collect()
}

/// A random UUID.
pub fn uid() -> String {
    let (a, b) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}

/// Now, as RFC 3339 with whole seconds: the form of Kubernetes' `metav1.Time`.
pub fn timestamp() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let (year, month, day) = civil_date(now / 86_400);
    let (hour, minute, second) = (now / 3_600 % 24, now / 60 % 60, now % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970 (Howard Hinnant's `civil_from_days`,
/// for days that are not negative).
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
