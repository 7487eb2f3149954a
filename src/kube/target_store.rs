//! The store of the target reflector: which version of each scaled object was shown
//! last, and what was shown that has not been taken yet.
//!
//! It holds any number of objects, by name: all that are listed, or those that are wanted.
//! Only their versions are kept: whoever takes a change has it from then on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::list_watch::{self, Applied};
use super::objects::{List, ListMetadata, Metadata, WatchEvent};
use super::scaled::scale_of;
use super::target_status::target_status_of;
use crate::cluster::{Observation, TargetStatus};

/// What was shown of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The object's name.
    pub(super) name: String,
    pub(super) observation: Observation,
    pub(super) status: Option<TargetStatus>,
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
    fn change(mut self, kind: &str) -> Change {
        self.whole["kind"] = kind.into();
        let scale = scale_of(&self.whole);
        Change {
            name: self.metadata.name,
            observation: scale.map_or(Observation::Changed, Observation::Scale),
            status: target_status_of(&self.whole),
        }
    }
}

/// Every object that is watched, by name.
#[derive(Debug, Default)]
pub(super) struct Store {
    kind: String,
    /// The objects that are wanted; `None`: all.
    wanted: Option<BTreeSet<String>>,
    versions: BTreeMap<String, String>,
    /// The versions and states of a list that is not complete yet.
    incoming: BTreeMap<String, (String, Change)>,
    changes: Vec<Change>,
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
    pub(super) fn of_wanted(kind: &str) -> Self {
        Store {
            kind: kind.to_owned(),
            wanted: Some(BTreeSet::new()),
            ..Store::default()
        }
    }

    /// Wants an object, whose state counts as new the next time that it is listed.
    pub(super) fn want(&mut self, name: &str) {
        self.versions.remove(name);
        self.wanted.get_or_insert_default().insert(name.to_owned());
    }

    /// Does not want an object any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.versions.remove(name);
        if let Some(wanted) = &mut self.wanted {
            wanted.remove(name);
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(name))
    }

    /// What was shown since this was last asked, in order. Of a list, only what has
    /// changed since then.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn put(&mut self, object: Object) -> String {
        let version = object.metadata.resource_version.clone();
        if self.is_wanted(&object.metadata.name) {
            let change = object.change(&self.kind);
            self.versions.insert(change.name.clone(), version.clone());
            self.changes.push(change);
        }
        version
    }

    fn remove(&mut self, name: &str) {
        if !self.is_wanted(name) {
            return;
        }
        self.versions.remove(name);
        self.changes.push(Change {
            name: name.to_owned(),
            observation: Observation::Changed,
            status: None,
        });
    }
}

impl list_watch::Store for Store {
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error> {
        if is_first {
            self.incoming.clear();
        }
        let list: List<Object> = serde_json::from_slice(body)?;
        for item in list.items.into_iter().flatten() {
            if self.is_wanted(&item.metadata.name) {
                let version = item.metadata.resource_version.clone();
                let change = item.change(&self.kind);
                self.incoming.insert(change.name.clone(), (version, change));
            }
        }
        Ok(list.metadata)
    }

    fn replace(&mut self) {
        let listed = std::mem::take(&mut self.incoming);
        let names: Vec<String> = self.versions.keys().cloned().collect();
        for name in names.iter().filter(|name| !listed.contains_key(*name)) {
            self.remove(name);
        }
        for (name, (version, change)) in listed {
            if self.versions.get(&name) != Some(&version) {
                self.versions.insert(name, version);
                self.changes.push(change);
            }
        }
    }

    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        let reached = match serde_json::from_slice::<WatchEvent<Object>>(line)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(object),
            WatchEvent::Deleted(object) => {
                self.remove(&object.metadata.name);
                object.metadata.resource_version
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
            WatchEvent::Error(status) => return Ok(Applied::Failed(status)),
        };
        Ok(Applied::Reached(reached))
    }
}

#[cfg(test)]
mod tests;
