//! [`Object`]: the scale target as the API server names it, and its [`ApiResource`].

use std::fmt;

use crate::workload::Resource;

/// A kind that can be scaled: group, version, plural and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiResource {
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) kind: String,
}

impl ApiResource {
    /// A kind of `apps/v1`.
    pub(super) fn apps(plural: &str, kind: &str) -> ApiResource {
        ApiResource {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// The scalable kinds that every API server has in `apps/v1`.
    pub(super) fn well_known() -> [ApiResource; 3] {
        [
            ApiResource::apps("deployments", "Deployment"),
            ApiResource::apps("statefulsets", "StatefulSet"),
            ApiResource::apps("replicasets", "ReplicaSet"),
        ]
    }

    /// `apps/v1`, or `v1` for the core group.
    pub(super) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether it is another kind than those that every API server has.
    pub(super) fn is_custom(&self) -> bool {
        !ApiResource::well_known().contains(self)
    }
}

/// The scale target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) resource: ApiResource,
    pub(super) name: String,
}

impl fmt::Display for Object {
    /// `deployments.apps/my-app`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApiResource { plural, group, .. } = &self.resource;
        write!(f, "{plural}.{group}/{}", self.name)
    }
}

/// The object of that name, if its kind is one that every API server has.
pub(super) fn well_known(resource: &Resource, name: &str) -> Option<Object> {
    let mut known = ApiResource::well_known().into_iter();
    let is_it = |it: &ApiResource| it.group == resource.group && it.plural == resource.plural;
    let resource = known.find(is_it)?;
    let name = name.to_owned();
    Some(Object { resource, name })
}
