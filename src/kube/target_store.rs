//! [`Store`]: the store of the target reflector: the version of each scale target that was listed
//! or watched last, and the changes that were not taken yet.
//!
//! It holds any number of objects, by name: all that are listed, or those that are wanted.
//! Only their versions are kept: a change is dropped once it is taken.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::items::{self, Skipped, WatchEvent};
use super::namespaces::Namespaces;
use super::objects::{ListMetadata, Metadata};
use super::scaled::scale_of;
use super::target_status::target_status_of;
use super::watcher_io::{self, Applied};
use crate::cluster::{Observation, TargetStatus};

/// What was shown of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The object's key ([`Namespaces::key`]).
    pub(super) key: String,
    pub(super) observation: Observation,
    pub(super) status: Option<TargetStatus>,
}

impl Change {
    /// The object has changed, or is gone: it is to be read.
    fn unknown(key: &str) -> Self {
        Change {
            key: key.to_owned(),
            observation: Observation::Changed,
            status: None,
        }
    }
}

/// An object, whatever it looks like: what is not needed of a custom kind may hold
/// anything.
#[derive(Debug)]
struct Object {
    metadata: Metadata,
    whole: Value,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let metadata = Metadata::deserialize(&whole["metadata"]);
        Ok(Object {
            metadata: metadata.map_err(serde::de::Error::custom)?,
            whole,
        })
    }
}

impl Object {
    /// What it shows. Items of a list do not name their kind.
    fn change(mut self, key: String, kind: &str) -> Change {
        self.whole["kind"] = kind.into();
        let scale = scale_of(&self.whole);
        Change {
            key,
            observation: scale.map_or(Observation::Changed, Observation::Scale),
            status: target_status_of(&self.whole),
        }
    }
}

/// Every object that is watched, by its key.
#[derive(Debug, Default)]
pub(super) struct Store {
    kind: String,
    namespaces: Namespaces,
    /// The objects that are wanted; `None`: all.
    wanted: Option<BTreeSet<String>>,
    versions: BTreeMap<String, String>,
    /// The versions and states of a list that is not complete yet.
    incoming: BTreeMap<String, (String, Change)>,
    changes: Vec<Change>,
    skipped: Vec<Skipped>,
}

impl Store {
    /// Objects of that kind are to come, beginning with a list.
    pub(super) fn set_kind(&mut self, kind: &str) {
        if self.kind != kind {
            *self = Store::default();
            kind.clone_into(&mut self.kind);
        }
    }

    /// A store of that kind for the objects that are wanted.
    pub(super) fn of_wanted(kind: &str, namespaces: Namespaces) -> Self {
        Store {
            kind: kind.to_owned(),
            namespaces,
            wanted: Some(BTreeSet::new()),
            ..Store::default()
        }
    }

    /// Wants an object, whose state counts as new the next time that it is listed.
    pub(super) fn want(&mut self, key: &str) {
        self.versions.remove(key);
        self.wanted.get_or_insert_default().insert(key.to_owned());
    }

    /// Does not want an object any more.
    pub(super) fn forget(&mut self, key: &str) {
        self.versions.remove(key);
        if let Some(wanted) = &mut self.wanted {
            wanted.remove(key);
        }
    }

    fn is_wanted(&self, key: &str) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(key))
    }

    /// What was shown since this was last asked, in order. Of a list, only what has
    /// changed since then.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn put(&mut self, object: Object) -> String {
        let version = object.metadata.resource_version.clone();
        let key = self.key(&object.metadata);
        if self.is_wanted(&key) {
            self.versions.insert(key.clone(), version.clone());
            self.changes.push(object.change(key, &self.kind));
        }
        version
    }

    fn key(&self, metadata: &Metadata) -> String {
        self.namespaces.key(&metadata.namespace, &metadata.name)
    }

    /// Adds an item of a list, if it is wanted.
    fn add_item(&mut self, metadata: &Metadata, change: impl FnOnce(String) -> Change) {
        let key = self.key(metadata);
        if self.is_wanted(&key) {
            let version = metadata.resource_version.clone();
            self.incoming.insert(key.clone(), (version, change(key)));
        }
    }

    fn remove(&mut self, key: &str) {
        if !self.is_wanted(key) {
            return;
        }
        self.versions.remove(key);
        self.changes.push(Change::unknown(key));
    }
}

impl watcher_io::Store for Store {
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error> {
        if is_first {
            self.incoming.clear();
        }
        items::page(body, |item: Result<Object, Skipped>| match item {
            Ok(item) => {
                let kind = self.kind.clone();
                self.add_item(&item.metadata.clone(), |key| item.change(key, &kind));
            }
            Err(skipped) => {
                self.add_item(&skipped.metadata, |key| Change::unknown(&key));
                self.skipped.push(skipped);
            }
        })
    }

    fn replace(&mut self) {
        let listed = std::mem::take(&mut self.incoming);
        let keys: Vec<String> = self.versions.keys().cloned().collect();
        for key in keys.iter().filter(|key| !listed.contains_key(*key)) {
            self.remove(key);
        }
        for (key, (version, change)) in listed {
            if self.versions.get(&key) != Some(&version) {
                self.versions.insert(key, version);
                self.changes.push(change);
            }
        }
    }

    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        let reached = match items::event::<Object>(line)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(object),
            WatchEvent::Deleted(metadata) => {
                self.remove(&self.key(&metadata));
                metadata.resource_version
            }
            WatchEvent::Skipped(skipped) => {
                self.remove(&self.key(&skipped.metadata));
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
mod tests;
