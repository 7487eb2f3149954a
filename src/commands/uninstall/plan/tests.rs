use serde_json::{Value, json};

use super::super::proxies::List;
use super::*;
use crate::commands::uninstall::list::Source;
use crate::commands::uninstall::{LABEL, NAME};
use crate::settings::{self, Invocation, Settings};
use crate::workload::TargetRef;

fn key(name: &str) -> Key {
    Key {
        namespace: "shop".to_owned(),
        target: TargetRef::deployment(name),
    }
}

fn asleep() -> Value {
    json!({
        "metadata": { "annotations": {} },
        "spec": { "replicas": 0 },
        "status": { "conditions": [
            { "type": "zero-pod-autoscaler/PreviousReplicas", "message": "3" },
        ] },
    })
}

fn app(name: &str, target: Value) -> App {
    App {
        key: key(name),
        service_name: name.to_owned(),
        wake_replicas: 2,
        target,
        service: None,
        is_taken_over: false,
        pods_service: None,
    }
}

/// With a Service that makes it an app.
fn found_app(name: &str, target: Value) -> App {
    let annotations = json!({ "zero-pod-autoscaler/listen": ":8080" });
    App {
        service: Some(json!({ "metadata": { "annotations": annotations } })),
        ..app(name, target)
    }
}

fn found(plural: &'static str, kind: &'static str) -> Found {
    Found {
        plural,
        kind,
        namespace: None,
        name: "zpa".to_owned(),
        path: String::new(),
        release: None,
    }
}

fn pods() -> Vec<Pods> {
    vec![Pods {
        namespace: "shop".to_owned(),
        selector: "a=b".to_owned(),
    }]
}

fn settings_of(args: &[&str]) -> Settings {
    match settings::parse(args.iter().map(Into::into), |_| None) {
        Ok(Invocation::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

fn proxy(serves: Serves) -> Proxy {
    let settings = settings_of(&["--apps=/a"]);
    Proxy::new("shop", "zpa", settings, serves)
}

fn list(names: &[&str]) -> Serves {
    let entries = names.iter().map(|name| json!({ "deployment": name }));
    let entries: Value = entries.collect();
    Serves::List(List {
        source: Source {
            config_map: "list".to_owned(),
            key: "a".to_owned(),
        },
        text: entries.to_string(),
        version: "7".to_owned(),
        apps: names.iter().map(|name| key(name)).collect(),
        is_ours: true,
    })
}

fn lines(facts: &Facts) -> Vec<String> {
    plan(facts).unwrap().iter().map(Step::to_string).collect()
}

#[test]
fn the_app_is_woken_first_and_its_traces_are_removed_once_nobody_can_write_them() {
    let facts = Facts {
        apps: vec![found_app("a", asleep())],
        objects: vec![found("deployments", "Deployment"), found("roles", "Role")],
        pods: pods(),
        ..Facts::default()
    };
    assert_eq!(
        lines(&facts),
        [
            "wake shop/a: scale it to 3",
            "wait until a pod of shop/a is ready",
            "remove from the Service a: zero-pod-autoscaler/listen",
            "delete the Deployment zpa",
            "wait until the pods of the proxies have ended",
            "delete the Role zpa",
            "see that shop/a is awake, or wake it again",
            "remove the conditions and annotations of zpa from shop/a",
        ]
    );
}

#[test]
fn of_all_that_are_found_the_services_come_last_so_that_a_second_run_finds_them() {
    let awake = json!({ "spec": { "replicas": 1 } });
    let facts = Facts {
        apps: vec![
            found_app("a", asleep()),
            found_app("b", awake),
            found_app("c", Value::Null),
        ],
        are_all_found: true,
        objects: vec![found("deployments", "Deployment")],
        pods: pods(),
        ..Facts::default()
    };
    assert_eq!(
        lines(&facts),
        [
            "wake shop/a: scale it to 3",
            "wait until a pod of shop/a is ready",
            "delete the Deployment zpa",
            "wait until the pods of the proxies have ended",
            "see that shop/a is awake, or wake it again",
            "see that shop/b is awake, or wake it again",
            "remove the conditions and annotations of zpa from shop/a",
            "remove the conditions and annotations of zpa from shop/b",
            "remove from the Service a: zero-pod-autoscaler/listen",
            "remove from the Service b: zero-pod-autoscaler/listen",
            "remove from the Service c: zero-pod-autoscaler/listen",
        ]
    );
}

#[test]
fn an_app_of_a_list_is_taken_out_of_it_and_the_proxy_is_waited_for() {
    let shared = proxy(list(&["b", "a", "c"]));
    assert_eq!(
        shortened(&shared, &[key("a")]).unwrap(),
        r#"[{"deployment":"b"},{"deployment":"c"}]"#
    );
    let facts = Facts {
        apps: vec![app("a", asleep())],
        shared: vec![shared],
        ..Facts::default()
    };
    assert_eq!(
        lines(&facts),
        [
            "wake shop/a: scale it to 3",
            "take shop/a out of the ConfigMap list",
            "wait until Deployment zpa has let go",
            "see that shop/a is awake, or wake it again",
            "remove the conditions and annotations of zpa from shop/a",
        ]
    );
}

#[test]
fn after_a_first_run_a_proxy_that_has_had_the_app_is_waited_for_and_one_that_has_not_is_left() {
    let others = || vec![proxy(list(&["b"]))];
    let mut marked = asleep();
    marked["spec"]["replicas"] = 1.into();
    let facts = Facts {
        apps: vec![app("a", marked)],
        others: others(),
        ..Facts::default()
    };
    assert_eq!(
        lines(&facts),
        [
            "wait until Deployment zpa has let go",
            "see that shop/a is awake, or wake it again",
            "remove the conditions and annotations of zpa from shop/a",
        ]
    );
    let clean = Facts {
        apps: vec![app("a", json!({ "spec": { "replicas": 1 } }))],
        others: others(),
        ..Facts::default()
    };
    assert_eq!(lines(&clean), [] as [&str; 0]);
}

#[test]
fn what_is_not_there_is_not_removed_and_a_service_that_leads_to_the_proxy_ends_it() {
    let mut target = asleep();
    target["status"] = json!({});
    let facts = |target: &Value| Facts {
        apps: vec![app("a", target.clone())],
        ..Facts::default()
    };
    assert_eq!(lines(&facts(&target))[0], "wake shop/a: scale it to 2");
    target["spec"]["replicas"] = 1.into();
    assert_eq!(lines(&facts(&target)), [] as [&str; 0]);
    let mut taken_over = facts(&target);
    taken_over.apps[0].service = Some(json!({ "metadata": { "labels": { LABEL: NAME } } }));
    taken_over.apps[0].is_taken_over = true;
    let why = plan(&taken_over).unwrap_err();
    assert!(why.contains("apply your own Service a again"), "{why}");
    let service =
        |selector: Value| json!({ "spec": { "selector": selector, "ports": [{ "port": 80 }] } });
    taken_over.apps[0].service = Some(service(json!({ LABEL: NAME })));
    taken_over.apps[0].pods_service = Some(service(json!({ "app": "a" })));
    assert_eq!(
        lines(&taken_over),
        [
            "wait until a pod of shop/a is ready",
            "lead the Service a to the app's pods again"
        ]
    );
}

#[test]
fn what_is_of_a_release_of_helm_is_left_to_helm() {
    let mut target = asleep();
    target["spec"]["replicas"] = 1.into();
    let proxy = Found {
        namespace: Some("shop".to_owned()),
        release: Some("shop-zpa".to_owned()),
        ..found("deployments", "Deployment")
    };
    let facts = Facts {
        apps: vec![app("a", target)],
        objects: vec![proxy],
        ..Facts::default()
    };
    let why = plan(&facts).unwrap_err();
    assert!(
        why.contains("\n  helm uninstall -n shop shop-zpa\n"),
        "{why}"
    );
}
