//! [`SelectedService`]: a Service that a label selector selects, with what its annotations say
//! to `zpa`; and the store of them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::items::{self, Skipped, WatchEvent};
use super::objects::{self, List, ListMetadata};
use super::watcher_io::{self, Applied};
use crate::workload::ANNOTATION_PREFIX;

/// The most bytes that the annotations of a Service may have, names and values together. A
/// Service may have 256 KiB of them, and whoever may write one must not fill the memory.
pub const MAX_ANNOTATIONS_LEN: usize = 8 * 1024;

/// A Service that is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectedService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its `creationTimestamp`, which sorts as a text: the API server writes it in UTC with
    /// whole seconds.
    pub created: String,
    /// The annotations that begin with [`ANNOTATION_PREFIX`], without it; `None` if they have more
    /// than [`MAX_ANNOTATIONS_LEN`].
    pub annotations: Option<BTreeMap<String, String>>,
}

/// `v1` Service, with what is read of it here.
#[derive(Debug, Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    creation_timestamp: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Object {
    fn into_service(self) -> SelectedService {
        let metadata = self.metadata;
        SelectedService {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            created: metadata.creation_timestamp.unwrap_or_default(),
            annotations: ours(metadata.annotations.unwrap_or_default()),
        }
    }
}

fn ours(annotations: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let ours = annotations.into_iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(ANNOTATION_PREFIX)?.to_owned();
        Some((name, value))
    });
    let ours: BTreeMap<String, String> = ours.collect();
    let bytes: usize = ours.iter().map(|(k, v)| k.len() + v.len()).sum();
    (bytes <= MAX_ANNOTATIONS_LEN).then_some(ours)
}

/// The Services of a whole list.
pub(super) fn listed(body: &[u8]) -> Result<Vec<SelectedService>, serde_json::Error> {
    let list: List<Object> = serde_json::from_slice(body)?;
    let items = list.items.into_iter().flatten();
    Ok(items.map(Object::into_service).collect())
}

/// Namespace and name.
type Key = (String, String);

/// The Services that are selected, kept up to date by a list and a watch.
#[derive(Debug, Default)]
pub(super) struct SelectedServices {
    services: BTreeMap<Key, Arc<SelectedService>>,
    incoming: BTreeMap<Key, Arc<SelectedService>>,
    /// Whether anything that is read of a Service has changed.
    has_changed: bool,
    skipped: Vec<Skipped>,
}

impl SelectedServices {
    /// Whether anything has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// All of them, by namespace and name.
    pub(super) fn all(&self) -> Vec<Arc<SelectedService>> {
        self.services.values().cloned().collect()
    }

    fn put(&mut self, object: Object) -> String {
        let version = object.metadata.resource_version.clone();
        let (key, service) = keyed(object);
        if self.services.get(&key) != Some(&service) {
            self.services.insert(key, service);
            self.has_changed = true;
        }
        version
    }

    /// A Service of a list cannot be parsed. It stays as it was, so that its app is not given up.
    fn keep(&mut self, skipped: Skipped) {
        let metadata = skipped.metadata.clone();
        let key = (metadata.namespace, metadata.name);
        let known = self.services.get(&key).cloned();
        self.incoming.extend(known.map(|service| (key, service)));
        self.skipped.push(skipped);
    }

    fn remove(&mut self, metadata: objects::Metadata) -> String {
        let key = (metadata.namespace, metadata.name);
        self.has_changed |= self.services.remove(&key).is_some();
        metadata.resource_version
    }
}

fn keyed(object: Object) -> (Key, Arc<SelectedService>) {
    let service = object.into_service();
    let key = (service.namespace.clone(), service.name.clone());
    (key, Arc::new(service))
}

impl watcher_io::Store for SelectedServices {
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error> {
        if is_first {
            self.incoming.clear();
        }
        items::page(body, |item: Result<Object, Skipped>| match item {
            Ok(item) => self.incoming.extend([keyed(item)]),
            Err(skipped) => self.keep(skipped),
        })
    }

    fn replace(&mut self) {
        let listed = std::mem::take(&mut self.incoming);
        self.has_changed |= self.services != listed;
        self.services = listed;
    }

    /// A Service whose labels are taken away is DELETED to a watch that selects by them
    /// (recording 63).
    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        let reached = match items::event::<Object>(line)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(object),
            WatchEvent::Deleted(metadata) => self.remove(metadata),
            WatchEvent::Skipped(skipped) => {
                let version = skipped.metadata.resource_version.clone();
                self.skipped.push(skipped);
                version
            }
            WatchEvent::Bookmark(metadata) => metadata.resource_version,
            WatchEvent::Error(status) => return Ok(Applied::Failed(status)),
        };
        Ok(Applied::Reached(reached))
    }

    fn take_skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{recorded_body, recorded_lines};
    use super::super::watcher_io::Store as _;
    use super::*;

    fn names(store: &SelectedServices) -> Vec<String> {
        let names = store.all().into_iter().map(|it| it.name.clone());
        names.collect()
    }

    fn line(kind: &str, metadata: &Value) -> Vec<u8> {
        let event = json!({ "type": kind, "object": { "metadata": metadata } });
        event.to_string().into_bytes()
    }

    #[test]
    fn a_recorded_service_is_read_and_is_gone_when_its_label_is() {
        let mut store = SelectedServices::default();
        let listed = recorded_body("62-services-list-by-label");
        let metadata = store.add_page(&listed, true).unwrap();
        assert_eq!(metadata.resource_version, "9705");
        assert!(!store.take_changed(), "the list is not complete");
        store.replace();
        assert!(store.take_changed());
        let listen = ("listen".to_owned(), "5432=http".to_owned());
        let expected = SelectedService {
            namespace: "rec2".to_owned(),
            name: "myapp".to_owned(),
            uid: "e05c775a-464d-43da-8317-ce813e55130b".to_owned(),
            created: "2026-11-25T03:18:26Z".to_owned(),
            annotations: Some(BTreeMap::from([listen])),
        };
        assert_eq!(*store.all()[0], expected);
        let lines = recorded_lines("63-services-watch-label-taken-away");
        let applied = store.apply(&lines[0]).unwrap();
        assert!(matches!(applied, Applied::Reached(version) if version == "9707"));
        assert_eq!(names(&store), [""; 0]);
        assert!(store.take_changed());
    }

    #[test]
    fn only_a_change_of_what_is_read_is_one() {
        let mut store = SelectedServices::default();
        let mut metadata = json!({ "name": "shop", "namespace": "a", "resourceVersion": "7",
            "annotations": { "zero-pod-autoscaler/listen": ":80", "other": "1" } });
        store.apply(&line("ADDED", &metadata)).unwrap();
        assert!(store.take_changed());
        metadata["annotations"]["other"] = "2".into();
        metadata["resourceVersion"] = "8".into();
        store.apply(&line("MODIFIED", &metadata)).unwrap();
        assert!(!store.take_changed());
        metadata["annotations"]["zero-pod-autoscaler/listen"] = ":81".into();
        store.apply(&line("MODIFIED", &metadata)).unwrap();
        assert!(store.take_changed());
        metadata["namespace"] = "b".into();
        store.apply(&line("ADDED", &metadata)).unwrap();
        assert_eq!(names(&store), ["shop", "shop"], "of two namespaces");
        store.apply(&line("DELETED", &metadata)).unwrap();
        assert_eq!(store.all()[0].namespace, "a");
        let empty = json!({ "metadata": {}, "items": null }).to_string();
        store.add_page(empty.as_bytes(), true).unwrap();
        store.replace();
        assert_eq!(names(&store), [""; 0]);
    }

    #[test]
    fn annotations_that_are_too_long_are_not_kept() {
        let mut store = SelectedServices::default();
        let long = "x".repeat(MAX_ANNOTATIONS_LEN);
        let metadata = json!({ "name": "shop",
            "annotations": { "zero-pod-autoscaler/listen": long } });
        store.apply(&line("ADDED", &metadata)).unwrap();
        assert_eq!(store.all()[0].annotations, None);
    }
}
