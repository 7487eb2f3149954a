//! What `zpa manifests` prints, before the sandbox: the proxy runs with no more than that.

use super::*;

use crate::uninstall::zpa_command;
use serde_json::Value;
use support::sandbox::{Resource, Rule, Workload, anything};

/// What `zpa manifests` prints for somebody who may read all.
#[track_caller]
fn printed(sandbox: &Sandbox, args: &[&str]) -> String {
    sandbox.set_rules(vec![Rule::new("*", &["*"], &["*"])]);
    let output = zpa_command(sandbox, &[&["manifests"], args].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---\n").skip(1);
    documents
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|it| it["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

/// The rules of the Role, as the sandbox's API server has them.
fn rules(role: &Value) -> Vec<Rule> {
    let texts = |value: &Value| {
        let texts = value.as_array().into_iter().flatten();
        let texts = texts.map(|it| it.as_str().unwrap().to_owned());
        texts.collect::<Vec<String>>()
    };
    let rules = role["rules"].as_array().unwrap();
    let rules = rules.iter().map(|rule| Rule {
        groups: texts(&rule["apiGroups"]),
        resources: texts(&rule["resources"]),
        verbs: texts(&rule["verbs"]),
        names: texts(&rule["resourceNames"]),
    });
    rules.collect()
}

/// Starts the proxy of the printed Deployment, on ports that are free, with the printed Role.
fn start_installed(sandbox: &Sandbox, objects: &[Value]) -> Zpa {
    sandbox.set_rules(rules(of_kind(objects, "Role")));
    let container = &of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    let reached = sandbox.env().into_iter();
    let reached = reached.filter(|(name, _)| {
        [
            "ZPA_NAMESPACE",
            "ZPA_API_SERVER",
            "ZPA_CREDENTIALS",
            "ZPA_ADMIN_LISTEN",
        ]
        .contains(&&**name)
    });
    command.env_clear().envs(reached);
    for variable in container["env"].as_array().unwrap() {
        if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
            command.env(name, value);
        }
    }
    command.env("ZPA_LISTEN", "127.0.0.1:0");
    Zpa::spawn(command)
}

/// Wakes the app, and sees it fall asleep; nothing was refused meanwhile.
#[track_caller]
fn expect_a_wake_and_a_sleep(sandbox: &Sandbox, zpa: &Zpa) {
    echo(&mut zpa.connect(), "good morning");
    let sleep = || anything().with(|it| it.replicas() == Some(0) && it.status == Some(200));
    sandbox.expect("it sleeps again", |state| {
        state.replicas() == 0 && state.count(&sleep()) == 1
    });
    let refused = sandbox.requests(&anything().with(|it| it.status == Some(403)));
    assert_eq!(refused.len(), 0, "{refused:?}");
}

#[test]
fn the_printed_role_is_all_that_the_proxy_needs() {
    for (workload, target, more) in [
        (Workload::Deployment, "--deployment=myapp", &[][..]),
        (
            Workload::Deployment,
            "--deployment=myapp",
            &["--read-pods", "--fail-fast", "--wake-replicas=previous"],
        ),
        (
            Workload::StatefulSet,
            "--scale-target=statefulsets.apps/myapp",
            &["--wake-replicas=previous"],
        ),
    ] {
        let sandbox = Sandbox::start(sandbox::Options {
            workload,
            ..Default::default()
        });
        let args = [&[target, "--idle-ttl=1s"], more].concat();
        let zpa = start_installed(&sandbox, &objects(&printed(&sandbox, &args)));
        expect_a_wake_and_a_sleep(&sandbox, &zpa);
    }
}

#[test]
fn manifests_with_a_look_into_the_cluster_are_those_of_a_command_without() {
    let sandbox = asleep();
    let found = printed(&sandbox, &["--deployment=myapp", "--lookup"]);
    let given = [
        "--deployment=myapp",
        "--namespace=default",
        "--service-port=80",
    ];
    assert_eq!(found, printed(&sandbox, &given));

    for (args, why) in [
        (
            &["--deployment=nothing"][..],
            "nothing is not in the namespace default",
        ),
        (
            &["--deployment=myapp", "--service=web"],
            "Service web is not in the namespace",
        ),
        (
            &["--deployment=myapp", "--port=ftp"],
            "--port ftp: the Service myapp has http (80)",
        ),
        (
            &["--deployment=myapp", "--take-over=app=myapp:80"],
            "is auto with --lookup",
        ),
    ] {
        let output = zpa_command(&sandbox, &[&["manifests", "--lookup"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(why), "{errors}");
    }
    sandbox.edit_service("myapp", |service| {
        service["spec"]["selector"] = serde_json::json!({ "app.kubernetes.io/instance": "myapp" });
    });
    let looping = zpa_command(&sandbox, &["manifests", "--deployment=myapp", "--lookup"]);
    let errors = String::from_utf8(looping.stderr).unwrap();
    assert!(errors.contains("selects the proxy's pods"), "{errors}");
}

const TAKE_OVER: [&str; 4] = [
    "--deployment=myapp",
    "--idle-ttl=1s",
    "--lookup",
    "--take-over=auto",
];

/// The Service of the app, which its clients use, has what real ones have. That of its pods, for
/// which the sandbox writes slices, is not there yet.
fn with_a_service_of_clients() -> Sandbox {
    let sandbox = Sandbox::start(sandbox::Options {
        service: Some("myapp-pods".to_owned()),
        ..Default::default()
    });
    let mut service = live(&sandbox, "myapp-pods");
    sandbox.delete_service();
    service["metadata"] = serde_json::json!({
        "name": "myapp",
        "labels": { "app": "myapp" },
        "annotations": { "load-balancer.example.com/address": "192.0.2.7" },
    });
    service["spec"]["type"] = "NodePort".into();
    service["spec"]["ports"][0]["nodePort"] = 30080.into();
    service["spec"]["externalTrafficPolicy"] = "Local".into();
    sandbox.create(Resource::Services, service);
    sandbox
}

fn live(sandbox: &Sandbox, service: &str) -> Value {
    let state = sandbox.state();
    let found = state.store.get(Resource::Services, service);
    Value::clone(found.expect("it is there"))
}

/// Applies what is printed. The Service of the pods is made by the sandbox, which follows it; what
/// is printed of it has to be the same.
fn apply(sandbox: &Sandbox, objects: &[Value]) {
    for object in objects {
        let text = |key: &str| object[key].as_str().unwrap();
        let resource = Resource::of_kind(text("apiVersion"), text("kind")).unwrap();
        if resource != Resource::Services {
            sandbox.create(resource, object.clone());
            continue;
        }
        sandbox.create_service();
        let made = live(sandbox, "myapp-pods");
        assert_eq!(object["metadata"]["name"], "myapp-pods");
        assert_eq!(object["spec"]["selector"], made["spec"]["selector"]);
        for field in ["name", "port", "targetPort"] {
            let field = |service: &Value| service["spec"]["ports"][0][field].clone();
            assert_eq!(field(object), field(&made));
        }
        sandbox.edit_service("myapp-pods", |service| {
            service["metadata"]["labels"] = object["metadata"]["labels"].clone();
        });
    }
}

/// The selector of a switch in the head, which is merged into the Service's (RFC 7396).
fn selector(yaml: &str, at: usize) -> Value {
    let marks = yaml.split("patch service myapp --type=merge -p '").skip(1);
    let mut patches = marks.map(|rest| rest.split('\'').next().unwrap());
    let patch: Value = serde_json::from_str(patches.nth(at).unwrap()).unwrap();
    patch["spec"]["selector"].clone()
}

#[test]
fn a_service_is_taken_over_once_the_proxy_is_ready_and_keeps_all_that_it_has() {
    let sandbox = with_a_service_of_clients();
    let before = live(&sandbox, "myapp");
    let yaml = printed(&sandbox, &TAKE_OVER);
    let objects = objects(&yaml);
    apply(&sandbox, &objects);
    let of_clients = || {
        let mut service = live(&sandbox, "myapp");
        service["metadata"]["resourceVersion"] = Value::Null;
        service
    };
    let mut expected = before.clone();
    expected["metadata"]["resourceVersion"] = Value::Null;
    assert_eq!(
        of_clients(),
        expected,
        "it leads to the app until the switch"
    );

    let zpa = start_installed(&sandbox, &objects);
    zpa.expect_ready();
    sandbox.edit_service("myapp", |service| {
        service["spec"]["selector"] = selector(&yaml, 0);
    });
    let labels = &of_kind(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    for (key, value) in selector(&yaml, 0).as_object().unwrap() {
        assert_eq!(labels[key], *value);
    }
    expect_a_wake_and_a_sleep(&sandbox, &zpa);

    assert_eq!(
        printed(&sandbox, &TAKE_OVER),
        yaml,
        "it is known after the switch"
    );
    // The sandbox runs no pods for the proxy's Deployment: of that alone it may complain.
    let check = zpa_command(&sandbox, &["check", "--service=myapp-pods"]);
    let found = String::from_utf8(check.stdout).unwrap();
    let wrong: Vec<&str> = found.lines().filter(|it| it.starts_with('×')).collect();
    assert_eq!(wrong, ["× a proxy in front of the app is ready"], "{found}");
    sandbox.edit_service("myapp", |service| {
        service["spec"]["selector"] = selector(&yaml, 1);
    });
    assert_eq!(of_clients(), expected);
}

/// The endpoints of the Service that is taken over are the proxy's, which are ready all the time.
#[test]
fn the_uninstall_leads_clients_back_when_a_pod_of_the_app_is_ready() {
    let sandbox = with_a_service_of_clients();
    let before = live(&sandbox, "myapp");
    let yaml = printed(&sandbox, &TAKE_OVER);
    apply(&sandbox, &objects(&yaml));
    sandbox.edit_service("myapp", |service| {
        service["spec"]["selector"] = selector(&yaml, 0);
    });
    let output = zpa_command(&sandbox, &["uninstall", "--service=myapp", "--wait=30s"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "done: wake default/myapp: scale it to 1",
            "done: wait until a pod of default/myapp is ready",
            "done: lead the Service myapp to the app's pods again",
            "done: delete the Deployment myapp-zpa",
            "done: wait until the pods of the proxies have ended",
            "done: delete the Service myapp-pods",
            "done: delete the PodDisruptionBudget myapp-zpa",
            "done: delete the RoleBinding myapp-zpa",
            "done: delete the Role myapp-zpa",
            "done: delete the ServiceAccount myapp-zpa",
            "done: see that default/myapp is awake, or wake it again",
            "done: remove the conditions and annotations of zpa from default/myapp",
        ]
    );
    let after = live(&sandbox, "myapp");
    assert_eq!(after["spec"], before["spec"]);
    let state = sandbox.state();
    let left = state.store.get(Resource::Services, "myapp-pods");
    assert!(left.is_none(), "{text}");
}

#[test]
fn a_service_of_somebody_else_is_not_written_over() {
    let sandbox = with_a_service_of_clients();
    sandbox.create_service();
    sandbox.set_rules(vec![Rule::new("*", &["*"], &["*"])]);
    let output = zpa_command(&sandbox, &[&["manifests"], &TAKE_OVER[..]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("there is a Service myapp-pods already, which is not of zpa"),
        "{errors}"
    );
}
