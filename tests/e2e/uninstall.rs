//! `zpa uninstall` before the sandbox: nothing is left.

use super::*;

use std::process::{Command, Output};

use serde_json::{Value, json};
use support::sandbox::{Resource, Rule};

const KINDS: [Resource; 6] = [
    Resource::Deployments,
    Resource::Services,
    Resource::DisruptionBudgets,
    Resource::RoleBindings,
    Resource::Roles,
    Resource::ServiceAccounts,
];

pub(crate) fn zpa_command(sandbox: &Sandbox, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zpa"))
        .env_clear()
        .envs(sandbox.env())
        .args(args)
        .output()
        .unwrap()
}

pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// An app that a proxy has woken and put to sleep, with what `zpa manifests` prints applied. The
/// caller is an administrator.
fn installed() -> Sandbox {
    let sandbox = asleep();
    sandbox.set_rules(vec![Rule::new("*", &["*"], &["*"])]);
    let manifests = zpa_command(&sandbox, &["manifests", "--deployment=myapp"]);
    for document in printed(&manifests).split("\n---\n").skip(1) {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        let text = |key: &str| object[key].as_str().unwrap();
        let resource = Resource::of_kind(text("apiVersion"), text("kind")).unwrap();
        sandbox.create(resource, object);
    }
    let settings = [SHORT_TTL, ("ZPA_WAKE_REPLICAS", "previous")];
    let mut zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    echo(&mut zpa.connect(), "good morning");
    sandbox.expect("it sleeps again", |state| {
        state.replicas() == 0 && state.count(&setting(0)) == 1
    });
    zpa.signal("TERM");
    zpa.wait();
    sandbox
}

/// All objects, without what the server and the controllers write.
fn objects(sandbox: &Sandbox) -> Vec<String> {
    let state = sandbox.state();
    let names = |kind: Resource| {
        let all = state.store.list(kind);
        let names = all.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned());
        names.map(move |name| format!("{} {name}", kind.kind()))
    };
    KINDS.into_iter().flat_map(names).collect()
}

#[test]
fn one_command_wakes_the_app_and_leaves_no_trace() {
    let before = objects(&asleep());
    let sandbox = installed();
    assert_eq!(objects(&sandbox).len(), before.len() + KINDS.len());
    let deployment = sandbox.state().deployment().unwrap().to_string();
    assert!(
        deployment.contains("zero-pod-autoscaler/InUse"),
        "{deployment}"
    );

    let dry = zpa_command(&sandbox, &["uninstall", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{dry:?}");
    let text = printed(&dry);
    for line in [
        "would wake default/myapp: scale it to 1",
        "would delete the Deployment myapp-zpa",
        "would delete the ServiceAccount myapp-zpa",
        "would remove the conditions and annotations of zpa from default/myapp",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert_eq!(objects(&sandbox).len(), before.len() + KINDS.len());
    assert_eq!(sandbox.state().replicas(), 0);

    let kept = zpa_command(&sandbox, &["uninstall", "--keep-objects"]);
    assert_eq!(kept.status.code(), Some(1), "{kept:?}");
    let text = printed(&kept);
    assert!(
        text.contains("kubectl delete -n default roles myapp-zpa"),
        "{text}"
    );

    let output = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(objects(&sandbox), before, "{}", printed(&output));
    let (deployment, replicas) = {
        let state = sandbox.state();
        (state.deployment().unwrap().to_string(), state.replicas())
    };
    assert!(!deployment.contains("zero-pod-autoscaler"), "{deployment}");
    assert!(deployment.contains(r#""type":"Available""#), "{deployment}");
    assert_eq!(replicas, 1);

    let again = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(printed(&again), "nothing is left of zpa\n");
    assert_eq!(again.status.code(), Some(0));
}

#[test]
fn what_is_refused_is_said_and_what_is_not_done_makes_the_exit_code() {
    let sandbox = installed();
    sandbox.deny("delete", "roles");
    let output = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = printed(&output);
    assert!(
        text.contains("failed: delete the Role myapp-zpa: 403"),
        "{text}"
    );
    assert_eq!(sandbox.state().replicas(), 1, "it is awake all the same");

    let wrong = zpa_command(&sandbox, &["uninstall", "--wait=soon"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn pods_that_do_not_end_and_proxies_without_labels_are_said() {
    let sandbox = installed();
    let labels = json!({
        "app.kubernetes.io/name": "zero-pod-autoscaler",
        "app.kubernetes.io/instance": "myapp",
    });
    let pod = json!({ "metadata": { "name": "stuck", "labels": labels } });
    sandbox.create(Resource::Pods, pod);
    let args = [
        "--deployment=myapp",
        "--endpoints=myapp",
        "--target=myapp:80",
    ];
    let container = json!({ "args": args });
    let ancestor = json!({
        "metadata": { "name": "ancestor" },
        "spec": { "template": { "spec": { "containers": [container] } } },
    });
    sandbox.create(Resource::Deployments, ancestor);
    let output = zpa_command(&sandbox, &["uninstall", "--wait=1s"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = printed(&output);
    let failed = "failed: wait until the pods of the proxies have ended: 1 are there after 1s";
    for part in [
        failed,
        "run this again once that is mended",
        "Deployment ancestor has the settings of a proxy of default/myapp, and not the labels",
        "kubectl delete -n default deployment ancestor",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let roles = objects(&sandbox);
    assert!(
        roles.contains(&"Role myapp-zpa".to_owned()),
        "{roles:?}: the pods need it still"
    );
    sandbox.delete(Resource::Pods, "stuck");
    sandbox.delete(Resource::Deployments, "ancestor");
    let again = zpa_command(&sandbox, &["uninstall"]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(objects(&sandbox), objects(&asleep()));
}
