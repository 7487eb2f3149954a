//! Discovery: which versions an API group has, and which resources a version.
//!
//! Everybody who has a token may read it (`system:discovery`).

use serde_json::{Value, json};

use super::http::{Reply, Request};
use super::store::Resource;

/// What the API server says of any resource with all the verbs.
const VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// The verbs of subresources.
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// Answers `/apis/GROUP` and `/apis/GROUP/VERSION`; `None` for anything else.
pub fn answer(request: &Request) -> Option<Reply> {
    let path = request.path.strip_prefix("/apis/")?.trim_end_matches('/');
    let (group, version) = match path.split_once('/') {
        Some((group, version)) => (group, Some(version)),
        None => (path, None),
    };
    let of_group = Resource::in_group(group).filter(|_| request.method == "GET");
    let resources: Vec<Resource> = of_group
        .filter(|resource| version.is_none_or(|version| version == resource.version()))
        .collect();
    let first = *resources.first()?;
    Some(Reply::json(
        200,
        &match version {
            Some(_) => resource_list(first, &resources),
            None => api_group(first),
        },
    ))
}

/// As in recording 51.
fn api_group(resource: Resource) -> Value {
    let version = json!({
        "groupVersion": resource.api_version(),
        "version": resource.version(),
    });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": resource.group(),
        "versions": [version],
        "preferredVersion": version,
    })
}

/// As in recording 52.
fn resource_list(first: Resource, resources: &[Resource]) -> Value {
    let entries = resources.iter().flat_map(|resource| entries(*resource));
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(),
        "resources": entries.collect::<Vec<Value>>(),
    })
}

fn entries(resource: Resource) -> Vec<Value> {
    let (plural, kind) = (resource.plural(), resource.kind());
    let mut entries = vec![json!({
        "name": plural,
        "singularName": kind.to_lowercase(),
        "namespaced": true,
        "kind": kind,
        "verbs": VERBS,
        "storageVersionHash": "AAAAAAAAAAA=",
    })];
    if resource.is_scalable() {
        entries.push(json!({
            "name": format!("{plural}/status"),
            "singularName": "",
            "namespaced": true,
            "kind": kind,
            "verbs": SUBRESOURCE_VERBS,
        }));
        entries.push(json!({
            "name": format!("{plural}/scale"),
            "singularName": "",
            "namespaced": true,
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": SUBRESOURCE_VERBS,
        }));
    }
    entries
}
