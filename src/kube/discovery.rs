//! [`find`] finds the scale target that the settings name.
//!
//! It may need three requests: for the version in which the API server has a kind
//! (discovery, which every token may use), for the object that a label selector matches,
//! and for the owner of a ReplicaSet. Deployments, StatefulSets and ReplicaSets have been in
//! `apps/v1` since Kubernetes 1.9, so that a Deployment with a name needs none.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Calls;
use super::list::{self, Listed};
use super::paths;
use super::reply::{Failure, Reply};
use super::resource::{ApiResource, Object, well_known};
use super::text::printable;
use crate::workload::{Resource, TargetRef};

/// The largest body of a discovery reply, in bytes. A version with a hundred resources has
/// some 30 KiB.
const DISCOVERY_BODY: u64 = 1024 * 1024;

/// The most names in a message.
const NAMES_SHOWN: usize = 5;

/// Why the object was not found: the reply of the API server, or a 404 that is made here.
pub(super) type Unfound = Result<Reply, Failure>;

/// Finds the object that `wanted` names.
///
/// # Errors
/// The reply of the API server, or a 404 that is made here if no object matches, or more
/// than one.
pub(super) fn find(
    calls: &Calls<'_>,
    namespace: &str,
    wanted: &TargetRef,
) -> Result<Object, Unfound> {
    match wanted {
        TargetRef::Object { resource, name } => Ok(Object {
            resource: resolve(calls, resource)?,
            name: name.clone(),
        }),
        TargetRef::Labels { resource, selector } => {
            let resource = resolve(calls, resource)?;
            let items = select(calls, namespace, &resource, selector)?;
            let names = items.into_iter().map(|item| item.metadata.name);
            let name = the_only(names, &format!("{wanted}"))?;
            Ok(Object { resource, name })
        }
        TargetRef::ReplicaSetOwner { selector } => find_owner(calls, namespace, wanted, selector),
    }
}

/// Finds the controller of the ReplicaSets that match. A ReplicaSet without a controller is
/// the scale target itself. The ReplicaSets of a Deployment's former templates have the same
/// owner.
fn find_owner(
    calls: &Calls<'_>,
    namespace: &str,
    wanted: &TargetRef,
    selector: &str,
) -> Result<Object, Unfound> {
    let [_, _, replica_sets] = ApiResource::well_known();
    let items = select(calls, namespace, &replica_sets, selector)?;
    let controllers = items.into_iter().map(|item| {
        item.metadata
            .controller()
            .unwrap_or_else(|| OwnerReference {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                name: item.metadata.name,
                controller: Some(true),
            })
    });
    let OwnerReference {
        api_version,
        kind,
        name,
        ..
    } = the_only(controllers, &format!("{wanted}"))?;
    let resource = resolve_kind(calls, &api_version, &kind)?;
    Ok(Object { resource, name })
}

/// The first version of `wanted` with a scale subresource, beginning with the preferred one.
fn resolve(calls: &Calls<'_>, wanted: &Resource) -> Result<ApiResource, Unfound> {
    if let Some(known) = well_known(wanted, "") {
        return Ok(known.resource);
    }
    let group: ApiGroup = get(calls, &paths::group(&wanted.group))?;
    for version in group.versions() {
        let resources = resources(calls, &wanted.group, &version)?;
        let scalable = resources.scalable(|resource| resource.name == wanted.plural);
        if let Some((plural, kind)) = scalable {
            return Ok(ApiResource {
                group: wanted.group.clone(),
                version,
                plural,
                kind,
            });
        }
    }
    let wanted = printable(&wanted.to_string());
    Err(unfound(&format!(
        "the API server has no {wanted} with a scale subresource; `kubectl api-resources` shows \
         what it has"
    )))
}

/// The resource of that kind in that version.
fn resolve_kind(calls: &Calls<'_>, api_version: &str, kind: &str) -> Result<ApiResource, Unfound> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let mut known = ApiResource::well_known().into_iter();
    let is_wanted =
        |it: &ApiResource| (&*it.group, &*it.version, &*it.kind) == (group, version, kind);
    if let Some(resource) = known.find(is_wanted) {
        return Ok(resource);
    }
    let resources = resources(calls, group, version)?;
    let Some((plural, kind)) = resources.scalable(|resource| resource.kind == kind) else {
        let (api_version, kind) = (printable(api_version), printable(kind));
        return Err(unfound(&format!(
            "the owner of the ReplicaSet is a {kind} of {api_version}, which has no scale \
             subresource"
        )));
    };
    Ok(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural,
        kind,
    })
}

/// The objects that a label selector matches.
fn select(
    calls: &Calls<'_>,
    namespace: &str,
    resource: &ApiResource,
    selector: &str,
) -> Result<Vec<Item>, Unfound> {
    let mut items = Vec::new();
    let path = paths::labelled(namespace, resource, selector);
    let listed = list::list::<Item>(calls, &path, |page| {
        if page.is_first {
            items.clear();
        }
        items.extend(page.items);
    });
    match listed {
        Ok(Listed::Whole) => Ok(items),
        Ok(Listed::Refused(reply)) => Err(Ok(reply)),
        Err(failure) => Err(Err(failure)),
    }
}

/// The only one of `found`, without duplicates; `what` describes it in errors.
fn the_only<T: Ord + Named>(found: impl Iterator<Item = T>, what: &str) -> Result<T, Unfound> {
    let mut found: BTreeSet<T> = found.collect();
    let what = printable(what);
    match (found.pop_first(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(unfound(&format!("there is none: {what}"))),
        (Some(first), more) => {
            let all = std::iter::once(&first).chain(&found);
            let names: Vec<&str> = all.take(NAMES_SHOWN).map(Named::name).collect();
            let (count, names) = (more + 1, printable(&names.join(", ")));
            Err(unfound(&format!(
                "there are {count}, and only one can be scaled: {what} ({names})"
            )))
        }
    }
}

fn resources(calls: &Calls<'_>, group: &str, version: &str) -> Result<ApiResourceList, Unfound> {
    get(calls, &paths::group_version(group, version))
}

fn get<T: DeserializeOwned>(calls: &Calls<'_>, path: &str) -> Result<T, Unfound> {
    let reply = calls.get(path, DISCOVERY_BODY).map_err(Err)?;
    if !reply.is_success() {
        return Err(Ok(reply));
    }
    serde_json::from_slice(&reply.body).map_err(|cause| {
        let why = format!("not what was asked for at {path}: {cause}");
        Err(Failure::malformed(&why))
    })
}

fn unfound(why: &str) -> Unfound {
    Ok(Reply::not_found(why))
}

trait Named {
    fn name(&self) -> &str;
}

impl Named for String {
    fn name(&self) -> &str {
        self
    }
}

impl Named for OwnerReference {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The parts of an object that identify it and its owner.
#[derive(Debug, Deserialize)]
struct Item {
    metadata: ItemMetadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemMetadata {
    name: String,
    owner_references: Option<Vec<OwnerReference>>,
}

impl ItemMetadata {
    fn controller(&self) -> Option<OwnerReference> {
        let mut owners = self.owner_references.iter().flatten();
        owners.find(|owner| owner.controller == Some(true)).cloned()
    }
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnerReference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) controller: Option<bool>,
}

/// The controller that owns the object in `body`, if there is one. It determines the number
/// of replicas.
pub(super) fn controller(body: &[u8]) -> Option<OwnerReference> {
    let item: Item = serde_json::from_slice(body).ok()?;
    item.metadata.controller()
}

/// An `APIGroup`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroup {
    versions: Vec<GroupVersion>,
    preferred_version: Option<GroupVersion>,
}

#[derive(Debug, Deserialize)]
struct GroupVersion {
    version: String,
}

impl ApiGroup {
    /// Its versions, the preferred one first.
    fn versions(self) -> Vec<String> {
        let mut versions: Vec<String> = self.versions.into_iter().map(|it| it.version).collect();
        if let Some(GroupVersion { version }) = self.preferred_version {
            versions.retain(|other| *other != version);
            versions.insert(0, version);
        }
        versions
    }
}

/// An `APIResourceList`: the resources of a version.
#[derive(Debug, Deserialize)]
struct ApiResourceList {
    resources: Vec<ListedResource>,
}

/// A resource, or a subresource as `deployments/scale`.
#[derive(Debug, Deserialize)]
struct ListedResource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
}

impl ApiResourceList {
    /// The plural and the kind of the wanted resource, if it is namespaced and has a scale
    /// subresource.
    fn scalable(&self, is_wanted: impl Fn(&ListedResource) -> bool) -> Option<(String, String)> {
        let is_whole = |it: &&ListedResource| it.namespaced && !it.name.contains('/');
        let mut whole = self.resources.iter().filter(is_whole);
        let resource = whole.find(|it| is_wanted(it))?;
        let scale = format!("{}/scale", resource.name);
        let has_scale = self.resources.iter().any(|it| it.name == scale);
        has_scale.then(|| (resource.name.clone(), resource.kind.clone()))
    }
}

#[cfg(test)]
mod tests;
