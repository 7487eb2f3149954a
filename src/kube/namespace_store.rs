//! [`NamespaceStore`]: the endpoints of those Services of a namespace that the apps use, kept
//! up to date by one list and one watch of all objects of the namespace.
//!
//! An EndpointSlice names its Service in the label `kubernetes.io/service-name`; `v1` Endpoints
//! have the Service's name. Objects of other Services are not kept.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoints::{Source, Store};
use super::items::{self, Skipped, WatchEvent};
use super::namespaces::Namespaces;
use super::objects::{self, EndpointSlice, ListMetadata, Metadata};
use super::watcher_io::{self, Applied};
use crate::cluster::AddressSource;

/// The stores of the Services, by their keys ([`Namespaces::key`]).
#[derive(Debug)]
pub(super) struct NamespaceStore {
    namespaces: Namespaces,
    source: AddressSource,
    stores: BTreeMap<String, Store>,
    /// The Service of each stored object, both by their keys: a label may change.
    services: BTreeMap<String, String>,
    /// The Services of which something was stored or removed.
    changed: BTreeSet<String>,
    skipped: Vec<Skipped>,
}

impl NamespaceStore {
    /// A store without a Service.
    pub(super) fn new(namespaces: Namespaces, source: AddressSource) -> Self {
        NamespaceStore {
            namespaces,
            source,
            stores: BTreeMap::new(),
            services: BTreeMap::new(),
            changed: BTreeSet::new(),
            skipped: Vec::new(),
        }
    }

    /// The kind of the objects.
    pub(super) fn source(&self) -> AddressSource {
        self.source
    }

    /// Sets the kind of the objects; a list of them must follow.
    pub(super) fn set_source(&mut self, source: AddressSource) {
        self.source = source;
        for store in self.stores.values_mut() {
            store.set_source(source);
        }
    }

    /// Keeps the endpoints of a Service from now on; a list must follow.
    pub(super) fn add(&mut self, service: &str) {
        let store = || Store::new(self.source);
        self.stores.entry(service.to_owned()).or_insert_with(store);
    }

    /// Forgets the endpoints of a Service.
    pub(super) fn remove(&mut self, service: &str) {
        self.stores.remove(service);
        self.services.retain(|_, its| its != service);
        self.changed.remove(service);
    }

    /// The endpoints of a Service that was added.
    pub(super) fn of(&mut self, service: &str) -> Option<&mut Store> {
        self.stores.get_mut(service)
    }

    /// The Services of which something was stored or removed since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    fn add_items<T: Source>(&mut self, body: &[u8]) -> Result<ListMetadata, serde_json::Error> {
        items::page(body, |item: Result<T, Skipped>| match item {
            Ok(item) => self.add_item(item),
            Err(skipped) => self.skipped.push(skipped),
        })
    }

    fn add_item<T: Source>(&mut self, item: T) {
        let service = self.service_of(&item);
        let store = service.and_then(|it| self.stores.get_mut(&it));
        if let Some(store) = store {
            let object = item.into_object();
            store.incoming.insert(object.metadata.name.clone(), object);
        }
    }

    fn apply_event<T: Source>(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        let reached = match items::event::<T>(line)? {
            WatchEvent::Added(item) => self.put(item, true),
            WatchEvent::Modified(item) => self.put(item, false),
            WatchEvent::Deleted(metadata) => self.delete(metadata),
            WatchEvent::Skipped(skipped) => {
                let version = self.delete(skipped.metadata.clone());
                self.skipped.push(skipped);
                version
            }
            WatchEvent::Bookmark(metadata) => metadata.resource_version,
            WatchEvent::Error(status) => return Ok(Applied::Failed(status)),
        };
        Ok(Applied::Reached(reached))
    }

    /// Stores an object if its Service was added; returns its version.
    fn put<T: Source>(&mut self, item: T, is_new: bool) -> String {
        let service = self.service_of(&item);
        let object = item.into_object();
        let metadata = &object.metadata;
        let name = self.namespaces.key(&metadata.namespace, &metadata.name);
        let version = metadata.resource_version.clone();
        if self.services.get(&name) != service.as_ref() {
            self.take_away(&name);
        }
        let store = service.and_then(|service| {
            let store = self.stores.get_mut(&service)?;
            Some((service, store))
        });
        if let Some((service, store)) = store {
            store.appeared |= is_new;
            store.put(object);
            self.changed.insert(service.clone());
            self.services.insert(name, service);
        }
        version
    }

    /// The key of the Service whose endpoints an object has.
    fn service_of(&self, item: &impl Source) -> Option<String> {
        Some(self.namespaces.key(item.namespace(), item.service()?))
    }

    /// Removes an object; returns the version that the watch has reached.
    fn delete(&mut self, metadata: Metadata) -> String {
        self.take_away(&self.namespaces.key(&metadata.namespace, &metadata.name));
        metadata.resource_version
    }

    fn take_away(&mut self, key: &str) {
        let Some(service) = self.services.remove(key) else {
            return;
        };
        if let Some(store) = self.stores.get_mut(&service) {
            let name = key.rsplit('/').next().unwrap_or(key);
            store.objects.remove(name);
        }
        self.changed.insert(service);
    }
}

impl watcher_io::Store for NamespaceStore {
    fn add_page(&mut self, body: &[u8], is_first: bool) -> Result<ListMetadata, serde_json::Error> {
        if is_first {
            let stores = self.stores.values_mut();
            stores.for_each(|store| store.incoming.clear());
        }
        match self.source {
            AddressSource::EndpointSlices => self.add_items::<EndpointSlice>(body),
            AddressSource::Endpoints => self.add_items::<objects::Endpoints>(body),
        }
    }

    fn replace(&mut self) {
        self.services.clear();
        for (service, store) in &mut self.stores {
            watcher_io::Store::replace(store);
            let keys = store.objects.values().map(|object| {
                let metadata = &object.metadata;
                self.namespaces.key(&metadata.namespace, &metadata.name)
            });
            let of_service = keys.map(|key| (key, service.clone()));
            self.services.extend(of_service);
        }
    }

    fn apply(&mut self, line: &[u8]) -> Result<Applied, serde_json::Error> {
        match self.source {
            AddressSource::EndpointSlices => self.apply_event::<EndpointSlice>(line),
            AddressSource::Endpoints => self.apply_event::<objects::Endpoints>(line),
        }
    }

    fn take_skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests;
