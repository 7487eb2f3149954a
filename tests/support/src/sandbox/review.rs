//! Access reviews: the permissions of the service account, as in recordings 58 and 59.

use serde_json::{Value, json};

use super::access::{Access, Target};
use super::http::{Reply, Request};
use super::selector::Selector;

const GROUP: &str = "/apis/authorization.k8s.io/v1/";

const VERBS: [&str; 5] = ["get", "list", "watch", "patch", "create"];

/// Answers a review; `None` for anything else. Whoever is authenticated may ask about
/// themselves (`system:basic-user`); about others an administrator, as which every client
/// is taken here.
pub fn answer(access: &Access, request: &Request) -> Option<Reply> {
    let path = request.path.strip_prefix(GROUP)?;
    let local = format!("namespaces/{}/localsubjectaccessreviews", access.namespace);
    let kind = match path {
        "selfsubjectaccessreviews" => "SelfSubjectAccessReview",
        path if path == local => "LocalSubjectAccessReview",
        _ => return None,
    };
    if request.method != "POST" {
        return None;
    }
    let asked: Value = serde_json::from_slice(&request.body).ok()?;
    let (namespace, account) = (&access.namespace, &access.account);
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let is_ours = asked["spec"]["user"].as_str().is_none_or(|it| it == user);
    let allowed = is_ours
        && target(&asked["spec"]["resourceAttributes"]).is_some_and(|target| {
            // Under resourceNames a list or a watch of one object is allowed.
            access.permits(&target, &Selector::by_name(target.name()))
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
        review["metadata"]["namespace"] = json!(namespace);
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
