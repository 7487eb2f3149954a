//! Other kinds than Deployments, found by name or by labels, under Roles that allow
//! this or that.

use std::process::Command;
use std::time::Instant;

use serde_json::json;
use support::sandbox::{Resource, Rule, Workload};

use super::*;

const READ: &[&str] = &["get", "list", "watch"];

fn sandbox_of(workload: Workload, replicas: u32) -> Sandbox {
    let sandbox = Sandbox::start(Options {
        workload,
        replicas,
        ..Options::default()
    });
    let listed = move |state: &sandbox::State| ready(state).len() == replicas as usize;
    sandbox.expect("the pods are listed as ready", listed);
    sandbox
}

/// The permissions to watch the app's endpoints, beside those in `rules`.
fn with_endpoints(rules: impl IntoIterator<Item = Rule>) -> Vec<Rule> {
    let slices = Rule::new("discovery.k8s.io", &["endpointslices"], READ);
    let services = Rule::new("", &["services"], &["get"]);
    rules.into_iter().chain([slices, services]).collect()
}

/// Wakes the app, is served, lets it sleep, and wakes it once more.
#[track_caller]
fn wake_sleep_wake(sandbox: &Sandbox, zpa: &Zpa) {
    for cycle in 1..=2 {
        let mut client = zpa.connect();
        echo(&mut client, &format!("cycle {cycle}"));
        assert_eq!(sandbox.state().replicas(), 1);
        drop(client);
        zpa.expect_log_times("scaled to 0 after", cycle);
        sandbox.expect("zero replicas", |state| state.replicas() == 0);
    }
}

/// The renewals of leases that were written to the object itself, and to its status.
fn renewals(sandbox: &Sandbox, plural: &str) -> [usize; 2] {
    let written = |resource: &str| {
        sandbox.count(&on("patch", resource).with(|e| e.body.contains("zero-pod-autoscaler/")))
    };
    [written(plural), written(&format!("{plural}/status"))]
}

#[test]
fn a_stateful_set_and_a_rollout_wake_serve_and_sleep_with_their_lease_in_an_annotation() {
    for (workload, plural) in [
        (Workload::StatefulSet, "statefulsets"),
        (Workload::Rollout, "rollouts"),
    ] {
        let sandbox = sandbox_of(workload, 0);
        let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
        wake_sleep_wake(&sandbox, &zpa);
        let [annotations, conditions] = renewals(&sandbox, plural);
        assert!(annotations >= 2, "{plural}: {annotations} renewals");
        assert_eq!(conditions, 0, "{plural}: what a controller would wipe");
        let scaled = on("patch", &format!("{plural}/scale")).with(|e| e.status == Some(200));
        assert_eq!(sandbox.count(&scaled), 4, "two wakes, two sleeps");
        assert_eq!(sandbox.count(&on("*", "deployments")), 0, "{plural}");
    }
}

/// Under a Role that names the object: nothing of the kind may be listed but by its name.
#[test]
fn every_kind_is_watched_by_its_name() {
    for (workload, resource) in [
        (Workload::Deployment, Resource::Deployments),
        (Workload::StatefulSet, Resource::StatefulSets),
        (Workload::Rollout, Resource::Rollouts),
    ] {
        let sandbox = sandbox_of(workload, 1);
        let plural = resource.plural();
        let named = Rule::new(resource.group(), &[plural], READ).named("myapp");
        sandbox.set_rules(with_endpoints([named]));
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        sandbox.expect("a watch", |state| state.open_watches(resource) == 1);
        zpa.expect_log("found at 1 replica");
        sandbox.deny("get", plural);
        sandbox.set_replicas(0);
        zpa.expect_log("scaled to 0 by somebody else");
        assert_eq!(zpa.logged("cannot be watched"), 0, "{plural}");
    }
}

#[test]
fn a_stateful_set_that_one_proxy_uses_is_not_put_to_sleep_by_another() {
    let sandbox = sandbox_of(Workload::StatefulSet, 1);
    let [user, idle] = [0, 1].map(|_| start_zpa(&sandbox, &[("ZPA_IDLE_TTL", "2s")]));
    let mut client = user.connect();
    let renewed = on("patch", "statefulsets").with(|e| e.status == Some(200));
    let begun = Instant::now();
    // A renewal each half second: the idle proxy's TTL passes three times.
    sandbox.expect("renewals for three TTLs", |state| {
        state.count(&renewed) >= 12 || begun.elapsed() > seconds(9)
    });
    assert!(sandbox.count(&renewed) >= 12, "\n{}", user.log());
    echo(&mut client, "still here");
    assert_eq!(sandbox.state().replicas(), 1, "\n{}", idle.log());
    assert_eq!(idle.logged("scaled to 0"), 0, "\n{}", idle.log());
}

#[test]
fn where_only_the_object_may_be_patched_its_replicas_are_written_there_under_its_version() {
    let sandbox = sandbox_of(Workload::Rollout, 0);
    let rollouts = &["get", "patch"];
    sandbox.set_rules(with_endpoints([Rule::new(
        "argoproj.io",
        &["rollouts"],
        rollouts,
    )
    .named("myapp")]));
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    wake_sleep_wake(&sandbox, &zpa);
    let line = zpa.expect_log("written to the object itself");
    assert!(line.contains("rollouts.argoproj.io/myapp"), "{line}");
    let written = sandbox.requests(
        &on("patch", "rollouts").with(|e| e.replicas().is_some() && e.status == Some(200)),
    );
    let counts: Vec<_> = written
        .iter()
        .map(sandbox::LoggedRequest::replicas)
        .collect();
    assert_eq!(counts, [1, 0, 1, 0].map(Some));
    let is_guarded =
        |e: &sandbox::LoggedRequest| e.json()["metadata"]["resourceVersion"].is_string();
    assert!(written.iter().all(is_guarded), "{written:?}");
    let tries = sandbox.count(&on("patch", "rollouts/scale"));
    assert_eq!(tries, 1, "what was refused is not asked for each time");
}

#[test]
fn a_deployment_that_an_operator_owns_is_warned_of_once() {
    let sandbox = awake();
    sandbox.edit(|object| {
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "db.example.org/v1",
            "kind": "Database",
            "name": "shop",
            "uid": "1",
            "controller": true,
        }]);
    });
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    let line = zpa.expect_log("belongs to Database shop");
    assert!(
        line.contains("deployments.apps/myapp") && line.contains("WARN"),
        "{line}"
    );
    zpa.expect_log("scaled to 0 after");
    assert_eq!(zpa.logged("belongs to"), 1);
}

/// The permissions of the Python ancestor's `example/`.
fn permissions_of_the_example() -> Vec<Rule> {
    let write = &["create", "patch", "update"];
    vec![
        Rule::new(
            "apps",
            &["deployments", "configmaps", "replicasets", "pods"],
            READ,
        ),
        Rule::new(
            "apps",
            &[
                "deployments",
                "deployments/scale",
                "configmaps",
                "replicasets",
            ],
            write,
        ),
        Rule::new("", &["endpoints", "pods"], READ),
        Rule::new(
            "",
            &["configmaps", "replicasets"],
            &["get", "list", "watch", "create", "patch", "update"],
        ),
    ]
}

/// A `zpa` with the flags of the Python ancestor for the ReplicaSet of the app.
fn start_by_labels(sandbox: &Sandbox, ttl_seconds: u32) -> Zpa {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    let ours = |(name, _): &(String, String)| {
        !matches!(
            name.as_str(),
            "ZPA_DEPLOYMENT" | "ZPA_SERVICE" | "ZPA_SCALE_TARGET"
        )
    };
    command
        .env_clear()
        .envs(sandbox.env().into_iter().filter(ours))
        .env("ZPA_LISTEN", "127.0.0.1:0")
        .env("ZPA_LOG", "debug")
        .env("ZPA_DRAIN_DELAY", "0")
        .args([
            "--namespace=default",
            "--rs-label-selector='app=myapp'",
            "--endpoint=myapp",
        ])
        .arg(format!("--expiration-time={ttl_seconds}"));
    Zpa::spawn(command)
}

#[test]
fn the_owner_of_a_replica_set_is_found_by_labels_be_it_a_deployment_or_a_rollout() {
    for (workload, object) in [
        (Workload::Deployment, "deployments.apps/myapp"),
        (Workload::Rollout, "rollouts.argoproj.io/myapp"),
    ] {
        let sandbox = sandbox_of(workload, 0);
        let mut rules = permissions_of_the_example();
        if workload == Workload::Rollout {
            rules.push(Rule::new(
                "argoproj.io",
                &["rollouts"],
                &["get", "list", "watch", "patch"],
            ));
        }
        sandbox.set_rules(rules);
        let zpa = start_by_labels(&sandbox, 1);
        let line = zpa.expect_log(object);
        assert!(
            line.contains("the owner of the ReplicaSet with the labels app=myapp"),
            "{line}"
        );
        wake_sleep_wake(&sandbox, &zpa);
    }
}

#[test]
fn no_replica_set_with_these_labels_is_said_and_looked_for_again() {
    let sandbox = asleep();
    sandbox.delete_deployment();
    sandbox.set_rules(permissions_of_the_example());
    let zpa = start_by_labels(&sandbox, 1);
    let line = zpa.expect_log("there is none: the owner of the ReplicaSet");
    assert!(line.contains("ERROR"), "{line}");
    sandbox.create_deployment(0);
    wake_sleep_wake(&sandbox, &zpa);
    let sets = sandbox.state().store.list(Resource::ReplicaSets).count();
    assert_eq!(sets, 1);
}
