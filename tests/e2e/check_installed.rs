//! `zpa check` of proxies that are installed: with the objects that `zpa manifests` prints, and
//! with those of `manifests/` as kubectl renders them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::sandbox::{Options, OtherPort, PodProgram, Resource, Rule, Sandbox, SandboxApp};

/// An app as the manifests call it, of which the caller is an administrator.
pub(super) fn sandbox(further: Vec<SandboxApp>) -> Sandbox {
    with_options(Options {
        name: "my-app".to_owned(),
        further_apps: further,
        ..Options::default()
    })
}

fn with_options(options: Options) -> Sandbox {
    let sandbox = Sandbox::start(options);
    let all = || vec![Rule::new("*", &["*"], &["*"])];
    sandbox.set_account("admin");
    sandbox.set_rules(all());
    sandbox.set_cluster_rules(all());
    sandbox
}

/// A command as from a laptop: with nothing but the way to the cluster.
pub(super) fn command(sandbox: &Sandbox, program: &str, args: &[&str]) -> Command {
    let way = ["ZPA_API_SERVER", "ZPA_CREDENTIALS"];
    let env = sandbox.env().into_iter();
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(env.filter(|(name, _)| way.contains(&&**name)))
        .args(args);
    command
}

fn zpa(sandbox: &Sandbox, args: &[&str]) -> Output {
    let mut command = command(sandbox, env!("CARGO_BIN_EXE_zpa"), args);
    command.output().unwrap()
}

pub(super) fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The objects of a text with YAML documents.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let documents = text
        .split("\n---\n")
        .map(|it| it.trim_start_matches("---\n"));
    let read = |it: &str| serde_saphyr::from_str::<Value>(it).unwrap();
    let objects = documents.map(read);
    objects.filter(Value::is_object).collect()
}

/// The objects of a directory with a kustomization; none without kubectl, which is said.
fn rendered(directory: &str) -> Option<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let output = Command::new(support::tool("kubectl"))
        .arg("kustomize")
        .arg(path)
        .output();
    let Ok(output) = output else {
        support::skip("no kubectl to render the manifests with");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    Some(documents(&printed(&output)))
}

/// Applies objects as `kubectl apply` does, and has the proxies get ready.
fn apply(sandbox: &Sandbox, objects: &[Value]) {
    apply_in("default", sandbox, objects);
}

fn apply_in(default: &str, sandbox: &Sandbox, objects: &[Value]) {
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let Some(resource) = Resource::of_kind(&version, &kind) else {
            assert_eq!(kind, "Namespace", "{object}");
            continue;
        };
        let namespace = match object["metadata"]["namespace"].as_str() {
            _ if kind.starts_with("Cluster") => "",
            Some(namespace) => namespace,
            None => default,
        };
        let name = text(&object["metadata"]["name"]);
        sandbox.create_in(namespace, resource, object.clone());
        sandbox.edit_object(namespace, resource, &name, |it| {
            if object["spec"].is_object() {
                it["spec"] = object["spec"].clone();
            }
            if resource == Resource::Deployments {
                let replicas = object["spec"]["replicas"].clone();
                it["status"] = json!({ "replicas": replicas, "readyReplicas": replicas });
            }
        });
    }
}

/// Installs what is printed, and returns that.
pub(super) fn install(sandbox: &Sandbox, args: &[&str]) -> String {
    let output = zpa(
        sandbox,
        &[&["manifests", "--deployment=my-app"], args].concat(),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = printed(&output);
    let (_, objects) = text.split_once("---\n").unwrap();
    apply(sandbox, &documents(objects));
    text
}

/// The lines of a check that is to have that exit code.
#[track_caller]
fn check(sandbox: &Sandbox, args: &[&str], code: i32) -> Vec<String> {
    let output = zpa(sandbox, &[&["check", "--output=short"], args].concat());
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    printed(&output).lines().map(str::to_owned).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_manifests_as_they_are_printed_give_a_clean_result() {
    let sandbox = sandbox(Vec::new());
    assert_eq!(
        check(&sandbox, &["--deployment=my-app", "--pre"], 0),
        NOTHING
    );
    install(&sandbox, &[]);
    assert_eq!(check(&sandbox, &["--deployment=my-app"], 0), NOTHING);
    let table = printed(&zpa(&sandbox, &["check", "--deployment=my-app"]));
    for line in [
        "√ a proxy in front of the app is ready",
        "√ the permissions of my-app-zpa can be asked for (LocalSubjectAccessReview)",
        "√ my-app-zpa may patch deployments/status my-app",
        "√ my-app-zpa may create events",
        "- my-app-zpa may list pods (skipped: zpa manifests --read-pods has it, so that the proxy \
         says why a wake takes long)",
        "Status: √",
    ] {
        assert!(table.lines().any(|it| it == line), "{line}\n{table}");
    }
    assert!(!table.contains('\x1b'), "it is no terminal");
}

#[test]
fn a_proxy_that_has_taken_over_the_service_is_checked_with_its_own() {
    let sandbox = sandbox(Vec::new());
    let yaml = install(&sandbox, &["--lookup", "--take-over=auto"]);
    assert_eq!(
        check(&sandbox, &["--deployment=my-app"], 0),
        NOTHING,
        "before the switch"
    );
    let (_, patch) = yaml
        .split_once("patch service my-app --type=merge -p '")
        .unwrap();
    let patch: Value = serde_json::from_str(patch.split('\'').next().unwrap()).unwrap();
    sandbox.edit_service("my-app", |service| {
        service["spec"]["selector"] = patch["spec"]["selector"].clone();
    });
    assert_eq!(check(&sandbox, &["--deployment=my-app"], 0), NOTHING);
    let other = check(&sandbox, &["--deployment=my-app", "--service=my-app"], 1);
    let back = "× LOOP: the Service does not lead to the proxy itself: it selects the pods of \
                my-app-zpa";
    assert!(other.iter().any(|it| it == back), "{other:#?}");
}

#[test]
fn each_of_two_ports_is_looked_up() {
    let sandbox = with_options(Options {
        name: "my-app".to_owned(),
        other_ports: vec![OtherPort {
            name: "sql",
            number: 5432,
            app: PodProgram::Echo,
        }],
        ..Options::default()
    });
    install(&sandbox, &["--listen=8080=http,8082=sql"]);
    assert_eq!(check(&sandbox, &["--deployment=my-app"], 0), NOTHING);
    let wrong = check(&sandbox, &["--deployment=my-app", "--port=web"], 1);
    let line = "× PORT: it is clear which port of the Service is meant: it has no web, but http \
                (80), sql (5432)";
    assert_eq!(wrong, [line]);
}

#[test]
fn a_list_is_read_where_the_proxy_has_it() {
    let Some(objects) = rendered("manifests/example/list") else {
        return;
    };
    let sandbox = sandbox(vec![SandboxApp::new("shop", 0), SandboxApp::new("blog", 0)]);
    apply(&sandbox, &objects);
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/example/list/apps.json");
    let list = format!("--apps={}", list.display());
    assert_eq!(check(&sandbox, &[&list], 0), NOTHING);
    assert_eq!(check(&sandbox, &["--deployment=blog"], 0), NOTHING);
    let another = check(&sandbox, &["--deployment=my-app"], 1);
    let line = "× PROXY: a proxy in front of the app is ready: there is none";
    assert_eq!(another, [line]);
}

/// Makes the Service of an app one that is found.
fn enable(sandbox: &Sandbox, namespace: &str, name: &str, listen: &str) {
    sandbox.edit_service_in(namespace, name, |service| {
        service["metadata"]["labels"]["zero-pod-autoscaler/enabled"] = "true".into();
        service["metadata"]["annotations"]["zero-pod-autoscaler/listen"] = listen.into();
    });
}

const FOUND: &str = "--discover=zero-pod-autoscaler/enabled=true";

#[test]
fn apps_that_are_found_in_a_namespace_are_checked_with_the_proxy_that_finds_them() {
    let Some(objects) = rendered("manifests/fleet") else {
        return;
    };
    let sandbox = sandbox(vec![SandboxApp::new("shop", 0)]);
    enable(&sandbox, "default", "my-app", ":8080");
    enable(&sandbox, "default", "shop", ":8082");
    apply(&sandbox, &objects);
    assert_eq!(check(&sandbox, &[FOUND], 0), NOTHING);
    assert_eq!(check(&sandbox, &["--deployment=shop"], 0), NOTHING);
    let table = printed(&zpa(&sandbox, &["check", FOUND]));
    for line in [
        "√ fleet-zpa may list services",
        "√ fleet-zpa may watch services",
        "√ fleet-zpa may patch deployments/scale shop",
    ] {
        assert!(table.lines().any(|it| it == line), "{line}\n{table}");
    }

    sandbox.edit_object("default", Resource::Roles, "fleet-zpa", |role| {
        let rules = role["rules"].as_array_mut().unwrap();
        rules.retain(|rule| rule["resources"] != json!(["services"]));
    });
    let missing = check(&sandbox, &[FOUND], 1);
    for line in [
        "× PERMISSION: fleet-zpa may list services: RBAC does not allow it",
        "× PERMISSION: fleet-zpa may watch services: RBAC does not allow it",
    ] {
        assert!(missing.iter().any(|it| it == line), "{line}\n{missing:#?}");
    }
}

#[test]
fn apps_of_all_namespaces_are_checked_with_the_proxy_of_another_one() {
    let Some(objects) = rendered("manifests/fleet-all-namespaces") else {
        return;
    };
    let sandbox = sandbox(vec![SandboxApp::new("shop", 0).within("dev")]);
    enable(&sandbox, "default", "my-app", ":8080");
    enable(&sandbox, "dev", "shop", ":8082");
    apply(&sandbox, &objects);
    for args in [
        &[FOUND, "--namespace=*"][..],
        &[FOUND, "--namespace=dev"],
        &["--deployment=shop", "--namespace=dev"],
    ] {
        assert_eq!(check(&sandbox, args, 0), NOTHING, "{args:?}");
    }
    let table = printed(&zpa(&sandbox, &["check", FOUND, "--namespace=*"]));
    for line in [
        "√ the permissions of zero-pod-autoscaler/fleet-zpa can be asked for \
         (SubjectAccessReview)",
        "dev/shop",
        "√ zero-pod-autoscaler/fleet-zpa may patch deployments/scale shop",
    ] {
        assert!(table.lines().any(|it| it == line), "{line}\n{table}");
    }
}

/// The objects of an ancestor's users, which are in the namespace of the sandbox.
fn of_ancestor(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/ancestors")
        .join(name);
    let mut objects = documents(&fs::read_to_string(path).unwrap());
    for object in &mut objects {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
    }
    objects
}

#[test]
fn an_ancestors_manifest_with_another_image_works_as_its_role_allows() {
    let optional = |account: &str, verb: &str, what: &str| {
        format!("‼ PERMISSION: {account} may {verb} {what}: RBAC does not allow it")
    };
    for (manifest, [namespace, app, service, account], warnings) in [
        (
            "go.yaml",
            ["default", "myapp", "myapp", "zpa"],
            vec![
                ("get", "services myapp"),
                ("create", "events"),
                ("patch", "events"),
            ],
        ),
        (
            "python-page.yaml",
            ["my-app", "my-app-deployment", "my-app-svc", "tpa"],
            vec![("create", "events"), ("patch", "events")],
        ),
    ] {
        let sandbox = with_options(Options {
            namespace: namespace.to_owned(),
            name: app.to_owned(),
            service: Some(service.to_owned()),
            ..Options::default()
        });
        apply_in(namespace, &sandbox, &of_ancestor(manifest));
        let namespace = format!("--namespace={namespace}");
        let found = check(&sandbox, &[&namespace, &format!("--deployment={app}")], 0);
        let expected: Vec<String> = warnings
            .iter()
            .map(|(verb, what)| optional(account, verb, what))
            .collect();
        assert_eq!(found, expected, "{manifest}");
    }
}

#[test]
fn a_grant_to_the_groups_of_a_service_account_counts() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    for group in [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ] {
        sandbox.edit_object("default", Resource::RoleBindings, "my-app-zpa", |binding| {
            binding["subjects"] = json!([{ "kind": "Group", "name": group }]);
        });
        assert_eq!(
            check(&sandbox, &["--deployment=my-app"], 0),
            NOTHING,
            "{group}"
        );
    }
    sandbox.edit_object("default", Resource::RoleBindings, "my-app-zpa", |binding| {
        binding["subjects"] = json!([{ "kind": "Group", "name": "system:masters" }]);
    });
    let missing = check(&sandbox, &["--deployment=my-app"], 1);
    let line =
        "× PERMISSION: my-app-zpa may patch deployments/scale my-app: RBAC does not allow it";
    assert!(missing.iter().any(|it| it == line), "{missing:#?}");
}

#[test]
fn who_may_not_ask_for_the_permissions_of_others_gets_no_verdict_on_them() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    sandbox.deny("create", "localsubjectaccessreviews");
    let lines = check(&sandbox, &["--deployment=my-app"], 2);
    let [line] = &lines[..] else {
        panic!("{lines:#?}");
    };
    let start = "? PERMISSION: the permissions of my-app-zpa can be asked for \
                 (LocalSubjectAccessReview): 403";
    assert!(line.starts_with(start), "{line}");
    let table = printed(&zpa(&sandbox, &["check", "--deployment=my-app"]));
    assert!(table.ends_with("\nStatus: ?\n"), "{table}");
}

#[test]
fn before_the_install_it_is_asked_what_the_caller_may_create() {
    let sandbox = sandbox(Vec::new());
    sandbox.deny("create", "roles");
    let lines = check(&sandbox, &["--deployment=my-app", "--pre"], 1);
    assert_eq!(
        lines,
        ["× INSTALL: you may create roles: RBAC does not allow it"]
    );
}

/// How often a check was made.
fn rounds(state: &support::sandbox::State) -> usize {
    let asked = state.log.iter().filter(|it| it.path == "/version");
    asked.count()
}

fn set_ready(sandbox: &Sandbox, ready: u32) {
    sandbox.edit_object("default", Resource::Deployments, "my-app-zpa", |it| {
        it["status"]["readyReplicas"] = ready.into();
    });
}

#[test]
fn it_waits_for_the_proxy_to_get_ready() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    set_ready(&sandbox, 0);
    let args = [
        "check",
        "--deployment=my-app",
        "--wait=5m",
        "--output=short",
    ];
    let waiting = command(&sandbox, env!("CARGO_BIN_EXE_zpa"), &args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sandbox.expect("it is checked again", |state| rounds(state) > 1);
    set_ready(&sandbox, 2);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(printed(&output), "");
}

#[test]
fn it_waits_neither_for_warnings_nor_for_what_does_not_change_by_itself() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    set_ready(&sandbox, 1);
    sandbox.edit_object("default", Resource::Roles, "my-app-zpa", |role| {
        let rules = role["rules"].as_array_mut().unwrap();
        rules.retain(|rule| rule["resources"] != json!(["events"]));
    });
    let lines = check(&sandbox, &["--deployment=my-app", "--wait=5m"], 0);
    let warnings = [
        "‼ ROLLOUT: all replicas of the proxies are ready: 1 of 2 replicas of my-app-zpa are",
        "‼ PERMISSION: my-app-zpa may create events: RBAC does not allow it",
        "‼ PERMISSION: my-app-zpa may patch events: RBAC does not allow it",
    ];
    assert_eq!(lines, warnings);
    assert_eq!(rounds(&sandbox.state()), 1);

    enable(&sandbox, "default", "my-app", "nowhere");
    let lines = check(&sandbox, &[FOUND, "--pre", "--wait=5m"], 1);
    assert!(
        lines[0].starts_with("× DISCOVERY: the annotations of default/my-app"),
        "{lines:#?}"
    );
    assert_eq!(rounds(&sandbox.state()), 2);
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_with_the_command_that_sets_another() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &["--image=registry.example.com/zpa:0.0.1"]);
    set_ready(&sandbox, 0);
    let labels = json!({ "app.kubernetes.io/instance": "my-app",
                         "app.kubernetes.io/name": "zero-pod-autoscaler" });
    let waiting = json!({ "reason": "ErrImagePull", "message": "not found" });
    sandbox.create(
        Resource::Pods,
        json!({
            "metadata": { "name": "my-app-zpa-1", "labels": labels },
            "status": { "phase": "Pending", "containerStatuses": [{
                "name": "zpa", "state": { "waiting": waiting } }] },
        }),
    );
    let table = zpa(&sandbox, &["check", "--deployment=my-app"]);
    assert_eq!(table.status.code(), Some(1), "{table:?}");
    let table = printed(&table);
    let own = env!("CARGO_PKG_VERSION");
    let expected = "\
× a proxy in front of the app is ready
    none of 2 replicas of my-app-zpa is: pod my-app-zpa-1, container zpa: ErrImagePull: not found (PULL)
    kubectl -n default set image deployment/my-app-zpa zpa=IMAGE, with an image that the nodes can pull: no image of zpa is published
    see: zpa explain PULL
    see: zpa explain PROXY
‼ all replicas of the proxies are ready
";
    assert!(table.contains(expected), "{table}");
    let image = format!(
        "\
‼ all proxies in front of the app are of this version
    registry.example.com/zpa:0.0.1 is, and this zpa is {own}
    kubectl -n default set image deployment/my-app-zpa zpa=registry.example.com/zpa:{own}
"
    );
    assert!(table.contains(&image), "{table}");
}

#[test]
fn proxies_with_different_idle_ttls_are_found() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    install(&sandbox, &["--name=second", "--idle-ttl=20m"]);
    let lines = check(&sandbox, &["--deployment=my-app"], 0);
    let warning = "‼ TTL: all proxies in front of the app have one idle TTL: 20m0s, 1h0m0s";
    assert_eq!(lines, [warning]);
    let table = printed(&zpa(&sandbox, &["check", "--deployment=my-app"]));
    let command = "\n    kubectl -n default set env deployment/second ZPA_IDLE_TTL=1h0m0s\n";
    assert!(table.contains(command), "{table}");
    for account in ["my-app-zpa", "second"] {
        let line = format!("√ {account} may patch deployments/scale my-app");
        assert!(table.lines().any(|it| it == line), "{line}\n{table}");
    }
}

#[test]
fn an_app_that_is_applied_with_replicas_is_found_and_so_is_an_hpa_at_zero() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    sandbox.edit(|object| {
        let annotation = "kubectl.kubernetes.io/last-applied-configuration";
        object["metadata"]["annotations"][annotation] = r#"{"spec":{"replicas":3}}"#.into();
    });
    for (name, kind) in [("other", "StatefulSet"), ("web", "Deployment")] {
        let target = json!({ "apiVersion": "apps/v1", "kind": kind, "name": "my-app" });
        let spec = json!({ "minReplicas": 0, "maxReplicas": 3, "scaleTargetRef": target });
        let object = json!({ "metadata": { "name": name }, "spec": spec });
        sandbox.create(Resource::Autoscalers, object);
    }
    let lines = check(&sandbox, &["--deployment=my-app"], 0);
    let warnings = [
        "‼ REPLICAS: nothing that is applied sets its replicas: kubectl apply does: what it applied \
         last has replicas: 3",
        "‼ HPA: no HPA scales it to or from zero: web has minReplicas 0",
    ];
    assert_eq!(lines, warnings);
}

#[test]
fn a_proxy_that_does_not_run_is_said_with_the_reason() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    sandbox.edit_object("default", Resource::Deployments, "my-app-zpa", |it| {
        let container = &mut it["spec"]["template"]["spec"]["containers"][0];
        container["args"] = json!(["--idle-ttl=5x"]);
    });
    let lines = check(&sandbox, &["--deployment=my-app"], 1);
    let start = "× PROXY: a proxy in front of the app is ready: there is none; default/my-app-zpa \
                 does not run: --idle-ttl=\"5x\": ";
    assert!(lines[0].starts_with(start), "{lines:#?}");
}

/// `script` of util-linux runs a command on a terminal.
#[test]
fn on_a_terminal_it_has_colours() {
    let sandbox = sandbox(Vec::new());
    install(&sandbox, &[]);
    let zpa = env!("CARGO_BIN_EXE_zpa");
    let line = format!("{zpa} check --deployment=my-app");
    for (no_color, expected) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let args = ["-q", "-e", "-c", &line, "/dev/null"];
        let mut on_terminal = command(&sandbox, "script", &args);
        on_terminal.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        on_terminal.envs(no_color.map(|value| ("NO_COLOR", value)));
        let Ok(output) = on_terminal.stdin(Stdio::null()).output() else {
            return support::skip("no script to have a terminal with");
        };
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = printed(&output);
        assert_eq!(
            text.contains("\x1b[32m√\x1b[0m "),
            expected,
            "{no_color:?} {text}"
        );
    }
}
