//! The recordings of a second cluster: permissions on one object by its name, JSON
//! Patch, ReplicaSets, StatefulSets, and a custom kind with its discovery.

use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::recording::Recording;
use support::sandbox::{Options, Resource, Rule, Sandbox, SandboxApp, Workload};

use crate::json as body;

/// Permissions by name.
const NAMED: &[&str] = &[
    "35-named-role-list-by-name.http",
    "36-named-role-watch-by-name.http",
    "37-named-role-watch-without-name.http",
    "38-named-role-scale-forbidden.http",
    "58-self-subject-access-review.http",
    "59-local-subject-access-review.http",
];

/// JSON Patch, and replicas by a patch of the object itself.
const PATCHES: &[&str] = &[
    "42-json-patch-replace-missing-key.http",
    "43-json-patch-replace-no-annotations.http",
    "44-configmap-annotation-merge-patch.http",
    "45-deployment-get.http",
    "46-deployment-patch-replicas-guarded.http",
];

const REPLICA_SETS: &str = "47-replicasets-by-label.http";

const STATEFUL_SET: &[&str] = &[
    "48-statefulset-status-patch-condition.http",
    "49-statefulset-scale-patch-to-zero.http",
];

const STATEFUL_SET_SCALED: &str = "50-statefulset-get-condition-gone.http";

const CUSTOM: &[&str] = &[
    "51-group-discovery.http",
    "52-group-version-discovery.http",
    "53-custom-scale-get.http",
    "54-custom-scale-patch-to-zero.http",
    "55-custom-scale-patch-conflict.http",
    "56-custom-status-strategic-merge-refused.http",
    "57-custom-annotation-merge-patch.http",
];

/// Services by label, and what a watch says when the label is taken away.
const LABELLED: &[&str] = &[
    "62-services-list-by-label.http",
    "63-services-watch-label-taken-away.http",
];

const REPLICA_FAILURE: &str = "61-deployment-get-replica-failure.http";

/// Every recording that is replayed here, in order.
pub fn scripted() -> impl Iterator<Item = &'static str> {
    let before = NAMED.iter().chain(PATCHES).copied();
    let then = STATEFUL_SET.iter().copied();
    let last = CUSTOM.iter().copied();
    before
        .chain([REPLICA_SETS])
        .chain(then)
        .chain([STATEFUL_SET_SCALED])
        .chain(last)
        .chain([REPLICA_FAILURE])
        .chain(LABELLED.iter().copied())
}

/// Sends the recorded requests and tells what of the replies differs. Versions
/// that a request names are those of the reply before it.
fn differences(sandbox: &Sandbox, names: &[&str]) -> Vec<String> {
    let mut last = String::new();
    let mut differences = Vec::new();
    for name in names {
        let recording = Recording::load(name);
        let request = recording.edited(|request| {
            request
                // A real watch has its bookmark two seconds before its end: this
                // one is too short for any.
                .replace("&allowWatchBookmarks=true", "")
                .replace("timeoutSeconds=2", "timeoutSeconds=1")
                .replace("resourceVersion=9593", &format!("resourceVersion={last}"))
                .replace("\"9601\"", &format!("\"{last}\""))
        });
        let reply = Client::connect(sandbox).unwrap().send(&request).unwrap();
        let found = recording.differences(&reply);
        differences.extend(found.iter().map(|line| format!("{name}: {line}")));
        let object: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
            last = version.to_owned();
        }
    }
    differences
}

#[track_caller]
fn assert_replayed(sandbox: &Sandbox, names: &[&str]) {
    let differences = differences(sandbox, names);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

fn sandbox(options: Options) -> Sandbox {
    let quick = Duration::from_millis(20);
    Sandbox::start(Options {
        namespace: "rec2".to_owned(),
        start_delay: Some(quick),
        stop_delay: quick,
        ..options
    })
}

#[test]
fn a_role_for_one_name_allows_list_and_watch_of_that_name_and_nothing_else() {
    let sandbox = sandbox(Options::default());
    sandbox.set_account("named");
    let rule = Rule::new("apps", &["deployments"], &["get", "list", "watch"]);
    sandbox.set_rules(vec![rule.named("myapp")]);
    sandbox.expect("a Deployment at rest", |state| {
        state
            .deployment()
            .is_some_and(|it| it["status"]["terminatingReplicas"] == 0)
    });
    assert_replayed(&sandbox, NAMED);
    let mut client = Client::connect(&sandbox).unwrap();
    let other = "/apis/apps/v1/namespaces/rec2/deployments?fieldSelector=metadata.name%3Dother";
    assert_eq!(client.get(other).unwrap().status, 403);
}

#[test]
fn patches_of_the_object_itself_are_answered_as_recorded() {
    let sandbox = sandbox(Options {
        start_delay: None,
        ..Options::default()
    });
    let plain = json!({ "metadata": { "name": "plain" } });
    sandbox.create(Resource::ConfigMaps, plain);
    sandbox.set_account("recorder");
    // The controllers' answer to the annotation comes between 44 and 45.
    assert_replayed(&sandbox, &PATCHES[..3]);
    sandbox.expect("the annotation was seen", |state| {
        state
            .deployment()
            .is_some_and(|it| it["status"]["observedGeneration"] == 2)
    });
    sandbox.never_ready();
    assert_replayed(&sandbox, &PATCHES[3..]);
}

#[test]
fn a_replica_set_names_its_owner_and_copies_its_annotations() {
    let sandbox = sandbox(Options {
        replicas: 0,
        ..Options::default()
    });
    sandbox.edit(|it| {
        it["metadata"]["annotations"]["zero-pod-autoscaler/scale-down-at"] =
            "2026-11-25T03:00:00Z".into();
    });
    sandbox.set_replicas(1);
    sandbox.expect("a ready pod, counted", |state| {
        let sets = state.store.list(Resource::ReplicaSets);
        let counted = |set: &std::sync::Arc<Value>| set["status"]["readyReplicas"] == 1;
        sets.into_iter().any(counted)
    });
    assert_replayed(&sandbox, &[REPLICA_SETS]);
}

#[test]
fn the_controller_of_a_stateful_set_wipes_conditions_of_others_when_its_count_changes() {
    let sandbox = sandbox(Options {
        workload: Workload::StatefulSet,
        name: "db".to_owned(),
        replicas: 1,
        ..Options::default()
    });
    sandbox.expect("a ready pod, counted", |state| {
        state
            .deployment()
            .is_some_and(|it| it["status"]["availableReplicas"] == 1)
    });
    assert_replayed(&sandbox, STATEFUL_SET);
    sandbox.expect("no pod, counted", |state| {
        state
            .deployment()
            .is_some_and(|it| it["status"]["availableReplicas"] == 0 && state.pods() == 0)
    });
    assert_replayed(&sandbox, &[STATEFUL_SET_SCALED]);
}

#[test]
fn a_custom_kind_is_discovered_scaled_and_annotated_as_recorded() {
    let sandbox = sandbox(Options::default());
    let web = json!({
        "metadata": {
            "name": "web",
            "generation": 1,
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}\n" },
        },
        "spec": { "replicas": 2 },
    });
    sandbox.create(Resource::Rollouts, web);
    assert_replayed(&sandbox, CUSTOM);
}

#[test]
fn a_quota_that_allows_no_pod_is_a_condition_of_the_deployment() {
    let sandbox = sandbox(Options::default());
    sandbox.set_quota_exceeded(true);
    sandbox.edit(|it| {
        it["metadata"]["annotations"]["zero-pod-autoscaler/scale-down-at"] =
            "2026-11-25T03:00:00Z".into();
    });
    // As often as its generation was raised before the recording.
    for replicas in [1, 0, 1] {
        sandbox.set_replicas(replicas);
    }
    sandbox.expect("the failure is reported", |state| {
        let deployment = state.deployment();
        deployment.is_some_and(|it| {
            let conditions = it["status"]["conditions"].as_array();
            let fails = |all: &Vec<Value>| all.iter().any(|c| c["type"] == "ReplicaFailure");
            it["status"]["observedGeneration"] == 5 && conditions.is_some_and(fails)
        })
    });
    assert_replayed(&sandbox, &[REPLICA_FAILURE]);
    sandbox.set_replicas(0);
    sandbox.expect("it is over", |state| {
        let deployment = state.deployment();
        deployment.is_some_and(|it| it["status"]["conditions"].as_array().unwrap().len() == 2)
    });
}

#[test]
fn a_custom_kind_without_a_count_has_no_scale() {
    let sandbox = sandbox(Options::default());
    let bare = json!({ "metadata": { "name": "bare" }, "spec": {} });
    sandbox.create(Resource::Rollouts, bare);
    let mut client = Client::connect(&sandbox).unwrap();
    let object = "/apis/argoproj.io/v1alpha1/namespaces/rec2/rollouts/bare";
    assert_eq!(client.get(object).unwrap().status, 200);
    assert_eq!(client.get(&format!("{object}/scale")).unwrap().status, 500);
}

#[test]
fn labels_select_by_value_by_presence_and_by_absence() {
    let sandbox = sandbox(Options::default());
    let mut client = Client::connect(&sandbox).unwrap();
    for (selector, count) in [
        ("app%3Dmyapp", 1),
        ("app%3D%3Dmyapp", 1),
        ("app%3Dother", 0),
        ("app!%3Dother", 1),
        ("app!%3Dmyapp", 0),
        ("app", 1),
        ("!app", 0),
        ("!tier,app%3Dmyapp", 1),
    ] {
        let path = format!("/apis/apps/v1/namespaces/rec2/deployments?labelSelector={selector}");
        let list = body(&client.get(&path).unwrap());
        let items = list["items"].as_array().expect("items");
        assert_eq!(items.len(), count, "{selector}");
    }
}

#[test]
fn a_service_whose_label_is_taken_away_is_deleted_to_who_selects_by_it() {
    let sandbox = sandbox(Options::default());
    sandbox.delete_service_of("myapp");
    let recorded = Recording::load(LABELLED[0]).json()["items"][0].take();
    sandbox.create(Resource::Services, recorded);
    assert_replayed(&sandbox, &LABELLED[..1]);
    let listed = sandbox.state().store.version();
    sandbox.edit_service("myapp", |service| {
        service["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("labels");
    });
    let recording = Recording::load(LABELLED[1]);
    let request = recording.edited(|request| {
        let request = request.replace("timeoutSeconds=3", "timeoutSeconds=1");
        request.replace("resourceVersion=9705", &format!("resourceVersion={listed}"))
    });
    let reply = Client::connect(&sandbox).unwrap().send(&request).unwrap();
    assert_eq!(recording.differences(&reply), [""; 0]);
}

#[test]
fn a_service_that_gets_the_label_is_added_to_who_selects_by_it() {
    let sandbox = sandbox(Options::default());
    let from = sandbox.state().store.version();
    for (label, others) in [("true", "1"), ("true", "2"), ("false", "3")] {
        sandbox.edit_service("myapp", |service| {
            service["metadata"]["labels"]["enabled"] = label.into();
            service["metadata"]["labels"]["other"] = others.into();
        });
    }
    let path = format!(
        "/api/v1/namespaces/rec2/services?labelSelector=enabled%3Dtrue&watch=true\
         &timeoutSeconds=1&resourceVersion={from}"
    );
    let reply = Client::connect(&sandbox).unwrap().get(&path).unwrap();
    let text = String::from_utf8(reply.body).unwrap();
    let events = text.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["type"].as_str().unwrap().to_owned()
    });
    let events: Vec<String> = events.collect();
    assert_eq!(events, ["ADDED", "MODIFIED", "DELETED"]);
}

/// Two Deployments of one name, in the namespace of the sandbox and in another.
fn two_namespaces() -> Sandbox {
    sandbox(Options {
        further_apps: vec![SandboxApp::new("myapp", 2).within("dev")],
        ..Options::default()
    })
}

#[test]
fn a_list_and_a_watch_of_all_namespaces_take_a_rule_for_all_and_show_all() {
    let sandbox = two_namespaces();
    let mut client = Client::connect(&sandbox).unwrap();
    let path = "/apis/apps/v1/deployments";
    let refused = client.get(path).unwrap();
    assert_eq!(refused.status, 403);
    let message = body(&refused)["message"].as_str().unwrap().to_owned();
    assert!(
        message.ends_with("in API group \"apps\" at the cluster scope"),
        "{message}"
    );
    let of_another = "/apis/apps/v1/namespaces/dev/deployments/myapp";
    assert_eq!(
        client.get(of_another).unwrap().status,
        403,
        "a Role is of one namespace"
    );

    let verbs = ["get", "list", "watch", "patch"];
    let resources = ["deployments", "deployments/scale"];
    sandbox.set_cluster_rules(vec![Rule::new("apps", &resources, &verbs)]);
    let replicas = |object: &Value| {
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        (
            namespace.to_owned(),
            object["spec"]["replicas"].as_u64().unwrap(),
        )
    };
    let list = body(&client.get(path).unwrap());
    let all: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(replicas)
        .collect();
    assert_eq!(all, [("dev".to_owned(), 2), ("rec2".to_owned(), 0)]);
    let one = body(
        &client
            .get("/apis/apps/v1/namespaces/dev/deployments")
            .unwrap(),
    );
    assert_eq!(one["items"].as_array().unwrap().len(), 1);

    // In pages, too.
    let mut page = body(&client.get(&format!("{path}?limit=1")).unwrap());
    assert_eq!(replicas(&page["items"][0]).0, "dev");
    let token = page["metadata"]["continue"].take();
    let next = format!("{path}?limit=1&continue={}", token.as_str().unwrap());
    let page = body(&client.get(&next).unwrap());
    assert_eq!(replicas(&page["items"][0]).0, "rec2");
    assert_eq!(page["items"].as_array().unwrap().len(), 1);

    let from = sandbox.state().store.version();
    let scale = "/apis/apps/v1/namespaces/dev/deployments/myapp/scale";
    let patched = client.patch(scale, r#"{"spec":{"replicas":0}}"#).unwrap();
    assert_eq!(patched.status, 200);
    let watched = |path: &str| {
        let query = format!("watch=true&timeoutSeconds=1&resourceVersion={from}");
        let reply = Client::connect(&sandbox)
            .unwrap()
            .get(&format!("{path}?{query}"));
        let text = String::from_utf8(reply.unwrap().body).unwrap();
        let line = text.lines().next().map(str::to_owned);
        line.map(|line| replicas(&serde_json::from_str::<Value>(&line).unwrap()["object"]))
    };
    assert_eq!(watched(path), Some(("dev".to_owned(), 0)));
    assert_eq!(watched("/apis/apps/v1/namespaces/rec2/deployments"), None);
    assert_eq!(sandbox.state().replicas(), 0, "the other of that name");
}
