//! [`Target`]: the scale target, with the calls that read and write it.
//!
//! The object is looked up at the first call ([`discovery`]), and again when it is gone,
//! because its name or version may have changed. The differences between kinds and between
//! Roles are handled here: whether the replicas are in `spec.replicas` of the object or only
//! in its Scale, and which of the two may be written.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::client::Calls;
use super::discovery;
use super::namespaces::Namespaces;
use super::patch::Patch;
use super::reply::{Failure, Reply};
use super::resource::{self, Object};
use super::text::printable;
use super::{paths, scaled};
use crate::cluster::{ObjectReference, ResourceVersion, TargetStatus};
use crate::workload::TargetRef;

/// The largest object in bytes: etcd stores at most 1.5 MiB, and JSON is longer than the
/// stored form.
const BODY: u64 = 4 * 1024 * 1024;

/// The result of a call.
pub(super) type CallResult = Result<Reply, Failure>;

/// The scale target.
pub(super) struct Target {
    namespace: String,
    wanted: TargetRef,
    found: Mutex<Option<Arc<Place>>>,
    /// What was reported last of its pods.
    status: Mutex<Option<TargetStatus>>,
}

/// Where an object is listed and watched, and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collection {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) namespaces: Namespaces,
}

/// The paths of the object, and what its replies have shown.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) object: Object,
    path: String,
    scale_path: String,
    status_path: String,
    /// Whether the last write of replicas was made to the object itself, because its Scale
    /// was refused.
    writes_object: AtomicBool,
    /// Whether the object has its replicas elsewhere than in `spec.replicas`, as a custom
    /// kind may (`specReplicasPath`).
    counts_elsewhere: AtomicBool,
    /// Whether its owner has been looked for.
    owner_checked: AtomicBool,
}

impl Place {
    fn new(namespace: &str, object: Object) -> Place {
        let path = paths::object(namespace, &object);
        Place {
            object,
            scale_path: paths::scale(&path),
            status_path: paths::status(&path),
            path,
            writes_object: AtomicBool::new(false),
            counts_elsewhere: AtomicBool::new(false),
            owner_checked: AtomicBool::new(false),
        }
    }
}

impl Target {
    pub(super) fn new(namespace: &str, wanted: TargetRef) -> Target {
        let found = match &wanted {
            TargetRef::Object { resource, name } => resource::well_known(resource, name),
            _ => None,
        };
        Target {
            namespace: namespace.to_owned(),
            wanted,
            found: Mutex::new(found.map(|object| Arc::new(Place::new(namespace, object)))),
            status: Mutex::default(),
        }
    }

    /// The collection in which the object can be watched, if it was found.
    pub(super) fn collection(&self) -> Option<Collection> {
        let place = self.found().clone()?;
        Some(Collection {
            path: paths::named(&self.namespace, &place.object),
            kind: place.object.resource.kind.clone(),
            namespaces: Namespaces::default(),
        })
    }

    /// The namespace of the object.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The collection of these namespaces that has the object, and its key there, if it was
    /// found.
    pub(super) fn in_namespaces(&self, namespaces: Namespaces) -> Option<(Collection, String)> {
        let place = self.found().clone()?;
        let Object { resource, name } = &place.object;
        let collection = Collection {
            path: paths::collection_of(namespaces.name(), resource),
            kind: resource.kind.clone(),
            namespaces,
        };
        let key = collection.namespaces.key(&self.namespace, name);
        Some((collection, key))
    }

    /// `status`, if it differs from the status that was reported last.
    pub(super) fn changed_status(&self, status: TargetStatus) -> Option<TargetStatus> {
        let mut last = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = last.as_ref() != Some(&status);
        *last = Some(status.clone());
        has_changed.then_some(status)
    }

    /// The label selector of its pods, if it was read and has one.
    pub(super) fn selector(&self) -> Option<String> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let selector = status.as_ref().map(|status| status.selector.clone())?;
        Some(selector).filter(|it| !it.is_empty())
    }

    /// The object as Events name it, if it was read.
    pub(super) fn reference(&self) -> Option<ObjectReference> {
        let place = self.found().clone()?;
        let Object { resource, name } = &place.object;
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = status.as_ref().map(|status| status.uid.clone())?;
        (!uid.is_empty()).then(|| ObjectReference {
            api_version: resource.api_version(),
            kind: resource.kind.clone(),
            namespace: self.namespace.clone(),
            name: name.clone(),
            uid,
        })
    }

    /// The paths of the object, which is looked up if necessary.
    ///
    /// # Errors
    /// The answer of the look-up, if it failed.
    pub(super) fn place(&self, calls: &Calls<'_>) -> Result<Arc<Place>, CallResult> {
        if let Some(place) = &*self.found() {
            return Ok(place.clone());
        }
        let object = discovery::find(calls, &self.namespace, &self.wanted)?;
        let name = object.to_string();
        if name != self.wanted.to_string() {
            log::info!(
                "{}: is {}",
                printable(&self.wanted.to_string()),
                printable(&name)
            );
        }
        let place = Arc::new(Place::new(&self.namespace, object));
        *self.found() = Some(place.clone());
        Ok(place)
    }

    /// Reads the object: its replicas and its leases.
    pub(super) fn read(&self, calls: &Calls<'_>) -> CallResult {
        let place = match self.place(calls) {
            Ok(place) => place,
            Err(unfound) => return unfound,
        };
        let reply = self.noted(calls.get(&place.path, BODY)?);
        if !reply.is_success() {
            return Ok(reply);
        }
        place.warn_of_owner(&reply.body);
        place.with_replicas(calls, reply)
    }

    /// Reads its Scale, which has no leases.
    pub(super) fn read_scale(&self, calls: &Calls<'_>) -> CallResult {
        match self.place(calls) {
            Ok(place) => Ok(self.noted(calls.get(&place.scale_path, BODY)?)),
            Err(unfound) => unfound,
        }
    }

    /// Sets its replicas if it is still at `guard`: in its Scale or, if the Role does not
    /// allow that, in the object itself. The one that worked last is tried first.
    pub(super) fn write_replicas(
        &self,
        calls: &Calls<'_>,
        replicas: u32,
        guard: &ResourceVersion,
    ) -> CallResult {
        let place = match self.place(calls) {
            Ok(place) => place,
            Err(unfound) => return unfound,
        };
        // The same patch serves both (recordings 18 and 46).
        let patch = Patch::scale(replicas, guard);
        let write = |path: &str| match replicas {
            0 => calls.patch(path, &patch, BODY),
            _ => calls.patch_for_wake(path, &patch, BODY),
        };
        let ways = if place.writes_object.load(Relaxed) {
            [&place.path, &place.scale_path]
        } else {
            [&place.scale_path, &place.path]
        };
        let reply = self.noted(write(ways[0])?);
        if reply.status != 403 || place.counts_elsewhere.load(Relaxed) {
            return Ok(reply);
        }
        let second = self.noted(write(ways[1])?);
        if second.status == 403 {
            return Ok(reply);
        }
        place.has_written(ways[1] == &place.path, &reply);
        Ok(second)
    }

    /// Writes to its status.
    pub(super) fn patch_status(&self, calls: &Calls<'_>, patch: &Patch) -> CallResult {
        match self.place(calls) {
            Ok(place) => {
                let reply = self.noted(calls.patch(&place.status_path, patch, BODY)?);
                place.with_replicas(calls, reply)
            }
            Err(unfound) => unfound,
        }
    }

    /// Writes to the object itself.
    pub(super) fn patch_object(&self, calls: &Calls<'_>, patch: &Patch) -> CallResult {
        match self.place(calls) {
            Ok(place) => {
                let reply = self.noted(calls.patch(&place.path, patch, BODY)?);
                place.with_replicas(calls, reply)
            }
            Err(unfound) => unfound,
        }
    }

    /// After a 404, the object is looked up again at the next call.
    fn noted(&self, reply: Reply) -> Reply {
        if reply.status == 404 {
            let anew = Target::new(&self.namespace, self.wanted.clone());
            *self.found() = anew.found().take();
        }
        reply
    }

    fn found(&self) -> MutexGuard<'_, Option<Arc<Place>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn warn_of_owner(&self, body: &[u8]) {
        if self.owner_checked.swap(true, Relaxed) {
            return;
        }
        if let Some(owner) = discovery::controller(body) {
            let (kind, name) = (printable(&owner.kind), printable(&owner.name));
            log::warn!(
                "{} belongs to {kind} {name}, whose controller decides how many replicas there \
                 are: it may scale back what is scaled here; scale {kind} {name} instead, if that \
                 can be scaled",
                self.object
            );
        }
    }

    fn has_written(&self, through_object: bool, refused: &Reply) {
        self.writes_object.store(through_object, Relaxed);
        if through_object {
            log::info!(
                "{}: spec.replicas is written to the object itself, since its scale may not be \
                 patched: {}",
                self.object,
                refused.explanation()
            );
        }
    }

    /// Adds the replicas of the Scale to `reply`, if the object in it has no
    /// `spec.replicas`.
    fn with_replicas(&self, calls: &Calls<'_>, reply: Reply) -> CallResult {
        let is_plain = !self.object.resource.is_custom() || scaled::scale(&reply.body).is_some();
        if !reply.is_success() || is_plain {
            return Ok(reply);
        }
        let Ok(mut object) = serde_json::from_slice::<Value>(&reply.body) else {
            return Ok(reply);
        };
        let scale = calls.get(&self.scale_path, BODY)?;
        let Some(shown) = scaled::scale(&scale.body).filter(|_| scale.is_success()) else {
            return Ok(scale);
        };
        self.counts_elsewhere.store(true, Relaxed);
        // Written between the two reads: the Scale is newer, and has no leases.
        if object["metadata"]["resourceVersion"] != shown.version.0.as_str() {
            return Ok(scale);
        }
        if !object["spec"].is_object() {
            return Ok(scale);
        }
        object["spec"]["replicas"] = shown.replicas.into();
        Ok(Reply {
            body: object.to_string().into(),
            ..reply
        })
    }
}

#[cfg(test)]
mod tests;
