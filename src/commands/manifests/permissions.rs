//! The proxy's service account and its Role.

use super::Install;
use crate::commands::permissions;
use crate::commands::yaml::{Item, Map, Yaml};

/// The comment above the Role.
pub const HEAD: &str = "All that zpa may do: scale one object, say there that it is in use, and \
                        learn where its pods are.";

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
        let rules = permissions::rules(&self.settings, self.dialled_service(), self.reads_pods);
        let items = rules.into_iter().map(|rule| {
            let map = Map::new()
                .set("apiGroups", [rule.group])
                .set("resources", texts(rule.resources))
                .set_if("resourceNames", rule.name.map(|name| [name]))
                .set("verbs", texts(rule.verbs.iter().copied()));
            Item::new(rule.about, map)
        });
        items.collect()
    }
}

fn texts(texts: impl IntoIterator<Item = impl Into<Yaml>>) -> Vec<Item> {
    let items = texts.into_iter().map(|text| Item::new("", text));
    items.collect()
}
