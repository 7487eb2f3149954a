//! Access reviews, as in recordings 58 and 59: the permissions of the caller, and those of
//! others by the Roles and bindings in the store.

use serde_json::{Value, json};

use super::access::{Access, Rule, Target};
use super::http::{Reply, Request};
use super::selector::Selector;
use super::store::{Resource, Store, text};

const GROUP: &str = "/apis/authorization.k8s.io/v1/";

const VERBS: [&str; 5] = ["get", "list", "watch", "patch", "create"];

/// Answers a review; `None` for anything else. Whoever is authenticated may ask about
/// themselves (`system:basic-user`); about others an administrator, as which every client
/// is taken here, unless that was taken away.
pub fn answer(access: &Access, store: &Store, request: &Request) -> Option<Reply> {
    let path = request.path.strip_prefix(GROUP)?;
    let kind = match path.rsplit_once('/').unwrap_or(("", path)) {
        ("", "selfsubjectaccessreviews") => "SelfSubjectAccessReview",
        ("", "subjectaccessreviews") => "SubjectAccessReview",
        (_, "localsubjectaccessreviews") => "LocalSubjectAccessReview",
        _ => return None,
    };
    if request.method != "POST" {
        return None;
    }
    let plural = format!("{}s", kind.to_ascii_lowercase());
    if access.denies("create", &plural) {
        let target = Target::of(request)?;
        return Some(target.forbidden(access));
    }
    let asked: Value = serde_json::from_slice(&request.body).ok()?;
    let (namespace, account) = (&access.namespace, &access.account);
    let own = format!("system:serviceaccount:{namespace}:{account}");
    let user = asked["spec"]["user"].as_str().unwrap_or(&own);
    let target = target(&asked["spec"]["resourceAttributes"]);
    let allowed = target.is_some_and(|target| match user == own {
        // Under resourceNames a list or a watch of one object is allowed.
        true => access.permits(&target, &Selector::by_name(target.name())),
        false => is_bound(store, &asked["spec"], &target),
    });
    let mut status = json!({ "allowed": allowed });
    if allowed {
        status["reason"] = json!(format!(
            "RBAC: allowed by RoleBinding \"{account}/{namespace}\" of Role \"{account}\" to \
             ServiceAccount \"{account}/{namespace}\""
        ));
    }
    let mut review = json!({
        "kind": kind,
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": { "managedFields": [] },
        "spec": asked["spec"],
        "status": status,
    });
    if kind == "LocalSubjectAccessReview" {
        review["metadata"]["namespace"] = asked["metadata"]["namespace"].clone();
    }
    Some(Reply::json(201, &review))
}

fn target(attributes: &Value) -> Option<Target> {
    let text = |key: &str| attributes[key].as_str().unwrap_or_default().to_owned();
    let some = |key: &str| Some(text(key)).filter(|text| !text.is_empty());
    let verb = VERBS.into_iter().find(|verb| *verb == text("verb"))?;
    Some(Target {
        verb,
        group: text("group"),
        version: String::new(),
        namespace: text("namespace"),
        plural: text("resource"),
        name: some("name"),
        subresource: some("subresource"),
    })
}

/// Whether a binding of the namespace, or of all, gives it to the user of a review, or to one of
/// the groups that the review names.
fn is_bound(store: &Store, spec: &Value, target: &Target) -> bool {
    let bound = |bindings: Resource| {
        let bindings = store.everywhere(bindings);
        bindings.filter(|binding| {
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            let home = text(&binding["metadata"]["namespace"]);
            subjects.into_iter().any(|it| is_subject(it, home, spec))
        })
    };
    let here =
        |object: &&std::sync::Arc<Value>| object["metadata"]["namespace"] == target.namespace;
    let of_namespace = bound(Resource::RoleBindings).filter(here);
    let mut all = of_namespace.chain(bound(Resource::ClusterRoleBindings));
    all.any(|binding| grants(store, binding, target))
}

fn is_subject(subject: &Value, home: &str, spec: &Value) -> bool {
    let name = text(&subject["name"]);
    match text(&subject["kind"]) {
        "ServiceAccount" => {
            let namespace = subject["namespace"].as_str().unwrap_or(home);
            spec["user"] == format!("system:serviceaccount:{namespace}:{name}")
        }
        "Group" => {
            let groups = spec["groups"].as_array();
            groups.is_some_and(|groups| groups.iter().any(|it| it == name))
        }
        _ => spec["user"] == name,
    }
}

/// Whether the Role that a binding refers to grants it.
fn grants(store: &Store, binding: &Value, target: &Target) -> bool {
    let role = &binding["roleRef"];
    let kind = match text(&role["kind"]) {
        "Role" => Resource::Roles,
        _ => Resource::ClusterRoles,
    };
    let home = &binding["metadata"]["namespace"];
    let mut roles = store.everywhere(kind);
    let role = roles.find(|it| {
        let is_there = kind == Resource::ClusterRoles || it["metadata"]["namespace"] == *home;
        is_there && it["metadata"]["name"] == role["name"]
    });
    let rules = role.and_then(|role| role["rules"].as_array());
    let selected = Some(target.name()).filter(|name| !name.is_empty());
    rules.into_iter().flatten().any(|rule| {
        let texts = |key: &str| {
            let texts = rule[key].as_array().into_iter().flatten();
            texts.map(|it| text(it).to_owned()).collect()
        };
        let rule = Rule {
            groups: texts("apiGroups"),
            resources: texts("resources"),
            verbs: texts("verbs"),
            names: texts("resourceNames"),
        };
        rule.grants(target, selected)
    })
}
