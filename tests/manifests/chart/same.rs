//! The chart's objects beside those of `zpa manifests`, and of kustomize for several apps.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::generated::{self, comparable};
use super::super::rendering::{rendered, root, text};
use super::take_over::taken_over;
use super::{app, list, objects};

/// Fails if the chart with these values is something else than `zpa manifests`.
fn compare(values: &Value, args: &[&str]) {
    let Some(templated) = objects(values) else {
        return;
    };
    let image = format!("--image=zero-pod-autoscaler:{}", env!("CARGO_PKG_VERSION"));
    let args = [&[&*image, "--namespace=shop"], args].concat();
    let printed = generated::objects(&args).unwrap();
    assert_same(templated, printed, &format!("{values}"));
}

fn assert_same(one: Vec<Value>, other: Vec<Value>, label: &str) {
    let (one, other) = (comparable(one), comparable(other));
    let names = |objects: &[Value]| -> Vec<String> {
        let name = |it: &Value| format!("{} {}", it["kind"], it["metadata"]["name"]);
        objects.iter().map(name).collect()
    };
    assert_eq!(names(&one), names(&other), "{label}");
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other, "{label}");
    }
}

#[test]
fn by_default_it_renders_what_zpa_manifests_prints() {
    compare(
        &json!({ "settings": { "deployment": "my-app" } }),
        &["--deployment=my-app"],
    );
}

#[test]
fn with_the_same_arguments_it_renders_what_zpa_manifests_prints() {
    let deployment = |more: Value, settings: Value| {
        let mut values = more;
        values["settings"] = settings;
        values["settings"]["deployment"] = json!("my-app");
        values
    };
    let with = |settings: Value| deployment(json!({}), settings);
    let of_app =
        |values: Value, args: &[&str]| compare(&values, &[&["--deployment=my-app"], args].concat());
    of_app(
        with(
            json!({ "service": "db", "idle-ttl": "20m", "abort-on-close": true, "min-ready": 2,
                     "wake-replicas": 2, "port": "sql", "drain-delay": "1m30s", "drain-timeout": "500ms",
                     "deny-sources": ["10.0.0.0/8", "fd00::/8"] }),
        ),
        &[
            "--service=db",
            "--idle-ttl=20m",
            "--abort-on-close",
            "--min-ready=2",
            "--wake-replicas=2",
            "--port=sql",
            "--drain-delay=1m30s",
            "--drain-timeout=500ms",
            "--deny-sources=10.0.0.0/8",
            "--deny-sources=fd00::/8",
        ],
    );
    // A number that YAML has as 1e+06, and the limit that follows from it.
    for connections in [1, 2560, 2561, 1_000_000] {
        of_app(
            with(json!({ "max-connections": connections })),
            &[&format!("--max-connections={connections}")],
        );
    }
    of_app(
        with(json!({ "drain-delay": 7, "drain-timeout": "1.2s", "admin-listen": ":9090" })),
        &[
            "--drain-delay=7",
            "--drain-timeout=1.2s",
            "--admin-listen=:9090",
        ],
    );
    for listen in [":80", "0.0.0.0:5432", "[::1]:8080", "8080=http"] {
        of_app(
            with(json!({ "listen": listen })),
            &[&format!("--listen={listen}")],
        );
    }
    let beside = json!({
        "networkPolicy": { "enabled": true }, "podMonitor": { "enabled": true },
    });
    of_app(
        deployment(
            beside,
            json!({ "listen": "80=http,5432=postgres,9000=9090,7000=a-name-that-is-long" }),
        ),
        &[
            "--listen=80=http,5432=postgres,9000=9090,7000=a-name-that-is-long",
            "--network-policy",
            "--pod-monitor",
        ],
    );
    of_app(
        deployment(
            json!({ "service": { "port": 5432 }, "openshift": true, "replicas": 3, "name": "front",
                    "rbac": { "readPods": true }, "tcpRoute": { "gateway": "edge" },
                    "networkPolicy": { "enabled": true, "metricsFrom": "prometheus" } }),
            json!({}),
        ),
        &[
            "--service-port=5432",
            "--openshift",
            "--replicas=3",
            "--name=front",
            "--read-pods",
            "--tcp-route=edge",
            "--network-policy",
            "--metrics-from=prometheus",
        ],
    );
    of_app(with(json!({ "fail-fast": true })), &["--fail-fast"]);
    let db = |more: &str| {
        let mut settings = json!({ "scale-target": "statefulsets.apps/my.db", "service": "db" });
        if !more.is_empty() {
            settings[more] = json!(if more == "wake-replicas" {
                json!("previous")
            } else {
                json!(true)
            });
        }
        json!({ "settings": settings })
    };
    let args = ["--scale-target=statefulsets.apps/my.db", "--service=db"];
    compare(&db(""), &args);
    compare(
        &db("single-proxy"),
        &[&args[..], &["--single-proxy"]].concat(),
    );
    compare(
        &db("wake-replicas"),
        &[&args[..], &["--wake-replicas=previous"]].concat(),
    );
    compare(
        &json!({ "settings": { "scale-target": "rollouts.argoproj.io/web" } }),
        &["--scale-target=rollouts.argoproj.io/web"],
    );
}

#[test]
fn it_takes_over_a_service_as_zpa_manifests_does() {
    let path = root().join("tests/manifests/printed/service.json");
    let live: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let edits: [&dyn Fn(&mut Value); 5] = [
        &|_| {},
        &|it| it["spec"]["ports"] = json!([{ "port": 443 }]),
        &|it| it["spec"]["ports"] = json!([{ "name": "a", "port": 81, "targetPort": "web" }]),
        &|it| it["spec"]["selector"] = json!({ "app.kubernetes.io/name": "my-app" }),
        &|it| it["spec"]["trafficDistribution"] = json!("PreferClose"),
    ];
    for (at, edit) in edits.iter().enumerate() {
        let mut service = live.clone();
        edit(&mut service);
        let name = format!("service-{}-{at}.json", std::process::id());
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, service.to_string()).unwrap();
        let given = format!("--take-over={}", file.display());
        compare(&app(taken_over(&service)), &["--deployment=my-app", &given]);
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn the_monitoring_and_the_routes_are_those_of_zpa_manifests() {
    let labels = json!({ "release": "stack" });
    let mut values = app(json!({
        "podMonitor": { "enabled": true, "labels": labels },
        "prometheusRule": { "enabled": true, "labels": labels },
        "tcpRoute": { "gateway": "public", "namespace": "edge", "sectionNames": ["a", "b"] },
    }));
    values["settings"]["listen"] = json!("8080=http,5432=sql");
    compare(
        &values,
        &[
            "--deployment=my-app",
            "--listen=8080=http,5432=sql",
            "--pod-monitor",
            "--alerts",
            "--monitoring-labels=release=stack",
            "--tcp-route=edge/public:a,edge/public:b",
        ],
    );
}

/// The objects of a kustomization, in the namespace of the release and with the chart's image,
/// without those of these kinds.
fn kustomized(directory: &str, without: &[&str]) -> Option<Vec<Value>> {
    let mut objects = rendered(directory)?;
    objects.retain(|object| !without.contains(&text(&object["kind"])));
    let image = format!("zero-pod-autoscaler:{}", env!("CARGO_PKG_VERSION"));
    let name = text(&find_kind(&objects, "Deployment")["metadata"]["name"]).to_owned();
    for object in &mut objects {
        // What an overlay adds to the base has not its labels.
        let labels = &mut object["metadata"]["labels"];
        labels["app.kubernetes.io/name"] = json!("zero-pod-autoscaler");
        labels["app.kubernetes.io/instance"] = json!(name.trim_end_matches("-zpa"));
        if !text(&object["kind"]).starts_with("Cluster") {
            object["metadata"]["namespace"] = json!("shop");
        }
        if let Some(subject) = object.pointer_mut("/subjects/0/namespace") {
            *subject = json!("shop");
        }
        if let Some(container) = object.pointer_mut("/spec/template/spec/containers/0") {
            container["image"] = json!(image);
        }
    }
    Some(objects)
}

fn find_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|it| it["kind"] == kind).unwrap()
}

#[test]
fn for_discovery_it_renders_what_the_fleet_has() {
    let discover = json!({ "discover": "zero-pod-autoscaler/enabled=true" });
    let Some(fleet) = kustomized("manifests/fleet", &[]) else {
        return;
    };
    if let Some(templated) = objects(&json!({ "settings": discover })) {
        assert_same(templated, fleet, "the fleet");
    }
    let of_all = kustomized("manifests/fleet-all-namespaces", &["Namespace"]).unwrap();
    let mut settings = discover;
    settings["namespace"] = json!("*");
    if let Some(templated) = objects(&json!({ "settings": settings })) {
        assert_same(templated, of_all, "the fleet of all namespaces");
    }
}

#[test]
fn for_a_list_it_renders_what_the_example_has() {
    let (Some(mut example), Some(mut templated)) =
        (kustomized("manifests/example/list", &[]), objects(&list()))
    else {
        return;
    };
    let apps = |objects: &mut [Value]| {
        let list = objects
            .iter_mut()
            .find(|it| it["kind"] == "ConfigMap")
            .unwrap();
        let text = list["data"]["apps.json"].take();
        serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()
    };
    assert_eq!(apps(&mut example), apps(&mut templated));
    // The base has the port of one app, which no app of the list need have.
    let mut deployments = example.iter_mut().filter(|it| it["kind"] == "Deployment");
    let ports =
        &mut deployments.next().unwrap()["spec"]["template"]["spec"]["containers"][0]["ports"];
    ports
        .as_array_mut()
        .unwrap()
        .retain(|port| port["name"] != "proxy");
    assert_same(templated, example, "the list");
}
