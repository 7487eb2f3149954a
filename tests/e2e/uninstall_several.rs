//! `zpa uninstall` where a proxy has several apps: one of them leaves it, or all do.

use super::apps_file::{List, app, expect_status, start as start_listed, status_of, three};
use super::discover::{annotate, start};
use super::uninstall::{printed, zpa_command};
use super::*;

use std::process::Output;
use std::thread;

use serde_json::{Value, json};
use support::sandbox::{Misbehaviour, Resource, Rule, Times};

const LISTEN: (&str, &str) = ("listen", "127.0.0.1:0");
const LABELS: &str = "zero-pod-autoscaler/enabled=true";
const DRAIN: (&str, &str) = ("ZPA_DRAIN_TIMEOUT", "2s");

/// The objects of a proxy in the sandbox: its Deployment with these variables, its Role, and its
/// pod, which is this process.
fn install(sandbox: &Sandbox, zpa: &Zpa, name: &str, variables: &[(&str, &str)]) {
    sandbox.set_rules(vec![Rule::new("*", &["*"], &["*"])]);
    let port = zpa.visit().peer_addr().unwrap().port();
    let admin = format!("127.0.0.1:{port}");
    let admin = [
        ("ZPA_ADMIN_LISTEN", &*admin),
        ("ZPA_DRAIN_DELAY", "0"),
        DRAIN,
    ];
    let variables = variables.iter().copied().chain(admin);
    let variables = variables.map(|(name, value)| json!({ "name": name, "value": value }));
    let variables: Vec<Value> = variables.collect();
    let labels = json!({ "app.kubernetes.io/name": "zero-pod-autoscaler" });
    let container = json!({
        "name": "zpa",
        "env": variables,
        "volumeMounts": [{ "name": "list", "mountPath": "/etc/zpa" }],
    });
    let pod = json!({
        "containers": [container],
        "volumes": [{ "name": "list", "configMap": { "name": "apps-list" } }],
    });
    let metadata = json!({ "name": name, "labels": labels });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let deployment = json!({
        "metadata": metadata,
        "spec": { "selector": { "matchLabels": labels }, "template": template },
    });
    let front = json!({ "metadata": { "name": "front" }, "spec": { "selector": labels } });
    sandbox.create(Resource::Services, front);
    sandbox.create(Resource::Deployments, deployment);
    sandbox.create(Resource::Roles, json!({ "metadata": metadata }));
    let pod = json!({
        "metadata": metadata,
        "status": { "phase": "Running", "podIP": "127.0.0.1" },
    });
    sandbox.create(Resource::Pods, pod);
}

/// Runs the command for several apps, whose flags name them.
fn uninstall_several(sandbox: &Sandbox, args: &[&str]) -> Output {
    let mut command = command_of_apps(sandbox, &[]);
    command.arg("uninstall").args(args).output().unwrap()
}

fn object(sandbox: &Sandbox, resource: Resource, name: &str) -> Option<Value> {
    let state = sandbox.state();
    state.store.get(resource, name).map(|it| (**it).clone())
}

fn deployment(sandbox: &Sandbox, name: &str) -> String {
    object(sandbox, Resource::Deployments, name)
        .unwrap()
        .to_string()
}

fn has_traces(sandbox: &Sandbox, name: &str) -> bool {
    let service = object(sandbox, Resource::Services, name).unwrap();
    let traced = deployment(sandbox, name) + &service.to_string();
    traced.contains("zero-pod-autoscaler")
}

/// Two apps that are found by their Services, and asleep.
fn fleet(ttl: (&str, &str)) -> (Sandbox, Zpa) {
    let sandbox = three(0);
    annotate(&sandbox, "myapp", &[LISTEN]);
    annotate(&sandbox, "blog", &[LISTEN]);
    let zpa = start(&sandbox, &[ttl, DRAIN]);
    expect_status(&zpa, "both apps", |status| {
        status["apps"].as_array().unwrap().len() == 2
    });
    install(&sandbox, &zpa, "fleet-zpa", &[("ZPA_DISCOVER", LABELS)]);
    (sandbox, zpa)
}

fn address(zpa: &Zpa, name: &str) -> std::net::SocketAddr {
    super::apps_file::address(zpa, name)
}

#[test]
fn one_app_leaves_a_proxy_that_finds_its_apps_and_nothing_of_it_comes_back() {
    let (sandbox, zpa) = fleet(("ZPA_IDLE_TTL", "2s"));
    // Its connection lives until the end of the drain, and the lease is renewed until then.
    let mut kept = zpa.connect_to(address(&zpa, "myapp"));
    echo(&mut kept, "awake");
    let mut other = zpa.connect_to(address(&zpa, "blog"));
    echo(&mut other, "awake");
    sandbox.expect("the leases are written", |state| {
        state.count(&on("patch", "deployments/status")) >= 2
    });

    let dry = printed(&zpa_command(&sandbox, &["uninstall", "--dry-run"]));
    let expected = [
        "would remove from the Service myapp: zero-pod-autoscaler/listen, zero-pod-autoscaler/enabled",
        "would wait until Deployment fleet-zpa has let go",
        "would see that default/myapp is awake, or wake it again",
        "would remove the conditions and annotations of zpa from default/myapp",
    ];
    assert_eq!(dry.lines().collect::<Vec<_>>(), expected);

    let output = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(printed(&output), dry.replace("would ", "done: "));
    expect_status(&zpa, "it has gone", |status| {
        status["apps"].as_array().unwrap().len() == 1
    });
    assert!(
        !has_traces(&sandbox, "myapp"),
        "{}",
        deployment(&sandbox, "myapp")
    );
    assert_eq!(sandbox.state().replicas(), 1);
    echo(&mut other, "is left alone");
    assert!(has_traces(&sandbox, "blog"));
    assert!(object(&sandbox, Resource::Deployments, "fleet-zpa").is_some());
    let again = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(printed(&again), "nothing is left of zpa\n");
}

#[test]
fn an_app_that_sleeps_is_woken_first_and_without_the_status_the_drain_is_waited_for() {
    let (sandbox, zpa) = fleet(LONG_TTL);
    sandbox.deny("get", "pods/proxy");
    let output = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(printed(&output).starts_with("done: wake default/myapp: scale it to 1\n"));
    let status = zpa.status();
    assert_eq!(status["apps"].as_array().unwrap().len(), 1, "{status}");
    assert!(!has_traces(&sandbox, "myapp"));
    assert_eq!(sandbox.state().replicas(), 1);
    assert_eq!(sandbox.state().replicas_of("blog"), 0);
}

/// Ends the process once its Deployment is deleted, as the controllers would.
fn follow(sandbox: &Sandbox, mut zpa: Zpa) {
    sandbox.expect("the Deployment is deleted", |state| {
        state
            .store
            .get(Resource::Deployments, "fleet-zpa")
            .is_none()
    });
    zpa.signal("TERM");
    zpa.wait();
    sandbox.delete(Resource::Pods, "fleet-zpa");
}

#[test]
fn all_apps_of_a_proxy_are_woken_and_cleaned_and_a_second_run_does_what_a_first_has_left() {
    let (sandbox, zpa) = fleet(LONG_TTL);
    echo(&mut zpa.connect_to(address(&zpa, "blog")), "awake");
    sandbox.deny("delete", "roles");
    let args = ["--discover", LABELS];
    let first = thread::scope(|scope| {
        let first = scope.spawn(|| uninstall_several(&sandbox, &args));
        follow(&sandbox, zpa);
        first.join().unwrap()
    });
    assert_eq!(first.status.code(), Some(1), "{first:?}");
    let text = printed(&first);
    assert!(
        text.starts_with("done: wake default/myapp: scale it to 1\n"),
        "{text}"
    );
    assert!(
        text.contains("failed: delete the Role fleet-zpa: 403"),
        "{text}"
    );
    let front = "left: the Service front leads to Deployment fleet-zpa alone";
    assert!(text.contains(front), "{text}");
    assert_eq!(sandbox.state().replicas(), 1);
    assert!(
        has_traces(&sandbox, "blog"),
        "so that a second run finds it"
    );

    sandbox.allow_all();
    let second = uninstall_several(&sandbox, &[&args[..], &["--name=fleet-zpa"]].concat());
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    assert!(object(&sandbox, Resource::Roles, "fleet-zpa").is_none());
    for name in ["myapp", "blog"] {
        assert!(!has_traces(&sandbox, name), "{name}: {}", printed(&second));
        assert_eq!(sandbox.state().replicas_of(name), 1, "{name}");
    }
}

/// Two apps of a list that is kept in a ConfigMap, and asleep.
fn listed(name: &str) -> (Sandbox, Zpa, List) {
    let sandbox = three(0);
    let apps = json!([app("myapp"), app("blog")]);
    let list = List::new(name, &apps);
    let zpa = start_listed(&sandbox, &list, &[LONG_TTL, DRAIN]);
    expect_status(&zpa, "both apps", |status| {
        status["apps"].as_array().unwrap().len() == 2
    });
    install(
        &sandbox,
        &zpa,
        "apps-zpa",
        &[("ZPA_APPS", "/etc/zpa/apps.json")],
    );
    let map =
        json!({ "metadata": { "name": "apps-list" }, "data": { "apps.json": apps.to_string() } });
    sandbox.create(Resource::ConfigMaps, map);
    (sandbox, zpa, list)
}

fn list_of(sandbox: &Sandbox) -> Value {
    let map = object(sandbox, Resource::ConfigMaps, "apps-list").unwrap();
    serde_json::from_str(map["data"]["apps.json"].as_str().unwrap()).unwrap()
}

#[test]
fn one_app_leaves_a_list_in_a_config_map_that_is_changed_only_as_it_was_read() {
    let (sandbox, zpa, mut list) = listed("uninstall");
    let which = on("patch", "configmaps");
    sandbox.fault(which, Times::First(1), Misbehaviour::Refuse(409, None));
    let output = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = printed(&output);
    let failed = "failed: take default/myapp out of the ConfigMap apps-list: the object changes";
    assert!(text.contains(failed), "{text}");
    assert_eq!(
        sandbox.state().replicas(),
        1,
        "awake, with its proxy before it"
    );

    let output = thread::scope(|scope| {
        let output = scope.spawn(|| zpa_command(&sandbox, &["uninstall"]));
        // The kubelet.
        sandbox.expect("the list is changed", |state| {
            let map = state.store.get(Resource::ConfigMaps, "apps-list").unwrap();
            !map["data"]["apps.json"].as_str().unwrap().contains("myapp")
        });
        list.set(&list_of(&sandbox).to_string());
        output.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(list_of(&sandbox), json!([app("blog")]));
    for edit in sandbox.requests(&on("patch", "configmaps")) {
        let guard = &edit.json()["metadata"]["resourceVersion"];
        assert!(guard.is_string(), "{}", edit.body);
    }
    let hint = "left: the Role and the Service of Deployment apps-zpa still name default/myapp";
    assert!(printed(&output).contains(hint), "{output:?}");
    assert!(status_of(&zpa, "myapp").is_none() && status_of(&zpa, "blog").is_some());
    assert!(!has_traces(&sandbox, "myapp"));
    assert_eq!(sandbox.state().replicas(), 1);
    assert!(object(&sandbox, Resource::Deployments, "apps-zpa").is_some());
}

#[test]
fn of_a_list_that_cannot_be_edited_it_is_said_what_to_do_and_nothing_is_done() {
    let (sandbox, zpa, _list) = listed("by-hand");
    sandbox.delete(Resource::ConfigMaps, "apps-list");
    let output = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = printed(&output);
    assert_eq!(
        text,
        "Deployment apps-zpa has the app: its list is not known, since the ConfigMap apps-list is \
         not there: take the app out of /etc/zpa/apps.json by hand, restart the proxy if it does \
         not follow that (kubectl rollout restart -n default deployment apps-zpa), and run this \
         again\n"
    );
    assert_eq!(sandbox.state().replicas(), 0);
    assert!(status_of(&zpa, "myapp").is_some());
}
