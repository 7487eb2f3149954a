use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::client::Client;
use super::super::credentials::Credentials;
use super::super::testing::{self, recorded_body, reply, serve};
use super::*;

const GROUP: &str = "/apis/argoproj.io";

/// An API server that has what a table says, and 404 for the rest.
fn server(pages: Vec<(&'static str, String)>) -> SocketAddr {
    serve(move |asked, stream| {
        let path = asked.target.split('?').next().unwrap_or_default();
        let target = (asked.target.as_str(), path);
        let page = pages
            .iter()
            .find(|(at, _)| *at == target.0 || *at == target.1);
        match page {
            Some((_, body)) => reply(stream, 200, "", body),
            None => reply(
                stream,
                404,
                "",
                r#"{"message":"the server could not find it"}"#,
            ),
        }
    })
}

fn recorded(name: &str) -> String {
    String::from_utf8(recorded_body(name)).unwrap()
}

fn recorded_group() -> Vec<(&'static str, String)> {
    vec![
        (GROUP, recorded("51-group-discovery")),
        (
            "/apis/argoproj.io/v1alpha1",
            recorded("52-group-version-discovery"),
        ),
    ]
}

fn found(pages: Vec<(&'static str, String)>, wanted: &TargetRef) -> Result<Object, String> {
    let credentials = Credentials::new(testing::access(server(pages)), testing::clock);
    let client = Client::new(Arc::new(credentials.unwrap()), Arc::default());
    let found = find(&client.calls(), "rec2", wanted);
    found.map_err(|unfound| unfound.map_or_else(|it| it.text, |reply| reply.explanation()))
}

fn object(plural: &str, group: &str, name: &str) -> TargetRef {
    TargetRef::Object {
        resource: Resource {
            plural: plural.to_owned(),
            group: group.to_owned(),
        },
        name: name.to_owned(),
    }
}

fn rollout(name: &str) -> Object {
    Object {
        resource: ApiResource {
            group: "argoproj.io".to_owned(),
            version: "v1alpha1".to_owned(),
            plural: "rollouts".to_owned(),
            kind: "Rollout".to_owned(),
        },
        name: name.to_owned(),
    }
}

#[test]
fn kinds_of_apps_need_no_request() {
    for (plural, kind) in [
        ("deployments", "Deployment"),
        ("statefulsets", "StatefulSet"),
        ("replicasets", "ReplicaSet"),
    ] {
        let found = found(Vec::new(), &object(plural, "apps", "db")).unwrap();
        assert_eq!(found.resource, ApiResource::apps(plural, kind));
    }
}

#[test]
fn a_custom_kind_is_found_in_the_version_that_the_server_has() {
    let wanted = object("rollouts", "argoproj.io", "web");
    assert_eq!(found(recorded_group(), &wanted), Ok(rollout("web")));
}

#[test]
fn the_preferred_version_comes_first_and_the_others_if_it_has_no_scale() {
    let versions = |preferred: &str| {
        let version = |name: &str| json!({ "version": name });
        json!({
            "versions": [version("v1"), version("v2")],
            "preferredVersion": version(preferred),
        })
        .to_string()
    };
    let resources = |scale: bool| {
        let entry = |name: &str| json!({ "name": name, "kind": "Thing", "namespaced": true });
        let mut entries = vec![entry("things"), entry("things/status")];
        entries.extend(scale.then(|| entry("things/scale")));
        json!({ "resources": entries }).to_string()
    };
    for (label, preferred, in_v1, in_v2, expected) in [
        ("both have it", "v2", true, true, Ok("v2")),
        ("both have it", "v1", true, true, Ok("v1")),
        ("only the other has it", "v2", true, false, Ok("v1")),
        (
            "none has it",
            "v2",
            false,
            false,
            Err(
                "404 the API server has no things.example.org with a scale subresource; `kubectl \
                 api-resources` shows what it has",
            ),
        ),
    ] {
        let pages = vec![
            ("/apis/example.org", versions(preferred)),
            ("/apis/example.org/v1", resources(in_v1)),
            ("/apis/example.org/v2", resources(in_v2)),
        ];
        let found = found(pages, &object("things", "example.org", "one"));
        let version = found.map(|object| object.resource.version);
        assert_eq!(
            version.as_deref().map_err(String::as_str),
            expected,
            "{label}"
        );
    }
}

#[test]
fn what_the_server_says_of_a_group_that_it_does_not_have_is_passed_on() {
    let wanted = object("rollouts", "argoproj.io", "web");
    let why = found(Vec::new(), &wanted).unwrap_err();
    assert_eq!(why, "404 the server could not find it");
}

fn list(items: &[Value]) -> String {
    json!({ "metadata": { "resourceVersion": "7" }, "items": items }).to_string()
}

fn item(name: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let owners = owner.map(|(api_version, kind, name)| {
        json!([
            { "apiVersion": "v1", "kind": "Other", "name": "not-it" },
            { "apiVersion": api_version, "kind": kind, "name": name, "controller": true },
        ])
    });
    json!({ "metadata": { "name": name, "ownerReferences": owners } })
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/rec2/deployments";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/rec2/replicasets";

#[test]
fn of_objects_that_labels_select_there_must_be_exactly_one() {
    let wanted = TargetRef::Labels {
        resource: Resource::deployments(),
        selector: "app=guestbook,tier in (web)".to_owned(),
    };
    for (items, expected) in [
        (vec![item("web", None)], Ok("web")),
        (
            vec![],
            Err(
                "404 there is none: the deployments.apps with the labels app=guestbook,tier in (web)",
            ),
        ),
        (
            vec![item("web", None), item("api", None)],
            Err(
                "404 there are 2, and only one can be scaled: the deployments.apps with the labels \
                 app=guestbook,tier in (web) (api, web)",
            ),
        ),
    ] {
        let found = found(vec![(DEPLOYMENTS, list(&items))], &wanted);
        let name = found.map(|object| object.name);
        assert_eq!(name.as_deref().map_err(String::as_str), expected);
    }
}

fn owner_of(items: &[Value]) -> Result<Object, String> {
    let mut pages = recorded_group();
    pages.push((REPLICA_SETS, list(items)));
    let selector = "app=guestbook".to_owned();
    found(pages, &TargetRef::ReplicaSetOwner { selector })
}

#[test]
fn the_owner_of_a_replica_set_is_scaled_be_it_a_deployment_or_a_rollout() {
    let deployment = Some(("apps/v1", "Deployment", "frontend"));
    let argo = Some(("argoproj.io/v1alpha1", "Rollout", "frontend"));
    for (label, items, expected) in [
        (
            "a Deployment's",
            vec![item("frontend-1", deployment)],
            "deployments",
        ),
        (
            "those of former templates too",
            vec![
                item("frontend-1", deployment),
                item("frontend-2", deployment),
            ],
            "deployments",
        ),
        ("a Rollout's", vec![item("frontend-1", argo)], "rollouts"),
        ("nobody's", vec![item("frontend", None)], "replicasets"),
    ] {
        let found = owner_of(&items).unwrap();
        assert_eq!(
            (found.resource.plural.as_str(), found.name.as_str()),
            (expected, "frontend"),
            "{label}"
        );
    }
}

#[test]
fn the_recorded_replica_set_leads_to_its_deployment() {
    let pages = vec![(REPLICA_SETS, recorded("47-replicasets-by-label"))];
    let selector = "app=myapp".to_owned();
    let found = found(pages, &TargetRef::ReplicaSetOwner { selector }).unwrap();
    let expected = ApiResource::apps("deployments", "Deployment");
    assert_eq!((found.resource, found.name.as_str()), (expected, "myapp"));
}

#[test]
fn replica_sets_of_two_owners_or_of_one_that_cannot_be_scaled_are_refused() {
    let owned = |kind, name| item("frontend-1", Some(("argoproj.io/v1alpha1", kind, name)));
    for (items, why) in [
        (
            vec![owned("Rollout", "a"), owned("Rollout", "b")],
            "404 there are 2, and only one can be scaled: the owner of the ReplicaSet with the \
             labels app=guestbook (a, b)",
        ),
        (
            vec![owned("Workflow", "a")],
            "404 the owner of the ReplicaSet is a Workflow of argoproj.io/v1alpha1, which has no \
             scale subresource",
        ),
    ] {
        assert_eq!(owner_of(&items), Err(why.to_owned()));
    }
}

#[test]
fn the_controller_of_an_object_is_found_among_its_owners() {
    let owned = item("myapp", Some(("db.example.org/v1", "Database", "shop")));
    let owner = controller(owned.to_string().as_bytes()).unwrap();
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("Database", "shop")
    );
    for body in [
        item("myapp", None).to_string(),
        "{}".to_owned(),
        String::new(),
    ] {
        assert_eq!(controller(body.as_bytes()), None, "{body}");
    }
}
