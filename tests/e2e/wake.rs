//! `zpa wake` before the sandbox: what sleeps is scaled up by the permissions of the proxy.

use super::apps_file::{List, app, three};
use super::discover::{annotate, fleet_role};
use super::*;

use std::process::{Command, Output};

use serde_json::json;
use support::sandbox::{Rule, anything};

/// The command with the environment of a proxy of several apps.
fn wake(sandbox: &Sandbox, settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command.env_clear().envs(sandbox.env()).arg("wake");
    if settings
        .iter()
        .any(|(name, _)| ["ZPA_APPS", "ZPA_DISCOVER"].contains(name))
    {
        command
            .env_remove("ZPA_DEPLOYMENT")
            .env_remove("ZPA_SERVICE");
    }
    command.envs(settings.iter().copied()).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn expect_nothing_refused(sandbox: &Sandbox) {
    let refused = sandbox.requests(&anything().with(|it| it.status == Some(403)));
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn a_sleeping_app_is_woken_to_what_it_remembers_and_one_that_is_awake_left_alone() {
    let sandbox = asleep();
    sandbox.set_rules(vec![
        Rule::new("apps", &["deployments"], &["get", "list", "watch"]).named("myapp"),
        Rule::new("apps", &["deployments/scale"], &["patch"]).named("myapp"),
    ]);
    sandbox.edit(|target| {
        target["status"]["conditions"] = json!([{
            "type": "zero-pod-autoscaler/PreviousReplicas", "status": "True", "message": "2",
        }]);
    });
    let dry = wake(&sandbox, &[("ZPA_DRY_RUN", "true")]);
    assert_eq!(printed(&dry), "default/myapp: would be scaled to 2\n");
    assert_eq!(sandbox.state().replicas(), 0);

    let woken = wake(&sandbox, &[]);
    assert_eq!(printed(&woken), "default/myapp: woken: scaled to 2\n");
    assert_eq!(woken.status.code(), Some(0));
    assert_eq!(sandbox.state().replicas(), 2);

    let again = wake(&sandbox, &[("ZPA_WAKE_REPLICAS", "3")]);
    assert_eq!(printed(&again), "default/myapp: is awake\n");
    assert_eq!(sandbox.state().replicas(), 2);
    expect_nothing_refused(&sandbox);
}

#[test]
fn an_app_that_is_gone_is_no_error_and_one_that_cannot_be_woken_is() {
    let sandbox = asleep();
    sandbox.deny("patch", "deployments/scale");
    let refused = wake(&sandbox, &[]);
    assert_eq!(refused.status.code(), Some(1));
    let text = printed(&refused);
    assert!(
        text.starts_with("default/myapp: cannot be woken: 403"),
        "{text}"
    );
    let gone = wake(
        &sandbox,
        &[("ZPA_DEPLOYMENT", "other"), ("ZPA_SERVICE", "other")],
    );
    assert_eq!(printed(&gone), "default/other: is not there\n");
    assert_eq!(gone.status.code(), Some(0));
    let wrong = wake(&sandbox, &[("ZPA_IDLE_TTL", "soon")]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn each_app_of_a_list_is_woken() {
    let sandbox = three(0);
    let list = List::new("wake", &json!([app("myapp"), app("blog")]));
    let path = list.path().display().to_string();
    let woken = wake(&sandbox, &[("ZPA_APPS", &path), ("ZPA_WAKE_REPLICAS", "2")]);
    assert_eq!(
        printed(&woken),
        "default/myapp: woken: scaled to 2\ndefault/blog: woken: scaled to 2\n"
    );
    let state = sandbox.state();
    assert_eq!([state.replicas(), state.replicas_of("news")], [2, 0]);
}

#[test]
fn each_app_that_is_found_by_its_service_is_woken_by_the_role_of_the_fleet() {
    let sandbox = three(0);
    sandbox.set_rules(fleet_role());
    annotate(&sandbox, "myapp", &[("listen", ":8080")]);
    annotate(&sandbox, "blog", &[("listen", ":8082"), ("idle-ttl", "5x")]);
    let woken = wake(
        &sandbox,
        &[("ZPA_DISCOVER", "zero-pod-autoscaler/enabled=true")],
    );
    let text = printed(&woken);
    assert!(
        text.contains("default/myapp: woken: scaled to 1\n"),
        "{text}"
    );
    // Before its annotation was wrong it may have been put to sleep.
    let wrong = "default/blog: cannot be woken: the annotations of its Service: ";
    assert!(text.contains(wrong), "{text}");
    assert_eq!(woken.status.code(), Some(1));
    assert_eq!(sandbox.state().replicas(), 1);
    expect_nothing_refused(&sandbox);
}
