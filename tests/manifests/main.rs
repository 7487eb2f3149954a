//! What `manifests/` promises: nothing but settings that exist, no permission but
//! those that are needed, and the restricted Pod Security Standard.
//!
//! The manifests are checked as `kubectl` renders them; without it only their
//! text can be.

mod chart;
mod custom;
mod fleet;
mod generated;
mod list;
mod printed;
mod rendering;
mod schema;
mod take_over;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use rendering::{Scratch, files, find, read, rendered, root, text, variables_in};
use serde_json::{Value, json};
use support::memory;
use zpa::engine::{BLOCK_BYTES, MAX_BLOCKS, MAX_PIPES, PIPE_BYTES};
use zpa::settings::{self, Invocation, Listener, Settings};

const BASE: &str = "manifests/base";
const EXAMPLE: &str = "manifests/example";
/// What is copied for an app of one's own.
const OVERLAY: &str = "manifests/example/proxy";

#[test]
fn every_variable_in_the_text_of_the_manifests_is_a_setting() {
    let known: BTreeSet<&str> = settings::variables().collect();
    let mut seen = 0;
    for path in files(&root().join("manifests")) {
        // A picture has no text.
        let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) else {
            continue;
        };
        // The prefix alone is what the page of settings calls them by.
        for variable in variables_in(&text).filter(|it| *it != "ZPA_") {
            assert!(
                known.contains(variable),
                "{}: {variable} is not a setting",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "no ZPA_ variable in any manifest");
}

#[test]
fn the_environment_of_the_proxy_is_accepted_as_settings() {
    for proxy in proxies() {
        let settings = proxy.settings();
        assert_eq!(settings.target_ref.deployment_name(), Some("my-app"));
        assert_eq!(settings.service.as_deref(), Some("my-app"));
        assert_eq!(
            proxy.container["ports"],
            json!([
                { "name": "proxy", "containerPort": settings.listen[0].address.port() },
                { "name": "admin", "containerPort": admin_port(&settings) },
            ])
        );
    }
}

#[test]
fn the_role_grants_what_is_asked_of_the_api_server_and_no_more() {
    for proxy in proxies() {
        let settings = proxy.settings();
        let role = proxy.only("Role");
        assert_eq!(
            role["rules"],
            json!([
                {
                    "apiGroups": ["apps"],
                    "resources": ["deployments"],
                    "resourceNames": [settings.target_ref.deployment_name()],
                    "verbs": ["get", "list", "watch"],
                },
                {
                    "apiGroups": ["apps"],
                    "resources": ["deployments/scale", "deployments/status"],
                    "resourceNames": [settings.target_ref.deployment_name()],
                    "verbs": ["patch"],
                },
                {
                    "apiGroups": [""],
                    "resources": ["services"],
                    "resourceNames": [settings.service],
                    "verbs": ["get"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["events.k8s.io"],
                    "resources": ["events"],
                    "verbs": ["create", "patch"],
                },
            ])
        );
    }
}

#[test]
fn the_role_is_bound_to_the_service_account_of_the_proxy_alone() {
    for proxy in proxies() {
        let account = proxy.only("ServiceAccount")["metadata"]["name"].clone();
        let binding = proxy.only("RoleBinding");
        assert_eq!(proxy.pod["serviceAccountName"], account);
        assert_eq!(
            binding["subjects"],
            json!([{ "kind": "ServiceAccount", "name": account }])
        );
        let role = &proxy.only("Role")["metadata"]["name"];
        assert_eq!(&binding["roleRef"]["name"], role);
    }
}

#[test]
fn the_service_selects_the_pods_of_its_own_proxy() {
    for proxy in proxies() {
        let labels = &proxy.deployment["spec"]["template"]["metadata"]["labels"];
        let service = proxy.service();
        assert_eq!(&service["spec"]["selector"], labels);
        assert_eq!(service["spec"]["ports"][0]["targetPort"], "proxy");
    }
    // Without this, two proxies in one namespace would share their clients.
    for proxy in proxies().filter(|proxy| proxy.directory == EXAMPLE) {
        let selector = &proxy.service()["spec"]["selector"];
        assert_eq!(selector["app.kubernetes.io/instance"], "my-app");
    }
}

#[test]
fn what_is_numbered_in_the_example_is_all_that_an_app_of_ones_own_takes() {
    let copy = Scratch::make();
    let edits = [
        ("- ../../base", "- ../manifests/base"),
        ("my-app", "postgres"),
        (
            "newName: zero-pod-autoscaler",
            "newName: registry.example.com/zpa",
        ),
        ("newTag: latest", "newTag: 0.1.0"),
        ("value: 30s", "value: 20m"),
        ("value: 80\n", "value: 5432\n"),
        ("# components:", "components:"),
        (
            "#   - ../../components/network-policy",
            "  - ../manifests/components/network-policy",
        ),
    ];
    copy.edit("kustomization.yaml", &edits);
    let Some(objects) = rendered(&copy.overlay()) else {
        return;
    };
    for object in &objects {
        assert!(!object.to_string().contains("my-app"), "{object:#}");
    }
    let container =
        &find(&objects, "Deployment", "postgres-zpa")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/zpa:0.1.0");
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({ "name": "ZPA_IDLE_TTL", "value": "20m" })));
    let service = find(&objects, "Service", "postgres-zpa");
    assert_eq!(service["spec"]["ports"][0]["port"], 5432);
    let rules = find(&objects, "Role", "postgres-zpa")["rules"].as_array();
    let named = rules.unwrap().iter().map(|rule| &rule["resourceNames"]);
    let postgres = json!(["postgres"]);
    assert_eq!(named.filter(|names| **names == postgres).count(), 3);
    let policy = find(&objects, "NetworkPolicy", "postgres-zpa");
    let pods = &policy["spec"]["podSelector"];
    assert_eq!(
        pods["matchLabels"]["app.kubernetes.io/instance"],
        "postgres"
    );
}

/// The overlay with components of `manifests/components` added.
fn overlay_with(components: &[&str]) -> Scratch {
    let copy = Scratch::make();
    let added = components
        .iter()
        .map(|it| format!("  - ../manifests/components/{it}\n"))
        .collect::<String>();
    copy.edit(
        "kustomization.yaml",
        &[
            ("- ../../base", "- ../manifests/base"),
            ("\npatches:", &format!("\ncomponents:\n{added}\npatches:")),
        ],
    );
    copy
}

fn rendered_with(component: &str) -> Option<Vec<Value>> {
    rendered(&overlay_with(&[component]).overlay())
}

#[test]
fn with_the_component_for_openshift_its_restricted_policy_admits_the_pod() {
    let Some(objects) = rendered_with("openshift") else {
        return;
    };
    let pod = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"]["spec"];
    // What restricted-v2 asks for: ids from the namespace's own range, which it
    // sets itself where none is given (MustRunAsRange, MustRunAs), ...
    let container = &pod["containers"][0];
    for context in [&pod["securityContext"], &container["securityContext"]] {
        for id in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"] {
            assert_eq!(context[id], Value::Null, "{id}");
        }
        assert_eq!(context["seLinuxOptions"], Value::Null);
    }
    // ... the runtime's seccomp profile, no capability and no way to more privileges, ...
    let seccomp = &pod["securityContext"]["seccompProfile"]["type"];
    assert_eq!(*seccomp, json!("RuntimeDefault"));
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], json!(false));
    assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }));
    assert_ne!(context["privileged"], json!(true));
    // ... and nothing of the host's.
    for host in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert_eq!(pod[host], Value::Null, "{host}");
    }
    assert!(!container.to_string().contains("hostPort"));
}

#[test]
fn with_the_component_for_two_ports_each_listener_has_a_port_of_pod_and_service() {
    let Some(objects) = rendered_with("two-ports") else {
        return;
    };
    let deployment = find(&objects, "Deployment", "my-app-zpa");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array().unwrap();
    let variable = |name: &str| {
        let found = environment.iter().find(|it| it["name"] == name)?;
        found["value"].as_str().map(OsString::from)
    };
    let settings = match settings::parse([], variable) {
        Ok(Invocation::Run(settings)) => settings,
        other => panic!("{other:?}"),
    };
    let listeners: Vec<String> = settings.listen.iter().map(Listener::to_string).collect();
    assert_eq!(listeners, ["[::]:8080=http", "[::]:5432=postgres"]);
    let numbers = |ports: &Value, key: &str| -> Vec<(String, u64)> {
        let ports = ports.as_array().unwrap().iter();
        let number = |port: &Value| {
            let name = port["name"].as_str().unwrap().to_owned();
            (name, port[key].as_u64().unwrap())
        };
        ports.map(number).collect()
    };
    let mut ports = numbers(&container["ports"], "containerPort");
    ports.sort();
    let named = |name: &str, number| (name.to_owned(), number);
    assert_eq!(
        ports,
        [
            named("admin", 8081),
            named("postgres", 5432),
            named("proxy", 8080)
        ]
    );
    let service = &find(&objects, "Service", "my-app-zpa")["spec"]["ports"];
    assert_eq!(
        numbers(service, "port"),
        [named("proxy", 80), named("postgres", 5432)]
    );
}

#[test]
fn the_monitoring_of_an_overlay_is_of_its_own_pods() {
    let Some(objects) = rendered_with("monitoring") else {
        return;
    };
    let monitor = &find(&objects, "PodMonitor", "my-app-zpa")["spec"];
    let pods = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"];
    let selected = monitor["selector"]["matchLabels"].as_object().unwrap();
    assert!(selected.len() > 1, "the label of the overlay too");
    for (label, value) in selected {
        assert_eq!(&pods["metadata"]["labels"][label], value, "{label}");
    }
    let port = &monitor["podMetricsEndpoints"][0]["port"];
    let ports = pods["spec"]["containers"][0]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|found| found["name"] == *port));
    let dashboard = find(&objects, "ConfigMap", "my-app-zpa-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let file = root().join("manifests/components/monitoring/dashboard.json");
    assert_eq!(
        text(&dashboard["data"]["zpa.json"]),
        fs::read_to_string(file).unwrap()
    );
}

/// By the patch that the component has as a comment.
#[test]
fn the_release_by_which_prometheus_selects_can_be_another_one() {
    let component = root().join("manifests/components/monitoring/kustomization.yaml");
    let text = fs::read_to_string(component).unwrap();
    let (_, patch) = text.split_once("#   patches:\n").unwrap();
    let lines = patch.lines().map_while(|line| line.strip_prefix("#   "));
    let patch = lines.collect::<Vec<_>>().join("\n");
    let copy = overlay_with(&["monitoring"]);
    for (patches, release) in [
        (String::new(), "prometheus"),
        (patch, "kube-prometheus-stack"),
    ] {
        copy.edit(
            "kustomization.yaml",
            &[("\npatches:", &format!("\npatches:\n{patches}"))],
        );
        let Some(objects) = rendered(&copy.overlay()) else {
            return;
        };
        for kind in ["PodMonitor", "PrometheusRule"] {
            let labels = &find(&objects, kind, "my-app-zpa")["metadata"]["labels"];
            assert_eq!(labels["release"], release, "{kind}");
        }
    }
}

#[test]
fn the_budget_of_disruptions_is_for_the_pods_of_its_own_proxy() {
    for proxy in proxies() {
        let labels = &proxy.deployment["spec"]["template"]["metadata"]["labels"];
        let budget = proxy.only("PodDisruptionBudget");
        assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
        let replicas = proxy.deployment["spec"]["replicas"].as_u64();
        assert!(budget["spec"]["maxUnavailable"].as_u64() < replicas);
    }
}

/// The other half is for what waits in the sockets' buffers.
#[test]
fn all_connections_that_are_allowed_take_half_of_the_memory_that_is() {
    const MIB: u64 = 1 << 20;
    const PROGRAM: u64 = 7 * MIB / 2;
    /// The kernel's, for the two sockets of an idle connection: measured.
    const SOCKETS: u64 = 7100;
    for proxy in proxies() {
        let limit = text(&proxy.container["resources"]["limits"]["memory"]);
        let limit: u64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
        let connections = proxy.settings().max_connections.unwrap();
        let pipes = (MAX_PIPES * PIPE_BYTES) as u64;
        let sockets = SOCKETS * connections as u64;
        let most =
            PROGRAM + memory::ceiling(connections, MAX_BLOCKS, BLOCK_BYTES) + sockets + pipes;
        assert!(2 * most <= limit * MIB, "{most} of {limit} MiB");
    }
}

#[test]
fn every_pod_meets_the_restricted_pod_security_standard() {
    for directory in [BASE, EXAMPLE] {
        let Some(objects) = rendered(directory) else {
            return;
        };
        for deployment in objects
            .iter()
            .filter(|object| object["kind"] == "Deployment")
        {
            let pod = &deployment["spec"]["template"]["spec"];
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{pod:#}");
            assert_eq!(context["runAsUser"], 65532, "{pod:#}");
            assert_eq!(
                context["seccompProfile"]["type"], "RuntimeDefault",
                "{pod:#}"
            );
            assert_eq!(
                pod["containers"][0]["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                }),
                "{pod:#}"
            );
        }
    }
}

#[test]
fn the_kubelet_waits_for_longer_than_the_drain_takes() {
    for proxy in proxies() {
        let settings = proxy.settings();
        let grace = proxy.pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let drain = settings.drain_delay + settings.drain_timeout;
        assert!(
            Duration::from_secs(grace) > drain,
            "{grace} s is not more than {drain:?}"
        );
    }
}

#[test]
fn no_probe_connects_to_the_proxy_port() {
    for proxy in proxies() {
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let probe = &proxy.container[probe];
            let expected = json!({ "path": path, "port": "admin" });
            assert_eq!(probe["httpGet"], expected, "any other wakes the app");
            assert!(zpa::admin::PATHS.iter().any(|(known, _)| *known == path));
        }
        assert_eq!(proxy.container["startupProbe"], Value::Null);
    }
}

#[test]
fn a_proxy_is_restarted_only_after_a_minute_in_which_its_loop_does_not_turn() {
    for proxy in proxies() {
        let probe = &proxy.container["livenessProbe"];
        let number = |name: &str| probe[name].as_u64().unwrap();
        assert!(number("periodSeconds") * number("failureThreshold") >= 60);
    }
}

#[test]
fn no_service_leads_to_the_admin_port() {
    for proxy in proxies() {
        let services = proxy.objects.iter().filter(|it| it["kind"] == "Service");
        for port in services.flat_map(|service| service["spec"]["ports"].as_array().unwrap()) {
            assert_ne!(port["targetPort"], "admin");
        }
    }
}

#[test]
fn the_example_leaves_the_replicas_of_the_app_alone() {
    let Some(objects) = rendered(EXAMPLE) else {
        return;
    };
    let app = find(&objects, "Deployment", "my-app");
    assert_eq!(app["spec"]["replicas"], Value::Null);
    let port = &app["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"];
    let service = find(&objects, "Service", "my-app");
    assert_eq!(&service["spec"]["ports"][0]["targetPort"], port);
}

/// It waits for pods by these labels, and forwards these ports.
#[test]
fn the_show_on_kind_asks_for_the_pods_and_ports_of_the_example() {
    let script = fs::read_to_string(root().join("tests/run-kind.sh")).unwrap();
    let Some(objects) = rendered(EXAMPLE) else {
        return;
    };
    for (name, variable) in [("my-app", "app="), ("my-app-zpa", "proxy=")] {
        let mut lines = script.lines();
        let selector = lines.find_map(|line| line.strip_prefix(variable)).unwrap();
        let deployment = find(&objects, "Deployment", name);
        let labels = &deployment["spec"]["selector"]["matchLabels"];
        assert_eq!(
            labels.as_object().unwrap().len(),
            selector.split(',').count()
        );
        for label in selector.split(',') {
            let (key, value) = label.split_once('=').unwrap();
            assert_eq!(labels[key], value, "{name} has no label {label}");
        }
    }
    for proxy in proxies() {
        let settings = proxy.settings();
        let (port, admin) = (settings.listen[0].address.port(), admin_port(&settings));
        let forwarded = format!("deployment/my-app-zpa \"$port:{port}\" :{admin} ");
        assert!(
            script.contains(&forwarded),
            "not in the script: {forwarded}"
        );
    }
}

fn admin_port(settings: &Settings) -> u16 {
    let address = settings.admin_listen.expect("the probes need it");
    address.port()
}

/// The objects of one directory, and the parts of them that are the proxy's.
struct Proxy {
    directory: &'static str,
    objects: Vec<Value>,
    deployment: Value,
    pod: Value,
    container: Value,
}

/// The proxies of the base, of the example and of `zpa manifests`; none without
/// kubectl.
fn proxies() -> impl Iterator<Item = Proxy> {
    let directories = [(BASE, "zpa"), (EXAMPLE, "my-app-zpa")].into_iter();
    let written = directories
        .filter_map(|(directory, name)| Some(Proxy::new(directory, name, rendered(directory)?)));
    let generated = generated::objects(&["--deployment=my-app"]);
    written.chain(generated.map(|objects| Proxy::new(generated::COMMAND, "my-app-zpa", objects)))
}

impl Proxy {
    fn new(directory: &'static str, name: &str, objects: Vec<Value>) -> Proxy {
        let deployment = find(&objects, "Deployment", name).clone();
        let pod = deployment["spec"]["template"]["spec"].clone();
        let container = pod["containers"][0].clone();
        Proxy {
            directory,
            objects,
            deployment,
            pod,
            container,
        }
    }

    /// What zpa makes of the container's environment.
    fn settings(&self) -> Settings {
        let variables = self.container["env"].as_array().unwrap();
        let env: BTreeMap<&str, &str> = variables
            .iter()
            .filter_map(|variable| Some((text(&variable["name"]), variable["value"].as_str()?)))
            .collect();
        match settings::parse([], |name| env.get(name).map(OsString::from)) {
            Ok(Invocation::Run(settings)) => *settings,
            other => panic!("{}: {env:?}: {other:?}", self.directory),
        }
    }

    fn service(&self) -> &Value {
        let name = text(&self.deployment["metadata"]["name"]);
        find(&self.objects, "Service", name)
    }

    fn only(&self, kind: &str) -> &Value {
        let mut of_kind = self.objects.iter().filter(|object| object["kind"] == kind);
        let (Some(object), None) = (of_kind.next(), of_kind.next()) else {
            panic!("{}: not exactly one {kind}", self.directory);
        };
        object
    }
}
