//! The Helm chart: it renders the objects that `zpa manifests` prints and that kustomize renders
//! for several apps, and refuses values that mean nothing.

mod same;
mod take_over;
mod values;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::rendering::{find, read, root, run_tool, text};
use super::schema::judge;
use take_over::{service, taken_over};

pub(super) const CHART: &str = "manifests/chart";

/// What helm renders with these values, or what is wrong with them; none without helm.
pub(super) fn templated(values: &Value, options: &[&str]) -> Option<Result<String, String>> {
    let args = [
        "template",
        "release",
        CHART,
        "--values=-",
        "--namespace=shop",
    ];
    helm(&[&args, options].concat(), values)
}

fn helm(args: &[&str], values: &Value) -> Option<Result<String, String>> {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    // Helm 3 renders the same. It words errors in another way, and its dry run takes a cluster.
    let is_there = IS_THERE.get_or_init(|| {
        let version = run_tool("helm", &["version", "--short"], b"");
        version.is_some_and(|it| it.stdout.starts_with(b"v4."))
    });
    if !is_there {
        support::skip_without("helm 4");
        return None;
    }
    let output = run_tool("helm", args, values.to_string().as_bytes())?;
    let [printed, errors] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    Some(match output.status.success() {
        true => Ok(printed),
        false => Err(printed + &errors),
    })
}

/// The objects, without the hooks.
fn objects(values: &Value) -> Option<Vec<Value>> {
    let yaml = templated(values, &["--no-hooks"])?;
    read(
        yaml.unwrap_or_else(|why| panic!("{values}: {why}"))
            .as_bytes(),
    )
}

fn list() -> Value {
    json!({
        "apps": [
            { "deployment": "shop", "listen": ":8080" },
            { "deployment": "blog", "listen": ":8082", "idle-ttl": "20m" },
        ],
        "service": { "ports": [
            { "name": "shop", "port": 80, "targetPort": 8080 },
            { "name": "blog", "port": 8082, "targetPort": 8082 },
        ] },
    })
}

/// Values for each form that the objects may have.
pub(super) fn matrix() -> Vec<Value> {
    vec![
        app(json!({})),
        app(json!({ "openshift": true, "replicas": 1, "name": "front" })),
        app(beside()),
        app(taken_over(&service())),
        app(json!({ "settings": {
            "listen": "80=http,5432=postgres", "fail-fast": true,
            "max-connections": 1_000_000, "keep-awake": ["08:00-18:00 Mon"],
        } })),
        app(replaced()),
        app(added()),
        json!({ "settings": {
            "scale-target": "statefulsets.apps/db", "service": "db", "wake-replicas": "previous",
        } }),
        list(),
        list_of_kinds(),
        json!({
            "settings": { "discover": "zero-pod-autoscaler/enabled=true" },
            "networkPolicy": { "enabled": true },
        }),
        json!({ "settings": {
            "discover": "zero-pod-autoscaler/enabled=true", "namespace": "*",
        } }),
    ]
}

/// The same for one app.
fn app(mut values: Value) -> Value {
    values["settings"]["deployment"] = json!("my-app");
    values
}

fn beside() -> Value {
    let labels = json!({ "release": "prometheus" });
    json!({
        "networkPolicy": { "enabled": true },
        "podMonitor": { "enabled": true, "labels": labels },
        "prometheusRule": { "enabled": true, "labels": labels },
        "dashboard": { "enabled": true },
        "tcpRoute": { "gateway": "edge", "namespace": "gateways", "sectionNames": ["pg"] },
    })
}

fn replaced() -> Value {
    json!({
        "image": {
            "repository": "registry.example.com/zpa",
            "digest": format!("sha256:{}", "0".repeat(64)),
        },
        "imagePullSecrets": [{ "name": "registry" }],
        "serviceAccount": { "create": false, "name": "mine" },
        "rbac": { "create": false },
        "service": {
            "type": "LoadBalancer", "annotations": { "a": "b" },
            "spec": { "externalTrafficPolicy": "Local" },
        },
        "podDisruptionBudget": { "enabled": false },
    })
}

fn added() -> Value {
    let secret = json!({ "secretKeyRef": { "name": "a", "key": "url" } });
    let spread = json!({
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
    });
    json!({
        "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "1Gi" } },
        "extraEnv": [{ "name": "ZPA_WEBHOOK", "valueFrom": secret }],
        "extraVolumes": [{ "name": "page", "configMap": { "name": "page" } }],
        "extraVolumeMounts": [{ "name": "page", "mountPath": "/etc/page" }],
        "podLabels": { "team": "a" },
        "podAnnotations": { "b": "c" },
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "affinity": { "nodeAffinity": {} },
        "tolerations": [{ "key": "edge", "operator": "Exists" }],
        "topologySpreadConstraints": [spread],
        "priorityClassName": "high",
        "commonLabels": { "d": "e" },
        "commonAnnotations": { "f": "g" },
        "serviceAccount": { "annotations": { "h": "i" } },
        "rbac": { "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] }] },
    })
}

/// With a StatefulSet, apps that share a port, and one with two.
fn list_of_kinds() -> Value {
    json!({
        "apps": [
            {
                "scale-target": "statefulsets.apps/db", "service": "postgres",
                "listen": "5432=pg", "wake-on": "postgres",
            },
            {
                "deployment": "shop", "listen": ":443", "server-name": ["shop.example.com"],
                "fail-fast": true,
            },
            { "deployment": "my.blog", "service": "blog", "listen": ":443", "server-name": "*" },
            { "deployment": "mail", "listen": "2525=smtp,9000=metrics", "single-proxy": true },
        ],
        "networkPolicy": { "enabled": true },
        "tcpRoute": { "gateway": "edge", "sectionNames": ["a", "b", "c", "d"] },
    })
}

#[test]
fn what_it_renders_is_accepted_by_the_api_server() {
    let rendered = matrix().into_iter().map(|values| {
        let yaml = templated(&values, &[])?.unwrap_or_else(|why| panic!("{values}: {why}"));
        // A comment of Helm's stands above each object.
        let documents = yaml.split("---\n# Source: ").skip(1);
        let documents = documents.filter_map(|it| Some(it.split_once('\n')?.1));
        let yaml = documents.collect::<Vec<_>>().join("\n---\n");
        Some((values.to_string(), yaml))
    });
    if let Some(rendered) = rendered.collect::<Option<Vec<_>>>() {
        judge("chart", &rendered);
    }
}

#[test]
fn helm_finds_nothing_wrong_with_it() {
    for values in matrix() {
        let Some(linted) = helm(&["lint", "--strict", CHART, "--values=-"], &values) else {
            return;
        };
        let printed = linted.unwrap_or_else(|why| panic!("{values}: {why}"));
        assert!(printed.contains("0 chart(s) failed"), "{printed}");
    }
}

#[test]
fn each_app_of_a_list_has_the_permissions_that_it_needs_and_a_port() {
    let Some(objects) = objects(&list_of_kinds()) else {
        return;
    };
    let role = find(&objects, "Role", "apps-zpa")["rules"]
        .as_array()
        .unwrap();
    let short = role.iter().map(|rule| {
        let words = |key: &str| {
            let words = rule[key].as_array().into_iter().flatten();
            words.map(text).collect::<Vec<_>>().join(",")
        };
        let parts = ["resources", "resourceNames", "verbs"].map(words);
        parts.join(" ")
    });
    assert_eq!(
        short.collect::<Vec<_>>(),
        [
            "deployments shop,my.blog,mail get,list,watch",
            "deployments/scale,deployments/status shop,my.blog,mail patch",
            "statefulsets db get,list,watch",
            "statefulsets/scale db patch",
            "statefulsets db patch",
            "services postgres,shop,blog,mail get",
            "endpointslices  list,watch",
            "events  create,patch",
            "pods  list",
            "events  list",
        ]
    );
    let ports = &find(&objects, "Service", "apps-zpa")["spec"]["ports"];
    let ports = ports.as_array().unwrap().iter();
    let ports: Vec<String> = ports
        .map(|it| format!("{}:{}", text(&it["name"]), it["targetPort"]))
        .collect();
    assert_eq!(
        ports,
        ["db:5432", "shop:443", "mail-2525:2525", "mail-9000:9000"]
    );
    let route = &find(&objects, "TCPRoute", "apps-zpa-mail-9000")["spec"];
    assert_eq!(
        route["parentRefs"],
        json!([{ "name": "edge", "sectionName": "d" }])
    );
    let backend = json!([{ "name": "apps-zpa", "port": 9000 }]);
    assert_eq!(route["rules"], json!([{ "backendRefs": backend }]));
    let deployment = find(&objects, "Deployment", "apps-zpa");
    let sysctls = &deployment["spec"]["template"]["spec"]["securityContext"]["sysctls"];
    assert_eq!(sysctls[0]["value"], "0", "a port below 1024");
}

#[test]
fn the_alerts_and_the_dashboard_are_those_of_the_component() {
    let Some(objects) = objects(&app(beside())) else {
        return;
    };
    let directory = root().join("manifests/components/monitoring");
    let alerts = read(&fs::read(directory.join("alerts.yaml")).unwrap()).unwrap();
    let rule = find(&objects, "PrometheusRule", "my-app-zpa");
    assert_eq!(rule["spec"], alerts[0]["spec"]);
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let dashboard = find(&objects, "ConfigMap", "my-app-zpa-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let [ours, theirs] = [
        text(&dashboard["data"]["my-app-zpa.json"]).to_owned(),
        fs::read_to_string(directory.join("dashboard.json")).unwrap(),
    ]
    .map(|it| serde_json::from_str::<Value>(&it).unwrap());
    assert_eq!(ours, theirs);
}

#[test]
fn what_an_operator_adds_is_there() {
    let Some(objects) = objects(&app(added())) else {
        return;
    };
    for object in &objects {
        assert_eq!(object["metadata"]["labels"]["d"], "e", "{object:#}");
        assert_eq!(object["metadata"]["annotations"]["f"], "g", "{object:#}");
    }
    let deployment = find(&objects, "Deployment", "my-app-zpa");
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["team"], "a");
    assert_eq!(template["metadata"]["annotations"]["b"], "c");
    let values = added();
    let pod = &template["spec"];
    for (key, value) in [
        ("nodeSelector", "nodeSelector"),
        ("affinity", "affinity"),
        ("tolerations", "tolerations"),
        ("topologySpreadConstraints", "topologySpreadConstraints"),
        ("priorityClassName", "priorityClassName"),
        ("volumes", "extraVolumes"),
    ] {
        assert_eq!(pod[key], values[value], "{key}");
    }
    let container = &pod["containers"][0];
    assert_eq!(container["resources"], values["resources"]);
    assert_eq!(container["volumeMounts"], values["extraVolumeMounts"]);
    let env = container["env"].as_array().unwrap();
    assert_eq!(env.last().unwrap(), &values["extraEnv"][0]);
    let account = find(&objects, "ServiceAccount", "my-app-zpa");
    assert_eq!(account["metadata"]["annotations"]["h"], "i");
    let rules = find(&objects, "Role", "my-app-zpa")["rules"]
        .as_array()
        .unwrap();
    assert_eq!(rules.last().unwrap(), &values["rbac"]["rules"][0]);
    let selector = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(selector.as_object().unwrap().len(), 2, "it never changes");
}

#[test]
fn what_an_operator_replaces_is_not_there_beside_it() {
    let Some(objects) = objects(&app(replaced())) else {
        return;
    };
    let kinds: Vec<&str> = objects.iter().map(|it| text(&it["kind"])).collect();
    assert_eq!(kinds, ["Service", "Deployment"]);
    let pod = &find(&objects, "Deployment", "my-app-zpa")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "mine");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
    let image = format!("registry.example.com/zpa@sha256:{}", "0".repeat(64));
    assert_eq!(pod["containers"][0]["image"], json!(image));
    let service = find(&objects, "Service", "my-app-zpa");
    assert_eq!(service["metadata"]["annotations"], json!({ "a": "b" }));
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
}

/// `tests/e2e/wake.rs` has what it does with the environment of a proxy.
#[test]
fn before_the_release_is_uninstalled_a_job_wakes_what_sleeps_as_the_proxy_might() {
    for values in matrix() {
        let Some(yaml) = templated(&values, &[]) else {
            return;
        };
        let objects = read(yaml.unwrap().as_bytes()).unwrap();
        let of_kind = |kind: &str| objects.iter().find(|it| it["kind"] == kind).unwrap();
        let (job, deployment) = (of_kind("Job"), of_kind("Deployment"));
        let hook = &job["metadata"]["annotations"];
        assert_eq!(hook["helm.sh/hook"], "pre-delete");
        let [waker, proxy] = [job, deployment].map(|it| &it["spec"]["template"]);
        let (labels, selector) = (
            waker["metadata"]["labels"].as_object().unwrap(),
            &deployment["spec"]["selector"]["matchLabels"],
        );
        let is_selected = selector.as_object().unwrap().iter();
        let mut is_selected = is_selected.map(|(key, value)| labels.get(key) == Some(value));
        assert!(is_selected.any(|it| !it), "no client is led to it");
        for key in [
            "serviceAccountName",
            "imagePullSecrets",
            "tolerations",
            "volumes",
        ] {
            assert_eq!(waker["spec"][key], proxy["spec"][key], "{key}");
        }
        let [waker, proxy] = [waker, proxy].map(|it| &it["spec"]["containers"][0]);
        for key in ["image", "env", "securityContext", "volumeMounts"] {
            assert_eq!(waker[key], proxy[key], "{key}");
        }
        assert_eq!(waker["args"], json!(["wake", "--dry-run=false"]));
    }
    let without = app(json!({ "wakeOnUninstall": false }));
    let yaml = templated(&without, &[]).unwrap().unwrap();
    assert!(!yaml.contains("kind: Job"), "{yaml}");
}

/// What helm says after an install.
fn notes(values: &Value) -> Option<String> {
    let args = [
        "install",
        "release",
        CHART,
        "--dry-run=client",
        "--values=-",
    ];
    let printed = helm(&args, values)?.unwrap_or_else(|why| panic!("{values}: {why}"));
    let (_, notes) = printed.split_once("\nNOTES:\n").unwrap();
    Some(notes.to_owned())
}

#[test]
fn the_notes_say_what_comes_next() {
    let settings = json!({ "idle-ttl": "20m", "admin-listen": ":9000" });
    let Some(printed) = notes(&app(json!({ "settings": settings }))) else {
        return;
    };
    for line in [
        "for 20m is put to sleep",
        "They connect to my-app-zpa.default.svc:80 in place of the Service my-app.",
        "zpa check --namespace default --deployment my-app\n",
        "zpa wake --namespace default --deployment my-app\n",
        "port-forward deployment/my-app-zpa 9000",
        "helm uninstall -n default release",
        "zpa uninstall --namespace default --deployment my-app",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    let all: Vec<String> = matrix().iter().filter_map(notes).collect();
    assert!(all[11].contains("zpa check --namespace NAMESPACE --discover"));
    for notes in all {
        assert!(
            !notes.contains("<no value>") && !notes.contains("%!"),
            "{notes}"
        );
        let long = notes
            .lines()
            .find(|line| !line.starts_with("     ") && line.len() > 110);
        assert_eq!(long, None);
    }
}

#[test]
fn its_versions_are_those_of_the_program() {
    let chart = fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        chart.contains(&format!("\nversion: {version}\n")),
        "{chart}"
    );
    assert!(
        chart.contains(&format!("\nappVersion: \"{version}\"\n")),
        "{chart}"
    );
}

/// What is pushed to a registry: with what the links lead to in it.
#[test]
fn it_can_be_packaged_and_installed_from_the_package() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = directory.join(format!("chart-{}", std::process::id()));
    let destination = directory.display().to_string();
    let packaged = helm(
        &["package", CHART, "--destination", &destination],
        &json!({}),
    );
    let Some(packaged) = packaged else {
        return;
    };
    packaged.unwrap();
    let name = format!("zero-pod-autoscaler-{}.tgz", env!("CARGO_PKG_VERSION"));
    let package = directory.join(name).display().to_string();
    let values = app(beside());
    let templated = |chart: &str| {
        let args = ["template", "release", chart, "--values=-"];
        helm(&args, &values).unwrap().unwrap()
    };
    assert_eq!(templated(&package), templated(CHART));
    fs::remove_dir_all(&directory).unwrap();
}
