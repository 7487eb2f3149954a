//! [`Access`]: the permissions of the service account. [`Target`]: the resource of a request in
//! terms of RBAC. Its messages are those of a real API server, as recorded.

use serde_json::{Value, json};

use super::http::{Reply, Request};
use super::selector::Selector;
use super::store::Resource;

/// What the service account may do unless a test says otherwise.
const PERMISSIONS: &[(&str, &str, &[&str])] = &[
    ("apps", "deployments", &["get", "list", "watch", "patch"]),
    ("apps", "deployments/scale", &["get", "patch"]),
    ("apps", "deployments/status", &["get", "patch"]),
    ("apps", "statefulsets", &["get", "list", "watch", "patch"]),
    ("apps", "statefulsets/scale", &["get", "patch"]),
    ("apps", "statefulsets/status", &["get", "patch"]),
    ("apps", "replicasets", &["get", "list", "watch"]),
    (
        "argoproj.io",
        "rollouts",
        &["get", "list", "watch", "patch"],
    ),
    ("argoproj.io", "rollouts/scale", &["get", "patch"]),
    ("argoproj.io", "rollouts/status", &["get", "patch"]),
    (
        "discovery.k8s.io",
        "endpointslices",
        &["get", "list", "watch"],
    ),
    ("", "endpoints", &["get", "list", "watch"]),
    ("", "services", &["get", "list", "watch"]),
    ("", "configmaps", &["get", "list", "watch", "patch"]),
    ("", "pods", &["list"]),
    ("", "events", &["list"]),
    ("events.k8s.io", "events", &["create", "patch"]),
    ("coordination.k8s.io", "leases", &["get", "create"]),
];

/// A rule of a Role. In each list, `*` stands for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// API groups; the core group is the empty text.
    pub groups: Vec<String>,
    /// Resources, and subresources as `deployments/scale`.
    pub resources: Vec<String>,
    pub verbs: Vec<String>,
    /// The names of the objects; empty for all.
    pub names: Vec<String>,
}

impl Rule {
    /// A rule for all objects of some resources of one group.
    pub fn new(group: &str, resources: &[&str], verbs: &[&str]) -> Rule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            groups: vec![group.to_owned()],
            resources: owned(resources),
            verbs: owned(verbs),
            names: Vec::new(),
        }
    }

    /// The same for the object of that name alone.
    pub fn named(mut self, name: &str) -> Rule {
        self.names.push(name.to_owned());
        self
    }

    /// Whether the rule grants it. Under `resourceNames`, a list or a watch must
    /// select its object by name (recordings 35 to 37), and nothing can be
    /// created, since a new object's name is not in the path.
    pub(super) fn grants(&self, target: &Target, selected: Option<&str>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|one| matches(one, value));
        let name = match target.verb {
            "create" => None,
            "list" | "watch" => selected,
            _ => target.name.as_deref(),
        };
        let is_named = self.names.is_empty()
            || name.is_some_and(|name| self.names.iter().any(|one| one == name));
        has(&self.groups, &target.group)
            && has(&self.resources, &target.label())
            && has(&self.verbs, target.verb)
            && is_named
    }
}

/// Who may come in, and what for.
pub struct Access {
    pub namespace: String,
    /// The service account's name.
    pub account: String,
    /// The only token that is valid.
    pub token: String,
    /// What the service account may do in its namespace,
    pub rules: Vec<Rule>,
    /// and in all of them, by a ClusterRole.
    pub cluster_rules: Vec<Rule>,
    /// Verbs on resources that were taken away: `("get", "deployments/scale")`.
    pub denied: Vec<(String, String)>,
}

impl Access {
    /// What the service account may do unless a test says otherwise.
    pub fn usual_rules() -> Vec<Rule> {
        let rule =
            |(group, resource, verbs): &(&str, &str, &[&str])| Rule::new(group, &[resource], verbs);
        PERMISSIONS.iter().map(rule).collect()
    }

    pub(super) fn permits(&self, target: &Target, selector: &Selector) -> bool {
        let (verb, resource) = (target.verb, target.label());
        let selected = selector.name.as_deref();
        let is_at_home = target.namespace == self.namespace;
        let rules = self.rules.iter().filter(|_| is_at_home);
        let mut rules = rules.chain(&self.cluster_rules);
        let granted = rules.any(|rule| rule.grants(target, selected));
        granted && !self.denies(verb, &resource)
    }

    /// Whether a permission was taken away.
    pub(super) fn denies(&self, verb: &str, resource: &str) -> bool {
        let mut denied = self.denied.iter();
        denied.any(|(v, r)| matches(v, verb) && matches(r, resource))
    }
}

/// Whether `pattern` is `value` or the `*` that is anything.
pub fn matches(pattern: &str, value: &str) -> bool {
    pattern == "*" || pattern == value
}

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// In the words of RBAC: `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    /// Empty: all of them, for a list or a watch.
    pub(super) namespace: String,
    pub(super) plural: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    /// Reads verb and object from method, path and query; `None` for a path
    /// that leads to no namespaced object, nor to a list of those of all namespaces.
    pub fn of(request: &Request) -> Option<Target> {
        let mut parts = request.path.trim_matches('/').split('/').map(str::to_owned);
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let (namespace, plural) = match parts.next()? {
            word if word == "namespaces" => (parts.next()?, parts.next()?),
            plural => (String::new(), plural),
        };
        let (name, subresource) = (parts.next(), parts.next());
        let is_known = Resource::of(&group, &version, &plural).is_some();
        if namespace.is_empty() && !(is_known && name.is_none() && request.method == "GET") {
            return None;
        }
        let verb = verb(request, name.is_some());
        Some(Target {
            verb,
            group,
            version,
            namespace,
            plural,
            name,
            subresource,
        })
    }

    /// The resource as RBAC names it: `deployments/scale`.
    pub fn label(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.plural),
            None => self.plural.clone(),
        }
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The name in the path, or an empty one.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(super) fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    pub(super) fn details(&self) -> Value {
        let mut details = json!({ "kind": self.plural });
        for (key, value) in [("name", self.name()), ("group", &self.group)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        details
    }

    /// 403 for the service account, in the words of RBAC.
    pub fn forbidden(&self, access: &Access) -> Reply {
        let (namespace, account) = (&access.namespace, &access.account);
        self.forbidden_to(&format!("system:serviceaccount:{namespace}:{account}"))
    }

    pub(super) fn forbidden_to(&self, user: &str) -> Reply {
        let object = match &self.name {
            Some(name) => format!("{} \"{name}\"", self.qualified()),
            None => self.qualified(),
        };
        let place = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let message = format!(
            "{object} is forbidden: User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" \
             {place}",
            self.verb,
            self.label(),
            self.group,
        );
        Reply::failure(403, "Forbidden", &message, Some(self.details()))
            .with("X-Content-Type-Options", "nosniff")
    }

    /// 409, as for a stale resourceVersion.
    pub fn conflict(&self) -> Reply {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please \
             apply your changes to the latest version and try again",
            self.qualified(),
            self.name()
        );
        Reply::failure(409, "Conflict", &message, Some(self.details()))
    }

    /// 404.
    pub fn not_found(&self) -> Reply {
        let message = format!("{} \"{}\" not found", self.qualified(), self.name());
        Reply::failure(404, "NotFound", &message, Some(self.details()))
    }

    pub(super) fn already_exists(&self, name: &str) -> Reply {
        let message = format!("{} \"{name}\" already exists", self.qualified());
        let mut details = self.details();
        details["name"] = name.into();
        Reply::failure(409, "AlreadyExists", &message, Some(details))
    }
}

fn verb(request: &Request, named: bool) -> &'static str {
    match request.method.as_str() {
        "GET" if named => "get",
        "GET" if is_true(request, "watch") => "watch",
        "GET" => "list",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        "DELETE" => "delete",
        _ => "unknown",
    }
}

pub(super) fn is_true(request: &Request, parameter: &str) -> bool {
    request
        .parameter(parameter)
        .is_some_and(|value| matches!(value.as_str(), "true" | "1"))
}
